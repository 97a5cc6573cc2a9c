"""Options and fixtures of the whole suite."""

import os
import shutil

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="seed of every random choice in the suite (default 1)")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["POPVIT_SEED"] = str(config.getoption("--seed"))


def pytest_report_header(config: pytest.Config) -> str:
    return f"popvit: --seed {config.getoption('--seed')}, simulator {os.environ.get('SIM') or 'verilator'}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The number given as ``--seed``."""
    return int(request.config.getoption("--seed", 1))


@pytest.fixture
def icarus() -> str:
    """The name of the second simulator, for small benches that run on both; skips where it is not installed."""
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    return "icarus"
