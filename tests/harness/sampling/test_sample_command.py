"""Trained models out of a sweep's folder: what they predict is what was recorded, and what they write is text."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from harness.record.segments import read_segments
from harness.record.status import run_folder
from harness.record.table import segments_table
from harness.train.checkpoint import save_final
from harness.train.final_model import load_model
from harness.train.run_batches import opener
from models.compute import Compute
from models.config import TrainingObjective, make_config
from models.intervention import get_intervention
from models.interventions.quantize import represent
from models.transformer import init, token_losses
from sweeps.errors import InputError


@pytest.fixture(scope="module")
def kept(finished_runs):
    """A run of the laboratory that keeps its final parameters."""
    return next(run for run in finished_runs if run.keep == "final")


def test_a_loaded_model_has_the_losses_that_were_recorded(finished, kept, lab):
    model = load_model(run_folder(finished, kept.run_id))
    assert model.config == kept.model
    batches = opener(lab.cache)(kept)
    windows = batches.probe_tokens(kept.steps)
    losses, _, _ = token_losses(
        model.config, model.params, model.biases, jnp.asarray(windows), training=False, compute=Compute(), tap=model.tap
    )
    evals = segments_table(finished, "evals")
    last = evals[(evals["run_id"] == kept.run_id) & (evals["step"] == kept.steps)].set_index("probe")["loss"]
    for probe, each in batches.split_losses(kept.steps, np.asarray(losses)).items():
        assert each.mean() == pytest.approx(last[probe], rel=1e-5)


def test_parameters_are_loaded_as_the_forward_pass_sees_them(kept, tmp_path):
    """Weights of four bits, and activations of four bits."""
    quantize, activations = (get_intervention(name) for name in ("quantize", "activations"))
    run = kept.model_copy(update={"interventions": (activations.fields("int4"), quantize.fields("int4"))})
    params, biases = init(run.model, jax.random.key(1))
    (tmp_path / "config.json").write_text(run.canonical_json())
    save_final(tmp_path, (params, biases), {"steps": run.steps})
    model = load_model(tmp_path)
    before, after = (nnx.to_pure_dict(each) for each in (params, model.params))
    up = before["blocks"][0]["ffn"]["up"]
    np.testing.assert_allclose(after["blocks"][0]["ffn"]["up"], represent(up, "int4"), rtol=1e-6)
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    row = np.asarray(jax.random.normal(jax.random.key(2), (1, 16)))
    assert len(np.unique(model.tap("branch_in", row))) <= 16 and model.tap("block_in", row) is row


def test_samples_are_text_and_repeat_with_their_seed(finished, kept, isogap, lab):
    def written(*options: object) -> list[dict]:
        common = ("--run", kept.run_id, "--cache", lab.cache, "--json", "--count", 3)
        ended = isogap("sample", finished, *common, *options)
        assert ended.status == 0, ended.err
        return json.loads(ended.out)

    first = written("--prompt", "ab")
    assert len(first) == 3 and len({each["completion"] for each in first}) == 3
    for each in first:
        assert bytes(each["ids"]).decode(errors="replace") == each["completion"]
        assert len(each["ids"]) == 14 or each["ended"]  # 16 positions and one; less the prompt and the token before it
    assert written("--prompt", "ab") == first != written("--prompt", "ab", "--seed", 1)
    likely = written("--temperature", 0, "--tokens", 4)  # of an empty prompt
    assert likely[0] == likely[1] == likely[2] and (len(likely[0]["ids"]) == 4 or likely[0]["ended"])
    printed = isogap("sample", finished, "--run", kept.run_id, "--cache", lab.cache, "--prompt", "ab", "--count", 3).out
    assert printed == "".join(f"--- {number}\nab{each['completion']}\n" for number, each in enumerate(first, 1))


@pytest.fixture(scope="module")
def of_world(finished, kept, tmp_path_factory):
    """(A folder of a model of 5 ids and the end, and of one with masks; their runs)."""
    out, runs = tmp_path_factory.mktemp("world"), []
    for objective in (None, TrainingObjective("masked")):
        model = make_config("dense", vocab=6, context=8, width=16, depth=1, heads=2, objective=objective)
        data = kept.data.model_copy(update={"domain": "grammar", "tokenizer": "symbols:6"})
        runs.append(kept.model_copy(update={"model": model, "data": data}))
        folder = run_folder(out, runs[-1].run_id)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(runs[-1].canonical_json())
        save_final(folder, init(model, jax.random.key(1)), {"steps": runs[-1].steps})
    (out / "configs.jsonl").write_text("".join(f"{run.canonical_json()}\n" for run in runs))
    (out / "manifest.json").write_text(json.dumps({"runs": [run.run_id for run in runs]}))
    return out, runs


def test_token_worlds_are_prompted_with_ids_and_write_ids(of_world, isogap):
    out, (run, masked) = of_world
    ended = isogap("sample", out, "--run", run.run_id, "--prompt", "3 0", "--tokens", 4, "--count", 20, "--json")
    assert ended.status == 0, ended.err
    written = json.loads(ended.out)
    for each in written:
        assert [int(word) for word in each["completion"].split()] == each["ids"] and set(each["ids"]) <= set(range(5))
    assert {each["ended"] for each in written} == {True, False}
    for run_id, prompt, word in (
        (run.run_id, "3+0", "0 to 4"),
        (run.run_id, "5", "0 to 4"),
        (masked.run_id, "", "masked"),
    ):
        ended = isogap("sample", out, "--run", run_id, "--prompt", prompt)
        assert ended.status == 2 and word in ended.err and ended.err.count("\n") == 1, ended


def test_runs_that_have_no_model_are_refused_in_one_line(finished, finished_runs, kept, isogap, lab, tmp_path):
    lost = next(run for run in finished_runs if run.keep == "none")
    for run_id, options, word in (
        ("nonesuch", (), "nonesuch"),
        (lost.run_id, (), "keep"),
        (kept.run_id, ("--tokens", 17), "at most 17"),
        (kept.run_id, ("--prompt", "a" * 17), "at most 17"),
    ):
        ended = isogap("sample", finished, "--run", run_id, "--cache", lab.cache, *options)
        assert ended.status == 2 and ended.err.startswith("isogap: ") and ended.err.count("\n") == 1, ended
        assert word in ended.err
    ended = isogap("sample", tmp_path, "--run", kept.run_id)
    assert ended.status == 2 and "manifest.json" in ended.err


def test_folders_without_a_whole_model_are_refused(finished, kept, tmp_path):
    copy = tmp_path / kept.run_id
    shutil.copytree(run_folder(finished, kept.run_id), copy)
    assert read_segments(copy, "evals") is not None
    data = next(path for path in (copy / "final").rglob("*") if path.is_file() and path.name.startswith("_METADATA"))
    data.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        load_model(copy)
    (copy / "final.json").unlink()
    with pytest.raises(InputError, match="a run that is done"):
        load_model(copy)
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)
