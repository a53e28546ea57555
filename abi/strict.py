"""Strict JSON: no NaN, no infinity, no key twice. The one reader of every JSON file (standard library only)."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

Json = Any  # whatever a JSON file may hold


def parse(text: str, *, number: Callable[[str], Any] | None = None) -> Json:
    """Return the JSON value of a text. Args: number: makes a number of its digits, int and float if None.

    Raises: ValueError: not JSON, a key twice, NaN or infinity, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=number, parse_int=number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a figure")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key occurs twice")
    return keys
