"""Finding the best parameters: starts, and the solver that goes on from each."""
