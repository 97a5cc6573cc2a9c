"""The error that a user can cause: the models' own, under the name that hardware imports."""

from model.errors import InputError

__all__ = ["InputError"]
