"""The powers of N and D in the gaps of every group of cells, without a law: what the law says of them at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.fit.gap_law.claims import IN_D, IN_N, SOURCE_BLOCK, Blocks
from harness.fit.gap_law.surface import Surface, fit_surface
from harness.study.cells import rate_factors
from harness.study.forecasts import READ_ONCE

# Block -> the columns whose every combination is a group. Blocks of one size of text have no slope in D.
GROUPED_BY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(READ_ONCE, ()),
    "architectures": ("architecture",),
    "architectures_active": ("architecture",),
    "tokenizers": ("tokenizer",),
    "domains": ("domain",),
    "temperature": ("B",),
    "nuisances": ("schedule", "rate", "weight_decay"),
    SOURCE_BLOCK: ("tokenizer", "domain"),
}


@dataclass(frozen=True)
class GroupSlopes:
    """The powers of N and D in the gaps of a group of cells, with 95 % intervals.

    Attributes:
        block, group: where the cells are from; a group has its values in words.
        cells: their number.
        in_n, in_n_low, in_n_high: the power of N at fixed D. Where u = D/N^z is below u_star the law says -0.31, above
            it 0.00.
        in_d, in_d_low, in_d_high: the power of D at fixed N. The law says 0 and -0.42.
        scatter: the standard deviation of log G about the two powers beyond the errors.
    """

    block: str
    group: str
    cells: int
    in_n: float
    in_n_low: float
    in_n_high: float
    in_d: float
    in_d_low: float
    in_d_high: float
    scatter: float


def group_slopes(blocks: Blocks) -> tuple[GroupSlopes, ...]:
    """The slopes of every group that has gaps clear enough and sizes that vary.

    The six architectures of the source's own study share slopes within a tokenizer and a text, each with a level of its
    own. At equal active parameters N counts these.
    """
    found = []
    for block, columns in GROUPED_BY.items():
        if block not in blocks:
            continue
        rows = blocks[block]
        if block == "architectures_active":
            rows = rows.assign(N=rows["N_active"])
        if block == "nuisances":
            rows = rows.assign(rate=rate_factors(rows))
        levels = "architecture" if block == SOURCE_BLOCK else None
        for own in [own for _, own in rows.groupby(list(columns))] if columns else [rows]:
            surface = fit_surface(own.reset_index(drop=True), levels)
            if surface is None:
                continue
            label = ", ".join(f"{name} {own[name].iloc[0]}" for name in columns)
            found.append(
                GroupSlopes(
                    block, label, len(own), *_interval(surface, IN_N), *_interval(surface, IN_D), surface.scatter
                )
            )
    return tuple(found)


def _interval(surface: Surface, column: int) -> tuple[float, float, float]:
    """A slope and its 95 % interval."""
    value, se = surface.slope(column)
    half = surface.half_width(se)
    return value, value - half, value + half
