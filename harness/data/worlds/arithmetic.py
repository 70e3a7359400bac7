"""Worked sums, differences and products of whole numbers, as a person writes them down.

    34+78:>4821>3711=112        for each column, from the right: the digits, what is written, what is carried
    78-34:>8440>7340=44         the same, with what is borrowed
    34*12:>2:68+68>1:34+408=408 for each digit of the second number, from the right: it, its product, the total so far

Without steps it is 34+78=112. The larger number of a difference comes first.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, product
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le, Lt
from jaxtyping import Int, Int64

from harness.data.simulation.draws import below, draw_key
from harness.data.world import Drawn, Question, World

CHARACTERS = "0123456789+-*=:>"
_IDS = np.full(128, -1, np.int64)
_IDS[[ord(character) for character in CHARACTERS]] = np.arange(len(CHARACTERS))
# Problems that are drawn at once.
_TOGETHER = 1 << 16


@dataclass(frozen=True)
class ArithmeticOptions:
    """The options of the world.

    Attributes:
        operators: some of +, - and *, equally frequent.
        digits: the most digits of a number. All lengths up to it are equally frequent, for each of the two numbers.
        steps: whether the work is shown.
        documents: how many problems; a larger corpus begins with those of a smaller one.
        seed: other problems.
    """

    operators: str = "+-*"
    digits: Annotated[int, Ge(1), Le(6)] = 4
    steps: bool = True
    documents: Annotated[int, Ge(2), Le(10_000_000)] = 100_000
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0

    def __post_init__(self) -> None:
        if not self.operators or len(set(self.operators)) < len(self.operators) or set(self.operators) - set("+-*"):
            raise ValueError("operators, each of +, - and * at most once")


def written_work(first: int, operator: str, second: int) -> str:
    """The steps of a problem, from the sign that begins the first one."""
    if operator == "*":
        steps, total = [], 0
        for place, digit in enumerate(reversed(str(second))):
            part = first * int(digit)
            total += part * 10**place
            steps.append(f">{digit}:{part}+{total}")
        return "".join(steps)
    steps, carried = [], 0
    for place in range(len(str(max(first, second)))):
        one, other = first // 10**place % 10, second // 10**place % 10
        column = one + other + carried if operator == "+" else one - other - carried
        carried = int(not 0 <= column < 10)
        steps.append(f">{one}{other}{column % 10}{carried}")
    return "".join(steps)


def to_ids(text: str) -> Int64[np.ndarray, "tokens"]:
    """The ids of a text of `CHARACTERS`."""
    return _IDS[np.frombuffer(text.encode(), np.uint8)]


def to_text(ids: Int[np.ndarray, "tokens"]) -> str:
    """The text of ids, with a full stop for the end of a document and for ids that the world does not have."""
    return "".join(CHARACTERS[i] if 0 <= i < len(CHARACTERS) else "." for i in np.asarray(ids).tolist())


def is_right(completion: Int[np.ndarray, "tokens"], answer: int, steps: bool) -> bool:
    """Whether a completion of a question ends in its answer: the number after the sign =, if steps come before it.

    What follows the number, an end of the document or anything that is no digit, is not looked at.
    """
    text = to_text(completion)
    number = text.partition("=")[2] if steps else text
    return number[: len(number) - len(number.lstrip("0123456789"))] == str(answer)


def _problems(options: ArithmeticOptions, name: str) -> Iterator[tuple[int, str, int]]:
    """Endless problems: first number, operator, second number."""
    for part in count():
        keys = (draw_key("arithmetic", options.seed, name, part, what) for what in ("operator", "a", "b", "na", "nb"))
        operators = below(next(keys), len(options.operators), _TOGETHER)
        wide = [below(next(keys), 2**31, _TOGETHER) for _ in range(2)]
        lengths = [1 + below(next(keys), options.digits, _TOGETHER) for _ in range(2)]
        numbers = []
        for number, length in zip(wide, lengths, strict=True):
            low = np.where(length == 1, 0, 10 ** (length - 1))
            numbers.append(low + (number * (10**length - low) >> 31))
        for operator, one, other in zip(operators.tolist(), *(n.tolist() for n in numbers), strict=True):
            sign = options.operators[operator]
            yield (max(one, other), sign, min(one, other)) if sign == "-" else (one, sign, other)


def _result(first: int, operator: str, second: int) -> int:
    return {"+": first + second, "-": first - second, "*": first * second}[operator]


def _group(first: int, second: int) -> str:
    """Problems with the same two numbers are one group, so that those held out have numbers that were not combined."""
    return f"{min(first, second)},{max(first, second)}"


def _documents(options: ArithmeticOptions) -> Iterator[Drawn]:
    for _, (first, operator, second) in zip(range(options.documents), _problems(options, "documents"), strict=False):
        steps = ":" + written_work(first, operator, second) if options.steps else ""
        text = f"{first}{operator}{second}{steps}={_result(first, operator, second)}"
        yield Drawn(_group(first, second), f"{len(str(max(first, second)))} digits", to_ids(text))


def _questions(options: ArithmeticOptions, seed: int) -> Iterator[Question]:
    for first, operator, second in _problems(options, f"questions {seed}"):
        answer = _result(first, operator, second)

        def right(completion: Int[np.ndarray, "completion"], answer: int = answer) -> bool:
            return is_right(completion, answer, options.steps)

        prompt = f"{first}{operator}{second}{':' if options.steps else '='}"
        rest = f"{written_work(first, operator, second)}={answer}" if options.steps else str(answer)
        level = len(str(max(first, second)))
        yield Question(to_ids(prompt), to_ids(rest), level, _group(first, second), right)


def _entropy(options: ArithmeticOptions) -> float:
    """Nats per token: the entropy of a problem over the mean length of its document, both exact.

    All that follows the problem follows from it.
    """
    signs, sizes = len(options.operators), [_largest(n) + 1 - _smallest(n) for n in range(1, options.digits + 1)]
    problem = math.log(signs) + 2 * math.log(options.digits) + 2 * float(np.mean(np.log(sizes)))
    equal = sum(1 / size for size in sizes) / options.digits**2
    if "-" in options.operators:  # two pairs of different numbers are one difference
        problem -= math.log(2) * (1 - equal) / signs
    lengths = [
        _mean_length(sign, n, m, options.steps)
        for sign, n, m in product(options.operators, *[range(1, options.digits + 1)] * 2)
    ]
    return problem / float(np.mean(lengths))


def _smallest(digits: int) -> int:
    return 0 if digits == 1 else 10 ** (digits - 1)


def _largest(digits: int) -> int:
    return 10**digits - 1


@cache
def _mean_length(operator: str, n: int, m: int, steps: bool) -> float:
    """The mean length, end included, of documents on a number of n digits and one of m."""
    first = np.arange(_smallest(n), _largest(n) + 1)
    low, high = _smallest(m), _largest(m)
    fixed = n + m + 3 + steps + (5 * max(n, m) if steps and operator != "*" else 0)
    if operator == "+":
        more = np.clip(high - np.maximum(low, 10 ** max(n, m) - first) + 1, 0, None)
        return fixed + max(n, m) + float(np.mean(more)) / (high + 1 - low)
    if operator == "-":
        # The number of second numbers at a distance of 10^t or more, below and above.
        far = 10 ** np.arange(1, max(n, m))[:, None]
        beyond = np.clip(np.minimum(high, first - far) - low + 1, 0, None) + np.clip(
            high - np.maximum(low, first + far) + 1, 0, None
        )
        return fixed + 1 + float(np.sum(np.mean(beyond, axis=1))) / (high + 1 - low)
    written = _mean_digits(first, low, high)
    if steps:
        for place in range(m):
            top = place == m - 1
            written += 4 + _mean_digits(first, _smallest(m) // 10 ** (m - 1) if top else 0, 9)
            written += _mean_digits(first, low, high) if top else _mean_digits(first, 0, 10 ** (place + 1) - 1)
    return fixed + written


def _mean_digits(first: Int64[np.ndarray, "numbers"], low: int, high: int) -> float:
    """The mean number of digits of a product of one of these numbers and a whole number from low to high."""
    total = np.ones(len(first))
    for place in range(1, len(str(int(first[-1]) * high))):
        # Products of 10^place or more need a factor of at least 10^place / number.
        needed = np.where(first == 0, high + 1, -(-(10**place) // np.maximum(first, 1)))
        total += np.clip(high - np.maximum(low, needed) + 1, 0, None) / (high + 1 - low)
    return float(np.mean(total))


ARITHMETIC = World(
    "sums, differences and products of whole numbers, with the work shown",
    "none: it is computed",
    ArithmeticOptions,
    vocab=lambda options: len(CHARACTERS) + 1,
    documents=_documents,
    entropy=_entropy,
    ranges=lambda options: {"digits": range(10), "signs": range(10, len(CHARACTERS))},
    questions=_questions,
)
