"""Chaotic systems of three coordinates, by name: their equations, a point near the attractor, and a step for it.

All are polynomials. Those of `SPROTT` are fifteen of the nineteen cases of Sprott 1994 (Phys. Rev. E 50, R647): the
orbits of A depend on where they begin, those of I are hardly chaotic at the pace of the others, and L and O seldom
remain chaotic when their coefficients change. The others carry the names under which collections such as Sprott 2003
(Chaos and Time-Series Analysis) have them.
"""

from collections.abc import Mapping
from typing import NamedTuple

Equations = tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]]


class Kind(NamedTuple):
    """A kind of chaotic system.

    Attributes:
        equations: the rates of x, y and z, as `harness.data.simulation.flows.polynomial` reads them.
        start: a point near the attractor.
        step: a step of time with which the fourth-order method stays on it.
    """

    equations: Equations
    start: tuple[float, float, float]
    step: float


SPROTT: dict[str, Kind] = {
    name: Kind(equations, start, 0.05)
    for name, equations, start in (
        ("sprott_b", ({"yz": 1}, {"x": 1, "y": -1}, {"": 1, "xy": -1}), (0.05, 0.05, 0.05)),
        ("sprott_c", ({"yz": 1}, {"x": 1, "y": -1}, {"": 1, "xx": -1}), (0.05, 0.05, 0.05)),
        ("sprott_d", ({"y": -1}, {"x": 1, "z": 1}, {"xz": 1, "yy": 3}), (0.05, 0.05, 0.05)),
        ("sprott_e", ({"yz": 1}, {"xx": 1, "y": -1}, {"": 1, "x": -4}), (0.05, 0.05, 0.05)),
        ("sprott_f", ({"y": 1, "z": 1}, {"x": -1, "y": 0.5}, {"xx": 1, "z": -1}), (0.05, 0.05, 0.05)),
        ("sprott_g", ({"x": 0.4, "z": 1}, {"xz": 1, "y": -1}, {"x": -1, "y": 1}), (0.05, 0.05, 0.05)),
        ("sprott_h", ({"y": -1, "zz": 1}, {"x": 1, "y": 0.5}, {"x": 1, "z": -1}), (0.05, 0.05, 0.05)),
        ("sprott_j", ({"z": 2}, {"y": -2, "z": 1}, {"x": -1, "y": 1, "yy": 1}), (0.05, 0.05, 0.05)),
        ("sprott_k", ({"xy": 1, "z": -1}, {"x": 1, "y": -1}, {"x": 1, "z": 0.3}), (0.05, 0.05, 0.05)),
        ("sprott_m", ({"z": -1}, {"xx": -1, "y": -1}, {"": 1.7, "x": 1.7, "y": 1}), (0.05, 0.05, 0.05)),
        ("sprott_n", ({"y": -2}, {"x": 1, "zz": 1}, {"": 1, "y": 1, "z": -2}), (0.05, 0.05, 0.05)),
        ("sprott_p", ({"y": 2.7, "z": 1}, {"x": -1, "yy": 1}, {"x": 1, "y": 1}), (0.05, 0.05, 0.05)),
        ("sprott_q", ({"z": -1}, {"x": 1, "y": -1}, {"x": 3.1, "yy": 1, "z": 0.5}), (0.05, 0.05, 0.05)),
        ("sprott_r", ({"": 0.9, "y": -1}, {"": 0.4, "z": 1}, {"xy": 1, "z": -1}), (0.05, 0.05, 0.05)),
        ("sprott_s", ({"x": -1, "y": -4}, {"x": 1, "zz": 1}, {"": 1, "x": 1}), (0.05, 0.05, 0.05)),
    )
}

TRAINED: dict[str, Kind] = SPROTT | {
    "arneodo": Kind(({"y": 1}, {"z": 1}, {"x": 5.5, "y": -3.5, "z": -1, "xxx": -1}), (0.2, 0.2, -0.75), 0.02),
    "burke_shaw": Kind(({"x": -10, "y": -10}, {"y": -1, "xz": -10}, {"xy": 10, "": 4.272}), (0.6, 0, 0), 0.005),
    "dadras": Kind(({"y": 1, "x": -3, "yz": 2.7}, {"y": 1.7, "xz": -1, "z": 1}, {"xy": 2, "z": -9}), (1, 1, 0), 0.01),
    "finance": Kind(
        ({"z": 1, "xy": 1, "x": -0.9}, {"": 1, "y": -0.2, "xx": -1}, {"x": -1, "z": -1.2}), (1, 3, 2), 0.02
    ),
    "four_wing": Kind(
        ({"x": 0.2, "yz": 1}, {"x": 0.01, "y": -0.4, "xz": -1}, {"z": -1, "xy": -1}), (1.3, -0.2, 0.1), 0.05
    ),
    "genesio_tesi": Kind(({"y": 1}, {"z": 1}, {"x": -1, "y": -1.1, "z": -0.44, "xx": 1}), (0.1, 0.1, 0.1), 0.05),
    "hadley": Kind(
        ({"yy": -1, "zz": -1, "x": -0.25, "": 2}, {"xy": 1, "xz": -4, "y": -1, "": 1}, {"xy": 4, "xz": 1, "z": -1}),
        (0, 0, 1.3), 0.02,
    ),
    "newton_leipnik": Kind(
        ({"x": -0.4, "y": 1, "yz": 10}, {"x": -1, "y": -0.4, "xz": 5}, {"z": 0.175, "xy": -5}), (0.35, 0, -0.16), 0.02
    ),
    "rabinovich_fabrikant": Kind(
        ({"yz": 1, "y": -1, "xxy": 1, "x": 0.87}, {"xz": 3, "x": 1, "xxx": -1, "y": 0.87}, {"z": -2.2, "xyz": -2}),
        (-1, 0, 0.5), 0.01,
    ),
    "rikitake": Kind(({"x": -1, "yz": 1}, {"y": -1, "xz": 1, "x": -1}, {"": 1, "xy": -1}), (1.4, -1, 1), 0.02),
    "rucklidge": Kind(({"x": -2, "y": 6.7, "yz": -1}, {"x": 1}, {"z": -1, "yy": 1}), (1, 0, 4.5), 0.02),
    "shimizu_morioka": Kind(({"y": 1}, {"x": 1, "xz": -1, "y": -0.85}, {"z": -0.5, "xx": 1}), (0.1, 0.1, 0.2), 0.05),
    "vallis": Kind(({"y": 102, "x": -3}, {"y": -1, "xz": 1}, {"z": -1, "xy": -1, "": 1}), (0.1, 1, 0.2), 0.005),
}  # fmt: skip

# Kinds that no model of `chaos` is trained on unless they are asked for.
HELD: dict[str, Kind] = {
    "chen": Kind(({"y": 35, "x": -35}, {"x": -7, "xz": -1, "y": 28}, {"xy": 1, "z": -3}), (1, 2, 20), 0.004),
    "halvorsen": Kind(
        (
            {"x": -1.27, "y": -4, "z": -4, "yy": -1},
            {"y": -1.27, "z": -4, "x": -4, "zz": -1},
            {"z": -1.27, "x": -4, "y": -4, "xx": -1},
        ),
        (-5, 0, 0), 0.01,
    ),
    "lorenz": Kind(({"y": 10, "x": -10}, {"x": 28, "y": -1, "xz": -1}, {"xy": 1, "z": -8 / 3}), (1, 1, 20), 0.01),
    "rossler": Kind(({"y": -1, "z": -1}, {"x": 1, "y": 0.2}, {"": 0.2, "xz": 1, "z": -5.7}), (1, -1, 0.1), 0.05),
}  # fmt: skip
