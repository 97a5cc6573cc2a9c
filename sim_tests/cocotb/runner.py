"""Runs one Amaranth component under one cocotb bench: export, build (once per Verilog), simulate, one readable error.

A unit ``foo`` has two files beside this one: ``test_foo.py`` (pytest: a table of parameters, each calls :func:`run_bench`) and
``bench_foo.py`` (cocotb coroutines, which run inside the simulator and import only :mod:`sim_tests.cocotb.helpers`).
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import cocotb_tools.config
import cocotb_tools.runner
from amaranth.lib import wiring

from rtl.errors import InputError
from rtl.flow import verilator_build
from rtl.flow.toolchain import cache_folder, digest, locked, need, run
from rtl.flow.verilog import export

SIMULATORS = ("verilator", "icarus")


class BenchError(AssertionError):
    """A bench failed: which test, what was expected where, and where its log and waves are."""


def run_bench(
    component: wiring.Component,
    *,
    module: str,
    name: str,
    test: str | None = None,
    parameters: dict | None = None,
    public: tuple[str, ...] = (),
    simulator: str | None = None,
    modules: Mapping[str, wiring.Component] | None = None,
) -> None:
    """Simulates ``component`` under the cocotb tests of a module.

    Parameters
    ----------
    component : what is tested; elaborated here, once
    module : the bench, "sim_tests.cocotb.bench_foo"
    name : the Verilog module's name
    test : one test of the bench; all of them if None
    parameters : whatever the bench needs to know, JSON types only; it reads them with ``bench_parameters()``
    public : internal signals of the top module that the bench looks into (Verilator shows ports only)
    simulator : "verilator" or "icarus"; default is the variable SIM, or Verilator
    modules : modules that the component instantiates by name (`rtl.separate`)

    Raises
    ------
    BenchError : a cocotb test failed, or none ran.
    InputError : the simulator is unknown or not installed, or WAVES=1 without what it needs.
    """
    simulator = simulator or os.environ.get("SIM") or "verilator"
    if simulator not in SIMULATORS:
        raise InputError(f"SIM must be one of {', '.join(SIMULATORS)}: {simulator!r} is not; leave it unset for Verilator")
    waves = os.environ.get("WAVES", "0") not in ("", "0")
    verilog = "".join(export(part, part_name) for part_name, part in {**(modules or {}), name: component}.items())
    build = _build_verilator if simulator == "verilator" else _build_icarus
    folder = build(verilog, name, waves, public)
    _simulate(folder, name, simulator, module, test, parameters or {}, waves)


def _build_verilator(verilog: str, name: str, waves: bool, public: tuple[str, ...]) -> Path:
    options = verilator_build.Options(vpi=True, waves=waves)
    main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    library = Path(cocotb_tools.config.libs_dir)
    # a port `interrupt` is renamed in C++, where that is a macro on some systems; VPI knows it by its own name
    control = "lint_off -rule SYMRSVDWORD\n" + "".join(
        f'public_flat_rw -module "{name}" -var "{signal}"\n' for signal in (*_ports(verilog, name), *public)
    )
    runtime = verilator_build.runtime(waves=waves)
    folder = cache_folder("benches") / f"{name}-{digest(verilog, control, repr(options), str(runtime), main.read_bytes())}"
    with locked(folder):
        if not (folder / name).exists():
            shutil.rmtree(folder, ignore_errors=True)
            model, _ = verilator_build.archives(verilog, name, folder, options, control=control)
            libraries = ["-llz4", "-lz"] if waves else []
            defines = [f"-DVM_TRACE={int(waves)}", f"-DVM_TRACE_FST={int(waves)}"]
            link = [model, runtime, f"-Wl,-rpath,{library}", f"-L{library}", "-lcocotbvpi_verilator", "-lpthread", *libraries]
            command = ["g++", "-O1", *defines, *verilator_build.includes(), "-o", f"{name}.part", main, *link]
            run(command, what=f"link of bench {name}", cwd=folder)
            (folder / f"{name}.part").rename(folder / name)
    return folder


def _ports(verilog: str, name: str) -> list[str]:
    header = verilog.partition(f"module {name}(")[2].partition(")")[0]
    return [port.strip() for port in header.split(",")]


def _build_icarus(verilog: str, name: str, waves: bool, public: tuple[str, ...]) -> Path:
    need("iverilog")
    # Icarus leaves the outputs of `always @*` unknown until an input changes; always_comb also runs at time zero.
    text = verilog.replace("always @*", "always_comb")
    folder = cache_folder("benches") / f"{name}-icarus-{digest(text, str(waves))}"
    with locked(folder):
        if not (folder / "sim.vvp").exists():
            folder.mkdir(parents=True, exist_ok=True)
            source = folder / "design.sv"
            source.write_text(text, encoding="utf-8")
            runner = cocotb_tools.runner.get_runner("icarus")
            runner.build(
                sources=[source],
                hdl_toplevel=name,
                build_dir=folder,
                waves=waves,
                timescale=("1ns", "1ps"),
                log_file=folder / "build.log",
            )
    return folder


def _simulate(folder: Path, name: str, simulator: str, module: str, test: str | None, parameters: dict, waves: bool) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cache_folder("runs")))
    seed = os.environ.get("POPVIT_SEED", "1")
    log = work / "sim.log"
    runner = cocotb_tools.runner.get_runner(simulator)
    try:
        results = runner.test(
            hdl_toplevel=name,
            hdl_toplevel_lang="verilog",
            test_module=module,
            test_filter=None if test is None else rf"\.{re.escape(test)}(/.*)?$",
            build_dir=folder,
            test_dir=work,
            results_xml=str(work / "results.xml"),
            log_file=log,
            seed=seed,
            waves=waves,
            timescale=("1ns", "1ps"),
            test_args=["--trace"] if waves and simulator == "verilator" else [],
            extra_env={"POPVIT_BENCH": json.dumps(parameters), "POPVIT_SEED": seed, "COCOTB_ANSI_OUTPUT": "0", "NO_COLOR": "1"},
        )
    except (RuntimeError, SystemExit) as error:
        raise BenchError(f"{name}: the simulator stopped: {error}\n{_tail(log)}") from error
    problems, ran = _read_results(results)
    if problems or not ran:
        told = "\n".join(problems) or f"no test of {module} ran"
        raise BenchError(f"{name} on {simulator}, seed {seed}, parameters {json.dumps(parameters)}\n{told}\nlog: {log}")
    if waves:
        print(f"waves: {', '.join(str(path) for path in work.glob('*.fst'))}", file=sys.stderr)
    else:
        shutil.rmtree(work)


def _read_results(results: Path) -> tuple[list[str], int]:
    problems, ran = [], 0
    for case in ElementTree.parse(results).iter("testcase"):
        ran += case.find("skipped") is None
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                problems.append(
                    f"{case.get('classname')}.{case.get('name')}: {found.get('message') or ''}\n{(found.text or '').strip()}".strip()
                )
    return problems, ran


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-30:]) if log.exists() else "(no log)"
