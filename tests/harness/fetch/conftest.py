"""Tiny packages of invented text, and registries on this machine that serve them to the real pip, npm and apt."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Files = dict[str, str | bytes]


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def write_wheel(folder: Path, name: str, version: str, files: Files) -> Path:
    """A wheel for any Python."""
    info = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for member, content in whole.items():
            opened.writestr(member, _bytes(content))
        opened.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in whole))
    return path


def write_tgz(path: Path, files: Files) -> Path:
    """What npm publishes: a tar with all files below `package/`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as opened:
        for member, content in files.items():
            header = tarfile.TarInfo(f"package/{member}")
            header.size = len(_bytes(content))
            opened.addfile(header, io.BytesIO(_bytes(content)))
    return path


def write_deb(folder: Path, name: str, version: str, files: Files) -> Path:
    """A Debian package, by the program that builds them."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    root = folder / f".{name}"
    whole = {
        **files,
        "DEBIAN/control": f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: invented\n",
    }
    for member, content in whole.items():
        (root / member).parent.mkdir(parents=True, exist_ok=True)
        (root / member).write_bytes(_bytes(content))
    path = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, path], check=True, capture_output=True)
    shutil.rmtree(root)
    return path


@pytest.fixture(scope="session")
def wheel() -> Callable[..., Path]:
    return write_wheel


@pytest.fixture(scope="session")
def tgz() -> Callable[..., Path]:
    return write_tgz


@pytest.fixture(scope="session")
def deb() -> Callable[..., Path]:
    return write_deb


@pytest.fixture
def pypi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


class _Npm(BaseHTTPRequestHandler):
    """A registry of the packages NAME-VERSION.tgz in a folder."""

    folder: Path

    def do_GET(self) -> None:
        name = self.path.strip("/").replace("%2f", "/").replace("%2F", "/")
        file = self.folder / name
        if name.endswith(".tgz") and file.is_file():
            self._answer(200, file.read_bytes())
            return
        found = sorted(self.folder.glob(f"{name.replace('/', '-').removeprefix('@')}-*.tgz"))
        if not found:
            self._answer(404, b'{"error": "Not found"}')
            return
        versions = {}
        for archive in found:
            version = archive.stem.rpartition("-")[2]
            digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            url = f"http://{self.headers['Host']}/{archive.name}"
            dist = {"tarball": url, "integrity": f"sha512-{digest}"}
            versions[version] = {"name": name, "version": version, "dist": dist}
        told = {"name": name, "versions": versions, "dist-tags": {"latest": max(versions)}}
        self._answer(200, json.dumps(told).encode())

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of npm packages, the only registry that npm knows."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = tmp_path / "npm"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Npm,), {"folder": folder})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm_cache"))
        monkeypatch.setenv("npm_config_audit", "false")
        yield folder
        server.shutdown()
        thread.join()


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of Debian packages, the only one that apt knows; it has no lists yet."""
    if not shutil.which("apt-get"):
        pytest.skip("apt-get is not installed")
    folder, state = tmp_path / "debian", tmp_path / "apt"
    folder.mkdir()
    for name in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
        (state / name).mkdir(parents=True)
    (state / "sources.list").write_text(f"deb [trusted=yes] copy:{folder} ./\n")
    (state / "status").write_text("")
    (state / "apt.conf").write_text(
        f'Dir::State "{state}"; Dir::State::lists "{state}/lists"; Dir::State::status "{state}/status";\n'
        f'Dir::Cache "{state}/cache"; Dir::Etc::sourcelist "{state}/sources.list"; Dir::Etc::sourceparts "-";\n'
        f'Dir::Etc::parts "{state}/etc/apt.conf.d"; Dir::Etc::preferencesparts "{state}/etc/preferences.d";\n'
        'APT::Sandbox::User "root"; Acquire::Languages "none";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(state / "apt.conf"))
    return folder


def index_debian(folder: Path) -> None:
    """Write the list of the packages in a folder, which `apt-get update` reads."""
    entries = []
    for archive in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", archive], check=True, capture_output=True, text=True).stdout
        content = archive.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        entries.append(f"{control.strip()}\nFilename: ./{archive.name}\nSize: {len(content)}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(entries))


@pytest.fixture(scope="session")
def indexed() -> Callable[[Path], None]:
    return index_debian


@pytest.fixture
def without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH on which there is nothing."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
