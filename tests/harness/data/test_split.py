from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.split import Half, place_in_order, split
from sweeps.errors import InputError

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6).filter(lambda sizes: max(sizes) > 3)
HALVES: tuple[Half, Half] = ("a", "b")
CHOICES = st.tuples(st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]), st.integers(0, 5))


def grouped(sizes):
    return {f"s{source}/g{k}": f"s{source}" for source, size in enumerate(sizes) for k in range(size)}


@given(SIZES, CHOICES)
def test_the_sides_are_disjoint_complete_and_have_their_share_of_each_source(sizes, choice):
    groups = grouped(sizes)
    fraction = choice[0]
    train, heldout = split(groups, *choice)
    assert not train & heldout and train | heldout == groups.keys()
    held = Counter(groups[group] for group in heldout)
    for source, size in enumerate(sizes):
        expected = (0, 1) if size == 1 else (min(max(round(fraction * size), 1), size - 1),)
        assert held[f"s{source}"] in expected


@given(SIZES, CHOICES)
def test_halves_share_no_group_and_have_the_same_held_out_text(sizes, choice):
    groups = grouped(sizes)
    train, heldout = split(groups, *choice)
    sides = []
    for half in HALVES:
        try:
            sides.append(split(groups, *choice, half=half))
        except InputError:
            # A group alone in its source falls to the half that its hash says: all may fall to one.
            assert max(Counter(groups[group] for group in train).values()) == 1
            return
    (a, held_a), (b, held_b) = sides
    assert held_a == held_b == heldout
    assert not a & b and a | b == train
    for source in set(groups.values()):
        ours, theirs = (sum(groups[group] == source for group in half) for half in (a, b))
        assert abs(ours - theirs) <= 1


@given(SIZES, CHOICES, st.integers(0, 99).map(Random), st.sampled_from([None, *HALVES]))
def test_the_split_does_not_depend_on_the_order_of_the_groups(sizes, choice, random, half):
    groups = grouped([*sizes, 30])
    shuffled = dict(random.sample(list(groups.items()), len(groups)))
    assert split(shuffled, *choice, half=half) == split(groups, *choice, half=half)


@given(SIZES, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_what_a_smaller_fraction_holds_out_a_larger_one_does_too(sizes, one, other):
    groups = grouped([*sizes, 9])
    assert split(groups, min(one, other))[1] <= split(groups, max(one, other))[1]


def test_another_seed_holds_out_other_groups_independently():
    groups = grouped([5000])
    held = [split(groups, 0.1, seed)[1] for seed in range(4)]
    halves = [split(groups, 0.1, seed, "a")[0] for seed in range(4)]
    for k in range(4):
        for other in range(k):
            # 500 of 5000 twice have 50 in common, with a standard deviation of 6.4; 2250 of 5000 twice 1012 and 19.
            assert abs(len(held[k] & held[other]) - 50) < 4 * 6.4
            assert abs(len(halves[k] & halves[other]) - 1012) < 4 * 19


def test_a_group_alone_in_its_source_is_held_out_with_the_probability_of_the_fraction():
    groups = {f"g{k}": f"s{k}" for k in range(20_000)}
    assert abs(len(split(groups, 0.1)[1]) - 2000) < 4 * np.sqrt(20_000 * 0.1 * 0.9)


@settings(max_examples=20)
@given(st.lists(st.text(min_size=1), unique=True, max_size=50), st.integers(0, 99).map(Random))
def test_a_corpus_that_grows_keeps_the_order_of_what_it_had(ids, random):
    few = set(random.sample(ids, len(ids) // 2))
    grown = sorted(random.sample(ids, len(ids)), key=place_in_order)
    assert [name for name in grown if name in few] == sorted(few, key=place_in_order)


def test_a_prefix_is_spread_over_the_groups():
    group = {f"{g} {p}": g for g in range(270) for p in range(10)}
    ordered = sorted(group, key=place_in_order)
    # 100 of 2,700 documents, drawn from 270 groups of 10 each: 270 * (1 - C(2690, 100) / C(2700, 100)) = 84 expected.
    assert 75 < len({group[name] for name in ordered[:100]}) < 93


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, 2])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(InputError, match="heldout_fraction"):
        split(grouped([20]), fraction)


@pytest.mark.parametrize(("size", "halves"), [(0, [None]), (1, [None]), (2, HALVES)])
def test_too_few_groups_are_refused_in_one_line(size, halves):
    refused = []
    for half in halves:
        try:
            split(grouped([size]), 0.001, 0, half)
        except InputError as error:
            refused.append(str(error))
    # Of two groups one is held out, and one half has the other.
    assert len(refused) == 1 and "more groups" in refused[0] and "\n" not in refused[0]
