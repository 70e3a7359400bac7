"""What reaches W&B, against the record: its own offline files, and a stand-in for its server."""

import json
import random
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.track.rows import committed_segments


def offline_history(file: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, row) of each history record of a .wandb file: LevelDB's log format, blocks of 32 KiB behind 7 bytes."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    data, position, rows, record = file.read_bytes(), 7, [], b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record  # pyright: ignore[reportAttributeAccessIssue]
            parsed, record = message.FromString(record), b""
            if parsed.WhichOneof("record_type") == "history":
                items = {"/".join([i.key, *i.nested_key]).lstrip("/"): json.loads(i.value_json) for i in
                         parsed.history.item}  # fmt: skip
                rows.append((items.pop("_step"), {k: v for k, v in items.items() if not k.startswith("_")}))
    return rows


def expected(recorded) -> list[tuple[int, dict[str, float]]]:
    steps: dict[int, dict[str, float]] = {}
    for (tag, step), value in recorded.rows.items():
        steps.setdefault(step, {})[tag] = value
    # The tokens of an evaluation at step 0 are in no series row.
    return [(s, row | ({"tokens": 32 * s} if s else {})) for s, row in sorted(steps.items())]


@pytest.mark.filterwarnings("default")  # of the client's own
def test_offline_files_hold_a_run_that_has_ended_once(recorded, monkeypatch):
    pytest.importorskip("wandb")
    from harness.track.wandb import mirror_to_wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = recorded(random.SystemRandom().randrange(10**6))
    for steps in (35, 20, 40):
        run.commit(steps)
        run.status("running")
        mirror_to_wandb(run.out, run.config)
    run.cut()
    run.commit(50)
    assert not (run.out / "wandb").exists()
    run.status("done")
    left = run.out / "wandb" / f"offline-run-20200101_000000-{run.config.run_id}"  # of a process that died
    left.mkdir(parents=True)
    (left / f"run-{run.config.run_id}.wandb").write_bytes(b"half")
    for _ in range(2):
        mirror_to_wandb(run.out, run.config)
    (file,) = (run.out / "wandb").glob("offline-run-*/*.wandb")
    assert file.stem == f"run-{run.config.run_id}"
    assert offline_history(file) == expected(run)


class Server:
    """Takes the place of the package: keeps rows, may die, and drops what is not beyond its last step, as it does."""

    def __init__(self):
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.sent = 0
        self.dies_at_finish = self.is_down = False
        self.summary = {}

    def init(self, **options):
        if self.is_down:
            raise ConnectionError("nobody there")
        assert options["resume"] == "allow" and options["config"]["steps"] == 400
        self.starting_step = self.rows[-1][0] + 1 if self.rows else 0
        return self

    def log(self, row, step):
        self.sent += 1
        if not self.rows or step > self.rows[-1][0]:
            self.rows.append((step, dict(row)))

    def finish(self):
        if self.dies_at_finish:
            raise TimeoutError("not all was uploaded")


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    server = Server()
    package = types.SimpleNamespace(init=server.init, Settings=lambda **options: options)
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delitem(sys.modules, "harness.track.wandb", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    yield server
    sys.modules.pop("harness.track.wandb", None)


def test_rows_are_sent_once_whatever_dies(recorded, server):
    from harness.track.wandb import mirror_to_wandb

    run = recorded(7)
    run.commit(35)
    mirror_to_wandb(run.out, run.config)
    mirror_to_wandb(run.out, run.config)
    assert server.rows == expected(run) and server.sent == len(server.rows)
    run.commit(20)
    server.dies_at_finish = True  # the server has the rows, and the position does not say so
    with pytest.raises(TimeoutError):
        mirror_to_wandb(run.out, run.config)
    server.dies_at_finish, server.is_down = False, True
    run.commit(10)
    with pytest.raises(ConnectionError):
        mirror_to_wandb(run.out, run.config)
    server.is_down = False
    mirror_to_wandb(run.out, run.config)
    assert server.rows == expected(run)
    (run.out / "wandb" / f"{run.config.run_id}.json").unlink()  # another machine has the folder now
    sent = server.sent
    mirror_to_wandb(run.out, run.config)
    assert server.rows == expected(run) and server.sent == sent


def test_a_run_cut_back_goes_on_where_the_mirror_stands(recorded, server):
    from harness.track.wandb import mirror_to_wandb

    run = recorded(8)
    run.commit(30)
    run.commit(30)
    mirror_to_wandb(run.out, run.config)
    before, last = expected(run), run.step
    while run.step == last:
        run.cut()
    run.commit(45)
    while run.step <= last:
        run.commit(45)
    mirror_to_wandb(run.out, run.config)
    # Recomputed rows are the same in a real record; here they differ, and the first ones stand.
    assert server.rows == before + [row for row in expected(run) if row[0] > last]
    assert committed_segments(run.folder)
