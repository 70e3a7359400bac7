"""Statuses round trip, and tell what a dead process left."""

from harness.record.status import Status, read_status, write_status


def test_a_status_is_read_as_it_was_written(tmp_path):
    status = Status("diverged", 12, 100, 5.25, "loss or gradient not finite at step 12")
    write_status(tmp_path, status)
    assert read_status(tmp_path, 100) == status == read_status(tmp_path, 100, live=False)


def test_a_run_without_a_status_is_pending_and_one_whose_process_died_is_interrupted(tmp_path):
    assert read_status(tmp_path, 70) == Status("pending", 0, 70)
    write_status(tmp_path, Status("running", 3, 70, 1.5))
    assert read_status(tmp_path, 70, live=True).state == "running"
    assert read_status(tmp_path, 70, live=False) == Status("interrupted", 3, 70, 1.5)
