"""Pure power laws of optimal settings, and the published worked examples."""

import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law

pytestmark = pytest.mark.slow


def at_published(law_id, **columns):
    law = get_law(law_id)
    with jax.enable_x64(True):
        return float(law.predict({p.name: p.published for p in law.parameters}, columns))


def test_optimal_memory_falls_with_tokens_a_parameter():
    """Power Lines: about 0.22 at 20 tokens a parameter; the exponent from optima with 10 % of noise is met to 0.03."""
    assert at_published("power_lines_tau", N=np.float64(1e9), D=np.float64(2e10)) == pytest.approx(0.224, abs=0.001)
    rng = np.random.default_rng(0)
    n, ratio = 10 ** rng.uniform(7, 10, 40), 10 ** rng.uniform(0, 2.5, 40)
    tau = 1.084 * ratio**-0.527 * np.exp(0.1 * rng.standard_normal(40))
    result = fit("power_lines_tau", pd.DataFrame({"N": n, "D": n * ratio, "tau": tau}), bootstrap=0, sensitivity=False)
    assert result.parameters["m"].estimate == pytest.approx(-0.527, abs=0.03)
    assert result.parameters["c"].estimate == pytest.approx(1.084, rel=0.1)


def test_step_law_at_a_billion_parameters():
    """1.79 N^-0.713 D^0.307 and 0.58 D^0.571 at N = 1.07e9, D = 1e11, by hand."""
    n, d = np.float64(1.07e9), np.float64(1e11)
    assert at_published("steplaw_lr", N=n, D=d) == pytest.approx(1.5556e-3, rel=1e-3)
    assert at_published("steplaw_batch", D=d) == pytest.approx(1.108e6, rel=1e-3)


def test_diloco_beats_data_parallel_at_all_but_the_smallest_size():
    """Charles et al.: M = 1 (18.363 N^-0.0961) crosses data-parallel training near 9e6 parameters."""
    law = get_law("diloco")
    parallel = {p.name: p.published for p in law.parameters}
    replica = {"A": 18.363, "alpha": -0.0961}
    sizes = np.array([35e5, 9.3e6, 2.4e9])
    with jax.enable_x64(True):
        gain = np.asarray(law.predict(parallel, {"N": sizes}) / law.predict(replica, {"N": sizes})) - 1
    assert gain[0] < 0 < gain[2] and abs(gain[1]) < 1e-4


def test_a_joint_law_of_size_and_replicas_is_recovered():
    truth = {"A": 19.226, "alpha": -0.0985, "beta": 0.0116}
    n, m = (axis.ravel() for axis in np.meshgrid(np.geomspace(3.5e7, 2.4e9, 7), [1.0, 2.0, 4.0, 8.0]))
    noise = 1 + 0.002 * np.random.default_rng(2).standard_normal(len(n))
    frame = pd.DataFrame({"N": n, "M": m, "L": truth["A"] * n ** truth["alpha"] * m ** truth["beta"] * noise})
    found = fit("diloco_joint", frame, bootstrap=0, sensitivity=False).parameters
    assert found["alpha"].estimate == pytest.approx(truth["alpha"], abs=0.002)
    assert found["beta"].estimate == pytest.approx(truth["beta"], abs=0.003)


def test_the_critical_batch_at_a_fixed_number_of_tokens():
    """Zhang et al. in millions of parameters: 621.341 * 302^0.087."""
    assert at_published("cbs_model", N=np.float64(302e6)) == pytest.approx(621.341 * 302**0.087, rel=1e-3)
