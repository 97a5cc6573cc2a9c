"""The DMA queue's engine: LOAD, STORE and END, every transfer checked against its window."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, BEATS_BITS, REQUEST, WRITE_BEAT
from rtl.config import AcceleratorConfig
from rtl.loader import ITEM_BITS, Loader
from rtl.logit_memory import BANKS, BEAT_ADDRESS_BITS
from rtl.logit_store import LogitStore
from rtl.program import isa
from rtl.row_bus import LoadBus
from rtl.row_feeder import NormPair, Parameter, memory_write
from rtl.transfer import DmaError, Instruction, TransferCheck, Window, Windows
from rtl.units.protocol import delay

__all__ = ["DmaEngine", "DmaError", "Window", "Windows"]

_LOAD = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.LOAD]))
_STORE = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.STORE]))
_CHECK_CYCLES = 8  # items to beats, `TransferCheck`, and its answer in a register
#: From an instruction that is taken to its request.
REQUEST_CYCLES = 10
_POSTS = 64  # posts owed at the same time: LOADs take at least `_CHECK_CYCLES` cycles each, a post at most 255 + 4


class DmaEngine(wiring.Component):
    """Executes LOAD, STORE and END. 66 rows x 768: 873 LUT, 1,306 FF, 2 levels and a carry (`rtl.flow.estimate`).

    A LOAD is taken, checked and asked for while those before it still arrive. STORE and END wait until all LOADs have arrived.

    Members
    -------
    i : stream of {opcode, payload, post}        windows : bases and byte limits        clear : abandons everything
    o_read, i_beats : to and from the AXI reader        o_write, o_beats, write_done : to and from the AXI writer
    write_parameter, write_norm, load, hold_position, pixels, wants_bus : see `rtl.loader.Loader`
    logit_address, logits : the logit memory's read port, one cycle
    post, done : strobes, ``done`` for END        progress : an item moved
    error : DmaError, held until clear; nothing is transferred after it

    Timing
    ------
    Instruction taken in cycle t: request offered in t + 10 if a place for a LOAD is free. Posts come in order, after the last
    item has passed the last row of the load bus.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.loader = Loader(config)
        super().__init__(
            {
                "i": In(stream.Signature(Instruction)),
                "windows": In(Windows),
                "clear": In(1),
                "o_read": Out(stream.Signature(REQUEST)),
                "i_beats": In(stream.Signature(BEAT)),
                "o_write": Out(stream.Signature(REQUEST)),
                "o_beats": Out(stream.Signature(WRITE_BEAT)),
                "write_done": In(1),
                "write_parameter": Out(memory_write(Parameter)),
                "write_norm": Out(memory_write(NormPair)),
                "load": Out(LoadBus),
                "hold_position": In(1),
                "pixels": In(LoadBus),
                "wants_bus": Out(1),
                "logit_address": Out(BEAT_ADDRESS_BITS),
                "logits": In(16 * BANKS),
                "post": Out(Post),
                "done": Out(1),
                "error": Out(2),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        store, self.check = LogitStore(), TransferCheck()
        m.submodules.loader, m.submodules.check = ResetInserter(self.clear)(self.loader), self.check
        m.submodules.store = ResetInserter(self.clear)(store)
        self._connect(m, store)
        taken, held, steps = Signal(Instruction), Signal(), Signal(_CHECK_CYCLES)  # a bit per cycle
        is_load, is_store, is_end = Signal(), Signal(), Signal()
        ended, ready, take = Signal(), Signal(), Signal()
        m.d.comb += [self.i.ready.eq(ready), take.eq(self.i.valid & ready)]
        m.d.sync += [
            ready.eq(~held & (self.error == 0) & ~take),
            held.eq(take | (held & ~ended)),
            steps.eq(Cat(take, steps)),
        ]
        with m.If(take):
            m.d.sync += taken.eq(self.i.payload)
            m.d.sync += [flag.eq(self.i.payload.opcode == code) for flag, code in self._opcodes(is_load, is_store, is_end)]
        begin = self._transfer(m, taken, is_load, is_store, is_end, steps[-1])
        load_push = self._start(m, taken, begin, is_load, is_store, is_end, ended, store)
        self._posts(m, taken, load_push, store.done)
        with m.If(self.clear):
            m.d.sync += [held.eq(0), steps.eq(0), ready.eq(0), ended.eq(0), self.error.eq(DmaError.NONE)]
        return m

    def _opcodes(self, is_load, is_store, is_end):
        return (is_load, isa.Opcode.LOAD), (is_store, isa.Opcode.STORE), (is_end, isa.Opcode.END)

    def _connect(self, m, store):
        loader = self.loader
        wiring.connect(m, wiring.flipped(self.i_beats), loader.i_beats)
        wiring.connect(m, store.o_write, wiring.flipped(self.o_write))
        wiring.connect(m, store.o_beats, wiring.flipped(self.o_beats))
        m.d.comb += [
            loader.hold_position.eq(self.hold_position),
            loader.pixels.eq(self.pixels),
            self.wants_bus.eq(loader.wants_bus),
            self.write_parameter.eq(loader.write_parameter),
            self.write_norm.eq(loader.write_norm),
            self.load.eq(loader.load),
            store.write_done.eq(self.write_done),
            store.logits.eq(self.logits),
            self.logit_address.eq(store.logit_address),
        ]
        m.d.sync += self.progress.eq(loader.progress | self.o_beats.valid)

    def _transfer(self, m, taken, is_load, is_store, is_end, checked):
        """Beats, window and pieces of what is held. Returns whether it begins in this cycle."""
        load, store = data.View(_LOAD, taken.payload[: _LOAD.size]), data.View(_STORE, taken.payload[: _STORE.size])
        items, more, shift = Signal(BEATS_BITS), Signal(4), Signal(3)
        up, beats, known, fine = Signal(BEATS_BITS + 1), Signal(BEATS_BITS), Signal(), Signal()
        offset, window = Signal(32), Signal(Window)
        shifts = {target: (128 // width).bit_length() - 1 for target, width in ITEM_BITS.items()}
        choices = Array(shifts.get(target, 0) for target in range(8))
        m.d.sync += [
            items.eq(Mux(is_store, store.items, load.items)),
            offset.eq(Mux(is_store, store.offset, load.offset)),
            window.eq(Mux(is_store, self.windows.result.as_value(), self.windows.weights.as_value())),
            shift.eq(Mux(is_store, 3, choices[load.target])),
            more.eq(Mux(is_store, 7, Array((1 << shifts.get(target, 0)) - 1 for target in range(8))[load.target])),
            up.eq(items + more),
            beats.eq(Array(up >> amount for amount in range(5))[shift]),
            known.eq(is_store | is_end | (is_load & (load.target <= max(isa.LoadTarget)))),
            fine.eq(known & (self.check.inside | is_end)),
        ]
        job = self.loader.i.payload
        m.d.comb += [self.check.offset.eq(offset), self.check.beats.eq(beats), self.check.window.eq(window)]
        m.d.comb += [job.target.eq(load.target), job.image.eq(load.image), job.address.eq(load.address)]
        m.d.sync += job.pieces.eq(items)
        with m.If(checked & ~fine):
            m.d.sync += self.error.eq(Mux(known, DmaError.WINDOW_OVERRUN, DmaError.BAD_INSTRUCTION))
        return checked & fine

    def _start(self, m, taken, begin, is_load, is_store, is_end, ended, store):
        """Hands a LOAD to the reader and the loader; runs STORE and END when the loader is idle. Returns whether a LOAD is handed on."""
        quiet, load_push, finish = Signal(), Signal(), Signal()
        load_waits, store_waits, end_waits = Signal(), Signal(), Signal()
        fields = data.View(_STORE, taken.payload[: _STORE.size])
        m.d.comb += [
            load_push.eq(load_waits & self.loader.i.ready & ~self.o_read.valid),
            self.loader.i.valid.eq(load_push),
            store.job.address.eq(self.check.address),
            store.job.beats.eq(self.check.beats),
            store.job.items.eq(fields.items),
            store.job.image.eq(fields.image),
            store.start.eq(store_waits & quiet),
            finish.eq(end_waits & quiet),
        ]
        m.d.sync += [
            quiet.eq(self.loader.idle & ~load_push),
            load_waits.eq((begin & is_load) | (load_waits & ~load_push)),
            store_waits.eq((begin & is_store) | (store_waits & ~quiet)),
            end_waits.eq((begin & is_end) | (end_waits & ~quiet)),
            ended.eq(load_push | finish | store.done),
            self.done.eq(finish),
            self.o_read.valid.eq(load_push | (self.o_read.valid & ~self.o_read.ready)),
        ]
        with m.If(load_push):
            m.d.sync += [self.o_read.payload.address.eq(self.check.address), self.o_read.payload.beats.eq(self.check.beats)]
        with m.If(self.clear):
            m.d.sync += [signal.eq(0) for signal in (quiet, load_waits, store_waits, end_waits, self.done, self.o_read.valid)]
        return load_push

    def _posts(self, m, taken, load_push, store_finish):
        """Posts in order, when the load bus has passed the last row."""
        m.submodules.posts = posts = Memory(shape=Post, depth=_POSTS, init=[])
        write, read = posts.write_port(), posts.read_port(domain="comb")
        fire = delay(m, self.loader.done | store_finish, self.config.rows, name="fire", reset=True)
        m.d.comb += [write.data.eq(taken.post), write.en.eq(load_push | store_finish)]
        m.d.sync += [self.post.counter.eq(read.data.counter), self.post.enable.eq(fire & read.data.enable)]
        with m.If(write.en):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(fire):
            m.d.sync += read.addr.eq(read.addr + 1)
        with m.If(self.clear):
            m.d.sync += [write.addr.eq(0), read.addr.eq(0), self.post.enable.eq(0)]
