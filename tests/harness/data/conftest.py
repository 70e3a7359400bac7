"""Small real corpora for the data room: a slice of Python's own library, copied to a temporary folder."""

import shutil
import sysconfig
from pathlib import Path

import pytest

SOURCES = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60 source files, 1 MB, in two folders; one file is there twice."""
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
    """One cache for the session: what several tests prepare is prepared once."""
    return tmp_path_factory.mktemp("cache")
