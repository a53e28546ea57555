"""A long call as a person watches it: a line per finished part on stderr, with percent and time left."""

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abi.api.progress import Course

CLEAR = "\r\033[K"
"""What takes back the last, unfinished line of a terminal."""
EVERY_S = 0.2
"""Between two looks at a part that is going on."""


class Watcher:
    """What `abi.api.progress.watched` is given; a terminal also shows what is being done now."""

    def __init__(self) -> None:
        self.stream = sys.stderr
        self.shown = time.perf_counter()

    def __call__(self, course: "Course", said: str | None) -> None:
        """Show where a call is. Args: said: a finished part or a remark; None: nothing is finished."""
        now, terminal = time.perf_counter(), self.stream.isatty()
        if said is not None:
            self.stream.write(f"{CLEAR if terminal else ''}{_line(course, said)}\n")
        elif not terminal or now - self.shown < EVERY_S:
            return
        if terminal:
            self.shown, (done, of) = now, course.steps
            step = f", step {done} of {of}" if of else ""
            columns = os.get_terminal_size(self.stream.fileno()).columns
            self.stream.write(f"{CLEAR}{_line(course, course.now + step)}"[: columns + len(CLEAR) - 1])
        self.stream.flush()

    def end(self) -> None:
        """Take back the unfinished line."""
        if self.stream.isatty():
            self.stream.write(CLEAR)
            self.stream.flush()


def _line(course: "Course", text: str) -> str:
    """Return percent, seconds so far, time left and what is done."""
    so_far, left = duration(time.perf_counter() - course.began), course.seconds_left()
    return (
        f"{course.percent():3.0f} %  {so_far:>7}  {f'about {duration(left)} left' if left >= 0.5 else '':<17}  {text}"
    )


def duration(seconds: float) -> str:
    """Return seconds in words for people."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
