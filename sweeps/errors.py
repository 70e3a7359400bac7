"""The error for unusable input, printed in one line with exit status 2; and one line about any other error."""


class InputError(ValueError):
    """Unusable input in one line: where it stands, which field, its value, and what was expected.

    Args:
        where: the file, folder or command-line option that holds the value.
        field: the field, column or flag within it.
        value: what stands there; None for nothing, which is said to be missing.
        expected: what would have been accepted, in plain words.
    """

    def __init__(self, where: object, field: str, value: object, expected: str):
        found = "missing" if value is None else f"got {value!r}"
        super().__init__(f"{where}: {field}: {found}, expected {expected}")
        self.where, self.field, self.value, self.expected = where, field, value, expected


def reason_of(error: BaseException) -> str:
    """One line about any error: its kind, and the first line of its message."""
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}".strip(": ")
