"""The learning rate that reaches the lowest loss, by Li et al. 2025 (Step Law, arXiv 2503.04715): lr = c N^a D^b.

Rows are optima of grids of rate and batch: `lr` (peak), `N` (parameters without embeddings), `D` (tokens).
`isogap optima` extracts them.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "steplaw_lr",
    "lr",
    {"N": "a", "D": "b"},
    source="Li et al. 2025 (arXiv 2503.04715), as their repository states it",
    published={"c": 1.79, "a": -0.713, "b": 0.307},
)
