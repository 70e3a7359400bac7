"""The pages say what is: every example of every README.md runs, and every relative link leads somewhere.

The blocks of a page are run in their order, in a fresh folder: a ```python block in one namespace for all of the page,
the lines `$ isogap ...` of a ```console block as the program. A block ```LANGUAGE file=NAME is saved as that file.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.files import write_text
from harness.machine.calibration_file import calibration_path
from sweeps.calibration import TWO_CORES

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / name for name in ("models", "sweeps", "harness", "tests", "scripts")]
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted(folder.rglob("README.md")))]
FENCE = re.compile(r"^```(?P<language>\w+)(?: file=(?P<file>\S+))?[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: the number of its first line.
        file: what it is to be saved as, if anything.
    """

    language: str
    file: str | None
    text: str
    line: int

    @property
    def commands(self) -> list[list[str]]:
        """The calls of `isogap`, split as a shell does; a line that ends with a backslash goes on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("$ isogap ")]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["file"], found["text"], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


@pytest.fixture(scope="session")
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache folder in which this machine has been measured."""
    folder = tmp_path_factory.mktemp("cache")
    every = sorted(os.sched_getaffinity(0))
    for cores in (every, every[:1]):  # a page may run on one core or on all, and is to be told of two
        os.sched_setaffinity(0, cores)
        write_text(calibration_path(folder / "isogap"), TWO_CORES.to_json())
    os.sched_setaffinity(0, every)
    return folder


# Their examples take 4 to 38 s each.
LONG = (
    "harness",
    "harness/fit",
    "harness/fit/allocation",
    "harness/fit/laws",
    "harness/fit/shared",
    "harness/tables/trackers",
    "models",
    "sweeps",
)


def _marked(page: Path) -> Any:
    slow = str(page.parent.relative_to(ROOT)) in LONG
    return pytest.param(page, marks=pytest.mark.slow if slow else (), id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", [*map(_marked, PAGES)])
def test_the_examples_of_a_page_run(page, user_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(user_cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    namespace = {"__name__": "example"}
    for block in blocks_of(page):
        if block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text)
        elif block.language == "python":
            # Blank lines before it, so that an error names the page's line.
            exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
        for command in block.commands if block.language == "console" else ():
            done = subprocess.run([sys.executable, "-m", "harness", *command], capture_output=True, text=True)
            assert done.returncode == 0, (
                f"{page}:{block.line}: isogap {shlex.join(command)}\n{done.stdout}{done.stderr}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_blocks_are_read_as_they_are_meant(tmp_path):
    page = tmp_path / "README.md"
    yaml = "```yaml file=a.yaml\nname: a\n```\n"
    call = "```console\n$ isogap fit 'a b.csv' \\\n    --law gap  # why\nprinted\n$ ls\n```\n"
    page.write_text(f"# Page\n\n{yaml}\ntext\n{call}```\nno language\n```\n")
    saved, console = blocks_of(page)
    assert (saved.language, saved.file, saved.text, saved.line) == ("yaml", "a.yaml", "name: a\n", 4)
    assert console.commands == [["fit", "a b.csv", "--law", "gap"]] and console.file is None
