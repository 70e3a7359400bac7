"""Simulated schedules of faults: whatever dies, stands still or fills up, every run has the record it should have.

The losses that are expected follow from a recurrence, not from an undisturbed sweep. `scripts/soak --simulate --seed N`
shows what happened in schedule N.
"""

import pytest
from simulate import replay, simulate_many

import harness.record.leases as leases


def complaints(first: int, count: int) -> list[str]:
    return [f"--simulate --seed {verdict.seed}: {verdict.complaints}" for verdict in simulate_many(first, count)]


def test_some_schedules():
    assert complaints(0, 40) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 600, 100))
def test_six_hundred_schedules(first):
    assert complaints(first, 100) == []


def test_a_schedule_is_replayed_by_its_seed():
    assert replay(7).trace and replay(7).trace == replay(7).trace


def test_a_fault_that_is_put_in_is_found(monkeypatch):
    """Packs are taken from holders that live."""

    def takeable(self: leases.Leases) -> list[leases.Entry]:
        return [entry for entry in leases.entries(self._out) if entry.holder not in (leases.DONE, self.holder)]

    monkeypatch.setattr(leases.Leases, "_open", takeable)
    assert any(" is trained by " in complaint for complaint in complaints(0, 20))
