"""Small parts of sentences that every wing writes: counts, and the name that was meant."""

import difflib
from collections.abc import Iterable


def number(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def nearest(name: str, valid: Iterable[str], cutoff: float = 0.5) -> str:
    """Return the closest valid name; "" where none is alike. Args: cutoff: the least likeness, 0 to 1."""
    return next(iter(difflib.get_close_matches(str(name), list(valid), n=1, cutoff=cutoff)), "")


def closest(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest valid name, or nothing."""
    near = nearest(name, valid)
    return f"; did you mean {near!r}?" if near else ""
