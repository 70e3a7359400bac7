"""Laws of batch and steps: the implicit loss, the trade-off between steps and examples, and the critical batch."""

import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.critical_batch import critical_batch
from harness.fit.laws.registry import get_law

pytestmark = pytest.mark.slow

SU = {"N_c": 1.5e14, "alpha_N": 0.076, "S_c": 2.6e3, "alpha_S": 0.67, "B_star": 1.7e8, "alpha_B": 0.205}


def bisected(frame):
    """The loss that solves its own equation, by halving an interval of its log."""
    low, high = np.full(len(frame), -5.0), np.full(len(frame), 20.0)
    capacity = (SU["N_c"] / frame["N"]) ** SU["alpha_N"]
    for _ in range(90):
        middle = (low + high) / 2
        critical = SU["B_star"] / np.exp(middle / SU["alpha_B"])
        least_steps = frame["step"] / (1 + critical / frame["B"])
        too_low = np.exp(middle) < capacity + (SU["S_c"] / least_steps) ** SU["alpha_S"]
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return np.exp(middle)


BATCHES, STEPS = list(2.0 ** np.arange(14, 22)), list(np.geomspace(300, 1e5, 15))


def trajectories(sizes: list, batches: list = BATCHES, steps: list = STEPS):
    grid = np.array(np.meshgrid(sizes, batches, steps)).reshape(3, -1)
    return pd.DataFrame(dict(zip(("N", "B", "step"), grid, strict=True)))


def test_the_implicit_loss_is_solved_with_its_derivative():
    frame = trajectories([1e6, 3e8, 3e10], batches=[1e3, 1e5, 1e8], steps=[30.0, 1e4, 1e6])
    law, columns = get_law("openai_sb"), {name: frame[name].to_numpy() for name in ("N", "B", "step")}
    with jax.enable_x64(True):
        found = np.asarray(law.predict(SU, columns))
        _, slope = jax.jvp(lambda v: law.predict(SU | {"B_star": v}, columns), (SU["B_star"],), (1.0,))
        step = 1e-4 * SU["B_star"]
        above, below = (np.asarray(law.predict(SU | {"B_star": SU["B_star"] + s}, columns)) for s in (step, -step))
    np.testing.assert_allclose(found, bisected(frame), rtol=1e-10)
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-5)


def test_trajectories_give_their_constants_back_and_a_tenfold_model():
    frame = trajectories([1e6, 3e6, 1e7, 3e7, 6e7])
    frame["L"] = bisected(frame) * np.exp(0.005 * np.random.default_rng(1).standard_normal(len(frame)))
    larger = trajectories([6e8], batches=[2.0**20])
    larger["L"] = bisected(larger)
    both = pd.concat([frame, larger], ignore_index=True)
    result = fit("openai_sb", both, holdout="N > 1e8", bootstrap=0, sensitivity=False)
    found = {name: value.estimate for name, value in result.parameters.items()}
    assert found["alpha_N"] == pytest.approx(SU["alpha_N"], abs=0.003)
    assert found["alpha_S"] == pytest.approx(SU["alpha_S"], abs=0.03)
    assert found["alpha_B"] == pytest.approx(SU["alpha_B"], abs=0.02)
    assert found["B_star"] == pytest.approx(SU["B_star"], rel=0.15)
    assert result.holdout.rmse < 0.02 * larger["L"].mean()


def test_steps_and_examples_are_one_curve_with_two_names():
    batch = 2.0 ** np.arange(6, 15)
    least_steps, least_examples = 1500.0, 3.1e6
    step = least_steps + least_examples / batch
    np.testing.assert_allclose((step / least_steps - 1) * (batch * step / least_examples - 1), 1.0)
    frame = pd.DataFrame({"B": batch, "step": step * np.exp(0.02 * np.random.default_rng(0).standard_normal(9))})
    tradeoff = fit("es_tradeoff", frame, bootstrap=0, sensitivity=False)
    found = {name: value.estimate for name, value in tradeoff.parameters.items()}
    assert found["S_min"] == pytest.approx(least_steps, rel=0.05)
    assert found["E_min"] == pytest.approx(least_examples, rel=0.05)
    steps = fit("cbs_steps", frame, bootstrap=0, sensitivity=False)
    constants = {name: value.estimate for name, value in steps.parameters.items()}
    truth = 1.2 * 256 + least_examples / (5 * least_steps)
    assert critical_batch(constants, 256) == pytest.approx(truth, rel=0.05)


def test_the_critical_batch_costs_a_fifth_more_tokens():
    constants = {"a": 1500.0, "b": 3.1e6}
    critical = critical_batch(constants, 256)

    def tokens(batch):
        return (constants["a"] + constants["b"] / batch) * batch

    assert tokens(critical) == pytest.approx(1.2 * tokens(256))


@pytest.mark.public_data
def test_public_steps_to_target_follow_the_law(public):
    """Zhang et al.'s five models: R2 above 0.98 in logs and in steps for each."""
    table = public("critical_batch_size_steps_to_target.csv")
    frame = table.rename(columns={"batch_seqs": "B", "steps_to_target": "step"})
    for _, rows in frame.groupby("model_size"):
        result = fit("cbs_steps", rows.reset_index(drop=True), bootstrap=0, sensitivity=False)
        p = {name: value.estimate for name, value in result.parameters.items()}
        predicted, step = p["a"] + p["b"] / rows["B"], rows["step"]
        for found, seen in ((predicted, step), (np.log(predicted), np.log(step))):
            assert 1 - np.sum((found - seen) ** 2) / np.sum((seen - seen.mean()) ** 2) > 0.98
