"""Numbers as people write them in tables: 20M, 0.5B, 20,000,000, 1e9."""

import re

import numpy as np

# In tables of language models M, B and T are millions, billions and trillions, in either case ("pythia-70m").
SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12, "p": 1e15}
_NUMBER = re.compile(
    r"\s*(?P<sign>[+\-−]?)\s*(?P<whole>\d{1,3}(?:[,\u00a0\u202f' ]\d{3})+|\d+(?:_\d+)*|(?=\.\d))(?P<rest>(?:\.\d*)?)"
    r"(?P<power>(?:[eE][+-]?\d+)?)\s*(?P<suffix>[kKmMgGbBtTpP]?)(?P<percent>%?)\s*"
)
_NOT_FINITE = {"nan": np.nan, "inf": np.inf, "+inf": np.inf, "-inf": -np.inf, "infinity": np.inf, "-infinity": -np.inf}
# What trackers and spreadsheets write into a cell that has no value.
MISSING = {"", "nan", "na", "n/a", "none", "null", "-", "—", "#n/a"}


def parse_number(text: str, suffixes: bool = True) -> float | None:
    """The number that a text means, nan for an empty cell, or None if it means none.

    Args:
        suffixes: whether 20M is a number. Without them only separators between thousands are understood, as in
            20,000,000; a column of names such as 1B, 7B then stays text.
    """
    plain = text.strip().lower()
    if plain in MISSING:
        return np.nan
    if plain in _NOT_FINITE:
        return _NOT_FINITE[plain]
    match = _NUMBER.fullmatch(text)
    if match is None or (not suffixes and (match["suffix"] or match["percent"])):
        return None
    whole = re.sub(r"\D", "", match["whole"]) or "0"
    value = float(f"{whole}{match['rest']}{match['power']}")
    value *= SUFFIXES[match["suffix"].lower()] * (0.01 if match["percent"] else 1.0)
    return value if match["sign"] in ("", "+") else -value
