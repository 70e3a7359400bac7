"""Anyone's table of runs: files of any usual kind, and what their columns mean."""
