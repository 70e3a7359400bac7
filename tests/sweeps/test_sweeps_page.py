"""The page of sweeps names every key and every default that there is."""

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml

from models.intervention import defaults_of, field_types
from sweeps.cells import DEFAULTS, DERIVED
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig
from sweeps.grid import expand
from sweeps.rules import RateRule
from sweeps.spec import INTERVENTION_SETTINGS, Block, OwnSettings, Spec, read_spec

PAGE = (Path(__file__).parents[2] / "sweeps" / "README.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, list[str]]:
    """The rows of a section's table: the key in their first cell -> the other cells."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("The sweep", Spec.model_fields),
        ("A block", Block.model_fields),
        ("Settings", OwnSettings.__annotations__),
        ("Interventions", INTERVENTION_SETTINGS),
    ],
)
def test_every_key_stands_on_the_page(section, fields):
    assert set(rows(section)) == set(fields)


def test_the_defaults_on_the_page_are_those_of_a_sweep():
    given = {key: cells[-1].strip("`") for key, cells in rows("Settings").items()}
    kept = {
        field: model.model_fields[field].default
        for model in (DataConfig, OptimizerConfig, RunConfig)
        for field in given
        if field in model.model_fields and not model.model_fields[field].is_required()
    }
    kept |= {"optimizer": OptimizerConfig.model_fields["kind"].default}
    kept |= {"probe_windows": ProbeConfig().windows, "probes_per_octave": ProbeConfig().per_octave}
    for key, default in {**kept, **DEFAULTS}.items():
        if default is None:
            continue  # the page says by what it is chosen
        said = yaml.safe_load(
            re.sub(r"e-", ".0e-", given[key]) if re.fullmatch(r"\d+e-\d+", given[key]) else given[key]
        )
        assert (RateRule(**said) if isinstance(default, RateRule) else said) == default, key


def test_the_page_says_which_values_interventions_take_and_their_defaults():
    for setting, (meaning, values, default) in rows("Interventions").items():
        name, field = INTERVENTION_SETTINGS[setting]
        hint = field_types(name)[field]
        assert meaning and yaml.safe_load(default.strip("`")) == getattr(defaults_of(name), field)
        if get_origin(hint) is Literal:
            assert tuple(re.findall(r"`([^`]+)`", values)) == get_args(hint)


def test_filters_may_read_what_the_page_says():
    text = PAGE.split("`where` may also read")[1].split("D is rounded")[0]
    assert set(re.findall(r"`(\w+)`", text)) - {"a", "b"} == {*DERIVED, "half"}


def test_the_example_of_the_page_is_a_sweep():
    example = re.search(r"```yaml[^\n]*\n(.*?)```", PAGE, re.DOTALL)
    assert example
    spec = read_spec(example[1], "README.md")
    every = spec.model_copy(update={"blocks": [spec.blocks[0].model_copy(update={"where": None})]})
    assert len(expand(every, "README.md").cells) == 2 * 2 * 2 * 3 * 2 * 2  # every combination, times pairs, times seeds
    kept = expand(spec, "README.md").configs
    assert kept and all(config.tokens > 1e3 for config in kept)
