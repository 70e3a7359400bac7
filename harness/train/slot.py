"""One run in a slot of its pack: its batches, how far it is, and the part of its record that is not yet on disk."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from harness.files import json_bytes, write_files
from harness.gaps.document_losses import ProbeRows, probe_rows, read_documents, segment_columns
from harness.gaps.ensembles import LOSSES, losses_bytes
from harness.gaps.one_run import evaluation_rows, measure
from harness.gaps.twins import pair_files
from harness.record.columns import MEASURES_FILE
from harness.record.segments import read_segments, remove_superfluous, segment_files
from harness.record.status import ENDED, State, Status, read_status, status_file, write_status
from harness.train.interventions import LAST
from harness.train.optimizer import Hyper, hyper_of
from harness.train.run_batches import RunBatches
from sweeps.shape import Shape, turns_per_step

NOISE_SERIES = ("gradient_signal", "gradient_noise")
MOE_SERIES = ("load_cv", "drop_fraction", "router_entropy", "aux_loss")


class Slot:
    """A run in training, with the part of its record that is not yet on disk.

    Args:
        turn: the first turn to train.

    Attributes:
        turn: number of turns that were dispatched.
        step: number of steps that were recorded; the devices may still compute later ones.
        committed: number of steps that are on disk.
        ended: whether the run is done, diverged or failed, so that nothing more of it is recorded.
        token_losses: the held-out losses of all tokens at the end, of runs that keep them.
        of_model: the numbers of the run's measures, at its end.
    """

    def __init__(self, batches: RunBatches, folder: Path, shape: Shape, turn: int):
        self.batches, self.config, self.folder = batches, batches.config, folder
        self.micro_batch = shape.micro_batch
        self.turns_per_step = turns_per_step(self.config, shape)
        self.turn = turn
        self.step = self.committed = turn // self.turns_per_step
        begun = self.step
        self.pending_evaluations = [s for s in self.config.evaluation_steps() if s > begun or (s == begun == 0)]
        self.series: dict[str, list] = {}
        self.evals: list[dict] = []
        self.documents: list[tuple[int, dict[str, ProbeRows]]] = []
        self.timing: dict[str, list] = {"step": [], "wall_seconds": [], "tokens_per_second": [], "compile_seconds": []}
        self.last_loss: float | None = None
        self.ended = False
        self.token_losses: np.ndarray | None = None
        self.of_model: dict[str, float] = {}

    def hyper(self) -> Hyper:
        """The numbers of the run's optimizer, as numpy scalars."""
        return hyper_of(self.config, self.turns_per_step)

    def room(self) -> int:
        """The number of turns until the next evaluation."""
        return self.pending_evaluations[0] * self.turns_per_step - self.turn

    def due(self) -> bool:
        """Whether an evaluation is due after the turns that were dispatched."""
        return bool(self.pending_evaluations) and self.room() == 0

    def tokens(self, turns: int) -> Int32[np.ndarray, "turns m T+1"]:
        """The micro-batches of the next turns."""
        return self.batches.turns(self.turn, self.turn + turns, self.micro_batch)

    def append(self, first: int, metrics: dict[str, np.ndarray], seconds: float, compile_seconds: float) -> bool:
        """Add the metrics of turns that ran, [turns] each; false if the loss or gradient of a step was not finite.

        Args:
            first: the number of the first of these turns, from 0.
            seconds: the time that the turns took, as this run's share of the device's time.
            compile_seconds: the time that this run waited for its programs.
        """
        turns = np.arange(first, first + len(metrics["train_loss"]))
        last_turns = (turns + 1) % self.turns_per_step == 0
        metrics = {name: values[last_turns] for name, values in metrics.items()}
        bad = ~(np.isfinite(metrics["train_loss"]) & np.isfinite(metrics["grad_norm"]))
        steps = int(np.argmax(bad)) + 1 if bad.any() else len(bad)
        index = np.arange(self.step + 1, self.step + steps + 1)
        config = self.config
        names = ("train_loss", "lr", "grad_norm", *(MOE_SERIES if config.model.moe else NOISE_SERIES))
        columns = {
            "step": index,
            "tokens": index * config.batch_tokens,
            "epoch": (index * config.batch - 1) // config.windows,
            **{name: metrics[name][:steps] for name in names},
        }
        for name, values in columns.items():
            self.series.setdefault(name, []).extend(values.tolist())
        self.step += steps
        if steps:
            self.last_loss = float(metrics["train_loss"][steps - 1])
        rate = len(turns) * config.batch_tokens / self.turns_per_step / max(seconds, 1e-9)
        for name, value in zip(self.timing, (self.step, seconds, rate, compile_seconds), strict=True):
            self.timing[name].append(value)
        return not bad.any()

    def evaluated(self, step: int, losses: Mapping[str, Float[np.ndarray, "W T"]]) -> None:
        """Add the losses of the probes after a step, by the name of the view (`harness.train.interventions`).

        A probe's name is followed by that of the view, as in `heldout_average`, unless it is the last parameters'.
        """
        probes, rows = self.batches.probes(step), {}
        for view, each in losses.items():
            of_probes = self.batches.split_losses(step, each)
            if self.config.probe.keep_losses and step == self.config.steps and view == LAST:
                of_tokens, counted = of_probes["heldout"], probes["heldout"].counted
                self.token_losses = of_tokens if counted.all() else of_tokens[counted]
            of_view = probe_rows(self.config, step, probes, of_probes)
            rows |= {name if view == LAST else f"{name}_{view}": own for name, own in of_view.items()}
        self.documents.append((step, rows))
        self.evals += evaluation_rows(step, self.config.batch_tokens, rows)

    def flush(self) -> None:
        """Write the part of the record that is not on disk as the segments up to the current step."""
        if self.step == self.committed:
            return  # no step was completed since, and a segment of that name may exist
        evals = {name: [row[name] for row in self.evals] for name in (self.evals[0] if self.evals else ())}
        documents = segment_columns(self.documents)
        rows = {"series": self.series, "evals": evals, "documents": documents, "timing": self.timing}
        write_files(segment_files(self.folder, self.committed, self.step, rows))
        self.series, self.evals, self.documents, self.timing = {}, [], [], {name: [] for name in self.timing}
        self.committed = self.step

    def report(self, state: State = "running", reason: str = "") -> None:
        """Write status.json, unless another process has ended the run while this one stood still."""
        if read_status(self.folder, self.config.steps).state not in ENDED:
            write_status(self.folder, self._status(state, reason))

    def _status(self, state: State, reason: str = "") -> Status:
        has_loss = self.last_loss is not None and np.isfinite(self.last_loss)
        return Status(state, self.step, self.config.steps, self.last_loss if has_loss else None, reason)

    def finish(self) -> State:
        """Write the rest of the record, the gap, and the status: done, or diverged if an evaluation was not finite."""
        self.flush()
        series, evals = read_segments(self.folder, "series"), read_segments(self.folder, "evals")
        if len(series) != self.config.steps:
            missing = f"its record holds {len(series)} of {self.config.steps} steps"
            raise RuntimeError(f"{missing}: segments were removed; --retry failed trains it again")
        if not np.isfinite(evals["loss"]).all():
            self.report("diverged", "the evaluation's loss is not finite")
            return "diverged"
        documents = read_documents(self.folder)
        gap = measure(self.config, self.batches.text_facts(), series, documents)
        files = {self.folder / "gap.json": json_bytes(gap)}
        if self.of_model:
            files[self.folder / MEASURES_FILE] = json_bytes(self.of_model)
        if self.token_losses is not None:
            files[self.folder / LOSSES] = losses_bytes(self.token_losses)
        if self.config.data.half is not None:
            files |= pair_files(self.folder.parents[1], self.config, documents)
        write_files(files | status_file(self.folder, self._status("done")))
        # After the status: of two processes that finish the run at once, each finds what the other has written.
        remove_superfluous(self.folder)
        return "done"
