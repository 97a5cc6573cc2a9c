"""The host runtime on file-backed registers and memory: the other side of the files plays the machine."""

import hashlib
import mmap
import struct
import subprocess
import sys

import numpy as np
import pytest

from boards.driver import Accelerator, DriverError, SimulatorBackend, UioBackend
from rtl.bus.register_map import ID_WORD, ErrorCode, as_dict

ADDRESS = 0x8_7000_0000
PROGRAM, WEIGHTS = bytes(range(64)), bytes(range(200, 232))
SHAPE, CLASSES = (4, 4, 1), 5
REGISTERS = as_dict()


def make_manifest():
    return {
        "rows": 6,
        "bits": 8,
        "windows": {
            "program": {"offset": 0, "bytes": 64},
            "weights": {"offset": 4096, "bytes": 32},
            "image": {"offset": 8192, "bytes": 272},
            "result": {"offset": 12288, "bytes": 32},
        },
        "buffer_bytes": 16384,
        "program": {"sha256": hashlib.sha256(PROGRAM).hexdigest()},
        "weights": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()},
        "image": {"shape": list(SHAPE), "offsets": [0, 256]},
        "result": {"bytes": 2 * CLASSES, "shape": [CLASSES], "dtype": "<i2", "offsets": [0, 16]},
        "registers": REGISTERS,
        "error_codes": {str(code.value): code.name.lower() for code in ErrorCode},
    }


class Machine:
    """Sees the two files as hardware would: registers by offset, memory by address. Logits: image sum, times 1, -1, 2, -2, 3."""

    def __init__(self, registers, memory):
        self.registers, self.memory, self.error, self.runs = registers, memory, 0, 0
        self.put("id", ID_WORD)
        self.put("config_rows", 6)
        self.put("config_bits", 8)

    def put(self, name, value):
        struct.pack_into("<I", self.registers, REGISTERS[name]["offset"], value)

    def get(self, name):
        return struct.unpack_from("<I", self.registers, REGISTERS[name]["offset"])[0]

    def window(self, name):
        start = (self.get(f"{name}_base_hi") << 32 | self.get(f"{name}_base_lo")) - ADDRESS
        return slice(start, start + self.get(f"{name}_bytes"))

    def step(self):
        assert self.get("control") == 0b101
        assert self.memory[self.window("program")] == PROGRAM and self.memory[self.window("weights")] == WEIGHTS
        self.put("count_cycles", 1234)
        if self.error:
            self.put("error", self.error)
            self.put("status", 0b100)
            return
        self.runs += 1
        for image, result in ((0, 0), (256, 16)):
            start, place = self.window("image").start + image, self.window("result").start + result
            logits = np.array([1, -1, 2, -2, 3], dtype="<i2") * np.int16(sum(self.memory[start : start + 16]))
            self.memory[place : place + 10] = logits.tobytes()
        self.put("status", 0b010)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "uio").write_bytes(bytes(4096))
    (tmp_path / "buffer").write_bytes(bytes(16384))
    maps = []
    for name in ("uio", "buffer"):
        with (tmp_path / name).open("r+b") as file:
            maps.append(mmap.mmap(file.fileno(), 0))
    return tmp_path, Machine(*maps)


@pytest.fixture
def backend(files):
    folder, machine = files
    made = UioBackend(folder / "uio", folder / "buffer", address=ADDRESS, size=16384)
    sleep, write = made.wait, made.registers.write

    def start_clears_status(offset, value):
        if offset == REGISTERS["control"]["offset"]:
            machine.put("status", 0)
        write(offset, value)

    made.registers.write = start_clears_status
    made.wait = lambda timeout_s: (sleep(timeout_s), machine.step())
    yield made
    made.close()


def loaded(backend):
    accelerator = Accelerator(make_manifest(), backend)
    accelerator.load(program=PROGRAM, weights=WEIGHTS)
    return accelerator


def test_image_in_logits_out(backend, files):
    accelerator = loaded(backend)
    image = np.arange(16, dtype=np.uint8).reshape(SHAPE)
    assert accelerator.infer(image).tolist() == [120, -120, 240, -240, 360]
    assert accelerator.infer(image * 2).tolist() == [240, -240, 480, -480, 720]
    assert accelerator.counters()["cycles"] == 1234


def test_many_images_are_cut_into_runs(backend, files):
    """Five images through a program of two: three runs, every image's logits at its place."""
    images = np.random.default_rng(2).integers(0, 200, (5, *SHAPE), dtype=np.uint8)
    logits = loaded(backend).infer(images)
    assert files[1].runs == 3
    assert np.array_equal(logits, images.reshape(5, -1).sum(-1, dtype=np.int64)[:, None] * np.array([1, -1, 2, -2, 3]))
    assert loaded(backend).infer(images[:0]).shape == (0, CLASSES)


def test_machine_error_names_code_and_registers(backend, files):
    accelerator = loaded(backend)
    files[1].error = ErrorCode.WATCHDOG | 7 << 16
    with pytest.raises(DriverError, match=r"^the machine stopped with error 6 \(watchdog\)$") as error:
        accelerator.infer(np.zeros(SHAPE, np.uint8))
    assert error.value.detail["count_cycles"] == 1234


def test_machine_that_does_not_end(backend):
    accelerator = loaded(backend)
    backend.wait = lambda timeout_s: None
    with pytest.raises(DriverError, match=r"^the machine must end within 0\.02 s: it did not$"):
        accelerator.infer(np.zeros(SHAPE, np.uint8), timeout_s=0.02)


def test_wrong_machine_and_wrong_files(backend, files):
    manifest = make_manifest()
    with pytest.raises(DriverError, match=r"^the program must be the manifest's: its sha256 differs"):
        Accelerator(manifest, backend).load(program=WEIGHTS, weights=WEIGHTS)
    with pytest.raises(DriverError, match=r"^the buffer must hold 99999 bytes: it has 16384"):
        Accelerator(manifest | {"buffer_bytes": 99999}, backend)
    with pytest.raises(DriverError, match=r"^rows of the bitstream must be the manifest's 66: it is 6"):
        Accelerator(manifest | {"rows": 66}, backend)
    files[1].put("id", 0)
    with pytest.raises(DriverError, match=r"^the id register must read 0x50564954: it reads 0x00000000; is the bitstream loaded\?$"):
        Accelerator(manifest, backend)


def test_wrong_image(backend):
    with pytest.raises(ValueError, match=r"^images must be uint8 of shape \(4, 4, 1\) or \(n, \.\.\.\): got float64 of shape \(4, 4\);"):
        loaded(backend).infer(np.zeros((4, 4)))


def test_simulator_backend_speaks_the_simulators_interface(files):
    machine = files[1]

    class Simulator:
        def read_register(self, offset):
            return struct.unpack_from("<I", machine.registers, offset)[0]

        def write_register(self, offset, value):
            struct.pack_into("<I", machine.registers, offset, value)

        def read_memory(self, address, size):
            return machine.memory[address - ADDRESS : address - ADDRESS + size]

        def write_memory(self, address, data):
            machine.memory[address - ADDRESS : address - ADDRESS + len(data)] = data

        def run(self, max_cycles):
            machine.step()

    accelerator = loaded(SimulatorBackend(Simulator(), address=ADDRESS, size=16384))
    assert accelerator.infer(np.ones(SHAPE, np.uint8)).tolist() == [16, -16, 32, -32, 48]


def test_driver_needs_nothing_of_popvit():
    code = "import sys; import boards.driver; sys.exit(any(name.split('.')[0] in ('rtl', 'model', 'amaranth') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
