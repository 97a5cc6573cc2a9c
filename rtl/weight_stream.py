"""Streams weight words into the weight memories, each slice of a word over its own memory port."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import ADDRESS_BITS, BEAT, BEATS_BITS, DATA_BITS, REQUEST
from rtl.config import AcceleratorConfig
from rtl.program import isa
from rtl.row_feeder import memory_write
from rtl.slice_port import SlicePort
from rtl.transfer import DmaError, Instruction, TransferCheck, Window

_STREAM = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.STREAM]))
_CHECK_CYCLES = 4  # of one slice: `TransferCheck`, and adding its answer to those of the other slices
#: From the last write to the post: cycles.
POST_CYCLES = 3
_POSTS = 4  # instructions whose post is owed: at most one at work and one waiting in the slowest port, and those being posted


def request_cycles(ports: int) -> int:
    """From an instruction that is taken to its requests, if no port is two instructions behind: a check per port, one after the other."""
    return 5 * ports + 4


class WeightStream(wiring.Component):
    """Executes STREAM: the slices of one run of words arrive over all ports at once.

    An instruction is taken, and its transfers checked and asked for, while those before it still arrive. Nothing of an instruction is
    transferred unless all its slices lie in the window.

    Members
    -------
    i : stream of {opcode, payload, post}        window : WEIGHTS        clear : abandons everything
    o_read_0.., i_beats_0.. : to and from port p's AXI reader        write_0.. : {valid, address, data} of slice p
    post : strobe, in order, when every port has written the last word        progress : a word was written
    error : DmaError, held until clear; nothing is taken after it

    Timing
    ------
    Instruction taken in cycle t: requests offered in t + `request_cycles`, if no port is two instructions behind.
    Post 3 cycles after the last write. Three ports of 256 bits: 403 LUT, 2,393 FF; stages of at most 2 LUT levels and a carry.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        members = {
            "i": In(stream.Signature(Instruction)),
            "window": In(Window),
            "clear": In(1),
            "post": Out(Post),
            "error": Out(2),
            "progress": Out(1),
        }
        for port in range(config.weight_ports):
            members[f"o_read_{port}"] = Out(stream.Signature(REQUEST))
            members[f"i_beats_{port}"] = In(stream.Signature(BEAT))
            members[f"write_{port}"] = Out(memory_write(unsigned(config.slice_inputs)))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        ports = []
        for index in range(self.config.weight_ports):
            port = SlicePort(self.config.slice_inputs)
            m.submodules[f"port_{index}"] = ResetInserter(self.clear)(port)
            wiring.connect(m, port.o_read, wiring.flipped(getattr(self, f"o_read_{index}")))
            wiring.connect(m, wiring.flipped(getattr(self, f"i_beats_{index}")), port.i_beats)
            m.d.comb += getattr(self, f"write_{index}").eq(port.write)
            ports.append(port)
        m.d.sync += self.progress.eq(Cat(port.write.valid for port in ports).any())
        taken, start = Signal(Instruction), Signal()
        self._accept(m, ports, taken, start)
        self._post(m, ports, taken, start)
        return m

    def _accept(self, m, ports, taken, start):
        """Takes an instruction, checks slice after slice, and starts all ports in the same cycle."""
        held, port, step = Signal(), Signal(len(ports)), Signal(_CHECK_CYCLES + 1)  # one bit each
        checked, inside, known = Signal(), Signal(), Signal()
        fields = data.View(_STREAM, taken.payload[: _STREAM.size])
        offset, beats = Signal(32 + 2), Signal(BEATS_BITS)
        addresses = [Signal(ADDRESS_BITS, name=f"address_{index}") for index in range(len(ports))]
        m.submodules.check = check = TransferCheck()
        ready, take, more, offer = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(ready),
            check.window.eq(self.window),
            check.offset.eq(offset),
            check.beats.eq(beats),
            take.eq(self.i.valid & ready),
            more.eq(step[-1] & ~port[-1]),
        ]
        willing = Cat(one.i.ready for one in ports).all()
        m.d.sync += [
            start.eq(checked & willing & ~start),  # a port stays ready until a job comes
            offer.eq(checked & willing & ~start & inside & known),
            ready.eq(~held & (self.error == 0) & ~take),
            held.eq(take | (held & ~start)),
            checked.eq((step[-1] & port[-1]) | (checked & ~start)),
            step.eq(Cat(take | more, step)),
            known.eq(taken.opcode == isa.Opcode.STREAM),
            beats.eq(_beats(fields.items, self.config.slice_inputs)),
        ]
        with m.If(take):
            taken_fields = data.View(_STREAM, self.i.payload.payload[: _STREAM.size])
            m.d.sync += [taken.eq(self.i.payload), inside.eq(1), port.eq(1), offset.eq(taken_fields.offset)]
        with m.If(step[-1]):
            m.d.sync += [
                port.eq(port << 1),
                offset.eq(offset + fields.stride),
                inside.eq(inside & check.inside & ~offset[32:].any()),
            ]
            for index, address in enumerate(addresses):
                with m.If(port[index]):
                    m.d.sync += address.eq(check.address)
        for index, one in enumerate(ports):
            job = one.i.payload
            m.d.comb += [
                one.i.valid.eq(offer),
                job.request.address.eq(addresses[index]),
                job.request.beats.eq(beats),
                job.items.eq(fields.items),
                job.place.eq(fields.address),
            ]
        with m.If(checked & ~(inside & known)):
            m.d.sync += self.error.eq(Mux(known, DmaError.WINDOW_OVERRUN, DmaError.BAD_INSTRUCTION))
        with m.If(self.clear):
            m.d.sync += [held.eq(0), step.eq(0), checked.eq(0), self.error.eq(DmaError.NONE), ready.eq(0), start.eq(0), offer.eq(0)]

    def _post(self, m, ports, taken, start):
        """Posts in order: once every port has finished an instruction."""
        m.submodules.posts = posts = Memory(shape=Post, depth=_POSTS, init=[])
        write, read = posts.write_port(), posts.read_port(domain="comb")
        finished = [Signal(3, name=f"finished_{index}") for index in range(len(ports))]
        fire = Signal()
        m.d.comb += [write.data.eq(taken.post), write.en.eq(start)]
        m.d.sync += [
            fire.eq(Cat(count.any() for count in finished).all() & ~fire),
            self.post.counter.eq(read.data.counter),
            self.post.enable.eq(fire & read.data.enable),
        ]
        for count, port in zip(finished, ports, strict=True):
            m.d.sync += count.eq(count + port.done - fire)
        with m.If(start):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(fire):
            m.d.sync += read.addr.eq(read.addr + 1)
        with m.If(self.clear):
            m.d.sync += [write.addr.eq(0), read.addr.eq(0), fire.eq(0), self.post.enable.eq(0), *(count.eq(0) for count in finished)]


def _beats(items, inputs: int):
    """Beats that ``items`` slices take."""
    width = isa.weight_item_bits(inputs)
    if width >= DATA_BITS:
        return items * (width // DATA_BITS)
    per_beat = DATA_BITS // width
    return (items + per_beat - 1) >> (per_beat.bit_length() - 1)
