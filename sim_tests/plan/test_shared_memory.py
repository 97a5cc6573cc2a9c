"""One memory behind several ports: shares, order, refreshes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rtl.flow.ddr import IDEAL, Memory
from rtl.plan.shared_memory import SharedMemory

Ends = dict[str, tuple[float, float]]
#: 32 bytes a cycle.
PLAIN = replace(IDEAL, peak_bytes_per_cycle=32.0)


def run(memory: Memory, requests: list[tuple[str, str, float, int, float, int]]) -> Ends:
    """(name, port, first, size, rate, channels) of each -> when each began and ended."""
    shared, ends = SharedMemory(memory), {}
    for name, port, first, size, rate, channels in requests:
        shared.request(port, first, size, rate, lambda began, ended, name=name: ends.update({name: (began, ended)}), channels)
    while (event := shared.next_event()) < math.inf:
        shared.advance(event)
    assert shared.moved == sum(size for _, _, _, size, _, _ in requests)
    return ends


def test_a_port_alone_is_as_fast_as_it_likes() -> None:
    assert run(PLAIN, [("a", "p", 10, 1600, 16, 1)]) == {"a": (10, 110)}
    assert run(PLAIN, [("a", "p", 10, 1600, 8, 1)]) == {"a": (10, 210)}
    assert run(PLAIN, [("a", "p", 10, 1600, 999, 1)]) == {"a": (10, 110)}  # a beat of 16 bytes per cycle at most
    assert run(PLAIN, [("a", "p", 10, 3200, 999, 4)]) == {"a": (10, 110)}  # four ports, but the memory gives 32 bytes


def test_transfers_of_a_port_come_in_order() -> None:
    assert run(PLAIN, [("a", "p", 0, 160, 16, 1), ("b", "p", 0, 160, 16, 1), ("c", "p", 100, 160, 16, 1)]) == {
        "a": (0, 10), "b": (10, 20), "c": (100, 110),
    }  # fmt: skip


def test_channels_share_evenly_and_a_slow_one_leaves_the_rest() -> None:
    """Four channels of weights and one of data want 80 of 32 bytes: 6.4 each. One that wants 4 gets them."""
    even = run(PLAIN, [("weights", "w", 0, 2560, 64, 4), ("data", "d", 0, 640, 16, 1)])
    assert even["weights"][1] == pytest.approx(100) and even["data"][1] == pytest.approx(100)
    slow = run(PLAIN, [("weights", "w", 0, 2800, 64, 4), ("data", "d", 0, 400, 4, 1)])
    assert slow["weights"][1] == pytest.approx(100) and slow["data"][1] == pytest.approx(100)


def test_nothing_moves_in_a_refresh() -> None:
    refreshed = replace(PLAIN, refresh_period=100, refresh_length=20)
    assert run(refreshed, [("a", "p", 0, 16 * 100, 16, 1)])["a"] == (0, pytest.approx(20 + 80 + 20 + 20))


def test_a_port_may_be_held_up() -> None:
    """By what its last transfer's engine does with it."""
    shared, ends = SharedMemory(PLAIN), []
    for _ in range(2):
        shared.request("p", 0, 160, 16, lambda began, ended: (ends.append((began, ended)), shared.hold("p", ended + 7)))
    while (event := shared.next_event()) < math.inf:
        shared.advance(event)
    assert ends == [(0, 10), (17, 27)]
