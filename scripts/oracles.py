"""What the oracles promise, measured at full size: a line of JSON each, with what was wanted.

python scripts/oracles.py [PART ...] [--replicates 100]
Parts: frontier teacher students random_features gaps plrf gradient_flow lottery cost (about half an hour together).
"""

import argparse
import json
import math
import time

import jax
import numpy as np
import pandas as pd

from harness.fit.fitting import fit
from harness.fit.known_truth import compare_with_truth
from harness.theory import (
    gap_worlds,
    gradient_flow,
    jeon_van_roy,
    lottery,
    plrf,
    random_features,
    resolvent,
    students,
    teacher,
)
from harness.theory.minimum import envelope
from harness.theory.spectrum import every_mode, power_law_spectrum


def say(what: str, wanted: str, **measured) -> None:
    rounded = json.loads(
        json.dumps(measured, default=lambda x: x.tolist()), parse_float=lambda x: float(f"{float(x):.5g}")
    )
    print(json.dumps({"what": what, "wanted": wanted} | rounded), flush=True)


def slope(x, y) -> float:
    """Of log y on log x, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def frontier() -> None:
    budgets = 10.0 ** np.asarray([10, 12, 14, 16, 18, 20, 24, 30])
    best = jeon_van_roy.best_split(budgets, 10, 100.0)
    say("n* and L* at C = 1e10", "1674 and .03933 within 1 %", n=best.n[0], L=best.L[0])
    say("d ln T*/d ln p*", "1.39 1.26 1.20 1.17 1.14 1.115 1.09", slopes=jeon_van_roy.local_slope(best.p, best.T))
    say("d ln L*/d ln C", "-.418 -.437 -.450 -.459 -.465 _ -.478", slopes=jeon_van_roy.local_slope(budgets, best.L))


def teachers() -> None:
    """Means over 2,000 teachers of F^2, (F - F_n)^2 and KL."""
    d, scale, n, samples = 10, 100.0, 50, 64

    def one(key):
        made, drawn, inputs = jax.random.split(key, 3)
        full = teacher.draw_teacher(made, d, scale)
        x = jax.random.normal(inputs, (samples, d))
        truth, told = teacher.teacher_logits(full, x), teacher.teacher_logits(teacher.monte_carlo(drawn, full, n), x)
        return (truth**2).mean(), ((truth - told) ** 2).mean(), teacher.bernoulli_kl(truth, told).mean()

    found = np.asarray(jax.lax.map(one, jax.random.split(jax.random.key(0), 2000), batch_size=50)).mean(axis=1)
    say("E F^2", ".5 +- .03", value=found[0])
    say("E (F - F_n)^2 over K/(2n)", "1 +- .06", ratio=found[1] * 2 * n / scale)
    say("KL over K/(16 n)", "at most 1", ratio=found[2] * 16 * n / scale)


def trained() -> None:
    for scale in (100.0, 2.0):
        table, truth = students.simulate_students(K=scale)
        cells, found = students.cell_means(table), students.frontier_slope(table)
        tight = cells.loc[cells["bound"] < cells["guessing"]]
        share = tight[["loss", "stream_loss"]].max(axis=1) / tight["bound"]
        say(
            f"students, K = {scale:g}", "bound violated nowhere", cells=len(cells),
            violated=cells["violated"].tolist().count(True), cells_where_it_is_below_guessing=len(tight),
            largest_share_of_the_bound=float(share.max()) if len(tight) else None,
            frontier=[found.slope, found.low, found.high], cost=truth.cost,
        )  # fmt: skip


def features() -> None:
    rng = np.random.default_rng(0)

    def scores(spectrum, n, p, ridge, noise, draws):
        told = random_features.losses(spectrum, np.asarray(float(n)), np.asarray(float(p)), ridge, noise)
        seen = random_features.experiment(spectrum, n, p, ridge, noise, draws, rng)
        return [
            float((t - s.mean()) / (s.std(ddof=1) / draws**0.5))
            for t, s in zip((told.test, told.train), seen, strict=True)
        ]

    given = ((200, 400, 1e-3), (300, 300, 1.0), (100, 800, 0.1), (400, 200, 1e-3), (150, 150, 0.3), (60, 500, 10.0))
    six = [scores(every_mode(2000, 1.5, 1.8), n, p, ridge, 0.05, 200) for n, p, ridge in given]
    say("six settings, theory less experiment in standard errors (test, train)", "within 2", scores=six)
    twenty = []
    for _ in range(20):
        n, p = rng.integers(50, 300, 2)
        spectrum = every_mode(800, *rng.uniform(1.3, 2.2, 2))
        twenty += scores(spectrum, int(n), int(p), 10 ** rng.uniform(-2, 1), rng.uniform(0, 0.3), 40)
    within = int(np.sum(np.abs(twenty) < 2))
    say(
        "20 random settings, 40 scores",
        "within 2 (of true ones 38)",
        within=within,
        largest=float(np.max(np.abs(twenty))),
    )
    for alpha in (0.3, 0.5, 0.8):
        spectrum, sizes = power_law_spectrum(1e12, 1 + alpha, 1 + alpha), np.geomspace(100, 1e4, 5)
        many = np.full(5, 1e8)
        by_n = random_features.best_ridge(spectrum, sizes, many).test
        by_t = random_features.best_ridge(spectrum, many, sizes).test
        n, t = np.meshgrid(sizes, sizes)
        square = random_features.best_ridge(spectrum, n, t).test
        say(
            f"alpha = {alpha}", "alpha_N = alpha_T = alpha within 5 %, L symmetric within 3 %",
            alpha_N=-slope(sizes, by_n), alpha_T=-slope(sizes, by_t), asymmetry=np.abs(square / square.T - 1).max(),
        )  # fmt: skip
    beyond = np.geomspace(1000, 1e5, 8)
    flat = random_features.best_ridge(power_law_spectrum(1000, 1.5, 1.5), beyond, np.full(8, 1e4), 0.1).test
    say(
        "slope in N beyond the latent dimension",
        "0 +- .02",
        steepest=np.min(np.diff(np.log(flat)) / np.diff(np.log(beyond))),
    )


def gaps(replicates: int) -> None:
    worlds = (
        ("classical", "gap_threshold"), ("optimal_ridge", "gap_broken"), ("crossover", "gap_broken"), ("source", "gap"),
    )  # fmt: skip
    for name, law in worlds:
        found = []
        for seed in range(replicates):
            table, truth = gap_worlds.simulate_gaps(name, seed=seed)
            rows = pd.DataFrame({"N": table["N_nonembedding"], "D": table["D"], "G": table["gap_probe"]})
            found.append({each.name: each for each in compare_with_truth(fit(law, rows, sensitivity=False), truth)})
        for constant in ("alpha", "z", "beta"):
            mine = [each[constant] for each in found]
            errors = np.asarray([each.error for each in mine if each.error is not None])
            say(
                f"world {name} by {law}: {constant} = {truth.parameters[constant]}", "covered in 90 of 100",
                fits=len(mine), identified=len(errors), mean_error=errors.mean() if len(errors) else None,
                largest_error=np.abs(errors).max(initial=0.0),
                covered=[each.covered for each in mine].count(True),
            )  # fmt: skip


def one_pass() -> None:
    for alpha, beta in ((0.75, 0.25), (0.8, 0.6), (0.4, 0.8), (0.7, 1.3)):
        point = plrf.phase(alpha, beta)
        assert point is not None
        sizes = (512, 1024, 2048)
        limits = [np.mean([plrf.instance(alpha, beta, d, 4 * d, seed).limit for seed in range(20)]) for d in sizes]
        large = np.geomspace(1e3, 1e6, 7)
        told = [plrf.expected_limit(alpha, beta, d, 10 * d) for d in large]
        say(
            f"F_0 in d, phase {point.name} ({alpha}, {beta})", f"{-point.floor:.3f} within 5 %",
            twenty_draws_d_512_to_2048=slope(sizes, limits), exact_d_1e3_to_1e6=slope(large, told),
        )  # fmt: skip
    for alpha, beta, flops in ((0.75, 0.25, (4e3, 4e5)), (0.8, 0.6, (4e3, 4e5)), (0.4, 0.8, (2e3, 2e5))):
        point = plrf.phase(alpha, beta)
        assert point is not None
        measured = {}
        for name, sizes, seeds in (
            ("twenty_draws_d_32_to_512", (32, 45, 64, 91, 128, 181, 256, 362, 512), 20),
            ("exact_d_32_to_512", (32, 45, 64, 91, 128, 181, 256, 362, 512), 0),
            ("exact_d_512_to_8192", tuple(512 * 2 ** (k / 2) for k in range(9)), 0),
            ("exact_d_8192_to_131072", tuple(8192 * 2 ** (k / 2) for k in range(9)), 0),
        ):
            grid = np.geomspace(*flops, 21) * (sizes[0] / 32) ** (1 / point.size)
            found = envelope(sizes, grid, plrf.isoflops(alpha, beta, sizes, grid, seeds=seeds))
            known = np.isfinite(found.loss)
            measured[name] = slope(found.flops[known], found.loss[known])
        say(f"envelope, phase {point.name} ({alpha}, {beta})", f"{-point.loss:.3f} within 15 % at d <= 512", **measured)


def flow() -> None:
    endless, many = power_law_spectrum(math.inf, 1.25, 1.5), np.asarray(math.inf)
    times, sizes = np.geomspace(1e2, 1e5, 7), np.geomspace(1e3, 1e5, 7)
    say("t-bottleneck", "-.4 within 3 %", slope=slope(times, resolvent.excess(endless, math.inf, times)))
    say("data floor", "-.5 within 8 %", slope=slope(sizes, random_features.losses(endless, many, sizes, 0.0).test))
    drawn = []
    for count in (32, 64, 128, 256):
        world = gradient_flow.FlowWorld()
        curves, _ = gradient_flow.reused_and_fresh(world, 4 * count, count, np.asarray([1e8]), draws=24)
        drawn.append(curves.test.mean())
    told = [
        float(random_features.losses(endless, np.asarray(4.0 * p), np.asarray(float(p)), 0.0).test)
        for p in (32, 64, 128, 256)
    ]
    counts = (32, 64, 128, 256)
    say(
        "data floor by simulation at N = 4P, P to 256",
        "beside the theory's",
        simulated=slope(counts, drawn),
        theory=slope(counts, told),
    )
    world, late = gradient_flow.FlowWorld(), np.asarray([1000.0])
    losses = {f"{models} of {size}": float(gradient_flow.ensemble(world, size, models, late).mean())
              for size, models in ((64, 1), (64, 4), (256, 1))}  # fmt: skip
    say("models averaged, loss at t = 1000", "4 of 64 above 1 of 256", **losses)
    compute = np.geomspace(1e5, 1e8, 13)
    found = gradient_flow.compute_optimal(endless, np.geomspace(30, 3e4, 25), compute)
    known = np.isfinite(found.N)
    say("N* in C = N t", ".444 +- .04", slope=slope(compute[known], found.N[known]))
    say("L* in C = N t", "-.222 +- .02", slope=slope(compute[known], found.loss[known]))


def lotteries() -> None:
    for activation, widths, wanted in (
        ("silu", (16, 32, 64, 128, 256, 512), "-1 +- .2"),
        ("relu", (4, 8, 16, 32), "below -2"),
    ):
        table, truth = lottery.simulate_lottery(widths, activation=activation)
        found = lottery.loss_slope(table.loc[table["members"] == 1])
        say(
            f"lottery, {activation}, widths {widths[0]} to {widths[-1]}, 30 seeds", wanted, slope=found.slope,
            interval=[found.low, found.high], of_medians=found.medians, cost=truth.cost,
        )  # fmt: skip


def cost() -> None:
    started = time.perf_counter()
    draw = plrf.instance(0.75, 0.25, 512, 5120, 0)
    made = time.perf_counter() - started
    started = time.perf_counter()
    plrf.risk(draw, np.arange(1, 30001), plrf.stable_rate(0.75, 5120), 1)
    say("PLRF, d = 512, 30,000 steps", "below 2 s", seconds=time.perf_counter() - started, seconds_of_the_draw=made)
    rng, spectrum = np.random.default_rng(0), power_law_spectrum(1e6, 1.5, 1.8)
    n, p, ridge = 10 ** rng.uniform(1, 6, 20000), 10 ** rng.uniform(1, 6, 20000), 10 ** rng.uniform(-6, 2, 20000)
    for name, given in (("a ridge each", ridge), ("no ridge", 0.0)):
        started = time.perf_counter()
        random_features.losses(spectrum, n, p, given, 0.05)
        say(
            f"random features, {name}",
            "10,000 points a second",
            points_per_second=20000 / (time.perf_counter() - started),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--replicates", type=int, default=100)
    given = parser.parse_args()
    parts = {
        "frontier": frontier, "teacher": teachers, "cost": cost, "random_features": features, "gradient_flow": flow,
        "lottery": lotteries, "plrf": one_pass, "gaps": lambda: gaps(given.replicates), "students": trained,
    }  # fmt: skip
    for name in given.parts or parts:
        if name not in parts:
            parser.error(f"{name}: one of {', '.join(parts)}")
        parts[name]()


if __name__ == "__main__":
    main()
