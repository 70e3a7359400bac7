"""One figure of a fit as a page, as dots and as lines."""

import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from harness.report.fit_image import DOTS_PER_INCH, SIZE, check_figure
from sweeps.errors import InputError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """30 runs with names of columns that a formula, a tag, or a font without such letters would trip over."""
    rng = np.random.default_rng(5)
    n, d = 10 ** rng.uniform(7, 9, 30), 10 ** rng.uniform(9, 11, 30)
    loss = (1.8 + 480 * n**-0.35 + 2085 * d**-0.37) * np.exp(0.002 * rng.standard_normal(30))
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    pd.DataFrame({"size_$x$": n, "<b>语料": d, "_loss$": loss}).to_csv(path, index=False)
    return path


@pytest.fixture
def fitted(runs, isogap):
    roles = ("--set", "N=size_$x$", "--set", "D=<b>语料", "--set", "L=_loss$")
    quick = ("--bootstrap", 20, "--no-sensitivity")
    return lambda figure, *more: isogap("fit", runs, "--law", "chinchilla", *roles, *quick, "--figure", figure, *more)


@pytest.mark.slow
def test_a_picture_in_dots(fitted, tmp_path):
    ended = fitted(tmp_path / "fit.png")
    assert ended.status == 0 and ended.err == ""
    content = (tmp_path / "fit.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == tuple(round(inches * DOTS_PER_INCH) for inches in SIZE)


@pytest.mark.slow
def test_a_picture_in_lines_is_the_same_twice(fitted, tmp_path):
    for name in ("one.svg", "two.svg"):
        assert fitted(tmp_path / name, "--holdout", "`size_$x$` > 5e8").status == 0
    tree = ElementTree.parse(tmp_path / "one.svg").getroot()
    assert tree.tag == f"{SVG}svg" and len(list(tree.iter(f"{SVG}use"))) > 2 * 30  # a mark above and below for each row
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.slow
def test_a_page_of_one_fit(fitted, tmp_path, figures_of, reader):
    assert fitted(tmp_path / "fit.html").status == 0
    html = (tmp_path / "fit.html").read_text()
    law, *residuals = figures_of(html)
    rows = next(trace for trace in law["data"] if trace["meta"] == "rows")
    assert len(rows["text"]) == 30 and len(residuals) == 2
    assert "<b>语料" not in html.split("<script>")[0] and "&lt;b&gt;语料" in html
    assert [row[0] for row in reader(html).rows["fit"][1:]][:5] == ["E", "A", "B", "alpha", "beta"]


def test_other_kinds_of_files_are_refused_before_the_work(isogap, tmp_path):
    ended = isogap("fit", tmp_path / "absent.csv", "--law", "chinchilla", "--figure", tmp_path / "fit.pdf")
    assert ended.status == 2 and ended.err.count("\n") == 1
    assert "--figure" in ended.err and ".html, .png, .svg" in ended.err
    with pytest.raises(InputError, match="--figure"):
        check_figure(tmp_path / "figure")


def test_a_figure_shows_one_fit(fitted, tmp_path):
    ended = fitted(tmp_path / "fit.png", "--by", "_loss$")
    assert ended.status == 2 and "no --by" in ended.err
