"""How fast a device trains: measured numbers with units, and the times they predict."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from models.config import ModelConfig
from models.count import flops
from sweeps.complaints import file_error
from sweeps.config import Positive
from sweeps.shape import Shape, micro_tokens_of

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclasses.dataclass(frozen=True)
class PinnedWorkers:
    """How fast several workers train at the same time, each pinned to a core of its own and with one device.

    Attributes:
        processes: the number of workers.
        start_seconds: seconds until each of them is ready to compile.
        compile_time: time to compile a program while all of them compile, relative to one process on all cores.
        gain: width -> slots of each worker -> tokens per second of all workers, relative to one run on all cores.
    """

    processes: Annotated[int, Field(gt=1)]
    start_seconds: NotNegative
    compile_time: Positive
    gain: Annotated[dict[int, Annotated[dict[int, Positive], Field(min_length=1)]], Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How fast the devices of a machine train. Operations are those of `models.count.flops` with the full mask.

    Attributes:
        device: the measured devices, in words.
        platform: JAX's name of their platform.
        devices: their number; a CPU counts as one device per usable core.
        training_flops: width -> training FLOP/s of one dense run; between widths interpolated in logarithms.
        architecture_time: architecture -> seconds per operation relative to dense; 1 where not named.
        packing_gain: width -> slots -> tokens per second of a pack relative to one run; interpolated likewise.
        dispatch_seconds: time that the host needs for one dispatch of the compiled program.
        steps_per_dispatch: number of turns in one dispatch.
        compile_seconds: fixed part of the time to compile the training and evaluation programs of one signature.
        compile_seconds_per_layer: architecture -> compile seconds per layer; `dense` for those not named.
        evaluation_speed: FLOP/s of the forward passes of an evaluation relative to training with as many slots.
        workers: the speed with one worker per core; None if it was not measured, as on accelerators.
        device_bytes: memory of one accelerator; None for a CPU, and in files of earlier versions.
    """

    device: str
    platform: str
    devices: Annotated[int, Field(gt=0)]
    training_flops: Annotated[dict[int, Positive], Field(min_length=1)]
    architecture_time: dict[str, Positive]
    packing_gain: Annotated[dict[int, Annotated[dict[int, Positive], Field(min_length=1)]], Field(min_length=1)]
    dispatch_seconds: NotNegative
    steps_per_dispatch: Annotated[int, Field(gt=0)]
    compile_seconds: NotNegative
    compile_seconds_per_layer: dict[str, NotNegative]
    evaluation_speed: Positive
    # The files of earlier versions, which users have kept, name this field `crew`.
    workers: Annotated[PinnedWorkers | None, Field(alias="crew")] = None
    device_bytes: Annotated[int, Field(gt=0)] | None = None

    def to_json(self) -> str:
        """The JSON text that `from_json` reads."""
        return _ADAPTER.dump_json(self, indent=1, by_alias=True).decode()

    @classmethod
    def from_json(cls, text: str, where: object) -> "Calibration":
        """The inverse of `to_json`; an InputError from `where` names a field that is wrong."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise file_error(where, error, "a calibration") from None

    def flops_per_second(self, model: ModelConfig) -> float:
        """Training operations per second of one run of this model."""
        dense = interpolated(self.training_flops, model.width)
        return dense / self.architecture_time.get(model.architecture, 1.0)

    def compile_time(self, model: ModelConfig) -> float:
        """Seconds to compile the programs of one signature with this model."""
        layers = self.compile_seconds_per_layer
        return self.compile_seconds + layers.get(model.architecture, layers.get("dense", 0.0)) * model.depth

    @property
    def micro_tokens(self) -> int:
        """Tokens per micro-batch."""
        return micro_tokens_of(self.platform, self.device_bytes)

    @property
    def mixture_slots(self) -> int:
        """The fewest slots of a pack of mixtures of experts.

        Rounding decides a router's choice where it is nearly a tie, and training amplifies that: two programs agreed to
        4e-7 until a choice flipped, and to 3 % after 200 steps. A pack on a CPU usually has one slot per device. A run
        that trains alone there uses the same program, so that it gets the same bits alone and in company. This is as
        fast as splitting the run over the devices (71,000 against 72,000 tokens/s at width 48).
        """
        return self.devices if self.platform == "cpu" else 1

    def gain(self, shape: Shape, slots: int) -> float:
        """Tokens per second of a pack relative to one run alone."""
        by_width = {width: interpolated(table, slots) for width, table in self.packing_gain.items()}
        return interpolated(by_width, shape.model.width)

    def one_worker(self) -> "Calibration":
        """The calibration of one pinned worker while the others work, too; ValueError if they were not measured."""
        if self.workers is None:
            raise ValueError("pinned workers were not measured")
        processes, slower = self.workers.processes, self.workers.compile_time
        gains = {
            width: {slots: gain / processes for slots, gain in table.items()}
            for width, table in self.workers.gain.items()
        }
        return dataclasses.replace(
            self,
            devices=1,
            packing_gain=gains,
            compile_seconds=slower * self.compile_seconds,
            compile_seconds_per_layer={a: slower * each for a, each in self.compile_seconds_per_layer.items()},
            workers=None,
        )

    def together(self, processes: int, devices: int) -> "Calibration":
        """The calibration of several such hosts that share the slots of a pack and have `devices` devices in all."""
        gains = {
            width: {1: 1.0} | {processes * slots: processes * gain for slots, gain in table.items()}
            for width, table in self.packing_gain.items()
        }
        return dataclasses.replace(self, devices=devices, packing_gain=gains)

    def turn_time(self, shape: Shape, slots: int) -> float:
        """Seconds of one turn of all slots of a pack, with what interventions add."""
        speed = self.flops_per_second(shape.model) * self.gain(shape, slots)
        computing = slots * shape.turn_flops / speed * (1 + shape.added_time)
        return computing + self.dispatch_seconds / self.steps_per_dispatch

    def evaluation_time(self, shape: Shape, slots: int, windows: int) -> float:
        """Seconds of one evaluation of one run of a pack on this many windows.

        The other runs of the pack are evaluated at the same time, or the devices share the windows; so an evaluation
        gains by slots what training does.
        """
        work = windows * shape.model.context * flops(shape.model).forward
        speed = self.flops_per_second(shape.model) * self.gain(shape, slots) * self.evaluation_speed
        return work / speed + self.dispatch_seconds


def interpolated(table: Mapping[int, float], at: int) -> float:
    """The table's value at a point: linear in logarithms between the entries, constant beyond them."""
    at = min(max(at, min(table)), max(table))
    lower, upper = max(key for key in table if key <= at), min(key for key in table if key >= at)
    if lower == upper:
        return table[lower]
    share = math.log(at / lower) / math.log(upper / lower)
    return table[lower] ** (1 - share) * table[upper] ** share


_ADAPTER = TypeAdapter(Calibration)
# Measured on two x86-64 cores in float32. Dense models: 150,000 tokens/s (2 layers, width 32, context 128, byte-level
# tokens); 163 ms per 2,048 tokens (4 layers, width 128, context 256). Matrix products alone: 1.4e11 to 1.75e11 FLOP/s.
# Per operation, mixtures of 2 layers of width 48, packed by two, took 1.3 to 2.0 times as long as dense models. All
# programs of a dense model of 2 layers took 5 CPU seconds to compile, those of mixtures 6 to 7.
TWO_CORES = Calibration(
    device="2 CPU cores, float32",
    platform="cpu",
    devices=2,
    training_flops={32: 4.4e10, 128: 8.0e10, 512: 1.2e11},
    architecture_time={
        "switch_top1": 1.4,
        "top2": 1.65,
        "expert_choice": 1.75,
        "fine_grained_shared": 2.0,
        "hash": 1.4,
        "balanced": 1.45,
        "reinforce": 1.45,
    },
    packing_gain={32: {1: 1.0, 2: 2.5, 8: 2.4}, 128: {1: 1.0, 2: 1.2, 8: 1.1}},
    dispatch_seconds=1e-3,
    steps_per_dispatch=16,
    compile_seconds=3.5,
    compile_seconds_per_layer={
        "dense": 0.75,
        "parallel": 0.75,
        "switch_top1": 1.3,
        "top2": 1.4,
        "expert_choice": 1.45,
        "fine_grained_shared": 1.55,
        "hash": 1.2,
        "balanced": 1.45,
        "reinforce": 1.8,
    },
    evaluation_speed=1.0,
)
