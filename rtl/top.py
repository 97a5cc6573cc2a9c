"""The command line: `python -m rtl.top [options] VERB`. The one file that joins rtl, model and boards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rtl.errors import InputError

if TYPE_CHECKING:
    from rtl.flow.ddr import Memory

VERBS_TO_COME = {"plan": "the planner", "report": "the report page"}


def main(arguments: list[str] | None = None) -> int:
    """0: done; 1: a result that failed; 2: bad input, told in one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (InputError, OSError) as error:
        print(f"popvit: {_one_line(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # a tool or the machine itself failed: ToolError, SimulationError, MachineError
        print(f"popvit: {error}", file=sys.stderr)
        return 1


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}; choose another path with --out or mend its permissions"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors in our form: one line, exit 2."""

    def error(self, message: str):
        self.exit(2, f"popvit: {message}; see python -m rtl.top --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m rtl.top", description="Vision transformer in, verified FPGA accelerator out.")
    parser.add_argument("--model", default="deit_base", help="deit_base (default), efficientvit_b1, ...: a name of model.configs")
    parser.add_argument("--checkpoint", help="an integer checkpoint, or random:SEED; default: the shipped one, else random:0")
    parser.add_argument("--bits", type=int, default=8, help="activation precision, 1..8 (default 8); 4..8 for EfficientViT")
    parser.add_argument("--board", default="zcu102", help="default zcu102")
    parser.add_argument("--clock-mhz", type=float, default=250.0, help="clock for frames per second and constraints (default 250)")
    parser.add_argument("--fps", type=float, help="frame rate that simulate must reach")
    parser.add_argument("--rows", type=int, help="rows of the array (default: by model and bits)")
    parser.add_argument(
        "--dsp-clock", type=int, default=1, help="2: the rows' DSPs run at twice the clock, half as many; EfficientViT only"
    )
    parser.add_argument("--unit", metavar="NAME", help="build just this unit of the registry: Verilog, vectors, testbench, estimate")
    parser.add_argument("--strategy", default="lut_table", help="lut_table (default) or popcount")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for outputs (default build)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, all else on stderr")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    build = verbs.add_parser("build", help="Verilog, Vivado project, program and weight image, resource estimate")
    build.add_argument("--images", type=int, default=2, help="images that one run of the program takes (default 2)")
    simulate = verbs.add_parser("simulate", help="real images through the RTL, compared with the reference")
    simulate.add_argument("--images", type=int, default=8, help="how many (default 8); those in flight overlap")
    simulate.add_argument("--source", help="fashion-mnist (default for 28 x 28 networks), photos (default for others) or random")
    simulate.add_argument("--ddr-gbps", type=float, help="peak of the memory in GB/s (default: the board's); 75 %% of it is used")
    simulate.add_argument("--waves", type=Path, metavar="FILE", help="write FST waves (needs the development files of lz4 and zlib)")
    simulate.add_argument("--window", default="0:20000", metavar="FIRST:LAST", help="cycles since reset of --waves (default 0:20000)")
    for verb, what in VERBS_TO_COME.items():
        verbs.add_parser(verb, help=f"{what} (not done yet)")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.verb in VERBS_TO_COME:
        raise InputError(f"{options.verb} must exist to be used: {VERBS_TO_COME[options.verb]} is not done yet; use build or simulate")
    if not options.clock_mhz > 0:
        raise InputError(f"--clock-mhz must be positive: {options.clock_mhz:g} is not; use 250")
    if options.fps is not None and not options.fps > 0:
        raise InputError(f"--fps must be positive: {options.fps:g} is not; use 25")
    if options.fps is not None and options.verb == "build":
        raise InputError(f"--fps needs cycles and build counts none: {options.fps:g} cannot be judged; give it to simulate")
    if options.unit is not None and options.dsp_clock != 1:
        raise InputError(f"--dsp-clock is for whole machines: {options.unit} is a unit; leave it out")
    if options.unit is not None:
        return _build_unit(options)
    return _build(options) if options.verb == "build" else _simulate(options)


def _build_unit(options: argparse.Namespace) -> int:
    from rtl.flow import report
    from rtl.flow.unit import build_unit, summary_lines

    if options.verb != "build":
        raise InputError(f"--unit must come with build: {options.verb} does not take it; use build")
    with report.status(f"building {options.unit}") as say:
        summary = build_unit(options.unit, options.bits, options.out, clock_mhz=options.clock_mhz, say=say)
    print(json.dumps(summary) if options.json else "\n".join(summary_lines(summary)))
    for line in summary["misfits"]:
        print(f"popvit: {line}", file=sys.stderr)
    return 1 if summary["misfits"] else 0


def _configured(options: argparse.Namespace, technology: str):
    """(graph, metadata, config) of the command line's model."""
    from model.configs import EfficientVitConfig, config_of
    from rtl.units.xnor_matmul import STRATEGIES

    if options.strategy not in STRATEGIES:
        raise InputError(f"--strategy must be one of {', '.join(STRATEGIES)}: {options.strategy} is not; use lut_table")
    make = _efficientvit if isinstance(config_of(options.model), EfficientVitConfig) else _deit
    return make(options, technology)


def _deit(options: argparse.Namespace, technology: str):
    from model.zoo import load_graph_and_metadata
    from rtl.attention_config import AttentionConfig
    from rtl.config import preset
    from rtl.flow.fit import with_rows

    if options.dsp_clock != 1:
        raise InputError(f"--dsp-clock must be 1 for {options.model}: its rows multiply in LUTs; leave it out")
    graph, metadata = load_graph_and_metadata(options.model, options.bits, options.checkpoint)
    config = preset(graph.shape, technology=technology, strategy=options.strategy)
    if options.rows is not None:
        config = with_rows(config, options.rows)
    AttentionConfig.of(config)  # its laws, before anything is written
    return graph, metadata, config


def _efficientvit(options: argparse.Namespace, technology: str):
    from model.zoo import load_graph_and_metadata
    from rtl.efficientvit.preset import check_bits, preset

    if options.strategy != "lut_table":
        raise InputError(f"--strategy is for binary weights: {options.strategy} does not suit {options.model}; leave it out")
    check_bits(options.bits)
    graph, metadata = load_graph_and_metadata(options.model, options.bits, options.checkpoint)
    return graph, metadata, preset(graph, rows=options.rows, technology=technology, dsp_clock=options.dsp_clock)


def _reference(options: argparse.Namespace):
    """graph, image -> the tensors that the accelerator must equal."""
    from model.configs import EfficientVitConfig, config_of
    from model.efficientvit.interpreter import interpret as interpret_efficientvit
    from model.interpreter import interpret

    return interpret_efficientvit if isinstance(config_of(options.model), EfficientVitConfig) else interpret


def _simulate(options: argparse.Namespace) -> int:
    from model import data
    from rtl.flow import report

    config, memory, labels, result, verilog = _run_simulation(options)
    summary = report.simulation_summary(result, config, memory, model=options.model, clock_mhz=options.clock_mhz, labels=labels)
    if options.json:
        print(json.dumps(summary))
    else:
        names = data.CLASS_NAMES if options.source == "fashion-mnist" else ()
        report.simulation_table(result, summary, labels, names, verilog)
    if options.fps is not None and summary["fps"] < options.fps:
        print(f"popvit: {report.too_slow(options.fps, summary)}", file=sys.stderr)
        return 1
    return 0 if result.bit_exact else 1


def _run_simulation(options: argparse.Namespace):
    """(config, memory, labels, result, path of the Verilog) of `simulate` with these options."""
    from model import data
    from model.configs import config_of
    from rtl.flow import report
    from rtl.flow.simulate import programs, save_verilog, simulate

    if options.images < 1:
        raise InputError(f"--images must be at least 1: {options.images} is not; use 8")
    memory, waves, reference = _memory(options), _waves(options), _reference(options)
    graph, _, config = _configured(options, "generic")
    shape = config_of(options.model)
    if options.source is None:
        options.source = "fashion-mnist" if shape.channels == 1 else "photos"
    images, labels = data.load(options.source, "test", shape)
    if options.images > len(images):
        raise InputError(f"--images must be at most {len(images)} for {options.source}: {options.images} is not; use fewer")
    images, labels = images[: options.images], labels[: options.images]
    with report.status("compiling the program") as say:
        compiled = programs(graph, config, options.images)
        say("exporting Verilog")
        verilog = save_verilog(graph, config, options.out)
    with report.simulation_progress() as progress:
        result = simulate(
            graph, config, images, lambda image: reference(graph, image),
            verilog=verilog.read_text(), compiled=compiled, progress=progress, memory=memory, waves=waves,
        )  # fmt: skip
    return config, memory, labels, result, verilog


def _memory(options: argparse.Namespace) -> Memory:
    """The board's DDR, or one of another peak, seen from the clock."""
    from boards import platform
    from rtl.flow.ddr import Memory

    board = platform(options.board)
    if options.ddr_gbps is not None and not options.ddr_gbps > 0:
        raise InputError(f"--ddr-gbps must be positive: {options.ddr_gbps:g} is not; use {board.ddr_bytes_per_s / 1e9:g}")
    peak = board.ddr_bytes_per_s if options.ddr_gbps is None else options.ddr_gbps * 1e9
    return Memory.ddr(peak, board.ddr_efficiency, options.clock_mhz)


def _waves(options: argparse.Namespace) -> tuple[Path, int, int] | None:
    from rtl.flow.verilator_build import need_waves

    if options.waves is None:
        return None
    first, colon, last = options.window.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise InputError(f"--window must be FIRST:LAST in cycles: {options.window} is not; use 0:20000")
    need_waves()
    return options.waves, int(first), int(last)


def _build(options: argparse.Namespace) -> int:
    from boards import platform
    from rtl.flow import report
    from rtl.flow.build import build

    if options.images < 1:
        raise InputError(f"--images must be at least 1: {options.images} is not; use 2")
    board = platform(options.board)
    graph, metadata, config = _configured(options, "ultrascale")
    with report.status("building") as say:
        summary = build(
            graph, config, board, options.out, clock_mhz=options.clock_mhz, source=metadata["source"], images=options.images, say=say
        )
    if options.json:
        print(json.dumps(summary))
    else:
        report.build_table(summary)
    for line in summary["misfits"]:
        print(f"popvit: {line}", file=sys.stderr)
    return 1 if summary["misfits"] else 0


if __name__ == "__main__":
    sys.exit(main())
