"""How often a model answers a world's questions rightly: by its most probable answer, and by sampling (PassUntil).

Questions are of numbers that neither the run nor its twin may read, up to `ITEMS` of each level, the same for all runs
of a world and split.
They follow an end-of-document token, as documents do in training.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
from jaxtyping import Bool, Int, Int32

from harness.data.mixture import Mixture
from harness.data.world import Question, is_world, parse_world
from harness.fit.quantities.pass_rates import pass_rates_of_models
from harness.measures.declared import Measure
from harness.sampling.accuracy import accuracy_by_group, exact_match
from harness.sampling.pass_until import sample_until_pass
from harness.sampling.tasks import PromptTask
from models.decode import TrainedModel
from sweeps.config import RunConfig
from sweeps.errors import InputError

# Questions of each level, and how many are drawn to find them; passes that are waited for, and the most samples of a
# question. A level's rate errs by 8 % if all passes come, and by 25 % at 1e-3, where some 16 come in 16,000 samples.
ITEMS, DRAWN, PASSES, SAMPLES = 32, 20_000, 5, 500


def task_of_questions(name: str, questions: list[Question], end: int) -> PromptTask:
    """The task of answering questions, whose groups are their levels.

    Args:
        end: the end-of-document id, which every prompt follows.
    """
    lengths = np.asarray([len(question.prompt) + 1 for question in questions], np.int32)
    prompts = np.full((len(questions), lengths.max(initial=1)), end, np.int32)
    for row, question in zip(prompts, questions, strict=True):
        row[1 : len(question.prompt) + 1] = question.prompt

    def right(item: int, completions: Int[np.ndarray, "n new"]) -> Bool[np.ndarray, " n"]:
        return np.asarray([questions[item].right(each) for each in completions], bool)

    # One id more than the longest answer, so that an answer that goes on is seen to.
    new = max((len(question.answer) for question in questions), default=0) + 1
    return PromptTask(name, prompts, lengths, tuple(str(question.level) for question in questions), new, right)


def new_questions(text: Mixture, domain: str, room: int) -> list[Question]:
    """Different questions, in the order of levels, whose groups neither a run nor its twin may read.

    There are at most `ITEMS` of each level.

    Args:
        room: the most ids of a prompt and its answer; longer ones are passed over.
    """
    world, options = parse_world(domain)
    store = text.stores[0]
    read = set(store.group_names) - {store.group_names[number] for number in np.unique(store.heldout_groups)}
    assert world.questions is not None
    found: list[Question] = []
    counts: Counter[int] = Counter()
    asked: set[bytes] = set()
    drawn: Iterator[Question] = islice(world.questions(options, 0), DRAWN)
    for question in drawn:
        fits = len(question.prompt) + len(question.answer) + 2 <= room
        new = question.group not in read and question.prompt.tobytes() not in asked
        if fits and new and counts[question.level] < ITEMS:
            asked.add(question.prompt.tobytes())
            counts[question.level] += 1
            found.append(question)
    return sorted(found, key=lambda question: question.level)


def measure_pass_rates(
    run: RunConfig, text: Mixture, heldout: Int32[np.ndarray, "W T+1"], model: TrainedModel
) -> Mapping[str, float]:
    """For each level n the columns `accuracy_n` (share), `pass_rate_n` and its 95 % interval, `_low` and `_high`."""
    questions = new_questions(text, run.data.domain, run.model.context)
    if not questions:
        return {}
    task = task_of_questions(run.data.domain, questions, run.model.vocab - 1)
    accuracy = accuracy_by_group(exact_match(model, task))
    found = {f"accuracy_{row['group']}": float(row["accuracy"]) for row in accuracy.to_dict("records")}
    sampled = sample_until_pass(model, task, passes=PASSES, samples=SAMPLES)
    for row in pass_rates_of_models(sampled, by="group").to_dict("records"):
        columns = {"": "PU", "_low": "PU_low", "_high": "PU_high"}
        found |= {f"pass_rate_{row['group']}{end}": float(row[name]) for end, name in columns.items()}
    return found


def _check(run: RunConfig) -> None:
    domain = run.data.domain
    if not is_world(domain) or parse_world(domain)[0].questions is None:
        raise InputError(run.run_id, "probe.measures", "pass_rates", f"a world with questions, not {domain}")
    if not run.model.aim.decodes:
        expected = "a model that writes token by token: objective next without patches"
        raise InputError(run.run_id, "probe.measures", "pass_rates", expected)


PASS_RATES = Measure(measure_pass_rates, _check)
