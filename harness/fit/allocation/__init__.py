"""Compute-optimal sizes by the three approaches of Hoffmann et al., best settings of grids, best shapes in time."""
