"""Token worlds, each in one file."""
