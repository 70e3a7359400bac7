"""What a referee asks of a fit: sensitivity to choices, extrapolation, a checklist, warnings."""
