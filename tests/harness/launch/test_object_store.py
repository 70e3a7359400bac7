"""A sweep on an object store, through the command line: a real S3 server on this machine."""

import pandas as pd
import pytest

from harness.files import open_folder
from harness.launch.ray_cluster import _alone
from harness.record import lock
from harness.record.status import read_statuses
from harness.record.sweep_folder import read_configs


@pytest.fixture
def url(bucket, request, monkeypatch) -> str:
    for constant, seconds in (("RENEW_SECONDS", 0.2), ("DEAD_SECONDS", 1.0), ("SETTLE_SECONDS", 0.1)):
        monkeypatch.setattr(lock, constant, seconds)
    return f"{bucket}/{request.node.name}"


@pytest.mark.slow
def test_a_sweep_is_run_stopped_continued_and_read(url, lab, isogap, finished, tables, tmp_path):
    command = ("run", lab.spec, "--out", url, "--cache", lab.cache)
    assert isogap(*command, "--fail-fast").status == 3
    out = open_folder(url)
    states = [status.state for status in read_statuses(out, read_configs(out)).values()]
    assert sorted(states) == ["diverged", "interrupted"] + 4 * ["pending"]
    assert isogap("status", url).out.startswith("run_id")
    ended = isogap(*command)
    assert ended.status == 3 and f"{url}: 1 diverged, 5 done" in ended.out
    assert tables(out) == tables(finished) and not (out / "checkpoints").exists()
    assert "1 diverged, 5 done" in isogap("status", url).out
    told = isogap("export", url, "--what", "runs", "--to", tmp_path / "runs.csv")
    assert told.out.startswith("6 rows") and len(pd.read_csv(tmp_path / "runs.csv")) == 6
    # What cannot be fitted is refused as it is of a local folder.
    local, stored = (isogap("fit", source, "--law", "gap", "--bootstrap", 0) for source in (finished, url))
    assert stored.status == local.status and stored.err == local.err.replace(str(finished), url)
    assert stored.out == local.out.replace(str(finished), url)


@pytest.mark.slow
def test_a_table_on_a_store_is_a_source(url, isogap):
    rows = pd.DataFrame({"N": [1e6, 2e6, 4e6, 8e6, 1e7, 2e7] * 4, "D": [1e6, 1e7, 1e8, 1e9] * 6})
    rows["G"] = 0.86 * rows["N"] ** -0.31
    (open_folder(url) / "runs.csv").write_bytes(rows.to_csv(index=False).encode())
    ended = isogap("fit", f"{url}/runs.csv", "--law", "gap", "--bootstrap", 0)
    assert ended.status == 0 and "gap: G = A" in ended.out, ended.err


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("status {url}", "manifest.json"),
        ("fit {url}/none.csv --law gap", "none.csv"),
        ("report ftp://host/folder", "ftp"),
        ("run {spec} --out {url} --track tensorboard", "--track"),
    ],
)
def test_what_a_store_has_not_is_one_line_and_status_2(command, word, bucket, lab, isogap):
    ended = isogap(*command.format(url=f"{bucket}/nothing", spec=lab.spec).split())
    assert ended.status == 2 and ended.err.count("\n") == 1 and word in ended.err and "://" in ended.err


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_one_line(bucket, lab, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    child = lab.spawn("status", f"{bucket}/nothing")  # of this process the connection stands
    _, told = child.communicate(timeout=300)
    assert child.returncode == 2 and told.count("\n") == 1 and "a store that can be read" in told, told


def test_a_packs_lock_on_a_store_is_held_by_one(url):
    path = open_folder(url) / "pack.lock"
    with _alone(path, lambda: True) as first:
        assert first
        with _alone(path, lambda: True) as second:
            assert not second
    with _alone(path, lambda: True) as again:
        assert again
