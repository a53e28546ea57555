"""Does a stored verdict follow from the file's own figures: contrasts, intervals, flags, verdict word and reason."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from abi.audit.results.findings import MEAN_SQUARES, Checks, lookup, show
from abi.audit.results.questions import STUDIES, Asked, Question, Way, asked, roles_of, study_roles

Record = Mapping[str, Any]


class Decision:
    """Checks one fit of a result: its tests, refutations, vacuousness, secondary metrics, verdict and reason."""

    def __init__(self, checks: Checks, result: Record, fit: str) -> None:
        self.checks, self.root, self.fit = checks, f"fits/{fit}", result["fits"][fit]
        spec = result["provenance"]["spec"]
        self.criteria = spec["protocol"]["criteria"]
        claim = spec["claim"]
        self.kind, self.regime = claim["kind"], claim.get("regime")
        self.arms, self.level = self.fit["arms"], self.criteria["level"]
        self.roles = study_roles(claim, fit) if self.kind in STUDIES else roles_of(self.kind, self.regime, self.arms)
        self.asked: Asked = asked(self.kind, self.regime, self.roles, self.criteria)
        self.seen: dict[tuple[Any, ...], float] = {}

    def check(self) -> None:
        """Check everything the verdict of this fit rests on."""
        say, fit = self.checks.equal, self.fit
        say(f"{self.root}/kind", fit["kind"], self.kind, "the claim")
        regime = self.regime if self.kind == "transfer" else None
        say(f"{self.root}/regime", fit["regime"], regime, "the claim")
        say(f"{self.root}/level", fit["level"], self.level, "the protocol")
        say(f"{self.root}/primary_metric", fit["primary_metric"], self.asked.metric, "the protocol")
        counts = fit["counts"]
        scopes = {question.scope for question in self.asked.tests}
        groups, seeds = min(counts["groups"][scope] for scope in scopes), len(counts["seeds"])
        if groups < self.criteria["min_groups"] or seeds < self.criteria["min_seeds"]:
            self.too_few(groups, seeds)
        else:
            self.decided()

    def too_few(self, groups: int, seeds: int) -> None:
        """Check the record of a study that is too small for intervals."""
        least = f"{self.criteria['min_groups']} groups and {self.criteria['min_seeds']} seeds are needed"
        reason = f"{groups} groups and {seeds} seeds are too few for an interval; {least}"
        empty: dict[str, Any] = {
            "verdict": "INCONCLUSIVE",
            "reason": reason,
            "refutations": [],
            "vacuous": [],
            "share": None,
        }
        empty |= {"gap_closure": None, "gap_closures": {}, "resolvable_gap": None, "secondary": {}}
        for key, value in empty.items():
            self.checks.equal(f"{self.root}/{key}", self.fit[key], value, "a study this small")
        for leaf, question, stored in self.pairs("tests", self.asked.tests):
            self.contrast(leaf, question, stored)
            for key, value in (("interval", None), ("limit", None), ("passed", False)):
                self.checks.equal(f"{leaf}/{key}", stored[key], value, "a study this small")

    def decided(self) -> None:
        """Check tests, refutations, vacuousness, secondary metrics; then the word and the sentence they give."""
        passed = self.tests("tests", self.asked.tests)
        refuted = self.ways("refutations", self.asked.ways, self.fit["tests"])
        vacuous = [
            self.outcome(leaf, question, stored, self.level, "holds")
            for leaf, question, stored in self.pairs("vacuous", self.asked.vacuous)
        ]
        self.checks.equal(
            f"{self.root}/secondary", sorted(self.fit["secondary"]), sorted(self.asked.secondary), "the protocol"
        )
        elsewhere = [self.secondary(metric) for metric in self.asked.secondary]
        supported = passed and not any(elsewhere)
        word = "VACUOUS" if any(vacuous) else "REFUTED" if refuted else "SUPPORTED" if supported else "INCONCLUSIVE"
        self.checks.equal(
            f"{self.root}/verdict", self.fit["verdict"], word, "the protocol's rule on the stored intervals"
        )
        self.checks.equal(
            f"{self.root}/reason", self.fit["reason"], self.reason(word), "the stored figures as a sentence"
        )

    def secondary(self, metric: str) -> bool:
        """Check a reported metric; return whether it is refuted."""
        tests, ways = self.asked.secondary[metric]
        self.tests(f"secondary/{metric}/tests", tests)
        stored = self.fit["secondary"][metric]
        refuted = self.ways(f"secondary/{metric}/refutations", ways, stored["tests"])
        self.checks.equal(f"{self.root}/secondary/{metric}/refuted", stored["refuted"], refuted, "its refutations")
        return refuted

    def pairs(self, place: str, questions: Sequence[Question], inside: str = "") -> list[tuple[str, Question, Record]]:
        """Return (leaf, question, what is stored) of a list; name it where it does not hold the protocol's questions."""
        leaf = f"{self.root}/{place}{inside}"
        stored = lookup(self.fit, f"{place}{inside}")
        ids, expected = [item["id"] for item in stored], [question.id for question in questions]
        if ids != expected:
            self.checks.add(leaf, f"holds {show(ids)}, the protocol asks {show(expected)}")
        by_id = {question.id: question for question in questions}
        known = [(f"{leaf}/{i}", item) for i, item in enumerate(stored) if item["id"] in by_id]
        return [(place, by_id[item["id"]], item) for place, item in known]

    def tests(self, place: str, questions: Sequence[Question]) -> bool:
        """Check a list of tests; return whether every required one passes by its interval and limit."""
        found = [
            (question.required, self.outcome(leaf, question, stored, self.level, "passed"))
            for leaf, question, stored in self.pairs(place, questions)
        ]
        return all(holds for required, holds in found if required) and len(found) == len(questions)

    def ways(self, place: str, ways: Sequence[Way], tests: Sequence[Record]) -> bool:
        """Check a list of refutations; return whether one holds by its intervals and limits."""
        leaf, stored = f"{self.root}/{place}", lookup(self.fit, place)
        self.checks.equal(f"{leaf}/id", [item["id"] for item in stored], [way.id for way in ways], "the protocol")
        sensitive = all(above(item) for item in tests if item["id"].startswith("1."))
        held = [
            self.way(f"{place}/{i}", way, item, sensitive)
            for i, (way, item) in enumerate(zip(ways, stored, strict=False))
        ]
        return any(held)

    def way(self, place: str, way: Way, stored: Record, sensitive: bool) -> bool:
        """Check one refutation; return whether it holds."""
        leaf, level = f"{self.root}/{place}", 1 - (1 - self.level) / len(way.questions)
        self.checks.equal(f"{leaf}/level", stored["level"], level, "the level divided by the number of contrasts")
        found = [
            self.outcome(at, question, item, level, "holds")
            for at, question, item in self.pairs(place, way.questions, "/contrasts")
        ]
        applies = way.needs_sensitive is None or way.needs_sensitive == sensitive
        self.checks.equal(f"{leaf}/applies", stored["applies"], applies, "the sensitivity tests")
        self.checks.equal(f"{leaf}/holds", stored["holds"], applies and any(found), "its contrasts")
        return applies and any(found)

    def outcome(self, leaf: str, question: Question, stored: Record, level: float, verb: str) -> bool:
        """Check one contrast with its interval, limit and flag; return the flag its interval and limit give."""
        self.contrast(leaf, question, stored)
        bounds, counts = stored["interval"], self.fit["counts"]
        mean, half = bounds["mean"], bounds["half"]
        size = max(abs(bounds["lower"]), abs(bounds["upper"]))
        say = self.checks.equal
        say(f"{leaf}/interval/mean", mean, stored["mean"], "the mean beside it", scale=size)
        say(f"{leaf}/interval/lower", bounds["lower"], mean - half, "mean - half", scale=size)
        say(f"{leaf}/interval/upper", bounds["upper"], mean + half, "mean + half", scale=size)
        say(f"{leaf}/interval/n_groups", bounds["n_groups"], counts["groups"][question.scope], "the counts")
        say(f"{leaf}/interval/n_seeds", bounds["n_seeds"], len(counts["seeds"]), "the counts")
        say(f"{leaf}/interval/level", bounds["level"], level, "the protocol")
        self.checks.holds(f"{leaf}/interval/half", half >= 0, f"{half} is negative")
        key = (question.metric, question.scope, tuple(sorted(question.weights.items())), level)
        say(f"{leaf}/interval/half", half, self.seen.setdefault(key, half), "the same contrast elsewhere in the file")
        self.mean_squares(leaf, question, bounds)
        raw = self.arms["raw"][question.scope][question.metric]["mean"]
        say(f"{leaf}/limit", stored["limit"], question.margin * abs(raw), "the protocol's margin and raw's mean")
        holds = above(stored) if verb == "passed" else below(stored, closed=question.closed)
        say(f"{leaf}/{verb}", stored[verb], holds, "interval and limit")
        return holds

    def mean_squares(self, leaf: str, question: Question, bounds: Record) -> None:
        """Check MSS by the seeds' means of the arms, and all three by the same contrast elsewhere (at any level)."""
        if not set(MEAN_SQUARES) & set(bounds):
            return
        arms = {arm: self.arms[arm][question.scope][question.metric]["per_seed"] for arm in question.weights}
        seeds = [
            sum(weight * arms[arm][str(seed)] for arm, weight in question.weights.items())
            for seed in self.fit["counts"]["seeds"]
        ]
        size = max(abs(value) for values in arms.values() for value in values.values())
        check_mss(self.checks, f"{leaf}/interval", bounds, seeds, bounds["n_groups"], size)
        key = (question.metric, question.scope, tuple(sorted(question.weights.items())), "mean squares")
        for name in MEAN_SQUARES:
            first = self.seen.setdefault((*key, name), bounds[name])
            self.checks.equal(f"{leaf}/interval/{name}", bounds[name], first, "the same contrast elsewhere in the file")

    def contrast(self, leaf: str, question: Question, stored: Record) -> None:
        """Check what is asked, and the mean as a weighted sum of the arms' means."""
        better_low = "top" not in question.metric
        about = {"contrast": question.words(), "metric": question.metric, "scope": question.scope}
        for key, value in (about | {"turned": better_low, "required": question.required}).items():
            self.checks.equal(f"{leaf}/{key}", stored[key], value, "the protocol")
        means = {arm: self.arms[arm][question.scope][question.metric]["mean"] for arm in question.weights}
        total = sum(weight * means[arm] for arm, weight in question.weights.items())
        size = max(abs(mean) for mean in means.values())
        expected = -total if better_low else total
        self.checks.equal(f"{leaf}/mean", stored["mean"], expected, "the arms' means", scale=size)

    def reason(self, word: str) -> str:
        """Return the sentence that the stored figures give for a verdict word."""
        fit, asks = self.fit, self.asked
        if word == "VACUOUS":
            found = next((q, s) for _, q, s in self.pairs("vacuous", asks.vacuous) if below(s, closed=q.closed))
            return "nothing to transfer: " + figure(*found)
        if word == "REFUTED":
            i = next(i for i, item in enumerate(fit["refutations"]) if item["holds"])
            pairs = self.pairs(f"refutations/{i}", asks.ways[i].questions, "/contrasts")
            return f"({asks.ways[i].id}) " + figure(*next((q, s) for _, q, s in pairs if below(s, closed=q.closed)))
        required = [(q, s) for _, q, s in self.pairs("tests", asks.tests) if q.required]
        if word == "SUPPORTED":
            weakest = min(required, key=lambda pair: (pair[1]["mean"] - pair[1]["limit"]) / pair[1]["interval"]["half"])
            whole = any(question.id.startswith("6.") for question in asks.tests)
            words = "tests 0 to 7 hold" if whole else "every required test holds"
            return f"{words}, the closest is {figure(*weakest)}; share {fit['share']['estimate']:.3g}"
        gap = fit["resolvable_gap"]
        could = (
            f"this study could have resolved a gap {gap['contrast']} of {gap['gap']:.3g} in {gap['metric']} "
            f"({gap['standard_errors']:.3g} standard errors with {gap['n_seeds']} seeds)"
        )
        failed = next(((q, s) for q, s in required if not above(s)), None)
        if failed is not None:
            return f"test {figure(*failed)} is not shown to be above its limit; {could}"
        return f"tests 0 to 7 hold, but {self.elsewhere()}; {could}"

    def elsewhere(self) -> str:
        """Return which reported metric is refuted, by what."""
        for metric, (_, ways) in self.asked.secondary.items():
            for i, item in enumerate(self.fit["secondary"][metric]["refutations"]):
                if item["holds"]:
                    return (
                        f"{metric} is refuted by ({item['id']}): {figure(ways[i].questions[0], item['contrasts'][0])}"
                    )
        return "no reported metric is refuted"


def check_mss(checks: Checks, leaf: str, stored: Record, seeds: Sequence[float], n_groups: int, size: float) -> None:
    """Check the mean square of seeds: groups x variance of the seeds' means. Args: size: of what was averaged."""
    spread = statistics.stdev(seeds)
    scale = n_groups * size * (spread + 1e-9 * size)
    checks.equal(f"{leaf}/mss", stored["mss"], n_groups * spread**2, "the seeds' means", scale=scale)
    good = all(stored[name] >= 0 for name in MEAN_SQUARES)
    checks.holds(f"{leaf}/mse", good, "a mean square is negative")


def standard_error(bounds: Record) -> float:
    """Return the standard error of a mean from its interval's mean squares: `half` with both quantiles at 1."""
    variance = bounds["msd"] + max(bounds["mss"] - bounds["mse"], 0.0)
    return math.sqrt(variance / (bounds["n_groups"] * bounds["n_seeds"]))


def above(stored: Record) -> bool:
    """Return whether a lower bound is above its limit."""
    return stored["interval"]["mean"] - stored["interval"]["half"] > stored["limit"]


def below(stored: Record, *, closed: bool) -> bool:
    """Return whether an upper bound is below its limit (or at it, where the question is closed)."""
    upper = stored["interval"]["mean"] + stored["interval"]["half"]
    return upper <= stored["limit"] if closed else upper < stored["limit"]


def figure(question: Question, stored: Record) -> str:
    """Return one contrast with its figures as the result file words it."""
    bounds = stored["interval"]
    limit = f", limit {stored['limit']:.3g}" if question.margin else ""
    turned = ", sign turned" if "top" not in question.metric else ""
    figures = f"{bounds['mean']:.3g} [{bounds['lower']:.3g}, {bounds['upper']:.3g}] at {bounds['level']:.6g}"
    return f"{question.id}: {question.words()} = {figures}{limit} ({question.metric} on {question.scope}{turned})"
