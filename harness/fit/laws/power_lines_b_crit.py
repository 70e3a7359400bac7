"""The critical batch, by Bergsma et al. 2025 (Power Lines, arXiv 2505.13738): B_crit = c D^m.

Rows: `B` (the critical batch, D_min/S_min of a fit of `es_tradeoff`), `D` (tokens).
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "power_lines_b_crit",
    "B",
    {"D": "m"},
    source="form: Bergsma et al. 2025 (arXiv 2505.13738); the exponent as notes on the paper give it",
    published={"m": 0.47},
)
