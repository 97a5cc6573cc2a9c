"""The host runtime: loads a program and its weights, runs images, reads counters. Needs numpy and nothing of popvit.

    from boards.driver import Accelerator, UioBackend

    accelerator = Accelerator(json.load(open("manifest.json")), UioBackend("/dev/uio4", "/dev/udmabuf0"))
    accelerator.load(program=open("program.bin", "rb").read(), weights=open("weights.bin", "rb").read())
    logits = accelerator.infer(images)  # (n, height, width, channels) uint8 -> (n, classes)

It has been run on file-backed memory and against the simulator's interface, never on a board.
"""

from boards.driver.accelerator import Accelerator, DriverError
from boards.driver.backends import Backend, Memory, Registers, SimulatorBackend, UioBackend

__all__ = ["Accelerator", "Backend", "DriverError", "Memory", "Registers", "SimulatorBackend", "UioBackend"]
