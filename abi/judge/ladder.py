"""Verdict of a claim about several others, a ladder of sizes (protocol section 6; standard library only)."""

from collections.abc import Mapping, Sequence


def judge_ladder(rungs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the verdict of a claim about several others (protocol section 6, size ladder).

    SUPPORTED if every rung is; REFUTED if one rung is at the strict level, since one of several is refuted by luck more
    often than one alone; VACUOUS if every rung is; else INCONCLUSIVE.

    Args: rungs: each with `id`, `verdict`, `verdict_at_strict_level` and `reason`.
    """
    words, strict = [r["verdict"] for r in rungs], [r["verdict_at_strict_level"] for r in rungs]
    refuted = [r for r in rungs if r["verdict_at_strict_level"] == "REFUTED"]
    verdict = of_several(words, bool(refuted))
    short = [r for r in rungs if r["verdict"] != "SUPPORTED"]
    if not short:
        reason = f"all {len(rungs)} rungs are SUPPORTED"
    else:
        first = (refuted or short)[0]
        counted = f"{len(rungs) - len(short)} of {len(rungs)} rungs are SUPPORTED"
        reason = f"{counted}; {first['id']} is {first['verdict']}: {first['reason']}"
    return {"verdict": verdict, "reason": reason, "verdict_at_strict_level": of_several(strict, bool(refuted))}


def of_several(words: Sequence[str], refuted: bool) -> str:
    """Return the verdict of several rungs or studies. Args: words: of each; refuted: whether one is at the stricter level."""
    if refuted:
        return "REFUTED"
    same = words[0] if set(words) == {words[0]} else ""
    return same if same in {"SUPPORTED", "VACUOUS"} else "INCONCLUSIVE"
