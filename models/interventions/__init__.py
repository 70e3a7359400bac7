"""What changes training beyond the optimizer: one file for each intervention. README.md shows how to add one."""
