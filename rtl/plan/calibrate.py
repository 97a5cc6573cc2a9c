"""`python -m rtl.plan.calibrate [cycles | resources] [--check]`: fits the planner's models to simulation and synthesis, and checks them.

Without --check, what is missing of the grid is simulated (cycles) or synthesised (resources), an hour or more the first time, and the fit
is stored with every point and its residual in `rtl/plan/calibration`. With --check nothing is measured: stored points are predicted again,
and the status is 1 if one that the fit has not seen is off by more than its bound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rtl.errors import InputError
from rtl.plan import calibrate_cycles, calibrate_resources

PARTS = {"cycles": calibrate_cycles.main, "resources": calibrate_resources.main}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rtl.plan.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=sorted(PARTS), help="only these models (default: both)")
    parser.add_argument("--check", action="store_true", help="measure nothing: predict the stored points again")
    options = parser.parse_args(arguments)
    parts = PARTS.values() if options.part is None else [PARTS[options.part]]
    try:
        return max(part(options.check) for part in parts)
    except InputError as error:
        print(f"popvit: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
