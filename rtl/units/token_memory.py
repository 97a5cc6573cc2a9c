"""A row's memories of its tokens: residuals, one memory per pass, and activations, one per image."""

from __future__ import annotations

from amaranth import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class TokenMemory(wiring.Component):
    """Block RAMs of one read and one write port each. No arbitration: `rtl.token_ports` decides who uses a port, once for all rows.

    Parameters
    ----------
    width : bits of a word        address_bits : of each memory        memories : how many

    Members
    -------
    read_<n> : address of memory n        data_<n> : its word, one cycle later
    write_<n> : enable        write_address_<n>, value_<n> : of the word written at the end of this cycle

    Timing
    ------
    Read latency 1. A read in the cycle of a write to the same place gives the old word.
    """

    def __init__(self, *, width: int, address_bits: int, memories: int):
        self.width, self.address_bits, self.memories = width, address_bits, memories
        members = {}
        for index in range(memories):
            members |= {f"read_{index}": In(address_bits), f"data_{index}": Out(width)}
            members |= {f"write_{index}": In(1), f"write_address_{index}": In(address_bits), f"value_{index}": In(width)}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        for index in range(self.memories):
            memory = Memory(shape=unsigned(self.width), depth=1 << self.address_bits, init=[], attrs={"ram_style": "block"})
            m.submodules[f"token_{index}"] = memory
            read, write = memory.read_port(domain="sync"), memory.write_port()
            m.d.comb += [
                read.addr.eq(getattr(self, f"read_{index}")),
                read.en.eq(1),
                getattr(self, f"data_{index}").eq(read.data),
                write.addr.eq(getattr(self, f"write_address_{index}")),
                write.data.eq(getattr(self, f"value_{index}")),
                write.en.eq(getattr(self, f"write_{index}")),
            ]
        return m
