"""Sweeps of which `make test` runs the beginning and `make test-long` the rest."""

import pytest


def first(n, values):
    """The first n of some parameters as they are, the others marked `long`."""
    values = list(values)
    rest = (pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.long) for v in values[n:])
    return [*values[:n], *rest]
