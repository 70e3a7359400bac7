"""Worked problems, read again and worked with Python's numbers; their entropy, by enumeration."""

import math
import re
from collections import defaultdict
from itertools import islice

import numpy as np
import pytest

from harness.data.split import split
from harness.data.world import parse_world
from harness.data.worlds.arithmetic import is_right, to_ids, to_text

PROBLEM = re.compile(r"(\d+)([-+*])(\d+)(?::((?:>[\d:+]+)*))?=(\d+)")


def number(text: str) -> int:
    assert text == str(int(text))  # no zeros before it
    return int(text)


def check(text: str, steps: bool) -> tuple[int, str, int]:
    """Work a document again."""
    found = PROBLEM.fullmatch(text)
    assert found, text
    first, operator, second = number(found[1]), found[2], number(found[3])
    answer = {"+": first + second, "-": first - second, "*": first * second}[operator]
    assert number(found[5]) == answer >= 0 and (found[4] is not None) == steps
    if not steps:
        return first, operator, second
    work = found[4].split(">")[1:]
    if operator == "*":
        total = 0
        for place, (digit, step) in enumerate(zip(reversed(found[3]), work, strict=True)):
            total += first * int(digit) * 10**place
            assert step == f"{digit}:{first * int(digit)}+{total}"
    else:
        carried, width = 0, max(len(found[1]), len(found[3]))
        columns = zip(reversed(found[1].zfill(width)), reversed(found[3].zfill(width)), strict=True)
        for (one, other), step in zip(columns, work, strict=True):
            assert step[:2] == one + other
            # Carries and borrows are worth ten of the next column.
            value = int(step[2]) + (10 if operator == "+" else -10) * int(step[3])
            assert value == (int(one) + int(other) + carried if operator == "+" else int(one) - int(other) - carried)
            carried = int(step[3])
        assert int("".join(step[2] for step in reversed(work))) + carried * 10**width == answer
    return first, operator, second


@pytest.mark.parametrize("options", ["digits=6", "digits=3,steps=false", "operators=*,digits=2", "operators=-"])
def test_documents_are_right_to_the_last_step(options):
    world, given = parse_world(f"arithmetic:{options},documents=1500")
    problems = [(d, check(to_text(d.ids), given.steps)) for d in world.documents(given)]
    assert {operator for _, (_, operator, _) in problems} == set(given.operators)
    for document, (first, operator, second) in problems:
        low, high = sorted((first, second))
        assert document.group == f"{low},{high}" and document.source == f"{len(str(high))} digits"
        assert operator != "-" or first >= second
    digits = [len(str(n)) for _, (a, _, b) in problems for n in (a, b)]
    assert np.bincount(digits)[1:] / len(digits) == pytest.approx(np.full(given.digits, 1 / given.digits), abs=0.04)


@pytest.mark.parametrize(
    "options", ["digits=1", "digits=2", "digits=2,steps=false", "operators=*,digits=2", "operators=-"]
)
def test_the_entropy_is_that_of_all_problems(options):
    world, given = parse_world(f"arithmetic:{options},digits=2" if "digits" not in options else f"arithmetic:{options}")
    # All numbers with their probabilities: their length is drawn first.
    numbers = [(n, 1 / given.digits / (10 if n < 10 else 90)) for n in range(10**given.digits)]
    texts: dict[tuple[int, str, int], float] = defaultdict(float)
    for a, pa in numbers:
        for b, pb in numbers:
            for operator in given.operators:
                problem = (max(a, b), operator, min(a, b)) if operator == "-" else (a, operator, b)
                texts[problem] += pa * pb / len(given.operators)
    p = np.array(list(texts.values()))
    length = 0.0
    for (a, operator, b), probability in texts.items():
        answer = str({"+": a + b, "-": a - b, "*": a * b}[operator])
        size = len(f"{a}{operator}{b}={answer}") + 1
        if given.steps:
            columns = max(len(str(a)), len(str(b)))
            parts = [(a * int(d), a * int(str(b)[-k:])) for k, d in enumerate(reversed(str(b)), 1)]
            size += 1 + (sum(4 + len(f"{x}{y}") for x, y in parts) if operator == "*" else 5 * columns)
        length += probability * size
    assert p.sum() == pytest.approx(1)
    assert world.entropy(given) == pytest.approx(-np.sum(p * np.log(p)) / length, rel=1e-9)


def test_mean_length_of_long_numbers_is_that_of_documents():
    world, options = parse_world("arithmetic:documents=60000,digits=5")
    lengths = np.array([len(d.ids) + 1 for d in world.documents(options)])
    entropy_of_a_problem = math.log(3) + 2 * math.log(5)
    sizes = [10, 90, 900, 9000, 90000]
    entropy_of_a_problem += 2 * np.mean(np.log(sizes)) - math.log(2) / 3 * (1 - sum(1 / s for s in sizes) / 25)
    assert entropy_of_a_problem / (world.entropy(options) or 1.0) == pytest.approx(lengths.mean(), rel=0.006)


@pytest.mark.parametrize("steps", [True, False])
def test_questions_know_their_answers(steps):
    world, options = parse_world(f"arithmetic:steps={steps},digits=3")
    assert world.questions
    for question in islice(world.questions(options, 5), 300):
        whole = to_text(np.concatenate([question.prompt, question.answer]))
        first, operator, second = check(whole, steps)
        answer = {"+": first + second, "-": first - second, "*": first * second}[operator]
        assert question.level == len(str(max(first, second)))
        end = [world.vocab(options) - 1]
        right = question.answer.tolist()
        assert question.right(np.array(right)) and question.right(np.array([*right, *end, 3, 4]))
        assert not question.right(np.array([*right, 0])) and not question.right(np.array(right[:-1]))
        wrong = to_ids(f"={answer + 1}" if steps else str(answer + 1))
        assert not question.right(wrong) and not question.right(np.array(end))


def test_questions_are_other_problems_for_every_seed():
    world, options = parse_world("arithmetic")
    assert world.questions
    first, again, other = (
        [to_text(q.prompt) for q in islice(world.questions(options, seed), 50)] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_answers_are_read_up_to_what_is_no_digit():
    assert is_right(to_ids("12>9=5"), 12, steps=False) and not is_right(to_ids("123"), 12, steps=False)
    assert is_right(to_ids(">9=12=13"), 12, steps=True) and not is_right(to_ids("12"), 12, steps=True)
    assert not is_right(np.array([], np.int64), 12, steps=True)


def test_numbers_that_are_held_out_are_never_combined_in_training():
    world, options = parse_world("arithmetic:digits=1,documents=3000")
    drawn = list(world.documents(options))
    train, heldout = split({d.group: d.source for d in drawn}, 0.2)
    pairs = {side: {frozenset(re.findall(r"\d", g)) for g in groups} for side, groups in (("t", train), ("h", heldout))}
    assert pairs["t"].isdisjoint(pairs["h"]) and len(heldout) == 11 and len(train) == 44
