"""Fits scaling laws to tables of runs, and says what the tables identify. Knows nothing of training."""
