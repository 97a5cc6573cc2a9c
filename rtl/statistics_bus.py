"""What drives the LayerNorm statistics of all rows, one hop a cycle: part of the row bus."""

from amaranth.lib import data

from rtl.tech.dsp_running import Operation

#: What the adder does in this cycle; see `RootDivide`.
RootStep = data.StructLayout(
    {
        "start": 1,  # forget the old root and limit
        "clear": 1,  # forget the remainder
        "shift": 1,  # the sign of the remainder is a digit of the root
        "add": 1,  # the operand takes part
        "divide": 1,  # the operand is the root's divisor, else the trial of the next digit
        "bit": 1,  # of the dividend
        "head": 1,  # this digit of the quotient lies above its range
    }
)


def statistics_control(token_bits: int) -> data.StructLayout:
    """What a row's statistics do in this cycle.

    valid, first : of the value        square_valid, square_first : the same, `RunningSquares.CONTROL` cycles later
    sum1, sum2 : the sums are complete: keep them        mean, scaled : the product is -mean2; is embed_dim / 4 * -mean2
    zero_a, use_d, operation : of `StatisticsProduct`        root : of `RootDivide`        done, token : write the results there
    """
    flags = ("valid", "first", "square_valid", "square_first", "sum1", "sum2", "mean", "scaled", "zero_a", "use_d", "done")
    return data.StructLayout({**dict.fromkeys(flags, 1), "operation": Operation, "root": RootStep, "token": token_bits})
