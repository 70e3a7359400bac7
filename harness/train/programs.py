"""The compiled programs of a pack: train R runs for many turns, evaluate one run, start runs, put runs into slots.

Sizes: R runs (slots), at most k turns per dispatch, m sequences per micro-batch, T context; those of an evaluation are
in `harness.train.evaluation`.
"""

import concurrent.futures
import dataclasses
import functools
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from harness.train import interventions
from harness.train.accelerators import Accelerator, accelerator_of
from harness.train.evaluation import Layout, evaluation_program, layout_of
from harness.train.optimizer import Hyper, hyper_like
from harness.train.step import Metrics, TrainState, new_state, train_turn
from models.compute import Compute
from sweeps.shape import Shape


class Shardings(NamedTuple):
    """How arrays from the host are laid out on the devices.

    `runs` splits arrays by run, `tokens` micro-batches by run and sequence and the windows of an evaluation by unit and
    window, `units` the slots of these units; `replicated` puts the whole array on every device.
    """

    runs: NamedSharding
    tokens: NamedSharding
    units: NamedSharding
    replicated: NamedSharding


def shardings_of(mesh: Mesh) -> Shardings:
    """The layouts on a mesh with the axes (run, data)."""
    specs = (("run",), (None, "run", "data"), (None, "run"), ())
    return Shardings(*(NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs))


class Programs(NamedTuple):
    """The compiled programs of one shape at one pack size.

    Attributes:
        initialise: Hyper -> TrainState.
        enter: (state, entering, mask [R]) -> TrainState that has `entering` where the mask is true and `state`
            elsewhere; `state` is donated.
        advance: (state, Hyper, tokens [k, R, m, T+1], count) -> (TrainState, Metrics [k, R]) after `count` <= k turns;
            the state is donated, so that the new one takes its buffers.
        evaluate: (params, biases, slots [P, C], tokens [P, C, n, T+1], count) -> losses [P, C, n, T] in nats of the
            first `count` chunks, and 0 for the others; `harness.train.evaluation.deal` makes its arguments.
        turns: k, the most turns of one dispatch.
        layout: how evaluations take windows.
        mesh: the devices, with the axes (run, data).
        shardings: the layouts of hyper and masks, tokens, units, and scalars.
        views: (params, own, Hyper) -> name -> parameters to evaluate; None where they are those of the state.
    """

    initialise: Callable[..., TrainState]
    enter: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., Float[Array, "P C n T"]]
    turns: int
    layout: Layout
    mesh: Mesh
    shardings: Shardings
    views: Callable[..., dict[str, nnx.State]] | None = None


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
    further = ("views",) if interventions.has_views(key.shape) else ()
    compiled, turns = compile_some(key, ("initialise", "enter", "advance", "evaluate", *further))
    layout = layout_of(key.shape, key.slots, key.mesh)
    return Programs(**compiled, turns=turns, layout=layout, mesh=key.mesh, shardings=shardings_of(key.mesh))


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
    layout = layout_of(shape, slots, mesh)
    # On accelerators the compiler splits the batch over `data` and adds up the gradients. CPU devices synchronise for
    # each array that they add up. So on CPUs the step splits the batch by hand and adds up all gradients as one array:
    # with 36 synchronisations fewer, a step of 4 layers of width 128 takes 142 ms instead of 150. Mixtures gain more,
    # because the compiler made every device compute all slots of all experts; those that drop tokens count the tokens
    # of all devices against an expert's capacity (a step of switch_top1 takes 67 ms instead of 84).
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    by_hand_over_data = on_cpu and not sharded and mesh.shape["data"] > 1
    axes, tokens_spec = {"run"}, PartitionSpec(None, "run")
    if by_hand_over_data:
        axes, tokens_spec = {"run", "data"}, laid.tokens.spec
    turn_compute = dataclasses.replace(compute, batch_axis="data" if by_hand_over_data else None)
    chunks = 1 if sharded else chunks_of(shape, layout.slots, mesh.shape["data"], on_cpu)

    def initialise(hyper: Hyper) -> TrainState:
        return jax.vmap(functools.partial(new_state, shape))(hyper)

    def views(params: nnx.State, own: tuple[Any, ...], hyper: Hyper) -> dict[str, nnx.State]:
        return jax.vmap(functools.partial(interventions.views, shape))(hyper, own, params)

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

    hyper = hyper_like(slots, shape.interventions)
    state = jax.eval_shape(initialise, hyper)
    placed = jax.tree.map(lambda leaf: NamedSharding(mesh, _split(leaf.shape, mesh)) if sharded else laid.runs, state)
    units = jax.ShapeDtypeStruct((layout.chunks, layout.devices * layout.units), jnp.int32)
    windows = jax.ShapeDtypeStruct((*units.shape, layout.windows, shape.model.context + 1), jnp.int32)
    tokens = jax.ShapeDtypeStruct((turns, slots, shape.micro_batch, shape.model.context + 1), jnp.int32)
    scalar, mask = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((slots,), jnp.bool_)
    runs, replicated = laid.runs.spec, laid.replicated.spec
    advance = by_hand(axes, advance, (runs, runs, tokens_spec, replicated), (runs, PartitionSpec(None, "run")))
    by_unit = laid.units.spec
    evaluate = evaluation_program(shape, compute, layout)
    evaluate = by_hand({"run"}, evaluate, (runs, runs, by_unit, by_unit, replicated), by_unit)
    advance_ins = (placed, laid.runs, laid.tokens, laid.replicated)
    evaluate_ins = (placed.params, placed.biases, laid.units, laid.tokens, laid.replicated)
    made = {
        "initialise": traced(initialise, laid.runs, placed, hyper),
        "enter": traced(enter, (placed, placed, laid.runs), placed, state, state, mask, donate=0),
        "advance": traced(advance, advance_ins, (placed, laid.replicated), state, hyper, tokens, scalar, donate=0),
        "evaluate": traced(evaluate, evaluate_ins, laid.replicated, state.params, state.biases, units, windows, scalar),
    }
    if interventions.has_views(shape):
        of_views = dict.fromkeys(interventions.view_names(shape), placed.params)
        ins = (placed.params, placed.own, laid.runs)
        made["views"] = traced(views, ins, of_views, state.params, state.own, hyper)
    return made


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
    features = slots * shape.model.positions * max(shape.model.ffn_width, shape.model.width)
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


def dispatch_turns(flops_per_turn: float, accelerator: Accelerator | None) -> int:
    """The number k: enough turns to outweigh the overhead of a dispatch, few enough to handle a signal within seconds.

    They take about 1e11 FLOPs on a CPU (None; 1 to 2 s on two cores). On an accelerator they would take 20 ms at its
    peak; small models reach a hundredth of that and take 2 s. Unknown ones are taken for an H100. k is 1 to 128.
    """
    budget = 1e11 if accelerator is None else 0.02 * (accelerator.peak or 989e12)
    return int(min(128, max(1, budget // flops_per_turn)))
