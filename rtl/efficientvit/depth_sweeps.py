"""Line pairs into sweeps: one for every 16 channels."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.depth_command import COMMAND, LAYER_LAYOUT, LINES_LAYOUT, SWEEP
from rtl.units.depthwise_parameters import QUARTERS
from rtl.units.depthwise_window import LINES, STEPS

#: A line pair takes 4 cycles or more, and is gone some 60 after it was taken: 15 on their way, and one that waits.
_PENDING_BITS = 6


class DepthSweeps(wiring.Component):
    """Holds the layer's registers, and offers the sweeps of a line pair: word by word, its lower 16 channels first.

    Members
    -------
    i : stream of COMMAND        layer : Out(LAYER_LAYOUT), changes only when nothing is at work
    o : stream of SWEEP; registers
    results_done : In(1): strobe, all results of a line pair have left        layer_done : Out(1): strobe, a layer was taken

    Timing
    ------
    A sweep per 2 cycles at most, those of a line pair that is there already without a gap. A line pair in cycle t is offered in t + 1. A
    layer waits until all line pairs before it are done.
    """

    def __init__(self):
        super().__init__(
            {
                "i": In(stream.Signature(COMMAND)),
                "o": Out(stream.Signature(SWEEP)),
                "layer": Out(LAYER_LAYOUT),
                "results_done": In(1),
                "layer_done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        sweep = self.o.payload
        idle, pending = Signal(init=1), Signal(_PENDING_BITS)
        free, begin, taken = Signal(), Signal(), Signal()
        left = Signal(7)  # words from this one on
        begin_layer = self.i.valid & self.i.payload.layer & idle
        m.d.comb += [
            taken.eq(self.o.valid & self.o.ready),
            free.eq(~self.o.valid | (taken & sweep.last)),
            begin.eq(self.i.valid & ~self.i.payload.layer & free),
            self.i.ready.eq(Mux(self.i.payload.layer, idle, free)),
        ]
        m.d.sync += [
            self.layer_done.eq(begin_layer),
            pending.eq(pending + begin - self.results_done),
            idle.eq((pending == 0) & ~begin),
            self.o.valid.eq(begin | ~free),
        ]
        with m.If(begin_layer):
            m.d.sync += self.layer.eq(self.i.payload.payload[: LAYER_LAYOUT.size])
        with m.If(begin):
            self._begin(m, data.View(LINES_LAYOUT, self.i.payload.payload[: LINES_LAYOUT.size]), left)
        with m.Elif(taken):
            self._advance(m, left)
        return m

    def _begin(self, m, pair, left):
        sweep, layer = self.o.payload, self.layer
        for line in range(LINES):
            m.d.sync += [sweep.lines[line].bank.eq(pair[f"bank_{line}"]), sweep.lines[line].address.eq(pair[f"address_{line}"])]
        for lane in range(2):
            m.d.sync += [sweep.lanes[lane].row.eq(pair[f"row_{lane}"]), sweep.lanes[lane].target.eq(pair[f"target_{lane}"])]
        m.d.sync += [
            sweep.outside.eq(pair.outside),
            sweep.second.eq(pair.second),
            sweep.half.eq(0),
            sweep.weights.eq(layer.weights),
            sweep.parameters.eq(layer.parameters),
            sweep.last.eq(layer.half),
            left.eq(layer.words),
        ]

    def _advance(self, m, left):
        sweep = self.o.payload
        for line in range(LINES):
            m.d.sync += sweep.lines[line].address.eq(sweep.lines[line].address + sweep.half)
        for lane in range(2):
            m.d.sync += sweep.lanes[lane].target.eq(sweep.lanes[lane].target + sweep.half)
        m.d.sync += [
            sweep.half.eq(~sweep.half),
            left.eq(left - sweep.half),
            sweep.last.eq(~sweep.half & (left == 1)),
            sweep.weights.eq(sweep.weights + Mux(self.layer.kernel_5, STEPS, 1)),
            sweep.parameters.eq(sweep.parameters + QUARTERS),
        ]
