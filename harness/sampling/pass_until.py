"""How often a model's answers pass, by sampling each item until r of them do (Hu et al., arXiv 2310.03262)."""

import time

import numpy as np
import pandas as pd

from harness.fit.quantities.pass_rates import pass_rate_interval, unbiased_pass_rate
from harness.sampling.completions import Writer
from harness.sampling.tasks import PromptTask
from models.decode import TrainedModel
from sweeps.errors import InputError


def sample_until_pass(
    model: TrainedModel,
    task: PromptTask,
    *,
    passes: int = 20,
    samples: int = 100_000,
    seconds: float | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    rows: int = 256,
) -> pd.DataFrame:
    """Sample completions of every item until `passes` of them are right, or `samples` are drawn.

    A sample depends on the seed, its item and its number alone, so that `rows` changes the speed and not the result. Of
    an item's samples those after the last pass that was wanted do not count: that makes the estimate unbiased.

    Args:
        passes: r, at least 3; the relative error of a rate is about 1/sqrt(r).
        samples: the most samples of an item. A rate below 1 in `samples` has an upper limit only.
        seconds: the most time, about; each item has one sample or more however short it is. None for no limit.
        temperature: of the sampling (`models.decode.sample_tokens`), above 0.
        rows: completions that are drawn together.

    Returns:
        A row per item: `task`, `item`, `group`, `passes`, `samples`, `reached` (whether all passes wanted came),
        `rate` (unbiased) and its exact 95 % interval `low`, `high`. `pass_rates_of_models` averages it.

    Raises:
        InputError: fewer than 3 passes, fewer samples than passes, no temperature, or more positions than the model
            was trained on.
    """
    if passes < 3 or samples < passes:
        raise InputError(task.name, "passes, samples", (passes, samples), "at least 3 passes, and as many samples")
    if not temperature > 0:
        raise InputError(task.name, "temperature", temperature, "above 0: without chance there is no rate")
    items = len(task.groups)
    together = min(rows, items)
    writer = Writer(model, task.prompts.shape[1], task.new, together, rows)
    drawn, passed = np.zeros(items, int), np.zeros(items, int)
    began = time.monotonic()
    for first in range(0, items, together):
        group = np.arange(first, min(first + together, items))
        # What is left of the time is shared by the items that are left.
        spent = time.monotonic() - began
        deadline = np.inf if seconds is None else spent + (seconds - spent) * len(group) / (items - first)
        begun = writer.read(task.prompts[group], task.lengths[group])
        while len(open_ := group[(passed[group] < passes) & (drawn[group] < samples)]):
            of_row = np.sort(np.resize(open_, rows))
            number = drawn[of_row] + np.arange(rows) - np.searchsorted(of_row, of_row)
            streams = np.stack([of_row, number], axis=1)
            completions = writer.write(begun, of_row - first, streams, seed, temperature)
            for item in open_:
                right = task.right(int(item), completions[of_row == item])[: samples - drawn[item]]
                count = passed[item] + np.cumsum(right)
                ended = int(np.searchsorted(count, passes)) + 1  # the sample with the last pass wanted, if it came
                drawn[item] += min(ended, len(right))
                passed[item] = min(int(count[-1]), passes)
            if time.monotonic() - began > deadline:
                break
    reached = passed == passes
    low, high = pass_rate_interval(passed, drawn, reached)
    return pd.DataFrame(
        {
            "task": task.name, "item": np.arange(items), "group": list(task.groups), "passes": passed,
            "samples": drawn, "reached": reached, "rate": unbiased_pass_rate(passed, drawn, reached),
            "low": low, "high": high,
        }
    )  # fmt: skip
