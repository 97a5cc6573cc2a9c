"""Verilog -> C++ model -> object code. Both benches (cocotb programs and the whole-accelerator library) are built here.

Verilator's own runtime costs twenty CPU seconds to compile and is the same for every design, so it is compiled once into the cache and
linked everywhere; a small bench then builds in a few seconds.
"""

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rtl.errors import InputError
from rtl.flow.toolchain import cache_folder, digest, locked, run
from rtl.flow.verilator_root import verilator_root

_FLAGS = ("--cc", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--timescale", "1ns/1ps")
# What makes the code of two instances of a module differ, or (the motion) takes time that grows with the square of the design.
_SHARED = ("-fno-dfg", "-fno-table", "-fno-merge-cond-motion")
# What Yosys writes for a narrowing assignment, an empty `begin end` or an unread bit is what was meant.
_QUIET = ("-Wno-WIDTH", "-Wno-UNOPTFLAT", "-Wno-DECLFILENAME", "-Wno-MULTITOP", "-Wno-CASEINCOMPLETE")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is compiled.

    Parameters
    ----------
    vpi: the model is driven by cocotb. waves: it can dump FST. shared: instances of a module share their code, see `share`.
    fast, slow: compiler levels of the evaluated and of the start-up code.
    """

    vpi: bool = False
    waves: bool = False
    shared: bool = False
    fast: str = "-O1"
    slow: str = "-O0"

    @property
    def flags(self) -> tuple[str, ...]:
        """Verilator's arguments."""
        shared = _SHARED if self.shared else ()
        return (*_FLAGS, *_QUIET, *shared, *(("--vpi",) if self.vpi else ()), *(("--trace-fst",) if self.waves else ()))


def environment() -> dict[str, str]:
    """The environment in which Verilator and its makefiles work."""
    root = verilator_root()
    return os.environ | {
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "CCACHE_DIR": str(cache_folder("ccache")),
    }


def share(verilog: str, modules: Iterable[str]) -> str:
    """Lines of a Verilator configuration file: `modules` stay modules and their code is compiled once, however many instances there are.

    That needs inputs that Verilator does not replace by what drives them, so they are called public: no instance then names another.
    """
    lines = []
    for name in modules:
        found = re.search(rf"(?ms)^module \\?{re.escape(name)}\s*\(.*?^endmodule", verilog)
        if found:
            inputs = re.findall(r"^\s*input\s+(?:\[\d+:0\]\s*)?(\w+)\s*;", found[0], re.MULTILINE)
            lines.append(f'no_inline -module "{name}"')
            lines += [f'public_flat_rw -module "{name}" -var "{port}"' for port in inputs if port not in ("clk", "clk_2x", "rst")]
    return "".join(f"{line}\n" for line in lines)


def _make(folder: Path, target: str, options: Options, jobs: int) -> None:
    run(
        [
            *("make", f"-j{jobs}", "-C", folder, "-f", "Vtop.mk", target),
            *(f"OPT_FAST={options.fast}", f"OPT_SLOW={options.slow}", "OPT_GLOBAL=-O2", "CXXFLAGS=-fPIC"),
            f"OBJCACHE={'ccache' if shutil.which('ccache') else ''}",
        ],
        what=f"C++ build of {target}",
        env=environment(),
    )


def need_waves() -> None:
    """Raises
    ------
    InputError: the headers that FST dumping is compiled against are not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.cpp")
        probe.write_text("#include <lz4.h>\n#include <zlib.h>\nint main() {}\n", encoding="utf-8")
        try:
            run(["g++", probe, "-o", Path(folder, "probe"), "-llz4", "-lz"], what="probe")
        except RuntimeError as error:
            raise InputError(
                "waves (--waves, WAVES=1) need the lz4 and zlib development files, and they are not here: "
                "install them (Debian: apt-get install liblz4-dev zlib1g-dev) or do without waves"
            ) from error


def runtime(*, waves: bool) -> Path:
    """The archive of Verilator's runtime, compiled on first use."""
    root = verilator_root()
    options = Options(vpi=True, waves=waves)
    folder = cache_folder("runtime") / digest(root.name, *options.flags)
    with locked(folder):
        if not (folder / "libverilated.a").exists():
            if waves:
                need_waves()
            shutil.rmtree(folder, ignore_errors=True)
            translate("module runtime(input clk); endmodule\n", "runtime", folder, options)
            _make(folder, "libverilated.a", options, jobs=2)
    return folder / "libverilated.a"


def translate(verilog: str, top: str, folder: Path, options: Options, control: str = "") -> None:
    """Writes the C++ of ``verilog`` into ``folder``; ``control`` is the body of a Verilator configuration file. A warning is an error."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "design.v").write_text(verilog, encoding="utf-8")
    (folder / "control.vlt").write_text(f"`verilator_config\n{control}", encoding="utf-8")
    sources = ("control.vlt", "design.v")
    run(
        ["verilator", *options.flags, "-Mdir", ".", "--top-module", top, *sources],
        what=f"Verilator on {top}",
        cwd=folder,
        env=environment(),
    )


def archives(verilog: str, top: str, folder: Path, options: Options, *, control: str = "", jobs: int = 1) -> tuple[Path, Path]:
    """Model and runtime archives of a design, both position-independent."""
    library = runtime(waves=options.waves)
    translate(verilog, top, folder, options, control)
    _make(folder, "libVtop.a", options, jobs)
    return folder / "libVtop.a", library


def includes() -> list[str]:
    """Compiler arguments to include the model's and the runtime's headers, from the model's folder."""
    root = verilator_root()
    return ["-std=gnu++20", "-I.", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]


if __name__ == "__main__":
    print(runtime(waves=False))
