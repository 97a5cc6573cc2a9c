"""Turns TILE instructions into one fill command and one compute command per cycle, for row 0.

Two stages run in lockstep: while step s computes, step s+1 fills the other table bank.
The stages change over (`advance`) when both are done.
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_counters import ComputeCounter, FillCounter
from rtl.array_steps import Post, Step, StepSource, TilePayload
from rtl.config import AcceleratorConfig
from rtl.program import isa
from rtl.row_bus import ComputeCommand, FillCommand, RowTiming
from rtl.units.protocol import delay

__all__ = ["ArraySequencer", "Post", "TilePayload"]


#: From the sequencer's counters to the feeder, and to its post: registers.
COMMAND_LATENCY = 2


def drain_cycles(timing: RowTiming, rows: int, settle: int) -> int:
    """From a tile's last word to its last result in the last row, and ``settle`` cycles later in the key/value memory."""
    return timing.compute_delay + timing.write + rows + settle + COMMAND_LATENCY


class ArraySequencer(wiring.Component):
    """Issues the steps of every TILE, without a bubble where hazards allow.

    Parameters
    ----------
    config : AcceleratorConfig
    timing : RowTiming, for the hazard countdowns
    drain : cycles after a tile's last word until its last result is in place everywhere; the post comes then

    Members
    -------
    i : stream of {tile, post}. Laws: words >= 3, activations >= 2
    fill, compute : commands of this cycle
    post : one-cycle strobe with a counter, `drain` + 1 cycles after the tile's last word
    busy : a word is issued      filling : the compute stage waits for a fill      stalled_hazard : a step waits for results in flight
    active : a step is in a stage or waits to be      tile : number, from 0, of the TILE that computes, fills or comes next

    Timing
    ------
    A step lasts max(words, 16 * ceil(activations / 16), finish + 2 if it gathers statistics) cycles, and steps follow without a gap
    unless the next one reads results that are still in flight: a pass of either image is filled again `timing.hazard` (+ `finish`) + 2
    cycles after the last word of the step before on that pass. Because that holds across the images, one pass is never filled and written
    at the same time, and a row's residuals of both images may share one memory per pass.
    Commands leave registers, one cycle after the counters. At most two LUT levels and one carry chain from register to register.
    """

    def __init__(self, config: AcceleratorConfig, timing: RowTiming, drain: int):
        self.config, self.timing, self.drain = config, timing, drain
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"tile": TilePayload, "post": Post}))),
                "fill": Out(FillCommand),
                "compute": Out(ComputeCommand),
                "post": Out(Post),
                **{name: Out(1) for name in ("busy", "filling", "stalled_hazard", "active")},
                "tile": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.steps = steps = StepSource(self.config)
        m.submodules.fill = fill = FillCounter()
        m.submodules.compute = compute = ComputeCounter(self.config)
        wiring.connect(m, wiring.flipped(self.i), steps.i)
        fill_step, compute_step = Signal(Step), Signal(Step)
        fill_valid, compute_valid = Signal(), Signal()
        advance, load, start = Signal(init=1), Signal(), Signal()
        # `advance` is a register: what it says is settled one cycle early. Neither stage can be done in the cycle after it began.
        begins = Mux(fill_valid, advance, steps.o.valid)
        m.d.sync += advance.eq(fill.ends & compute.ends & self._long_enough(m, fill_step, start) & ~begins)
        m.d.comb += [
            start.eq(advance & fill_valid),
            load.eq(steps.o.valid & (~fill_valid | advance)),
            steps.o.ready.eq(load),
            steps.free.eq(self._free_passes(m, steps.o.payload, load, compute_step, compute.ending)),
            fill.start.eq(load),
            fill.i.eq(steps.o.payload),
            compute.start.eq(start),
            compute.i.eq(fill_step),
            compute.step.eq(compute_step),
        ]
        with m.If(advance):
            m.d.sync += [compute_step.eq(fill_step), compute_valid.eq(fill_valid), fill_valid.eq(0)]
        with m.If(load):
            m.d.sync += [fill_step.eq(steps.o.payload), fill_valid.eq(1)]
        m.d.sync += [self.fill.eq(fill.command), self.compute.eq(compute.command)]
        waiting = steps.busy & ~fill_valid
        m.d.comb += [
            self.busy.eq(~compute.finished),
            self.filling.eq(compute.finished & fill_valid),
            self.stalled_hazard.eq(waiting & compute.finished),
            self.active.eq(fill_valid | compute_valid | steps.busy),
            self.tile.eq(Mux(self.busy, compute_step.number, Mux(fill_valid, fill_step.number, steps.number))),
        ]
        self._posts(m, compute_step, compute.ending)
        return m

    def _long_enough(self, m, step, start):
        """A step that gathers statistics lasts at least until the statistics unit is free again. 1: the step may end in the next cycle."""
        minimum = self.timing.finish + 2
        left = Signal(range(-1, minimum), init=-1)
        with m.If(start & step.tile.statistics):
            m.d.sync += left.eq(minimum - 3)
        with m.Elif(~left[-1]):
            m.d.sync += left.eq(left - 1)
        return left[-1]

    def _free_passes(self, m, loading, load, step, ending):
        """One bit per pass: no step on it is filled, computed or in flight. A pass is taken by `load`; its countdown starts with the
        last word, one cycle late. Registers. Logits are in no row's memory: their steps take no pass."""
        longest = self.timing.hazard + self.timing.finish + 1
        ended, ended_pass, statistics = Signal(), Signal.like(step.pass_index), Signal()
        loaded, loaded_pass = Signal(), Signal.like(step.pass_index)
        m.d.sync += [
            loaded.eq(load & (loading.tile.destination != isa.Destination.LOGITS)),
            loaded_pass.eq(loading.pass_index),
            ended.eq(ending & (step.tile.destination != isa.Destination.LOGITS)),
            ended_pass.eq(step.pass_index),
            statistics.eq(step.tile.statistics),
        ]
        free = []
        for index in range(self.config.passes):
            countdown = Signal(range(-1, longest), name=f"hazard_{index}")  # below zero: over
            counting, taken = Signal(name=f"hazard_counting_{index}"), Signal(name=f"taken_{index}")
            with m.If(ended & (ended_pass == index)):
                m.d.sync += [countdown.eq(Mux(statistics, longest - 2, self.timing.hazard - 1)), counting.eq(1)]
            with m.Elif(counting):
                m.d.sync += countdown.eq(countdown - 1)
                with m.If(countdown[-1]):
                    m.d.sync += [counting.eq(0), taken.eq(0)]
            with m.If(loaded & (loaded_pass == index)):
                m.d.sync += taken.eq(1)
            free.append(~taken)
        return Cat(free)

    def _posts(self, m, step, ending):
        stage = Signal(Post)
        m.d.sync += [stage.enable.eq(ending & step.last & step.post.enable), stage.counter.eq(step.post.counter)]
        m.d.comb += self.post.eq(delay(m, stage.as_value(), self.drain, name="post"))
