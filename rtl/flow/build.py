"""Writes a build: Verilog, Vivado project, program and weight image, driver manifest, resource estimate. All or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rtl.bus.register_map import ErrorCode, as_dict
from rtl.flow.estimate import SOURCE, Resources, estimate, to_rtlil
from rtl.flow.family import Graph, family_of, model_name
from rtl.flow.fit import misfits
from rtl.flow.machine import TOP_MODULE, Config, class_count, design_of, image_shape
from rtl.flow.verilog import verilog_of
from rtl.flow.vivado import write_project
from rtl.flow.vivado_system import SPARE_PORTS
from rtl.program.image import manifest
from rtl.tech.clocking import FAST_CLOCK

REPORTED = ("lut", "ff", "dsp", "bram36")


def build(
    graph: Graph,
    config: Config,
    board: Any,
    out: Path,
    *,
    clock_mhz: float,
    source: str,
    images: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Build `graph` for `config` on `board` into a folder of `out`; returns what `build --json` prints.

    board : a class of `boards`        source : where the weights come from, for the manifest        images : of one run of the program
    A build that does not fit is written too; `misfits` in the summary says so.
    The files depend on the arguments alone: the digest over them is the same every time.
    """
    began = time.monotonic()
    family, model = family_of(config), model_name(graph)
    say("compiling the program")
    compiled = family.compile(graph, config, images)  # may refuse the network: ahead of all that is written
    out.mkdir(parents=True, exist_ok=True)
    name = f"{model}_w{family.weight_bits}a{config.bits}_{board.name}"
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as folder:
        aside = Path(folder, name)
        aside.mkdir()
        resources, counts = _write(graph, config, compiled, board, aside, clock_mhz=clock_mhz, source=source, say=say)
        files = sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file())
        digest = _digest(aside, files)
        _replace(aside, out / name)
    summary = {
        "model": model,
        "weight_bits": family.weight_bits,
        "bits": config.bits,
        "board": board.name,
        "rows": config.rows,
        **family.sizes(config),
        "clocks_mhz": clocks(config, clock_mhz),
        "clock_source": f"{max(clocks(config, clock_mhz).values()):g} MHz is unproven before place-and-route; Vivado has not been run",
        "images": images,
        "out": str(out / name),
        "files": files,
        "resources": {kind: getattr(resources["total"], kind) for kind in REPORTED},
        "parts": {name: _part(resources[name], count) for name, count in counts.items()},
        "slicem": {"used": resources["total"].slicem, "total": board.slicem_luts},
        "budget": {
            kind: {"limit": share * board.capacity[kind], "total": board.capacity[kind]} for kind, share in board.budget_share.items()
        },
        "misfits": misfits(config, resources, board),
        "resource_source": SOURCE,
        "digest": digest,
        "seconds": time.monotonic() - began,
    }
    summary["budget"].setdefault("ff", {"limit": board.capacity["ff"], "total": board.capacity["ff"]})
    return summary


def clocks(config: Config, clock_mhz: float) -> dict[str, float]:
    """MHz of each clock port of the accelerator."""
    times = family_of(config).sizes(config).get("dsp_clock", 1)
    return {"clk": clock_mhz} | ({FAST_CLOCK: times * clock_mhz} if times > 1 else {})


def _part(found: Resources, count: int) -> dict[str, Any]:
    """One module: what an instance costs, how many there are, its worst stages."""
    costs = {kind: getattr(found, kind) for kind in (*REPORTED, "slicem")}
    stages = {name: getattr(found, name) for name in ("levels", "carries", "deepest", "ns", "slowest", "units", "clocks")}
    return {"count": count, **costs, **stages}


def _write(
    graph, config, compiled, board, folder: Path, *, clock_mhz: float, source: str, say
) -> tuple[Mapping[str, Resources], Mapping[str, int]]:
    """Every file of the build into `folder`. Returns resources by module, with their total, and how often each module is used."""
    family = family_of(config)
    say("elaborating; synthesising for the resource estimate (a minute or two the first time)")
    verilog = folder / "verilog"
    verilog.mkdir()
    with ThreadPoolExecutor(2) as pool:
        texts, counts, estimates = _begun(config, pool)
        for name, text in texts.items():
            (verilog / f"{name}.v").write_text(verilog_of(text, name), encoding="utf-8")
        (folder / "program.bin").write_bytes(compiled.program)
        (folder / "weights.bin").write_bytes(compiled.weights)
        sources = [verilog / f"{name}.v" for name in texts]
        ports = board.hp_ports + SPARE_PORTS
        write_project(folder / "vivado", sources, TOP_MODULE, board.part, clock_mhz, board=board.vivado_board, hp_ports=ports)
        resources = _totalled(estimates, counts)
    run = manifest(
        compiled, model=model_name(graph), bits=config.bits, rows=config.rows, image_shape=image_shape(config), classes=class_count(config),
        counters=family.counters,
    )  # fmt: skip
    description = run | {
        "checkpoint": source,
        "board": board.name,
        "part": board.part,
        "clock_mhz": clock_mhz,
        "config": family.described(config),
        "registers": as_dict(),
        "error_codes": {code.name: code.value for code in ErrorCode},
        "status": "Vivado has not been run",
    }
    _write_json(folder / "manifest.json", description)
    _write_json(folder / "resources.json", {part: found.to_dict() for part, found in resources.items()})
    return resources, counts


def estimate_machine(config: Config) -> Mapping[str, Resources]:
    """Resources by module, with their total, of the machine that a build writes. Minutes, the first time."""
    with ThreadPoolExecutor(2) as pool:
        _, counts, estimates = _begun(config, pool)
        return _totalled(estimates, counts)


def _begun(config: Config, pool: Executor) -> tuple[dict[str, str], dict[str, int], dict[str, Future[Resources]]]:
    """RTLIL of each module, how often it is used, and its estimate under way."""
    texts, counts, estimates = {}, {}, {}
    design = design_of(config)
    for name, (component, count) in [*design.separate.items(), (TOP_MODULE, (design.accelerator, 1))]:
        texts[name], counts[name] = to_rtlil(component, name), count
        boxes = instantiated(texts[name], {other: text for other, text in texts.items() if other != name})
        estimates[name] = pool.submit(estimate, texts[name], name, black_boxes=boxes)
    return texts, counts, estimates


def _totalled(estimates: Mapping[str, Future[Resources]], counts: Mapping[str, int]) -> dict[str, Resources]:
    resources = {name: future.result() for name, future in estimates.items()}
    total = Resources()
    for name, count in counts.items():
        total += resources[name] * count
    return resources | {"total": total}


def instantiated(text: str, modules: Mapping[str, str]) -> dict[str, str]:
    """Those of the modules, RTLIL by name, that the RTLIL ``text`` has cells of."""
    return {name: module for name, module in modules.items() if f"  cell \\{name} " in text}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _digest(folder: Path, files: list[str]) -> str:
    total = hashlib.sha256()
    for name in files:
        total.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return total.hexdigest()


def _replace(aside: Path, target: Path) -> None:
    """`aside` in the place of `target`; an old build goes only when the new one is whole."""
    old = aside.with_name("old")
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
