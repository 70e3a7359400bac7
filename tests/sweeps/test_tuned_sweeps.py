"""The sweep that tunes another: the same cells at several rates."""

import pytest
import yaml

from sweeps.errors import InputError
from sweeps.grid import expand
from sweeps.spec import read_spec
from sweeps.tuning import rates_between, tuning_text

TEXT = """
name: sizes
defaults: {tokens: 20 N, context: 64, domain: installed}
blocks:
  - grid: {width: [16, 32], depth: [1]}
    seeds: 2
  - defaults: {lr: 0.004, params: 5e4}
    zip: {batch: [4, 8], clip: [1, 2]}
  - defaults: {params: 2e4, lr: {rule: power, c: 0.01, tokens: {at: 1e6, p: -0.3}}}
"""


def configs(text: str):
    return expand(read_spec(text, "spec.yaml"), "spec.yaml").configs


def test_every_cell_is_there_at_every_multiple_of_its_own_rate():
    own, factors = configs(TEXT), [0.5, 1.0, 3.0]
    tuned = configs(tuning_text(TEXT, "spec.yaml", factors=factors))
    wanted = sorted(
        (config.optimizer.lr * factor, config.model.width, config.seed) for config in own for factor in factors
    )
    found = sorted((config.optimizer.lr, config.model.width, config.seed) for config in tuned)
    assert [f[1:] for f in found] == [w[1:] for w in wanted]
    assert [f[0] for f in found] == pytest.approx([w[0] for w in wanted], rel=1e-5)
    # The runs at the sweep's own rates are its own runs: what a tuning has trained need not be trained again.
    assert {config.run_id for config in own} <= {config.run_id for config in tuned}


def test_a_range_takes_the_place_of_the_rates():
    tuned = configs(tuning_text(TEXT, "spec.yaml", rates=[1e-3, 1e-2]))
    assert len(tuned) == 2 * len(configs(TEXT))
    assert {config.optimizer.lr for config in tuned} == {1e-3, 1e-2}


def test_rates_between_two_ends_are_about_doubled():
    assert rates_between(1e-3, 8e-3) == pytest.approx([1e-3, 2e-3, 4e-3, 8e-3])
    rates = rates_between(1e-4, 3e-2)
    assert rates[0] == 1e-4 and rates[-1] == 3e-2
    ratios = [b / a for a, b in zip(rates, rates[1:], strict=False)]
    assert all(1.7 < ratio < 2.4 for ratio in ratios) and max(ratios) / min(ratios) < 1.001


@pytest.mark.parametrize("axes", [{"grid": {"lr": [1e-3, 2e-3]}}, {"zip": [{"lr": [1e-3], "batch": [4]}]}])
def test_a_rate_that_is_an_axis_already_is_refused(axes):
    text = yaml.safe_dump({"name": "a", "defaults": {"params": 1e4, "tokens": 1e4}, "blocks": [axes]})
    with pytest.raises(InputError, match=r"spec.yaml: blocks\[0\]: got 'an axis lr'"):
        tuning_text(text, "spec.yaml", factors=[1.0])
