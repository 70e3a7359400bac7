"""The gaps that the verdict is about, in the form that figures draw: one array per quantity, one text per mark."""

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from harness.fit.results.shown import number
from harness.gaps.estimators import DETECTABLE
from harness.gaps.roles import RUN_ROLES
from harness.report.figure_axes import numbers, short


@dataclass(frozen=True)
class Marks:
    """The measured gaps, one mark per run or pair of twins.

    Attributes:
        n, d, epochs: parameters without embeddings, tokens processed, and passes over the unique tokens.
        gap, se: the judged gap and its standard error, nats per token.
        probe, probe_se, online, online_se: the gap by two estimators, nan where one was not measured.
        placebo, placebo_se: the gap between two halves of the held-out text.
        settled: how many of the gaps had converged by the end of training.
        architecture, tokenizer, domain: the names of these for each mark.
        texts: what a reader sees on pointing at a mark, as HTML.
    """

    n: Float[np.ndarray, "marks"]
    d: Float[np.ndarray, "marks"]
    epochs: Float[np.ndarray, "marks"]
    gap: Float[np.ndarray, "marks"]
    se: Float[np.ndarray, "marks"]
    probe: Float[np.ndarray, "marks"]
    probe_se: Float[np.ndarray, "marks"]
    online: Float[np.ndarray, "marks"]
    online_se: Float[np.ndarray, "marks"]
    placebo: Float[np.ndarray, "marks"]
    placebo_se: Float[np.ndarray, "marks"]
    settled: int
    architecture: np.ndarray
    tokenizer: np.ndarray
    domain: np.ndarray
    texts: np.ndarray

    @property
    def undetected(self) -> Bool[np.ndarray, "marks"]:
        """Which gaps are smaller in size than their minimum detectable gap."""
        return np.abs(self.gap) < DETECTABLE * self.se

    @property
    def negative(self) -> int:
        """How many gaps are not above zero."""
        return int(np.sum(self.gap <= 0))


def marks_of(rows: pd.DataFrame) -> Marks:
    """Read the rows of a sweep's table in roles (`harness.gaps.roles.roles_for_runs`)."""
    columns = {
        "n": RUN_ROLES["N"], "d": "D", "epochs": "epochs", "gap": "G", "se": "G_se", "probe": "gap_probe",
        "probe_se": "gap_probe_se", "online": "gap_online", "online_se": "gap_online_se", "placebo": "placebo",
        "placebo_se": "placebo_se",
    }  # fmt: skip
    values = {name: numbers(rows, column) for name, column in columns.items()}
    labels = {name: rows[name].to_numpy(object) for name in ("architecture", "tokenizer", "domain")}
    texts = np.asarray([_describe(row) for row in rows.to_dict("records")], object)
    return Marks(**values, **labels, texts=texts, settled=int(np.nansum(numbers(rows, "converged"))))


def _describe(row: dict) -> str:
    settled = {True: "settled", False: "not settled"}.get(row["converged"], "not known whether settled")
    return (
        f"<b>{row['run_id']}</b> seed {row['seed']}<br>{escape(row['architecture'])}, {escape(row['domain'])},"
        f" {escape(row['tokenizer'])}<br>N {short(row[RUN_ROLES['N']])}, D {short(row['D'])}, U {short(row['U'])},"
        f" {row['epochs']:.3g} epochs, batch {short(row['batch_tokens'])} tokens<br>"
        f"gap {number(row['G'])} ± {number(row['G_se'])} (s.e.),"
        f" minimum detectable {number(DETECTABLE * row['G_se'])}, {row['estimator']}<br>{settled}"
    )
