"""The best global batch of DiLoCo by size and replicas (Charles et al. 2025, arXiv 2503.09799).

B = A N^alpha M^beta. Rows: `B` (sequences), `N` (parameters), `M` (replicas, from 1).
Of one number of replicas: `diloco_batch`.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "diloco_batch_joint",
    "B",
    {"N": "alpha", "M": "beta"},
    source="Charles et al. 2025 (arXiv 2503.09799), joint fit",
    prefactor="A",
    published={"A": 0.00709, "alpha": 0.4695, "beta": 0.3399},
)
