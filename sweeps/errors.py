"""The one error a user can cause: unusable input. The command line prints it as one line and exits with status 2."""


class InputError(ValueError):
    """Unusable input, said in one line: where it stands, which field, its value, and what was expected.

    Args:
        where: the file, folder or command-line option that holds the value.
        field: the field, column or flag within it.
        value: what was found there.
        expected: what would have been accepted, in plain words.
    """

    def __init__(self, where: object, field: str, value: object, expected: str):
        super().__init__(f"{where}: {field}: got {value!r}, expected {expected}")
        self.where, self.field, self.value, self.expected = where, field, value, expected
