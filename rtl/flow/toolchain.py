"""Where the external tools are, where their outputs are kept, and how a command is run and locked.

Nothing here knows Verilator or cocotb: it finds programs, names cache folders by the digest of what goes in, and turns a failed
command into one readable error.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rtl.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

_REMEDY = {
    "g++": "install a C++ compiler (Debian: apt-get install g++)",
    "make": "install GNU make (Debian: apt-get install make)",
    "perl": "install perl (Debian: apt-get install perl)",
    "iverilog": "install Icarus Verilog (Debian: apt-get install iverilog) or leave SIM unset for Verilator",
}


class ToolError(RuntimeError):
    """A tool ran and failed: the message holds its command and the end of its output."""


def cache_folder(*parts: str) -> Path:
    """Folder ``.cache/<parts>`` of the checkout (or under ``POPVIT_CACHE``), made if absent."""
    folder = Path(os.environ.get("POPVIT_CACHE", ROOT / ".cache")).joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the cache folder must be writable: {folder}: {error.strerror}; set POPVIT_CACHE to a folder that is") from error
    return folder


def digest(*parts: str | bytes) -> str:
    """Sixteen hex digits that name the parts, boundaries included."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode())
        total.update(data)
    return total.hexdigest()[:16]


def need(*programs: str) -> None:
    """Raises
    ------
    InputError: a program is not on PATH; the message says how to get it.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise InputError(f"{program} must be on PATH and is not: {_REMEDY.get(program, 'install it')}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of ``folder`` (a file beside it), so that of two processes one builds and the other waits and finds it built."""
    with folder.with_name(folder.name + ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str | Path], *, what: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs ``command`` to its end and returns its output.

    Raises
    ------
    ToolError: it failed; the message names ``what`` and ends with the last lines it printed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise ToolError(f"{what} failed with status {done.returncode}: {' '.join(words[:6])} ...\n{tail}")
    return done.stdout
