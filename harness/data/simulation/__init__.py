"""What token worlds are made with: random numbers, flows and their exponents."""
