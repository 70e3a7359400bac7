"""For tests that compile programs of their own."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def hurried() -> Iterator[None]:
    """Programs that run for milliseconds compile in two thirds of the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
