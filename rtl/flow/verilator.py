"""The whole accelerator as a library in this process: Verilator's model in a C++ harness, driven through ctypes.

Cycles are counted from the end of reset. Memory is sparse over the whole 40-bit address space, shared by all masters, so an image can be
placed at any base address; what was never written reads as ``fill``. `rtl.flow.ddr` says how fast it is.
"""

import ctypes
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rtl.errors import InputError
from rtl.flow import verilator_build
from rtl.flow.ddr import IDEAL, Memory
from rtl.flow.toolchain import cache_folder, digest, locked, run

_HARNESS = Path(__file__).with_name("harness.cpp")
_TRACES = ("linear", "attention")
_MASTERS = ("program_read", "data_read", "data_write", "pixels_read")
_STATES = 8
_WRITE = np.dtype([("cycle", "<u8"), ("address", "<u8"), ("data", "u1", 16), ("strobe", "<u8")])
_CHUNK = 20_000  # cycles per call into C, so that Ctrl-C and progress work

SLVERR, DECERR = 2, 3


class SimulationError(RuntimeError):
    """The design broke an AXI rule or did not answer: the message names cycle, channel and rule."""


class _Config(ctypes.Structure):
    _fields_ = [
        ("bytes_per_cycle", ctypes.c_double),
        *((name, ctypes.c_uint32) for name in ("latency", "refresh_period", "refresh_length", "stall", "fill")),
        ("seed", ctypes.c_uint64),
    ]

    @classmethod
    def of(cls, memory: Memory) -> "_Config":
        return cls(**{name: getattr(memory, name) for name in (field[0] for field in cls._fields_)})


def build_library(verilog: str, top: str, rows: int, no_inline: tuple[str, ...], *, waves: bool = False) -> Path:
    """The shared library of a design, built on first use. See `Simulator.build`."""
    options = verilator_build.Options(waves=waves, shared=True, fast="-O2", slow="-O0")
    runtime = verilator_build.runtime(waves=waves)
    # `interrupt` is a macro on some other system; Verilator renames the C++ member and says so
    control = "lint_off -rule SYMRSVDWORD\n" + verilator_build.share(verilog, no_inline)
    key = digest(verilog, top, control, repr(options), str(rows), runtime.parent.name, _HARNESS.read_bytes())
    folder = cache_folder("verilator") / f"{top}-{key}"
    with locked(folder):
        if not (folder / "libsim.so").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _compile(verilog, top, rows, folder, options, control)
    return folder / "libsim.so"


def weight_ports(verilog: str) -> int:
    """How many masters `m_axi_weights_<n>` the design has."""
    return len(set(re.findall(r"\bm_axi_weights_(\d+)_arvalid\b", verilog)))


def _compile(verilog: str, top: str, rows: int, folder: Path, options: verilator_build.Options, control: str) -> None:
    start = time.monotonic()
    print(
        f"verilator: building {top}, {rows} rows, {len(verilog) / 1e6:.1f} MB of Verilog; kept for next time", file=sys.stderr, flush=True
    )
    model, runtime = verilator_build.archives(verilog, top, folder, options, control=control, jobs=2)
    defines = [f"-DROWS={rows}", f"-DVM_TRACE={int(options.waves)}", f"-DVM_TRACE_FST={int(options.waves)}"]
    ports = (("-DHAS_TRACE", "trace_linear_valid"), ("-DHAS_STATE", "trace_state"), ("-DHAS_CLK_2X", "clk_2x"))
    defines += [flag for flag, port in ports if re.search(rf"\b{port}\b", verilog)]
    defines.append(f"-DWEIGHT_PORTS={weight_ports(verilog)}")
    libraries = ["-lpthread", *(["-llz4", "-lz"] if options.waves else [])]
    run(
        [
            *("g++", "-shared", "-fPIC", "-O2", "-Wl,-Bsymbolic", *defines, *verilator_build.includes()),
            *("-o", "libsim.part", _HARNESS, "-Wl,--whole-archive", model, "-Wl,--no-whole-archive", runtime, *libraries),
        ],
        what=f"link of the simulator of {top}",
        cwd=folder,
    )
    (folder / "libsim.part").rename(folder / "libsim.so")
    print(f"verilator: built in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


_POINTER, _U64, _U32, _INT = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int
_SIGNATURES = {
    "new": (_POINTER, [ctypes.POINTER(_Config)]),
    "delete": (None, [_POINTER]),
    "write_memory": (None, [_POINTER, _U64, ctypes.c_char_p, _U64]),
    "read_memory": (None, [_POINTER, _U64, ctypes.c_char_p, _U64]),
    "write_register": (_INT, [_POINTER, _U32, _U32]),
    "read_register": (_INT, [_POINTER, _U32, ctypes.POINTER(_U32)]),
    "now": (_U64, [_POINTER]),
    "interrupt": (_INT, [_POINTER]),
    "violation": (ctypes.c_char_p, [_POINTER]),
    "run": (_U64, [_POINTER, _U64, _INT]),
    "add_error": (None, [_POINTER, _U64, _U64, _U32, _INT, _INT]),
    "bytes": (_U64, [_POINTER]),
    "beats": (_U64, [_POINTER, _INT]),
    "writes": (_U64, [_POINTER, ctypes.POINTER(_POINTER)]),
    "trace_count": (_U64, [_POINTER, _INT, _INT]),
    "trace": (None, [_POINTER, _INT, _INT, _POINTER, _POINTER]),
    "trace_base": (_U64, [_POINTER]),
    "account": (_U64, [_POINTER, ctypes.POINTER(_POINTER)]),
    "attention_cycles": (_U64, [_POINTER]),
    "tile": (_U32, [_POINTER]),
    "clear_trace": (None, [_POINTER]),
    "dump": (_INT, [_POINTER, ctypes.c_char_p, _U64, _U64]),
}


def _load(path: Path) -> dict[str, Callable]:
    library = ctypes.CDLL(str(path))
    functions: dict[str, Callable] = {}
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, f"sim_{name}")
        function.restype, function.argtypes = result, arguments
        functions[name] = function
    return functions


def _array(address: int | None, count: int, dtype: np.dtype) -> np.ndarray:
    if not count or address is None:
        return np.empty(0, dtype)
    return np.frombuffer(ctypes.string_at(address, count * dtype.itemsize), dtype)


class Simulator:
    """One accelerator, out of reset, with empty memory. Made by :meth:`build`."""

    def __init__(self, library: Path, rows: int, memory: Memory) -> None:
        self._call = _load(library)
        self.rows = rows
        self._handle = self._call["new"](ctypes.byref(_Config.of(memory)))

    @classmethod
    def build(
        cls, verilog: str, top: str, rows: int, no_inline: tuple[str, ...] = ("row",), *, memory: Memory = IDEAL, waves: bool = False
    ) -> "Simulator":
        """Builds (or finds built) the simulator of ``verilog`` and starts one.

        Parameters
        ----------
        no_inline : modules that Verilator keeps as modules; the ones instantiated many times, else large arrays do not build
        waves : prepare for :meth:`dump`; slower, and needs the lz4 and zlib development files

        Raises
        ------
        InputError : a compiler, make, perl or what waves need is missing.
        """
        return cls(build_library(verilog, top, rows, no_inline, waves=waves), rows, memory)

    def close(self) -> None:
        """Frees the model; the object is of no use after it."""
        if self._handle:
            self._call["delete"](self._handle)
            self._handle = None

    def __enter__(self) -> "Simulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cycles(self) -> int:
        """Cycles since reset."""
        return self._call["now"](self._handle)

    @property
    def interrupt(self) -> bool:
        """The interrupt line."""
        return bool(self._call["interrupt"](self._handle))

    def write_memory(self, address: int, data: bytes) -> None:
        """Puts bytes into memory at once, without the bus."""
        self._call["write_memory"](self._handle, address, bytes(data), len(data))

    def read_memory(self, address: int, count: int) -> bytes:
        """Bytes of memory, without the bus."""
        data = ctypes.create_string_buffer(count)
        self._call["read_memory"](self._handle, address, data, count)
        return data.raw

    def write_register(self, offset: int, value: int) -> None:
        """One AXI-Lite write; time passes. Raises SimulationError if it is not answered with OKAY."""
        self._answered(self._call["write_register"](self._handle, offset, value), f"write of register 0x{offset:03x}")

    def read_register(self, offset: int) -> int:
        """One AXI-Lite read; time passes. Raises SimulationError if it is not answered with OKAY."""
        value = ctypes.c_uint32()
        self._answered(self._call["read_register"](self._handle, offset, ctypes.byref(value)), f"read of register 0x{offset:03x}")
        return value.value

    def _answered(self, response: int, what: str) -> None:
        self._check()
        if response:
            answer = {-1: "no answer", SLVERR: "SLVERR", DECERR: "DECERR"}.get(response, str(response))
            raise SimulationError(f"cycle {self.cycles}: {what}: {answer}")

    def _check(self) -> None:
        violation = self._call["violation"](self._handle).decode()
        if violation:
            raise SimulationError(violation)

    def run(self, max_cycles: int, *, until_interrupt: bool = True, progress: Callable[[int], None] | None = None) -> int:
        """Runs until the interrupt is high or ``max_cycles`` have passed, and returns how many did. ``progress`` is told now and then.

        Raises
        ------
        SimulationError : the design broke an AXI rule.
        """
        done = 0
        while done < max_cycles:
            step = min(_CHUNK, max_cycles - done)
            ran = self._call["run"](self._handle, step, until_interrupt)
            done += ran
            self._check()
            if progress is not None:
                progress(done)
            if ran < step or (until_interrupt and self.interrupt):
                break
        return done

    def trace_of(self, channel: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        """What one row wrote since :meth:`clear_trace`, oldest first: cycles since reset (int64), values (uint16 patterns).

        Parameters
        ----------
        channel : "linear" or "attention"
        """
        number = _TRACES.index(channel)
        count = self._call["trace_count"](self._handle, number, row)
        cycles, values = np.empty(count, "<u4"), np.empty(count, "<u2")
        self._call["trace"](self._handle, number, row, cycles.ctypes.data, values.ctypes.data)
        return cycles + np.int64(self._call["trace_base"](self._handle)), values

    def trace(self, channel: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """`trace_of` every row."""
        return [self.trace_of(channel, row) for row in range(self.rows)]

    def clear_trace(self) -> None:
        """Forgets traces and account, to bound memory over many images."""
        self._call["clear_trace"](self._handle)

    def account(self) -> tuple[np.ndarray, int]:
        """Cycles since :meth:`clear_trace` by tile and array state, (tiles, 8), and those in which the attention engine worked."""
        counts = ctypes.c_void_p()
        count = self._call["account"](self._handle, ctypes.byref(counts))
        return _array(counts.value, count, np.dtype("<u8")).reshape(-1, _STATES), self._call["attention_cycles"](self._handle)

    @property
    def tile(self) -> int:
        """Number of the TILE that the array is at."""
        return self._call["tile"](self._handle)

    def writes(self) -> np.ndarray:
        """Every beat written on the bus: fields cycle, address, data (16 bytes), strobe."""
        records = ctypes.c_void_p()
        count = self._call["writes"](self._handle, ctypes.byref(records))
        return _array(records.value, count, _WRITE)

    def beats(self, master: str) -> int:
        """Beats moved so far by "program_read", "data_read", "data_write", "pixels_read" or "weights_read_<port>"."""
        kind, _, port = master.rpartition("_")
        number = len(_MASTERS) + int(port) if kind == "weights_read" else _MASTERS.index(master)
        return self._call["beats"](self._handle, number)

    @property
    def bytes_moved(self) -> int:
        """By all masters, so far."""
        return self._call["bytes"](self._handle)

    def inject_error(self, first: int, last: int, response: int = SLVERR, *, reads: bool = True, writes: bool = True) -> None:
        """Answers every beat at addresses first..last with an error (SLVERR or DECERR); such writes do not reach memory."""
        self._call["add_error"](self._handle, first, last, response, reads, writes)

    def dump(self, path: Path, first: int, last: int) -> None:
        """Writes cycles first..last as FST waves; the file is complete after ``close``."""
        if not self._call["dump"](self._handle, str(path).encode(), first, last):
            raise InputError("waves must be asked for when the simulator is built and were not: pass waves=True")
