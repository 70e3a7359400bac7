"""What scripts/simulate.py trains: the state of a run is one number that every step changes.

All that is recorded follows from that number, so that the record which a run should have is known. The record and its
checkpoints are kept by the production code; only the formats of two kinds of files are simpler.
"""

import functools
import json
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
from simulated_machines import Cluster, Killed

import harness.files
import harness.train.slot as slots
from harness.record.segments import remove_damaged
from harness.record.status import ENDED, read_status, run_folder
from harness.train.checkpoint import PackCheckpoints, resume_states
from harness.train.run_batches import RunBatches
from harness.train.session import Session, Stop
from sweeps.config import RunConfig
from sweeps.packs import Pack
from sweeps.shape import shape_of

MICRO_TOKENS = 32
PRIME = 2**31 - 1


def first_state(config: RunConfig) -> int:
    """The state of a run before its first step."""
    return config.seed + config.steps


def stepped(state: int, step: int) -> int:
    """The state of a run after a step."""
    return (state * 48271 + step) % PRIME


@functools.cache
def expected(config: RunConfig) -> tuple[float, ...]:
    """The loss of a run that nothing disturbs, before the first step and after each."""
    states = [first_state(config)]
    for step in range(1, config.steps + 1):
        states.append(stepped(states[-1], step))
    return tuple(state / PRIME for state in states)


def rows_bytes(table: pa.Table) -> bytes:
    """In place of `harness.files.parquet_bytes`, which takes a hundred times as long: JSON with a checksum."""
    content = json.dumps(table.to_pydict()).encode()
    return f"{zlib.crc32(content):08x}".encode() + content


def read_rows(path: Path) -> pa.Table:
    """In place of `harness.files.read_parquet`. Raises ValueError if the file is damaged."""
    content = harness.files.read_bytes(path)
    if content[:8] != f"{zlib.crc32(content[8:]):08x}".encode():
        raise ValueError("its checksum is another")
    return pa.table(json.loads(content[8:]))


class SimulatedSlot(slots.Slot):
    """A run whose state is one number; its record is kept and written by the production code."""

    def __init__(self, config: RunConfig, folder: Path, saved: tuple[int, list[np.ndarray]] | None):
        turn, leaves = saved or (0, [np.array(first_state(config))])
        batches = SimpleNamespace(config=config, text_facts=lambda: None)
        super().__init__(cast(RunBatches, batches), folder, shape_of(config, MICRO_TOKENS), turn)
        self.state = int(leaves[0])
        self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the run if that is due."""
        if self.pending_evaluations and self.pending_evaluations[0] == self.step:
            step = self.pending_evaluations.pop(0)
            self.evals.append({"step": step, "loss": self.state / PRIME})
            self.documents.append((step, {}))

    def advance(self) -> None:
        """Take one step."""
        self.state = stepped(self.state, self.step + 1)
        loss = np.array([self.state / PRIME])
        metrics = {name: loss for name in ("train_loss", "lr", "grad_norm", *slots.NOISE_SERIES)}
        self.append(self.step, metrics, 1.0, 0.0)
        self.turn = self.step
        self.evaluate()


def measured(config: RunConfig, facts: None, series: pd.DataFrame, documents: pd.DataFrame) -> dict[str, float]:
    """In place of `harness.gaps.one_run.measure`: what depends on every row."""
    return {"mean": float(np.mean(series["train_loss"])), "evaluations": len(documents)}


def write_leaves(folder: Path, leaves: dict[str, np.ndarray]) -> dict[str, int]:
    """In place of orbax."""
    contents = {f"{name}.bin": leaf.tobytes() for name, leaf in leaves.items()}
    harness.files.write_files({folder / name: content for name, content in contents.items()})
    return {name: zlib.crc32(content) for name, content in contents.items()}


def read_leaves(save: Path, manifest: dict) -> list[np.ndarray]:
    """In place of orbax."""
    leaves = []
    for name, checksum in manifest["files"].items():
        content = (save / "state" / name).read_bytes()
        if zlib.crc32(content) != checksum:
            raise ValueError(f"{name} is not what was saved")
        leaves.append(np.frombuffer(content, np.int64))
    return leaves


def train_pack(cluster: Cluster, pack: Pack, session: Session, stop: Stop, turn: Callable[[], None]) -> None:
    """In place of `harness.train.pack.train_pack`, with the same order of files; `turn` is called before each turn."""
    out, rng = session.out, cluster.rng
    runs = [run for run in pack.runs if read_status(run_folder(out, run.run_id), run.steps).state not in ENDED]
    saved = resume_states(out, runs, lambda run: 1)
    saves = PackCheckpoints(out / "checkpoints" / pack.pack_id, (run.run_id for run in pack.runs))
    waiting, live = deque(runs), list[SimulatedSlot]()
    try:
        while waiting or live:
            while waiting and len(live) < pack.slots:
                run = waiting.popleft()
                folder = run_folder(out, run.run_id)
                slot = SimulatedSlot(run, folder, saved.get(run.run_id))
                remove_damaged(folder, run.evaluation_steps())
                slot.report()
                live.append(slot)
            cluster.wait(None, rng.uniform(0.5, 20.0))
            turn()
            for slot in live:
                for _ in range(min(rng.randint(1, 5), slot.config.steps - slot.step)):
                    slot.advance()
            for slot in [slot for slot in live if slot.step == slot.config.steps]:
                slot.finish()
                live.remove(slot)
            stopping = stop()
            if stopping or rng.random() < 0.4:
                for slot in live:
                    slot.flush()
                    slot.report()
                state = {"state": np.array([slot.state for slot in live] or [0], np.int64)}
                saves.save(state, {slot.config.run_id: (at, slot.turn) for at, slot in enumerate(live)})
            if stopping:
                break
    except Killed:
        raise
    except BaseException:
        saves.wait()
        raise
    if live or waiting:
        saves.wait()
    else:
        saves.remove()
