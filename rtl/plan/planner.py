"""VAQF's question: a network, a board and a frame rate in; the activation precision and the machine out.

The answer is the highest precision at which some machine that fits the board reaches the frame rate, and the machine that leaves most of
the board free among those that reach it (VAQF takes the fastest of that precision; it is `fastest` here, and the same question at a higher
frame rate). If the fastest machine of the lowest precision is too slow, there is none, and its rate is the limit. VAQF section 1.2.

Both searches cover the whole space: machines come in the order of what they cost, or of a bound on their cycles, and those that cannot be
the answer are passed over without a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Protocol

from rtl.errors import InputError
from rtl.flow.estimate import Resources, budget
from rtl.flow.machine import Config, with_bits
from rtl.plan.space import Space

#: Predicted cycles may be wrong by so much (docs/architecture.md): a machine must be faster by it.
MARGIN = 0.02
#: The fastest machine is looked for until none can be faster by more than this.
CLOSE = 0.01
#: More around an array may make it slower, but not by more than this.
SLACK = 0.005


class Models(Protocol):
    """What is known of a machine before it is built."""

    def cycles_per_image(self, config: Config) -> float:
        """In a stream of images. Raises InputError where the network does not fit the machine."""
        ...

    def resources(self, config: Config) -> Resources: ...


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with its predictions. ``share``: of the board's budget, of the resource that it takes most of."""

    config: Config
    cycles_per_image: float
    resources: Resources
    share: float

    def fps(self, clock_mhz: float) -> float:
        return clock_mhz * 1e6 / self.cycles_per_image


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    chosen : None where the frame rate is out of reach        limit : the fastest machine of the lowest precision, None if none fits
    predictions : of cycles, that the search took
    """

    chosen: Machine | None
    limit: Machine | None
    predictions: int


@dataclass
class Planner:
    """Searches one space on one board.

    memory_bytes : of the board's DDR per cycle, sustained        say : is told in a few words what goes on
    """

    space: Space
    models: Models
    board: Any
    clock_mhz: float
    memory_bytes: float
    say: Callable[[str], None] = lambda _: None
    _cycles: dict[Any, float] = field(default_factory=dict)
    _refused: InputError = field(default_factory=lambda: InputError("the space has no machine"))

    def plan(self, fps: float) -> Plan:
        """Raises InputError for a frame rate that is none."""
        if not 0 < fps < float("inf"):
            raise InputError(f"--fps must be positive and finite: {fps:g} is not; use 25")
        wanted = fps * (1 + MARGIN)
        limit = self.fastest(self.space.precisions[-1])
        if limit is None or limit.fps(self.clock_mhz) < wanted:
            return Plan(chosen=None, limit=limit, predictions=len(self._cycles))
        for bits in self.space.precisions:
            chosen = self.cheapest(bits, wanted)
            if chosen is not None:
                return Plan(chosen=chosen, limit=limit, predictions=len(self._cycles))
        raise AssertionError("the lowest precision reaches the frame rate, and none does")

    def fastest(self, bits: int) -> Machine | None:
        """A machine that fits, with as few cycles as any, or ``CLOSE`` to that; of equals the one that costs least. None: the board is too
        small for all that hold the network.

        Raises
        ------
        InputError : it is not the board: no machine holds the network
        """
        self.say(f"the fastest machine of {bits} bits")
        places, best, too_large = count(), None, False
        queue = [(self.bound(config), next(places), config) for group in self.space.machines(bits) for config in group]
        heapify(queue)
        while queue and (best is None or queue[0][0] < best[0] * (1 - CLOSE)):
            bound, _, config = heappop(queue)
            resources = self.models.resources(config)
            if self.share(resources) > 1:
                too_large = True
                continue
            if best is not None and self.too_slow(config, best[0]):
                continue
            price = self.price(resources)
            cycles = self.cycles_per_image(config)
            if cycles is None:
                larger = self.space.larger(config)
                if larger is not None:
                    heappush(queue, (bound, next(places), larger))
            elif best is None or (cycles, price) < best[:2]:
                best = cycles, price, config
        if best is None and not too_large:
            raise self._refused
        return None if best is None else self._machine(best[2])

    def cheapest(self, bits: int, fps: float) -> Machine | None:
        """Of the machines that fit and reach the frame rate, the one that takes least of the board, all resources together."""
        self.say(f"the smallest machine of {bits} bits for {fps:.0f} frames per second")
        most, places = self.clock_mhz * 1e6 / fps, count()
        queue: list[tuple[float, int, Sequence[Config]]] = []  # by price: groups by that of their cheapest, and single machines

        def add(configs: Sequence[Config]) -> None:
            resources = self.models.resources(configs[0])
            if self.share(resources) <= 1:
                heappush(queue, (self.price(resources), next(places), configs))

        for group in self.space.machines(bits):
            if any(self.bound(config) <= most for config in group):
                add(group)
        while queue:
            _, _, configs = heappop(queue)
            if len(configs) > 1:
                for config in configs:
                    if self.bound(config) <= most:
                        add((config,))
                continue
            if self.too_slow(configs[0], most):
                continue
            cycles = self.cycles_per_image(configs[0])
            if cycles is None:
                larger = self.space.larger(configs[0])
                if larger is not None:
                    add((larger,))
            elif cycles <= most:
                return self._machine(configs[0])
        return None

    def bound(self, config: Config) -> float:
        """No prediction of its cycles is below it."""
        return self.space.least_cycles(config, self.memory_bytes)

    def too_slow(self, config: Config, most: float) -> bool:
        """Whether the fullest machine around the same array takes more cycles: many machines are passed over with one prediction."""
        fullest = self.space.fullest(config)
        cycles = None if fullest == config else self.cycles_per_image(fullest)
        return cycles is not None and cycles * (1 - SLACK) > most

    def share(self, resources: Resources) -> float:
        """Of the board's budget, of the resource that it takes most of."""
        return max(self._shares(resources))

    def price(self, resources: Resources) -> float:
        """Of the budget, over all resources together: what the search keeps small."""
        return sum(self._shares(resources))

    def _shares(self, resources: Resources) -> list[float]:
        allowed = budget(self.board) | {"ff": self.board.capacity["ff"]}
        return [getattr(resources, name) / most for name, most in allowed.items()]

    def _machine(self, config: Config) -> Machine:
        cycles, resources = self.cycles_per_image(config), self.models.resources(config)
        assert cycles is not None
        return Machine(config=config, cycles_per_image=cycles, resources=resources, share=self.share(resources))

    def cycles_per_image(self, config: Config) -> float | None:
        """None where the network does not fit. Cycles hardly depend on the precision, so one prediction serves all."""
        key = with_bits(config, 8)
        if key not in self._cycles:
            try:
                self._cycles[key] = self.models.cycles_per_image(config)
            except InputError as error:
                self._refused = error
                self._cycles[key] = float("inf")
        cycles = self._cycles[key]
        return None if cycles == float("inf") else cycles


def parameters(config: Any) -> Mapping[str, Any]:
    """Of a machine, for people and scripts: what the search has chosen."""
    names = ("rows", "inputs", "lanes", "tile_words", "weight_buffers", "weight_ports", "images", "key_value_copies", "strategy",
             "dsp_clock", "memory_words", "weight_words", "ring_depth", "key_value_depth", "state_depth")  # fmt: skip
    return {name: getattr(config, name) for name in names if hasattr(config, name)}
