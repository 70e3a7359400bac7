"""Learning rates of a sweep's runs: rules in a run's own sizes, and one rate for all sizes."""

import math
from typing import Any

import pytest
import yaml

from models.config import BaseSize
from sweeps.config import RunConfig
from sweeps.grid import Sweep, expand
from sweeps.spec import read_spec


def sweep_of(block: dict[str, Any], **defaults: Any) -> Sweep:
    spec = {"name": "test", "defaults": {"params": 1e5, "tokens": 1e5} | defaults, "blocks": [block]}
    return expand(read_spec(yaml.safe_dump(spec), "spec.yaml"), "spec.yaml")


def test_a_rate_rule_reads_the_rounded_sizes_of_the_run():
    rule = {"rule": "power", "c": 1e-3, "batch_tokens": {"at": 512, "p": 0.5}, "tokens": {"at": 1e5, "p": -0.3}}
    grid = {"lr": rule, "batch": [8, 24], "tokens": [123_456, "30 N"]}
    configs = sweep_of({"grid": grid}, params=20_000, context=64).configs
    for config in configs:
        wanted = 1e-3 * math.sqrt(config.batch * 64 / 512) * (config.tokens / 1e5) ** -0.3
        assert config.optimizer.lr == pytest.approx(wanted, rel=1e-5)
    assert len({config.optimizer.lr for config in configs}) == 4


def test_one_rate_for_all_sizes():
    complete = {"parametrization": "complete_p", "base_width": 32, "depth": 4, "context": 64}
    narrow, wide = sweep_of({"grid": {"width": [32, 128]}, "defaults": complete}).configs
    assert narrow.model.base == wide.model.base == BaseSize(32, 2, 16)
    assert narrow.optimizer.lr == wide.optimizer.lr == float(f"{0.02 / math.sqrt(32):.6g}")
    (refused,) = sweep_of({"grid": {"width": 32, "optimizer": "sgd"}, "defaults": complete}).cells
    assert refused.config is None and "CompleteP is a parametrisation for adamw" in str(refused.reason)
    power = {"rule": "power", "c": 1e-3, "width": {"at": 32, "p": -1}}
    (of_width,) = sweep_of({"grid": {"width": 128, "lr": power}, "defaults": complete}).configs
    assert of_width.optimizer.lr == 2.5e-4
    # The standard parametrisation leaves no trace in a run, so that runs keep the ids that they had without CompleteP.
    (standard,) = sweep_of({"grid": {"width": 32, "depth": 4}}).configs
    assert '"base"' not in standard.canonical_json() and '"base"' in wide.canonical_json()
    assert RunConfig.model_validate_json(wide.canonical_json()) == wide
