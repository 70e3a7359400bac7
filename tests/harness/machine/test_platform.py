"""Where compiled programs are kept."""

import jax
import pytest

from harness.machine.platform import keep_programs


def setting(name: str) -> object:
    return getattr(jax.config, name)


@pytest.fixture(autouse=True)
def folder_of_the_tests():
    before = setting("jax_compilation_cache_dir")
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_in_isogaps_cache_unless_jax_is_told_of_a_folder(tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "told"))
    keep_programs(tmp_path / "cache")
    assert setting("jax_compilation_cache_dir") == str(tmp_path / "told")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_programs(tmp_path / "cache")
    assert setting("jax_compilation_cache_dir") == str(tmp_path / "cache" / "xla")
    assert setting("jax_persistent_cache_min_compile_time_secs") == 0
