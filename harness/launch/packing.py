"""packing.json: the numbers of slots, micro-batches and devices of a sweep, chosen once on this machine and kept.

The last bits of a run's numbers depend on the compiled program that trained it, and so on the number of slots, the
size of a micro-batch and the number of CPU devices. DIR/packing.json holds them, so that a resumed or extended sweep
uses the same.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from harness.files import read_bytes, write_json
from sweeps.calibration import Calibration
from sweeps.complaints import file_error
from sweeps.config import RunConfig
from sweeps.packs import by_shape, choose_slots


@dataclasses.dataclass(frozen=True)
class Packing:
    """How runs are packed.

    Attributes:
        devices: number of devices into which the CPU is split, in each process that trains.
        micro_tokens: tokens of a micro-batch, see `sweeps.shape.shape_of`.
        slots: signature of a shape -> number of slots in each of its packs: how many of its runs train at once.
    """

    devices: PositiveInt
    micro_tokens: PositiveInt
    slots: dict[str, Annotated[int, Field(gt=0)]]


_ADAPTER = TypeAdapter(Packing)


def read_packing(out: Path) -> Packing | None:
    """What DIR/packing.json says; None for a new folder, InputError if the file is damaged."""
    path = out / "packing.json"
    if not path.is_file():
        return None
    try:
        return _ADAPTER.validate_json(read_bytes(path))
    except ValidationError as error:
        raise file_error(path, error, "how the sweep's runs are packed") from None


def write_packing(out: Path, packing: Packing) -> None:
    """Replace DIR/packing.json."""
    write_json(out / "packing.json", dataclasses.asdict(packing))


def settle_packing(out: Path, runs: Sequence[RunConfig], calibration: Calibration, memory_limit: int) -> Packing:
    """The packing of these runs: the recorded one, completed by the best choice for new shapes.

    A pack may need at most `memory_limit` bytes. InputError if packing.json is damaged.
    """
    before = read_packing(out) or Packing(calibration.devices, calibration.micro_tokens, {})
    new = [
        run
        for shape, same in by_shape(runs, before.micro_tokens).items()
        if shape.signature not in before.slots
        for run in same
    ]
    chosen = choose_slots(new, before.micro_tokens, calibration.gain, memory_limit, calibration.mixture_slots)
    packing = dataclasses.replace(before, slots=before.slots | chosen)
    if packing != before or not before.slots:
        write_packing(out, packing)
    return packing


def memory_limit_of(platform: str, workers: int = 1) -> int:
    """Bytes a pack may need: four fifths of the accelerators' memory, or half the machine's, shared by the workers.

    The platform is "cpu", or JAX's name of the accelerators, which report their own memory.
    """
    if platform != "cpu":
        import jax

        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        if all("bytes_limit" in known for known in stats):
            return int(0.8 * sum(known["bytes_limit"] for known in stats))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // workers
