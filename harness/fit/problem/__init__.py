"""What is fitted: a law, a table with columns in roles, and an objective, as arrays."""
