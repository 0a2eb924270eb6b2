"""Entries out of files, and into them."""
