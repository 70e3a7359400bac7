"""Registered forecasts: predictions that are written down before the runs, and scored when the runs have ended."""
