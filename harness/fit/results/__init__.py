"""What a fit says, as frozen values: estimates, scatter, sensitivity, and all of them together."""
