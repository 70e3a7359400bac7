"""The constants of the published gap law, in one place for all modules that plan, measure, fit or draw.

The law is G = A N^-alpha f(u) with u = D/N^z, f = 1 up to u_star and (u/u_star)^-beta above (clawRxiv 2604.02022);
`harness.fit.gap_law.constants.predict_gap` evaluates it. The constants are kept in `sweeps` because plans print u.
"""

from typing import NamedTuple


class GapConstants(NamedTuple):
    """One set of constants of the gap law.

    N and D are raw counts and G is in nats per token. The source does not say in which units its constants hold.
    """

    A: float
    alpha: float
    z: float
    beta: float
    u_star: float


PUBLISHED_GAP = GapConstants(A=0.86, alpha=0.31, z=0.74, beta=0.42, u_star=1.0)
