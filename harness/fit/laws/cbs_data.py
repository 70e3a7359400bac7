"""The critical batch as a power of the tokens at a fixed model, by Zhang et al. 2024 (arXiv 2410.21676): B = c D^b.

Rows: `B` (the critical batch, as `cbs_steps` gives it), `D` (tokens). The critical batch follows the data, and hardly
the model: compare the exponent with that of `cbs_model` at fixed tokens.
"""

from harness.fit.laws._power import power_law

LAW = power_law(
    "cbs_data",
    "B",
    {"D": "b"},
    source="form: Zhang et al. 2024 (arXiv 2410.21676); the exponent (at fixed N) as notes on the paper give it",
    published={"b": 0.47},
)
