"""`python -m benchmarks.table`: writes docs/benchmarks.md from the JSON files of benchmarks/results."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.run import RESULTS
from benchmarks.sections import account, commands, peers, plan, results, stages, trio_vit
from benchmarks.sections.markdown import Result
from boards import platform

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
SECTIONS = (results, stages, account, peers, trio_vit, plan, commands)
_HEAD = """\
# Benchmarks

Written by `python -m benchmarks.table` from `benchmarks/results/*.json`, which `python -m benchmarks.run` writes; do not edit.

**Estimated, before place-and-route. Vivado has not been run.** Cycles are counted in a simulation of the generated Verilog in which every
value that the rows write is compared with the reference, with a memory of {peak:.1f} GB/s peak, {efficiency} % of it used, and refreshes.
LUTs are Yosys estimates. Frames per second are an assumed clock divided by cycles. Weights are random, and no accuracy is claimed, where
the table has no top-1.
"""


def main() -> int:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    if not found:
        sys.stderr.write("popvit: benchmarks/results must hold results: it is empty; run python -m benchmarks.run\n")
        return 2
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


def page(found: Sequence[Result]) -> str:
    """The whole page. The same results give the same text."""
    head = _HEAD.format(peak=platform("zcu102").ddr_bytes_per_s / 1e9, efficiency=found[0]["memory"]["efficiency"])
    return "\n".join([head, *(text for section in SECTIONS if (text := section.section(found)))])


if __name__ == "__main__":
    sys.exit(main())
