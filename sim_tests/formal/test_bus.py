"""What the bus promises in every state it can reach, not only in those that a bench visits."""

import types

import pytest
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring

from rtl.bus import axi_reader, axi_writer, burst, registers
from sim_tests.formal.prove import assert_stable, mutant, verdict


def assert_burst_is_legal(m: Module, port) -> None:
    """Within 256 aligned bytes, at most 16 beats."""
    with m.If(port.valid):
        m.d.comb += Assert((port.p.addr[:4] == 0) & (port.p.addr[4:8] + port.p.len <= 15))


def reader(module: types.ModuleType) -> wiring.Component:
    """With a memory that answers as it likes, but only what it was asked for."""
    depth = 32

    class Checked(module.AxiReader):
        def elaborate(self, platform) -> Module:
            m = super().elaborate(platform)
            ar, r, seen = self.axi.ar, self.axi.r, self.observed
            dropped = Signal()  # the first cycle of draining drops what is held
            m.d.sync += dropped.eq(seen["draining"])
            owed = Signal(range(depth * 2))  # beats the memory was asked for and has not delivered
            m.d.sync += owed.eq(owed + Mux(ar.valid & ar.ready, ar.p.len + 1, 0) - (r.valid & r.ready))
            places = seen["free"] + seen["outstanding"] + seen["arrived"] + seen["beats"].level
            m.d.comb += [
                Assume(~r.valid | (owed != 0)),
                Assert(r.ready),
                Assert(seen["halted"] == (self.error | seen["draining"])),
                Assert(~(self.error & seen["draining"])),
                Assert(~seen["fresh"] | (seen["draining"] & (seen["outstanding"] == 0) & ~seen["arrived"])),
                # Never more beats outstanding than space, and none is lost.
                Assert(seen["outstanding"] == owed + Mux(ar.valid, ar.p.len + 1, 0)),
                Assert(seen["outstanding"] <= depth),
                Assert(seen["draining"] | (places <= depth)),
                Assert(self.error | seen["draining"] | (places == depth)),
                Assert((seen["free"] >= 0) & (seen["free"] <= depth)),
                Assert(~(seen["draining"] & dropped) | (seen["beats"].level == 0)),
                Assert(~seen["beats"].write | (seen["beats"].level < depth)),
                Assert(~seen["part"].valid | ((seen["part"].p.beats != 0) & (seen["part"].p.beats <= 16))),
            ]
            # After an error no burst is issued that was not offered already.
            failed = Signal()
            waiting = Signal()
            m.d.sync += [failed.eq(self.error & ~self.clear), waiting.eq(ar.valid & ~ar.ready)]
            with m.If(failed & ~waiting):
                m.d.comb += Assert(~ar.valid)
            assert_burst_is_legal(m, ar)
            assert_stable(m, "ar", ar)
            assert_stable(m, "o", self.o, allow=self.clear)
            return m

    return Checked(module.AxiReaderConfig(depth=depth, bursts=2))


def writer(module: types.ModuleType) -> wiring.Component:
    """With a memory that answers as it likes, but only bursts that it has."""
    bursts = 2

    class Checked(module.AxiWriter):
        def elaborate(self, platform) -> Module:
            m = super().elaborate(platform)
            aw, w, b, seen = self.axi.aw, self.axi.w, self.axi.b, self.observed
            owed = Signal(signed(5))  # bursts whose address and data the memory has, without an answer
            missing = Signal(signed(5))  # bursts whose last beat it has not
            finish = w.valid & w.ready & w.p.last
            addressed = aw.valid & aw.ready
            m.d.sync += [owed.eq(owed + addressed - b.valid), missing.eq(missing + addressed - finish)]
            m.d.comb += [
                Assume(~b.valid | ((owed >= 1) & (owed - missing >= 1))),
                Assert(owed >= 0),
                Assert(b.ready),
                *(Assert(law) for law in seen["laws"]),
                Assert(seen["outstanding"] == owed + aw.valid),
                Assert(seen["outstanding"] <= bursts),
                Assert(seen["open"] <= seen["outstanding"]),
                Assert(~seen["part"].valid | ((seen["part"].p.beats != 0) & (seen["part"].p.beats <= 16))),
                Assert(~seen["overrun"]),
            ]
            # Every burst's data is sent or owed: none without an address.
            m.d.comb += Assert(missing + aw.valid == seen["open"] + (w.valid & w.p.last))
            # After an error nothing more is written: what comes new has no strobes.
            failed = Signal()
            held = Signal()
            m.d.sync += [failed.eq(self.error & ~self.clear), held.eq(w.valid & ~w.ready)]
            with m.If(failed & ~held & w.valid):
                m.d.comb += Assert(w.p.strb == 0)
            assert_burst_is_legal(m, aw)
            assert_stable(m, "aw", aw)
            assert_stable(m, "w", w)
            return m

    return Checked(module.AxiWriterConfig(bursts=bursts))


def control(module: types.ModuleType) -> wiring.Component:
    class Checked(module.ControlRegisters):
        def elaborate(self, platform) -> Module:
            m = super().elaborate(platform)
            # An answer at a time: on its way through the stages, or offered.
            places = Cat(self.observed["stage"], self.bus.r.valid)
            m.d.comb += Assert((self.observed["busy"] == places.any()) & (sum(places) <= 1))
            assert_stable(m, "b", self.bus.b)
            assert_stable(m, "r", self.bus.r)
            with m.If(self.commands.start):
                m.d.comb += Assert(~self.commands.clear)
            return m

    return Checked(module.ControlRegistersConfig(rows=6, inputs=64, bits=8, lanes=6, passes=9))


PROOFS = {
    "reader": (reader, axi_reader),
    "writer": (writer, axi_writer),
    "control": (control, registers),
}

MUTANTS = {
    "reader asks for 16 beats when 8 are free": (reader, axi_reader, "(free >= BURST_BEATS)", "(free >= 8)"),
    "reader never counts what it asked for": (reader, axi_reader, "free.eq(free + freed)", "free.eq(free)"),
    "reader issues bursts after an error": (reader, axi_reader, "[self.error.eq(1), halted.eq(1)]", "[self.error.eq(1)]"),
    "reader takes up work before all has arrived": (reader, axi_reader, " & settled[-1]", ""),
    "reader takes an offered beat back": (
        reader,
        axi_reader,
        "m.d.comb += [beats.clear.eq(self.clear | draining)",
        "m.d.comb += [beats.clear.eq(self.clear | halted)",
    ),
    "reader replaces a waiting address": (reader, axi_reader, "allowed & (~ar.valid | ar.ready)", "allowed"),
    "writer issues one burst too many": (writer, axi_writer, "(outstanding != self.config.bursts) & ", ""),
    "writer replaces a waiting beat": (writer, axi_writer, "working & (~w.valid | w.ready)", "working"),
    "writer writes after an error": (writer, axi_writer, "Mux(halted, 0, self.i.p.strobe)", "self.i.p.strobe"),
    "writer sends data without an address": (writer, axi_writer, "waiting | ~renew", "1"),
    "control overwrites a waiting answer": (control, registers, "ar.ready.eq(~busy)", "ar.ready.eq(1)"),
    "control answers a write before the last": (control, registers, "held_data & (~b.valid | b.ready)", "held_data"),
    "control starts and clears at once": (control, registers, "ones[0] & ~ones[1] &", "ones[0] &"),
}


@pytest.mark.parametrize("name", PROOFS)
def test_proved(name: str) -> None:
    build, module = PROOFS[name]
    assert verdict(build(module)) == "proved"


#: Mutants that take a deep run to fail: a minute each.
DEEP = {"reader asks for 16 beats when 8 are free"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in MUTANTS])
def test_mutant_is_refuted(name: str) -> None:
    build, module, old, new = MUTANTS[name]
    assert verdict(build(mutant(module.__name__, old, new)), steps=20, induction=False) == "refuted"


@pytest.mark.parametrize(
    "old, new", [("room.eq(BURST_BEATS - low)", "room.eq(BURST_BEATS)"), ("final).eq(left - room)", "final).eq(left - BURST_BEATS)")]
)
def test_mutant_splitter_is_refuted(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axi_reader, "BurstSplitter", mutant(burst.__name__, old, new).BurstSplitter)
    assert verdict(reader(axi_reader), steps=20, induction=False) == "refuted"
