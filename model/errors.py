"""The one exception for what a user gave us: command lines print it as one line on stderr and exit with 2."""


class InputError(ValueError):
    """Bad input. The message states the rule, the offending value and the remedy, in one line."""
