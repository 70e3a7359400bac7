"""The generalization gap as a measurement: windows that are measured, contrasts of losses, twins, cells, designs."""
