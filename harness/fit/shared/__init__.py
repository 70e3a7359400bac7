"""Constants that groups of runs share: nested fits, tests of equality and of equivalence, curves that fall on one."""
