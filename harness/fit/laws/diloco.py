"""The loss of one algorithm by size (Charles et al. 2025, arXiv 2503.09799): L = A N^alpha.

Rows: `L` (nats per token), `N` (parameters); of data-parallel training, or of DiLoCo with one number of replicas (with
several: `diloco_joint`). The published constants are those of data-parallel training.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "diloco",
    "L",
    {"N": "alpha"},
    source="Charles et al. 2025 (arXiv 2503.09799), the row of data-parallel training",
    prefactor="A",
    published={"A": 18.129, "alpha": -0.0953},
)
