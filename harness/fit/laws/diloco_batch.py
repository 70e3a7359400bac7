"""The best global batch of one algorithm by size (Charles et al. 2025, arXiv 2503.09799): B = A N^alpha.

Rows: `B` (sequences), `N` (parameters); of data-parallel training, or of DiLoCo with one number of replicas (with
several: `diloco_batch_joint`). The published constants are those of data-parallel training. The published
prefactor gives 76 at N = 10^9, which can only be sequences, though tables call it tokens.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "diloco_batch",
    "B",
    {"N": "alpha"},
    source="Charles et al. 2025 (arXiv 2503.09799), the row of data-parallel training",
    prefactor="A",
    published={"A": 0.22592, "alpha": 0.281},
)
