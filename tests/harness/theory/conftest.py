"""What tests that train small networks share."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compile():
    """Programs are compiled four times faster (a sampler of normals: 0.2 s instead of 1 s) and run little slower."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
