"""Which runs train together: one compiled program trains the slots of a pack, every slot for as long as the longest."""

import dataclasses
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from models.count import flops
from sweeps.config import RunConfig
from sweeps.memory import run_bytes

SLOTS = (1, 2, 4, 8, 16)
MEMORY_LIMIT = 2_000_000_000
# Tokens per second of a pack relative to one run alone, measured for 2 layers of width 32 on 2 cores: packing spares
# dispatches and fills small matrix products.
CPU_GAIN: Mapping[int, float] = MappingProxyType({1: 1.0, 4: 1.12, 8: 1.19})


@dataclasses.dataclass(frozen=True)
class Pack:
    """Runs that share every shape of the program, longest first.

    Attributes:
        pack_id: 12 hex digits of the hash of slots and run ids.
        signature: `RunConfig.signature()` of all runs; packs of one signature have equal `slots`, so that one compiled
            program serves them.
        slots: rows of the program's run axis; those beyond `runs` idle.
        runs: at most `slots` runs.
    """

    pack_id: str
    signature: str
    slots: int
    runs: tuple[RunConfig, ...]

    @property
    def steps(self) -> int:
        """Steps the program takes: those of the longest run."""
        return self.runs[0].steps

    @property
    def flops(self) -> int:
        """Training operations the program computes, those of idle and finished slots included."""
        return self.slots * self.steps * self.runs[0].batch_tokens * flops(self.runs[0].model).train


def packs(
    configs: Iterable[RunConfig],
    memory_limit: int = MEMORY_LIMIT,
    gain: Mapping[int, float] = CPU_GAIN,
) -> tuple[Pack, ...]:
    """The runs in packs, whatever their order: signatures by falling FLOPs, and in each the longest pack first.

    Runs of a signature are sorted by length, so that neighbours end together, and cut into packs of that number of
    slots which takes the least time: sum over packs of slots x longest / gain, smaller packs winning ties.

    Args:
        memory_limit: bytes a pack may need. One run alone is always packed, even beyond it.
        gain: slots -> relative tokens per second; between its entries interpolated, beyond them constant.
    """
    groups: dict[str, list[tuple[int, str, RunConfig]]] = defaultdict(list)
    for config in configs:
        groups[config.signature()].append((-config.steps, config.run_id, config))
    cut = []
    for signature, members in groups.items():
        members.sort(key=lambda member: member[:2])
        slots = _slots([-steps for steps, _, _ in members], run_bytes(members[0][2]), memory_limit, gain)
        chunks = [members[start : start + slots] for start in range(0, len(members), slots)]
        cut.append([_pack(signature, slots, chunk) for chunk in chunks])
    cut.sort(key=lambda group: (-sum(pack.flops for pack in group), group[0].signature))
    return tuple(pack for group in cut for pack in group)


def _slots(lengths: list[int], one: int, memory_limit: int, gain: Mapping[int, float]) -> int:
    def cost(slots: int) -> float:
        return slots / interpolated(gain, slots) * sum(lengths[start] for start in range(0, len(lengths), slots))

    most = max(1, memory_limit // one)
    return min((slots for slots in SLOTS if slots <= most), key=cost)


def interpolated(table: Mapping[int, float], at: int) -> float:
    """Linear in logarithms between the table's points, constant beyond them."""
    at = min(max(at, min(table)), max(table))
    lower, upper = max(key for key in table if key <= at), min(key for key in table if key >= at)
    if lower == upper:
        return table[lower]
    share = math.log(at / lower) / math.log(upper / lower)
    return table[lower] ** (1 - share) * table[upper] ** share


def _pack(signature: str, slots: int, members: list[tuple[int, str, RunConfig]]) -> Pack:
    text = json.dumps([slots, [run_id for _, run_id, _ in members]])
    pack_id = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Pack(pack_id, signature, slots, tuple(config for _, _, config in members))
