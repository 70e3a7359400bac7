"""The gap law under test: its published constants, the evidence, and the rule from evidence to a verdict."""
