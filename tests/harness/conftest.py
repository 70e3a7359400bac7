"""A laboratory for the tests of the harness: a small text, one cache of compiled programs, and a finished sweep.

These tests spend their time on compiling. All of them share the two shapes of SPEC, in this process and in those that
they start, so that each program is compiled once.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import harness.cli.table
import harness.machine.platform
from harness.cli import main as cli
from harness.files import write_text
from harness.forecasts.registry_file import RegisteredForecast
from harness.machine.calibration_file import calibration_path
from harness.machine.platform import configure_jax
from harness.record.columns import WALL_CLOCK
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table, segments_table
from sweeps.calibration import TWO_CORES
from sweeps.config import RunConfig

ROOT = Path(__file__).parents[2]
SOURCES = Path(sysconfig.get_paths()["stdlib"])
# Four runs of AdamW in two slots, the longest of which diverges, and two of SGD.
SPEC = """
name: tiny
defaults: {{domain: "text:{text}", context: 16, width: 16, depth: 1, heads: 2, batch: 2, probe_windows: 8, epochs: 3}}
blocks:
  - name: adam
    zip: {{tokens: [28800, 28800, 28896, 28000], lr: [0.003, 0.01, 1.0e+30, 0.003], epochs: [3, 6, 3, 9]}}
  - name: sgd
    defaults: {{optimizer: sgd, lr: 0.3, tokens: 19200, keep: final}}
    seeds: 2
"""
# A child with at most two cores that saves and reports often. Its workers import this program again and do the same.
CHILD = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from harness.record import heartbeat
from harness.train import pack
pack.SAVE_SECONDS, pack.REPORT_SECONDS, heartbeat.HEARTBEAT_SECONDS = 0.25, 0.02, 0.02
if __name__ == "__main__":
    from harness.cli.main import main
    main()
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Lab:
    """The files that tests of sweeps share.

    Attributes:
        text: a folder of generated words, the corpus `text:PATH`.
        cache: folder of prepared text and compiled programs.
        spec: the file of SPEC.
        child: the program that a child process runs.
    """

    text: Path
    cache: Path
    spec: Path
    child: Path

    def spawn(self, *arguments: object) -> subprocess.Popen:
        """`isogap ARGUMENTS` in a process of its own."""
        command = [sys.executable, str(self.child), *map(str, arguments)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, out: Path, *options: object) -> subprocess.Popen:
        """`isogap run` of SPEC, in a process of its own."""
        return self.spawn("run", self.spec, "--out", out, "--cache", self.cache, *options)


def write_text_corpus(folder: Path, seed: int) -> Path:
    """40 files of 200 generated words of a vocabulary of 200."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 8))) for _ in range(200)]
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.txt").write_text(" ".join(rng.choices(words, k=200)))
    return folder


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Path:
    """A user's folder that holds packages with isogap's names, which cannot be imported."""
    for package in ("models", "sweeps"):
        (tmp_path / "foreign" / package).mkdir(parents=True)
        (tmp_path / "foreign" / package / "__init__.py").write_text("raise RuntimeError('the package of the user')")
    return tmp_path / "foreign"


@pytest.fixture(scope="session")
def text_corpus() -> Callable[[Path, int], Path]:
    return write_text_corpus


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice of Python's own library: about 60 source files, 1 MB, in three folders and a copy of one file."""
    folder = tmp_path_factory.mktemp("sources")
    for package in ("asyncio", "email", "importlib"):
        for file in sorted((SOURCES / package).glob("*.py")):
            (folder / package).mkdir(exist_ok=True)
            shutil.copyfile(file, folder / package / file.name)
    (folder / "copies").mkdir()
    shutil.copyfile(folder / "asyncio" / "locks.py", folder / "copies" / "locks.py")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of prepared text for the session, so that each text is prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, cores: list[int]) -> Lab:
    root = tmp_path_factory.mktemp("lab")
    text = write_text_corpus(root / "text", 1)
    (root / "tiny.yaml").write_text(SPEC.format(text=text))
    (root / "child.py").write_text(CHILD)
    configure_jax(root / "cache", 2)
    mine = os.sched_getaffinity(0)
    for some in (cores, cores[:1]):  # a test has all cores or one, and shall see two whichever it has
        os.sched_setaffinity(0, some)
        write_text(calibration_path(root / "cache"), TWO_CORES.to_json())
    os.sched_setaffinity(0, mine)
    compilation_cache.reset_cache()  # other tests may have compiled already, and JAX looks for the folder only once
    assert len(jax.devices()) == 2
    return Lab(text, root / "cache", root / "tiny.yaml", root / "child.py")


def call(*arguments: object) -> int:
    """`isogap ARGUMENTS` in this process, which keeps its devices and its signal handlers; the exit status."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["isogap", *map(str, arguments)])
        patch.setattr(harness.cli.table, "make_ready", lambda trains, compiles: None)
        patch.setattr(harness.machine.platform, "configure_jax", lambda cache, devices=None: None)
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return 0


@pytest.fixture(scope="session")
def call_isogap() -> Callable[..., int]:
    return call


@pytest.fixture
def isogap(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = call(*arguments)
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def finished(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of SPEC, run undisturbed in this process."""
    out = tmp_path_factory.mktemp("finished") / "sweep"
    assert call("run", lab.spec, "--out", out, "--cache", lab.cache) == 3
    return out


@pytest.fixture(scope="session")
def finished_runs(finished: Path) -> list[RunConfig]:
    """Its runs: four of AdamW, of which the third diverges, and two of SGD."""
    return read_configs(finished)


def _tables(out: Path) -> dict[str, bytes]:
    series, evals = segments_table(out, "series"), segments_table(out, "evals")
    runs = runs_table(out).drop(columns=list(WALL_CLOCK))
    return {name: table.to_csv().encode() for name, table in (("series", series), ("evals", evals), ("runs", runs))}


@pytest.fixture(scope="session")
def tables() -> Callable[[Path], dict[str, bytes]]:
    """All that a sweep recorded, to the byte, without the columns of wall-clock time."""
    return _tables


@pytest.fixture
def rng() -> random.Random:
    """A generator that draws the moments of faults."""
    seed = int(os.environ.get("ISOGAP_FAULT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"ISOGAP_FAULT_SEED={seed}")  # shown when the test fails, and sets the moments when it is given
    return random.Random(seed)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket of an S3 server on this machine."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")

    served = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    names = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**names, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    served.stop()


@pytest.fixture
def ended_children() -> Iterator[list[subprocess.Popen]]:
    """Processes put here are killed when the test ends, however it ends."""
    children: list[subprocess.Popen] = []
    yield children
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _forecast(n: float = 1e9, d: float = 2e10, **changes: Any) -> RegisteredForecast:
    fields: dict[str, Any] = {
        "registered": datetime(2026, 5, 1, tzinfo=UTC), "isogap": "0.1.0", "git_commit": None, "law": "chinchilla",
        "formula": "L = E + A/N^alpha + B/D^beta", "constants": {"E": 1.7}, "response": "L", "by": None, "group": None,
        "point": {"N": float(n), "D": float(d)}, "prediction": 2.2, "low": 2.1, "high": 2.3, "run_low": 2.0,
        "run_high": 2.4, "rows": 30, "rows_sha256": "ab" * 32,
    }  # fmt: skip
    return RegisteredForecast(**fields | changes)


@pytest.fixture(scope="session")
def forecast_at() -> Callable[..., RegisteredForecast]:
    """A forecast of Chinchilla's law at N and D, of 1 May 2026, with the interval 2.0 to 2.4 of a new run."""
    return _forecast
