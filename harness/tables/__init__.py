"""Anyone's table of runs: files of any usual kind, numbers as people write them, and what the columns mean."""
