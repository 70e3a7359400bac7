"""Cuts a list of runs into packs that train together.

One compiled program trains all slots of a pack; when a run ends, the pack's next run takes its slot.
"""

import dataclasses
import hashlib
import heapq
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from sweeps.config import RunConfig
from sweeps.shape import Shape, run_bytes, shape_of, turns_of

# Where more runs side by side gain nothing, as on a CPU, or do not fit the memory, fewer are chosen.
SLOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# (shape, slots) -> throughput of a pack of that many slots, relative to one run trained alone.
Gain = Callable[[Shape, int], float]


@dataclasses.dataclass(frozen=True)
class Pack:
    """Runs of one shape that train together; they take the slots in this order, the longest first.

    Attributes:
        pack_id: 12 hex digits of the hash of slots and run ids.
        slots: length of the program's axis of runs; packs of one shape have equal `slots`, so that one compiled program
            serves them, and a run's numbers do not depend on the pack it is in.
    """

    pack_id: str
    shape: Shape
    slots: int
    runs: tuple[RunConfig, ...]

    @property
    def turns(self) -> int:
        """The number of turns (micro-batches per slot) until the last run has ended."""
        return makespan([turns_of(run, self.shape) for run in self.runs], self.slots)

    @property
    def flops(self) -> int:
        """Training operations of the runs."""
        return sum(turns_of(run, self.shape) for run in self.runs) * self.shape.turn_flops


def make_pack(shape: Shape, slots: int, runs: Sequence[RunConfig]) -> Pack:
    """A pack of these runs, in their order."""
    text = json.dumps([slots, [run.run_id for run in runs]])
    return Pack(hashlib.sha256(text.encode()).hexdigest()[:12], shape, slots, tuple(runs))


def packs(
    configs: Iterable[RunConfig],
    micro_tokens: int,
    slots_of: Mapping[str, int],
    parts: int = 1,
    pays: Callable[[Shape], float] = lambda _: 0.0,
) -> tuple[Pack, ...]:
    """Cut the runs into packs; the result does not depend on the order of `configs`.

    Shapes with the most FLOPs come first. The runs of a shape are dealt to at most `parts` packs.

    Args:
        slots_of: signature -> slots, as `choose_slots` gives them.
        parts: number of processes that train packs at the same time; a shape gets no more packs than its runs fill.
        pays: shape -> the fewest turns per pack that justify compiling the shape's program in another process, too.
    """
    made = []
    for shape, runs in by_shape(configs, micro_tokens).items():
        slots = slots_of[shape.signature]
        fills = min(parts, -(-len(runs) // slots))
        if fills > 1:
            turns = makespan([turns_of(run, shape) for run in runs], slots)
            fills = max(1, min(fills, int(turns // max(1.0, pays(shape)))))
        hands: list[list[RunConfig]] = [[] for _ in range(fills)]
        loads = [(0, hand) for hand in range(len(hands))]
        for run in runs:  # the longest first, each to the pack with the least work
            load, hand = heapq.heappop(loads)
            hands[hand].append(run)
            heapq.heappush(loads, (load + turns_of(run, shape), hand))
        made.append([make_pack(shape, slots, hand) for hand in hands])
    made.sort(key=lambda group: (-sum(pack.flops for pack in group), group[0].shape.signature))
    return tuple(pack for group in made for pack in group)


def by_shape(configs: Iterable[RunConfig], micro_tokens: int) -> dict[Shape, list[RunConfig]]:
    """The runs of each shape, longest first."""
    groups: dict[Shape, list[tuple[int, str, RunConfig]]] = defaultdict(list)
    for config in configs:
        shape = shape_of(config, micro_tokens)
        groups[shape].append((-turns_of(config, shape), config.run_id, config))
    return {shape: [run for *_, run in sorted(group, key=lambda m: m[:2])] for shape, group in groups.items()}


def choose_slots(
    configs: Iterable[RunConfig],
    micro_tokens: int,
    gain: Gain,
    memory_limit: int | None = None,
    mixture_slots: int = 1,
) -> dict[str, int]:
    """For each signature the number of slots with which its runs end soonest, the smaller number at ties.

    Args:
        mixture_slots: the fewest slots for mixtures of experts, see `sweeps.calibration.Calibration.mixture_slots`.
        gain: the measured throughput, see `sweeps.calibration.Calibration.gain`.
        memory_limit: the bytes that a pack may need; None for no limit. A single run is packed even if it needs more.
    """
    return {
        shape.signature: _slots(shape, runs, gain, memory_limit, mixture_slots if shape.model.moe else 1)
        for shape, runs in by_shape(configs, micro_tokens).items()
    }


def _slots(shape: Shape, runs: Sequence[RunConfig], gain: Gain, memory_limit: int | None, fewest: int) -> int:
    lengths = [turns_of(run, shape) for run in runs]
    most = SLOTS[-1] if memory_limit is None else max(1, memory_limit // run_bytes(shape))
    enough = next((slots for slots in SLOTS if slots >= max(fewest, len(runs))), SLOTS[-1])
    allowed = [slots for slots in SLOTS if slots <= min(most, enough)]
    candidates = [slots for slots in allowed if slots >= fewest] or allowed[-1:]
    return min(candidates, key=lambda slots: makespan(lengths, slots) * slots / gain(shape, slots))


def makespan(lengths: Sequence[int], slots: int) -> int:
    """The number of turns until runs of these lengths have ended, if each takes the slot that is free first."""
    ends = [0] * slots
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)
