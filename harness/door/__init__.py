"""The functions that `from harness import ...` offers: the commands' work, on tables in memory as well as on files."""
