"""Tasks: prompts whose completions can be checked."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32

from sweeps.errors import InputError


@dataclass(frozen=True)
class PromptTask:
    """Prompts with a check of what a model writes after them.

    Attributes:
        name: of the task.
        prompts: the ids of every item's prompt, left-aligned; what stands behind them is not read.
        lengths: the number of ids of each prompt, at least one.
        groups: the group of each item, such as a number of digits.
        new: how many ids a completion has.
        right: (item, completions) -> which of the completions of this item pass.
    """

    name: str
    prompts: Int32[np.ndarray, "items P"]
    lengths: Int32[np.ndarray, " items"]
    groups: tuple[str, ...]
    new: int
    right: Callable[[int, Int[np.ndarray, "n new"]], Bool[np.ndarray, " n"]]

    def __post_init__(self):
        items, longest = self.prompts.shape
        if not (items == len(self.lengths) == len(self.groups) > 0):
            counts = f"{items}, {len(self.lengths)} and {len(self.groups)}"
            raise InputError(self.name, "items", counts, "a prompt, a length and a group for each item, and an item")
        if self.lengths.min() < 1 or self.lengths.max() > longest:
            found = f"{self.lengths.min()} to {self.lengths.max()}"
            raise InputError(self.name, "lengths", found, f"prompts of 1 to {longest} ids")
        if self.new < 1:
            raise InputError(self.name, "new", self.new, "completions of at least one id")


def task_of_answers(
    name: str,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Collection[Sequence[int]]],
    groups: Sequence[str],
) -> PromptTask:
    """The task whose completions are right if they begin with one of the answers of their item, as ids.

    An answer that must not go on, as 12 is not 120, ends with the id of what has to follow it.
    """
    if not len(prompts) == len(answers) == len(groups):
        counts = f"{len(prompts)}, {len(answers)} and {len(groups)}"
        raise InputError(name, "items", counts, "a prompt, answers and a group for each item")
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    padded = np.zeros((len(prompts), max(lengths, default=0)), np.int32)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    accepted = [[np.asarray(answer) for answer in of_item] for of_item in answers]

    def right(item: int, completions: Int[np.ndarray, "n new"]) -> Bool[np.ndarray, " n"]:
        each = [(completions[:, : len(answer)] == answer).all(1) for answer in accepted[item]]
        return np.any(each, axis=0) if each else np.zeros(len(completions), bool)

    new = max((len(answer) for of_item in accepted for answer in of_item), default=0)
    return PromptTask(name, padded, lengths, tuple(groups), new, right)
