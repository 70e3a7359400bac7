"""Differential equations of many systems side by side: polynomial flows, their solution, and their exponents.

Solutions are the same to the bit on every machine whose arithmetic is IEEE 754: each operation of numpy is one
elementwise sum, product, quotient or square root, in an order that the program fixes, and none is a library function
such as a sine, a sum along an axis or a product of matrices, which machines round differently.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

FlowState = Float[np.ndarray, "dim lanes"]
FlowRate = Callable[[FlowState], FlowState]


@dataclass(frozen=True)
class Polynomial:
    """A flow whose rates are polynomials, with other coefficients in each lane.

    Attributes:
        factors: the coordinates that a term is the product of, counted from 1; 0 stands for the number 1.
        coefficients: that of each coordinate's rate and each term. The number of terms is a power of two.
    """

    factors: Int64[np.ndarray, "terms degree"]
    coefficients: Float[np.ndarray, "dim terms lanes"]

    def __call__(self, state: FlowState) -> FlowState:
        """The rates of change."""
        return self._summed(_product(_with_one(state, 1.0), self.factors))

    def tangent(
        self, state: FlowState, vectors: Float[np.ndarray, "vectors dim lanes"]
    ) -> Float[np.ndarray, "vectors dim lanes"]:
        """The Jacobian times each vector, by the rule of products."""
        values, changes = _with_one(state, 1.0), [_with_one(vector, 0.0) for vector in vectors]
        turned = [np.roll(self.factors, -place, axis=1) for place in range(self.factors.shape[1])]
        others = [_product(values, factors[:, 1:]) for factors in turned]
        result = np.empty_like(vectors)
        for number, change in enumerate(changes):
            total = others[0] * change[turned[0][:, 0]]
            for factors, other in zip(turned[1:], others[1:], strict=True):
                total += other * change[factors[:, 0]]
            result[number] = self._summed(total)
        return result

    def _summed(self, terms: Float[np.ndarray, "terms lanes"]) -> FlowState:
        """The terms times their coefficients, added in pairs, and the sums again in pairs."""
        values = np.multiply(self.coefficients, terms, out=self._scratch)
        while (half := values.shape[1] // 2) > 0:
            values = np.add(values[:, :half], values[:, half:], out=values[:, :half])
        return values[:, 0].copy()

    @cached_property
    def _scratch(self) -> Float[np.ndarray, "dim terms lanes"]:
        """Memory that is used again: the system takes as long to give and take back large arrays as they are used."""
        return np.empty_like(self.coefficients)

    def select(self, lanes: Int64[np.ndarray, "chosen"]) -> "Polynomial":
        """The flow in some of the lanes."""
        return Polynomial(self.factors, self.coefficients[:, :, lanes])

    def scaled(self, factor: Float[np.ndarray, "lanes"]) -> "Polynomial":
        """The same orbits at another pace: all rates times a factor of the lane."""
        return Polynomial(self.factors, self.coefficients * factor)


def _with_one(state: FlowState, one: float) -> Float[np.ndarray, "dim+1 lanes"]:
    """The state below a row that holds what stands for the number 1."""
    rows = np.empty((len(state) + 1, state.shape[1]))
    rows[0], rows[1:] = one, state
    return rows


def _product(rows: np.ndarray, factors: Int64[np.ndarray, "terms degree"]) -> Float[np.ndarray, "terms lanes"]:
    product = rows[factors[:, 0]]
    for place in range(1, factors.shape[1]):
        product *= rows[factors[:, place]]
    return product


def polynomial(lanes: Sequence[Sequence[Mapping[str, float]]], names: str = "xyz") -> Polynomial:
    """The flow of systems that are written as mappings from terms to coefficients.

    Args:
        lanes: for each system, a mapping for each coordinate: {"y": 10.0, "x": -10.0} is 10 y - 10 x, and "" is 1.
        names: the letters of the coordinates.
    """
    texts = sorted({"".join(sorted(term)) for lane in lanes for row in lane for term in row})
    degree = max(2, *map(len, texts))
    whole = 1 << (len(texts) - 1).bit_length()
    factors = np.zeros((whole, degree), np.int64)
    for number, text in enumerate(texts):
        factors[number, : len(text)] = [1 + names.index(letter) for letter in text]
    coefficients = np.zeros((len(names), whole, len(lanes)))
    for lane, system in enumerate(lanes):
        for row, rates in enumerate(system):
            for term, value in rates.items():
                coefficients[row, texts.index("".join(sorted(term))), lane] += value
    return Polynomial(factors, coefficients)


def runge_kutta(rate: FlowRate, state: FlowState, step: Float[np.ndarray, "lanes"]) -> FlowState:
    """The state one step later, by the classical method of fourth order."""
    half = step * 0.5
    first = rate(state)
    second = rate(state + half * first)
    third = rate(state + half * second)
    fourth = rate(state + step * third)
    return state + step * ((first + 2.0 * second + 2.0 * third + fourth) / 6.0)


def orbit_points(
    rate: FlowRate, state: FlowState, step: Float[np.ndarray, "lanes"], points: int, between: int
) -> Iterator[FlowState]:
    """The states after every `between` steps, `points` of them. Lanes that leave all bounds become inf or nan."""
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(points):
            for _ in range(between):
                state = runge_kutta(rate, state, step)
            yield state


def lyapunov(
    flow: Polynomial, state: FlowState, step: Float[np.ndarray, "lanes"], steps: int, exponents: int, settle: int = 0
) -> tuple[Float[np.ndarray, "exponents lanes"], FlowState]:
    """The largest Lyapunov exponents, per unit of time, in falling order; and the last state.

    The tangent flow moves as many vectors along with the state, which are made orthonormal after each step, as Benettin
    et al. 1980 (Meccanica 15) do; the exponents are the mean logarithms of the factors by which that shortens them.

    Args:
        steps: how many steps are averaged over.
        settle: how many steps go before, in which the vectors turn into the right directions.
    """
    dim, lanes = state.shape
    vectors = np.broadcast_to(np.eye(dim)[:exponents, :, None], (exponents, dim, lanes)).copy()
    joint = np.concatenate([state[None], vectors])
    total = np.zeros((exponents, lanes))

    def rate(joint: np.ndarray) -> np.ndarray:
        return np.concatenate([flow(joint[0])[None], flow.tangent(joint[0], joint[1:])])

    with np.errstate(all="ignore"):
        for number in range(settle + steps):
            joint = runge_kutta(rate, joint, step)
            lengths = _orthonormalise(joint[1:])
            if number >= settle:
                total += np.log(lengths)
        return total / (steps * step), joint[0]


def _orthonormalise(vectors: Float[np.ndarray, "vectors dim lanes"]) -> Float[np.ndarray, "vectors lanes"]:
    """Make vectors orthonormal in place, one after the other, and return the lengths that were left of them."""
    lengths = np.empty((len(vectors), vectors.shape[2]))
    for number, vector in enumerate(vectors):
        for earlier in vectors[:number]:
            vector -= _inner(vector, earlier) * earlier
        lengths[number] = np.sqrt(_inner(vector, vector))
        vector /= lengths[number]
    return lengths


def _inner(one: FlowState, other: FlowState) -> Float[np.ndarray, "lanes"]:
    total = one[0] * other[0]
    for row in range(1, len(one)):
        total = total + one[row] * other[row]
    return total
