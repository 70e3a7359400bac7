"""Pass rates against the exact probabilities of a model of five ids, by enumeration of all its answers."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from harness.fit.quantities.pass_rates import pass_rate_interval, pass_rates_of_models
from harness.sampling.accuracy import accuracy_by_group, exact_match
from harness.sampling.pass_until import sample_until_pass
from harness.sampling.tasks import PromptTask, task_of_answers
from models.compute import Compute
from models.config import make_config
from models.decode import TrainedModel
from models.transformer import init, logits
from sweeps.errors import InputError

PROMPTS = [[1], [0, 4], [3, 3, 2], [2, 0, 1, 4], [4, 4], [2]]
TEMPERATURE = 0.8
ANSWERS = np.array(list(itertools.product(range(5), repeat=3)), np.int32)


@pytest.fixture(scope="module")
def model(hurried_module) -> TrainedModel:
    """Its logits spread over some units, so that answers differ in their probabilities."""
    config = make_config("dense", vocab=5, context=8, width=16, depth=1, heads=2, tied=False)
    params, biases = jax.jit(functools.partial(init, config))(jax.random.key(3))
    for table in ("embedding", "head"):
        params[table] = params[table].replace(15.0 * params[table][...])
    return TrainedModel(config, params, biases)


@pytest.fixture(scope="module")
def exact(model):
    """(The probability of each of the 125 answers of each item by full passes, each item's most probable answer)."""
    whole = jax.jit(functools.partial(logits, model.config, compute=Compute()))
    probability, likely = np.ones((len(PROMPTS), 125)), np.zeros((len(PROMPTS), 3), np.int32)
    for item, prompt in enumerate(PROMPTS):
        windows = np.array([np.resize([*prompt, *answer, 0, 0, 0], 8) for answer in ANSWERS], np.int32)
        scores = np.asarray(whole(model.params, model.biases, jnp.asarray(windows)))
        for place in range(3):
            of_next = np.asarray(scores[:, len(prompt) - 1 + place], float) / TEMPERATURE
            odds = np.exp(of_next - of_next.max(-1, keepdims=True))
            probability[item] *= odds[np.arange(125), ANSWERS[:, place]] / odds.sum(-1)
            following = [row for row, answer in enumerate(ANSWERS) if (answer[:place] == likely[item, :place]).all()]
            likely[item, place] = np.argmax(of_next[following[0]])
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-5)
    return probability, likely


def by_numbers(item: int, completions: np.ndarray) -> np.ndarray:
    """Answers of an even sum pass for the items of even number; for others those that begin with their number."""
    return completions.sum(1) % 2 == 0 if item % 2 == 0 else completions[:, 0] == item % 5


def task(**changes) -> PromptTask:
    lengths = np.array([len(prompt) for prompt in PROMPTS], np.int32)
    padded = np.array([np.resize([*prompt, 0, 0, 0], 4) for prompt in PROMPTS], np.int32)
    fields: dict[str, Any] = dict(
        name="sums", prompts=padded, lengths=lengths, groups=("a", "b") * 3, new=3, right=by_numbers
    )
    return PromptTask(**fields | changes)


def test_rates_are_the_exact_probabilities(model, exact):
    """100 passes of each item, and one rate near 1e-4 beside them; the task's rate lies in its interval."""
    probability, _ = exact
    rare = np.unravel_index(np.argmin(np.abs(np.log(probability / 1e-4))), probability.shape)
    assert probability[rare] == pytest.approx(1e-4, rel=0.5)
    truth = np.array([probability[item, by_numbers(item, ANSWERS)].sum() for item in range(6)])
    found = sample_until_pass(model, task(), passes=100, temperature=TEMPERATURE, rows=512)
    answers = task_of_answers("rare", [PROMPTS[rare[0]]], [[ANSWERS[rare[1]].tolist()]], ["rare"])
    one = sample_until_pass(model, answers, passes=20, samples=10**6, temperature=TEMPERATURE, rows=8192)
    table, truth = pd.concat([found, one]), np.append(truth, probability[rare])
    low, high = pass_rate_interval(table["passes"], table["samples"], table["reached"], level=0.999)
    assert set(table["reached"]) == {True} and ((low < truth) & (truth < high)).all()
    z = (found["rate"] / truth[:6] - 1) / np.sqrt((1 - truth[:6]) / 100)
    assert np.sqrt((z**2).mean()) < 2
    assert one["low"].item() < truth[6] < one["high"].item() < 4e-4 and one["samples"].item() > 50_000
    whole = pass_rates_of_models(found.assign(N=1)).iloc[0]
    assert whole["PU_low"] < truth[:6].mean() < whole["PU_high"] and whole["questions"] == 6


def test_rows_change_the_speed_and_not_the_result(model):
    """One row draws the samples of an item one after another."""
    plan: dict[str, Any] = dict(passes=4, samples=40, temperature=TEMPERATURE, seed=5)
    one_by_one = sample_until_pass(model, task(), rows=1, **plan)
    for rows in (4, 32):  # fewer rows than items, and more
        pd.testing.assert_frame_equal(sample_until_pass(model, task(), rows=rows, **plan), one_by_one)
    assert set(one_by_one["reached"]) == {False, True}
    assert set(one_by_one["samples"][~one_by_one["reached"]]) == {40}
    assert not sample_until_pass(model, task(), rows=32, **plan | {"seed": 6}).equals(one_by_one)


def test_samples_after_the_last_pass_do_not_count(model):
    """Each third sample of an item passes, however many are drawn at once."""
    counts = np.zeros(6, int)

    def every_third(item: int, completions: np.ndarray) -> np.ndarray:
        numbers = counts[item] + np.arange(len(completions))
        counts[item] += len(completions)
        return numbers % 3 == 2

    found = sample_until_pass(model, task(right=every_third), passes=5, rows=64)
    assert set(found["samples"]) == {15} and set(found["passes"]) == {5}
    assert found["rate"].to_numpy() == pytest.approx(4 / 14)


def test_without_time_each_item_has_a_sample_and_an_upper_limit(model):
    hopeless = task(right=lambda item, completions: np.zeros(len(completions), bool))
    found = sample_until_pass(model, hopeless, seconds=0, rows=4)
    assert set(found["samples"]) <= {1, 2, 3, 4} and set(found["reached"]) == {False}
    assert set(found["rate"]) == set(found["low"]) == {0.0} and min(found["high"]) > 0.4


def test_accuracy_is_that_of_the_most_probable_answers(model, exact):
    """Items 0 to 3 accept the most probable answer, others another one; Wilson's interval by its formula."""
    _, likely = exact
    answers = [[answer.tolist()] for answer in likely[:4]] + [[((answer + 1) % 5).tolist()] for answer in likely[4:]]
    graded = task_of_answers("likely", PROMPTS, answers, ["short", "short", "long", "long", "short", "short"])
    matches = exact_match(model, graded, rows=4)
    assert matches["right"].tolist() == [True] * 4 + [False] * 2
    groups = accuracy_by_group(matches).set_index("group")
    assert groups["items"].to_dict() == {"short": 4, "long": 2} and groups.loc["short", "accuracy"] == 0.5
    z, n, p = 1.959964, 4, 0.5
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert groups.loc["short", ["low", "high"]].tolist() == pytest.approx([0.5 - half, 0.5 + half], abs=1e-6)
    assert groups.loc["long", "high"] == 1.0


def test_an_answer_passes_where_a_completion_begins_with_it():
    graded = task_of_answers("answers", [[1], [2]], [[(1, 2), (3,)], []], ["a", "a"])
    assert graded.new == 2
    completions = np.array([[1, 2], [1, 1], [3, 0], [0, 3]])
    assert graded.right(0, completions).tolist() == [True, False, True, False]
    assert graded.right(1, completions).tolist() == [False] * 4


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda model: sample_until_pass(model, task(), passes=2), "passes"),
        (lambda model: sample_until_pass(model, task(), passes=5, samples=4), "samples"),
        (lambda model: sample_until_pass(model, task(), temperature=0.0), "temperature"),
        (lambda model: sample_until_pass(model, task(new=6)), "9 positions, but the model was trained on 8"),
        (lambda model: exact_match(model, task(new=6)), "9 positions"),
        (lambda model: task(lengths=np.array([5, 1, 1, 1, 1, 1], np.int32)), "lengths"),
        (lambda model: task(groups=("a",)), "items"),
        (lambda model: task_of_answers("none", [], [], []), "items"),
        (lambda model: task_of_answers("none", [[1]], [[]], ["a"]), "new"),
    ],
)
def test_unusable_tasks_and_plans_are_one_line(model, call, word):
    with pytest.raises(InputError, match=word) as refused:
        call(model)
    assert "\n" not in str(refused.value)
