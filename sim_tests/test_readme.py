"""The README's commands exist and take the options it gives them; what it links to is there. Nothing that takes long is run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"(?ms)^```\n(.*?)^```", README) for line in block.splitlines()]
LINKS = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]


def run(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{shlex.join(words)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def check_make(words: list[str]) -> None:
    assert words[1] in run("make", "--dry-run", "--silent", "help")


def check_module(words: list[str]) -> None:
    """Every option, and the verb, appears in the help of the module or of its verb."""
    verbs = [word for word in words[2:] if word in ("plan", "build", "simulate", "report")]
    told = run(sys.executable, "-m", words[1], "--help")
    if verbs:
        assert verbs[0] in told
        told += run(sys.executable, "-m", words[1], verbs[0], "--help")
    missing = [word for word in words[2:] if word.startswith("--") and word not in told]
    assert not missing


def check_pytest(words: list[str]) -> None:
    """The selection holds at least one test (nothing is run)."""
    pattern = words[words.index("-k") + 1]
    assert pattern in run(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *words)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str) -> None:
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z]+=\w+", words[0]):
        assert words[0].partition("=")[0] in ("SIM", "WAVES")
        words.pop(0)
    program = words[0]
    if program == "make":
        check_make(words)
    elif program == ".venv/bin/python":
        assert words[1] == "-m"
        check_module(words[1:])
    else:
        assert program == ".venv/bin/pytest"
        check_pytest(words[1:])


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("target", LINKS)
def test_link(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("target", ["setup", "test", "test-slow", "demo", "lint", "models"])
def test_make_target_is_complete(target: str) -> None:
    """make can tell how to reach every target, and what a clone runs is what the README says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if target == "demo":
        assert "-m rtl.top --model deit_micro --bits 8 simulate --images 8" in done.stdout
