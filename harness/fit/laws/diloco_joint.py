"""The loss of DiLoCo by size and replicas (Charles et al. 2025, arXiv 2503.09799).

L = A N^alpha M^beta. Rows: `L` (nats per token), `N` (parameters), `M` (replicas, from 1).
Of one number of replicas: `diloco`.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "diloco_joint",
    "L",
    {"N": "alpha", "M": "beta"},
    source="Charles et al. 2025 (arXiv 2503.09799), joint fit",
    prefactor="A",
    published={"A": 19.226, "alpha": -0.0985, "beta": 0.0116},
)
