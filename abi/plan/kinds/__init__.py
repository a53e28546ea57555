"""The kinds of claims: every file of this folder that names `GIVEN` (the claim as it is given) and `JOBS` is one."""

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union

from pydantic import Field, create_model

from abi.base.catalogue import KINDS
from abi.plan.claims import ClaimId, Claims

if TYPE_CHECKING:
    from abi.plan.kinds.base import Planned
    from abi.plan.specs.judge import ClaimSaid


class Kind(NamedTuple):
    """What a kind's file names."""

    given: "type[ClaimSaid]"
    jobs: "type[Planned[Any]]"


@functools.cache
def kinds() -> dict[str, Kind]:
    """Return kind -> what its file names, in the order of the catalogue."""
    found, order = {}, list(KINDS)
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    for name in sorted(files, key=lambda name: (order.index(name) if name in KINDS else len(order), name)):
        module = importlib.import_module(f"{__name__}.{name}")
        if hasattr(module, "JOBS"):
            found[name] = Kind(module.GIVEN, module.JOBS)
    return found


@functools.cache
def claims_model() -> type[Claims]:
    """Return the model of `config/claims.yaml`: a claim is one of the kinds there are."""
    given: Any = Union[tuple(dict.fromkeys(kind.given for kind in kinds().values()))]  # noqa: UP007
    table: Any = dict[ClaimId, Annotated[given, Field(discriminator="kind")]]
    about = Claims.model_fields["claims"].description
    return create_model("Claims", __base__=Claims, claims=(table, Field(description=about)))
