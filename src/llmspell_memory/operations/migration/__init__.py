"""A memory moved to another store, compared, and moved back."""
