"""The one exception for what a user gave us: the command line prints it as one line and exits with 2."""


class InputError(ValueError):
    """Bad input. The message states the rule, the offending value and the remedy, in one line."""
