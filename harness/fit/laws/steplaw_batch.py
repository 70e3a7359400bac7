"""The batch that reaches the lowest loss, by Li et al. 2025 (Step Law, arXiv 2503.04715): B = d D^e.

Rows are optima of grids of rate and batch: `B` (tokens), `D` (tokens). `isogap optima` extracts them.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "steplaw_batch",
    "B",
    {"D": "e"},
    source="Li et al. 2025 (arXiv 2503.04715), as their repository states it",
    prefactor="d",
    published={"d": 0.58, "e": 0.571},
)
