"""Trains a sweep on several hosts together: the first one leads as if it were alone, the others follow its orders.

All hosts see the sweep's folder, and only the first one writes into it. They tell each other of packs, signals and
faults through `harness.train.hosts`.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from harness.launch.local import train_in_turn, train_on_all_hosts
from harness.launch.queue import PackQueue
from harness.record.heartbeat import HeartbeatWriter
from harness.record.sweep_folder import read_configs
from harness.train.session import PeerError, PeerLost, Session, Stop
from sweeps.config import RunConfig
from sweeps.errors import InputError, reason_of
from sweeps.packs import Pack, make_pack
from sweeps.shape import shape_of

# Seconds between two checks whether another host has received a signal.
LISTEN_SECONDS = 0.5
# CPU devices of each host: one device with all cores. With two, programs in flight at the same time waited for each
# other forever (jax 0.10, gloo: ten evaluations of different runs); with one, 900 evaluations did not.
CPU_DEVICES = 1


@contextlib.contextmanager
def joined(where: str) -> Iterator[None]:
    """Stay connected to the other hosts inside a `with` block, to train together.

    If a host dies, the others end within `hosts.LOST_SECONDS`; what was saved remains.

    Args:
        where: HOST:PORT,COUNT,INDEX, the address of the first host, the number of hosts, and which one this is, from 0;
            or `auto` if a scheduler that JAX knows supplies these (SLURM, Open MPI, Kubernetes, TPU pods).

    Raises:
        InputError: `where` has neither form, or the hosts do not find each other.
        PeerError: another host failed.
    """
    from harness.train import hosts

    coordinator, count, index = _parsed(where)
    try:
        hosts.join(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        expected = f"{count or 'all'} processes that reach the first one"
        if isinstance(error, ValueError):
            expected = "HOST:PORT,COUNT,INDEX where no scheduler tells it"
        raise InputError("--hosts", "value", where, f"{expected} ({reason_of(error)})") from None
    try:
        yield
    except PeerLost:
        raise  # leaving together would wait for the lost host
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
def _shared_signals(stop: Stop) -> Iterator[None]:
    """Pass a signal that any host receives on to the first host, which stops them all."""
    from harness.train import hosts

    over, lead = threading.Event(), hosts.all_hosts().lead

    def listen() -> None:
        with contextlib.suppress(PeerError):  # the thread that trains gets the error, too, and reports it
            while not over.wait(LISTEN_SECONDS):
                if not lead and stop.signal_number is not None:
                    return hosts.note("signal", str(stop.signal_number))
                if lead and stop.signal_number is None and (number := hosts.noted("signal")):
                    stop.take(int(number), None)

    thread = threading.Thread(target=listen, daemon=True, name="signals")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def order(what: str, value: Any) -> None:
    """Give an order to the other hosts, which receive it in `follow`."""
    from harness.train import hosts

    hosts.all_hosts().agree("order", [what, value])


def lead(queue: PackQueue, micro_tokens: int) -> None:
    """Train all packs with the other hosts, in `harness.launch.local.train_in_turn`, which says what it raises."""
    session = queue.session
    order("session", {"devices": session.devices, "fail_fast": session.fail_fast})

    def announce(*packs: Pack | None) -> None:
        order("pack", [each and [micro_tokens, each.slots, [run.run_id for run in each.runs]] for each in packs])

    with _shared_signals(queue.stop):
        train_in_turn(queue, announce)


def follow(session: Session) -> int:
    """Do what the first host orders, until it orders an exit status.

    Raises:
        InputError: this host sees another folder than the first one.
        PeerError: another host failed outside the training, or is lost.
    """
    import jax

    from harness.machine.platform import configure_jax
    from harness.train import hosts

    stop, runs = Stop(), dict[str, RunConfig]()
    stop.listen()
    # Training needs a writer. This one is not entered and so writes no file: the first host reports the same runs.
    heartbeat = HeartbeatWriter(session.out)
    with _shared_signals(stop):
        while True:
            answer: list[Any] = hosts.all_hosts().agree("order", ["", None])
            what, value = answer
            if what == "devices":
                configure_jax(session.cache, CPU_DEVICES)
                jax.devices()  # hosts exchange what devices they have; the first one waits for that
            elif what == "session":
                session = dataclasses.replace(session, **value)
                runs = {run.run_id: run for run in read_configs(session.out)}
            elif what == "pack":
                pack, following = (each and _pack_of(each, runs, session) for each in value)
                train_on_all_hosts(pack, following, session, stop, heartbeat)
            else:
                return value


def _pack_of(ordered: list[Any], runs: Mapping[str, RunConfig], session: Session) -> Pack:
    micro_tokens, slots, ids = ordered
    if unknown := set(ids) - set(runs):
        raise InputError(session.out, "runs", f"no {min(unknown)}", "the folder that the first process trains in")
    return make_pack(shape_of(runs[ids[0]], micro_tokens), slots, [runs[run_id] for run_id in ids])
