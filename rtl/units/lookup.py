"""Any function of 8 bits: a table of 256 entries, twice, so that one is loaded while the other works."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.units.protocol import delay, require

ENTRIES = 256
SETS = 2
WRITE = data.StructLayout({"address": 8, "set": 1, "value": 8})
INDEX = data.StructLayout({"index": 8, "set": 1})


@dataclass(frozen=True, kw_only=True)
class LookupConfig:
    """
    Parameters
    ----------
    latency : 1, or 2 with the output register of a block RAM
    ram_style : "block" (half a BRAM36 and no LUT) or "distributed"
    """

    latency: int = 2
    ram_style: str = "block"

    def __post_init__(self) -> None:
        require(self.latency in (1, 2), "latency must be 1 or 2", self.latency, "use 2")
        require(self.ram_style in ("block", "distributed"), "ram_style must be block or distributed", self.ram_style, "use block")

    def build(self) -> Lookup:
        return Lookup(self)


class Lookup(wiring.Component):
    """o = table[set][index].

    Parameters
    ----------
    config : LookupConfig

    Members
    -------
    i_write : In(stream of {address: 8, set: 1, value: 8}): one entry per valid cycle
    i : In(stream of {index: 8, set: 1})
    o : Out(stream of unsigned 8)

    Timing
    ------
    A value per cycle; o follows i by ``config.latency`` cycles. An entry written in cycle t is read by an index of cycle t + 1 or
    later; an index of cycle t that names the entry being written gets an undefined value (the sets are there to avoid it). Only
    ``valid`` is reset.

    Raises
    ------
    InputError : a latency or memory style that does not exist.

    Resources, yosys, before place-and-route: "block" 0 LUT, half a BRAM36; "distributed" 156 LUT, 128 of them memory.

    Source: model/graph.py, the table activation.
    """

    OFFSETS = {}

    def __init__(self, config: LookupConfig):
        self.config = config
        self.latency = config.latency
        super().__init__(
            {
                "i_write": In(stream.Signature(WRITE, always_ready=True)),
                "i": In(stream.Signature(INDEX, always_ready=True)),
                "o": Out(stream.Signature(8, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = Memory(shape=8, depth=SETS * ENTRIES, init=[], attrs={"ram_style": self.config.ram_style})
        write, read = table.write_port(), table.read_port()
        m.d.comb += [
            write.en.eq(self.i_write.valid),
            write.addr.eq(Cat(self.i_write.p.address, self.i_write.p.set)),
            write.data.eq(self.i_write.p.value),
            read.en.eq(1),
            read.addr.eq(Cat(self.i.p.index, self.i.p.set)),
            self.o.payload.eq(delay(m, read.data, self.latency - 1, name="value")),
            self.o.valid.eq(delay(m, self.i.valid, self.latency, name="valid", reset=True)),
        ]
        return m
