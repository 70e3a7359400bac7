"""The powers of N and D in the gaps of groups of cells, on cells whose powers are known."""

import pandas as pd
import pytest

from harness.study.slopes import group_slopes

POINTS = pd.DataFrame([(n, d) for n in (1e4, 1e5, 1e6) for d in (4e3, 3e4, 2e5)], columns=["N", "D"])


def cells(level: float, in_n: float, in_d: float, **group: object) -> pd.DataFrame:
    gap = level * POINTS["N"] ** in_n * POINTS["D"] ** in_d
    return POINTS.assign(G=gap, G_se=1e-6 * gap, **group)


def test_every_group_has_its_own_powers():
    web, code = cells(0.1, 0.3, -0.2, domain="web"), cells(0.4, -0.1, 0.05, domain="code")
    # Mixtures have other levels and the same powers, and the middle of the sizes is theirs too.
    mixtures = [
        cells(level, -0.3, -0.4, architecture=name, tokenizer="bytes", domain="web")
        for level, name in ((0.5, "dense"), (0.9, "top2"), (0.2, "switch_top1"))
    ]
    active = cells(0.1, 0.0, -0.2, architecture="top2").assign(N_active=lambda rows: rows["N"] ** 0.5)
    active["G"] = 0.1 * active["N_active"] ** 0.3 * active["D"] ** -0.2
    found = group_slopes({
        "domains": pd.concat([web, code], ignore_index=True),
        "as_published": pd.concat(mixtures, ignore_index=True),
        "architectures_active": active.assign(G_se=1e-6 * active["G"]),
        "epochs": web,
    })  # fmt: skip
    powers = {(each.block, each.group): (each.in_n, each.in_d) for each in found}
    expected = {
        ("domains", "domain code"): (-0.1, 0.05),
        ("domains", "domain web"): (0.3, -0.2),
        ("as_published", "tokenizer bytes, domain web"): (-0.3, -0.4),
        ("architectures_active", "architecture top2"): (0.3, -0.2),
    }
    assert powers.keys() == expected.keys()
    for key, value in expected.items():
        assert powers[key] == pytest.approx(value, abs=1e-4)
    assert all(each.in_n_low <= each.in_n <= each.in_n_high and each.scatter < 1e-3 for each in found)


def test_the_factor_of_the_rate_makes_a_group_and_not_the_rate_itself():
    blocks = []
    for factor in (0.5, 1.0, 2.0):
        rows = cells(0.1 * factor, 0.2 * factor, 0.1, schedule="cosine", weight_decay=0.1)
        blocks.append(rows.assign(lr=factor * 0.02 * rows["N"] ** -0.25))
    found = group_slopes({"nuisances": pd.concat(blocks, ignore_index=True)})
    assert {each.group: round(each.in_n, 3) for each in found} == {
        f"schedule cosine, rate {factor}, weight_decay 0.1": 0.2 * factor for factor in (0.5, 1.0, 2.0)
    }


def test_groups_without_clear_gaps_or_of_one_size_have_no_powers():
    rows = cells(0.1, 0.3, -0.2, domain="web")
    assert group_slopes({"domains": rows.assign(G_se=rows["G"])}) == ()
    assert group_slopes({"domains": rows.assign(N=1e4)}) == ()
