"""Whether two runs of a claim agree: `IDENTICAL`, `EQUIVALENT`, `SAME VERDICT` or `DIFFERENT` (`abi verify --against`).

Training amplifies the last bits in which two processors differ, so figures of two honest runs are not equal. Two runs
are equivalent where the verdict is the same word, every contrast's mean lies inside the other run's interval, and no
arm's figure is further off than `TOLERANCE`. Intervals are over documents and seeds. A backbone that is built again on
another processor is another backbone, and no interval covers that (`benchmarks/agreement.csv`): so what says the same
with figures further off has a word of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from abi.audit.record.data import leaves
from abi.audit.results.findings import differences, show
from abi.audit.results.reading import ResultFile
from abi.base.files import Json
from abi.judge.fits import ContrastFound, Figure, Fit, Scope
from abi.judge.results import AnyResult, LadderResult, StudyResult

Word = Literal["IDENTICAL", "EQUIVALENT", "SAME VERDICT", "DIFFERENT"]
WORDS: tuple[Word, ...] = ("IDENTICAL", "EQUIVALENT", "SAME VERDICT", "DIFFERENT")
REPRODUCED: Mapping[Word, str] = {
    "IDENTICAL": "reproduced",
    "EQUIVALENT": "reproduced",
    "SAME VERDICT": "verdicts reproduced, figures not in all",
    "DIFFERENT": "not reproduced",
}
"""The worst word of some claims -> whether a run was reproduced."""
TOLERANCE = 0.05
"""Of an arm's figure, relative to the largest of any arm in that metric."""
BUDGET = ("budget", "training_steps", "d_abi", "backbones", "rounds")
"""What the spec of a verdict says of how its arms were made."""
FOR_READERS = frozenset({"title", "statement", "record", "sees"})
"""What a claim says in words: another wording is no other claim."""


@dataclass(frozen=True)
class Difference:
    """Something in which two runs disagree: the leaf, and what stands in both.

    Args: decides: whether it is the verdict of the claim, at either level, or what was asked.
    """

    leaf: str
    sentence: str
    decides: bool = False


class ArmPair(NamedTuple):
    """A figure of an arm in both runs, and how far apart, relative to the largest of any arm in that metric."""

    fit: str
    arm: str
    scope: Scope
    metric: str
    here: Figure
    there: Figure
    off: float

    @property
    def leaf(self) -> str:
        """Return where the figure stands in a result file."""
        return f"fits/{self.fit}/arms/{self.arm}/{self.scope}/{self.metric}"


@dataclass(frozen=True)
class Agreed:
    """How two runs of a claim agree.

    Args: equal, leaves: figures that are equal bit for bit, of how many; furthest: the largest relative difference of
        an arm's figure; flipped: tests and rules of the original that are answered otherwise; differences: what keeps
        it from being EQUIVALENT, one of a kind, and how many there are of that kind.
    """

    word: Word
    equal: int
    leaves: int
    furthest: float = 0.0
    flipped: int = 0
    differences: tuple[Difference, ...] = ()

    def words(self) -> str:
        """Return the word with what it rests on."""
        if self.word == "IDENTICAL":
            return self.word
        flips = (
            f", {self.flipped} {'tests' if self.flipped > 1 else 'test'} with another answer" if self.flipped else ""
        )
        furthest = f"arms differ by {100 * self.furthest:.2g} % at most"
        return f"{self.word} ({self.equal} of {self.leaves} figures equal, {furthest}{flips})"


def agreed(here: ResultFile, there: ResultFile, tolerance: float = TOLERANCE) -> Agreed:
    """Return how a result agrees with that of another run. Args: tolerance: relative, of an arm's figure."""
    ours, theirs = comparable(here.figures), comparable(there.figures)
    n, unequal = sum(1 for _ in leaves(ours)), len(differences(ours, theirs, tolerance=0.0))
    a, b = here.result, there.result
    found = list(_differences(a, b, tolerance))
    if not unequal and not found:
        return Agreed("IDENTICAL", n, n)
    word: Word = "SAME VERDICT" if found else "EQUIVALENT"
    return Agreed(
        "DIFFERENT" if any(one.decides for one in found) else word,
        max(0, n - unequal),
        n,
        max((pair.off for pair in arm_pairs(a, b)), default=0.0),
        sum(x != y for x, y in _answers(a, b)),
        tuple(found),
    )


def comparable(node: Json) -> Json:
    """Return a result's figures without what names a run (seconds, hashes of rungs) and what a claim says in words."""
    if isinstance(node, list):
        return [comparable(value) for value in node]
    if not isinstance(node, dict):
        return node
    rung, claim = "verdict" in node and "sha256" in node, "statement" in node
    if claim:
        return without_words(node)
    return {
        key: comparable(value) for key, value in node.items() if key != "elapsed_s" and not (rung and key == "sha256")
    }


def without_words(claim: Mapping[str, Json]) -> dict[str, Json]:
    """Return a claim without what it says for readers, its statements without theirs."""
    found = {key: value for key, value in claim.items() if key not in FOR_READERS}
    statements = found.get("statements")
    if not isinstance(statements, dict):
        return found
    asked = {
        name: {key: value for key, value in said.items() if key != "says"} if isinstance(said, dict) else said
        for name, said in statements.items()
    }
    return found | {"statements": asked}


# what must agree


def _differences(a: AnyResult, b: AnyResult, tolerance: float) -> Iterator[Difference]:
    """Yield the first and worst difference of each kind, none where two runs agree."""
    asked, other = _asked(a), _asked(b)
    if changed := differences(asked, other, tolerance=0.0):
        leaf, x, y, _ = changed[0]
        yield Difference(leaf, f"{_both(x, y)}: they were not asked the same", decides=True)
        return
    for leaf, x, y in _verdicts(a, b):
        if x != y:
            yield Difference(leaf, f"{x} here, {y} there", decides=leaf in ("verdict", "verdict_at_strict_level"))
    outside = [(leaf, x, y) for leaf, x, y in _contrasts(a, b) if not (_inside(x, y) and _inside(y, x))]
    if outside:
        leaf, x, y = max(outside, key=lambda found: _distance(*found[1:]))
        yield Difference(leaf, f"{x.contrast} is {_told(x)} here and {_told(y)} there{_more(len(outside))}")
    far = [pair for pair in arm_pairs(a, b) if pair.off > tolerance]
    if far:
        worst = max(far, key=lambda pair: pair.off)
        apart = f"{worst.here.mean:.4g} here, {worst.there.mean:.4g} there, {100 * worst.off:.2g} % apart"
        yield Difference(worst.leaf, apart + _more(len(far)))
    yield from _laws(a, b)


def _both(here: Json, there: Json) -> str:
    """Return what stands here and there; of two lists what only one of them has."""
    if not (isinstance(here, list) and isinstance(there, list)):
        return f"{show(here)} here, {show(there)} there"
    alone = {"here": [x for x in here if x not in there], "there": [x for x in there if x not in here]}
    told = [f"{', '.join(map(str, items))} only {place}" for place, items in alone.items() if items]
    return "; ".join(told) or "the same in another order"


def _asked(result: AnyResult) -> dict[str, Json]:
    """Return what a result was asked: claim, protocol, scale, budget; arms, tests and seeds of each study."""
    claim = without_words(result.claim.plain())
    studies: dict[str, Json] = {
        name: {
            "arms": sorted(fit.arms),
            "contrasts": [contrast.id for _, contrast in fit.contrasts()],
            "seeds": list(fit.counts.seeds),
            "documents": dict(fit.counts.documents),
        }
        for name, fit in result.studies.items()
    }
    rungs: list[Json] = [rung.id for rung in result.rungs] if isinstance(result, LadderResult) else []
    asked: dict[str, Json] = {"claim": claim, "protocol": result.protocol, "scale": result.scale}
    spec = result.provenance.spec
    asked |= {key: spec[key] for key in BUDGET if key in spec}
    return asked | {"fits": studies, "rungs": rungs}


def _verdicts(a: AnyResult, b: AnyResult) -> Iterator[tuple[str, str, str]]:
    yield "verdict", a.verdict, b.verdict
    yield "verdict_at_strict_level", a.verdict_at_strict_level, b.verdict_at_strict_level
    for name, (x, y) in _fits(a, b).items():
        yield f"fits/{name}/verdict", x.verdict, y.verdict
    if isinstance(a, LadderResult) and isinstance(b, LadderResult):
        for i, (ours, theirs) in enumerate(zip(a.rungs, b.rungs, strict=True)):
            yield f"rungs/{i}/verdict", ours.verdict, theirs.verdict


def _fits(a: AnyResult, b: AnyResult) -> dict[str, tuple[Fit, Fit]]:
    return {name: (fit, b.studies[name]) for name, fit in a.studies.items() if name in b.studies}


def _contrasts(a: AnyResult, b: AnyResult) -> Iterator[tuple[str, ContrastFound, ContrastFound]]:
    for name, (x, y) in _fits(a, b).items():
        for (leaf, ours), (_, theirs) in zip(x.contrasts(), y.contrasts(), strict=False):
            yield f"fits/{name}/{leaf}", ours, theirs


def _inside(found: ContrastFound, other: ContrastFound) -> bool:
    """Return whether a mean lies inside the other run's interval, or there is none."""
    return other.interval is None or other.interval.lower <= found.mean <= other.interval.upper


def _distance(found: ContrastFound, other: ContrastFound) -> float:
    half = max((x.interval.half for x in (found, other) if x.interval), default=0.0)
    return abs(found.mean - other.mean) / half if half else 0.0


def _told(found: ContrastFound) -> str:
    ends = f" [{found.interval.lower:.3g}, {found.interval.upper:.3g}]" if found.interval else ""
    return f"{found.mean:.3g}{ends}"


def _more(n: int) -> str:
    return f" ({n - 1} more of this kind)" if n > 1 else ""


def arm_pairs(a: AnyResult, b: AnyResult) -> Iterator[ArmPair]:
    """Yield every figure of an arm on held-out text that both runs have.

    The size of a difference is that of the largest figure of any arm in that metric: an entropy difference near zero is
    not judged by itself.
    """
    scopes: tuple[Scope, ...] = ("domain", "general")
    for name, (x, y) in _fits(a, b).items():
        for scope in scopes:
            pairs = {
                (arm, metric): (figure, y.arms[arm].of(scope)[metric])
                for arm in sorted(x.arms.keys() & y.arms.keys())
                for metric, figure in x.arms[arm].of(scope).items()
                if metric in y.arms[arm].of(scope)
            }
            size: dict[str, float] = {}
            for (_, metric), (ours, theirs) in pairs.items():
                size[metric] = max(size.get(metric, 0.0), abs(ours.mean), abs(theirs.mean))
            for (arm, metric), (ours, theirs) in pairs.items():
                off = abs(ours.mean - theirs.mean) / size[metric] if size[metric] else 0.0
                yield ArmPair(name, arm, scope, metric, ours, theirs, off)


def _laws(a: AnyResult, b: AnyResult) -> Iterator[Difference]:
    """Yield where the exponent of a law lies outside the other run's interval."""
    if not (isinstance(a, StudyResult) and isinstance(b, StudyResult) and a.law and b.law):
        return
    for x, y in ((a.law, b.law), (b.law, a.law)):
        gamma, ends = (x.coefficients or {}).get("gamma"), y.gamma_interval
        if gamma is not None and ends and not ends[0] <= gamma <= ends[1]:
            yield Difference(
                "law/gamma_interval", f"an exponent of {gamma:.3g}, [{ends[0]:.3g}, {ends[1]:.3g}] otherwise"
            )
            return


def _answers(a: AnyResult, b: AnyResult) -> Iterator[tuple[bool, bool]]:
    """Yield whether a test or a rule of the original passed, here and there."""
    pairs = [(x.tests, y.tests) for x, y in _fits(a, b).values()]
    for ours, theirs in [*pairs, (getattr(a, "checks", []), getattr(b, "checks", []))]:
        passed = {one.id: one.passed for one in theirs}
        yield from ((one.passed, passed[one.id]) for one in ours if one.id in passed)


def overall(found: Mapping[str, Agreed]) -> Word:
    """Return one word for all claims, of which there is one or more: the worst of theirs."""
    return max((one.word for one in found.values()), key=WORDS.index)


def together(found: Mapping[str, Agreed]) -> str:
    """Return one line for all claims: how many are of each word, and so whether the run was reproduced."""
    counts = {word: sum(one.word == word for one in found.values()) for word in WORDS}
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f"{REPRODUCED[overall(found)]}: {told}" if found else "not compared: the two runs have no claim in common"
