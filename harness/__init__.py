"""isogap: trains grids of small language models, measures their generalization gaps, and fits scaling laws to them."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`predict_gap` on first use: importing the package stays free of numpy and JAX, so that `--help` is fast."""
    if name == "predict_gap":
        from harness.fit.gap_law.published import predict_gap

        return predict_gap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
