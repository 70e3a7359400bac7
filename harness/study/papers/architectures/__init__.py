"""Studies of architectures: shapes of models, and mixtures of experts."""
