"""The command `isogap`: its commands, and what they print."""
