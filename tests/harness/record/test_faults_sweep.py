"""Sweeps that are killed and then find their files damaged: they end with the tables of an undisturbed one."""

import subprocess
import time

import pytest

from harness.record.status import read_status


@pytest.mark.slow
def test_killed_and_damaged_a_sweep_ends_with_the_same_tables(lab, finished, tables, tmp_path, rng, ended_children):
    out = tmp_path / "out"

    def steps() -> int:
        return sum(read_status(folder, 0).step for folder in (out / "runs").glob("*"))

    def run() -> subprocess.Popen:
        ended_children.append(lab.run(out))
        return ended_children[-1]

    total, damaged = sum(read_status(folder, 0).step for folder in (finished / "runs").glob("*")), 0
    for share in sorted(rng.uniform(0.1, 0.9) for _ in range(2)):
        child, began = run(), time.monotonic()
        while steps() < share * total and child.poll() is None and time.monotonic() - began < 300.0:
            time.sleep(0.005)
        child.kill()
        child.communicate()
        # Of the runs that have not ended, and of the checkpoints: what had ended is not recomputed unasked.
        folders = [f for f in (out / "runs").glob("*") if read_status(f, 0, live=False).state == "interrupted"]
        files = [path for folder in [*folders, out / "checkpoints"] for path in folder.rglob("*") if path.is_file()]
        for path in rng.sample(sorted(files), min(3, len(files))):
            content = path.read_bytes()
            path.write_bytes(rng.choice([b"", b"\0" * len(content), content[: rng.randrange(len(content) + 1)]]))
            damaged += 1
    child = run()
    _, err = child.communicate(timeout=300.0)
    assert child.returncode == 3 and "Traceback" not in err, err
    assert tables(out) == tables(finished) and damaged
