"""Settings of objectives and mixtures: from spec to cell, as columns, and what is refused."""

import pytest
import yaml

from models.count import count, parts
from sweeps.errors import InputError
from sweeps.grid import expand
from sweeps.spec import read_spec


def sweep_of(**block):
    spec = {"name": "test", "defaults": {"width": 32, "depth": 6, "tokens": 1e5}, "blocks": [block]}
    return expand(read_spec(yaml.safe_dump(spec), "spec.yaml"), "spec.yaml")


def test_ranges_of_ids_that_count():
    """Sorted and joined, so that one meaning is one run; a text in filters and tables."""
    given = [[[30, 30], [3, 9], [10, 12], [5, 6]], "all", [["7", 7.0]]]
    cells = [sweep_of(grid={"counted": [value]}).cells[0] for value in given]
    assert [cell.config and cell.config.model.aim.counted for cell in cells] == [((3, 12), (30, 30)), None, ((7, 7),)]
    assert [cell.values["counted"] for cell in cells] == ["3-12 30-30", "all", "7-7"]
    assert cells[1].config == sweep_of().cells[0].config
    chosen = sweep_of(grid={"counted": ["all", [[1, 2]]], "patch": [1, 2]}, where="counted == '1-2' and patch == 2")
    assert [cell.values["counted"] for cell in chosen.cells] == ["1-2"]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"counted": [[0, 257]]}, "counted ends at 257, but the vocabulary has 257 ids"),
        ({"patch": 3}, "context 128 must be a multiple of patch 3"),
        ({"architecture": "hash", "moe_every": 7}, "hash has one in every 7"),
    ],
)
def test_settings_that_do_not_fit_a_cell(setting, reason):
    (cell,) = sweep_of(defaults=setting).cells
    assert cell.config is None and reason in str(cell.reason)


def test_what_nothing_masks_needs_no_share():
    with pytest.raises(InputError, match="a run of its own"):
        sweep_of(grid={"mask_share": [0.15, 0.3]})
    shares = sweep_of(grid={"objective": ["next", "masked"]})
    assert [cell.values["mask_share"] for cell in shares.cells] == [0.0, 0.15]


def test_a_mixture_in_every_layer_or_in_few():
    sweep = sweep_of(grid={"architecture": ["hash", "top2"], "moe_every": [1, 3]})
    layers = [sum(map(cell.config.model.is_moe_layer, range(6))) for cell in sweep.cells if cell.config]
    assert layers == [6, 2, 6, 2] and [cell.values["moe_every"] for cell in sweep.cells] == [1, 3, 1, 3]


@pytest.mark.parametrize("architecture", ["hash", "switch_top1", "balanced", "reinforce"])
def test_any_number_of_experts_at_equal_active_parameters(architecture):
    sweep = sweep_of(grid={"experts": [1, 2, 4, 8, 16, 32, 64]}, defaults={"architecture": architecture})
    (dense,) = sweep_of(defaults={"architecture": "dense"}).configs
    assert len(sweep.configs) == 7
    for config in sweep.configs:
        beside = parts(config.model)["router"]
        assert count(config.model).active - beside == count(dense.model).active


@pytest.mark.parametrize(
    ("block", "field", "words"),
    [
        ({"grid": {"counted": [[[3, 1]]]}}, "blocks[0].grid.counted[0]", "ranges of ids, first and last"),
        ({"grid": {"counted": ["digits"]}}, "blocks[0].grid.counted[0]: got 'digits'", "ranges of ids"),
        ({"defaults": {"mask_share": 1}}, "blocks[0].defaults.mask_share: got 1", "less than 1"),
        ({"defaults": {"objective": "both"}}, "blocks[0].defaults.objective: got 'both'", "'next' or 'masked'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(block, field, words):
    with pytest.raises(InputError) as caught:
        sweep_of(**block)
    message = str(caught.value)
    assert message.startswith(f"spec.yaml: {field}") and words in message and "\n" not in message
