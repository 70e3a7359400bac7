"""The hash of the rows of a fit, by which a forecast says later what it was made from."""

import hashlib

import numpy as np
import pandas as pd

from harness.fit.laws.law import Law
from harness.fit.problem.columns import column_of, numbers_or_nan, vector_columns


def hash_of_rows(law: Law, frame: pd.DataFrame) -> str:
    """The SHA-256 of rows as a law reads them, whatever the order of rows and columns and whatever other columns say.

    Hashed are the names of the columns in alphabetical order, joined by commas; and then column by column the values,
    in the order of the rows sorted by all columns: numbers as 64-bit floats, little-endian, labels as text with a line
    feed after each.

    Args:
        frame: the law's columns by role, its response, and the standard error of the response if it is known.

    Raises:
        InputError: a column is missing or unusable.
    """
    vectors = [column for role in law.vectors for column in vector_columns(frame, role).values()]
    read = {name: column_of(frame, name, "table", signed=True) for name in (*law.columns, *vectors, law.response)}
    error = f"{law.response}_se"
    if error in frame.columns:
        read[error] = numbers_or_nan(frame, error)
    # Minus zero equals zero, but has other bytes; so have the many kinds of nan.
    numbers = {name: np.where(np.isnan(values), np.nan, values + 0.0) for name, values in read.items()}
    labels = {name: frame[name].astype(str).to_numpy() for name in law.labels}
    table = pd.DataFrame(dict(sorted((numbers | labels).items())))
    digest = hashlib.sha256(",".join(table.columns).encode())
    for name, column in table.sort_values([*table.columns]).items():
        text = "".join(f"{label}\n" for label in column).encode() if name in labels else b""
        digest.update(text or column.to_numpy("<f8").tobytes())
    return digest.hexdigest()
