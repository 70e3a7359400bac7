"""The compiled programs of a pack: many training steps of R runs in one dispatch, and the evaluation of all of them.

Sizes: R runs (slots), k steps a dispatch at most, B sequences, T context, W probe windows.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from harness.train.optimizer import Hyper, init_moments, learning_rate, transform
from models.moe import shares_batch
from models.transformer import Compute, init, mean_loss, step_biases, token_losses
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig


class State(NamedTuple):
    """What training changes, of one run; with a leading axis on every leaf, of a pack.

    Attributes:
        alive: false once a loss or a gradient was not finite; the run is frozen from then on.
    """

    params: nnx.State
    biases: nnx.State
    moments: Any
    step: Int[Array, "*runs"]
    alive: Bool[Array, "*runs"]


class Metrics(NamedTuple):
    """What one step records of one run; stacked to [k, R] by a dispatch. The last four are of mixtures, else 0."""

    train_loss: Float[Array, "*steps_runs"]
    lr: Float[Array, "*steps_runs"]
    grad_norm: Float[Array, "*steps_runs"]
    load_cv: Float[Array, "*steps_runs"]
    drop_fraction: Float[Array, "*steps_runs"]
    router_entropy: Float[Array, "*steps_runs"]
    aux_loss: Float[Array, "*steps_runs"]


class Programs(NamedTuple):
    """The compiled programs of one signature at one pack size.

    Attributes:
        initialise: keys [R] -> State.
        advance: (State, Hyper, tokens [k, R, B, T+1], count) -> (State, Metrics [k, R]); runs `count` <= k steps and
            gives the State's buffers back for the new one (donated).
        evaluate: (params, biases, tokens [R, W, T+1]) -> losses [R, W, T], nats.
        mesh: devices by (run, data).
    """

    initialise: Callable[..., State]
    advance: Callable[..., tuple[State, Metrics]]
    evaluate: Callable[..., Float[Array, "R W T"]]
    mesh: Mesh


def train_step(
    config: RunConfig,
    compute: Compute,
    state: State,
    hyper: Hyper,
    tokens: Int[Array, "B T+1"],
    share_of: str | None = None,
) -> tuple[State, Metrics]:
    """One update of one run; a run past its last step, or not alive, keeps its state to the bit.

    Args:
        share_of: the mesh axis over whose devices the batch is split by hand; None where `tokens` is all of it.
    """
    compute = dataclasses.replace(compute, batch_axis=share_of)

    def objective(params):
        mean, stats, loads = mean_loss(config.model, params, state.biases, tokens, compute=compute)
        return mean + stats.aux_loss, (mean, stats, loads)

    (_, (loss, stats, loads)), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    if share_of is not None:
        flat, restore = ravel_pytree((gradient, loss, stats))
        gradient, loss, stats = restore(jax.lax.pmean(flat, share_of))
    rate = learning_rate(hyper, state.step)
    norm = optax.tree.norm(gradient)
    updates, moments = transform(config.optimizer.kind, hyper, rate).update(gradient, state.moments, state.params)
    params = cast(nnx.State, optax.apply_updates(state.params, updates))
    biases = step_biases(config.model, state.biases, loads)
    running = state.alive & (state.step < hyper.steps)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = State(params, biases, moments, state.step + 1, jnp.ones_like(state.alive))
    kept = jax.tree.map(lambda a, b: jnp.where(running & finite, a, b), new, state)
    alive = jnp.where(running, finite, state.alive)
    return kept._replace(alive=alive), Metrics(loss, rate, norm, *stats)


def new_state(config: RunConfig, key: Key[Array, ""]) -> State:
    """A run before its first step."""
    params, biases = init(config.model, key)
    return State(params, biases, init_moments(config.optimizer, params), jnp.int32(0), jnp.bool_(True))


def mesh_for(slots: int, batch: int, devices: Sequence[Any] | None = None) -> Mesh:
    """Devices by (run, data): as many along `run` as divide the slots, the rest along `data` as far as they divide the
    batch; those left over are not used."""
    devices = jax.devices() if devices is None else devices
    along_run = max(n for n in range(1, len(devices) + 1) if slots % n == 0)
    along_data = max(n for n in range(1, len(devices) // along_run + 1) if batch % n == 0)
    used = devices[: along_run * along_data]
    return Mesh(np.asarray(used).reshape(along_run, along_data), ("run", "data"))


def shape_key(config: RunConfig) -> RunConfig:
    """A representative of the run's signature: all that does not shape the program replaced by fixed values."""
    optimizer, probe = OptimizerConfig(kind=config.optimizer.kind, lr=1.0), ProbeConfig(windows=config.probe.windows)
    data = DataConfig(domain="", tokenizer="", unique_tokens=2**31)
    return RunConfig(model=config.model, data=data, optimizer=optimizer, probe=probe, steps=1, batch=config.batch)


def programs(config: RunConfig, slots: int, compute: Compute, mesh: Mesh) -> Programs:
    """The programs for runs of this signature, cached in the process: two packs of one signature compile once."""
    return _programs(shape_key(config), slots, compute, mesh)


@functools.lru_cache(maxsize=64)
def _programs(config: RunConfig, slots: int, compute: Compute, mesh: Mesh) -> Programs:
    platform = mesh.devices.flat[0].platform
    runs, replicated = PartitionSpec("run"), PartitionSpec()
    steps_runs = PartitionSpec(None, "run")
    batches, windows = PartitionSpec(None, "run", "data"), PartitionSpec("run", "data")
    # Over `data` the compiler splits the batch and adds up the gradients: the program is that of one device. Only on
    # CPUs, whose devices meet once for each array they add up, is it done by hand, all gradients as one array (36
    # meetings less: 4 layers of width 128 took 150 ms a step, and take 142). Mixtures were worse off: the compiler had
    # every device compute all slots of all experts. Those that drop tokens route over the whole batch, and stay its.
    share_of = "data" if platform == "cpu" and mesh.shape["data"] > 1 and shares_batch(config.model.moe) else None

    def initialise(keys: Key[Array, " R"]) -> State:
        return jax.vmap(functools.partial(new_state, config))(keys)

    def advance(state: State, hyper: Hyper, tokens: Int[Array, "k R B T+1"], count: Int[Array, ""]):
        step = jax.vmap(functools.partial(train_step, config, compute, share_of=share_of))

        def body(index, carry):
            state, record = carry
            state, metrics = step(state, hyper, jax.lax.dynamic_index_in_dim(tokens, index, keepdims=False))
            return state, jax.tree.map(lambda all_, one: all_.at[index].set(one), record, metrics)

        empty = Metrics(*(jnp.zeros(tokens.shape[:2], jnp.float32) for _ in Metrics._fields))
        # A loop of `count` turns, not of k: the run ends and the evaluations fall anywhere, at no cost.
        return jax.lax.fori_loop(0, count, body, (state, empty))

    def evaluate(params: nnx.State, biases: nnx.State, tokens: Int[Array, "R W T+1"]) -> Float[Array, "R W T"]:
        def one_run(params, biases, windows):
            # Strided, so that each device's share of the windows is a share of every piece.
            pieces = windows.reshape(evaluation_rows(config), -1, windows.shape[-1]).swapaxes(0, 1)
            losses = jax.lax.map(
                lambda piece: token_losses(config.model, params, biases, piece, training=False, compute=compute)[0],
                pieces,
            )
            return losses.swapaxes(0, 1).reshape(windows.shape[0], -1)

        return jax.vmap(one_run)(params, biases, tokens)

    def by_hand(axes, function, in_specs, out_specs):
        # Manual over `run`, so that no compiler pass ever moves one run's numbers to another's device.
        if all(mesh.shape[axis] == 1 for axis in axes):
            return function
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=axes, check_vma=False
        )

    def on(spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(mesh, spec)

    options = compiler_options(platform)
    axes, tokens_spec = ({"run"}, steps_runs) if share_of is None else ({"run", share_of}, batches)
    return Programs(
        jax.jit(initialise, out_shardings=on(runs)),
        jax.jit(
            by_hand(axes, advance, (runs, runs, tokens_spec, replicated), (runs, steps_runs)),
            donate_argnums=0,
            in_shardings=(on(runs), on(runs), on(batches), on(replicated)),
            out_shardings=(on(runs), on(steps_runs)),
            compiler_options=options,
        ),
        jax.jit(
            by_hand({"run"}, evaluate, (runs, runs, runs), runs),
            in_shardings=(on(runs), on(runs), on(windows)),
            out_shardings=on(windows),
            compiler_options=options,
        ),
        mesh,
    )


def compiler_options(platform: str) -> dict[str, str]:
    """Options of XLA by platform."""
    # A library of fused kernels that XLA hands matrix products and reductions to: the reductions of a vmapped backward
    # pass took 164 of 535 ms there, and without it the step of 4 layers of width 128 went from 247 to 197 ms.
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if platform == "cpu" else {}


def evaluation_rows(config: RunConfig) -> int:
    """Windows evaluated at once: the largest divisor of the probe's windows within about 4,096 tokens."""
    windows = config.probe.windows
    most = max(1, 4096 // config.model.context)
    return max(n for n in range(1, windows + 1) if windows % n == 0 and n <= most)


def dispatch_steps(flops_per_step: float, platform: str) -> int:
    """k: enough steps that a dispatch is worth its overhead, few enough that a signal is answered within seconds.

    About 1e11 FLOPs on a CPU (1 to 2 s on two cores), two hundred times that on an accelerator; 1 to 128 steps.
    """
    budget = 1e11 if platform == "cpu" else 2e13
    return int(min(128, max(1, budget // flops_per_step)))
