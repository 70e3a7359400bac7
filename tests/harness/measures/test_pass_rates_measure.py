"""Answers to a world's questions: which are asked, and how often they pass against an exact sum over all answers."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from harness.data.worlds.arithmetic import to_ids
from harness.measures.declared import check_measures
from harness.measures.pass_rates import ITEMS, measure_pass_rates, new_questions, task_of_questions
from harness.record.table import runs_table
from harness.train.run_batches import opener
from models.compute import Compute
from models.config import TrainingObjective
from models.decode import TrainedModel
from models.transformer import init, logits
from sweeps.errors import InputError
from sweeps.grid import load

DOMAIN = "arithmetic:operators=+,digits=2,steps=0,documents=2000"
SETTINGS = {
    "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 4, "tokens": 6400, "probe_windows": 8, "lr": 0.01,
    "domain": DOMAIN, "tokenizer": "symbols:17", "measures": ["pass_rates"],
}  # fmt: skip


@pytest.fixture(scope="module")
def batches(lab, tmp_path_factory):
    file = tmp_path_factory.mktemp("sweep") / "spec.yaml"
    file.write_text(yaml.safe_dump({"name": "x", "defaults": SETTINGS, "blocks": [{}]}))
    (run,) = load(str(file)).configs
    return opener(lab.cache)(run)


def test_questions_are_of_numbers_that_the_run_does_not_read(batches):
    questions = new_questions(batches.mixture, DOMAIN, 16)
    levels = [question.level for question in questions]
    assert levels == sorted(levels) and levels.count(2) == ITEMS and 1 <= levels.count(1) <= ITEMS
    assert len({question.prompt.tobytes() for question in questions}) == len(questions)
    store = batches.mixture.stores[0]
    read = {store.group_names[number] for number in store.train_groups}
    documents = np.split(np.asarray(store.train), store.train_offsets[1:-1])
    texts = {bytes(document[:-1].tolist()) for document in documents}
    for question in questions:
        assert question.group not in read
        assert bytes([*question.prompt, *question.answer]) not in texts


def test_twins_are_asked_the_same_questions_which_neither_reads(lab, batches):
    data = batches.config.data.model_copy(update={"half": "a", "unique_tokens": 4001})
    twin = batches.config.model_copy(update={"data": data, "steps": 50})
    alone = new_questions(batches.mixture, DOMAIN, 16)
    for run in (twin, twin.twin()):
        found = new_questions(opener(lab.cache)(run).mixture, DOMAIN, 16)
        assert [each.prompt.tolist() for each in found] == [each.prompt.tolist() for each in alone]


@pytest.mark.parametrize("aim", [TrainingObjective("masked"), TrainingObjective(patch=2)])
def test_models_that_cannot_write_are_refused_before_they_are_trained(batches, aim):
    model = dataclasses.replace(batches.config.model, objective=aim)
    with pytest.raises(InputError, match="pass_rates.*token by token"):
        check_measures(batches.config.model_copy(update={"model": model}))


def test_a_rate_is_the_sum_over_all_right_answers_of_their_probabilities(batches):
    run = batches.config
    model = TrainedModel(run.model, *init(run.model, jax.random.key(3)))
    questions = [question for question in new_questions(batches.mixture, DOMAIN, 16) if question.level == 1]
    found = measure_pass_rates(run, batches.mixture, batches.last_probes["heldout"].tokens, model)
    # A right completion is the answer and then anything but a digit: the exact probability of both, averaged.
    exact = []
    for question in questions:
        ids = np.asarray([16, *question.prompt, *question.answer])
        scores = np.asarray(logits(run.model, model.params, model.biases, jnp.asarray(ids[None]), compute=Compute()))[0]
        chances = np.exp(scores - np.log(np.exp(scores).sum(-1, keepdims=True)))
        first = len(question.prompt)
        of_answer = math.prod(chances[first + place, each] for place, each in enumerate(question.answer))
        exact.append(of_answer * (1 - chances[first + len(question.answer), to_ids("0123456789")].sum()))
    low, rate, high = (found[f"pass_rate_1{end}"] for end in ("_low", "", "_high"))
    # The interval is of 95 %; a rate is within twice its arms in all but one of 10,000 repetitions.
    assert rate - 2 * (rate - low) < np.mean(exact) < rate + 2 * (high - rate) and high < 10 * np.mean(exact)
    assert set(found) >= {"accuracy_1", "accuracy_2", "pass_rate_2"}


def test_only_the_answer_itself_is_right(batches):
    questions = new_questions(batches.mixture, DOMAIN, 16)
    task = task_of_questions("sums", questions, 16)
    for item, question in itertools.islice(enumerate(questions), 4):
        wrong = [*question.answer[:-1], (question.answer[-1] + 1) % 10]
        longer = [*question.answer, 0]
        rows = np.full((3, task.new), 16)
        for row, ids in zip(rows, (question.answer, wrong, longer), strict=True):
            row[: len(ids)] = ids
        assert task.right(item, rows).tolist() == [True, False, False]
        assert task.prompts[item, : task.lengths[item]].tolist() == [16, *question.prompt]


@pytest.mark.slow
def test_runs_record_their_rates_and_other_domains_are_refused(lab, isogap, tmp_path):
    def run(**changes):
        (tmp_path / "spec.yaml").write_text(
            yaml.safe_dump({"name": "x", "defaults": SETTINGS | {"tokens": 3200} | changes, "blocks": [{}]})
        )
        return isogap("run", tmp_path / "spec.yaml", "--out", tmp_path / str(changes), "--cache", lab.cache)

    ended = run(domain=f"text:{lab.text}", tokenizer="bytes")
    assert ended.status == 3 and "a world with questions" in ended.out
    assert run().status == 0
    row = runs_table(tmp_path / "{}").iloc[0]
    assert 0 <= row["pass_rate_1_low"] <= row["pass_rate_1"] <= row["pass_rate_1_high"] <= 1
