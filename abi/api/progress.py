"""How far a long call is: its parts by kind, what they should take, and what whoever watches is told.

What is left is foreseen from arithmetic (numbers multiplied), and corrected by how long finished parts of the same kind
took here.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

SPEED = 2e10
"""Multiplications and additions per second of a machine that nothing is known of."""
STEP_S = 2e-3
"""Seconds that a step of training takes however small it is."""
FORWARD, BOTH = 2, 6
"""Operations per number of a model and token: forwards, and forwards and backwards."""


@dataclass
class Course:
    """The parts of a call, in seconds by kind: foreseen and still to come, foreseen and done, spent.

    Args: show: called whenever something was done; `said`: a line for whoever watches, None for a step of a part.
    """

    show: Callable[["Course", str | None], None]
    left: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    foreseen: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    now: str = ""
    """The part that is being done."""
    steps: tuple[int, int] = (0, 0)
    """Steps of it that are done, and all of them."""
    began: float = field(default_factory=time.perf_counter)

    def seconds_left(self) -> float:
        """Return what the rest should take."""
        whole = sum(self.foreseen.values())
        pace = sum(self.spent.values()) / whole if whole else 1.0
        rates = {kind: self.spent[kind] / done for kind, done in self.foreseen.items() if done}
        return sum(seconds * rates.get(kind, pace) for kind, seconds in self.left.items())

    def percent(self) -> float:
        """Return how much of the time is over, 0 before anything is foreseen."""
        if not (any(self.left.values()) or any(self.foreseen.values())):
            return 0.0
        over, left = time.perf_counter() - self.began, self.seconds_left()
        return 100 * over / (over + left) if left else 100.0

    def finish(self, kind: str, seconds: float, took: float) -> None:
        """Count a part as done. Args: seconds: foreseen; took: spent."""
        self.left[kind] = max(0.0, self.left[kind] - seconds)
        self.foreseen[kind] += seconds
        self.spent[kind] += took


_COURSE: ContextVar[Course | None] = ContextVar("course", default=None)


class _Steps(logging.Handler):
    """Hears from the training loop and from passes over text how many steps are done (`base.job.progress`)."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.course = course

    def emit(self, record: logging.LogRecord) -> None:
        """Note `step i/n`, and pass on what the user is warned of."""
        if record.levelno >= logging.WARNING:
            self.course.show(self.course, record.getMessage())
        elif isinstance(record.args, tuple) and str(record.msg).startswith("step %d/%d"):
            self.course.steps = int(str(record.args[0])), int(str(record.args[1]))
            self.course.show(self.course, None)


@contextmanager
def watched(show: Callable[[Course, str | None], None]) -> Iterator[Course]:
    """Run a block, and tell `show` of its parts."""
    course, log = Course(show), logging.getLogger("abi")
    handler, level, propagates = _Steps(course), log.level, log.propagate
    token = _COURSE.set(course)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield course
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates
        _COURSE.reset(token)


def expect(**seconds: float) -> None:
    """Foresee parts: kind -> seconds of all of them."""
    course = _COURSE.get()
    if course is not None:
        for kind, own in seconds.items():
            course.left[kind] += own


def say(text: str) -> None:
    """Tell whoever watches something that is no part."""
    course = _COURSE.get()
    if course is not None:
        course.show(course, text)


def warn(text: str) -> None:
    """Tell whoever watches, or else the log, of something that the caller should know and may go on with."""
    if _COURSE.get() is None:
        logging.getLogger("abi").warning(text)
    else:
        say(text)


@contextmanager
def part(kind: str, words: str, seconds: float) -> Iterator[None]:
    """Run a block as a part of a call. Args: words: what it is; seconds: foreseen, as in `expect`."""
    course = _COURSE.get()
    if course is None:
        yield
        return
    course.now, course.steps = words, (0, 0)
    course.show(course, None)
    began = time.perf_counter()
    yield
    course.finish(kind, seconds, time.perf_counter() - began)
    course.show(course, words)


def pass_seconds(n_parameters: int, tokens: int, operations: int = FORWARD) -> float:
    """Return what running a model over some tokens should take."""
    return operations * n_parameters * tokens / SPEED


def fit_seconds(steps: int, positions: int, head: tuple[int, int], members: int = 1) -> float:
    """Return what training on stored states should take. Args: head: `V, D`; members: that are trained together."""
    return steps * (STEP_S + members * BOTH * positions * head[0] * head[1] / SPEED)
