"""Where the points of a sweep are measured: processes of this machine, or a Dask cluster. Both speak `concurrent.futures`."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from rtl.errors import InputError

#: Seconds until a scheduler must have answered.
ANSWER_SECONDS = 10
#: Times that Dask starts a point again whose worker died.
RETRIES = 3


class Workers(Protocol):
    def opened(self) -> contextlib.AbstractContextManager[Executor]:
        """An executor; leaving it cancels what has not begun."""
        ...


@dataclass(frozen=True)
class Processes:
    """``count`` processes of this machine."""

    count: int

    @contextlib.contextmanager
    def opened(self) -> Iterator[Executor]:
        pool = ProcessPoolExecutor(self.count, mp_context=multiprocessing.get_context("spawn"))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


_ADDRESS = re.compile(r"(tcp|tls|ws|wss)://[^:/]+:\d+")


@dataclass(frozen=True)
class DaskCluster:
    """The workers of a Dask scheduler, ``address`` as in ``tcp://host:8786``. They need popvit of the same version, not the same disk."""

    address: str

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise InputError(f"--scheduler must be the address of one: {self.address} is not; use tcp://host:8786")

    @contextlib.contextmanager
    def opened(self) -> Iterator[Executor]:
        try:
            from distributed import Client
        except ImportError:
            raise InputError("--scheduler needs Dask: it is not installed; use pip install 'popvit[cluster]'") from None
        try:
            client = Client(self.address, timeout=ANSWER_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            reason = f"{self.address} gives {type(error).__name__}"
            raise InputError(
                f"a scheduler must answer within {ANSWER_SECONDS} s: {reason}; start dask scheduler there, or leave it out"
            ) from None
        with client, client.get_executor(retries=RETRIES) as pool:
            yield pool
