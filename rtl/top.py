"""The command line: `python -m rtl.top [options] VERB`. Verbs are in `rtl.verbs`; with them, the files that join rtl, model and boards."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from rtl.errors import InputError
from rtl.verbs import build, plan, simulate, sweep

VERBS = (plan, sweep, build, simulate)


def main(arguments: list[str] | None = None) -> int:
    """0: done; 1: a result that failed; 2: bad input, told in one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        return options.run(options)
    except (InputError, OSError) as error:
        print(f"popvit: {_one_line(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:  # a tool, the machine or the plan failed: ToolError, SimulationError, MachineError, InfeasibleError
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
    parser.add_argument(
        "--model", default="deit_base", help="deit_base (default), efficientvit_b1, ...: a name of model.configs, or a .toml file"
    )
    parser.add_argument("--checkpoint", help="an integer checkpoint, or random:SEED; default: the shipped one, else random:0")
    parser.add_argument(
        "--bits", type=int, help="activation precision, 1..8, for EfficientViT 4..8; default 8, or what --fps leaves room for"
    )
    parser.add_argument("--board", default="zcu102", help="zcu102 (default), kv260, or a .toml file that describes another one")
    parser.add_argument("--clock-mhz", type=float, default=250.0, help="clock for frames per second and constraints (default 250)")
    parser.add_argument("--fps", type=float, help="frame rate to reach: the planner chooses the machine, and simulate must reach it")
    parser.add_argument("--rows", type=int, help="rows of the array (default: by model and bits, or by --fps)")
    parser.add_argument(
        "--dsp-clock", type=int, default=1, help="2: the rows' DSPs run at twice the clock, half as many; EfficientViT only"
    )
    parser.add_argument("--ddr-gbps", type=float, help="peak of the memory in GB/s (default: the board's); 75 %% of it is used")
    parser.add_argument("--unit", metavar="NAME", help="build just this unit of the registry: Verilog, vectors, testbench, estimate")
    parser.add_argument("--strategy", default="lut_table", help="lut_table (default) or popcount")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for outputs (default build)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, all else on stderr")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    for verb in VERBS:
        verb.add_to(verbs)
    verbs.add_parser("report", help="the report page (not done yet)").set_defaults(run=_not_done)
    return parser


def _not_done(options: argparse.Namespace) -> int:
    raise InputError(f"{options.verb} must exist to be used: the report page is not done yet; use plan, build or simulate")


def _check(options: argparse.Namespace) -> None:
    """What every verb wants."""
    if not 0 < options.clock_mhz < math.inf:
        raise InputError(f"--clock-mhz must be positive: {options.clock_mhz:g} is not; use 250")
    if options.fps is not None and not 0 < options.fps < math.inf:
        raise InputError(f"--fps must be positive: {options.fps:g} is not; use 25")
    if options.unit is not None and options.run is not build.run:
        raise InputError(f"--unit must come with build: {options.verb} does not take it; use build")


if __name__ == "__main__":
    sys.exit(main())
