"""The compiled programs of a pack: train R runs for many turns, evaluate one run, start runs, put runs into slots.

Sizes: R runs (slots), at most k turns per dispatch, m sequences per micro-batch, T context; the windows of all probe
sets together are evaluated in at most P chunks of n.
"""

import concurrent.futures
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from harness.train.accelerators import Accelerator, accelerator_of
from harness.train.optimizer import Hyper, hyper_like
from harness.train.step import Metrics, TrainState, new_state, train_turn
from models.compute import Compute
from models.count import flops
from models.moe import can_split_batch
from models.transformer import token_losses
from sweeps.shape import Shape, run_bytes, state_bytes


class Shardings(NamedTuple):
    """How arrays from the host are laid out on the devices.

    `runs` splits arrays by run, `tokens` the micro-batches of several turns by run and sequence, and `windows` the
    windows of an evaluation; `replicated` puts the whole array on every device.
    """

    runs: NamedSharding
    tokens: NamedSharding
    windows: NamedSharding
    replicated: NamedSharding


def shardings_of(mesh: Mesh) -> Shardings:
    """The layouts on a mesh with the axes (run, data)."""
    specs = (("run",), (None, "run", "data"), ("run", "data"), ())
    return Shardings(*(NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs))


class Programs(NamedTuple):
    """The compiled programs of one shape at one pack size.

    Attributes:
        initialise: seeds [R] -> TrainState.
        enter: (state, entering, mask [R]) -> TrainState that has `entering` where the mask is true and `state`
            elsewhere; `state` is donated.
        advance: (state, Hyper, tokens [k, R, m, T+1], count) -> (TrainState, Metrics [k, R]) after `count` <= k turns;
            the state is donated, so that the new one takes its buffers.
        evaluate: (params, biases, slot, tokens [P, n, T+1], count) -> losses [P, n, T] of the run in that slot, nats,
            of the first `count` chunks of each device along `run`, and 0 for the others.
        turns: k, the most turns of one dispatch.
        mesh: the devices, with the axes (run, data).
        shardings: the layouts of hyper and masks, tokens, windows, and scalars.
    """

    initialise: Callable[..., TrainState]
    enter: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., Float[Array, "P n T"]]
    turns: int
    mesh: Mesh
    shardings: Shardings


class Key(NamedTuple):
    """Everything that programs depend on; equal keys share one compilation.

    Attributes:
        sharded: whether the parameters and moments of each run are split over the devices along `data` (FSDP).
    """

    shape: Shape
    slots: int
    compute: Compute
    mesh: Mesh
    sharded: bool = False


def mesh_for(slots: int, micro_batch: int, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh (run, data) with the most devices along `run` that divide the slots, then along `data` the micro-batch.

    The remaining devices are not used.
    """
    if devices is None:  # a process's devices lie side by side; the first process, which decides, is in every mesh
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    along_run = max(n for n in range(1, len(devices) + 1) if slots % n == 0)
    along_data = max(n for n in range(1, len(devices) // along_run + 1) if micro_batch % n == 0)
    used = devices[: along_run * along_data]
    return Mesh(np.asarray(used).reshape(along_run, along_data), ("run", "data"))


_lock = threading.Lock()
_making: dict[Key, threading.Lock] = {}
_made: dict[Key, Programs] = {}


def programs(key: Key) -> Programs:
    """The programs, compiled once in a process; a caller waits while another thread compiles them."""
    with _lock:
        making = _making.setdefault(key, threading.Lock())
    with making:
        if key not in _made:
            _made[key] = _compile(key)
        return _made[key]


def compile_ahead(key: Key) -> concurrent.futures.Future[Programs]:
    """The programs, compiled in a thread of their own; a process does not exit before the thread has ended."""
    executor = concurrent.futures.ThreadPoolExecutor(1, "isogap-compile")
    future = executor.submit(programs, key)
    executor.shutdown(wait=False)
    return future


def _compile(key: Key) -> Programs:
    compiled, turns = compile_some(key, ("initialise", "enter", "advance", "evaluate"))
    return Programs(**compiled, turns=turns, mesh=key.mesh, shardings=shardings_of(key.mesh))


def compile_some(key: Key, names: Collection[str]) -> tuple[dict[str, Any], int]:
    """(The programs of these names, the number k of turns of a dispatch)."""
    platform = key.mesh.devices.flat[0].platform
    turns = dispatch_turns(key.shape.turn_flops * key.slots, accelerator_of(key.mesh.devices.flat[0]))
    options = compiler_options(platform, key.mesh.devices.size)
    traced = trace(key, turns)
    return {name: traced[name].lower().compile(options) for name in names}, turns


def trace(key: Key, turns: int) -> dict[str, Any]:
    """The programs by name, traced for their shapes, to be lowered for any platform."""
    shape, slots, compute, mesh, sharded = key
    laid = shardings_of(mesh)
    slots_here, alone = slots // mesh.shape["run"], mesh.shape["run"] == 1
    # On accelerators the compiler splits the batch over `data` and adds up the gradients. CPU devices synchronise for
    # each array that they add up. So on CPUs the step splits the batch by hand and adds up all gradients as one array:
    # with 36 synchronisations fewer, a step of 4 layers of width 128 takes 142 ms instead of 150. Mixtures gain more,
    # because the compiler made every device compute all slots of all experts. Mixtures that drop tokens are still split
    # by the compiler, because they route over the whole batch.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    by_hand_over_data = on_cpu and not sharded and mesh.shape["data"] > 1 and can_split_batch(shape.model.moe)
    axes, tokens_spec = {"run"}, PartitionSpec(None, "run")
    if by_hand_over_data:
        axes, tokens_spec = {"run", "data"}, laid.tokens.spec
    turn_compute = dataclasses.replace(compute, batch_axis="data" if by_hand_over_data else None)
    chunks = 1 if sharded else chunks_of(shape, slots_here, mesh.shape["data"], on_cpu)

    def initialise(seeds: UInt32[Array, " R"]) -> TrainState:
        return jax.vmap(functools.partial(new_state, shape))(seeds)

    def enter(state: TrainState, entering: TrainState, mask: Bool[Array, " R"]) -> TrainState:
        def choose(old, new):
            return jnp.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, state, entering)

    def advance(state: TrainState, hyper: Hyper, tokens: Int[Array, "k R m T+1"], count: Int[Array, ""]):
        turn = jax.vmap(functools.partial(train_turn, shape, turn_compute, chunks=chunks))

        def body(index, carry):
            state, record = carry
            state, metrics = turn(state, hyper, jax.lax.dynamic_index_in_dim(tokens, index, keepdims=False))
            return state, jax.tree.map(lambda rows, row: rows.at[index].set(row), record, metrics)

        empty = Metrics(*(jnp.zeros(tokens.shape[:2], jnp.float32) for _ in Metrics._fields))
        # The loop has `count` turns, not k, so that runs may end and be evaluated after any turn at no cost.
        return jax.lax.fori_loop(0, count, body, (state, empty))

    def evaluate(
        params: nnx.State, biases: nnx.State, slot: Int[Array, ""], tokens: Int[Array, "P n T+1"], count: Int[Array, ""]
    ):
        # The run's parameters are sent to all devices, which share the chunks.
        local = slot - (0 if alone else jax.lax.axis_index("run") * slots_here)

        def of_slot(leaf):
            inside = (local >= 0) & (local < leaf.shape[0])
            mine = jax.lax.dynamic_index_in_dim(leaf, jnp.where(inside, local, 0), keepdims=False)
            return mine if alone else jax.lax.psum(jnp.where(inside, mine, 0), "run")

        params, biases = jax.tree.map(of_slot, (params, biases))

        def body(index, losses):
            chunk = jax.lax.dynamic_index_in_dim(tokens, index, keepdims=False)
            of_chunk = token_losses(shape.model, params, biases, chunk, training=False, compute=compute)[0]
            return losses.at[index].set(of_chunk)

        losses = jnp.zeros((*tokens.shape[:2], tokens.shape[2] - 1), jnp.float32)
        return jax.lax.fori_loop(0, count, body, losses)

    def by_hand(axes, function, in_specs, out_specs):
        # Split over `run` by hand, so that no compiler pass ever moves one run's numbers to another's device.
        if all(mesh.shape[axis] == 1 for axis in axes):
            return function
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=axes, check_vma=False
        )

    def traced(function, ins, out, *arguments, donate=()):
        jitted = jax.jit(function, donate_argnums=donate, in_shardings=ins, out_shardings=out)
        return jitted.trace(*arguments)

    seeds = jax.ShapeDtypeStruct((slots,), jnp.uint32)
    state = jax.eval_shape(initialise, seeds)
    placed = jax.tree.map(lambda leaf: NamedSharding(mesh, _split(leaf.shape, mesh)) if sharded else laid.runs, state)
    windows = jax.ShapeDtypeStruct((*evaluation_chunks(shape, mesh), shape.model.context + 1), jnp.int32)
    tokens = jax.ShapeDtypeStruct((turns, slots, shape.micro_batch, shape.model.context + 1), jnp.int32)
    scalar, mask = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((slots,), jnp.bool_)
    runs, replicated = laid.runs.spec, laid.replicated.spec
    advance = by_hand(axes, advance, (runs, runs, tokens_spec, replicated), (runs, PartitionSpec(None, "run")))
    evaluate = by_hand({"run"}, evaluate, (runs, runs, replicated, runs, replicated), runs)
    advance_ins = (placed, laid.runs, laid.tokens, laid.replicated)
    evaluate_ins = (placed.params, placed.biases, laid.replicated, laid.windows, laid.replicated)
    return {
        "initialise": traced(initialise, laid.runs, placed, seeds),
        "enter": traced(enter, (placed, placed, laid.runs), placed, state, state, mask, donate=0),
        "advance": traced(
            advance, advance_ins, (placed, laid.replicated), state, hyper_like(slots), tokens, scalar, donate=0
        ),
        "evaluate": traced(
            evaluate, evaluate_ins, laid.replicated, state.params, state.biases, scalar, windows, scalar
        ),
    }


# The most hidden features that a device computes at once (256 kB of float32), which keeps a core's work in its caches.
# On two cores, a turn without chunks, with chunks of 2^18 and with chunks of 2^16 features took 154, 149 and 148 ms for
# 4 layers of width 128 (in 77, 43 and 25 MB), and 18.5, 18.5 and 16.4 ms for 4 slots of 2 layers of width 32.
CHUNK_FEATURES = 2**16


def chunks_of(shape: Shape, slots: int, devices: int, on_cpu: bool) -> int:
    """The number of chunks of sequences in which a device computes its share of a micro-batch.

    There are at least two, because the noise of a gradient is estimated from the difference of theirs; on CPUs there
    are more, as CHUNK_FEATURES says. There is one for mixtures, whose losses depend on the whole batch, and where the
    compiler splits a batch over accelerators.

    Args:
        slots: number of slots that one device computes together.
        devices: number of devices that share the micro-batch.
    """
    if shape.model.moe is not None or shape.micro_batch % devices or (devices > 1 and not on_cpu):
        return 1
    sequences = shape.micro_batch // devices
    divisors = [n for n in range(1, sequences + 1) if sequences % n == 0]
    several = [n for n in divisors if n > 1 or sequences == 1]
    features = slots * shape.model.context * max(shape.model.ffn_width, shape.model.width)
    fitting = [n for n in several if not on_cpu or features * sequences // n <= CHUNK_FEATURES]
    return min(fitting, default=sequences)


def _split(dims: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The layout that splits an array by run, and over `data` its longest other axis that divides evenly."""
    fitting = [axis for axis in range(1, len(dims)) if dims[axis] % mesh.shape["data"] == 0]
    if not fitting:
        return PartitionSpec("run")
    longest = max(fitting, key=lambda axis: dims[axis])
    return PartitionSpec("run", *[None] * (longest - 1), "data")


def compiler_options(platform: str, devices: int) -> dict[str, str]:
    """Options of XLA by platform and number of devices."""
    if platform != "cpu":
        return {}
    # This disables a library of fused kernels for matrix products and reductions. The reductions of a vmapped backward
    # pass took 164 of 535 ms with it; without the library a step of 4 layers of width 128 went from 247 to 197 ms.
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    # This pass splits loops over elements among the threads, but here each thread already has its own device. Without
    # the pass a step of 4 layers of width 128 on two devices took 77.1 ms instead of 79.2.
    return options if devices == 1 else options | {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}


def evaluation_chunks(shape: Shape, mesh: Mesh) -> tuple[int, int]:
    """(P, n): the P chunks of n windows that cover the largest evaluation; the devices along `run` divide the chunks.

    A chunk has at most about `evaluation_tokens` tokens, for any number of devices.
    """
    windows = shape.probe_windows
    together = evaluation_tokens(shape, accelerator_of(mesh.devices.flat[0]))
    rows = min(windows, max(1, together // shape.model.context))
    rows += -rows % mesh.shape["data"]
    chunks = -(-windows // rows)
    return chunks + -chunks % mesh.shape["run"], rows


def evaluation_tokens(shape: Shape, accelerator: Accelerator | None) -> int:
    """The tokens that an evaluation computes at once.

    On CPUs (None) they are 1,024: 8 to 10 % less time than 4,096 at widths 32 to 128. An accelerator is given a
    millisecond of work at its peak, and at least 4,096 tokens, but no more than fit into a twentieth of its memory by
    the estimate for training, which keeps more. It is a power of two, so that a little more memory changes no program.
    """
    if accelerator is None:
        return 1024
    tokens = 4096.0
    if accelerator.peak is not None:
        tokens = max(tokens, 1e-3 * accelerator.peak / flops(shape.model).forward)
    if accelerator.memory is not None:
        of_token = (run_bytes(shape) - state_bytes(shape)) / shape.turn_tokens
        tokens = max(1.0, min(tokens, accelerator.memory / 20 / of_token))
    return 1 << int(math.log2(tokens))


def dispatch_turns(flops_per_turn: float, accelerator: Accelerator | None) -> int:
    """The number k: enough turns to outweigh the overhead of a dispatch, few enough to handle a signal within seconds.

    They take about 1e11 FLOPs on a CPU (None; 1 to 2 s on two cores). On an accelerator they would take 20 ms at its
    peak; small models reach a hundredth of that and take 2 s. Unknown ones are taken for an H100. k is 1 to 128.
    """
    budget = 1e11 if accelerator is None else 0.02 * (accelerator.peak or 989e12)
    return int(min(128, max(1, budget // flops_per_turn)))
