"""Trained models out of a sweep's folder."""

from pathlib import Path

import jax
from flax import nnx

from harness.files import read_bytes
from harness.train.checkpoint import read_final
from harness.train.interventions import evaluation_taps, seen
from harness.train.optimizer import hyper_of
from models.decode import TrainedModel
from models.intervention import get_intervention, name_of
from models.transformer import init
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.shape import MICRO_TOKENS, shape_of


def load_model(folder: Path) -> TrainedModel:
    """The model of a finished run, with its final parameters as the forward pass sees them.

    Args:
        folder: the run's own folder, see `harness.record.status.run_folder`.

    Raises:
        InputError: the folder is no run's; or the run has not ended, does not keep its parameters, or has an
            intervention that shows the forward pass other parameters by a state which is not kept.
    """
    try:
        run = RunConfig.model_validate_json(read_bytes(folder / "config.json"))
    except (OSError, ValueError) as error:
        got = None if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise InputError(folder, "config.json", got, "the configuration of a run that `isogap run` has begun") from None
    if run.keep == "none":
        raise InputError(folder, "keep", run.keep, "a run with `keep: final` or `keep: state` in its sweep")
    if not (folder / "final.json").is_file():
        raise InputError(folder, "final.json", None, "a run that is done, and so has final parameters")
    shape = shape_of(run, MICRO_TOKENS)
    for fields in shape.interventions:
        each = get_intervention(name_of(fields))
        if each.seen and each.begin:
            raise InputError(folder, "interventions", name_of(fields), "one whose parameters need no state of its own")
    like = jax.eval_shape(lambda key: init(run.model, key), jax.random.key(0))
    try:
        leaves = read_final(folder)
        params, biases = jax.tree.unflatten(jax.tree.structure(like), leaves[: len(jax.tree.leaves(like))])
    except ValueError as error:
        raise InputError(folder, "final", str(error), "the parameters that were kept") from None
    return model_of(run, *jax.device_put((params, biases)))


def model_of(run: RunConfig, params: nnx.State, biases: nnx.State) -> TrainedModel:
    """The model of a run with these parameters, as its forward pass sees them.

    Interventions that show the forward pass other parameters do so without a state of their own.
    """
    shape = shape_of(run, MICRO_TOKENS)
    own = ((),) * len(shape.interventions)
    return TrainedModel(run.model, seen(shape, hyper_of(run, 1), own, params), biases, evaluation_taps(shape))
