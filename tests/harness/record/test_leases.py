"""Leases of packs: each is held by one process, a dead holder's is taken over, and nobody else's is."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from harness.record import leases as module
from harness.record.leases import DEAD_SECONDS, Leases, any_beat, entries, lay_queue, withdraw
from harness.record.lock import is_live


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def never() -> None:
    pytest.fail("a lease was lost")


def process(out: Path, name: str, clock: Clock) -> Leases:
    """A process whose beats the test makes itself."""
    return Leases(out, name, never, clock)


def numbers(out: Path) -> list[str]:
    return [entry.number for entry in entries(out)]


def test_packs_are_taken_in_their_order_and_each_once(tmp_path, clock):
    lay_queue(tmp_path, [["a", "b"], ["c"], ["d"]])
    one, other = process(tmp_path, "one", clock), process(tmp_path, "other", clock)
    taken = [taker.take() for taker in (one, other, one, other)]
    assert [lease and lease.runs for lease in taken] == [("a", "b"), ("c",), ("d",), None]
    assert all(lease.deaths == 0 and lease.before == "" for lease in taken if lease)
    one.end("00000")
    other.end("00001")
    assert one.holding and not other.holding and not one.finished()
    one.end("00002")
    assert other.finished() and other.take() is None and numbers(tmp_path) == ["00000", "00001", "00002", "standby"]


def test_of_many_that_take_at_the_same_moment_each_pack_has_one(tmp_path, clock):
    lay_queue(tmp_path, [[str(number)] for number in range(40)])
    together, got = threading.Barrier(8), [[] for _ in range(8)]

    def take(number: int) -> None:
        leases = process(tmp_path, f"process-{number}", clock)
        together.wait()
        while (lease := leases.take()) is not None:
            got[number].append(lease.runs)
            assert leases.beat()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(run) for runs in got for (run,) in runs) == list(range(40))


def test_a_dead_holders_pack_is_taken_over_and_a_living_ones_is_not(tmp_path, clock):
    lay_queue(tmp_path, [["a"], ["b"]])
    dead, living, third = (process(tmp_path, name, clock) for name in ("dead", "living", "third"))
    assert dead.take() and living.take()
    for clock.now in range(0, int(DEAD_SECONDS) + 1, 10):
        assert living.beat() and third.take() is None
    clock.now = DEAD_SECONDS + 1
    lease = third.take()
    assert lease is not None and (lease.runs, lease.deaths, lease.before) == (("a",), 1, "dead")
    assert not dead.beat()  # it was not dead after all, and learns that it has lost the pack
    assert living.beat() and third.beat()


def test_deaths_in_a_row_are_counted_until_a_holder_ends_in_order(tmp_path, clock):
    lay_queue(tmp_path, [["a"]])
    found = []
    for number in range(4):
        leases = process(tmp_path, f"process-{number}", clock)
        leases.take()  # it sees the dead holder's name for the first time
        clock.now += DEAD_SECONDS + 1
        lease = leases.take() if number else None
        found.append(lease.deaths if lease else 0)
    assert found == [0, 1, 2, 3]
    with Leases(tmp_path, "orderly", never, clock) as leases:
        leases.take()
        clock.now += DEAD_SECONDS + 1
        lease = leases.take()
        assert lease is not None and lease.deaths == 4
    lease = process(tmp_path, "next", clock).take()
    assert lease is not None and (lease.deaths, lease.before) == (0, "")


def test_one_who_holds_the_same_pack_again_is_not_taken_for_dead(tmp_path, clock):
    lay_queue(tmp_path, [["a"]])
    watcher, holder = process(tmp_path, "watcher", clock), process(tmp_path, "holder", clock)
    for _ in range(3):
        assert holder.take() is not None and watcher.take() is None
        assert holder._let_go("00000", module.FREE)
        clock.now += DEAD_SECONDS + 1


def test_one_of_those_with_nothing_to_do_stays(tmp_path, clock):
    lay_queue(tmp_path, [["a"]])
    busy, idle, third = (process(tmp_path, name, clock) for name in ("busy", "idle", "third"))
    assert busy.take() and idle.take() is None
    assert idle.stay() and not third.stay() and idle.stay()
    busy.end("00000")
    assert not idle.stay() and not third.stay()


def test_leases_are_renewed_in_a_block_and_a_loss_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    lay_queue(tmp_path, [["a"]])
    lost = threading.Event()
    with Leases(tmp_path, "one", lost.set) as leases:
        assert leases.take() is not None and any_beat(tmp_path) and is_live(tmp_path)
        began = time.monotonic()
        while entries(tmp_path)[0].beat < 5:
            assert time.monotonic() - began < 10 and not lost.is_set()
        while not lost.is_set():
            assert time.monotonic() - began < 20
            entry = entries(tmp_path)[0]
            if entry.holder == "one":
                module._rename(tmp_path, entry, module.Entry("00000", 1, "another"))
            time.sleep(0.02)
    assert entries(tmp_path)[0].holder == "another"  # it is not this process's to free


def test_live_is_who_has_renewed_a_lease_lately(tmp_path, clock, monkeypatch):
    assert not any_beat(tmp_path)
    lay_queue(tmp_path, [["a"]])
    assert not any_beat(tmp_path)
    process(tmp_path, "one", clock).take()
    assert is_live(tmp_path)
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + DEAD_SECONDS + 60)
    assert not is_live(tmp_path)


def test_a_queue_is_withdrawn_from_the_dead_only(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    assert withdraw(tmp_path, patience=0.1)
    lay_queue(tmp_path, [["a"], ["b"]])
    with Leases(tmp_path, "one", never) as leases:
        assert leases.take() is not None
        assert not withdraw(tmp_path, patience=5.0) and len(entries(tmp_path)) == 3
    dead = process(tmp_path, "dead", clock)
    assert dead.take() is not None
    assert withdraw(tmp_path, patience=0.1) and entries(tmp_path) == []
    assert not dead.beat() and dead.take() is None


def test_a_queue_of_which_something_is_taken_at_the_last_moment_stays(tmp_path, clock, monkeypatch):
    lay_queue(tmp_path, [["a"], ["b"]])
    late, before = process(tmp_path, "late", clock), entries(tmp_path)
    assert late.take() is not None
    monkeypatch.setattr(module, "entries", lambda out: before)
    assert not withdraw(tmp_path, patience=0.0)
    monkeypatch.undo()
    assert [entry.holder for entry in entries(tmp_path)] == ["late", "free", "free"]


@pytest.mark.parametrize("seed", range(100))
def test_whatever_dies_or_stands_still_every_pack_is_done_and_two_never_hold_one(tmp_path, clock, seed):
    """Processes take turns by chance; some die, some stand still until others have taken their packs."""
    rng = random.Random(seed)
    packs = rng.randint(1, 5)
    lay_queue(tmp_path, [[str(number)] for number in range(packs)])
    names = iter(range(10**6))
    alive: dict[Leases, list[str]] = {}
    still: dict[Leases, float] = {}
    done: list[str] = []
    for _ in range(400):
        while len(alive) < 3:
            alive[process(tmp_path, f"process-{next(names)}", clock)] = []
        clock.now += rng.choice((1.0, 1.0, 30.0))
        for leases, mine in [*alive.items()]:
            if clock.now < still.get(leases, 0.0):
                continue
            event = rng.random()
            if event < 0.02 and len(alive) > 1:
                del alive[leases]
            elif event < 0.04:
                still[leases] = clock.now + rng.choice((20.0, 3 * DEAD_SECONDS))
            elif not leases.beat():
                # Only who stood still for longer than a living process does may have lost a pack.
                assert leases in still
                del alive[leases]
            elif mine and rng.random() < 0.2:
                leases.end(mine[0])
                done.append(mine.pop())
            elif not mine and (lease := leases.take()) is not None:
                mine.append(lease.number)
        holders = [entry for entry in entries(tmp_path) if entry.number != "standby"]
        assert [entry.number for entry in holders] == sorted({entry.number for entry in holders})
        if len(done) == packs:
            break
    assert sorted(done) == [f"{number:05d}" for number in range(packs)]
    assert next(iter(alive)).finished() and not os.listdir(tmp_path / "queue") == []
