"""Whether a result file agrees with itself, with the record and with the results beside it, whatever kind it is of."""

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Concatenate, ParamSpec, get_args

from pydantic import ValidationError

from abi.audit.results.findings import NOTE, Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.rejudge import case_again, check_fit, verdict_of_all
from abi.audit.results.robustness import check_robustness
from abi.base.errors import AbiError
from abi.base.files import Json
from abi.base.manifests.pages import Summary
from abi.base.names import AGREEMENT, CLOSED_FORM, UNFITTED
from abi.base.regimes import EXPERIMENT, KINDS, REGIMES
from abi.base.typed import Typed
from abi.judge.fits import Fit
from abi.judge.kinds import Findings, OfClaims, OfStudies, kind_of, plan_of, words_of_rungs
from abi.judge.kinds.transfer import BY_WINDOWS, LEADS_BY_WINDOWS, WINDOWS, lead_curve, steps_curve, steps_of
from abi.judge.results import (
    AnyResult,
    LadderResult,
    Nib,
    PublishedFigure,
    Result,
    StudyResult,
    headline,
    level_of_one,
)
from abi.judge.tables import thresholds_met
from abi.plan.specs.judge import JudgeClaim, JudgeLadder, JudgeStudy, Protocol, Summarise, Version

P = ParamSpec("P")
Known = Callable[[str], Mapping[str, PublishedFigure]]
"""What the record says of a claim: metric -> figure."""
LACKING = (
    AbiError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    StopIteration,
    TypeError,
    ValueError,
)
RULES: dict[type, tuple[str, type[Typed]]] = {
    Result: ("judge_claim", JudgeClaim),
    StudyResult: ("judge_study", JudgeStudy),
    LadderResult: ("judge_ladder", JudgeLadder),
}
"""Which rule made a kind of result, by which spec."""
BY_STEPS = {"steps": steps_curve, "lead": lead_curve}
NIB = ("mean_js", "mean_top1", "mean_top5", "mean_ent")
NIB_RENAMED = ("mean_js", "mean_top1_agree", "mean_top5_overlap", "mean_entropy_diff")


def _part(check: Callable[Concatenate[Checks, P], None]) -> Callable[Concatenate[Checks, P], None]:
    """Make a finding of what a checked part lacks, so that it does not end the checks of the others."""

    @wraps(check)
    def checked(checks: Checks, /, *given: P.args, **named: P.kwargs) -> None:
        try:
            check(checks, *given, **named)
        except LACKING as error:
            checks.add("", f"lacks a part or holds one of another kind ({type(error).__name__}: {error})")

    return checked


def check_result(checks: Checks, file: ResultFile, beside: Mapping[str, ResultFile], known: Known) -> None:
    """Add to `checks` whatever of a result file does not follow from its other leaves, the record and its rungs.

    Args: beside: claim id -> result file of the same folder; known: what was published for a claim.
    """
    rule, model = RULES[type(file.result)]
    asked = _spec(checks, file, model)
    _check_head(checks, file, rule)
    match file.result, asked:
        case Result() as result, JudgeClaim() as spec:
            _check_fits(checks, file, spec.protocol)
            _check_robustness(checks, result, [spec.claim.fit], spec.protocol)
            for check in (_check_words, _check_nib, _check_repeated, _check_training, _check_rates, _check_curves):
                check(checks, file, result, spec)
        case StudyResult() as study, JudgeStudy() as spec:
            _check_fits(checks, file, spec.protocol)
            _check_robustness(checks, study, list(study.fits), spec.protocol)
            _check_verdict(checks, file, study, spec)
            _check_beside(checks, file, study, spec)
        case LadderResult() as ladder, JudgeLadder() as spec:
            _check_ladder(checks, file, ladder, spec, beside)
    _check_record(checks, file, known)


def other_version(spec: Mapping[str, Json], told: Json) -> str | None:
    """Return one sentence where a file was judged by another version of the protocol than this code applies.

    Args: spec: of its job; told: the version that the file itself states. Where the two differ it is no honest file,
        and is checked as any other.
    """
    version, (own,) = version_of(spec), get_args(Version)
    if not isinstance(version, int) or version == own or version != told:
        return None
    return (
        f"was judged by version {version} of the protocol, and version {own} is in force: its figures are not checked; "
        f"rebuild it with `snakemake`, or check it with the code that made it"
    )


def version_of(spec: Mapping[str, Json]) -> Json:
    """Return the version of the protocol that a spec names: a ladder records its number, a claim all of it."""
    given = spec.get("protocol")
    return given.get("protocol") if isinstance(given, dict) else given


def _repeats(checks: Checks, file: ResultFile, expected: Mapping[str, Json], by: str) -> None:
    """Check what stands at some leaves of a file. Args: expected: leaf -> what must stand there."""
    for leaf, value in expected.items():
        checks.equal(leaf, file.at(leaf), value, by)


def _spec(checks: Checks, file: ResultFile, model: type[Typed]) -> Typed | None:
    try:
        return model.model_validate(file.result.provenance.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        leaf = "/".join(map(str, ("provenance", "spec", *first["loc"])))
        checks.add(leaf, f"breaks its schema: {first['msg'][:120]}")
        return None


@_part
def _check_head(checks: Checks, file: ResultFile, rule: str) -> None:
    """Check what a result repeats of the spec it records."""
    spec = file.result.provenance.spec
    repeated = {key: spec[key] for key in ("scale", "meaningless", "d_abi") if key in file.document}
    claim = {"id": spec["id"], **spec["claim"]}
    _repeats(checks, file, {"claim": claim, "protocol": version_of(spec), **repeated}, "provenance/spec")
    checks.equal("provenance/rule", file.result.provenance.rule, rule, "the workflow")


def _check_record(checks: Checks, file: ResultFile, known: Known) -> None:
    """Check that a result repeats of the record what the record says now."""
    claim, stored = file.result.claim.record.claim, file.at("record")
    try:
        published = known(claim) if claim else {}
    except AbiError as error:
        checks.add("record", f"cannot be compared with config/record ({error})", NOTE)
        return
    judged = ("state", "reason")  # a result may leave them out: they are the audit's
    expected = {
        name: {key: value for key, value in figure.plain().items() if key not in judged or key in stored.get(name, ())}
        for name, figure in published.items()
    }
    shown = {name: {key: told.get(key) for key in expected.get(name, told)} for name, told in stored.items()}
    checks.equal("record", shown, expected, "config/record")


# a claim with evidence of its own


def _check_fits(checks: Checks, file: ResultFile, protocol: Protocol) -> None:
    for name, fit in file.result.studies.items():
        _check_fit(checks, file, name, fit, protocol)


@_part
def _check_fit(checks: Checks, file: ResultFile, name: str, fit: Fit, protocol: Protocol) -> None:
    leaf = f"fits/{name}"
    check_fit(checks, leaf, file.at(leaf), name, file.result.claim, fit, protocol)


@_part
def _check_robustness(checks: Checks, result: Result | StudyResult, judged: list[str], protocol: Protocol) -> None:
    """Check what is said of test text that train holds too, where the records of texts were inputs."""
    if any("/corpus/" in path for path in result.provenance.inputs):
        checks.equal("robustness", list(result.robustness), judged, "the fits that decide")
    for name, told in result.robustness.items():
        fit, criteria = result.fits[name], protocol.criteria
        plan = plan_of(result.claim, name, set(fit.arms), criteria)
        check_robustness(checks, f"robustness/{name}", told, fit, plan, criteria)


@_part
def _check_words(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check which fits there are, and that the deciding one gives verdict, reason and the word at the strict level."""
    claim = spec.claim
    closed = [CLOSED_FORM] if REGIMES[claim.regime].closed_form else []
    checks.equal("fits", sorted(result.fits), sorted([claim.fit, *claim.variants, *closed]), "the claim")
    own, criteria = result.fits[claim.fit], spec.protocol.criteria
    again = case_again(own, result.claim, criteria).word(level_of_one(criteria.level, spec.n_claims)).verdict
    checks.equal("verdict", result.verdict, own.verdict, f"fits/{claim.fit}/verdict")
    checks.holds("reason", result.reason == own.reason, f"is not that of fits/{claim.fit}")
    checks.equal("verdict_at_strict_level", result.verdict_at_strict_level, again, "the mean squares at that level")


@_part
def _check_nib(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check the original's keys: pass flags by means, the combined draw by its parts, `nib_l2` by `nib_official`."""
    limits, official, combined = spec.protocol.published_criteria.plain(), result.nib_official, result.nib_combined
    parts: dict[str, Nib] = {str(official.rng_seed): official, **result.nib_extended}
    for seed, part in parts.items():
        leaf = "nib_official" if part is official else f"nib_extended/{seed}"
        means = {metric: getattr(part, key) for metric, key in zip(AGREEMENT, NIB, strict=True)}
        checks.equal(f"{leaf}/pass", part.passed, all(thresholds_met(means, limits).values()), "means and thresholds")
    n = sum(part.n_chunks for part in parts.values())
    mean = sum(part.n_chunks * part.mean_top5 for part in parts.values()) / n
    se = combined.std_top5 / math.sqrt(n)
    top5 = {seed: part.mean_top5 for seed, part in parts.items()}
    ends = {"ci_95_low": mean - 1.96 * se, "ci_95_high": mean + 1.96 * se}
    figures = {"n_chunks": n, "mean_top5": mean, "std_top5": combined.std_top5, "se_top5": se}
    _repeats(checks, file, {"nib_combined": {**figures, **ends, "per_rng_mean_top5": top5}}, "the draws")
    renamed = {new: getattr(official, key) for new, key in zip(NIB_RENAMED, NIB, strict=True)}
    l2 = {**renamed, "pass": official.passed, "thresholds": limits}
    _repeats(checks, file, {"nib_l2": l2}, "nib_official")


@_part
def _check_repeated(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check the figures that the original names at the top of its files."""
    claim, ppl, arm = spec.claim, result.perplexity, KINDS[spec.claim.kind].claimed
    criteria = result.fits[claim.fit].published_criteria
    expected = {
        "source_model": claim.source,
        "target_model": claim.target,
        "domain_steps": spec.training_steps,
        "calibration_steps": spec.calibration_steps,
        "ppl_native": ppl[UNFITTED]["oracle"]["domain"],
        "ppl_calibrated": ppl[claim.fit][arm]["domain"],
        "ppl_raw": ppl[UNFITTED]["raw"]["domain"],
        "overall_pass": criteria is not None and criteria.arms[arm].passed,
    }
    _repeats(checks, file, expected, "its other leaves")
    for name in {claim.source, claim.target} ^ set(result.backbones):
        checks.add(f"backbones/{name}", "is not what the claim names")


@_part
def _check_training(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check the steps of every fitted arm: those of the budget, other ones in a variant, none in closed form."""
    steps = spec.calibration_steps
    of_fit = {name: change.steps or steps for name, change in spec.changes.items()} | {spec.claim.fit: steps}
    for i, row in enumerate(result.training):
        checks.equal(f"training/{i}/steps", row.steps, of_fit.get(row.fit, 0), "the budget")
        if "phase_floors" in file.at(f"training/{i}"):
            checks.holds(f"training/{i}/phase_floors", bool(row.phase_floors), "holds no figure")


@_part
def _check_rates(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check that every arm was trained at the rate it chose, one of the registered grid."""
    if spec.budget is None or result.rates is None:
        checks.holds("rates", (spec.budget is None) == (result.rates is None), "is there without a fit, or is missing")
        return
    grid = spec.budget.rates
    checks.equal("rates/grid", result.rates.grid, grid, "the budget")
    checks.holds("rates/seed", result.rates.seed == 0, "is a seed that a study may have")
    for arm, chosen in result.rates.arms.items():
        checks.holds(f"rates/arms/{arm}/rate", chosen.rate in grid, f"{chosen.rate:g} is not in the grid")
        checks.equal(f"rates/arms/{arm}/at_end", chosen.at_end, chosen.rate in (grid[0], grid[-1]), "rate and grid")
    for i, row in enumerate(result.training):
        own = None if row.fit == CLOSED_FORM else result.rates.arms[row.arm].rate
        checks.equal(f"training/{i}/lr", row.lr, own, "the rate that the arm chose")


@_part
def _check_curves(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check curves by the arms: gap closure and lead by steps, and the mean over a ladder of windows."""
    steps, own = steps_of(spec), result.fits[spec.claim.fit].arms
    for i, curve in enumerate(result.curves):
        place = f"curves/{i}"
        if curve.id in BY_STEPS:
            _repeats(checks, file, {place: BY_STEPS[curve.id](result.fits, steps).plain()}, "the fits")
            continue
        leads = curve.id == BY_WINDOWS
        told = (LEADS_BY_WINDOWS if leads else WINDOWS).plain() | {"series": file.at(f"{place}/series")}
        _repeats(checks, file, {place: told}, "what every such curve says")
        for j, line in enumerate(curve.series):
            arm, *other = line.name.split(" - ") if leads else [line.name]
            leaf, figure = f"{place}/series/{j}", own[arm].domain["bits_per_byte"].mean
            if other:  # a lead: less of it is better
                figure = own[other[0]].domain["bits_per_byte"].mean - figure
            mean = sum(value or 0.0 for value in line.y) / len(line.y)
            windows = [] if spec.budget is None else spec.budget.windows or []
            checks.equal(f"{leaf}/x", line.x, [float(n) for n in windows], "the budget")
            good = math.isclose(mean, figure, rel_tol=1e-9, abs_tol=1e-9 if other else 0.0)
            checks.holds(f"{leaf}/y", good, f"{mean} is their mean, that of the ladder is {figure}")


# a claim made of several studies


@_part
def _check_verdict(checks: Checks, file: ResultFile, result: StudyResult, spec: JudgeStudy) -> None:
    """Check which studies there are, and the verdict, reason and strict word of all of them (a law has none)."""
    kind = kind_of(spec.claim.kind, OfStudies)
    if kind.asked is not None:
        checks.equal("fits", list(result.fits), kind.studies(result.claim, spec.rounds), "the claim")
        _check_words_of_all(checks, file, verdict_of_all(result, spec))


def _check_words_of_all(checks: Checks, file: ResultFile, found: Findings) -> None:
    keys = ("verdict", "reason", "verdict_at_strict_level")
    _repeats(checks, file, {key: getattr(found, key) for key in keys}, "its studies")


@_part
def _check_beside(checks: Checks, file: ResultFile, result: StudyResult, spec: JudgeStudy) -> None:
    """Check what stands beside the verdict and follows from fits, perplexities or points."""
    strict = level_of_one(spec.protocol.criteria.level, spec.n_claims)
    found = kind_of(spec.claim.kind, OfStudies).again(result, spec, strict)
    if found.law is not None:
        checks.equal("law", file.document.get("law"), found.law.plain(), "its points")
        _check_words_of_all(checks, file, found)
    rules = {rule.id: rule.plain() for rule in found.checks}
    stored = [(rule["id"], rule) for rule in file.at("checks")]
    checks.equal("checks", [name for name, _ in stored], list(rules), "its kind")
    again = {f"checks/{i}": rules.get(name, rule) for i, (name, rule) in enumerate(stored)}
    _repeats(checks, file, again, "its perplexities and fits")
    for key, shown in (("tables", found.tables), ("curves", found.curves), ("matrices", found.matrices)):
        there = {item["id"]: (f"{key}/{i}", item) for i, item in enumerate(file.at(key))}
        for item in shown:
            leaf, told = there.get(item.id, (f"{key}/{item.id}", None))
            checks.equal(leaf, told, item.plain(), "its studies")


# a claim about others


@_part
def _check_ladder(
    checks: Checks, file: ResultFile, ladder: LadderResult, spec: JudgeLadder, beside: Mapping[str, ResultFile]
) -> None:
    """Check a ladder by its rungs, and what is said of each by its result file."""
    checks.equal("rungs", [rung.id for rung in ladder.rungs], ladder.claim.rungs, "claim/rungs")
    hashes = sorted(ladder.provenance.inputs.values())
    checks.equal("provenance/inputs", hashes, sorted(rung.sha256 for rung in ladder.rungs), "rungs")
    results = {rung.id: beside[rung.id].result for rung in ladder.rungs if rung.id in beside}
    kind, whole = kind_of(spec.claim.kind, OfClaims), len(results) == len(ladder.rungs)
    if kind.checks is not None and whole:
        rules = [rule.plain() for rule in kind.checks(results)]
        checks.equal("checks", file.document.get("checks", []), rules, "its rungs")
    if kind.judge is None or whole:
        again = words_of_rungs(spec, results, ladder.rungs)
        shown = {key: [item.plain() for item in again.pop(key, [])] for key in ("tables", "curves")}
        _repeats(checks, file, again, "its rungs")
        for key, items in shown.items():
            checks.equal(key, file.document.get(key, []), items, "its rungs")
    for i, rung in enumerate(ladder.rungs):
        found, by = beside.get(rung.id), f"the result file of {rung.id}"
        if found is None:
            checks.add(f"rungs/{i}", f"{by} is not beside it or cannot be read", NOTE)
            continue
        its = {f"rungs/{i}/{key}": found.at(key) for key in ("verdict", "verdict_at_strict_level", "reason")}
        its |= {key: found.at(key) for key in ("scale", "meaningless", "protocol")}
        _repeats(checks, file, its, by)
        checks.equal(f"rungs/{i}/sha256", rung.sha256, found.sha256, by)


# a page that counts claims


@_part
def check_page(checks: Checks, page: str, summary: Summary, results: Mapping[str, AnyResult]) -> None:
    """Add to `checks` whatever of a page does not follow from the result files beside it. Args: page: its name."""
    spec = Summarise.model_validate(summary.provenance.spec)
    listed = dict(results) if page == "summary" else {name: results[name] for name in spec.counted}
    words = {name: result.verdict for name, result in listed.items()}
    checks.equal("verdicts", summary.verdicts, words, "the result files")
    for name, result in listed.items():
        if "n_claims" in result.provenance.spec:
            claims = result.provenance.spec["n_claims"]
            checks.equal("provenance/spec/n_claims", spec.n_claims, claims, f"the level {name} was judged at")
    counted = [name for name in spec.counted if name in words]
    of_record = [
        name for name, result in listed.items() if result.claim.record.claim and result.claim.kind != EXPERIMENT
    ]
    if of_record:
        checks.equal("provenance/spec/counted", sorted(counted), sorted(of_record), "the claims of the record")
    strict = {name: listed[name].verdict_at_strict_level for name in counted}
    own = {name: words[name] for name in counted}
    again = headline(own, strict, spec.protocol.criteria.level, spec.n_claims)
    checks.equal("headline", summary.headline.plain(), again.plain(), "the result files")
