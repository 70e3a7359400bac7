"""Worlds whose answers are known, to try the measurement and the fits on."""
