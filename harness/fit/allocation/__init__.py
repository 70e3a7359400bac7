"""Compute-optimal sizes: the three approaches of Hoffmann et al., and the optima they start from."""
