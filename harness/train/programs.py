"""The compiled programs of a pack: many turns of R runs in one dispatch, the evaluation of one run, the entry of runs.

Sizes: R runs (slots), k turns a dispatch at most, m sequences a turn, T context, W probe windows of all sets together,
in P pieces of n.
"""

import concurrent.futures
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from harness.train.optimizer import Hyper, hyper_like
from harness.train.step import Metrics, State, new_state, train_turn
from models.moe import shares_batch
from models.transformer import Compute, token_losses
from sweeps.shape import Shape


class Programs(NamedTuple):
    """The compiled programs of one shape at one pack size.

    Attributes:
        initialise: seeds [R] -> State.
        enter: (State, State, mask [R]) -> State: the second's runs where the mask is true; the first is donated.
        advance: (State, Hyper, tokens [k, R, m, T+1], count) -> (State, Metrics [k, R]); takes `count` <= k turns and
            gives the State's buffers back for the new one (donated).
        evaluate: (params, biases, slot, tokens [P, n, T+1]) -> losses [P, n, T], nats, of the run in that slot.
        turns: k.
        mesh: devices by (run, data).
        shardings: of the inputs that hosts feed: hyper and masks, tokens, windows, scalars.
    """

    initialise: Callable[..., State]
    enter: Callable[..., State]
    advance: Callable[..., tuple[State, Metrics]]
    evaluate: Callable[..., Float[Array, "P n T"]]
    turns: int
    mesh: Mesh
    shardings: "Shardings"


class Shardings(NamedTuple):
    """How what a host feeds is laid out: by run, turns of all runs, pieces of windows, the same everywhere."""

    runs: NamedSharding
    tokens: NamedSharding
    pieces: NamedSharding
    replicated: NamedSharding


def shardings_of(mesh: Mesh) -> Shardings:
    """The layouts on a mesh by (run, data)."""
    specs = (("run",), (None, "run", "data"), ("run", "data"), ())
    return Shardings(*(NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs))


class Key(NamedTuple):
    """What tells programs apart.

    Attributes:
        sharded: the parameters and moments of each run are split over the devices along `data` (FSDP).
    """

    shape: Shape
    slots: int
    compute: Compute
    mesh: Mesh
    sharded: bool = False


def mesh_for(slots: int, micro_batch: int, devices: Sequence[Any] | None = None) -> Mesh:
    """Devices by (run, data): as many along `run` as divide the slots, the rest along `data` as far as they divide the
    micro-batch; those left over are not used."""
    if devices is None:  # a process's devices side by side, and the first process in any mesh: it decides
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    along_run = max(n for n in range(1, len(devices) + 1) if slots % n == 0)
    along_data = max(n for n in range(1, len(devices) // along_run + 1) if micro_batch % n == 0)
    used = devices[: along_run * along_data]
    return Mesh(np.asarray(used).reshape(along_run, along_data), ("run", "data"))


_lock = threading.Lock()
_making: dict[Key, threading.Lock] = {}
_made: dict[Key, Programs] = {}


def programs(key: Key) -> Programs:
    """The programs, compiled once in a process; whoever asks while another thread compiles them waits for it."""
    with _lock:
        making = _making.setdefault(key, threading.Lock())
    with making:
        if key not in _made:
            _made[key] = _compile(key)
        return _made[key]


def compile_ahead(key: Key) -> "concurrent.futures.Future[Programs]":
    """The programs, compiled in a thread; a process that ends in time waits for it."""
    future: concurrent.futures.Future[Programs] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(programs(key))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="isogap-compile").start()
    return future


def _compile(key: Key) -> Programs:
    platform = key.mesh.devices.flat[0].platform
    turns = dispatch_turns(key.shape.turn_flops * key.slots, platform)
    options = compiler_options(platform, key.mesh.devices.size)
    compiled = {name: traced.lower().compile(options) for name, traced in trace(key, turns).items()}
    return Programs(**compiled, turns=turns, mesh=key.mesh, shardings=shardings_of(key.mesh))


def trace(key: Key, turns: int) -> dict[str, Any]:
    """The programs by name, traced for their shapes, to be lowered for one platform or another."""
    shape, slots, compute, mesh, sharded = key
    runs, replicated = PartitionSpec("run"), PartitionSpec()
    turns_runs = PartitionSpec(None, "run")
    batches = PartitionSpec(None, "run", "data")
    laid = shardings_of(mesh)
    # Over `data` the compiler splits the batch and adds up the gradients: the program is that of one device. Only on
    # CPUs, whose devices meet once for each array they add up, is it done by hand, all gradients as one array (36
    # meetings less: 4 layers of width 128 took 150 ms a step, and take 142). Mixtures were worse off: the compiler had
    # every device compute all slots of all experts. Those that drop tokens route over the whole batch, and stay its.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    by_hand_over_data = on_cpu and not sharded and mesh.shape["data"] > 1 and shares_batch(shape.model.moe)
    share_of = "data" if by_hand_over_data else None
    pieces = 1 if sharded else pieces_of(shape, slots // mesh.shape["run"], mesh.shape["data"], on_cpu)

    def initialise(seeds: UInt32[Array, " R"]) -> State:
        return jax.vmap(functools.partial(new_state, shape))(seeds)

    def enter(state: State, entering: State, mask: Bool[Array, " R"]) -> State:
        def choose(old, new):
            return jnp.where(mask.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, state, entering)

    def advance(state: State, hyper: Hyper, tokens: Int[Array, "k R m T+1"], count: Int[Array, ""]):
        turn = jax.vmap(functools.partial(train_turn, shape, compute, share_of=share_of, pieces=pieces))

        def body(index, carry):
            state, record = carry
            state, metrics = turn(state, hyper, jax.lax.dynamic_index_in_dim(tokens, index, keepdims=False))
            return state, jax.tree.map(lambda all_, one: all_.at[index].set(one), record, metrics)

        empty = Metrics(*(jnp.zeros(tokens.shape[:2], jnp.float32) for _ in Metrics._fields))
        # A loop of `count` turns, not of k: the run ends and the evaluations fall anywhere, at no cost.
        return jax.lax.fori_loop(0, count, body, (state, empty))

    def evaluate(params: nnx.State, biases: nnx.State, slot: Int[Array, ""], tokens: Int[Array, "P n T+1"]):
        # Its parameters go to all devices, which share the pieces.
        local = slot - (0 if alone else jax.lax.axis_index("run") * (slots // mesh.shape["run"]))

        def of_slot(leaf):
            inside = (local >= 0) & (local < leaf.shape[0])
            mine = jax.lax.dynamic_index_in_dim(leaf, jnp.where(inside, local, 0), keepdims=False)
            return mine if alone else jax.lax.psum(jnp.where(inside, mine, 0), "run")

        params, biases = jax.tree.map(of_slot, (params, biases))
        return jax.lax.map(
            lambda piece: token_losses(shape.model, params, biases, piece, training=False, compute=compute)[0], tokens
        )

    alone = mesh.shape["run"] == 1

    def by_hand(axes, function, in_specs, out_specs):
        # Manual over `run`, so that no compiler pass ever moves one run's numbers to another's device.
        if all(mesh.shape[axis] == 1 for axis in axes):
            return function
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names=axes, check_vma=False
        )

    seeds = jax.ShapeDtypeStruct((slots,), jnp.uint32)
    state = jax.eval_shape(initialise, seeds)
    placed = jax.tree.map(lambda leaf: NamedSharding(mesh, _split(leaf.shape, mesh)) if sharded else laid.runs, state)
    axes, tokens_spec = ({"run"}, turns_runs) if share_of is None else ({"run", share_of}, batches)
    windows = jax.ShapeDtypeStruct((*evaluation_pieces(shape, mesh), shape.model.context + 1), jnp.int32)
    tokens = jax.ShapeDtypeStruct((turns, slots, shape.micro_batch, shape.model.context + 1), jnp.int32)
    scalar, mask = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((slots,), jnp.bool_)
    return {
        "initialise": jax.jit(initialise, in_shardings=laid.runs, out_shardings=placed).trace(seeds),
        "enter": jax.jit(enter, donate_argnums=0, in_shardings=(placed, placed, laid.runs), out_shardings=placed).trace(
            state, state, mask
        ),
        "advance": jax.jit(
            by_hand(axes, advance, (runs, runs, tokens_spec, replicated), (runs, turns_runs)),
            donate_argnums=0,
            in_shardings=(placed, laid.runs, laid.tokens, laid.replicated),
            out_shardings=(placed, laid.replicated),
        ).trace(state, hyper_like(slots), tokens, scalar),
        "evaluate": jax.jit(
            by_hand({"run"}, evaluate, (runs, runs, replicated, runs), runs),
            in_shardings=(placed.params, placed.biases, laid.replicated, laid.pieces),
            out_shardings=laid.replicated,
        ).trace(state.params, state.biases, scalar, windows),
    }


# Hidden features that a device computes at once, 256 kB of float32: what a core works on then stays in its caches. On
# two cores, whole, in pieces of 2^18 and in pieces of 2^16, a turn took 154, 149 and 148 ms at 4 layers of width 128
# (and 77, 43 and 25 MB), 18.5, 18.5 and 16.4 ms for 4 slots of 2 layers of width 32.
PIECE = 2**16


def pieces_of(shape: Shape, slots: int, split: int, on_cpu: bool) -> int:
    """In how many pieces a device computes its part of a micro-batch, some sequences each.

    In two at least, whose gradients tell the noise of one from its signal; in more on CPUs. A mixture's losses are
    those of its batch: it is computed in one. So is a batch that accelerators share, whose split is the compiler's.

    Args:
        slots: computed together by one device.
        split: devices that share the micro-batch.
    """
    if shape.model.moe is not None or shape.micro_batch % split or (split > 1 and not on_cpu):
        return 1
    sequences = shape.micro_batch // split
    divisors = [n for n in range(1, sequences + 1) if sequences % n == 0]
    several = [n for n in divisors if n > 1 or sequences == 1]
    features = slots * shape.model.context * max(shape.model.ffn_width, shape.model.width)
    fitting = [n for n in several if not on_cpu or features * sequences // n <= PIECE]
    return min(fitting, default=sequences)


def _split(dims: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """A leaf's longest axis that divides over `data`, after the axis of runs."""
    ways = mesh.shape["data"]
    fitting = [axis for axis in range(1, len(dims)) if dims[axis] % ways == 0]
    if not fitting:
        return PartitionSpec("run")
    longest = max(fitting, key=lambda axis: dims[axis])
    return PartitionSpec("run", *[None] * (longest - 1), "data")


def compiler_options(platform: str, devices: int) -> dict[str, str]:
    """Options of XLA by platform and number of devices."""
    if platform != "cpu":
        return {}
    # A library of fused kernels that XLA hands matrix products and reductions to: the reductions of a vmapped backward
    # pass took 164 of 535 ms there, and without it the step of 4 layers of width 128 went from 247 to 197 ms.
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    # Loops over elements split over the threads, which have a device each to serve: without it a step of 4 layers of
    # width 128 on two of them took 77.1 ms instead of 79.2.
    return options if devices == 1 else options | {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}


def evaluation_pieces(shape: Shape, mesh: Mesh) -> tuple[int, int]:
    """(P, n): windows are evaluated n at a time, about 4,096 tokens, on CPUs 1,024 (8 to 10 % less time at widths 32 to
    128), whatever the number of devices; P n covers all probe sets and P divides over the devices along `run`."""
    windows = shape.probe_windows
    together = 1024 if mesh.devices.flat[0].platform == "cpu" else 4096
    rows = min(windows, max(1, together // shape.model.context))
    rows += -rows % mesh.shape["data"]
    pieces = -(-windows // rows)
    return pieces + -pieces % mesh.shape["run"], rows


def dispatch_turns(flops_per_turn: float, platform: str) -> int:
    """k: enough turns that a dispatch is worth its overhead, few enough that a signal is answered within seconds.

    About 1e11 FLOPs on a CPU (1 to 2 s on two cores), two hundred times that on an accelerator; 1 to 128 turns.
    """
    budget = 1e11 if platform == "cpu" else 2e13
    return int(min(128, max(1, budget // flops_per_turn)))
