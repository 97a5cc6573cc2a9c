"""A row's memory of its tokens' channels: one small memory per pass, several clients."""

from __future__ import annotations

from amaranth import Array, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.row_bus import CHANNEL_BITS, PASS_BITS

ReadRequest = data.StructLayout({"valid": 1, "pass_index": PASS_BITS, "address": CHANNEL_BITS})


def write_request(width: int) -> data.StructLayout:
    return data.StructLayout({"valid": 1, "pass_index": PASS_BITS, "address": CHANNEL_BITS, "value": unsigned(width)})


#: Cycles from a write to the first read request that sees it.
WRITE_LATENCY = 2


class TokenMemory(wiring.Component):
    """Residuals or activations of the tokens that one row processes.

    Parameters
    ----------
    width, depth : bits and channels of one token        passes : tokens (one memory each, one block RAM port pair)
    readers, writers : number of clients

    Members
    -------
    read_<n> : {valid, pass_index, address}        data_<n> : the word, one cycle later
    write_<n> : {valid, pass_index, address, value}, readable two cycles later

    Timing
    ------
    Read latency 1; readers of different passes never meet. A write of cycle t can be read by a request of cycle t + `WRITE_LATENCY`.
    Of two readers of one pass, or of two writers, in one cycle the lowest numbered wins; the sequencer's hazard countdowns and the
    program's waits keep that from happening.
    """

    def __init__(self, *, width: int, depth: int, passes: int, readers: int, writers: int):
        self.width, self.depth, self.passes, self.readers, self.writers = width, depth, passes, readers, writers
        members = {}
        for index in range(readers):
            members[f"read_{index}"] = In(ReadRequest)
            members[f"data_{index}"] = Out(width)
        for index in range(writers):
            members[f"write_{index}"] = In(write_request(width))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        reads = [getattr(self, f"read_{n}") for n in range(self.readers)]
        write = self._merged_write(m)
        words = []
        for index in range(self.passes):
            memory = Memory(shape=unsigned(self.width), depth=self.depth, init=[], attrs={"ram_style": "block"})
            m.submodules[f"token_{index}"] = memory
            read_port, write_port = memory.read_port(domain="sync"), memory.write_port()
            read_address = reads[-1].address
            for request in reversed(reads[:-1]):
                read_address = Mux(request.valid & (request.pass_index == index), request.address, read_address)
            m.d.comb += [
                read_port.addr.eq(read_address),
                read_port.en.eq(1),
                write_port.addr.eq(write.address),
                write_port.data.eq(write.value),
                write_port.en.eq(write.valid & (write.pass_index == index)),
            ]
            words.append(read_port.data)
        for number, request in enumerate(reads):
            selected = Signal(PASS_BITS, name=f"selected_{number}")
            m.d.sync += selected.eq(request.pass_index)
            m.d.comb += getattr(self, f"data_{number}").eq(Array(words)[selected] if self.passes > 1 else words[0])
        return m

    def _merged_write(self, m):
        """The one write of this cycle, one register later."""
        merged = Signal(write_request(self.width))
        chosen = getattr(self, f"write_{self.writers - 1}")
        for number in reversed(range(self.writers - 1)):
            request = getattr(self, f"write_{number}")
            chosen = Mux(request.valid, request, chosen)
        m.d.sync += merged.eq(chosen)
        return merged
