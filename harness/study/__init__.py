"""Studies: sweeps that answer a paper's question, from the design through forecasts to the verdict and its figures."""
