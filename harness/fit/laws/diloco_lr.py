"""The best inner learning rate of one algorithm by size (Charles et al. 2025, arXiv 2503.09799): lr = A N^alpha.

Rows: `lr`, `N` (parameters); of data-parallel training, or of DiLoCo with one number of replicas (with
several: `diloco_lr_joint`). The published constants are those of data-parallel training.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "diloco_lr",
    "lr",
    {"N": "alpha"},
    source="Charles et al. 2025 (arXiv 2503.09799), the row of data-parallel training",
    prefactor="A",
    published={"A": 16319.2, "alpha": -0.819},
)
