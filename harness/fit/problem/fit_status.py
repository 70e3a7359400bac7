"""How a fit ended, and what its reader has to know: words that the result, the JSON and the report share."""

import enum
from dataclasses import dataclass


@dataclass(frozen=True)
class FitWarning:
    """Something a reader of the result has to know. `code` is for programs, `message` for people."""

    code: str
    message: str


class FitStatus(enum.StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    """No step lowers the objective, and every parameter lies inside its range."""
    MAX_ITER = "max_iter"
    """The steps ran out while the objective still fell."""
    AT_BOUND = "at_bound"
    """The best point lies on the edge of a parameter's range: the range, not the data, decides that parameter."""
    DID_NOT_MOVE = "did_not_move"
    """The best run ended where it began: the start, not the data, is the answer."""
    NOT_IDENTIFIED = "not_identified"
    """The minimum is a valley: the data fix only combinations of the parameters."""
    FAILED = "failed"
    """No start gave a finite objective."""
