"""Sweeps that follow each other in one command, each in a process of its own."""

import json
import os
import signal
import threading

import pytest
import yaml

from harness.launch.apart import run_sweep_apart
from harness.train.session import Session
from sweeps.errors import InputError

# The shape of the sweep of twins, so that its programs are compiled once.
SHAPE = {"context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "probe_windows": 24}


@pytest.fixture
def sweep(lab, tmp_path):
    """A sweep of one run of this many tokens, and its session."""

    def made(name: str, tokens: int, epochs: int = 1) -> tuple[str, Session]:
        file, out = tmp_path / f"{name}.yaml", tmp_path / name
        defaults = SHAPE | {"domain": f"text:{lab.text}", "tokens": tokens, "epochs": epochs}
        file.write_text(yaml.safe_dump({"name": name, "defaults": defaults, "blocks": [{"grid": {"lr": [0.01]}}]}))
        out.mkdir()
        return str(file), Session(out, lab.cache)

    return made


@pytest.mark.slow
def test_sweeps_on_other_numbers_of_devices_follow_each_other(sweep):
    """A process has one number of devices, and a packing that another machine recorded may ask for another."""
    first, session = sweep("first", 1600)
    assert run_sweep_apart(first, session) == 0
    packing = json.loads((session.out / "packing.json").read_text())
    assert packing["devices"] == 2
    second, other = sweep("second", 1600)
    (other.out / "packing.json").write_text(json.dumps(packing | {"devices": 1}))
    assert run_sweep_apart(second, other) == 0
    devices = [json.loads((each.out / "environment.json").read_text())["devices"] for each in (session, other)]
    assert [len(each) for each in devices] == [2, 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_stops_the_sweep_and_leaves_its_own_handlers(sweep, capfd, number):
    file, session = sweep("long", 1_600_000, 100)
    handler = signal.getsignal(number)

    over = threading.Event()

    def stop_when_it_trains() -> None:
        while not over.wait(0.1):
            if any(json.loads(each.read_text())["step"] for each in (session.out / "runs").glob("*/status.json")):
                os.kill(os.getpid(), number)
                return

    watch = threading.Thread(target=stop_when_it_trains, daemon=True)
    watch.start()
    try:
        status = run_sweep_apart(file, session)
    finally:
        over.set()
        watch.join()
    assert status == 128 + number
    assert signal.getsignal(number) is handler
    assert f"{session.out}: 1 interrupted; the same command goes on" in capfd.readouterr().out


def test_a_refusal_is_the_same_as_in_this_process(sweep, tmp_path):
    _, session = sweep("refused", 1600)
    with pytest.raises(InputError, match="a file, or one of|expected"):
        run_sweep_apart(str(tmp_path / "missing.yaml"), session)
