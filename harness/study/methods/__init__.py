"""The mathematics of single studies of losses: what a judge needs beyond a law and its fit."""
