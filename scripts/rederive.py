"""Headline numbers of the gap law's study from its table of runs, by numpy alone.

python scripts/rederive.py sweeps/studies/gap/runs.parquet

Nothing of isogap is imported: a reader can check the numbers without trusting its code. pyarrow only reads the file.
The numbers are those of text read once: the mean gap over the published law's, the powers of N and D in the gap, and
the share of the gap that the difference of logged losses ("online") shows. Each comes with a standard error from the
spread between draws and between cells; errors that cells share because of common documents are not accounted for.
"""

import argparse

import numpy as np
import pyarrow.parquet

A, ALPHA, Z, BETA = 0.86, 0.31, 0.74, 0.42
COLUMNS = ["block", "half", "status", "N_nonembedding", "D", "gap_twin", "gap_online"]


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    for name, (value, error) in rederive(parser.parse_args().table).items():
        print(f"{name}: {value:.3g} +- {error:.2g}")


def rederive(path: str) -> dict[str, tuple[float, float]]:
    """Read the table, and return each number with its standard error."""
    read = pyarrow.parquet.read_table(path, columns=COLUMNS)
    column = {name: np.asarray(read[name].to_pylist(), dtype=object) for name in COLUMNS}
    pair = (column["block"] == "once") & (column["half"] == "a") & (column["status"] == "done")
    n, d, twin, online = (
        np.array([np.nan if value is None else float(value) for value in column[name][pair]])
        for name in ("N_nonembedding", "D", "gap_twin", "gap_online")
    )
    cells = sorted({(n_, d_) for n_, d_, gap in zip(n, d, twin, strict=True) if np.isfinite(gap)})
    sizes, tokens = np.array(cells).T
    gap, error, seen, seen_error = [], [], [], []
    for n_, d_ in cells:
        own = (n == n_) & (d == d_) & np.isfinite(twin)
        gap.append(twin[own].mean())
        error.append(twin[own].std(ddof=1) / own.sum() ** 0.5)
        known = online[own & np.isfinite(online)]
        seen.append(known.mean())
        seen_error.append(known.std(ddof=1) / len(known) ** 0.5)
    gap, error, seen, seen_error = map(np.array, (gap, error, seen, seen_error))
    u = tokens / sizes**Z
    law = A * sizes**-ALPHA * np.where(u <= 1, 1.0, u**-BETA)
    terms = np.column_stack([np.ones(len(gap)), np.log(sizes), np.log(tokens)])
    slopes, slope_errors = regression(terms, np.log(gap), error / gap)
    return {
        "gap over the law's": mean(gap / law, error / law),
        "power of N in the gap": (slopes[1], slope_errors[1]),
        "power of D in the gap": (slopes[2], slope_errors[2]),
        "online gap over twin gap": mean(seen / gap, np.hypot(seen_error, error) / gap),
    }


def mean(value: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """The mean of values that scatter by their errors and by a scatter in common, and its standard error."""
    estimate, errors = regression(np.ones((len(value), 1)), value, error)
    return estimate[0], errors[0]


def regression(terms: np.ndarray, value: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares with the scatter beyond the errors at which chi-squared is what it should be."""

    def solve(scatter: float):
        weight = 1 / (error**2 + scatter**2)
        spread = np.linalg.inv(terms.T @ (weight[:, None] * terms))
        found = spread @ (terms.T @ (weight * value))
        return found, spread, np.sum(weight * (value - terms @ found) ** 2) - (len(value) - terms.shape[1])

    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if solve(middle)[2] > 0 else (low, middle)
    found, spread, _ = solve(low)
    return found, np.sqrt(np.diag(spread))


if __name__ == "__main__":
    main()
