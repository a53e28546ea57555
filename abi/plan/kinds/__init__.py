"""The kinds of claims, found by their place: every file of this folder may name some in `PLANNED`."""

import functools
import importlib
import pkgutil
from typing import Annotated, Any, NamedTuple, Union

from pydantic import Field, create_model

from abi.base.regimes import KINDS
from abi.plan.kinds.base import ClaimId, Claims, Planned
from abi.plan.specs.judge import ClaimSaid


class PlannedKind(NamedTuple):
    """A kind of claim: the model of one as it is given, and what its jobs depend on."""

    given: type[ClaimSaid]
    jobs: type[Planned[Any]]


@functools.cache
def kinds() -> dict[str, PlannedKind]:
    """Return kind -> what its file says of it, in the order of `KINDS`."""
    found: dict[str, PlannedKind] = {}
    for file in pkgutil.iter_modules(__path__):
        planned = getattr(importlib.import_module(f"{__name__}.{file.name}"), "PLANNED", {})
        found |= {name: PlannedKind(*entry) for name, entry in planned.items()}
    return {name: found[name] for name in [*KINDS, *sorted(found)] if name in found}


@functools.cache
def claims_model() -> type[Claims]:
    """Return the model of `config/claims.yaml`: a claim is one of the kinds there are."""
    given: Any = Union[tuple(dict.fromkeys(kind.given for kind in kinds().values()))]  # noqa: UP007
    table: Any = dict[ClaimId, Annotated[given, Field(discriminator="kind")]]
    return create_model("Claims", __base__=Claims, claims=(table, ...))
