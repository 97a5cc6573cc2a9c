"""A network given operator by operator: what a model file may describe beyond the families' dimensions. Shapes are checked here."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from model.configs import IMAGENET_MEAN, IMAGENET_STD
from model.efficientvit.graph import IMAGE, LOGITS
from model.errors import InputError

KINDS = ("convolution", "attention", "pool", "norm")
KERNELS, STRIDES = (1, 3, 5), (1, 2)


@dataclass(frozen=True, kw_only=True)
class OperatorSpec:
    """One operator; it makes the tensor of its own name.

    op : one of KINDS        sources : tensors that it reads: one; an attention's scales, each q, k, v by heads
    outputs, kernel, stride, groups, hardswish, shortcut : of a convolution; ``groups`` 0: depthwise; ``shortcut``: a tensor that it adds
    """

    name: str
    op: str
    sources: tuple[str, ...]
    outputs: int = 0
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    hardswish: bool = False
    shortcut: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        return self.sources if self.shortcut is None else (*self.sources, self.shortcut)


@dataclass(frozen=True, kw_only=True)
class OperatorsConfig:
    """A network of operators, in any order. `image` is the picture, `logits` the result.

    head_dim : channels of q, k and v of a head, of all attentions

    Raises
    ------
    InputError : a cycle, an unknown operator or tensor, a shape that does not fit; the text names the operator
    """

    name: str
    operators: tuple[OperatorSpec, ...]
    image_size: int = 224
    head_dim: int = 16
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        _Shapes(self).check()

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def classes(self) -> int:
        return next(spec.outputs for spec in self.operators if spec.name == LOGITS)

    def ordered(self) -> tuple[OperatorSpec, ...]:
        """Each after all that it reads, otherwise as given."""
        by_name = {spec.name: spec for spec in self.operators}
        try:
            order = TopologicalSorter(
                {name: [read for read in spec.reads if read != IMAGE] for name, spec in by_name.items()}
            ).static_order()
            return tuple(by_name[name] for name in order)
        except CycleError as error:
            cycle = " reads ".join(reversed(error.args[1]))
            raise InputError(f"operators must not read each other in a circle: {cycle}; break it") from None

    def attends(self, tensor: str) -> bool:
        """Whether a tensor is an operand of an attention: its codes lie evenly about zero."""
        return any(spec.op == "attention" and tensor in spec.sources for spec in self.operators)

    def wide(self, tensor: str) -> bool:
        """Whether a tensor is s16: the logits, and what enters a LayerNorm."""
        return tensor == LOGITS or any(spec.op == "norm" and tensor in spec.sources for spec in self.operators)


class _Shapes:
    """(height, width, channels) of every tensor, found operator by operator."""

    def __init__(self, config: OperatorsConfig):
        self.config = config
        self.shapes = {IMAGE: (config.image_size, config.image_size, config.channels)}

    def check(self) -> None:
        names = [spec.name for spec in self.config.operators]
        for name in names:
            _require(names.count(name) == 1 and name != IMAGE, "operators must have names of their own", name, "rename one")
        for spec in self.config.operators:
            self._known(spec, {IMAGE, *names})
        for spec in self.config.ordered():
            self.shapes[spec.name] = getattr(self, f"_{spec.op}")(spec)
        _require(LOGITS in self.shapes, f"the last operator must be called {LOGITS}", ", ".join(names[-1:]) or "none", "rename it")
        height, width, _ = self.shapes[LOGITS]
        _require(height == width == 1, f"{LOGITS} must be of one pixel", f"{height} x {width}", "pool before it")

    @staticmethod
    def _known(spec: OperatorSpec, names: set[str]) -> None:
        _require(spec.op in KINDS, f"op must be one of {', '.join(KINDS)}", f"{spec.op} of {spec.name}", "correct it")
        count = len(spec.sources)
        _require(
            count >= 1 if spec.op == "attention" else count == 1, "an operator reads one tensor", f"{count} of {spec.name}", "correct it"
        )
        for read in spec.reads:
            _require(read in names, "an operator must read tensors that there are", f"{read} of {spec.name}", "correct the name")

    def _convolution(self, spec: OperatorSpec) -> tuple[int, int, int]:
        height, width, channels = self.shapes[spec.sources[0]]
        groups = channels if spec.groups == 0 else spec.groups
        outputs = spec.outputs or (channels if spec.groups == 0 else 0)
        _require(outputs > 0, "a convolution must say its outputs", spec.name, "add outputs")
        _require(spec.kernel in KERNELS, f"kernel must be one of {KERNELS}", f"{spec.kernel} of {spec.name}", "correct it")
        _require(spec.stride in STRIDES, f"stride must be one of {STRIDES}", f"{spec.stride} of {spec.name}", "correct it")
        fits = channels % groups == 0 and outputs % groups == 0
        _require(fits, "groups must divide inputs and outputs", f"{groups} of {spec.name}, {channels} to {outputs},", "correct them")
        half = spec.kernel // 2
        height, width = ((side + 2 * half - spec.kernel) // spec.stride + 1 for side in (height, width))
        shape = height, width, outputs
        if spec.shortcut is not None:
            added = self.shapes[spec.shortcut]
            _require(
                added == shape,
                "a shortcut must have its target's shape",
                f"{added} of {spec.shortcut} for {shape} of {spec.name}",
                "correct it",
            )
        return shape

    def _attention(self, spec: OperatorSpec) -> tuple[int, int, int]:
        shapes, dim = [self.shapes[source] for source in spec.sources], self.config.head_dim
        for source, shape in zip(spec.sources, shapes, strict=True):
            _require(
                shape[:2] == shapes[0][:2], "scales of an attention must have the same pixels", f"{source} of {spec.name}", "correct it"
            )
            whole = shape[2] % (3 * dim) == 0
            _require(whole, "q, k and v must fill heads", f"{shape[2]} channels of {source}, head_dim {dim},", "correct them")
        return *shapes[0][:2], sum(shape[2] // 3 for shape in shapes)

    def _pool(self, spec: OperatorSpec) -> tuple[int, int, int]:
        return 1, 1, self.shapes[spec.sources[0]][2]

    def _norm(self, spec: OperatorSpec) -> tuple[int, int, int]:
        shape = self.shapes[spec.sources[0]]
        _require(shape[:2] == (1, 1), "a norm must read one pixel", f"{shape[0]} x {shape[1]} of {spec.name}", "pool before it")
        return shape


def _require(condition: bool, rule: str, value: object, remedy: str) -> None:
    if not condition:
        raise InputError(f"{rule}: {value} is wrong; {remedy}")
