"""Every kind of claim and how it is judged: a file of this folder that names kinds in `JUDGED` is found by itself."""

import functools
import importlib
import pkgutil
from collections.abc import Collection
from typing import TypeVar

from abi.base.errors import EvidenceError
from abi.judge.kind import OfClaims, OfFits, OfStudies
from abi.judge.protocol import Asked
from abi.judge.results import ClaimFacts
from abi.plan.specs.judge import Criteria

Entry = OfFits | OfStudies | OfClaims
Form = TypeVar("Form", OfFits, OfStudies, OfClaims)


@functools.cache
def judged_kinds() -> dict[str, Entry]:
    """Return kind -> how it is judged."""
    files = sorted(item.name for item in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in files]
    return {entry.name: entry for module in modules for entry in module.JUDGED}


def kind_of(name: str, form: type[Form]) -> Form:
    """Return how a kind is judged. Raises: EvidenceError: there is none of this form."""
    entry = judged_kinds().get(name)
    if not isinstance(entry, form):
        known = sorted(name for name, entry in judged_kinds().items() if isinstance(entry, form))
        raise EvidenceError(f"claim: no kind {name!r} is judged this way; there are {', '.join(known)}")
    return entry


def plan_of(claim: ClaimFacts, fit: str, arms: Collection[str], criteria: Criteria) -> Asked:
    """Return what one fit, or one study, of a claim is asked: roles, contrasts, and the measure that decides.

    Args: arms: that there are; a regime without a positive control asks nothing of one that is missing.
    Raises: EvidenceError: claims of this kind are not judged by contrasts.
    """
    entry = judged_kinds().get(claim.kind)
    if isinstance(entry, OfClaims) or entry is None or entry.asked is None:
        raise EvidenceError(f"claim {claim.id}: a {claim.kind} is not judged by contrasts")
    return entry.asked(claim, fit, arms, criteria)
