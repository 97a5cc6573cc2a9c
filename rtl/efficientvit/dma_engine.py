"""The DMA queue's engine: LOAD, STORE and END, every transfer checked against its window."""

from __future__ import annotations

from amaranth import Module, Mux, ResetInserter, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, BEATS_BITS, REQUEST, WRITE_BEAT
from rtl.efficientvit.isa import PAYLOAD, LoadTarget, Opcode
from rtl.logit_memory import BANKS, BEAT_ADDRESS_BITS
from rtl.logit_store import LogitStore
from rtl.transfer import DmaError, Instruction, TransferCheck, Windows

#: One beat for whoever ``target`` names.
LoadBus = data.StructLayout({"valid": 1, "target": 3, "address": 16, "data": 128})
_LOAD = data.StructLayout(dict(PAYLOAD[Opcode.LOAD]))
_STORE = data.StructLayout(dict(PAYLOAD[Opcode.STORE]))
_CHECK_CYCLES = 5
#: From an instruction that is taken to its request.
REQUEST_CYCLES = _CHECK_CYCLES + 1
#: LOADs that were asked for and have not arrived.
JOBS = 8
_Job = data.StructLayout({"target": 3, "address": 16, "beats": 16, "post": Post})


class DmaEngine(wiring.Component):
    """Executes LOAD, STORE and END. LOADs are asked for while those before them still arrive; STORE and END wait until all have.

    Members
    -------
    i : stream of {opcode, payload, post}        windows : bases and byte limits        clear : abandons everything
    o_read, i_beats : to and from the AXI reader        o_write, o_beats, write_done : to and from the AXI writer
    load : a beat per cycle, one cycle between LOADs        logit_address, logits : the logit memory's read port, one cycle
    post, done : strobes, ``done`` for END        progress : something moved        error : DmaError, held until clear
    """

    def __init__(self):
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
                "load": Out(LoadBus),
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
        m.submodules.jobs = jobs = SyncFIFOBuffered(width=_Job.size, depth=JOBS)
        m.submodules.check = check = TransferCheck()
        m.submodules.store = store = LogitStore()
        taken, held, steps, checked = Signal(Instruction), Signal(), Signal(_CHECK_CYCLES), Signal()
        load, stores = data.View(_LOAD, taken.payload[: _LOAD.size]), data.View(_STORE, taken.payload[: _STORE.size])
        is_load, is_store, is_end, known = Signal(), Signal(), Signal(), Signal()
        window, offset, beats = Signal(self.windows.result.shape()), Signal(32), Signal(BEATS_BITS)
        m.d.comb += [
            self.i.ready.eq(~held & ~self.error.any()),
            check.window.eq(window),
            check.offset.eq(offset),
            check.beats.eq(beats),
        ]
        m.d.sync += [
            window.eq(Mux(is_store, self.windows.result.as_value(), self.windows.weights.as_value())),
            offset.eq(Mux(is_store, stores.offset, load.offset)),
            beats.eq(Mux(is_store, (stores.items + BANKS - 1) >> 3, load.beats)),
            known.eq(is_store | is_end | (is_load & (load.target <= max(LoadTarget)))),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [taken.eq(self.i.payload), held.eq(1), steps.eq(1)]
            codes = ((is_load, Opcode.LOAD), (is_store, Opcode.STORE), (is_end, Opcode.END))
            m.d.sync += [flag.eq(self.i.payload.opcode == code) for flag, code in codes]
        with m.Else():
            m.d.sync += steps.eq(steps << 1)
        with m.If(steps[-1]):
            with m.If(known & (check.inside | is_end)):
                m.d.sync += checked.eq(1)
            with m.Else():
                m.d.sync += self.error.eq(Mux(known, DmaError.WINDOW_OVERRUN, DmaError.BAD_INSTRUCTION))
        quiet = self._deliver(m, jobs)
        push = Signal()
        job = data.View(_Job, jobs.w_data)
        m.d.comb += [
            push.eq(checked & is_load & jobs.w_rdy & ~self.o_read.valid),
            jobs.w_en.eq(push),
            job.target.eq(load.target),
            job.address.eq(load.address),
            job.beats.eq(load.beats),
            job.post.eq(taken.post),
        ]
        with m.If(self.o_read.ready):
            m.d.sync += self.o_read.valid.eq(0)
        with m.If(push):
            m.d.sync += [self.o_read.valid.eq(1), self.o_read.payload.address.eq(check.address), self.o_read.payload.beats.eq(check.beats)]
        storing = Signal()
        self._store(m, store, check, stores, checked & is_store & quiet & ~storing)
        with m.If(store.start):
            m.d.sync += storing.eq(1)
        m.d.sync += self.done.eq(checked & is_end & quiet & ~self.done)
        with m.If(push | store.done | self.done):
            m.d.sync += [held.eq(0), checked.eq(0), storing.eq(0)]
        with m.If(store.done):
            m.d.sync += self.post.eq(taken.post)
        m.d.sync += self.progress.eq(self.load.valid | self.o_beats.valid)
        return ResetInserter(self.clear)(m)

    def _deliver(self, m, jobs):
        """Beats of the oldest LOAD to its target. Returns whether none is left."""
        job, left, address, active = Signal(_Job), Signal(signed(17)), Signal(16), Signal()  # left: beats, less two
        take, ends = Signal(), Signal()
        m.d.comb += [
            jobs.r_en.eq(~active),
            self.i_beats.ready.eq(active),
            take.eq(active & self.i_beats.valid),
            ends.eq(take & left[-1]),
        ]
        m.d.sync += [
            self.load.valid.eq(take),
            self.load.target.eq(job.target),
            self.load.address.eq(address),
            self.load.data.eq(self.i_beats.payload.data),
            self.post.enable.eq(ends & job.post.enable),
            self.post.counter.eq(job.post.counter),
        ]
        with m.If(take):
            m.d.sync += [left.eq(left - 1), address.eq(address + 1)]
        with m.If(ends):
            m.d.sync += active.eq(0)
        with m.If(jobs.r_en & jobs.r_rdy):
            following = data.View(_Job, jobs.r_data)
            m.d.sync += [job.eq(following), active.eq(1), left.eq(following.beats - 2), address.eq(following.address)]
        quiet = Signal()
        m.d.sync += quiet.eq(~active & ~jobs.r_rdy & (jobs.level == 0) & ~self.o_read.valid)
        return quiet

    def _store(self, m, store, check, fields, start):
        wiring.connect(m, store.o_write, wiring.flipped(self.o_write))
        wiring.connect(m, store.o_beats, wiring.flipped(self.o_beats))
        m.d.comb += [
            store.start.eq(start),
            store.job.address.eq(check.address),
            store.job.beats.eq(check.beats),
            store.job.items.eq(fields.items),
            store.job.image.eq(fields.image),
            store.write_done.eq(self.write_done),
            store.logits.eq(self.logits),
            self.logit_address.eq(store.logit_address),
        ]
