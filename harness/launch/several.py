"""A sweep trained by processes on several hosts together: the first one leads, as alone; the others follow its orders.

All see the sweep's folder, and only the first writes into it. They tell each other of packs, signals and faults through
`harness.train.hosts`.
"""

import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.launch.faults import Outcome
from harness.launch.local import Job, Stop, train_in_turn, train_pack_here
from harness.launch.packing import Packing
from harness.record.configs import read_configs
from harness.record.heartbeat import Pulse
from sweeps.config import RunConfig
from sweeps.errors import InputError, reason_of
from sweeps.packs import Pack, make_pack
from sweeps.shape import shape_of

# Between two looks for a signal that another process was sent.
LISTEN_SECONDS = 0.5
# Of each process, all its cores together. With two, programs in flight at the same time waited for each other for ever
# (jax 0.10, gloo: ten evaluations of different runs); with one 900 did not.
CPU_DEVICES = 1
# Of what came of a pack in several processes, the first of these that is among it came of the pack.
WORST = ("folder", "memory", "fault", "called", "ended")


@contextlib.contextmanager
def joined(where: str) -> Iterator[None]:
    """Train together with the processes of other hosts.

    A process that dies takes the others with it, within `hosts.HEARTBEAT_SECONDS`; what was saved stands.

    Args:
        where: HOST:PORT,COUNT,INDEX: the address of the first process, how many there are, and which one this is, from
            0; or `auto` where a scheduler that JAX knows tells it (SLURM, Open MPI, Kubernetes, TPU pods).

    Raises:
        InputError: `where` is neither, or the processes do not find each other.
        PeerError: another process failed.
    """
    from harness.train import hosts

    coordinator, count, index = _parsed(where)
    try:
        hosts.join(coordinator, count, index)
    except ValueError as error:
        expected = f"HOST:PORT,COUNT,INDEX where no scheduler tells it ({reason_of(error)})"
        raise InputError("--hosts", "value", where, expected) from None
    except RuntimeError as error:
        expected = f"{count or 'all'} processes that reach the first one ({reason_of(error)})"
        raise InputError("--hosts", "value", where, expected) from None
    try:
        yield
    except hosts.PeerLost:
        raise  # to leave together would be to wait for it
    except BaseException as error:
        hosts.alarm(reason_of(error))
        hosts.leave()
        raise
    hosts.leave()


def _parsed(where: str) -> tuple[str, int, int]:
    if where == "auto":
        return "", 0, 0
    address, *numbers = where.split(",")
    _, _, port = address.rpartition(":")
    if len(numbers) == 2 and all(number.isdecimal() for number in (port, *numbers)):
        count, index = map(int, numbers)
        if index < count and 0 < int(port) < 65536:
            return address, count, index
    raise InputError("--hosts", "value", where, "HOST:PORT,COUNT,INDEX with INDEX from 0 to COUNT - 1, or auto")


@contextlib.contextmanager
def hearing(stop: Stop) -> Iterator[None]:
    """A signal to any of the processes reaches the first one, which stops them all."""
    from harness.train import hosts

    over = threading.Event()

    def listen() -> None:
        with contextlib.suppress(hosts.PeerError):  # the thread that trains tells of it
            while not over.wait(LISTEN_SECONDS):
                if not hosts.leads() and stop.signal_number is not None:
                    return hosts.note("signal", str(stop.signal_number))
                if hosts.leads() and stop.signal_number is None and (number := hosts.noted("signal")):
                    stop.take(int(number), None)

    thread = threading.Thread(target=listen, daemon=True, name="signals")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def order(what: str, value: Any) -> None:
    """Tell the others what they `follow`."""
    from harness.train import hosts

    hosts.agree("order", [what, value])


def lead(packs: Sequence[Pack], job: Job, stop: Stop, ended: Callable[[Iterable[str]], None]) -> None:
    """Train all packs with the other processes; see `run_packs`.

    Raises:
        OSError: the sweep's folder cannot be written.
        PeerError: another process failed outside the training, or is lost.
    """
    from harness.train.clock import Spent

    def train(pack: Pack, following: Pack | None) -> Outcome:
        order("pack", [None if one is None else _named(one) for one in (pack, following)])
        return _train(pack, following, job, stop, pulse)

    with Pulse(job.out, Spent()) as pulse, hearing(stop):
        train_in_turn(deque(packs), job, stop, ended, train)


def follow(out: Path, cache: Path) -> int:
    """Do what the first process orders, until it tells the exit status.

    Raises:
        InputError: this host sees another folder than the first one.
        PeerError: another process failed outside the training, or is lost.
    """
    import jax

    from harness.machine.platform import configure_jax
    from harness.train import hosts
    from harness.train.clock import Spent

    stop, runs = Stop(), dict[str, RunConfig]()
    job: Job | None = None
    stop.listen()
    pulse = Pulse(out, Spent())  # it never beats: what is trained is counted once, by the first process
    with hearing(stop):
        while True:
            told: list[Any] = hosts.agree("order", ["", None])
            what, value = told
            if what == "devices":
                configure_jax(cache, CPU_DEVICES)
                jax.devices()  # the first process waits for them: that is when all tell each other theirs
            elif what == "packing":
                job = Job(out.absolute(), cache.absolute(), Packing(**value), fail_fast=False)
                runs = {run.run_id: run for run in read_configs(out)}
            elif what == "pack" and job is not None:
                pack, following = (_found(one, runs, job.packing, out) for one in value)
                assert pack is not None
                _train(pack, following, job, stop, pulse)
            else:
                return value


def _train(pack: Pack, following: Pack | None, job: Job, stop: Stop, pulse: Pulse) -> Outcome:
    """Train a pack in all processes; the worst that came of it in any of them."""
    import jax

    from harness.train import hosts
    from harness.train.pack import key_of
    from harness.train.programs import compile_ahead

    if following is not None and jax.process_index() in hosts.members((key := key_of(following)).mesh):
        compile_ahead(key)
    mine = train_pack_here(pack, job, stop, pulse)
    if mine.kind != "ended":
        hosts.alarm(mine.reason)
    outcomes = [Outcome(**each) for each in hosts.conclude(dataclasses.asdict(mine), mine.kind != "ended")]
    worst = min(outcomes, key=lambda outcome: WORST.index(outcome.kind))
    if worst.kind == "called":
        raise hosts.PeerError(worst.reason)
    return worst


def _named(pack: Pack) -> Any:
    return [pack.slots, [run.run_id for run in pack.runs]]


def _found(named: Any, runs: Mapping[str, RunConfig], packing: Packing, out: Path) -> Pack | None:
    if named is None:
        return None
    slots, ids = named
    if unknown := set(ids) - set(runs):
        raise InputError(out, "runs", f"no {min(unknown)}", "the folder that the first process trains in")
    return make_pack(shape_of(runs[ids[0]], packing.micro_tokens), slots, [runs[run_id] for run_id in ids])
