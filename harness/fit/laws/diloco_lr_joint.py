"""The best inner learning rate of DiLoCo by size and replicas (Charles et al. 2025, arXiv 2503.09799).

lr = A N^alpha M^beta. Rows: `lr`, `N` (parameters), `M` (replicas, from 1).
Of one number of replicas: `diloco_lr`.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "diloco_lr_joint",
    "lr",
    {"N": "alpha", "M": "beta"},
    source="Charles et al. 2025 (arXiv 2503.09799), joint fit",
    prefactor="A",
    published={"A": 22256, "alpha": -0.8827, "beta": 0.2929},
)
