"""The load bus and the rows behind it, for benches of what feeds it; instructions as the dispatcher offers them."""

from __future__ import annotations

from model.graph import DeitShape
from rtl.program.isa import PAYLOAD, Opcode
from rtl.row_bus import LANES, LoadBus, LoadKind
from sim_tests.cocotb.helpers import bench_parameters

STALLS = {"free": {}, "slow": {"latency": 40, "stall": 0.4, "hold": 0.3}, "held": {"hold": 0.8}}


def instruction(opcode: Opcode, post: int | None = None, **fields: int) -> int:
    word, at = 0, 0
    for name, width in PAYLOAD[opcode]:
        word |= fields[name] << at
        at += width
    return opcode | word << 4 | (0 if post is None else 1 | post << 1) << 180


class Geometry:
    """The network's and the array's dimensions, from the bench's parameters."""

    def __init__(self) -> None:
        parameters = bench_parameters()
        self.shape, self.rows = DeitShape(**parameters["shape"]), parameters["rows"]
        self.passes = -(-self.shape.tokens // self.rows)
        self.groups = -(-self.rows // LANES)

    def positions(self, channels: int) -> int:
        return channels * self.passes * self.groups * 2

    def image_bytes(self) -> int:
        return self.shape.channels * self.shape.image_size**2


class Rows:
    """What the rows write: the load bus hops from row to row and turns by a lane each time.

    Attributes
    ----------
    written : (kind, row, image, pass, address) -> value        beats : load bus beats so far        last : cycle of the newest
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.written: dict[tuple[int, ...], int] = {}
        self.beats, self.last = 0, 0

    def take(self, word: int, cycle: int) -> LoadKind:
        at = {name: (word >> field.offset) & (1 << field.width) - 1 for name, field in LoadBus}
        token = at["token"]
        image, pass_index, address = token & 1, token >> 1 & 15, token >> 5
        kind, data, lanes, upper = LoadKind(at["kind"]), at["data"], at["lanes"], at["upper"]
        self.beats, self.last = self.beats + 1, cycle
        for row in range(self.rows):
            if kind == LoadKind.TABLE:
                self._write((kind.value, row, 0, 0, address), data & 0xFF)
            elif lanes & 1 and row // LANES == at["group_1" if upper & 1 else "group_0"]:
                self._write((kind.value, row, image, pass_index, address), data & (0xFFFF if kind == LoadKind.POSITION else 0xFF))
            data, lanes, upper = data >> 8 | (data & 0xFF) << 120, lanes >> 1 | (lanes & 1) << 15, upper >> 1 | (upper & 1) << 15
        return kind

    def _write(self, place: tuple[int, ...], value: int) -> None:
        assert place not in self.written, f"written twice: {place}"
        self.written[place] = value


def same(got: dict, expected: dict, what: str) -> None:
    missing, extra = expected.keys() - got.keys(), got.keys() - expected.keys()
    assert not missing and not extra, f"{what}: {len(missing)} missing, {len(extra)} extra, e.g. {sorted(missing)[:2]}, {sorted(extra)[:2]}"
    wrong = {key for key in expected if got[key] != expected[key]}
    assert not wrong, f"{what}: {len(wrong)} of {len(expected)} differ, first at {min(wrong)}: {got[min(wrong)]} for {expected[min(wrong)]}"
