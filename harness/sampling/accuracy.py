"""The share of a task's items that a model's most probable completions get right, by group."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from harness.sampling.completions import Writer
from harness.sampling.tasks import PromptTask
from models.decode import TrainedModel


def exact_match(model: TrainedModel, task: PromptTask, rows: int = 256) -> pd.DataFrame:
    """Whether each item's most probable completion is right, token by token: `task`, `item`, `group`, `right`.

    Args:
        rows: completions that are written together.

    Raises:
        InputError: more positions than the model was trained on.
    """
    items = len(task.groups)
    together = min(rows, items)
    writer = Writer(model, task.prompts.shape[1], task.new, together, together)
    right = np.zeros(items, bool)
    for first in range(0, items, together):
        group = np.arange(first, min(first + together, items))
        begun = writer.read(task.prompts[group], task.lengths[group])
        copies = np.arange(together)
        completions = writer.write(begun, copies, np.stack([copies, copies], axis=1), 0, 0.0)
        for item in group:
            right[item] = task.right(int(item), completions[item - first : item - first + 1])[0]
    return pd.DataFrame({"task": task.name, "item": np.arange(items), "group": list(task.groups), "right": right})


def accuracy_by_group(matches: pd.DataFrame) -> pd.DataFrame:
    """The rows of `exact_match` by group, in the order of the items: `group`, `items`, `accuracy`, `low`, `high`.

    The interval is Wilson's (1927), 95 %: of items drawn as these were.
    """
    rows, groups = [], matches["group"].to_numpy()
    for group in dict.fromkeys(groups):
        right = matches["right"].to_numpy()[groups == group]
        found = binomtest(int(right.sum()), len(right))
        limits = found.proportion_ci(method="wilson")
        rows.append((group, len(right), found.statistic, limits.low, limits.high))
    return pd.DataFrame(rows, columns=["group", "items", "accuracy", "low", "high"])
