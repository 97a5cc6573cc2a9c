"""`python -m benchmarks.table`: writes docs/benchmarks.md from the JSON files of benchmarks/results."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import MARKS, PEERS, Figure, Peer
from benchmarks.run import RESULTS
from boards import platform
from rtl.flow.account import KINDS, by_operator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
CLOCKS_MHZ = (150, 250)
NONE = "-"
NAMES = {f"deit_{size}{kind}": f"DeiT-{size}{kind.replace('_', ' ')}" for size in ("tiny", "small", "base") for kind in ("", "_distilled")}
_HEAD = """\
# Benchmarks

Written by `python -m benchmarks.table` from `benchmarks/results/*.json`, which `python -m benchmarks.run` writes; do not edit.

**Estimated, before place-and-route. Vivado has not been run.** Cycles are counted in a simulation of the generated Verilog in which every
value that the rows write is compared with the reference, with a memory of {peak:.1f} GB/s peak, {efficiency} % of it used, and refreshes.
LUTs are Yosys estimates. Frames per second are an assumed clock divided by cycles. Weights are random: no accuracy is claimed here.
"""


def main() -> int:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    if not results:
        sys.stderr.write("popvit: benchmarks/results must hold results: it is empty; run python -m benchmarks.run\n")
        return 2
    PAGE.write_text(page(results), encoding="utf-8")
    return 0


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The whole page. The same results give the same text."""
    memory = results[0]["memory"]
    head = _HEAD.format(peak=platform("zcu102").ddr_bytes_per_s / 1e9, efficiency=memory["efficiency"])
    parts = [head, _results(results), _stages(results), _account(results), _peers(results), _commands(results)]
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _name(result: Mapping[str, Any]) -> str:
    return f"{NAMES.get(result['model'], result['model'])} W1A{result['bits']}"


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    board = platform("zcu102")
    rows = []
    for result in results:
        cost, fps = result["resources"], [f"{clock * 1e6 / result['cycles_per_image']:,.0f}" for clock in CLOCKS_MHZ]
        shares = [f"{cost[kind]:,.0f} ({100 * cost[kind] / board.capacity[kind]:.0f} %)" for kind in ("lut", "dsp", "bram36", "ff")]
        memory = f"{cost['lutram']:,} ({100 * cost['lutram'] / board.slicem_luts:.0f} %)"
        rows.append(
            [
                _name(result), f"{result['rows']} x {result['inputs']}", str(result["images"]), f"{result['cycles_per_image']:,.0f}", *fps,
                f"{100 * result['utilisation']:.1f} %", *shares, memory, "no" if result["misfits"] else "yes",
            ]
        )  # fmt: skip
    columns = (
        "network", "rows x inputs", "images", "cycles per image", *(f"FPS at {clock} MHz" for clock in CLOCKS_MHZ), "utilisation",
        "LUT", "DSP", "BRAM36", "FF", "LUT as memory", "in budget",
    )  # fmt: skip
    shares = ", ".join(f"{share:.0%} of {kind}" for kind, share in board.budget_share.items())
    text = f"Budget: {shares}. Utilisation: binary multiply-accumulates of the array / its multipliers / cycles."
    return f"## Results on the {board.name.upper()}\n\n{_table(columns, rows)}\n{text}\n"


def _stages(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        for name, part in result["stages"].items():
            levels = f"{part['levels']} + {part['carries']}"
            row = [result["name"], f"{name} x {part['count']}", f"{part['lut']:,}", levels, f"{part['ns']:.2f}", f"`{part['deepest']}`"]
            rows.append(row)
    columns = ("result", "module", "LUT each", "LUT levels + carries", "ns (modelled)", "worst stage")
    first = results[0]
    units = [
        [name, unit, f"{stage['levels']} + {stage['carries']}", f"{stage['ns']:.2f}", f"`{stage['path']}`"]
        for name, part in first["stages"].items()
        for unit, stage in sorted(part["units"].items())
    ]
    unit_columns = ("module", "unit", "LUT levels + carries", "ns (modelled)", "worst stage that ends in it")
    return (
        f"## Worst stage of each module\n\nThe rule: at most 2 levels + 1 carry.\n\n{_table(columns, rows)}"
        f"\nOf each unit, {first['name']}:\n\n{_table(unit_columns, units)}"
    )


def _account(results: Sequence[Mapping[str, Any]]) -> str:
    """Percent of all cycles by kind, then cycles per image by operator and kind."""
    shares, parts = [], []
    for result in results:
        total = result["account"]["total"]
        cycles = sum(total.values())
        busy = 100 * result["account"]["attention_busy"] / cycles
        shares.append([result["name"], *(f"{100 * total[kind] / cycles:.1f}" for kind in KINDS), f"{busy:.1f}"])
        for name, kinds in by_operator(result["account"]["layers"]).items():
            parts.append([result["name"], name, *(f"{kinds[kind] / result['images']:,.0f}" for kind in KINDS)])
    words = {"key_value": "key/value space"}
    columns = [words.get(kind, kind) for kind in KINDS]
    return (
        "## Where the cycles go\n\nWhat the array does or waits for, in percent of all cycles; last, how busy the attention engine is.\n\n"
        + _table(("result", *columns, "attention busy"), shares)
        + "\nThe same by operator, in cycles per image.\n\n"
        + _table(("result", "operator", *columns), parts)
    )


def _figure(figure: Figure | None, form: str = ",.1f") -> str:
    return NONE if figure is None else f"{figure.value:{form}} ({figure.mark})"


def _peer(peer: Peer) -> list[str]:
    """Published clock and rate; nothing is scaled to another clock. What is computed from figures of which one is recalled is derived."""
    rates = [_figure(peer.fps) if peer.mhz.value == clock else NONE for clock in CLOCKS_MHZ]
    density = dsp = None
    if peer.gops and peer.kluts:
        density = Figure(peer.gops.value * 1e3 / 2 / peer.mhz.value / peer.kluts.value, "d")
    if peer.gops and peer.dsps:
        dsp = Figure(peer.gops.value / peer.dsps.value, "d")
    return [
        f"{peer.work} ({peer.source})", peer.model, peer.precision, _figure(peer.mhz, ".0f"), _figure(peer.fps), *rates,
        _figure(peer.kluts), _figure(peer.dsps, ",.0f"), _figure(density), _figure(dsp, ".2f"),
    ]  # fmt: skip


def _ours(result: Mapping[str, Any]) -> list[str]:
    cycles, cost, clock = result["cycles_per_image"], result["resources"], CLOCKS_MHZ[-1]
    rates = [f"{mhz * 1e6 / cycles:,.1f}" for mhz in CLOCKS_MHZ]
    macs = result["macs_per_image"] / cycles
    precision = f"W1A{result['bits']}, {result['rows']} rows"
    return [
        "popvit", NAMES.get(result["model"], result["model"]), precision, "assumed", NONE, *rates, f"{cost['lut'] / 1e3:,.1f}",
        f"{cost['dsp']:,}", f"{macs / (cost['lut'] / 1e3):,.1f}", f"{2e-3 * macs * clock / cost['dsp']:.2f}",
    ]  # fmt: skip


def _peers(results: Sequence[Mapping[str, Any]]) -> str:
    columns = (
        "work", "model", "precision", "MHz", "FPS as published", *(f"FPS at {clock} MHz" for clock in CLOCKS_MHZ), "kLUT", "DSP",
        "MAC/cycle/kLUT", f"GOPS/DSP (popvit: {CLOCKS_MHZ[-1]} MHz)",
    )  # fmt: skip
    marks = "\n".join(f"* ({mark}) {text}." for mark, text in MARKS.items())
    return (
        "## Beside others\n\nAll on the ZCU102. Their clocks and LUTs are those of finished designs, ours are estimates.\n"
        "An operation is half a multiply-accumulate; attention, patch embedding and head are included.\n\n"
        + _table(columns, [*(_ours(result) for result in results), *(_peer(peer) for peer in PEERS)])
        + f"\n{marks}\n"
    )


def _commands(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for result in results:
        seconds = result["seconds"]
        times = [f"{seconds[key]:,.0f}" for key in ("simulator_build", "simulation", "build")]
        rows.append(
            [result["name"], "<br>".join(f"`{line}`" for line in result["commands"]), *times, f"{result['cycles_per_second']:,.0f}"]
        )
    versions = sorted({", ".join(f"{name} {version}" for name, version in result["tools"].items()) for result in results})
    columns = ("result", "commands", "simulator build, s", "simulation, s", "build, s", "cycles/s")
    return "## How to repeat\n\n" + _table(columns, rows) + "\n" + "\n".join(f"* {line}" for line in versions) + "\n"


if __name__ == "__main__":
    sys.exit(main())
