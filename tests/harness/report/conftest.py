"""Sweep folders with known gaps, written through the functions that record real ones."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from harness import predict_gap
from harness.files import write_json
from harness.fit.gap_law.verdict import Verdict
from harness.record.segments import write_segment
from harness.record.status import Status, run_folder, write_status
from harness.record.sweep_folder import lay_out, record_environment
from harness.report.gather import Records, read_sweep
from harness.report.judged import Judged, judge_sweep
from harness.report.marks import Marks
from models.config import make_config
from models.count import count
from sweeps.config import DataConfig, OptimizerConfig, RunConfig

CONTEXT, BATCH = 32, 8
SPEC = "name: simulated\ndefaults: {context: 32}  # <made> & told\nblocks: []\n"
TEXTS = (("stdlib_code", "bytes", 1.0), ("stdlib_docs", "bpe:1024", 3.2))
SHAPES = ((16, 1), (32, 2), (64, 4), (128, 6), (320, 8))
STEPS = (12, 90, 700, 5000)


def configs(runs: int) -> list[RunConfig]:
    """Runs over sizes and lengths, of two architectures on two kinds of text."""
    made = []
    for i, (steps, (width, depth)) in enumerate(itertools.product(STEPS, SHAPES)):
        for seed in range(2):
            architecture = ("dense", "parallel", "top2")[(i + seed) % 3]
            domain, tokenizer, _ = TEXTS[(i + seed) % 2]
            vocab = 257 if tokenizer == "bytes" else 1024
            unique = max(100, steps * BATCH * CONTEXT // (1, 4, 16)[i % 3])
            made.append(
                RunConfig(
                    model=make_config(architecture, vocab=vocab, context=CONTEXT, width=width, depth=depth, heads=2),
                    data=DataConfig(domain=domain, tokenizer=tokenizer, unique_tokens=unique),
                    optimizer=OptimizerConfig(lr=1e-3),
                    steps=steps,
                    batch=BATCH,
                    seed=seed,
                )
            )
    return made[:runs]


def published(config: RunConfig) -> float:
    """The gap law at its published constants, nats per token."""
    return float(predict_gap(count(config.model).total, config.tokens))


def finish(folder: Path, config: RunConfig, truth: float, rng: np.random.Generator, relative_se: float) -> None:
    """All the records of a finished run, with losses that end `truth` apart."""
    n = count(config.model).total
    steps = np.arange(1, config.steps + 1)
    tokens = steps * config.batch_tokens
    loss = 1.6 + 30.0 * n**-0.3 + 60.0 * tokens**-0.5
    noisy = loss + 0.08 * rng.standard_normal(len(loss))
    se = max(relative_se * truth, 1e-5)
    gap, placebo = truth * (1 + 0.06 * rng.standard_normal()) + se * rng.standard_normal(), se * rng.standard_normal()
    marks = sorted({0, config.steps // 2, config.steps} | {s for s in (16, 64, 256, 1024) if s < config.steps})
    evals = []
    for step in marks:
        level = float(loss[step - 1]) if step else 7.0
        for probe, shift in (("seen", 0.0), ("heldout", gap * step / config.steps), ("placebo_a", 0.0)):
            evals.append(
                {
                    "step": step, "tokens": step * config.batch_tokens, "probe": probe, "documents": 60,
                    "probe_tokens": 4096, "probe_bytes": 9000, "loss": level + shift, "loss_se": se,
                }
            )  # fmt: skip
    half = config.steps // 2
    for start, end in ((0, half), (half, config.steps)):
        part = slice(start, end)
        columns = {
            "step": steps[part].tolist(), "tokens": tokens[part].tolist(), "epoch": [0] * (end - start),
            "train_loss": noisy[part].tolist(), "lr": [1e-3] * (end - start), "grad_norm": [0.5] * (end - start),
        }  # fmt: skip
        write_segment(folder, "series", start, end, columns)
        kept = [row for row in evals if start < row["step"] <= end or (row["step"] == start == 0)]
        write_segment(folder, "evals", start, end, {name: [row[name] for row in kept] for name in evals[0]})
        seconds = {"step": [end], "wall_seconds": [1.5], "tokens_per_second": [1e4], "compile_seconds": [2.0]}
        write_segment(folder, "timing", start, end, seconds)
    level = float(loss[-1])
    measured = {
        "train_loss_final100": level + 0.002, "val_loss_final100": level + gap, "seen_loss": level,
        "heldout_loss": level + gap, "gap_online": gap - 0.002, "gap_online_se": 2 * se, "gap_probe": gap,
        "gap_probe_se": se, "minimum_detectable_gap": 2.8 * se, "placebo": placebo, "placebo_se": se,
        "gap_drift": 0.05 * gap, "bytes_per_token": dict((d, b) for d, _, b in TEXTS)[config.data.domain],
        "converged": bool(rng.random() < 0.8),
    }  # fmt: skip
    write_json(folder / "gap.json", measured)
    write_status(folder, Status("done", config.steps, config.steps, float(noisy[-1])))


def write_sweep(
    out: Path,
    done: int,
    ends: tuple[Status, ...] = (),
    truth: Callable[[RunConfig], float] = published,
    relative_se: tuple[float, ...] = (0.15,),
) -> Path:
    """A folder with `done` finished runs and one run for each other end; one more has no status at all."""
    runs = lay_out(out, SPEC, configs(done + len(ends) + 1))
    rng = np.random.default_rng(5)
    for config, se in zip(runs[:done], itertools.cycle(relative_se), strict=False):
        finish(run_folder(out, config.run_id), config, truth(config), rng, se)
    for config, status in zip(runs[done:], ends, strict=False):
        write_status(run_folder(out, config.run_id), status)
    hashes = {f"{d} {t}": {"corpus": "c0ffee", "tokenizer": "beef", "tokens": "f00d"} for d, t, _ in TEXTS}
    record_environment(out, ["cpu simulated"], hashes)
    return out


ENDS = (
    Status("failed", 3, 5000, reason="XlaRuntimeError: out of <memory>"),
    Status("diverged", 40, 5000, 9.1, reason="loss not finite at step 40"),
    Status("running", 77, 5000, 3.3),
)


@dataclass(frozen=True)
class Material:
    """A sweep as read and judged, and beside it the table it was read from: all runs, and the finished ones."""

    records: Records
    judged: Judged
    verdict: Verdict
    marks: Marks
    runs: pd.DataFrame
    rows: pd.DataFrame


@pytest.fixture(scope="session")
def sweep_of() -> Callable[..., Path]:
    """(folder, done) -> a sweep's folder with so many finished runs and one of every other end."""
    return lambda out, done: write_sweep(out, done, ENDS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on `material` are slow, because judging its sweep takes 30 s."""
    for item in items:
        if "material" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> Material:
    """A sweep of 36 finished runs under the published law, its gaps noisy enough that some are negative."""
    out = write_sweep(tmp_path_factory.mktemp("sweep") / "simulated", 36, ENDS, relative_se=(0.1, 0.1, 2.0))
    records = read_sweep(out)
    table = records.runs
    judged = judge_sweep(table, out, bootstrap=20, nulls=False)
    assert judged.verdict is not None and judged.marks is not None
    return Material(records, judged, judged.verdict, judged.marks, table, table.query("status == 'done'"))


class Reader(HTMLParser):
    """Tags with their attributes, visible text, and rows of cells by section."""

    def __init__(self, html: str):
        super().__init__()
        # Text of a script is not markup, and this one has five million characters of it.
        html = html.replace(get_plotlyjs(), "")
        self.tags: list[tuple[str, dict]] = []
        self.text, self.section, self.inside = "", "", ""
        self.rows: dict[str, list[list[str]]] = {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self.inside = tag
        if tag in ("section", "header"):
            self.section = found["id"]
            self.rows[self.section] = []
        if tag == "tr":
            self.rows[self.section].append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")

    def handle_endtag(self, tag):
        self.inside = "" if tag in ("script", "style") else self.inside

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text += data
            if self.rows.get(self.section) and self.rows[self.section][-1]:
                self.rows[self.section][-1][-1] += data


@pytest.fixture(scope="session")
def reader() -> type[Reader]:
    return Reader


@pytest.fixture(scope="session")
def assert_whole() -> Callable[[str, Reader], None]:
    """Assert that a page is one file: nothing is fetched, links have their ends, plotly's code stands there once."""

    def check(html: str, read: Reader) -> None:
        fetching = ("link", "iframe", "img", "object", "base")
        assert not [tag for tag, attrs in read.tags if "src" in attrs or tag in fetching]
        assert all(attrs["href"].startswith("#") for tag, attrs in read.tags if "href" in attrs)
        style = html.split("<style>")[1].split("</style>")[0]
        assert "url(" not in style and "@import" not in style
        assert html.count("* plotly.js v") == 1
        ends = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
        assert {attrs["href"][1:] for _, attrs in read.tags if "href" in attrs} <= ends
        assert {attrs["data-figure"] for _, attrs in read.tags if "data-figure" in attrs} <= ends

    return check


@pytest.fixture(scope="session")
def figures_of() -> Callable[[str], list[dict]]:
    """Page -> its figures as plotly's JSON."""

    def figures(html: str) -> list[dict]:
        parts = html.split('<script type="application/json" id="figure-')[1:]
        return [json.loads(part.split(">", 1)[1].split("</script>")[0]) for part in parts]

    return figures
