"""What a unit's ports carry, cycle by cycle: random legal stimulus, what Amaranth's simulator answers, and a testbench that replays both.

Registers and memories begin at 0, as in the FPGA. The unit is reset, then left idle until what its pipelines held at first has left them:
from cycle ``SETTLED`` on every output is defined, and the same in every technology.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from rtl.flow.plain_shell import Leaf, PlainShell
from rtl.units.registry import UnitEntry

#: Cycles of a replay; of its reset; of what is not compared.
CYCLES, RESET, SETTLED = 1000, 4, 128
_EXTREME, _SMALL = 0.25, 0.2


def stimulus(entry: UnitEntry, shell: PlainShell, seed: int, count: int = CYCLES) -> list[dict[str, int]]:
    """The input ports of every cycle, patterns; and ``rst``. Numbers are random, at their ends, or small."""
    rng, cycles = random.Random(seed), []
    for cycle in range(count):
        ports = dict.fromkeys(shell.widths(wiring.In), 0)
        for leaf in shell.leaves:
            value = _draw(rng, entry, leaf, cycle)
            if cycle < SETTLED:
                value = entry.idle.get(leaf.name, 0)
            ports[leaf.port] |= (value & (1 << leaf.shape.width) - 1) << leaf.offset
        cycles.append({"rst": int(cycle < RESET), **ports})
    return cycles


def _draw(rng: random.Random, entry: UnitEntry, leaf: Leaf, cycle: int) -> int:
    width = leaf.shape.width
    if leaf.name in entry.every:
        place = cycle % entry.every[leaf.name]
        return place if width > 1 else int(place == 0)
    whole = (-(1 << width - 1), (1 << width - 1) - 1) if leaf.shape.signed else (0, (1 << width) - 1)
    low, high = entry.ranges.get(leaf.name, whole)
    kind = rng.random() if width > 1 else 1.0
    if kind < _EXTREME:
        return rng.choice((low, high))
    value = rng.randint(low, high)
    # toward 0, and never beyond it
    return value >> rng.randrange(width) if kind < _EXTREME + _SMALL and low <= value >> width - 1 else value


@contextmanager
def _deep() -> Iterator[None]:
    """Python compiles what Amaranth writes for a choice among hundreds only with a deeper stack than is usual."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * usual)
    try:
        yield
    finally:
        sys.setrecursionlimit(usual)


def simulate(shell: PlainShell, cycles: Sequence[Mapping[str, int]]) -> list[dict[str, int]]:
    """The output ports of every cycle, before its clock edge: patterns."""
    top, domain, results = Module(), ClockDomain("sync"), []
    top.domains.sync = domain
    top.submodules.unit = shell
    outputs = list(shell.widths(wiring.Out))

    async def bench(ctx) -> None:
        for ports in cycles:
            for name, value in ports.items():
                ctx.set(domain.rst if name == "rst" else getattr(shell, name), value)
            results.append({name: ctx.get(getattr(shell, name)) for name in outputs})
            await ctx.tick()

    with _deep():
        simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def memory_text(widths: Mapping[str, int], cycles: Sequence[Mapping[str, int]]) -> str:
    """For $readmemh, or a reader of comments: a line per cycle, one number in which the first port lies lowest."""
    total, lines, low = sum(widths.values()), [], 0
    for name, width in widths.items():
        lines.append(f"// {name} [{low + width - 1}:{low}]")
        low += width
    for ports in cycles:
        word, low = 0, 0
        for name, width in widths.items():
            word |= ports[name] << low
            low += width
        lines.append(f"{word:0{-(-total // 4)}x}")
    return "\n".join(lines) + "\n"


def read_memory(text: str) -> list[dict[str, int]]:
    """What `memory_text` wrote."""
    fields, cycles = {}, []
    for line in text.splitlines():
        if line.startswith("//"):
            _, name, place = line.split()
            high, low = map(int, place.strip("[]").split(":"))
            fields[name] = (low, (1 << high - low + 1) - 1)
        else:
            cycles.append({name: int(line, 16) >> low & mask for name, (low, mask) in fields.items()})
    return cycles


def replay_bench(module: str, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int = CYCLES) -> str:
    """Verilog of ``tb_<module>``: inputs.hex of ``FOLDER`` into the unit, its outputs against outputs.hex. It ends when all is done; unless
    ``STOP`` is 0, a failure is fatal."""

    def slices(signal: str, widths: Mapping[str, int]) -> list[str]:
        low, found = 0, []
        for name, width in widths.items():
            found.append(f".{name}({signal}[{low + width - 1}:{low}])")
            low += width
        return found

    ports = ",\n    ".join([".clk(clk)", *slices("in", inputs), *slices("out", outputs)])
    return _TESTBENCH.format(
        module=module, cycles=count, settled=SETTLED, ports=ports, inputs=sum(inputs.values()) - 1, outputs=sum(outputs.values()) - 1
    )


_TESTBENCH = """\
`timescale 1ns / 1ps

module tb_{module} #(parameter FOLDER = ".", parameter STOP = 1);
  reg [{inputs}:0] inputs [0:{cycles} - 1];
  reg [{outputs}:0] outputs [0:{cycles} - 1];
  reg [{inputs}:0] in;
  wire [{outputs}:0] out;
  reg clk = 0;
  integer cycle, failures = 0;

  {module} unit (
    {ports}
  );

  initial begin
    $readmemh({{FOLDER, "/inputs.hex"}}, inputs);
    $readmemh({{FOLDER, "/outputs.hex"}}, outputs);
    for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin
      in = inputs[cycle];
      #4;
      if (cycle >= {settled} && out !== outputs[cycle]) begin
        failures = failures + 1;
        if (failures == 1) $display("{module}: cycle %0d: got %h, expected %h", cycle, out, outputs[cycle]);
      end
      #1 clk = 1;
      #5 clk = 0;
    end
    if (failures == 0) $display("{module}: PASS, {cycles} cycles");
    else $display("{module}: FAIL, %0d of {cycles} cycles differ", failures);
    if (failures != 0 && STOP != 0) $fatal(1);
  end
endmodule
"""
