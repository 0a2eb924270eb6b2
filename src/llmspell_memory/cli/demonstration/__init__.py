"""What the command `demo` does: its material, its measurements, and how they look. Every number is computed."""
