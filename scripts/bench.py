"""Speed of what isogap does: training steps, fits, whole sweeps of short runs, tokenizing. One JSON line each.

python scripts/bench.py train --layers 4 --width 128 --heads 4 --vocab 1024 --context 256 --batch 8 --json
python scripts/bench.py fit --json
python scripts/bench.py sweep --runs 200 --json                           runs of a second each, one signature
python scripts/bench.py sweep --runs 48 --signatures 3 --mixed --json     mixed lengths, three signatures
python scripts/bench.py tokenize --json                                   against tiktoken alone
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_sweep import sweep
from bench_tokenize import tokenize

from harness.processes import ask_for_huge_pages

CALLS = 5
FIT_ROUNDS = 92  # of the 49 starts of the law: as many as the grid of the published fits has, 4,500


def train(args: argparse.Namespace) -> dict:
    """Tokens per second of training steps as `isogap run` takes them, on random tokens; compiling told apart.

    With interventions the same steps without any are timed in turn with them, so that both see the same machine; with
    an objective or experts those of a dense model that predicts every next token.
    """
    import jax
    import numpy as np

    from harness.machine.trial import Trial, try_out
    from harness.train.programs import mesh_for
    from models.config import make_config
    from models.count import count
    from models.intervention import without_floats
    from sweeps.cells import interventions_of, objective_of
    from sweeps.shape import Shape
    from sweeps.spec import SETTINGS

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    sizes = {"vocab": args.vocab, "context": args.context, "width": args.width, "depth": args.layers}
    chosen = SETTINGS.validate_python(dict(pair.split("=", 1) for pair in args.set))
    model = make_config(args.architecture, **sizes, heads=args.heads, objective=objective_of(chosen),
                        experts=chosen.get("experts"), moe_every=chosen.get("moe_every"))  # fmt: skip
    interventions = interventions_of(chosen)
    other = model if interventions else make_config("dense", **sizes, heads=args.heads)
    plain = Shape(other, args.batch, False, chosen.get("optimizer", "adamw"), 128)
    shape = dataclasses.replace(plain, model=model, interventions=tuple(map(without_floats, interventions)))
    trial = try_out(shape, args.pack, interventions=interventions)
    others = [try_out(plain, args.pack)] if shape != plain else []
    k = min(each.turns for each in (trial, *others))

    def dispatch(trial: Trial) -> float:
        began = time.perf_counter()
        jax.block_until_ready(trial.advance(k))
        return (time.perf_counter() - began) / k

    calls = max(CALLS, round(args.steps / k))
    times = np.array([[dispatch(each) for each in (trial, *others)] for _ in range(1 + calls)])[1:]
    step = float(np.median(times[:, 0]))
    added = {"added": round(float(np.median(times[:, 0] / times[:, 1])) - 1, 3)} if others else {}
    return {
        "bench": "train",
        **sizes,
        "architecture": args.architecture,
        **dict(pair.split("=", 1) for pair in args.set),
        "batch": args.batch,
        "pack": args.pack,
        "params": count(model).total,
        "devices": mesh_for(args.pack, args.batch).devices.size,
        "turns_per_dispatch": k,
        "compile_s": round(trial.compile_seconds, 2),
        "step_ms": round(1e3 * step, 3),
        **added,
        "tokens_per_second": round(args.pack * args.batch * args.context / step, 1),
    }


def fit(args: argparse.Namespace) -> dict:
    """Starts per second of Chinchilla's law, and a cluster bootstrap, on simulated runs or on a table.

    The table is of 240 runs; with --rows N, of N checkpoints of 500 runs, and a whole `fit` is timed too.
    """
    import numpy as np
    import pandas as pd

    from harness.fit.certainty.bootstrap import resample
    from harness.fit.fitting import complete, solve
    from harness.fit.laws.registry import get_law
    from harness.fit.problem.centred import centre
    from harness.fit.search.solver import minimise
    from harness.fit.search.starts import grid_of_starts
    from harness.tables.read import read_table

    law = get_law("chinchilla")
    if args.source:
        frame, _ = read_table(args.source, dict(pair.split("=", 1) for pair in args.set), args.where, laws=[law])
    else:
        draw = np.random.default_rng(0)
        runs = 500 if args.rows > 500 else args.rows
        n, most = (
            np.resize(values, args.rows) for values in (10 ** draw.uniform(7, 10, runs), draw.uniform(0, 2.5, runs))
        )
        d = n * 10**most * (1 if runs == args.rows else draw.uniform(0.05, 1.0, args.rows))
        loss = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658
        noise = np.exp(0.01 * draw.standard_normal(args.rows))
        frame = pd.DataFrame({"N": n, "D": d, "L": loss * noise, "cluster": np.arange(args.rows) % runs})
    result: dict = {"bench": "fit", "law": law.id, "rows": len(frame)}
    if len(frame) <= 10_000:
        problem = centre(law, frame)
        starts = np.tile(grid_of_starts(problem), (FIT_ROUNDS, 1))
        best, compile_s, seconds = _twice(lambda: minimise(problem, starts))
        result |= {
            "starts": len(starts),
            "compile_s": compile_s,
            "starts_per_second": round(len(starts) / seconds, 1),
            "objective": float(np.min(best.loss)) * problem.unit,
            "starts_within_1_percent": float(np.mean(best.loss <= 1.01 * np.min(best.loss))),
        }
        fitted = solve(law, frame)
        parts = (fitted.problem, fitted.solutions)
        result["bootstrap_4000_s"] = round(_twice(lambda: resample(*parts, 4000, 0))[2], 2)
    began = time.perf_counter()
    whole = complete(solve(law, frame), frame)
    result |= {"whole_fit_s": round(time.perf_counter() - began, 2), "status": whole.status.value}
    return result | {"peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}


def _twice(call: Callable) -> tuple[Any, float, float]:
    """What a call gives, how much longer its first time took, and the median of the others, in seconds."""
    times, found = [], None
    for _ in range(CALLS + 1):
        began = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times[1:])
    return found, round(times[0] - seconds, 2), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("train")
    for name, default in dict(
        layers=4, width=128, heads=4, vocab=1024, context=256, batch=8, pack=1, steps=100
    ).items():
        one.add_argument(f"--{name}", type=int, default=default)
    one.add_argument("--architecture", default="dense")
    one.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", help="such as prune_sparsity=0.5")
    one.set_defaults(run=train)
    two = verbs.add_parser("fit")
    two.add_argument("--source", help="a CSV of runs instead of simulated ones")
    two.add_argument("--set", action="append", default=[], metavar="ROLE=COLUMN")
    two.set_defaults(run=fit)
    two.add_argument("--where", help="rows to use")
    two.add_argument("--rows", type=int, default=240, help="of simulated runs; above 500, checkpoints of 500 runs")
    three = verbs.add_parser("sweep")
    three.add_argument("--runs", type=int, default=200)
    three.add_argument("--signatures", type=int, choices=(1, 2, 3), default=1)
    three.add_argument("--mixed", action="store_true", help="runs of four lengths")
    three.add_argument("--folder", help="where the sweeps are run, instead of the system's temporary folder")
    three.set_defaults(run=sweep)
    four = verbs.add_parser("tokenize")
    four.add_argument("--domain", default="stdlib_code")
    four.add_argument("--tokenizer", default="o200k_base", help="one of tiktoken's, whole")
    four.add_argument("--cache", type=Path, help="folder of prepared data, instead of the user's")
    four.set_defaults(run=tokenize)
    for verb in (one, two, three, four):
        verb.add_argument("--json", action="store_true", help="one JSON line")
    args = parser.parse_args()
    result = args.run(args)
    print(json.dumps(result) if args.json else "\n".join(f"{name:20} {value}" for name, value in result.items()))


if __name__ == "__main__":
    ask_for_huge_pages()
    main()
