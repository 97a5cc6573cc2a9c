"""Run clocked Verilog in Verilator on vectors from Python: one list of input words per cycle in, one list of outputs per cycle out."""

import subprocess
from pathlib import Path

from rtl.flow.toolchain import run as run_tool
from rtl.flow.verilator_build import Options, archives, includes

HARNESS = """\
#include "Vtop.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <vector>

template <class T> static void put(T& port, const uint32_t* words) {{ port = (T)words[0]; }}
static void put(uint64_t& port, const uint32_t* words) {{ port = words[0] | (uint64_t)words[1] << 32; }}
template <std::size_t N> static void put(VlWide<N>& port, const uint32_t* words) {{
    for (std::size_t i = 0; i < N; i++) port[i] = words[i];
}}
template <class T> static void get(const T& port, uint32_t* words) {{ words[0] = (uint32_t)port; }}
static void get(const uint64_t& port, uint32_t* words) {{ words[0] = (uint32_t)port; words[1] = (uint32_t)(port >> 32); }}
template <std::size_t N> static void get(const VlWide<N>& port, uint32_t* words) {{
    for (std::size_t i = 0; i < N; i++) words[i] = port[i];
}}

int main(int argc, char** argv) {{
    VerilatedContext context;
    Vtop top(&context);
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    if (!in || !out) return 2;
    std::vector<uint32_t> words({in_words}), results({out_words});
    while (std::fread(words.data(), 4, {in_words}, in) == {in_words}) {{
        {puts}
        {fall}
        {gets}
        std::fwrite(results.data(), 4, {out_words}, out);
        {rise}
        context.timeInc(1);
    }}
    std::fclose(in); std::fclose(out);
    return 0;
}}
"""


def _layout(ports):
    """Word offset of each port, and the number of 32-bit words of all."""
    offsets, total = {}, 0
    for name, width in ports.items():
        offsets[name] = total
        total += -(-width // 32)
    return offsets, total


def _edge(level, fast_clock):
    """C++ that sets `clk`; the fast clock rises with it."""
    before, after = (f"top.{fast_clock} = 0; top.eval(); ", f"top.{fast_clock} = 1; ") if fast_clock else ("", "")
    return f"{before}top.clk = {level}; {after}top.eval();"


def build(folder, verilog, top, inputs, outputs, *, fast_clock=None):
    """Verilate module `top` of the text `verilog` and return a function from vectors to results.

    `inputs` and `outputs` map port names to widths. The function takes a list of dicts {input: int}, one per cycle, and
    returns a list of dicts {output: unsigned int}: what the ports carry before the clock edge of that cycle.
    `fast_clock` is a clock port of twice the rate of `clk`, in phase with it; inputs change with `clk`.
    """
    folder = Path(folder)
    (in_at, in_words), (out_at, out_words) = _layout(inputs), _layout(outputs)
    (folder / "main.cpp").write_text(
        HARNESS.format(
            fall=_edge(0, fast_clock),
            rise=_edge(1, fast_clock),
            in_words=in_words,
            out_words=out_words,
            puts="\n        ".join(f"put(top.{name}, &words[{at}]);" for name, at in in_at.items()),
            gets="\n        ".join(f"get(top.{name}, &results[{at}]);" for name, at in out_at.items()),
        )
    )
    model, library = archives(verilog, top, folder / "obj", Options())
    program = folder / "main"
    run_tool(
        ["g++", "-O1", *includes(), folder / "main.cpp", model, library, "-lpthread", "-o", program],
        what="compile the harness",
        cwd=folder / "obj",
    )

    def run(vectors):
        with (folder / "in.bin").open("wb") as file:
            for vector in vectors:
                for name, width in inputs.items():
                    value = vector[name] & ((1 << width) - 1)
                    file.write(value.to_bytes(4 * -(-width // 32), "little"))
        done = subprocess.run([str(program), str(folder / "in.bin"), str(folder / "out.bin")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        raw = (folder / "out.bin").read_bytes()
        results = []
        for cycle in range(len(vectors)):
            word = raw[4 * out_words * cycle : 4 * out_words * (cycle + 1)]
            results.append(
                {
                    name: int.from_bytes(word[4 * out_at[name] : 4 * (out_at[name] + -(-width // 32))], "little")
                    for name, width in outputs.items()
                }
            )
        return results

    return run
