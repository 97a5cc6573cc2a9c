"""A network described in a TOML file: the fields of a config of `model.configs`, checked.

    family = "deit"            # or "efficientvit"
    embed_dim = 144
    depth = 5
    heads = 3

What is left out is as in the config's defaults; ``name`` is the file's. Or operators of an EfficientViT's kind, one by one, in any order:

    [[operator]]
    name = "stem"
    op = "convolution"         # or attention, pool, norm: see `model.efficientvit.operators`
    source = "image"
    outputs = 16
    kernel = 3
    stride = 2
    hardswish = true
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.configs import FILE_SUFFIX, Config, DeiTConfig, EfficientVitConfig, config_of
from model.efficientvit.operators import OperatorsConfig, OperatorSpec
from model.errors import InputError
from model.toml_file import read_toml, refused

Described = Config | OperatorsConfig
FAMILIES: dict[str, type[Config]] = {"deit": DeiTConfig, "efficientvit": EfficientVitConfig}
#: Of fields that are lists, what the entries are.
_ENTRIES = {"mean": float, "std": float}
#: Integers are at most this: nothing larger can be meant.
_LARGEST = 65_536
_NAME = re.compile(r"\w[\w.-]*")


def network_of(name: str) -> Described:
    """By name or from a model file: a config of a family, or operators. What needs a family asks `model.configs.config_of`."""
    return read_model(Path(name)) if name.endswith(FILE_SUFFIX) else config_of(name)


def read_model(path: Path) -> Described:
    """The config in a model file. Raises InputError where it is missing, not TOML, or says too little, too much or nonsense."""
    stated = read_toml(path, "model", "model/model_file.py")
    stated.setdefault("name", path.stem)
    if "operator" in stated:
        operators = _operators(path, stated.pop("operator"))
        return _made(path, OperatorsConfig, _fields(path, OperatorsConfig, stated, "a network of operators", {"operators": operators}))
    family = stated.pop("family", None)
    if not isinstance(family, str) or family not in FAMILIES:
        raise refused(path, f"family must be one of {', '.join(FAMILIES)}, or [[operator]] tables given", f"{family!r} is not")
    return _made(path, FAMILIES[family], _fields(path, FAMILIES[family], stated, f"a network of family {family}"))


def _operators(path: Path, tables: Any) -> tuple[OperatorSpec, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise refused(path, "operators must be [[operator]] tables", f"{type(tables).__name__} is something else")
    specs = []
    for number, table in enumerate(tables):
        what = f"operator {table.get('name', number)}"
        sources = table.pop("sources", None) or [table.pop("source", None)]
        if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
            raise refused(path, f"{what} must say source, or sources, by name", f"{sources!r} is something else")
        depthwise = table.get("groups") == 0
        fields = _fields(path, OperatorSpec, {key: value for key, value in table.items() if not (key == "groups" and depthwise)}, what,
                         {"sources": tuple(sources)} | ({"groups": 0} if depthwise else {}))  # fmt: skip
        specs.append(OperatorSpec(**fields))
    return tuple(specs)


def _fields(path: Path, kind: type, stated: dict[str, Any], what: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of a config: what is stated, checked by the types of its fields, beside what is ``given``."""
    given = given or {}
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in given}
    for key in stated:
        if key not in fields:
            raise refused(path, f"{what} may say {', '.join(fields)}", f"{key} is something else")
    for name, field in fields.items():
        if name not in stated and field.default is dataclasses.MISSING:
            raise refused(path, f"{what} must say {name}", "it is missing")
    return given | {name: _value(path, name, value, str(fields[name].type)) for name, value in stated.items()}


def _made(path: Path, kind: Callable[..., Described], values: dict[str, Any]) -> Described:
    try:
        config = kind(**values)
    except ValueError as error:  # of the config's own laws
        raise InputError(f"{error} (in {path})") from None
    _check(path, config)
    return config


def _value(path: Path, name: str, value: Any, kind: str) -> Any:
    """As the config has it: a list becomes a tuple."""
    if kind.startswith("tuple"):
        wanted = _ENTRIES.get(name, int)
        if not isinstance(value, list) or not value or not all(_is(entry, wanted) for entry in value):
            raise refused(
                path, f"{name} must be a list of {'numbers' if wanted is float else 'whole numbers above 0'}", f"{value!r} is not"
            )
        return tuple(value)
    kind = kind.removesuffix(" | None")
    if not _is(value, {"int": int, "float": float, "bool": bool, "str": str}[kind]):
        raise refused(path, f"{name} must be {_TOLD[kind]}", f"{value!r} is not")
    return value


_TOLD = {"int": f"a whole number of 1..{_LARGEST:,}", "float": "a number", "bool": "true or false", "str": "a text"}


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST
    return isinstance(value, kind)


def _check(path: Path, config: Described) -> None:
    """Laws that the machines would only tell later, in other words."""
    if not _NAME.fullmatch(config.name):
        raise refused(path, "name must be letters, digits, _, - and .", f"{config.name!r} is not")
    if len(config.mean) != len(config.std) or len(config.mean) not in (1, 3):
        raise refused(path, "mean and std must both have 1 or 3 entries", f"{len(config.mean)} and {len(config.std)} are not")
    if not all(deviation > 0 for deviation in config.std):
        raise refused(path, "std must be positive", f"{config.std} is not")
    if isinstance(config, DeiTConfig):
        if config.embed_dim % config.heads:
            raise refused(path, "heads must divide embed_dim", f"{config.heads} does not divide {config.embed_dim}")
        if config.image_size % config.patch_size:
            raise refused(path, "patch_size must divide image_size", f"{config.patch_size} does not divide {config.image_size}")
