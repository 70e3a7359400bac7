"""What groups of runs share: nested fits, tests of equality and of equivalence, curves that collapse on one."""
