"""How the errors of rows of one cluster depend on each other, and what that does to the errors of a fit.

The checkpoints of one run, the seeds of one configuration and the evaluations on one set of documents share errors. As
independent rows, 762 checkpoints of 6 runs say that alpha is .222 +- .012 where the truth is .30.

Algorithm: the correlation of two rows of a cluster is modelled as offset + (1 - offset) decay^(distance in order): an
error that the cluster shares, and one that fades along the curve. Offset and decay maximise the restricted likelihood
(Patterson and Thompson 1971) of the fit's scaled residuals, which allows for the constants that were fitted to them.

Where the rows say which errors they share (`Problem.shared`, of gaps measured on the same documents), that part of
their variance has the correlation that follows from it, and only the rest that of the model.

Guarantee: with independent clusters whose errors have this form, the spread of the estimates is right however few the
clusters are. Without such clusters the model is that of independent rows.

Not for: clusters that depend on each other in another way, and errors that grow along a curve.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from harness.fit.certainty.information import whitened_jacobian
from harness.fit.problem.centred import Problem
from harness.fit.problem.raw_units import predictions

OFFSETS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 0.97)
DECAYS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.985, 0.995)
ORDERS = ("D", "step")  # the columns along which the rows of a curve follow each other


@dataclass(frozen=True)
class Dependence:
    """The correlation of the rows' errors, and its effect on a fit.

    Attributes:
        offset, decay: the correlation of two rows of a cluster is offset + (1 - offset) decay^(distance in order).
        rows: the number of independent rows that would show the size of the errors as well (Satterthwaite 1946).
        information: the inverse covariance of the estimates in the coordinates of the search; None if the rows are
            independent, since it is Fisher's information then.
        fisher: the inverse covariance that follows if rows are taken as independent; None if they are.
    """

    offset: float
    decay: float
    rows: float
    information: Float[np.ndarray, "parameters parameters"] | None = None
    fisher: Float[np.ndarray, "parameters parameters"] | None = None


@dataclass(frozen=True)
class _Curves:
    """The fitted rows, sorted by cluster and along each curve: where clusters begin, and how many rows each has."""

    rows: np.ndarray
    begins: np.ndarray
    sizes: np.ndarray
    ordered: bool


def _curves_of(problem: Problem) -> _Curves:
    fitted = np.flatnonzero(problem.fitted)
    cluster = problem.cluster[fitted]
    order = next((problem.columns[name][fitted] for name in ORDERS if name in problem.columns), None)
    rows = np.lexsort((np.zeros(len(fitted)) if order is None else order, cluster))
    begins = np.flatnonzero(np.diff(cluster[rows], prepend=-1))
    sizes = np.diff(begins, append=len(rows))
    ordered = False
    if order is not None:
        distinct = len(np.unique(np.stack([cluster, order]), axis=1).T)
        ordered = distinct > 2 * len(begins)  # otherwise the rows of a cluster are seeds and have no order
    return _Curves(fitted[rows], begins, sizes, ordered)


def _scaled_residuals(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "rows"]:
    """The slope of each row's loss in the prediction, divided by its standard deviation."""
    scale = problem.scales[problem.law.response]
    predicted = predictions(problem, theta) / scale
    objective = problem.model.objective
    if objective.variance is not None:
        own = objective.own_values(theta)
        return (predicted - problem.response) / np.sqrt(objective.variance(predicted, problem.noise, own))
    residuals = objective.residuals(predicted, problem.response)
    corner = problem.options.delta if objective.huber else np.inf
    slopes = np.clip(residuals, -corner, corner)
    return slopes / max(float(np.sqrt(np.mean(slopes[problem.fitted] ** 2))), 1e-300)


def _restricted_likelihood(curves: _Curves, values: Float[np.ndarray, "rows columns"], offset: float, decay: float):
    """-2 log restricted likelihood of the first column given the others, and the variance that maximises it."""
    root = np.sqrt((1.0 - offset) * (1.0 - decay**2))
    white = values - decay * np.vstack([np.zeros(values.shape[1]), values[:-1]])
    ones = np.full(len(values), (1.0 - decay) / root)
    white[curves.begins] = values[curves.begins] * np.sqrt(1.0 - decay**2)
    ones[curves.begins] = 1.0 / np.sqrt(1.0 - offset)
    white /= root
    sums = np.add.reduceat(white * ones[:, None], curves.begins, axis=0)
    lengths = 1.0 + offset * np.add.reduceat(ones**2, curves.begins)
    products = white.T @ white - offset * (sums / lengths[:, None]).T @ sums
    log_det = (
        np.sum(curves.sizes - 1) * np.log1p(-(decay**2)) + len(values) * np.log1p(-offset) + np.sum(np.log(lengths))
    )
    design = products[1:, 1:]
    spare = max(len(values) - len(design), 1)
    size = np.sqrt(np.diag(design))
    eigen, vectors = np.linalg.eigh(design / size / size[:, None])
    kept = eigen > 1e-10
    part = (vectors.T @ (products[1:, 0] / size))[kept]
    variance = max((products[0, 0] - np.sum(part**2 / eigen[kept])) / spare, 1e-300)
    return spare * np.log(variance) + log_det + np.sum(np.log(eigen[kept])) + 2 * np.sum(np.log(size)), variance


def _correlated(curves: _Curves, jacobian: Float[np.ndarray, "rows columns"], offset: float, decay: float):
    """The correlation matrix of the rows times each column."""
    result = np.empty_like(jacobian)
    for begin, size in zip(curves.begins, curves.sizes, strict=True):
        part = jacobian[begin : begin + size]
        forward = lfilter([1.0], [1.0, -decay], part, axis=0)
        backward = lfilter([1.0], [1.0, -decay], part[::-1], axis=0)[::-1]
        result[begin : begin + size] = offset * part.sum(axis=0) + (1.0 - offset) * (forward + backward - part)
    return result


def _independent_rows(curves: _Curves, offset: float, decay: float) -> float:
    """n^2 over the sum of squared correlations: the rows whose mean square is as uncertain."""

    def total(ratio: float) -> np.ndarray:
        """The sum of ratio^|i - j| over all pairs of rows of each cluster."""
        n = curves.sizes.astype(float)
        return n * (1 + ratio) / (1 - ratio) - 2 * ratio * (1 - ratio**n) / (1 - ratio) ** 2

    squares = offset**2 * curves.sizes**2.0 + 2 * offset * (1 - offset) * total(decay)
    return float(np.sum(curves.sizes) ** 2 / np.sum(squares + (1 - offset) ** 2 * total(decay**2)))


def _shared_parts(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "rows sources"]:
    """`Problem.shared` divided by the standard deviation of each row: products are correlations of the rows' errors."""
    objective = problem.model.objective
    assert problem.shared is not None and objective.variance is not None
    predicted = predictions(problem, theta) / problem.scales[problem.law.response]
    variance = objective.variance(predicted, problem.noise, objective.own_values(theta))
    return problem.shared / np.sqrt(variance)[:, None]


def dependence_of(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Dependence:
    """The dependence of the fitted rows' errors about a fit."""
    curves = _curves_of(problem)
    rows = float(len(curves.rows))
    shared = None if problem.shared is None else _shared_parts(problem, theta)[curves.rows]
    if np.all(curves.sizes == 1) and shared is None:
        return Dependence(0.0, 0.0, rows)
    whole = np.nan_to_num(whitened_jacobian(problem, theta))
    count = len(problem.law.parameters)
    jacobian = whole[: len(problem.response)][curves.rows]
    moved = np.linalg.norm(jacobian[:, :count], axis=0) > 0
    residuals = _scaled_residuals(problem, theta)[curves.rows]
    values = np.column_stack([residuals, jacobian[:, :count][:, moved]])
    offsets = OFFSETS if np.any(curves.sizes > 1) else OFFSETS[:1]
    tried = list(itertools.product(offsets, DECAYS if curves.ordered else DECAYS[:1]))
    found = [_restricted_likelihood(curves, values, *pair) for pair in tried]
    best = int(np.argmin([loss for loss, _ in found]))
    (offset, decay), (_, variance) = tried[best], found[best]
    if offset == decay == 0.0 and shared is None:
        return Dependence(0.0, 0.0, rows)
    if shared is None:
        larger = variance * max(len(residuals) - moved.sum(), 1) / len(residuals)
        middle = larger * jacobian.T @ _correlated(curves, jacobian, offset, decay)
    else:  # the residuals do not show how large shared errors are, since constants are fitted to them
        own = jacobian * np.sqrt(np.maximum(1.0 - np.sum(shared**2, axis=1), 0.0))[:, None]
        together = shared.T @ jacobian
        middle = own.T @ _correlated(curves, own, offset, decay) + together.T @ together
    other = whole[len(problem.response) :]  # features beside the prediction: their rows are taken as independent
    middle += other.T @ other
    fisher = whole.T @ whole
    # In units of what is known of each constant: of a scatter of zero that is 1e-14 of what is known of the others.
    size = np.maximum(np.sqrt(np.diag(fisher)), 1e-150)
    scaled = fisher / size / size[:, None]
    inverse = np.linalg.pinv(middle / size / size[:, None], rcond=1e-14, hermitian=True)
    information = scaled @ inverse @ scaled * size * size[:, None]
    return Dependence(offset, decay, _independent_rows(curves, offset, decay), information, fisher)
