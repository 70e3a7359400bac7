"""Processes that train together: what they tell each other, and how one hears of another's fault."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from harness.train import hosts

# Process `me` of two, and what it finds.
SCRIPT = """
import json, sys, time
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from harness.train import hosts

hosts.FAULT_SECONDS = 1.0
me = int(sys.argv[2])
jax.config.update("jax_num_cpu_devices", 1)
hosts.join(sys.argv[1], 2, me)
both = hosts.all_hosts()
found = {"leads": both.lead, "gathered": both.gather("a", [me, "x"]), "agreed": both.agree("b", 10 + me)}
found["own"] = hosts.Hosts((me,)).gather("c", me)

mesh = Mesh(np.asarray(jax.devices()), ("run",))
laid = hosts.put(np.arange(6.0).reshape(2, 3), NamedSharding(mesh, PartitionSpec("run")))
found["members"], found["mine"] = hosts.hosts_of(mesh).numbers, np.asarray(laid.addressable_data(0)).tolist()
found["whole"] = hosts.fetch({"x": laid})["x"].tolist()

def complaint(call, *arguments):
    try:
        call(*arguments)
    except hosts.PeerError as error:
        return f"{type(error).__name__}: {error}"

found["apart"] = complaint(both.gather, ["here", "there"][me], None)
if me == 1:
    hosts.alarm("it is broken")
else:
    found["alarm"] = complaint(both.gather, "waiting", None)
found["concluded"] = hosts.conclude(f"the end of {me}", me == 1)
found["after"] = both.gather("a", me)
if me == 0:
    hosts.alarm("no room")
    found["lost"] = complaint(hosts.conclude, "", True)
    hosts.note("over", "yes")
    hosts.note("over", "a second word")
while hosts.noted("over") is None:
    time.sleep(0.05)
found["noted"] = hosts.noted("over")
hosts.leave()
print(json.dumps(found))
"""


def test_what_is_fetched_is_nobody_elses_to_change():
    array = jnp.arange(1000.0)
    kept = hosts.fetch({"a": array})["a"]
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(array)
    np.testing.assert_array_equal(kept, np.arange(1000.0))
    assert float(doubled[3]) == 6.0 and kept.flags.owndata


def test_alone_every_decision_is_ones_own():
    alone = hosts.all_hosts()
    assert alone.numbers == (0,) and alone.lead and alone.take_part and hosts.host_count() == 1
    assert alone.gather("here", [True, 3]) == [[True, 3]] and alone.agree("there", "x") == "x"
    hosts.alarm("nobody hears it")
    assert hosts.conclude("end", failed=True) == ["end"]


def test_two_processes_tell_each_other(ended_children):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for me in ("0", "1"):
        command = [sys.executable, "-c", SCRIPT, address, me]
        pipe = subprocess.PIPE
        ended_children.append(
            subprocess.Popen(command, cwd=Path(__file__).parents[3], text=True, stdout=pipe, stderr=pipe)
        )
    said = [child.communicate(timeout=120) for child in ended_children]
    assert [child.returncode for child in ended_children] == [0, 0], said
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in said)
    assert first.pop("leads") and not second.pop("leads")
    assert (first.pop("own"), second.pop("own")) == ([0], [1])
    assert (first.pop("mine"), second.pop("mine")) == ([[0.0, 1.0, 2.0]], [[3.0, 4.0, 5.0]])
    # Whoever is elsewhere is named, by each of the other.
    assert first.pop("apart") == "PeerError: out of step: process 1 is at 'there', process 0 at 'here'"
    assert second.pop("apart") == "PeerError: out of step: process 0 is at 'here', process 1 at 'there'"
    assert first.pop("alarm") == "PeerError: process 1: it is broken"
    assert first.pop("lost").startswith("PeerLost: other processes did not come within 1 s of a fault: process 0: no")
    common = {
        "gathered": [[0, "x"], [1, "x"]],
        "agreed": 10,
        "members": [0, 1],
        "whole": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "concluded": ["the end of 0", "the end of 1"],
        "after": [0, 1],
        "noted": "yes",
    }
    assert first == second == common
