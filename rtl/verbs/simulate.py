"""`simulate`: real images through the generated RTL, every value compared with the reference."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rtl.errors import InputError


def add_to(verbs) -> None:
    parser = verbs.add_parser("simulate", help="real images through the RTL, compared with the reference")
    parser.add_argument("--images", type=int, default=8, help="how many (default 8); those in flight overlap")
    parser.add_argument("--source", help="fashion-mnist (default for 28 x 28 networks), photos (default for others) or random")
    parser.add_argument("--waves", type=Path, metavar="FILE", help="write FST waves (needs the development files of lz4 and zlib)")
    parser.add_argument("--window", default="0:20000", metavar="FIRST:LAST", help="cycles since reset of --waves (default 0:20000)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from model import data
    from rtl.flow import report

    config, memory, labels, result, verilog = _simulated(options)
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


def _simulated(options: argparse.Namespace):
    """(config, memory, labels, result, path of the Verilog)."""
    from model import data
    from model.model_file import network_of
    from rtl.flow import report
    from rtl.flow.simulate import programs, save_verilog, simulate
    from rtl.verbs.machine import configured, memory_of, reference

    if options.images < 1:
        raise InputError(f"--images must be at least 1: {options.images} is not; use 8")
    memory, waves, interpret = memory_of(options), _waves(options), reference(options)
    shape = network_of(options.model)
    if options.source is None:
        options.source = "fashion-mnist" if shape.channels == 1 else "photos"
    images, labels = data.load(options.source, "test", shape)
    if options.images > len(images):
        raise InputError(f"--images must be at most {len(images)} for {options.source}: {options.images} is not; use fewer")
    images, labels = images[: options.images], labels[: options.images]
    graph, _, config = configured(options, "generic")
    with report.status("compiling the program") as say:
        compiled = programs(graph, config, options.images)
        say("exporting Verilog")
        verilog = save_verilog(graph, config, options.out)
    with report.simulation_progress() as progress:
        result = simulate(
            graph, config, images, lambda image: interpret(graph, image),
            verilog=verilog.read_text(), compiled=compiled, progress=progress, memory=memory, waves=waves,
        )  # fmt: skip
    return config, memory, labels, result, verilog


def _waves(options: argparse.Namespace) -> tuple[Path, int, int] | None:
    from rtl.flow.verilator_build import need_waves

    if options.waves is None:
        return None
    first, colon, last = options.window.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise InputError(f"--window must be FIRST:LAST in cycles: {options.window} is not; use 0:20000")
    need_waves()
    return options.waves, int(first), int(last)
