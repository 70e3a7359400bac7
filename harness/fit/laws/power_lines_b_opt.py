"""The batch that reaches the lowest loss, by Bergsma et al. 2025 (Power Lines, arXiv 2505.13738): B = c D^m.

Rows are optima: `B` (sequences or tokens: the prefactor has that unit), `D` (tokens). `isogap optima` extracts them.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "power_lines_b_opt",
    "B",
    {"D": "m"},
    source="form: Bergsma et al. 2025 (arXiv 2505.13738); of its constants only m between 0.367 and 0.391 was found",
)
