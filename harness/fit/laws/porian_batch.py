"""The optimal batch of a model size, by Porian et al. 2024 (arXiv 2406.19146): B = c N^a.

Rows are optima: `B` (sequences or tokens: the prefactor has that unit), `N` (parameters).
`isogap optima` extracts them.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "porian_batch",
    "B",
    {"N": "a"},
    source="form: Porian et al. 2024 (arXiv 2406.19146), from memory",
)
