"""Measures many points, each once: results are files by the point's key, so that a sweep which was stopped, or whose workers died, goes on
where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future, as_completed
from pathlib import Path
from typing import Any

from rtl.errors import InputError
from rtl.plan.executors import Workers

#: Times in a row that all workers may die without a result in between.
MOST_BREAKS = 3
Argument = Mapping[str, Any]
Result = dict[str, Any]


def sweep(
    points: Mapping[str, Argument],
    measure: Callable[[Argument], Result],
    folder: Path,
    workers: Workers,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Result]:
    """The result of every point, by its key, in the order of ``points``.

    Parameters
    ----------
    points : what `measure` is called with, by a key that is a file name        measure : importable by its name, for other processes
    folder : of the results, which are kept: those that are there are not measured again
    tell : is told how many points are done, of how many

    A point whose machine cannot be has the result ``{"error": why}``.

    Raises
    ------
    RuntimeError : the workers died ``MOST_BREAKS`` times without a result in between
    """
    found = {key: kept for key in points if (kept := _kept(folder / f"{key}.json")) is not None}
    breaks = 0
    while missing := [key for key in points if key not in found]:
        before = len(found)
        try:
            with workers.opened() as pool:
                folder.mkdir(parents=True, exist_ok=True)  # not before there are workers
                tell(len(found), len(points))
                futures = {pool.submit(measured, measure, points[key]): key for key in missing}
                _collect(futures, found, folder, lambda: tell(len(found), len(points)))
        except BrokenExecutor:
            breaks = 0 if len(found) > before else breaks + 1
            if breaks == MOST_BREAKS:
                raise RuntimeError(
                    f"workers must live: they died {breaks} times over {', '.join(missing[:3])}; use fewer workers"
                ) from None
    tell(len(found), len(points))
    return {key: found[key] for key in points}


def measured(measure: Callable[[Argument], Result], argument: Argument) -> Result:
    """In the worker."""
    try:
        return measure(argument)
    except InputError as error:
        return {"error": str(error)}


def _collect(futures: Mapping[Future, str], found: dict[str, Result], folder: Path, tell: Callable[[], None]) -> None:
    for future in as_completed(futures):
        key = futures[future]
        result = future.result()
        path = folder / f"{key}.json"
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        aside.replace(path)
        found[key] = result
        tell()


def _kept(path: Path) -> Result | None:
    """None where there is none, or a damaged one: then it is measured again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
