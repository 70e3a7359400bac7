"""Children import the isogap of their parent, whatever the working folder holds."""

import os
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from harness.processes import HOME, drop_working_folder, run_module, spawn


@pytest.fixture
def elsewhere(foreign_folder, monkeypatch) -> Path:
    """The working folder of this process: it holds packages with isogap's names."""
    monkeypatch.chdir(foreign_folder)
    return foreign_folder


@pytest.mark.parametrize("entry", ["", "here"])
def test_the_working_folder_leaves_the_import_path(elsewhere, monkeypatch, entry):
    others = list(sys.path)
    monkeypatch.setattr(sys, "path", [str(elsewhere) if entry else "", *others])
    drop_working_folder()
    assert sys.path == others


def test_the_source_tree_stays_on_the_import_path(monkeypatch):
    monkeypatch.chdir(HOME)
    monkeypatch.setattr(sys, "path", [str(HOME), *sys.path])
    drop_working_folder()
    assert sys.path[0] == str(HOME)


def test_a_module_is_run_with_isogaps_packages(elsewhere):
    # It answers with exit status 2 where `sweeps` is isogap's, and with 1 where it is the folder's.
    run_module("harness", "laws", "gap")
    with pytest.raises(subprocess.CalledProcessError) as ended:
        run_module("harness", "plan", "missing.yaml")
    assert ended.value.returncode == 2


def answer(connection: Connection) -> None:
    import models
    import sweeps

    connection.send([models.__file__, sweeps.__file__, os.environ["PYTHONSAFEPATH"]])


def test_a_spawned_process_has_isogaps_packages_and_ends_with_its_connection(elsewhere, monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    process, connection = spawn(answer)
    packages = [str(HOME / package / "__init__.py") for package in ("models", "sweeps")]
    assert connection.recv() == [*packages, "1"]
    with pytest.raises(EOFError):
        connection.recv()
    process.join()
    assert process.exitcode == 0 and "PYTHONSAFEPATH" not in os.environ
