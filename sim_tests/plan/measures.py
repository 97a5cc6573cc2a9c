"""What workers of a sweep's tests do: square a number, once per call into a log; or die the first time."""

import os
import signal
import time
from pathlib import Path

from rtl.errors import InputError


def squared(point):
    with Path(point["log"]).open("a") as log:
        log.write(f"{point['number']}\n")
    if point["number"] < 0:
        raise InputError("a number must not be negative: it is; use another")
    return {"square": point["number"] ** 2}


def dying_once(point):
    """The worker that gets number 3 first is killed as if from outside."""
    mark = Path(point["log"]).with_suffix(".died")
    if point["number"] == 3 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return squared(point)


def always_dying(point):
    os.kill(os.getpid(), signal.SIGKILL)


def slowly_squared(point):
    time.sleep(0.1)
    return squared(point)
