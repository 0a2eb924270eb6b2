"""The commands, one idea a file. Each opens what it needs, does one thing, and prints it for people or as JSON."""
