"""Our results beside published ones."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.families import Family
from benchmarks.peers import MARKS, Figure, Peer
from benchmarks.sections.markdown import NONE, Result, by_family, steady, table


def section(results: Sequence[Result]) -> str:
    tables = [_family(family, chosen) for family, chosen in by_family(results)]
    marks = "\n".join(f"* ({mark}) {text}." for mark, text in MARKS.items())
    return (
        "## Beside others\n\nAll on the ZCU102. Their clocks and LUTs are those of finished designs, ours are estimates.\n"
        "An operation is half a multiply-accumulate; ours include attention, embedding or stem, and head.\n\n"
        + "\n".join([*tables, marks])
        + "\n"
    )


def _family(family: Family, results: Sequence[Result]) -> str:
    columns = (
        "work", "model", "precision", "MHz", "FPS at that clock", *(f"FPS at {clock} MHz" for clock in family.clocks_mhz), "kLUT", "DSP",
        "MAC/cycle/kLUT", f"GOPS/DSP (popvit: {family.clocks_mhz[-1]} MHz)",
    )  # fmt: skip
    return table(columns, [*(_ours(family, result) for result in results), *(_peer(family, peer) for peer in family.peers)])


def _figure(figure: Figure | None, form: str = ",.1f") -> str:
    return NONE if figure is None else f"{figure.value:{form}} ({figure.mark})"


def _peer(family: Family, peer: Peer) -> list[str]:
    """Published clock and rate; nothing is scaled to another clock. What is computed from figures of which one is recalled is derived."""
    rates = [_figure(peer.fps) if peer.mhz.value == clock else NONE for clock in family.clocks_mhz]
    density = dsp = None
    if peer.gops and peer.kluts:
        density = Figure(peer.gops.value * 1e3 / 2 / peer.mhz.value / peer.kluts.value, "d")
    if peer.gops and peer.dsps:
        dsp = Figure(peer.gops.value / peer.dsps.value, "d")
    return [
        f"{peer.work} ({peer.source})", peer.model, peer.precision, _figure(peer.mhz, ".0f"), _figure(peer.fps), *rates,
        _figure(peer.kluts), _figure(peer.dsps, ",.0f"), _figure(density), _figure(dsp, ".2f"),
    ]  # fmt: skip


def _ours(family: Family, result: Result) -> list[str]:
    cycles, cost, clock = steady(result), result["resources"], family.clocks_mhz[-1]
    rates = [f"{mhz * 1e6 / cycles:,.1f}" for mhz in family.clocks_mhz]
    macs = result["macs_per_image"] / cycles
    doubled = "" if result.get("dsp_clock", 1) == 1 else f", DSPs at {result['dsp_clock']}x"
    precision = f"W{family.weight_bits}A{result['bits']}, {result['rows']} rows{doubled}"
    return [
        "popvit", family.network(result["model"]), precision, "assumed", NONE, *rates, f"{cost['lut'] / 1e3:,.1f}", f"{cost['dsp']:,}",
        f"{macs / (cost['lut'] / 1e3):,.1f}", f"{2e-3 * macs * clock / cost['dsp']:.2f}",
    ]  # fmt: skip
