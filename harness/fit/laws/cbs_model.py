"""The critical batch as a power of the model's size, by Zhang et al. 2024 (arXiv 2410.21676): B = c N^a.

Rows: `B` (the critical batch in sequences of 512 tokens, as `cbs_steps` gives it), `N` (parameters). The published
constants are those at fixed tokens, turned from millions of parameters to parameters; where tokens grow with the model
the paper has B = 93.20 (N/10^6)^0.47.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "cbs_model",
    "B",
    {"N": "a"},
    source="Zhang et al. 2024 (arXiv 2410.21676), tokens fixed: 621.341 (N/10^6)^0.087",
    published={"c": 186.78, "a": 0.087},
)
