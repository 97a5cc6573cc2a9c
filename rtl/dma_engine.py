"""The DMA queue's engine: LOAD, STORE and END, one at a time, every transfer checked against its window."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, REQUEST, WRITE_BEAT
from rtl.bus.unpack import Unpack, UnpackConfig
from rtl.config import AcceleratorConfig
from rtl.loader import Loader
from rtl.program import isa
from rtl.row_bus import LoadBus
from rtl.row_feeder import NormPair, Parameter, memory_write
from rtl.transfer import DmaError, Instruction, Window, Windows
from rtl.units.protocol import delay


_LOAD = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.LOAD]))
_STORE = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.STORE]))


def item_widths(config: AcceleratorConfig) -> dict[isa.LoadTarget, int]:
    """Bits of one item in memory, per target."""
    return {
        isa.LoadTarget.WEIGHT: isa.weight_item_bits(config.inputs),
        isa.LoadTarget.PARAMETER: 64,
        isa.LoadTarget.NORM: 32,
        isa.LoadTarget.TABLE: 8,
        isa.LoadTarget.POSITION: 16,
        isa.LoadTarget.PIXEL: 8,
    }


class DmaEngine(wiring.Component):
    """Executes LOAD, STORE and END.

    Members
    -------
    i : stream of {opcode, payload, post}; ready when the instruction is done
    windows : bases and byte limits        clear : abandons everything
    o_read, i_beats : to and from the AXI reader        o_write, o_beats, write_done : to and from the AXI writer
    write_weight, write_parameter, write_norm, load : see Loader
    logit_address, logit : the logit memory's read port (one cycle)
    post, done : strobes        error : DmaError, held until clear; nothing is transferred after it        progress : an item moved

    Timing
    ------
    A LOAD takes its transfer plus 4 cycles and the memory's latency. Its post comes `rows + 4` cycles after its last item, when the load
    bus has passed the last row.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.widths = item_widths(config)
        self.unpack_config = UnpackConfig(widths=tuple(sorted(set(self.widths.values()))))
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
                "hold_pixel": In(1),
                "logit_address": Out(13),
                "logit": In(16),
                "post": Out(Post),
                "done": Out(1),
                "error": Out(2),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.unpack = unpack = Unpack(self.unpack_config)
        m.submodules.loader = loader = Loader(self.config, self.unpack_config.item_bits)
        wiring.connect(m, wiring.flipped(self.i_beats), unpack.i)
        post = Signal(Post)
        m.d.comb += [
            loader.i.payload.data.eq(unpack.o.payload.data),
            loader.i.payload.index.eq(unpack.o.payload.index),
            loader.i.valid.eq(unpack.o.valid),
            unpack.o.ready.eq(1),
            unpack.clear.eq(self.clear),
            self.progress.eq(unpack.o.valid | (self.o_beats.valid & self.o_beats.ready)),
            self.write_weight.eq(loader.write_weight),
            self.write_parameter.eq(loader.write_parameter),
            self.write_norm.eq(loader.write_norm),
            self.load.eq(loader.load),
            self.post.eq(delay(m, post.as_value(), self.config.rows + 4, name="post", reset=True)),
            post.counter.eq(self.i.payload.post.counter),
            post.enable.eq(self.i.payload.post.enable & self.i.ready & self.i.valid),
        ]
        load_request = self._load_request(m, unpack, loader)
        store_request = self._store_request(m)
        with m.FSM():
            self._idle_state(m)
            self._load_states(m, unpack, loader, load_request)
            self._store_states(m, store_request)
        with m.If(self.clear):
            m.d.sync += self.error.eq(DmaError.NONE)
        return m

    def _idle_state(self, m):
        with m.State("IDLE"):
            with m.If(self.i.valid & (self.error == DmaError.NONE) & ~self.clear):
                with m.Switch(self.i.payload.opcode):
                    with m.Case(isa.Opcode.LOAD):
                        m.next = "LOAD_CHECK"
                    with m.Case(isa.Opcode.STORE):
                        m.next = "STORE_CHECK"
                    with m.Case(isa.Opcode.END):
                        m.d.comb += [self.done.eq(1), self.i.ready.eq(1)]
                    with m.Default():
                        m.d.sync += self.error.eq(DmaError.BAD_INSTRUCTION)

    def _load_request(self, m, unpack, loader):
        """The transfer that the LOAD at the head asks for, and whether its window and target allow it."""
        load = data.View(_LOAD, self.i.payload.payload[: _LOAD.size])
        asked = Signal(data.StructLayout({"address": 40, "beats": 24, "inside": 1, "known": 1}), name="load_request")
        window = Signal(Window, name="load_window")
        m.d.comb += [
            window.eq(Mux(load.window == isa.Window.IMAGE, self.windows.image.as_value(), self.windows.weights.as_value())),
            asked.address.eq(window.base + load.offset),
            asked.inside.eq(((asked.beats << 4) + load.offset <= window.bytes) & (load.items != 0) & ~load.offset[:4].any()),
            asked.known.eq((load.target <= max(isa.LoadTarget)) & (load.window <= isa.Window.IMAGE)),
            loader.target.eq(load.target),
            loader.address.eq(load.address),
            unpack.i_request.payload.items.eq(load.items),
        ]
        with m.Switch(load.target):
            for target, width in self.widths.items():
                with m.Case(target):
                    m.d.comb += unpack.i_request.payload.width_code.eq(self.unpack_config.code(width))
                    per_beat = 128 // width
                    beats = load.items * (width // 128) if width >= 128 else (load.items + per_beat - 1) >> (per_beat.bit_length() - 1)
                    m.d.comb += asked.beats.eq(beats)
        return asked

    def _load_states(self, m, unpack, loader, asked):
        request_sent, unpack_sent = Signal(), Signal()
        with m.State("LOAD_CHECK"):
            m.d.comb += loader.start.eq(1)
            m.d.sync += [request_sent.eq(0), unpack_sent.eq(0)]
            m.next = "IDLE"
            with m.If(~asked.known):
                m.d.sync += self.error.eq(DmaError.BAD_INSTRUCTION)
            with m.Elif(~asked.inside):
                m.d.sync += self.error.eq(DmaError.WINDOW_OVERRUN)
            with m.Else():
                m.next = "LOAD_RUN"
        with m.State("LOAD_RUN"):
            m.d.comb += [
                self.o_read.payload.address.eq(asked.address),
                self.o_read.payload.beats.eq(asked.beats),
                self.o_read.valid.eq(~request_sent),
                unpack.i_request.valid.eq(~unpack_sent),
            ]
            with m.If(self.o_read.ready):
                m.d.sync += request_sent.eq(1)
            with m.If(unpack.i_request.ready):
                m.d.sync += unpack_sent.eq(1)
            with m.If(unpack.o.valid & unpack.o.payload.last):
                m.d.comb += self.i.ready.eq(1)
                m.next = "IDLE"
            with m.If(self.clear):
                m.next = "IDLE"

    def _store_request(self, m):
        """The transfer that the STORE at the head asks for."""
        store = data.View(_STORE, self.i.payload.payload[: _STORE.size])
        window = self.windows.result
        asked = Signal(data.StructLayout({"items": 16, "inside": 1}), name="store_request")
        m.d.comb += [
            self.o_write.payload.beats.eq((store.items + 7) >> 3),
            self.o_write.payload.address.eq(window.base + store.offset),
            asked.items.eq(store.items),
            asked.inside.eq(
                ((self.o_write.payload.beats << 4) + store.offset <= window.bytes) & (store.items != 0) & ~store.offset[:4].any()
            ),
        ]
        return asked

    def _store_states(self, m, asked):
        """Logits are read one by one, packed eight to a beat, and sent; strobes cover what is there."""
        index, lane, sent = Signal(17), Signal(3), Signal()
        word, strobe = Signal(128), Signal(16)
        present = Signal()
        with m.State("STORE_CHECK"):
            m.d.sync += [index.eq(0), lane.eq(0), sent.eq(0)]
            m.next = "STORE_READ"
            with m.If(~asked.inside):
                m.d.sync += self.error.eq(DmaError.WINDOW_OVERRUN)
                m.next = "IDLE"
        with m.State("STORE_READ"):
            m.d.comb += self.logit_address.eq(index)
            m.next = "STORE_PACK"
        with m.State("STORE_PACK"):
            m.d.comb += present.eq(index < asked.items)
            m.d.sync += [
                word.eq(Cat(word[16:], self.logit)),
                strobe.eq(Cat(strobe[2:], present, present)),
                index.eq(index + 1),
                lane.eq(lane + 1),
            ]
            m.next = "STORE_READ"
            with m.If(lane == 7):
                m.next = "STORE_SEND"
        with m.State("STORE_SEND"):
            m.d.comb += [
                self.o_write.valid.eq(~sent),
                self.o_beats.payload.data.eq(word),
                self.o_beats.payload.strobe.eq(strobe),
                self.o_beats.valid.eq(sent),
            ]
            with m.If(self.o_write.ready & ~sent):
                m.d.sync += sent.eq(1)
            with m.If(self.o_beats.ready & sent):
                m.next = "STORE_READ"
                with m.If(index >= asked.items):
                    m.next = "STORE_WAIT"
            with m.If(self.clear):
                m.next = "IDLE"
        with m.State("STORE_WAIT"):
            with m.If(self.write_done):
                m.d.comb += self.i.ready.eq(1)
                m.next = "IDLE"
            with m.If(self.clear):
                m.next = "IDLE"
