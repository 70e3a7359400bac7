import pytest

from harness.fetch.readers.archives import BadArchive, members

FILES = {"inner/b.txt": "second", "a.txt": "first é", "skipped.bin": b"\0\1"}


def read(path):
    return dict(members(path, r".*\.txt"))


def test_wheels_packages_and_debs_are_read_alike(tmp_path, wheel, tgz, deb):
    expected = {"inner/b.txt": b"second", "a.txt": "first é".encode()}
    assert read(wheel(tmp_path, "tiny", "1.0", FILES)) == expected
    package = {f"package/{name}": content for name, content in expected.items()}
    assert read(tgz(tmp_path / "tiny.tgz", FILES)) == package
    assert read(deb(tmp_path, "tiny", "1.0", FILES)) == expected


@pytest.mark.parametrize("kind", ["whl", "tgz", "deb"])
def test_a_truncated_archive_is_bad(kind, tmp_path, wheel, tgz, deb):
    import random

    files = {"a.txt": random.Random(1).randbytes(50_000).hex()}
    made = {
        "whl": lambda: wheel(tmp_path, "tiny", "1.0", files),
        "tgz": lambda: tgz(tmp_path / "tiny.tgz", files),
        "deb": lambda: deb(tmp_path, "tiny", "1.0", files),
    }[kind]()
    content = made.read_bytes()
    for share in (0.0, 0.3, 0.9):
        made.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BadArchive, match=made.name):
            read(made)


def test_reading_may_stop_early(tmp_path, deb):
    made = deb(tmp_path, "tiny", "1.0", {f"{k}.txt": "x" * 1000 for k in range(300)})
    for _ in members(made, ".*"):
        break  # the generator is closed, and with it the program that unpacks
