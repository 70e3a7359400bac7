"""The packs of a sweep that wait to be trained, whoever trains them."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable

from harness.launch.faults import Outcome, after_fault, states_of
from harness.launch.packing import read_packing, write_packing
from harness.train.session import Session, Stop
from sweeps.packs import Pack


@dataclasses.dataclass
class PackQueue:
    """Packs that are still to be trained, in order.

    Attributes:
        ended: is given the ids of a pack's runs when the pack was left.
    """

    session: Session
    stop: Stop
    ended: Callable[[Iterable[str]], None]
    packs: deque[Pack]

    def open(self) -> bool:
        """Whether another pack is to be begun."""
        return bool(self.packs) and not self.stop()

    def settle(self, pack: Pack, outcome: Outcome) -> None:
        """Take note of how a pack ended: what remains of it goes before the others, and --fail-fast is obeyed.

        Raises:
            OSError: the sweep's folder could not be written.
        """
        out = self.session.out
        if outcome.kind == "folder":
            raise OSError(None, outcome.reason, outcome.path)
        remaining = after_fault(pack, outcome, out)
        for other in remaining:
            if other.slots != pack.slots:
                self._halve(pack, other.slots)
        self.packs.extendleft(reversed(remaining))
        bad = {"failed", "diverged"} & set(states_of(pack.runs, out))
        self.stop.failed |= self.session.fail_fast and bool(bad)
        self.ended(run.run_id for run in pack.runs)

    def _halve(self, pack: Pack, slots: int) -> None:
        """From now on the packs of this shape have fewer slots; that is recorded."""
        packing = read_packing(self.session.out)
        assert packing is not None  # it was settled before anything trained
        slots_of = packing.slots | {pack.shape.signature: slots}
        write_packing(self.session.out, dataclasses.replace(packing, slots=slots_of))
        for index, other in enumerate(self.packs):
            if other.shape == pack.shape:
                self.packs[index] = dataclasses.replace(other, slots=slots)

    def train_in_turn(self, train: Callable[[Pack, Pack | None], Outcome]) -> None:
        """Train one pack after another.

        Args:
            train: is given a pack, and the next one if that needs other programs.
        """
        while self.open():
            pack = self.packs.popleft()
            following = self.packs[0] if self.packs and self.packs[0].shape != pack.shape else None
            self.settle(pack, train(pack, following))
