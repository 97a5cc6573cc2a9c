"""The depthwise engine: line pairs out of the expansion ring, through `DepthwiseConv`, to the memories of the rows."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit import depth_command
from rtl.efficientvit.depth_columns import STEP, DepthColumns
from rtl.efficientvit.depth_command import COMMAND, ROW_BITS, TARGET
from rtl.efficientvit.depth_memories import LOAD, ParameterMemory, WeightMemory
from rtl.efficientvit.depth_sweeps import DepthSweeps
from rtl.efficientvit.expansion_ring import HALF, READ, ExpansionRing
from rtl.tech.dsp48e2 import generic
from rtl.units.depthwise_channel import DepthwiseChannel, DepthwiseChannelConfig
from rtl.units.depthwise_conv import DepthwiseConvConfig
from rtl.units.depthwise_window import LINES, STEPS
from rtl.units.protocol import delay, require

assert depth_command.LINES == LINES

#: From a command to its first read, of kernel 5 at least; from the ``done`` of a line pair to the next layer: cycles.
FIRST_READ, LAYER_WAIT = 2, 2
#: Steps of kernel 5 come one column later still than those of kernel 3: the newest column is centre + 2.
_LATER = 2 * STEPS - 1


@dataclass(frozen=True, kw_only=True)
class DepthEngineConfig:
    """
    Parameters
    ----------
    rows : of the array, at most 64
    bits : activation precision, 4..8
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    build_channel : see `DepthwiseConvConfig`
    """

    rows: int
    bits: int = 8
    technology: object = generic
    build_channel: Callable[[DepthwiseChannelConfig], wiring.Component] = DepthwiseChannel

    def __post_init__(self) -> None:
        require(1 <= self.rows <= 1 << ROW_BITS, "rows must be 1..64", self.rows, "use 49")
        assert self.convolution.bits == self.bits  # checked there

    @property
    def convolution(self) -> DepthwiseConvConfig:
        return DepthwiseConvConfig(bits=self.bits, technology=self.technology, build_channel=self.build_channel)

    def latency(self, kernel: int) -> int:
        """Cycles from a step to its result: until the newest column is there, then those of `DepthwiseConv`."""
        return ExpansionRing.latency + (_LATER if kernel == 5 else 0) + self.convolution.latency

    def build(self) -> "DepthEngine":
        return DepthEngine(self)


def lane_layout(bits: int) -> data.StructLayout:
    """16 results of a lane: to ``row``, word ``address``, its lower or upper (``half``) 16 channels."""
    codes = data.ArrayLayout(bits, HALF)
    return data.StructLayout({"valid": 1, "row": ROW_BITS, "address": TARGET, "half": 1, "data": codes})


class DepthEngine(wiring.Component):
    """Executes layers and line pairs, in order.

    Parameters
    ----------
    config : DepthEngineConfig

    Members
    -------
    i : In(stream of COMMAND)        done : Out(1): strobe per command, in order: a layer's registers are set, a pair's results have left
    load_weights, load_parameters : In(LOAD), see `rtl.efficientvit.program.pack_depthwise`. Not into words that are being read
    read, half : to the ring        data : In(7 x 16 codes), from the ring, `ExpansionRing.latency` cycles later
    lane_0, lane_1 : Out(lane_layout(bits)): output lines y and y + 1

    Timing
    ------
    A sweep takes `sweep_cycles` = width * (3 if kernel 5 else 1) cycles, a line pair 2 * words as many, or as many if it has 16 channels;
    line pairs follow each other without a bubble if the next one is there 2 cycles before. No sweep waits for weights (any word of them
    per cycle) or parameters (4 words, and 4 pixels are the narrowest line). First read: 2 cycles after the command, of kernel 5 2 to 4.
    A result leaves ``config.latency(kernel)`` cycles, 47 or 52, after the (last) step of its centre column; ``done`` a cycle after the last
    one. A layer is taken 2 cycles after the ``done`` of the line pair before it, for its registers serve all that is on its way.

    Resources, bits = 8, yosys, before place-and-route: 22,026 LUT (16 channels of 972, the rest 6,474), 176 DSP48E2, 22.5 BRAM36; at most
    2 LUT levels and a carry.

    Source: model/efficientvit/interpreter.py, convolve.
    """

    def __init__(self, config: DepthEngineConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(COMMAND)),
                "done": Out(1),
                "load_weights": In(LOAD),
                "load_parameters": In(LOAD),
                "read": Out(data.ArrayLayout(READ, LINES)),
                "half": Out(1),
                "data": In(data.ArrayLayout(data.ArrayLayout(config.bits, HALF), LINES)),
                "lane_0": Out(lane_layout(config.bits)),
                "lane_1": Out(lane_layout(config.bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.sweeps, m.submodules.columns, m.submodules.conv = sweeps, columns, conv = (
            DepthSweeps(),
            DepthColumns(self.config.rows),
            self.config.convolution.build(),
        )
        m.submodules.weights, m.submodules.parameters = weights, parameters = WeightMemory(), ParameterMemory()
        wiring.connect(m, wiring.flipped(self.i), sweeps.i)
        wiring.connect(m, sweeps.o, columns.i)
        layer, offsets = sweeps.layer, conv.OFFSETS
        step = self._wait(m, columns.step, layer.kernel_5)
        m.d.comb += [
            columns.layer.eq(layer),
            self.read.eq(columns.read),
            self.half.eq(columns.half),
            conv.shift.eq(delay(m, columns.shift, ExpansionRing.latency, name="shift")),
            conv.lines.eq(self.data),
            conv.control.eq(step.control),
            *(getattr(conv, name).eq(getattr(layer, name)) for name in ("kernel_5", "stride_2", "hardswish", "fraction", "low")),
            *(getattr(conv, name).eq(getattr(layer, name)[: self.config.bits]) for name in ("pad", "zero")),
            weights.load.eq(self.load_weights),
            parameters.load.eq(self.load_parameters),
            weights.address.eq(delay(m, step.weights, offsets["weights"] - weights.latency, name="weights")),
            conv.weights.eq(weights.weights),
            parameters.fetch.eq(self._later(m, step.fetch, offsets["parameters"] - parameters.latency, "fetch")),
            conv.parameters.eq(parameters.o),
        ]
        self._results(m, self._later(m, step.result, conv.latency, "result"), conv, sweeps)
        return m

    def _later(self, m, word, cycles, name):
        """A word with a ``valid`` bit, which alone is reset."""
        late = Signal(word.shape(), name=f"late_{name}")
        m.d.comb += [
            late.eq(delay(m, word.as_value(), cycles, name=f"later_{name}")),
            late.valid.eq(delay(m, word.valid, cycles, name=f"later_{name}_valid", reset=True)),
        ]
        return late

    def _wait(self, m, step, kernel_5):
        """A step, when the newest column that it needs is there: it is a column after the centre, or two of three cycles each."""
        early = delay(m, step.as_value(), ExpansionRing.latency, name="step")
        waiting, word = Signal(STEP), delay(m, early, _LATER, name="step_5")
        m.d.comb += waiting.eq(Mux(kernel_5, word, early))
        return waiting

    def _results(self, m, result, conv, sweeps):
        for index, lane in enumerate((self.lane_0, self.lane_1)):
            m.d.comb += [
                lane.valid.eq(result.valid & (result.second if index else 1)),
                lane.row.eq(result.lanes[index].row),
                lane.address.eq(result.lanes[index].target),
                lane.half.eq(result.half),
                lane.data.eq(conv.o.codes[index]),
            ]
        gone = Signal()
        m.d.sync += gone.eq(result.valid & result.last)
        m.d.comb += [sweeps.results_done.eq(gone), self.done.eq(gone | sweeps.layer_done)]
