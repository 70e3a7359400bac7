import pytest

from harness.report.write import write_report
from sweeps.errors import InputError


def test_without_finished_runs_the_page_says_so(sweep_of, tmp_path):
    out = sweep_of(tmp_path / "begun", done=0)
    path = write_report(out)
    html = path.read_text()
    assert path == out / "report.html"
    assert "nothing to judge" in html and "none of its runs can reach u = 1" in html
    assert "loss not finite at step 40" in html
    assert "no fit" in html and "Traceback" not in html


def test_with_too_few_runs_the_page_says_what_is_missing(sweep_of, tmp_path):
    """The gap law has five constants and needs seven rows."""
    out = sweep_of(tmp_path / "few", done=5)
    html = write_report(out, tmp_path / "elsewhere" / "page.html").read_text()
    assert "Too few usable runs" in html and "rows: 5 found, at least 7 rows" in html
    assert "Gap against tokens" in html and "Loss curves" in html
    assert not (out / "report.html").exists()


def test_before_anything_has_run(sweep_of, tmp_path):
    """The folder is laid out first; its environment is written when training begins."""
    out = sweep_of(tmp_path / "new", done=0)
    (out / "environment.json").unlink()
    assert "No run has begun" in write_report(out).read_text()


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(InputError, match="manifest.json"):
        write_report(tmp_path)
