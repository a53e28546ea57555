"""One verdict of several rungs or studies, and the headline that counts claims (protocol sections 4 and 6)."""

from collections.abc import Mapping, Sequence

from abi.base.errors import EvidenceError
from abi.base.page_manifests import Headline
from abi.judge.results import Rung
from abi.plan.specs.judge import Criteria


def of_several(words: Sequence[str], refuted: bool) -> str:
    """Return the verdict of several rungs or studies.

    Args: words: of each; refuted: whether one is refuted at the stricter level.
    """
    if refuted:
        return "REFUTED"
    same = words[0] if set(words) == {words[0]} else ""
    return same if same in {"SUPPORTED", "VACUOUS"} else "INCONCLUSIVE"


def judge_rungs(rungs: Sequence[Rung]) -> dict[str, str]:
    """Return verdict, reason and verdict at the strict level of a claim about several others.

    SUPPORTED if every rung is; REFUTED if one rung is at the strict level, since one of several is refuted by luck more
    often than one alone; VACUOUS if every rung is; else INCONCLUSIVE.
    """
    words, strict = [r.verdict for r in rungs], [r.verdict_at_strict_level for r in rungs]
    refuted = [r for r in rungs if r.verdict_at_strict_level == "REFUTED"]
    short = [r for r in rungs if r.verdict != "SUPPORTED"]
    if not short:
        reason = f"all {len(rungs)} rungs are SUPPORTED"
    else:
        first = (refuted or short)[0]
        counted = f"{len(rungs) - len(short)} of {len(rungs)} rungs are SUPPORTED"
        reason = f"{counted}; {first.id} is {first.verdict}: {first.reason}"
    found = {"verdict": words, "verdict_at_strict_level": strict}
    return {"reason": reason, **{key: of_several(said, bool(refuted)) for key, said in found.items()}}


def strict_level(criteria: Criteria, n_claims: int) -> float:
    """Return the level 1 - alpha / m of the intervals of a headline that counts m claims."""
    return 1 - (1 - criteria.level) / n_claims


def headline(
    verdicts: Mapping[str, str], strict: Mapping[str, str], criteria: Criteria, n_claims: int | None = None
) -> Headline:
    """Return "k of m SUPPORTED", and how many stay so with intervals of `strict_level`.

    Args: verdicts: claim -> verdict at the criteria's level; strict: the same claims, judged at the strict level.
        n_claims: how many claims that level was made for, at least as many as are counted; if None, just those.
    Raises: EvidenceError: the two do not hold the same claims, or none, or the level is for fewer.
    """
    if not verdicts or set(verdicts) != set(strict):
        raise EvidenceError("headline: both sets of verdicts must hold the same claims, at least one")
    total = len(verdicts)
    if n_claims is not None and n_claims < total:
        raise EvidenceError(f"headline: a level for {n_claims} claims is too low for {total}; judge them again")
    level = strict_level(criteria, n_claims or total)
    supported = sorted(name for name, verdict in verdicts.items() if verdict == "SUPPORTED")
    staying = [name for name in supported if strict[name] == "SUPPORTED"]
    stay = f"{len(staying)} of {total} stay SUPPORTED with intervals of {level:.5g}"
    sentence = f"{len(supported)} of {total} claims SUPPORTED; {stay}"
    return Headline(sentence=sentence, n=total, supported=supported, level=level, stay_supported=staying)
