"""The worked example: a two-stage register, so that the harness itself is tested. A unit's own test looks just like this."""

import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from sim_tests.cocotb.runner import BenchError, run_bench

BENCH = "sim_tests.cocotb.bench_example"


class TwoStage(wiring.Component):
    """Adds one in each of two registered stages, both moving whenever the last is free."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"i": In(stream.Signature(unsigned(width))), "o": Out(stream.Signature(unsigned(width)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        middle = stream.Signature(unsigned(self.width)).create()
        m.d.comb += [middle.ready.eq(self.o.ready | ~self.o.valid), self.i.ready.eq(middle.ready)]
        with m.If(middle.ready):
            m.d.sync += [middle.valid.eq(self.i.valid), middle.payload.eq(self.i.payload + 1)]
            m.d.sync += [self.o.valid.eq(middle.valid), self.o.payload.eq(middle.payload + 1)]
        return m


@pytest.mark.parametrize("width", [1, 8, 16])
def test_example(width: int) -> None:
    run_bench(TwoStage(width), module=BENCH, test="matches_model", parameters={"width": width}, name="two_stage")


def test_example_icarus(icarus: str) -> None:
    run_bench(TwoStage(8), module=BENCH, test="matches_model", parameters={"width": 8}, name="two_stage", simulator=icarus)


def test_failure_is_readable() -> None:
    with pytest.raises(BenchError, match=r"words: 4 of 4 differ, first at index 0: got 7, expected 0"):
        run_bench(TwoStage(8), module=BENCH, test="expects_nonsense", parameters={"width": 8}, name="two_stage")
