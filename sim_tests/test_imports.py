"""The arrows between the parts of the tree, read from the source of every file: nothing imports upwards, and torch stays in model/."""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("rtl", "model", "boards")

# Layer by layer from the ground up; a module belongs to the first layer with a pattern that fits ("rtl.bus.*" includes rtl.bus itself).
LAYERS: dict[str, tuple[str, ...]] = {
    "contract": (
        "model.errors",
        "model.toml_file",
        "model.graph",
        "model.integer",
        "model.efficientvit.graph",
        "model.efficientvit.integer",
        "model",
    ),
    "plots": ("model.svg",),
    "networks": (
        "model.nets.*",
        "model.quant.*",
        "model.train",
        "model.training.*",
        "model.quantize",
        "model.ship",
        "model.evaluate",
        "model.lower",
        "model.zoo",
        "model.efficientvit.lower",
    ),
    "numbers": ("model.*",),
    "boards": ("boards.*",),
    "ground": ("rtl.cost", "rtl.errors", "rtl.shapes", "rtl"),
    "leaves": (
        "rtl.config",
        "rtl.tech.*",
        "rtl.arith.*",
        "rtl.bus.*",
        "rtl.program.instruction",
        "rtl.program.isa",
        "rtl.efficientvit.isa",
        "rtl.efficientvit.config",
        "rtl.efficientvit.depth_command",
        "rtl.efficientvit.head_command",
    ),
    "buses": ("rtl.row_bus", "rtl.statistics_bus", "rtl.attention_config", "rtl.attention_bus", "rtl.efficientvit.row_bus"),
    "units": ("rtl.units.*",),
    "program": ("rtl.program.*", "rtl.efficientvit.program.*"),
    "accelerator": ("rtl.accelerator", "rtl.accelerator_cost", "rtl.efficientvit.accelerator", "rtl.efficientvit.accelerator_cost"),
    "flow": ("rtl.flow.*",),
    "calibration": ("rtl.plan.calibrate*", "rtl.plan.cycle_points"),
    "plan": ("rtl.plan.*",),
    "top": ("rtl.top", "rtl.verbs.*"),
    "engines": ("rtl.*",),
}
HARDWARE = ("contract", "ground", "leaves")
# What a layer may import beside itself. Of model, rtl sees the contract and nothing else.
ARROWS: dict[str, tuple[str, ...]] = {
    "contract": (),
    "plots": (),
    "numbers": ("contract",),
    "networks": ("contract", "numbers", "plots"),
    "boards": ("contract", "ground"),
    "ground": ("contract",),
    "leaves": ("contract", "ground"),
    "buses": HARDWARE,
    "units": (*HARDWARE, "buses"),
    "engines": (*HARDWARE, "buses", "units"),
    "accelerator": (*HARDWARE, "buses", "units", "engines"),
    "program": (*HARDWARE, "buses", "units"),
    "flow": (*HARDWARE, "buses", "units", "engines", "accelerator", "program"),
    "plan": (*HARDWARE, "plots", "buses", "units", "engines", "accelerator", "program", "flow"),
    "calibration": (*HARDWARE, "numbers", "engines", "flow", "plan"),
    "top": tuple(LAYERS),
}
# Packages of others, beside the standard library and numpy.
PACKAGES: dict[str, tuple[str, ...]] = {
    "plots": ("matplotlib",),
    "networks": ("torch", "safetensors", "rich", "PIL", "matplotlib"),
    "numbers": ("rich", "skimage", "PIL"),
    "boards": ("amaranth", "amaranth_boards"),
    "flow": ("amaranth", "pyosys", "rich"),
    "plan": ("distributed", "matplotlib", "rich"),
    "calibration": ("rich",),
    "top": ("rich",),
    **dict.fromkeys(("leaves", "ground", "buses", "units", "engines", "accelerator"), ("amaranth",)),
}


def modules() -> dict[str, Path]:
    found = {}
    for part in OURS:
        for path in sorted((ROOT / part).rglob("*.py")):
            words = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


MODULES = modules()


@functools.cache
def layer_of(module: str) -> str:
    for layer, patterns in LAYERS.items():
        for pattern in patterns:
            if module == pattern.removesuffix(".*") or (pattern.endswith("*") and module.startswith(pattern[:-1])):
                return layer
    raise AssertionError(f"{module} is in no layer: add it to LAYERS")


def imports_of(text: str, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, at any depth; ``from package import module`` names the module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: imports are absolute here"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield node.lineno, full if full in MODULES else str(node.module)


def wrong_imports(module: str, text: str) -> list[str]:
    layer = layer_of(module)
    wrong = []
    for line, name in imports_of(text, module):
        package = name.partition(".")[0]
        if package in OURS:
            target = layer_of(name)
            if target != layer and target not in ARROWS[layer]:
                wrong.append(f"{module}, line {line}: {layer} may not import {name} ({target})")
        elif package not in sys.stdlib_module_names and package not in ("numpy", *PACKAGES.get(layer, ())):
            wrong.append(f"{module}, line {line}: {layer} may not import {package}")
    return wrong


def test_imports_point_one_way() -> None:
    wrong = [found for module, path in MODULES.items() for found in wrong_imports(module, path.read_text(encoding="utf-8"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("rtl.units.softmax", "import torch", "units may not import torch"),
        ("rtl.units.softmax", "from rtl import row", r"units may not import rtl.row \(engines\)"),
        ("rtl.bus.axi", "from rtl.flow import verilator", r"leaves may not import rtl.flow.verilator \(flow\)"),
        ("rtl.flow.simulate", "from model import interpreter", r"flow may not import model.interpreter \(numbers\)"),
        ("rtl.program.compiler", "def f():\n    from rtl.accelerator import Accelerator", "program may not import rtl.accelerator"),
        ("model.graph", "import torch", "contract may not import torch"),
        ("model.train", "import rtl.config", "networks may not import rtl.config"),
    ],
)
def test_a_wrong_import_is_found(module: str, line: str, said: str) -> None:
    wrong = wrong_imports(module, line)
    assert len(wrong) == 1
    assert re.search(said, wrong[0])


def test_no_inline_suppressions() -> None:
    """Exceptions to the rules live in pyproject.toml, with a reason."""
    marks = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:|ruff:|pylint:)")
    files = [*MODULES.values(), *(ROOT / "sim_tests").rglob("*.py")]
    found = [f"{path.relative_to(ROOT)}: {hit[0]}" for path in files if (hit := marks.search(path.read_text(encoding="utf-8")))]
    assert not found, "\n".join(found)
