"""Followers of a record: when they look, and what becomes of a tracker that fails."""

import sys
import types

import pytest
from rich.console import Console

from harness.track import mirror as module
from harness.track.mirror import Follower, check_trackers, tracking
from sweeps.errors import InputError


@pytest.fixture
def tracker(monkeypatch):
    """A tracker `fake` that notes the runs it is given, and fails while `down`."""
    fake = types.SimpleNamespace(seen=[], down=False)

    def mirror(out, run):
        if fake.down:
            raise ConnectionError("nobody there\nreally")
        fake.seen.append(run.run_id)

    monkeypatch.setitem(sys.modules, "harness.track.fake", types.SimpleNamespace(mirror_to_fake=mirror))
    return fake


def test_only_what_has_changed_is_mirrored(recorded, tracker):
    run = recorded(1)
    follower = Follower("fake", run.out, [run.config], pytest.fail)
    assert follower.update() and tracker.seen == []  # nothing is committed
    for change in (lambda: run.commit(5), lambda: run.commit(5), lambda: run.status("done"), run.cut):
        change()
        assert follower.update() and follower.update()
    assert tracker.seen == [run.config.run_id] * 4


def test_a_failure_is_said_once_and_made_good(recorded, tracker):
    run, said = recorded(2), []
    follower = Follower("fake", run.out, [run.config], said.append)
    run.commit(5)
    tracker.down = True
    assert not follower.update() and not follower.update()
    assert len(said) == 1 and "fake" in said[0] and "nobody there" in said[0] and "\n" not in said[0]
    tracker.down = False
    assert follower.update() and tracker.seen == [run.config.run_id]


def test_tracking_mirrors_all_at_the_end(recorded, tracker, capsys):
    run = recorded(3)
    with tracking(["fake", "fake"], run.out, [run.config], Console()):
        run.commit(5)
    assert tracker.seen == [run.config.run_id] and capsys.readouterr().out == "seed 3\n"
    tracker.down = True
    run.commit(5)
    with tracking(["fake"], run.out, [run.config], Console()):
        pass
    assert "the same command again sends the rest" in capsys.readouterr().out


def test_a_tracker_that_hangs_is_left(recorded, tracker, capsys, monkeypatch):
    monkeypatch.setattr(module, "LAST_SECONDS", 0.05)
    release, run = module.threading.Event(), recorded(4)
    run.commit(5)
    monkeypatch.setattr(sys.modules["harness.track.fake"], "mirror_to_fake", lambda out, run: release.wait(20))
    with tracking(["fake"], run.out, [run.config], Console()):
        pass
    assert "fake does not answer" in capsys.readouterr().out
    release.set()


def test_what_cannot_be_tracked_to_is_refused(monkeypatch):
    check_trackers([])
    with pytest.raises(
        InputError, match="--track: value: got 'tensorbored', expected one of mlflow, tensorboard, trackio, wandb"
    ):
        check_trackers(["tensorbored"])
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'isogap\[wandb\]'"):
        check_trackers(["wandb"])
