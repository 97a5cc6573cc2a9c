"""A sweep, column by column: what is read from the ring, and what every cycle's step works on."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.depth_command import ADDRESS, LANE, LAYER_LAYOUT, SWEEP, WIDTH_BITS
from rtl.efficientvit.expansion_ring import BANKS, READ
from rtl.units.depthwise_parameters import QUARTERS
from rtl.units.depthwise_window import LINES, STEPS, WINDOW_CONTROL

#: Results of a step, if ``valid``. ``last`` : of their command.
RESULT = data.StructLayout({"valid": 1, "second": 1, "half": 1, "last": 1, "lanes": data.ArrayLayout(LANE, 2)})
#: A read of the parameter memory.
FETCH = data.StructLayout({"valid": 1, "quarter": 2, "address": ADDRESS})
#: All of a cycle's step.
STEP = data.StructLayout({"control": WINDOW_CONTROL, "weights": ADDRESS, "fetch": FETCH, "result": RESULT})


class DepthColumns(wiring.Component):
    """Column x of a sweep is read in cycle x (kernel 3) or 3 x (kernel 5) of it, by the address of its pixel; the step of the result whose
    centre is column x comes in the same cycle, and in the two cycles after.

    Parameters
    ----------
    rows : of the array

    Members
    -------
    i : stream of SWEEP        layer : In(LAYER_LAYOUT)
    read, half : to the ring        shift : Out(1): the column of this cycle, read or not, is the window's next
    step : Out(STEP)

    Timing
    ------
    A sweep takes width * (3 if kernel_5 else 1) cycles, and the next one follows without a bubble. Outputs are in step with the registers.
    """

    def __init__(self, rows: int):
        self.rows = rows
        super().__init__(
            {
                "i": In(stream.Signature(SWEEP)),
                "layer": In(LAYER_LAYOUT),
                "read": Out(data.ArrayLayout(READ, LINES)),
                "half": Out(1),
                "shift": Out(1),
                "step": Out(STEP),
            }
        )

    def elaborate(self, platform):
        m = Module()
        active, turn, taken = Signal(), Signal(), Signal()
        step, sweep = Signal(range(STEPS)), Signal(SWEEP, reset_less=True)
        m.d.comb += turn.eq((step == 0) & ~self.layer.kernel_5 | (step == STEPS - 1))
        m.d.sync += step.eq(Mux(turn, 0, step + 1))
        last, penultimate, first, second = self._places(m, turn, taken)
        m.d.comb += [self.i.ready.eq(turn & (~active | last)), taken.eq(self.i.valid & self.i.ready)]
        with m.If(turn):
            m.d.sync += active.eq(taken | (active & ~last))
        with m.If(taken):
            m.d.sync += sweep.eq(self.i.payload)
        odd = Signal(reset_less=True)
        with m.If(turn):
            m.d.sync += odd.eq(~taken & ~odd)
        centre, final = Signal(), Signal()
        m.d.comb += [
            centre.eq(active & ~(odd & self.layer.stride_2)),
            final.eq(last | (penultimate & self.layer.stride_2)),  # whichever is a centre
        ]
        m.d.comb += [self.shift.eq(step == 0), self.half.eq(sweep.half)]  # idle columns too: the last ones of a sweep need what follows
        self._read(m, active & (step == 0), turn, taken, sweep)
        self._step(m, centre, step, sweep, Cat(first | second, first, last, last | penultimate))
        self._fetch(m, taken)
        self._result(m, centre & turn, final, taken, sweep)
        return m

    def _places(self, m, turn, taken):
        """Whether the column is the last, the one before, the first, the second."""
        left = Signal(WIDTH_BITS, reset_less=True)
        last, penultimate, first, second = (
            Signal(name=name, reset_less=True) for name in ("last_column", "penultimate", "first_column", "second_column")
        )
        with m.If(turn):
            m.d.sync += [
                left.eq(Mux(taken, self.layer.width, left - 1)),
                penultimate.eq(~taken & (left == 3)),
                last.eq(~taken & penultimate),
                first.eq(taken),
                second.eq(~taken & first),
            ]
        return last, penultimate, first, second

    def _read(self, m, now, turn, taken, sweep):
        """From pixel to pixel a bank further; from the last bank to the next pixel's words in the first."""
        for line in range(LINES):
            place, start = sweep.lines[line], self.i.payload.lines[line]
            hop = Signal.like(self.layer.words, name=f"hop_{line}", reset_less=True)
            m.d.comb += [self.read[line].valid.eq(now & ~sweep.outside[line]), self.read[line].place.eq(place)]
            with m.If(turn):
                m.d.sync += hop.eq(Mux(Mux(taken, start.bank == BANKS - 1, place.bank == BANKS - 2), self.layer.words, 0))
                with m.If(~taken):
                    m.d.sync += [place.bank.eq(place.bank + 1), place.address.eq(place.address + hop)]

    def _step(self, m, centre, step, sweep, outside):
        m.d.comb += [
            self.step.control.valid.eq(centre),
            self.step.control.step.eq(step),
            self.step.control.outside.eq(outside),
            self.step.control.lines.eq(sweep.outside),
            self.step.weights.eq((sweep.weights + step)[:ADDRESS]),
        ]

    def _fetch(self, m, taken):
        """The sweep's parameters in its first four cycles."""
        fetch = Signal(FETCH)
        m.d.comb += self.step.fetch.eq(fetch)
        with m.If(taken):
            m.d.sync += [fetch.valid.eq(1), fetch.quarter.eq(0), fetch.address.eq(self.i.payload.parameters)]
        with m.Else():
            m.d.sync += [fetch.quarter.eq(fetch.quarter + 1), fetch.address.eq(fetch.address + 1)]
            with m.If(fetch.quarter == QUARTERS - 1):
                m.d.sync += fetch.valid.eq(0)

    def _result(self, m, valid, final, taken, sweep):
        """From pixel to pixel a row further; from the last row to the next pass's word in the first."""
        result = self.step.result
        m.d.comb += [
            result.valid.eq(valid),
            result.second.eq(sweep.second),
            result.half.eq(sweep.half),
            result.last.eq(final & sweep.last),
            result.lanes.eq(sweep.lanes),
        ]
        for lane in range(2):
            place, start = sweep.lanes[lane], self.i.payload.lanes[lane]
            wraps, rewinds = (Signal(name=f"{name}_{lane}", reset_less=True) for name in ("wraps", "rewinds"))
            last_next = Mux(taken, start.row == self.rows - 1, place.row == (self.rows - 2) % self.rows)
            target = Mux(taken, start.target, place.target)
            with m.If(valid | taken):
                m.d.sync += [wraps.eq(last_next), rewinds.eq(target >= self.layer.region_end)]
            with m.If(valid & ~taken):
                onward = Mux(rewinds, self.layer.rewind, self.layer.pitch)
                m.d.sync += [place.row.eq(Mux(wraps, 0, place.row + 1)), place.target.eq(place.target + Mux(wraps, onward, 0))]
