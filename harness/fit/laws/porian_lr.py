"""The optimal learning rate of a model size, by Porian et al. 2024 (arXiv 2406.19146): lr = c N^a.

Rows are optima: `lr`, `N` (parameters). `isogap optima` extracts them.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "porian_lr",
    "lr",
    {"N": "a"},
    source="form: Porian et al. 2024 (arXiv 2406.19146), from memory",
)
