"""How many bits of its training text a model holds, from the gap between its losses on unseen and on seen text."""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from sweeps.errors import InputError

# Bits per parameter that models of random text held when their memory was full (Morris et al. 2025, arXiv 2505.24832).
BITS_PER_PARAMETER = 3.6


def memorised_bits(gap: ArrayLike, unique_tokens: ArrayLike) -> Float[np.ndarray, "runs"]:
    """The bits of text that a model holds beyond what helps it with other text of the same source: gap U / ln 2.

    Seen text is shorter by the gap in a code made from the model than it would be had it not been seen: unintended
    memorisation of Morris et al. (arXiv 2505.24832), with unseen text in place of a reference model. So the gap must
    have been measured on a fair sample of the training text, not on what was read last. It is an upper bound where
    repeated text has raised the loss on unseen text, since the gap counts that rise too.

    Args:
        gap: loss on unseen text minus loss on seen text, in nats per token; negative values are kept.
        unique_tokens: tokens of training text, each counted once.

    Raises:
        InputError: a count that is not above zero.
    """
    gap, unique = np.asarray(gap, float), np.asarray(unique_tokens, float)
    if not np.all(unique > 0):
        raise InputError("memorised bits", "unique tokens", float(np.min(unique)), "counts above zero")
    return gap * unique / math.log(2.0)


def memory_of_models(runs: pd.DataFrame) -> pd.DataFrame:
    """The memorised bits of each run, in all and per parameter, with standard errors where the gaps have them.

    Args:
        runs: columns G (gap, nats per token), U (unique tokens), N (parameters) and perhaps G_se.

    Returns:
        the runs with `bits`, `bits_per_parameter` and `share_of_capacity` (bits per parameter over 3.6), and
        `bits_se` if there is a column G_se.
    """
    bits = memorised_bits(runs["G"], runs["U"])
    errors = {"bits_se": memorised_bits(runs["G_se"], runs["U"])} if "G_se" in runs.columns else {}
    each = bits / runs["N"].to_numpy(float)
    return runs.assign(bits=bits, **errors, bits_per_parameter=each, share_of_capacity=each / BITS_PER_PARAMETER)
