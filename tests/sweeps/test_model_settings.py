"""Settings of what a model predicts, and of which layers are mixtures."""

import yaml

from sweeps.grid import expand
from sweeps.spec import read_spec

BASE = {"params": 1e5, "tokens": 1e5}


def sweep_of(*blocks, **top):
    spec = {"name": "test", "defaults": dict(BASE), "blocks": list(blocks)} | top
    return expand(read_spec(yaml.safe_dump(spec), "spec.yaml"), "spec.yaml")


def test_ranges_of_ids_that_count():
    """Sorted and joined, so that one meaning is one run; a text in filters and tables."""
    given_values = [[[[30, 30], [3, 9], [10, 12], [5, 6]]], ["all"], [[["7", 7.0]]]]
    cells = [sweep_of({"grid": {"counted": values}}).cells[0] for values in given_values]
    ranges = [cell.config and cell.config.model.aim.counted for cell in cells]
    assert ranges == [((3, 12), (30, 30)), None, ((7, 7),)]
    assert [cell.values["counted"] for cell in cells] == ["3-12 30-30", "all", "7-7"]
    assert cells[1].config == sweep_of({}).cells[0].config
    beyond = sweep_of({"grid": {"counted": [[[0, 257]]]}}).cells[0]
    assert beyond.config is None and "counted ends at 257" in str(beyond.reason)
    ragged = sweep_of({"grid": {"patch": [3]}}, defaults=BASE | {"context": 64}).cells[0]
    assert ragged.config is None and "context 64 must be a multiple of patch 3" in str(ragged.reason)


def test_a_mixture_in_every_layer_or_in_few():
    sweep = sweep_of(
        {"grid": {"architecture": ["hash", "top2"], "moe_every": [1, 3]}, "defaults": {"width": 32, "depth": 6}}
    )
    layers = [[cell.config.model.is_moe_layer(layer) for layer in range(6)] for cell in sweep.cells if cell.config]
    assert [sum(own) for own in layers] == [6, 2, 6, 2]
    assert [cell.values["moe_every"] for cell in sweep.cells] == [1, 3, 1, 3]
