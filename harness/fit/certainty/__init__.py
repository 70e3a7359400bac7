"""What the data say about the parameters: identifiability, standard errors, confidence intervals."""
