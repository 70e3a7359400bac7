"""The gap law under test: what its source published, the rule from evidence to one word, and the verdict on a table."""
