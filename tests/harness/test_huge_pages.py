"""A process asks for huge pages once, where they are given on request."""

import sys

import pytest

from harness import processes as pages


@pytest.fixture
def executed(monkeypatch, tmp_path):
    """The calls of execve, and a function that sets the system's switch and the allocator's settings."""
    calls = []
    monkeypatch.setattr(pages.os, "execve", lambda *call: calls.append(call))

    def prepare(switch: str | None, settings: str | None):
        monkeypatch.setattr(pages, "SWITCH", tmp_path / "enabled")
        if switch is not None:
            pages.SWITCH.write_text(switch)
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
        if settings is not None:
            monkeypatch.setenv("GLIBC_TUNABLES", settings)

    return calls, prepare


@pytest.mark.parametrize("before", [None, "glibc.malloc.arena_max=1"])
def test_asked_for_by_starting_anew_with_the_same_command(executed, before):
    calls, prepare = executed
    prepare("always [madvise] never", before)
    pages.ask_for_huge_pages()
    ((program, command, environment),) = calls
    assert program == command[0] == sys.executable and command[1:] == sys.orig_argv[1:]
    assert environment["GLIBC_TUNABLES"] == ":".join([*([before] if before else []), "glibc.malloc.hugetlb=1"])


@pytest.mark.parametrize(
    ("switch", "settings"),
    [("[always] madvise never", None), ("always madvise [never]", None), (None, None),
     ("always [madvise] never", "glibc.malloc.hugetlb=1"), ("always [madvise] never", "glibc.malloc.hugetlb=0")],
)  # fmt: skip
def test_not_twice_nor_where_it_does_not_help_nor_against_the_users_setting(executed, switch, settings):
    calls, prepare = executed
    prepare(switch, settings)
    pages.ask_for_huge_pages()
    assert calls == []
