import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import predict_gap

counts = st.floats(1e3, 1e13)


@given(counts, counts)
def test_log_gap_is_the_sum_of_its_terms(n, d):
    """log G = log A - alpha log N + log f(D/N^z)."""
    u = d / n**0.74
    log_f = np.log(1.0 if u <= 1.0 else u**-0.42)
    assert np.log(predict_gap(n, d)) == pytest.approx(np.log(0.86) - 0.31 * np.log(n) + log_f, rel=1e-12)


def test_published_values_and_broadcasting():
    """At 20 tokens a parameter the law predicts 7.5e-4, 2.8e-4, 1.1e-4 and 4.1e-5 nats for N = 1e6 .. 1e9."""
    n = np.array([1e6, 1e7, 1e8, 1e9])
    np.testing.assert_allclose(predict_gap(n, 20 * n), [7.5e-4, 2.8e-4, 1.1e-4, 4.1e-5], rtol=0.02)
    assert predict_gap(n[:, None], n[None, :]).shape == (4, 4)


def test_doubling_n_needs_tokens_times_two_to_the_z_for_the_same_side_of_the_crossover():
    n = 1e8
    edge = n**0.74
    assert predict_gap(n, edge * 0.999) == predict_gap(n, 1.0)
    assert predict_gap(2 * n, edge * 2**0.74 * 1.001) < predict_gap(2 * n, 1.0)


def test_the_import_brings_no_jax():
    code = "import sys; from harness import predict_gap; predict_gap(1e6, 1e7); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
