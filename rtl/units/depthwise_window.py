"""The pixels of a depthwise convolution: seven lines slide through a window, nine pairs of taps of it are taken per cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

#: Input lines of a line pair: kernel 5 + stride 2.
LINES = 7
COLUMNS = 5
TAPS = 9
#: Cycles per column of kernel 5: 25 taps in steps of 9.
STEPS = 3

#: What the step of a cycle works on: ``step`` 0..2 of kernel 5; ``outside``: columns -2, -1, 1, 2 of the window lie beside the image (of
#: kernel 3 the inner two); ``lines``: input lines that lie above or below it.
WINDOW_CONTROL = data.StructLayout({"valid": 1, "step": 2, "outside": 4, "lines": LINES})


def tap_place(kernel: int, step: int, tap: int) -> tuple[int, int] | None:
    """(column, line) within the 5 x 5 window of an output line that slot ``tap`` of ``step`` multiplies, or None: its weight is 0.

    Kernel 5: taps go down the columns, 9 per step. Kernel 3 has one step, and lies in columns 1..3.
    """
    index = TAPS * step + tap
    if index >= kernel * kernel:
        return None
    column, line = divmod(index, kernel)
    return column + (kernel == 3), line


class DepthwiseWindow(wiring.Component):
    """Nine pixel pairs (output line 0, output line 1) per channel and cycle, out of a window of 5 columns.

    Parameters
    ----------
    bits : of a code        channels : of a column

    Members
    -------
    kernel_5, stride_2 : In(1), pad : In(bits), the code of a tap outside: all static while results are on their way
    shift : In(1), cycle 1: ``lines`` enters the window as its newest column
    lines : In(7 x channels codes), cycle 1: line 0 is the first that output line 0 needs; output line 1 begins at line ``stride``
    control : In(WINDOW_CONTROL), cycle 0: of the output whose newest column (centre + kernel // 2) enters in cycle 1, or is the newest
    x0, x1 : Out(channels x 9 signed bits), cycle 3: code - 2 ** (bits - 1)

    Timing
    ------
    A step per cycle. Nothing is reset.
    """

    latency = 3

    def __init__(self, bits: int, channels: int):
        self.bits, self.channels = bits, channels
        operands = Out(data.ArrayLayout(data.ArrayLayout(signed(bits), TAPS), channels))
        super().__init__(
            {
                "kernel_5": In(1),
                "stride_2": In(1),
                "pad": In(bits),
                "shift": In(1),
                "lines": In(data.ArrayLayout(data.ArrayLayout(bits, channels), LINES)),
                "control": In(WINDOW_CONTROL),
                "x0": operands,
                "x1": operands,
            }
        )

    def elaborate(self, platform):
        m = Module()
        column = [Signal(self.bits * self.channels, name=f"column_{line}") for line in range(LINES)]
        m.d.comb += [column[line].eq(self.lines[line].as_value()) for line in range(LINES)]
        outside, step = Signal(4, reset_less=True), Signal(2, reset_less=True)
        m.d.sync += [outside.eq(self.control.outside), step.eq(Mux(self.kernel_5, self.control.step, STEPS))]
        choice = Signal(2, reset_less=True)
        m.d.sync += choice.eq(step)
        for output, operands in enumerate((self.x0, self.x1)):
            lines = [line if output == 0 else Mux(self.stride_2, column[line + 2], column[line + 1]) for line in range(COLUMNS)]
            lines = [column[line] for line in range(COLUMNS)] if output == 0 else lines
            window = self._window(m, lines, output)
            masks = self._masks(m, output)
            for tap in range(TAPS):
                hidden = self._hidden(m, tap, step, outside, masks, output)
                self._take(m, operands, tap, window, choice, hidden)
        return m

    def _window(self, m, lines, output):
        """window[column][line], column 0 the oldest."""
        window = [
            [Signal(len(line), name=f"window_{output}_{column}_{index}", reset_less=True) for index, line in enumerate(lines)]
            for column in range(COLUMNS)
        ]
        with m.If(self.shift):
            for older, newer in zip(window, [*window[1:], lines], strict=True):
                m.d.sync += [old.eq(new) for old, new in zip(older, newer, strict=True)]
        return window

    def _masks(self, m, output):
        """Which of the output line's five input lines lie outside, in cycle 1."""
        masks, lines = Signal(COLUMNS, name=f"masks_{output}", reset_less=True), self.control.lines
        m.d.sync += masks.eq(lines[:5] if output == 0 else Mux(self.stride_2, lines[2:7], lines[1:6]))
        return masks

    def _places(self, tap):
        """Per choice (steps of kernel 5, then kernel 3): what the slot takes. A slot without work takes anything."""
        places = [*(tap_place(5, step, tap) for step in range(STEPS)), tap_place(3, 0, tap)]
        return [place or (4, 4) for place in places]

    def _hidden(self, m, tap, step, outside, masks, output):
        """Whether the slot's pixel lies outside, in cycle 2."""
        beside = Cat(outside[:2], Const(0, 1), outside[2:])
        hidden = Signal(name=f"hidden_{output}_{tap}", reset_less=True)
        columns, lines = zip(*self._places(tap), strict=True)
        m.d.sync += hidden.eq(Array(beside[column] for column in columns)[step] | Array(masks[line] for line in lines)[step])
        return hidden

    def _take(self, m, operands, tap, window, choice, hidden):
        """Kernel 3 counts its columns from the newest: its column 3 is the window's 4."""
        places = [(column + (index == STEPS), line) for index, (column, line) in enumerate(self._places(tap))]
        for channel in range(self.channels):
            at = slice(self.bits * channel, self.bits * (channel + 1))
            code = Mux(hidden, self.pad, Array(window[column][line][at] for column, line in places)[choice])
            taken = Signal(self.bits, name=f"x_{tap}_{channel}", reset_less=True)
            m.d.sync += taken.eq(code)
            # less half the range: the top bit inverted
            m.d.comb += operands[channel][tap].eq(Cat(taken[:-1], ~taken[-1]).as_signed())
