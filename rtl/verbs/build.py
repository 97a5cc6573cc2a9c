"""`build`: Verilog, Vivado project, program and weight image, driver manifest, estimate; or, with --unit, one unit alone."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rtl.errors import InputError


def add_to(verbs) -> None:
    parser = verbs.add_parser("build", help="Verilog, Vivado project, program and weight image, resource estimate")
    parser.add_argument("--images", type=int, default=2, help="images that one run of the program takes (default 2)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.unit is not None and options.dsp_clock != 1:
        raise InputError(f"--dsp-clock is for whole machines: {options.unit} is a unit; leave it out")
    if options.unit is not None and options.fps is not None:
        raise InputError(f"--fps is for whole machines: {options.unit} is a unit; leave it out")
    return _machine(options) if options.unit is None else _unit(options)


def _unit(options: argparse.Namespace) -> int:
    from rtl.flow import report
    from rtl.flow.unit import build_unit, summary_lines
    from rtl.verbs.machine import DEFAULT_BITS

    bits = DEFAULT_BITS if options.bits is None else options.bits
    with report.status(f"building {options.unit}") as say:
        summary = build_unit(options.unit, bits, options.out, clock_mhz=options.clock_mhz, say=say)
    print(json.dumps(summary) if options.json else "\n".join(summary_lines(summary)))
    return _fitting(summary)


def _machine(options: argparse.Namespace) -> int:
    from boards import platform
    from rtl.flow import report
    from rtl.flow.build import build
    from rtl.verbs.machine import configured

    if options.images < 1:
        raise InputError(f"--images must be at least 1: {options.images} is not; use 2")
    board = platform(options.board)
    graph, metadata, config = configured(options, "ultrascale")
    with report.status("building") as say:
        summary = build(
            graph, config, board, options.out, clock_mhz=options.clock_mhz, source=metadata["source"], images=options.images, say=say
        )
    if options.json:
        print(json.dumps(summary))
    else:
        report.build_table(summary)
    return _fitting(summary)


def _fitting(summary: dict[str, Any]) -> int:
    """The exit status, after a line for everything that does not fit."""
    for line in summary["misfits"]:
        print(f"popvit: {line}", file=sys.stderr)
    return 1 if summary["misfits"] else 0
