"""Quantities beside the laws: what a law reads, and what follows from what it says."""
