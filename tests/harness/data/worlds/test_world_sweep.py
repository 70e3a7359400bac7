"""Sweeps over token worlds from the spec to the table: planned without being prepared, trained, mixed, refused."""

import json
import math

import pytest

from harness.data.world import parse_world
from harness.record.table import runs_table
from sweeps.grid import load

SPEC = """
name: worlds
defaults: {context: 32, batch: 8, width: 16, depth: 1, heads: 2, tokenizer: "symbols:73", probe_windows: 64}
blocks:
  - name: grammar
    defaults: {tokens: 50000, lr: 0.01, domain: "grammar:documents=3000"}
  - name: others
    defaults: {tokens: 4000}
    grid:
      domain:
        - "chaos:kinds=single,systems=4,trajectories=4,points=128,bins=24"
        - {"arithmetic:documents=400": 0.5, "gridworld:maps=40,observations=fine": 0.5}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("worlds") / "worlds.yaml"
    path.write_text(SPEC)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_worlds_train_like_any_corpus(spec, isogap, tmp_path):
    ended = isogap("run", spec, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert ended.status == 0, ended.out + ended.err
    runs = runs_table(tmp_path / "out")
    assert runs["status"].tolist() == ["done"] * 3
    assert max(runs["contamination"].tolist()) < 0.01
    # Above the entropy of the stream, and below that of a model that knows nothing but the vocabulary.
    world, options = parse_world("grammar:documents=3000")
    loss = runs.loc[runs["domain"].str.startswith("grammar"), "heldout_loss"].item()
    assert (world.entropy(options) or 0) < loss < math.log(73) - 0.3
    assert max(runs["heldout_loss"].tolist()) < math.log(73)
    # A symbol counts as one byte.
    assert all(0.9 < ratio < 1 for ratio in runs["bytes_per_token"].tolist())
    facts = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert len({hashes["corpus"] for hashes in facts["data"].values()}) == 4


def test_the_sizes_of_models_are_known_from_the_spec_alone(spec):
    sweep = load(str(spec))
    assert [config.model.vocab for config in sweep.configs] == [73] * 3
    assert sweep.configs[2].data.parts == (
        (0.5, "arithmetic:documents=400"), (0.5, "gridworld:maps=40,observations=fine"),
    )  # fmt: skip


@pytest.mark.slow
def test_a_vocabulary_that_is_too_small_is_the_reason_of_a_failed_run(isogap, tmp_path):
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC.partition("  - name: others")[0].replace("symbols:73", "symbols:72"))
    ended = isogap("run", spec, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    assert ended.status == 3
    (reason,) = runs_table(tmp_path / "out")["reason"]
    assert "expected symbols:73 or more for grammar:documents=3000" in reason
