"""How far a sweep is, how fast it goes, and when it will end."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.record.heartbeat import Heartbeat, read_heartbeats
from harness.record.lock import is_live
from harness.record.status import ENDED, Status
from models.count import flops
from sweeps.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Reached:
    """How far a sweep is.

    Attributes:
        tokens, flops: the work done so far, with what interrupted runs did after their last checkpoint and will repeat.
        tokens_total, flops_total: the work of all runs; for runs that diverged or failed, only what was done.
        eta_seconds: time to go (see `Tally.reached`). None while nothing runs or nothing was trained yet; 0 if all runs
            have ended.
        live: whether some process runs the sweep.
        states: how many runs are in each state.
        tokens_per_second: speed of all processes over the last half minute; None while nothing runs.
        utilisation: share of their time that the processes of the last `isogap run` spent inside compiled programs.
        elapsed_seconds: how long the process that has worked longest has worked.
        workers: the processes that train; if nothing runs, those of the last `isogap run`.
    """

    tokens: int
    tokens_total: int
    flops: int
    flops_total: int
    eta_seconds: float | None
    live: bool
    states: dict[str, int]
    tokens_per_second: float | None
    utilisation: float | None
    elapsed_seconds: float | None
    workers: tuple[Heartbeat, ...]


class Tally:
    """Sums over a sweep's runs, updated run by run, so that watching 10,000 runs takes reading only those in slots.

    Args:
        runs: run id -> configuration.
        statuses: the statuses of the runs, in the same order.
    """

    def __init__(self, runs: Mapping[str, RunConfig], statuses: Iterable[Status]):
        self._runs = runs
        self._statuses: dict[str, Status] = {}
        self._states: collections.Counter[str] = collections.Counter()
        self._tokens = self._tokens_total = self._flops = self._flops_total = 0
        self._left: collections.Counter[int] = collections.Counter()
        for run_id, status in zip(runs, statuses, strict=True):
            self._add(run_id, status, 1)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._runs

    def status(self, run_id: str) -> Status:
        """The status of a run."""
        return self._statuses[run_id]

    def config(self, run_id: str) -> RunConfig:
        """The configuration of a run."""
        return self._runs[run_id]

    def move(self, run_id: str, status: Status) -> None:
        """Replace the status of a run."""
        self._add(run_id, self._statuses[run_id], -1)
        self._add(run_id, status, 1)

    def follow(self, heartbeats: Iterable[Heartbeat]) -> None:
        """Count the steps of the runs in slots, which are not yet in their status.json."""
        for slot in (slot for heartbeat in heartbeats for slot in heartbeat.slots if slot.run_id in self._runs):
            before = self._statuses[slot.run_id]
            if before.state not in ENDED:  # a run that has just ended may still stand in an older heartbeat
                loss = before.train_loss if slot.train_loss is None else slot.train_loss
                self.move(slot.run_id, Status("running", slot.step, self._runs[slot.run_id].steps, loss))

    def _add(self, run_id: str, status: Status, sign: int) -> None:
        run, over = self._runs[run_id], status.state in ENDED
        cost, steps = flops(run.model).train, status.step if over else run.steps
        self._statuses[run_id] = status
        self._states[status.state] += sign
        self._tokens += sign * status.step * run.batch_tokens
        self._tokens_total += sign * steps * run.batch_tokens
        self._flops += sign * status.step * run.batch_tokens * cost
        self._flops_total += sign * steps * run.batch_tokens * cost
        self._left[cost] += sign * max(steps - status.step, 0) * run.batch_tokens

    def reached(self, heartbeats: Sequence[Heartbeat], live: bool) -> Reached:
        """How far the sweep is.

        The time to go is the tokens left of each model over the speed of that model's packs in these processes, summed
        over models and divided by the number of processes that train. A model not trained yet is assumed to take as
        long per FLOP as the model nearest to it in FLOPs per token. Compiling is not counted, and each process is
        assumed to be busy to the end.
        """
        states = {state: count for state, count in self._states.items() if count}
        working = [heartbeat for heartbeat in heartbeats if not heartbeat.ended]
        seconds = sum(heartbeat.since for heartbeat in heartbeats)
        inside = sum(heartbeat.training_seconds + heartbeat.evaluation_seconds for heartbeat in heartbeats)
        eta = None
        if states and states.keys() <= set(ENDED):
            eta = 0.0
        elif live and working and (seconds_left := self._seconds_left(heartbeats)) is not None:
            # Between two packs a process has no slots, but runs that have just left them.
            busy = sum(bool(heartbeat.slots or heartbeat.left) for heartbeat in working)
            eta = seconds_left / (busy or len(working))
        return Reached(
            tokens=self._tokens,
            tokens_total=self._tokens_total,
            flops=self._flops,
            flops_total=self._flops_total,
            eta_seconds=eta,
            live=live,
            states=states,
            tokens_per_second=sum(heartbeat.tokens_per_second for heartbeat in working) if live else None,
            utilisation=inside / seconds if seconds else None,
            elapsed_seconds=max((heartbeat.since for heartbeat in heartbeats), default=None),
            workers=tuple(working if live else heartbeats),
        )

    def _seconds_left(self, heartbeats: Sequence[Heartbeat]) -> float | None:
        """The seconds that one process would take for all that is left; None if no speed is known."""
        tokens, seconds = collections.Counter[int](), collections.defaultdict[int, float](float)
        for speed in (speed for heartbeat in heartbeats for speed in heartbeat.speeds):
            if speed.tokens > 0 and speed.seconds > 0:
                tokens[speed.flops_per_token] += speed.tokens
                seconds[speed.flops_per_token] += speed.seconds
        if not tokens:
            return None
        total = 0.0
        for cost, left in self._left.items():
            near = min(tokens, key=lambda known: abs(math.log(known / cost)))
            total += left * seconds[near] / tokens[near] * (cost / near)
        return total


def progress(out: Path, runs: Mapping[str, RunConfig], statuses: Iterable[Status]) -> tuple[Reached, list[Status]]:
    """How far a sweep's folder is, and the statuses with the steps that running processes report.

    The arguments are those of `Tally`.
    """
    live, heartbeats = is_live(out), read_heartbeats(out)
    tally = Tally(runs, statuses)
    if live:
        tally.follow(heartbeats)
    return tally.reached(heartbeats, live), [tally.status(run_id) for run_id in runs]
