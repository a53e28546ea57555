"""What a run shows, in sentences made of its results: three for the first screen of the README, more for who reads on.

A point stands only where its claims were run (`templates/short.md.j2`, `found.md.j2`, `known.md.j2`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from abi.base.names import NO_DOMAIN, ORACLE, RAW, SOURCE_ALONE, TRANSFERRED
from abi.base.regimes import EXPERIMENT, transfer_regimes
from abi.base.wording import number
from abi.judge.fits import Fit, Ratio
from abi.judge.protocol import BESIDE_TAUGHT, BPB, HARM
from abi.judge.results import AnyResult, Result, StudyResult
from abi.report.ngrams import Rival, measured
from abi.report.render import figure, listed, percent
from abi.report.replicates import Replicated, ahead_of_placebos, led_when_rebuilt
from abi.report.statements import like_aligned, rows_of
from abi.report.templates import fill
from abi.report.transfers import bits, lacking_without_net, moved_of, source_is_better
from abi.report.words import strictly_words

RECIPE = "r.recipe.js_nats.direct"
BARE_IN_JS = f"4.attribution.js_nats.{NO_DOMAIN}"


class Recipe(NamedTuple):
    """In how many of n transfers the recipe of the record leads a fresh module, and by how much, in JS."""

    ahead: int
    n: int
    leads: Sequence[float]

    @property
    def shown(self) -> str:
        """In how many of them it is, before what it is."""
        return shown_words(self.ahead, self.n)

    @property
    def by(self) -> str:
        """How much better or worse it is."""
        best, worst = max(self.leads), min(self.leads)
        if best < 0 or worst >= 0:
            return f"{'better' if best >= 0 else 'worse'} by {span([abs(lead) for lead in self.leads])}"
        return f"from {figure(-worst)} worse to {figure(best)} better"


class Moved(NamedTuple):
    """In how many of n transfers the moved net leads its placebos, in JS and in bits per byte; shares are in JS.

    Args: rebuilt: where it leads on backbones from other pretraining seeds alone, in a sentence; or "".
    """

    ahead: int
    n: int
    ahead_in_bits: int
    shares: Sequence[float]
    rebuilt: str

    @property
    def shown(self) -> str:
        """In how many of them it is, before what it is."""
        return shown_words(self.ahead, self.n)


class Harm(NamedTuple):
    """How many bits per byte worse general text gets: with the moved module, and with one that was trained there."""

    moved: Sequence[float]
    oracle: Sequence[float]


class Portable(NamedTuple):
    """What portable modules do that are placed as they are.

    Args: ahead: how many of n are SUPPORTED; strict: at the strict level; bare: the part of the gain that an interface
        without a net lacks; closed_in_js: gap closures in JS; worse: in how many the module agrees less with the
        reference than that interface.
    """

    ahead: int
    n: int
    strict: int
    closed: Sequence[float]
    shares: Sequence[float]
    bare: Sequence[float]
    closed_in_js: Sequence[float]
    worse: int
    harm: Harm

    @property
    def moves(self) -> str:
        """Whether one moves as it is."""
        return "moves" if self.ahead == self.n else "sometimes moves" if self.ahead else "is not shown to move"

    @property
    def kept(self) -> Sequence[float]:
        """What the interface without a net closes of that which the moved module closes."""
        return [1 - lacks for lacks in self.bare]


class Counted(NamedTuple):
    """How many published claims there are, and how many got each verdict.

    Args: of: how many there are in all, of which `n` were built; supported: which are SUPPORTED; strictly: the counts
        at the strict level.
    """

    n: int
    of: int
    words: str
    supported: str
    strictly: str

    @property
    def built(self) -> str:
        """How many were built, where others were not."""
        return "" if self.n == self.of else f"{self.n} of which {'was' if self.n == 1 else 'were'} built here, "


class Asked(NamedTuple):
    """What moving is worth where the source can be asked instead, and in how many transfers it is better, in words."""

    worth: str
    counts: str


class Led(NamedTuple):
    """By how much an arm leads another over some transfers, in bits per byte, and in how many of them it is shown."""

    arm: str
    ahead: int
    n: int
    leads: Sequence[float]


class Largest(NamedTuple):
    """The largest dose that a module survives on a text, with the stability term and without, in words."""

    on: str
    held: str
    free: str


class Survived(NamedTuple):
    """What an update claim shows, per text that is updated on."""

    claim: str
    verdict: str
    rows: list[Largest]


def known(results: Sequence[AnyResult], again: Sequence[Replicated] = (), template: str = "known.md.j2") -> str:
    """Return what is known as a Markdown list, a point each. Args: again: what came of claims in rebuilt pairs."""
    moved = moved_of(results)
    of = {name: [r for r in moved if r.claim.regime == name] for name in transfer_regimes()}
    taught = [result.deciding for result in of["oracle-kd"]]
    calibrated = [r.deciding for r in moved if r.verdict == "SUPPORTED" and r.claim.regime != "zero-text"]
    points = {
        "counted": _counted([r for r in results if r.claim.kind != EXPERIMENT and r.claim.record.claim is not None]),
        "recipe": _recipe(taught),
        "moved": _moved(taught, led_when_rebuilt(again, {result.claim.id for result in of["oracle-kd"]})),
        "portable": _portable(of["zero-text"]),
        "rival": Rival(beside) if (beside := measured(of["zero-text"])) else None,
        "harm": _harm(calibrated) if calibrated else None,
        "source": _source(of),
        "few": _led([result.deciding for result in of["few-shot"]]),
        "doses": [result for result in results if result.claim.kind == "dose"],
    }
    return fill(template, span, percent, number, like_aligned, updates=_updates(results), **points).strip()


def found(results: Sequence[AnyResult], again: Sequence[Replicated] = ()) -> str:
    """Return what was found as a Markdown list of five points at most. Args: as of `known`."""
    return known(results, again, "found.md.j2")


def in_short(results: Sequence[AnyResult]) -> str:
    """Return what was found in three sentences at most."""
    return " ".join(known(results, template="short.md.j2").split())


def _counted(published: Sequence[AnyResult]) -> Counted | None:
    found = Counter(result.verdict for result in published)
    if not found:
        return None
    verb = "is" if max(found.values()) == 1 else "are"
    words = listed([f"{count} {word}" for word, count in found.most_common()]).replace(" ", f" {verb} ", 1)
    of = max([len(published), *(int(r.provenance.spec.get("n_claims", 0)) for r in published)])  # the level is for all
    supported = [f"`{result.claim.id}`" for result in published if result.verdict == "SUPPORTED"]
    return Counted(len(published), of, words, f" ({listed(supported)})" if supported else "", strictly_words(published))


def _recipe(fits: Sequence[Fit]) -> Recipe | None:
    found = [test.interval for fit in fits for test in fit.tests if test.id == RECIPE and test.interval is not None]
    return Recipe(sum(one.lower > 0 for one in found), len(found), [one.mean for one in found]) if found else None


def _moved(fits: Sequence[Fit], rebuilt: str) -> Moved | None:
    shares = _estimates(fit.share for fit in fits)
    ahead, in_bits = (sum(bool(ahead_of_placebos(fit, m)) for fit in fits) for m in ("js_nats", BPB.metric))
    return Moved(ahead, len(fits), in_bits, shares, rebuilt) if shares else None


def _portable(results: Sequence[Result]) -> Portable | None:
    fits = [result.deciding for result in results]
    closed, shares = _estimates(fit.gap_closure for fit in fits), _estimates(fit.share for fit in fits)
    if not closed or not shares:
        return None
    in_js = [test.interval for fit in fits for test in fit.secondary["js_nats"].tests if test.id == BARE_IN_JS]
    return Portable(
        ahead=sum(result.verdict == "SUPPORTED" for result in results),
        n=len(results),
        strict=sum(result.verdict_at_strict_level == "SUPPORTED" for result in results),
        closed=closed,
        shares=shares,
        bare=[lacks for fit in fits if (lacks := lacking_without_net(fit)) is not None],
        closed_in_js=[part for fit in fits if (part := _closed_in_js(fit)) is not None],
        worse=sum(one is not None and one.upper < 0 for one in in_js),
        harm=_harm(fits),
    )


def _closed_in_js(fit: Fit) -> float | None:
    """Return the gap closure in JS, a point without an interval: a fit holds those in bits per byte alone."""
    js = {arm: told.domain["js_nats"].mean for arm, told in fit.arms.items() if "js_nats" in told.domain}
    if not {RAW, TRANSFERRED, ORACLE} <= {*js} or js[RAW] <= js[ORACLE]:
        return None
    return (js[RAW] - js[TRANSFERRED]) / (js[RAW] - js[ORACLE])


def _harm(fits: Sequence[Fit]) -> Harm:
    moved = [-test.mean for fit in fits for test in fit.tests if test.id == HARM]
    return Harm(moved, [bits(fit, ORACLE, "general") - bits(fit, RAW, "general") for fit in fits])


def _source(of: Mapping[str, Sequence[Result]]) -> Asked | None:
    """Return in how many transfers of each regime the source itself is better. Args: of: regime -> its transfers."""
    found = {}
    for regime, results in of.items():
        better = [source_is_better(r.deciding) for r in results if SOURCE_ALONE in r.deciding.arms]
        if better:
            found[regime] = (sum(better), len(better))
    ahead, n = (sum(counts) for counts in zip(*found.values(), strict=True)) if found else (0, 0)
    told = listed([f"{k} of {of_these} in `{regime}`" for regime, (k, of_these) in found.items()])
    return Asked(_worth(ahead, n), told) if found else None


def _worth(ahead: int, n: int) -> str:
    """Return what moving is worth where the source itself is ahead so often."""
    return "often pointless" if ahead > n / 2 else "sometimes pointless" if ahead else "not shown to be pointless"


def _led(fits: Sequence[Fit]) -> dict[str, Led]:
    """Return by how much an arm that the source teaches on a few windows leads each arm it is compared with."""
    found = {}
    for arm in BESIDE_TAUGHT:
        asked = [test.interval for fit in fits for test in fit.tests if test.id == f"r.taught.{BPB.metric}.{arm}"]
        there = [one for one in asked if one is not None]
        if there:
            found[arm] = Led(arm, sum(one.lower > 0 for one in there), len(there), [one.mean for one in there])
    return found if len(found) == len(BESIDE_TAUGHT) else {}


def _estimates(ratios: Iterable[Ratio | None]) -> list[float]:
    return [ratio.estimate for ratio in ratios if ratio is not None and ratio.estimate is not None]


def _updates(results: Sequence[AnyResult]) -> list[Survived]:
    """Return what each ladder of updates shows: the largest dose survived, with the stability term and without."""
    found = []
    for result in results:
        if not isinstance(result, StudyResult) or result.claim.kind != "update":
            continue
        told = rows_of(result, "largest-doses")
        rows = [Largest(str(row["updated on"]), _dose(row, "with"), _dose(row, "without")) for row in told]
        found += [Survived(result.claim.id, result.verdict, rows)] if rows else []
    return found


def _dose(row: Mapping[str, object], how: str) -> str:
    steps, rate = row[f"steps {how} the term"], row[f"rate {how} the term"]
    return "none" if steps is None else f"{steps} steps at a rate of {rate}"


def shown_words(ahead: int, n: int) -> str:
    """Return in how many of n something is, before what it is."""
    return "" if ahead == n else "in some transfers " if ahead else "not shown to be "


def span(values: Sequence[float]) -> str:
    """Return the least and greatest of some figures, or the one there is."""
    least, most = figure(min(values)), figure(max(values))
    return least if least == most else f"{least} to {most}"
