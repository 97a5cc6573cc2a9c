"""The machine that the command line names: network, configuration, memory and reference."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from rtl.errors import InputError
from rtl.flow.ddr import Memory

#: Activation bits where neither --bits nor --fps is given.
DEFAULT_BITS = 8


def is_efficientvit(options: argparse.Namespace) -> bool:
    from model.configs import DeiTConfig
    from model.model_file import network_of

    return not isinstance(network_of(options.model), DeiTConfig)


def configured(options: argparse.Namespace, technology: str) -> tuple[Any, dict, Any]:
    """(graph, metadata, config). With --fps the planner chooses what the other options leave open; `options.bits` is then its choice.

    Raises
    ------
    InputError : options that do not go together, or a machine that cannot be
    InfeasibleError : no machine reaches --fps
    """
    check(options)
    if options.fps is not None:
        from rtl.verbs.plan import planned_config

        config = planned_config(options, technology)
        options.bits = config.bits
        return *_load(options), config
    options.bits = DEFAULT_BITS if options.bits is None else options.bits
    graph, metadata = _load(options)
    return graph, metadata, machine_of(options, graph, technology)


def machine_of(options: argparse.Namespace, graph: Any, technology: str) -> Any:
    """The preset of a network, with --rows and --dsp-clock where given. Of the graph only shapes are read."""
    return _efficientvit(options, graph, technology) if is_efficientvit(options) else _deit(options, graph, technology)


def check(options: argparse.Namespace) -> None:
    """Options that do not go together. Raises InputError."""
    from rtl.efficientvit.preset import check_bits
    from rtl.units.xnor_matmul import STRATEGIES

    if options.strategy not in STRATEGIES:
        raise InputError(f"--strategy must be one of {', '.join(STRATEGIES)}: {options.strategy} is not; use lut_table")
    if is_efficientvit(options):
        if options.strategy != "lut_table":
            raise InputError(f"--strategy is for binary weights: {options.strategy} does not suit {options.model}; leave it out")
        if options.bits is not None:
            check_bits(options.bits)
    elif options.dsp_clock != 1:
        raise InputError(f"--dsp-clock must be 1 for {options.model}: its rows multiply in LUTs; leave it out")


def _load(options: argparse.Namespace) -> tuple[Any, dict]:
    from model.zoo import load_graph_and_metadata

    return load_graph_and_metadata(options.model, options.bits, options.checkpoint)


def _deit(options: argparse.Namespace, graph: Any, technology: str) -> Any:
    from rtl.attention_config import AttentionConfig
    from rtl.config import preset
    from rtl.flow.fit import with_rows

    config = preset(graph.shape, technology=technology, strategy=options.strategy)
    if options.rows is not None:
        config = with_rows(config, options.rows)
    AttentionConfig.of(config)  # its laws, before anything is written
    return config


def _efficientvit(options: argparse.Namespace, graph: Any, technology: str) -> Any:
    from rtl.efficientvit.preset import preset

    return preset(graph, rows=options.rows, technology=technology, dsp_clock=options.dsp_clock)


def reference(options: argparse.Namespace) -> Callable[[Any, Any], Any]:
    """graph, image -> the tensors that the accelerator must equal."""
    from model.efficientvit.interpreter import interpret as interpret_efficientvit
    from model.interpreter import interpret

    return interpret_efficientvit if is_efficientvit(options) else interpret


def memory_of(options: argparse.Namespace) -> Memory:
    """The board's DDR, or one of another peak, seen from the clock."""
    from boards import platform

    board = platform(options.board)
    if options.ddr_gbps is not None and not options.ddr_gbps > 0:
        raise InputError(f"--ddr-gbps must be positive: {options.ddr_gbps:g} is not; use {board.ddr_bytes_per_s / 1e9:g}")
    peak = board.ddr_bytes_per_s if options.ddr_gbps is None else options.ddr_gbps * 1e9
    return Memory.ddr(peak, board.ddr_efficiency, options.clock_mhz)
