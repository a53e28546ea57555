"""Whether a result file agrees with itself, with the record and with the results beside it, whatever kind it is of."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from pydantic import ValidationError

from abi.audit.results.findings import NOTE, Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.rejudge import at_level, check_fit, verdict_of_all
from abi.base.catalogue import KINDS, REGIMES
from abi.base.errors import AbiError
from abi.base.files import Json
from abi.base.names import AGREEMENT, CLOSED_FORM, UNFITTED
from abi.base.page_manifests import Summary
from abi.base.typed import Typed
from abi.judge.combined import headline, judge_rungs, strict_level
from abi.judge.curves import lead_curve, steps_curve, steps_of
from abi.judge.kind import Findings, OfStudies
from abi.judge.kinds import kind_of
from abi.judge.results import AnyResult, LadderResult, Nib, Result, StudyResult
from abi.judge.verdict import thresholds_met
from abi.plan.specs.judge import JudgeClaim, JudgeLadder, JudgeStudy, Protocol, Summarise

S = TypeVar("S", bound=Typed)
Known = Callable[[str], Mapping[str, Json]]
"""What the record says of a claim: metric -> figure."""
Part = Callable[[], None]
LACKING = (AbiError, KeyError, TypeError, IndexError, ValueError, AttributeError, StopIteration, ZeroDivisionError)
BY_STEPS = {"steps": steps_curve, "lead": lead_curve}
NIB = ("mean_js", "mean_top1", "mean_top5", "mean_ent")
NIB_RENAMED = ("mean_js", "mean_top1_agree", "mean_top5_overlap", "mean_entropy_diff")


def check_result(checks: Checks, file: ResultFile, beside: Mapping[str, ResultFile], known: Known) -> None:
    """Add to `checks` whatever of a result file does not follow from its other leaves, the record and its rungs.

    Args: beside: claim id -> result file of the same folder; known: what was published for a claim.
    """
    result = file.result
    if isinstance(result, LadderResult):
        parts, rule = _ladder_parts(checks, file, result, beside), "judge_ladder"
    elif isinstance(result, StudyResult):
        parts, rule = _study_parts(checks, file, result), "judge_study"
    else:
        parts, rule = _claim_parts(checks, file, result), "judge_claim"
    _run(checks, [partial(_check_head, checks, file, rule), *parts])
    _check_record(checks, file, known)


def _run(checks: Checks, parts: Iterable[Part]) -> None:
    """Run checks of parts; one that lacks a leaf becomes a finding and does not end the others."""
    for part in parts:
        try:
            part()
        except LACKING as error:
            checks.add("", f"lacks a part or holds one of another kind ({type(error).__name__}: {error})")


def _spec(checks: Checks, file: ResultFile, model: type[S]) -> S | None:
    try:
        return model.model_validate(file.result.provenance.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        leaf = "/".join(map(str, ("provenance", "spec", *first["loc"])))
        checks.add(leaf, f"breaks its schema: {first['msg'][:120]}")
        return None


def _check_head(checks: Checks, file: ResultFile, rule: str) -> None:
    """Check what a result repeats of the spec it records."""
    document, spec = file.document, file.result.provenance.spec
    given = spec["protocol"]  # a ladder records its number, a claim all of it
    protocol = given["protocol"] if isinstance(given, dict) else given
    checks.equal("claim", document["claim"], {"id": spec["id"], **spec["claim"]}, "provenance/spec")
    checks.equal("protocol", document["protocol"], protocol, "provenance/spec")
    for key in ("scale", "meaningless", *(["d_abi"] if "d_abi" in document else [])):
        checks.equal(key, document[key], spec[key], "provenance/spec")
    checks.equal("provenance/rule", file.result.provenance.rule, rule, "the workflow")


def _check_record(checks: Checks, file: ResultFile, known: Known) -> None:
    """Check that a result repeats of the record what the record says now."""
    claim, stored = file.result.claim.record.claim, file.document["record"]
    try:
        published = known(claim) if claim else {}
    except AbiError as error:
        checks.add("record", f"cannot be compared with config/record ({error})", NOTE)
        return
    judged = ("state", "reason")  # a result may leave them out: they are the audit's
    expected = {
        name: {key: value for key, value in figure.items() if key not in judged or key in stored.get(name, ())}
        for name, figure in published.items()
    }
    shown = {name: {key: told.get(key) for key in expected.get(name, told)} for name, told in stored.items()}
    checks.equal("record", shown, expected, "config/record")


# a claim with evidence of its own


def _claim_parts(checks: Checks, file: ResultFile, result: Result) -> list[Part]:
    spec = _spec(checks, file, JudgeClaim)
    if spec is None:
        return []
    whole = [_check_words, _check_nib, _check_repeated, _check_training, _check_curves]
    return [*_fit_parts(checks, file, spec.protocol), *(partial(part, checks, file, result, spec) for part in whole)]


def _fit_parts(checks: Checks, file: ResultFile, protocol: Protocol) -> list[Part]:
    stored, result = file.document["fits"], file.result
    return [
        partial(check_fit, checks, f"fits/{name}", stored[name], name, result.claim, fit, protocol)
        for name, fit in result.studies.items()
    ]


def _check_words(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check which fits there are, and that the deciding one gives verdict, reason and the word at the strict level."""
    claim = spec.claim
    closed = [CLOSED_FORM] if REGIMES[claim.regime].closed_form else []
    checks.equal("fits", sorted(result.fits), sorted([claim.fit, *claim.variants, *closed]), "the claim")
    own, criteria = result.fits[claim.fit], spec.protocol.criteria
    again = at_level(own, result.claim, criteria, strict_level(criteria, spec.n_claims)).verdict
    for key, value in (("verdict", own.verdict), ("reason", own.reason)):
        checks.equal(key, file.document[key], value, f"fits/{claim.fit}/{key}")
    checks.equal("verdict_at_strict_level", result.verdict_at_strict_level, again, "the mean squares at that level")


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
    expected = {**figures, **ends, "per_rng_mean_top5": top5}
    checks.equal("nib_combined", file.document["nib_combined"], expected, "the draws")
    renamed = {new: getattr(official, key) for new, key in zip(NIB_RENAMED, NIB, strict=True)}
    l2 = {**renamed, "pass": official.passed, "thresholds": limits}
    checks.equal("nib_l2", file.document["nib_l2"], l2, "nib_official")


def _check_repeated(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check the figures that the original names at the top of its files."""
    claim, ppl, arm = spec.claim, result.perplexity, KINDS[spec.claim.kind].claimed
    criteria = result.fits[claim.fit].published_criteria
    expected = {
        "source_model": claim.source,
        "target_model": claim.target,
        "domain_steps": spec.training_steps,
        "calibration_steps": spec.budget.steps_of("module"),
        "ppl_native": ppl[UNFITTED]["oracle"]["domain"],
        "ppl_calibrated": ppl[claim.fit][arm]["domain"],
        "ppl_raw": ppl[UNFITTED]["raw"]["domain"],
        "overall_pass": criteria is not None and criteria.arms[arm].passed,
    }
    for key, value in expected.items():
        checks.equal(key, file.document[key], value, "its other leaves")
    for name in {claim.source, claim.target} ^ set(result.backbones):
        checks.add(f"backbones/{name}", "is not what the claim names")


def _check_training(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check the steps of every fitted arm: those of the budget, other ones in a variant, none in closed form."""
    steps, variants = spec.budget.steps_of("module"), spec.budget.variants
    of_fit = {name: variants[name].steps or steps for name in spec.claim.variants} | {spec.claim.fit: steps}
    for i, row in enumerate(result.training):
        checks.equal(f"training/{i}/steps", row.steps, of_fit.get(row.fit, 0), "the budget")
        if "phase_floors" in file.document["training"][i]:
            checks.holds(f"training/{i}/phase_floors", bool(row.phase_floors), "holds no figure")


def _check_curves(checks: Checks, file: ResultFile, result: Result, spec: JudgeClaim) -> None:
    """Check curves by the arms: gap closure and lead by steps, and the mean over a ladder of windows."""
    steps, own = steps_of(spec), result.fits[spec.claim.fit].arms
    for i, curve in enumerate(result.curves):
        if curve.id in BY_STEPS:
            again = BY_STEPS[curve.id](result.fits, steps)
            checks.equal(f"curves/{i}", file.document["curves"][i], again.plain(), "the fits")
            continue
        for j, line in enumerate(curve.series):
            leaf, figure = f"curves/{i}/series/{j}", own[line.name].domain["bits_per_byte"].mean
            mean = sum(value or 0.0 for value in line.y) / len(line.y)
            checks.equal(f"{leaf}/x", line.x, [float(n) for n in spec.budget.windows or []], "the budget")
            good = math.isclose(mean, figure, rel_tol=1e-9)
            checks.holds(f"{leaf}/y", good, f"{mean} is their mean, the arm's is {figure}")


# a claim made of several studies


def _study_parts(checks: Checks, file: ResultFile, result: StudyResult) -> list[Part]:
    spec = _spec(checks, file, JudgeStudy)
    if spec is None:
        return []
    whole = [_check_verdict, _check_beside]
    return [*_fit_parts(checks, file, spec.protocol), *(partial(part, checks, file, result, spec) for part in whole)]


def _check_verdict(checks: Checks, file: ResultFile, result: StudyResult, spec: JudgeStudy) -> None:
    """Check which studies there are, and the verdict, reason and strict word of all of them (a law has none)."""
    kind = kind_of(spec.claim.kind, OfStudies)
    if kind.asked is not None:
        checks.equal("fits", list(result.fits), kind.studies(result.claim, spec.rounds), "the claim")
        _check_words_of_all(checks, file, verdict_of_all(result, spec))


def _check_words_of_all(checks: Checks, file: ResultFile, found: Findings) -> None:
    for key in ("verdict", "reason", "verdict_at_strict_level"):
        checks.equal(key, file.document[key], getattr(found, key), "its studies")


def _check_beside(checks: Checks, file: ResultFile, result: StudyResult, spec: JudgeStudy) -> None:
    """Check what stands beside the verdict and follows from fits, perplexities or points."""
    strict = strict_level(spec.protocol.criteria, spec.n_claims)
    found = kind_of(spec.claim.kind, OfStudies).again(result, spec, strict)
    if found.law is not None:
        checks.equal("law", file.document.get("law"), found.law.plain(), "its points")
        _check_words_of_all(checks, file, found)
    rules = {rule.id: rule.plain() for rule in found.checks}
    checks.equal("checks", [rule["id"] for rule in file.document["checks"]], list(rules), "its kind")
    for i, rule in enumerate(file.document["checks"]):
        checks.equal(f"checks/{i}", rule, rules.get(rule["id"], rule), "its perplexities and fits")
    for key, shown in (("tables", found.tables), ("curves", found.curves), ("matrices", found.matrices)):
        places = {item["id"]: i for i, item in enumerate(file.document[key])}
        for item in shown:
            place = places.get(item.id)
            stored = None if place is None else file.document[key][place]
            checks.equal(f"{key}/{item.id if place is None else place}", stored, item.plain(), "its studies")


# a claim about others


def _ladder_parts(
    checks: Checks, file: ResultFile, ladder: LadderResult, beside: Mapping[str, ResultFile]
) -> list[Part]:
    spec = _spec(checks, file, JudgeLadder)
    rungs = [partial(_check_rung, checks, file, ladder, i, beside) for i in range(len(ladder.rungs))]
    return [] if spec is None else [partial(_check_ladder, checks, file, ladder), *rungs]


def _check_ladder(checks: Checks, file: ResultFile, ladder: LadderResult) -> None:
    checks.equal("rungs", [rung.id for rung in ladder.rungs], ladder.claim.rungs, "claim/rungs")
    inputs = ladder.provenance.inputs
    hashes = sorted(digest for path, digest in inputs.items() if "/alignments/" not in path)
    checks.equal("provenance/inputs", hashes, sorted(rung.sha256 for rung in ladder.rungs), "rungs")
    for key, value in judge_rungs(ladder.rungs).items():
        checks.equal(key, file.document[key], value, "its rungs")


def _check_rung(
    checks: Checks, file: ResultFile, ladder: LadderResult, i: int, beside: Mapping[str, ResultFile]
) -> None:
    """Compare what is said of a rung with its result file."""
    rung, leaf = ladder.rungs[i], f"rungs/{i}"
    found = beside.get(rung.id)
    if found is None:
        checks.add(leaf, f"the result file of {rung.id} is not beside it or cannot be read", NOTE)
        return
    by = f"the result file of {rung.id}"
    for key in ("verdict", "verdict_at_strict_level", "reason"):
        checks.equal(f"{leaf}/{key}", file.document["rungs"][i][key], found.document[key], by)
    checks.equal(f"{leaf}/sha256", rung.sha256, found.sha256, by)
    for key in ("scale", "meaningless", "protocol"):
        checks.equal(key, file.document[key], found.document[key], by)


# a page that counts claims


def check_page(checks: Checks, page: str, summary: Summary, results: Mapping[str, AnyResult]) -> None:
    """Add to `checks` whatever of a page does not follow from the result files beside it. Args: page: its name."""
    _run(checks, [partial(_check_page, checks, page, summary, results)])


def _check_page(checks: Checks, page: str, summary: Summary, results: Mapping[str, AnyResult]) -> None:
    spec = Summarise.model_validate(summary.provenance.spec)
    listed = dict(results) if page == "summary" else {name: results[name] for name in spec.counted}
    words = {name: result.verdict for name, result in listed.items()}
    checks.equal("verdicts", summary.verdicts, words, "the result files")
    for name, result in listed.items():
        if "n_claims" in result.provenance.spec:
            claims = result.provenance.spec["n_claims"]
            checks.equal("provenance/spec/n_claims", spec.n_claims, claims, f"the level {name} was judged at")
    counted = [name for name in spec.counted if name in words]
    of_record = [name for name, result in listed.items() if result.claim.record.claim]
    if of_record:
        checks.equal("provenance/spec/counted", sorted(counted), sorted(of_record), "the claims of the record")
    strict = {name: listed[name].verdict_at_strict_level for name in counted}
    own = {name: words[name] for name in counted}
    again = headline(own, strict, spec.protocol.criteria, spec.n_claims)
    checks.equal("headline", summary.headline.plain(), again.plain(), "the result files")
