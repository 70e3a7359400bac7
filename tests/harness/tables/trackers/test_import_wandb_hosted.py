"""A project on W&B's server, which its own client reads: a server on this machine stands in for it.

It answers the queries of the client (wandb 0.31) for a project's runs, two a page, and for their histories, which are
parquet files.
"""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

pytest.importorskip("wandb")

import wandb

from harness.tables.trackers.runs import import_runs
from sweeps.errors import InputError

PAGE = 2


class StandIn(BaseHTTPRequestHandler):
    """W&B's server with the project team/ladder; `runs` are its runs, by class attribute."""

    runs = []

    def do_POST(self):
        """Answer a query."""
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path != "/graphql":
            return self._send(b"", 404)
        query = json.loads(body)
        variables = query.get("variables") or {}
        data = {"viewer": {"id": "1", "entity": "team", "username": "someone", "flags": "{}", "teams": {"edges": []}}}
        if "project" in variables:
            data = {"project": self._project(query["query"], variables) if variables["project"] == "ladder" else None}
        self._send(json.dumps({"data": data}).encode())

    def _project(self, query, variables):
        if "runs(" in query:
            start = int(variables["cursor"] or 0)
            chosen = self.runs[start : start + PAGE]
            edges = [{"node": self._node(run), "cursor": str(start + i + 1)} for i, run in enumerate(chosen)]
            page = {"endCursor": str(start + PAGE), "hasNextPage": start + PAGE < len(self.runs)}
            return {"runCount": len(self.runs), "internalId": "1", "runs": {"edges": edges, "pageInfo": page}}
        name = variables.get("name") or variables["runName"]
        port = self.headers["Host"].rpartition(":")[2]
        history = {"parquetUrls": [f"http://127.0.0.1:{port}/{name}"], "liveData": []}
        return {"run": {"historyKeys": {"lastStep": 40}, "parquetHistory": history}}

    @staticmethod
    def _node(run):
        config = {"model": {"value": {"n_params": run.params}}, "tokens": {"value": run.tokens}}
        return {
            "id": run.name, "projectId": "1", "name": run.name, "displayName": f"run {run.name}", "state": "finished",
            "config": json.dumps(config | {"_wandb": {"value": {}}}), "historyKeys": {"lastStep": 40}, "tags": [],
            "summaryMetrics": json.dumps({"val/loss": run.curve[-1][1], "_step": 40, "note": {"_type": "html-file"}}),
        }  # fmt: skip

    def do_GET(self):
        """Send the history of a run."""
        (run,) = (run for run in self.runs if run.name == self.path.lstrip("/"))
        file = io.BytesIO()
        table = pd.DataFrame(run.curve, columns=["_step", "val/loss"]).assign(_runtime=1.0)
        table.to_parquet(file, row_group_size=2)
        self._send(file.getvalue())

    def _send(self, content, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(autouse=True)
def fresh_client():
    """The client reads the environment once in a process: what other tests set is forgotten, and what these set."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def server(ladder, tmp_path, monkeypatch):
    monkeypatch.setattr(StandIn, "runs", ladder)
    served = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{served.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    yield
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.filterwarnings("ignore")  # of the client's own
def test_a_project_is_read_page_by_page(server, check_ladder):
    told = []
    imported = import_runs("wandb", "team/ladder", curves=True, tell=told.append)
    imported.runs["run_name"] = imported.runs["run_name"].str.removeprefix("run ")
    check_ladder(imported, "run_name", "model.n_params", "tokens", "val/loss")
    assert told == ["isogap fit takes N = model.n_params, D = tokens, L = val/loss"]
    columns = ["run_id", "run_name", "project", "state", "model.n_params", "tokens", "val/loss"]
    assert imported.runs.columns.tolist() == columns


@pytest.mark.filterwarnings("ignore")
def test_a_project_that_is_not_there_is_refused(server):
    with pytest.raises(InputError, match="PATH: got 'team/other'"):
        import_runs("wandb", "team/other")


@pytest.mark.filterwarnings("ignore")
def test_without_a_key_it_says_how_to_log_in(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(InputError, match="wandb login"):
        import_runs("wandb", "team/ladder")
