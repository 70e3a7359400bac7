import ast
from itertools import islice

import pytest

from harness.data import installed, sources
from harness.data.duplicates import clean


def restricted(monkeypatch, name, prefixes):
    files = tuple(item for item in getattr(installed, name)() if item[0].startswith(prefixes))
    assert files
    monkeypatch.setattr(installed, name, lambda: files)


def test_files_are_sources_without_tests_and_generated_code():
    for listing, floor in ((installed.stdlib_files, 400), (installed.package_files, 1500)):
        files = listing()
        assert len(files) > floor
        assert len({group for group, _ in files}) > 0.99 * len(files)
        for group, path in files:
            assert path.suffix == ".py"
            assert not {"tests", "test", "site-packages", "pydoc_data"} & set(group.split("/"))


def test_the_named_packages_are_found_without_being_imported():
    packages = {group.split("/")[0] for group, _ in installed.package_files()}
    assert {"numpy", "scipy", "jax", "pandas", "flax", "optax"} <= packages


def test_stdlib_pieces_join_to_the_file(monkeypatch):
    restricted(monkeypatch, "stdlib_files", ("python/argparse.py", "python/json/"))
    documents = list(installed.stdlib_code())
    (path,) = [path for group, path in installed.stdlib_files() if group == "python/argparse.py"]
    pieces = [document.text for document in documents if document.group == "python/argparse.py"]
    assert "".join(pieces) == path.read_text("utf-8")
    assert max(len(document.text) for document in documents) <= 4000


def test_code_and_documentation_share_groups_but_no_docstring(monkeypatch):
    restricted(monkeypatch, "package_files", ("optax/_src/", "numpy/lib/_"))
    code, docs = list(installed.package_code()), list(installed.api_docs())
    grouped = {document.group for document in code}
    described = [document for document in docs if not document.group.startswith("python/topics/")]
    assert len(described) > 300
    assert {document.group for document in described} <= grouped
    together = "".join(document.text for document in code)
    # Joined by file the code still parses, and nothing in it is a docstring of any length worth the name.
    for group in sorted(grouped)[:20]:
        ast.parse("".join(document.text for document in code if document.group == group))
    lines = {line.strip() for document in described for line in document.text.splitlines() if len(line) > 60}
    found = sum(line in together for line in lines)
    assert found < 0.01 * len(lines)


def test_the_language_reference_is_among_the_documentation(monkeypatch):
    restricted(monkeypatch, "package_files", ("optax/_src/alias",))
    topics = [document for document in installed.api_docs() if document.group.startswith("python/topics/")]
    assert sum(len(document.text) for document in topics) > 400_000
    assert any("compound statement" in document.text for document in topics)


def test_documentation_repeats_itself_and_cleaning_sees_it(monkeypatch):
    restricted(monkeypatch, "package_files", ("pandas/core/indexes/",))
    documents = list(installed.api_docs())
    assert len(clean(documents).documents) < len(documents)
    assert {document.source for document in documents} == {"pandas", "python"}


@pytest.mark.parametrize("text", [b"# coding: latin-1\nname = 'caf\xe9'\n", b"name = 'caf\xe9'\n", b"print 'two'\n"])
def test_sources_that_cannot_be_read_are_passed_over(monkeypatch, tmp_path, text):
    (tmp_path / "module.py").write_bytes(text)
    monkeypatch.setattr(installed, "stdlib_files", lambda: (("python/module.py", tmp_path / "module.py"),))
    documents = list(islice(installed.stdlib_code(), 5))
    expected = ["# coding: latin-1\nname = 'café'\n"] if b"coding" in text else []
    assert [document.text for document in documents] == expected


def test_several_processes_cut_as_one_does_and_changed_sources_are_read_anew(monkeypatch, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.py").write_text(f'def f{number}():\n    """{"words " * 20}"""\n    return {number}\n')
    files = tuple((f"made/{number}.py", tmp_path / f"{number}.py") for number in range(3))
    alone = sources.cut_files(files, apart=True)
    assert [len(docs) for _, _, docs in alone] == [1, 1, 1]
    monkeypatch.setattr(sources, "cores", lambda: 3)
    monkeypatch.setattr(sources, "_FILES_PER_PROCESS", 1)
    assert sorted(sources.cut_files(files, apart=True)) == sorted(alone)
    monkeypatch.setattr(installed, "package_files", lambda: files)
    assert len(list(installed.package_code())) == 3
    (tmp_path / "0.py").write_text("changed = True\n")
    assert "changed = True\n" in [document.text for document in installed.package_code()]
