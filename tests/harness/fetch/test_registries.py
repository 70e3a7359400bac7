import hashlib
import os
from pathlib import Path

import pytest

from harness.fetch import registries
from harness.fetch.registries import SourceMissing, absent, archive_facts, archive_folder, fetch_archive
from harness.fetch.sources import Registry, Source
from sweeps.errors import InputError


def source(registry: Registry, package: str, version: str | None) -> Source:
    return Source(f"{package} text", registry, package, version, "none", lambda archive: iter(()))


@pytest.fixture(autouse=True)
def lists_not_updated():
    registries._update_lists.cache_clear()


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_pip_brings_the_wheel_once(pypi, wheel, tmp_path):
    made = wheel(pypi, "tiny", "1.0", {"tiny/a.py": "x = 1\n"})
    wanted = source("pip", "tiny", "1.0")
    archive = fetch_archive(wanted, tmp_path / "cache", sha256(made))
    assert archive.name == made.name and archive.read_bytes() == made.read_bytes()
    assert archive_facts(wanted, archive) == {"version": "1.0", "archive_sha256": sha256(made)}
    made.unlink()  # the second call finds nothing to fetch, and needs nothing
    assert fetch_archive(wanted, tmp_path / "cache", sha256(archive)) == archive


def test_an_sdist_is_refused_unbuilt(pypi, tmp_path):
    import io
    import tarfile

    ran = tmp_path / "ran"
    with tarfile.open(pypi / "tiny-1.0.tar.gz", "w:gz") as opened:
        for name, text in (("setup.py", f"open({str(ran)!r}, 'w')"), ("PKG-INFO", "Name: tiny\nVersion: 1.0\n")):
            header = tarfile.TarInfo(f"tiny-1.0/{name}")
            header.size = len(text)
            opened.addfile(header, io.BytesIO(text.encode()))
    with pytest.raises(InputError, match="tiny text: pip: got 'ERROR: .*tiny==1.0.* expected a package"):
        fetch_archive(source("pip", "tiny", "1.0"), tmp_path / "cache")
    assert not ran.exists()


def test_a_truncated_archive_is_fetched_anew(pypi, wheel, tmp_path):
    made = wheel(pypi, "tiny", "1.0", {"tiny/a.py": "x = 1\n" * 100})
    wanted = source("pip", "tiny", "1.0")
    archive = fetch_archive(wanted, tmp_path / "cache", sha256(made))
    archive.write_bytes(made.read_bytes()[:200])
    assert fetch_archive(wanted, tmp_path / "cache", sha256(made)).read_bytes() == made.read_bytes()


def test_another_file_than_was_pinned_is_refused_and_not_kept(pypi, wheel, tmp_path):
    wheel(pypi, "tiny", "1.0", {"tiny/a.py": "x = 1\n"})
    with pytest.raises(InputError, match="tiny text: sha256 of the archive: .*another file"):
        fetch_archive(source("pip", "tiny", "1.0"), tmp_path / "cache", "0" * 64)
    assert not archive_folder(source("pip", "tiny", "1.0"), tmp_path / "cache").exists()


def test_a_users_constraints_do_not_hold_for_texts(pypi, wheel, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONSTRAINT", "constraints-of-another-folder.txt")
    made = wheel(pypi, "tiny", "1.0", {"tiny/a.py": "x = 1\n"})
    archive = fetch_archive(source("pip", "tiny", "1.0"), tmp_path / "cache")
    assert archive.read_bytes() == made.read_bytes()


def test_a_package_that_is_not_there_leaves_nothing(pypi, tmp_path):
    with pytest.raises(InputError) as refused:
        fetch_archive(source("pip", "nonesuch", "1.0"), tmp_path / "cache")
    assert "nonesuch" in str(refused.value) and "\n" not in str(refused.value)
    assert list((tmp_path / "cache" / "downloads" / "pip").iterdir()) == []


def test_without_a_network_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    with pytest.raises(InputError, match="expected a network with PyPI"):
        fetch_archive(source("pip", "tiny", "1.0"), tmp_path / "cache")


def test_npm_brings_a_package_of_a_scope(npm, tgz, tmp_path):
    made = tgz(npm / "scope-tiny-2.1.0.tgz", {"package.json": '{"name": "@scope/tiny", "version": "2.1.0"}'})
    archive = fetch_archive(source("npm", "@scope/tiny", "2.1.0"), tmp_path / "cache", sha256(made))
    assert archive.read_bytes() == made.read_bytes()


def test_npm_says_what_it_does_not_have(npm, tmp_path):
    with pytest.raises(InputError, match="nonesuch text: npm: .*expected a package and version"):
        fetch_archive(source("npm", "nonesuch", "1.0.0"), tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may renew apt's lists")
def test_apt_renews_its_lists_and_brings_the_package(debian, deb, indexed, tmp_path, capsys):
    made = deb(debian, "tiny-doc", "3.2-1", {"usr/share/doc/tiny/a.html": "<p>text</p>"})
    indexed(debian)
    wanted = source("apt", "tiny-doc", None)
    archive = fetch_archive(wanted, tmp_path / "cache")
    assert archive.read_bytes() == made.read_bytes()
    assert archive_facts(wanted, archive)["version"] == "3.2-1"
    assert "apt-get update" in capsys.readouterr().err
    with pytest.raises(SourceMissing, match="Debian 12 has it"):
        fetch_archive(source("apt", "nonesuch-doc", None), tmp_path / "cache")


def test_apt_without_root_says_what_to_run(debian, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SourceMissing, match="sudo apt-get update"):
        fetch_archive(source("apt", "tiny-doc", None), tmp_path / "cache")


def test_absent_programs_are_named(without_programs):
    assert absent("pip") is None  # it is run by this Python
    assert "npm" in str(absent("npm")) and "apt-get" in str(absent("apt"))
