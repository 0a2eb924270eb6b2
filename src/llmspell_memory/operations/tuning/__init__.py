"""What an index finds and how long it takes, measured on the user's own data, and what follows from it."""
