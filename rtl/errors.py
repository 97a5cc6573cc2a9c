"""The one error that a user can cause: bad input. One line: rule, value, remedy."""


class InputError(ValueError):
    """Bad input. Command lines print it as one line on stderr and exit with status 2."""
