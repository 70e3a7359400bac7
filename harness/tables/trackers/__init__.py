"""Runs out of trackers: what TensorBoard, MLflow, Weights & Biases and Trackio keep, as tables of runs and curves."""
