"""Does a result file agree with itself outside its verdict: means, shares, published criteria, the original's keys."""

import itertools
import math
import statistics
from collections.abc import Mapping
from typing import Any

from abi.audit.results.decision import Decision, check_mss, standard_error
from abi.audit.results.findings import MEAN_SQUARES, Checks, count_numbers, is_number, show
from abi.audit.results.heads import check_head, check_parts, check_strict_level
from abi.audit.results.questions import ROLES
from abi.base.names import AGREEMENT, UNFITTED, fits_of

CONTROLS = {
    "transfer": ("raw", "random", "permuted", "linear", "bias", "no-domain"),
    "reconstruction": ("raw", "random", "linear", "before"),
    "update": ("raw", "random", "random-net", "zero-shot-off"),
    "succession": ("raw", "random", "random-net", "zero-shot-off"),
    "atlas": ("raw", "random", "permuted", "linear", "shared"),
}
NIB = {"mean_js": "js_nats", "mean_top1": "top1", "mean_top5": "top5", "mean_ent": "entropy_diff_nats"}
Record = Mapping[str, Any]


def check_result(checks: Checks, result: Record, published: Record | None = None) -> None:
    """Add to `checks` whatever of a result file does not follow from its other leaves.

    Args: published: what `record.figures_of` says of the claim now, if it is to be compared.
    """
    parts = [
        lambda: _head(checks, result),
        *(lambda fit=fit: check_fit(checks, result, fit) for fit in result["fits"]),
        lambda: _nib(checks, result),
        lambda: _legacy(checks, result),
        lambda: _training(checks, result),
    ]
    check_parts(checks, result, parts, published)


def _head(checks: Checks, result: Record) -> None:
    check_head(checks, result, "judge_claim", "d_abi")
    claim = result["claim"]
    fits = fits_of(claim)
    checks.equal("fits", sorted(result["fits"]), sorted(fits), "the claim")
    primary = result["fits"][claim["fit"]]
    for key in ("verdict", "reason"):
        checks.equal(key, result[key], primary[key], f"fits/{claim['fit']}/{key}")
    check_strict_level(checks, result)


def check_fit(checks: Checks, result: Record, fit: str) -> None:
    """Check one judged fit, or one study, of a result: counts, arms, verdict, ratios, published criteria."""
    decision = Decision(checks, result, fit)
    checks.equal(f"fits/{fit}/fit", decision.fit["fit"], fit, "its key")
    check_counts(checks, decision)
    for arm, scopes in decision.arms.items():
        checks.holds(f"{decision.root}/arms/{arm}/draws", scopes["draws"] >= 1, "an arm without a draw")
        for scope in scopes.keys() - {"draws"}:
            for metric, entry in scopes[scope].items():
                check_arm(checks, decision, f"{decision.root}/arms/{arm}/{scope}/{metric}", entry)
    decision.check()
    _ratios(checks, decision)
    _published(checks, result, decision)


def check_counts(checks: Checks, decision: Any) -> None:
    """Check seeds, groups and documents of a judged study."""
    counts, leaf = decision.fit["counts"], f"{decision.root}/counts"
    seeds = counts["seeds"]
    checks.holds(f"{leaf}/seeds", len(set(seeds)) == len(seeds) > 0, f"{show(seeds)} are not different seeds")
    for scope, n in counts["groups"].items():
        documents = counts["documents"][scope]
        sentence = f"{n} groups do not fit into {documents} documents"
        checks.holds(f"{leaf}/groups/{scope}", 0 <= n <= documents, sentence)


def check_arm(checks: Checks, decision: Any, leaf: str, entry: Record) -> None:
    """Check an arm's figure: the mean of its seeds, an interval around it where there are enough groups, its range."""
    counts, criteria = decision.fit["counts"], decision.criteria
    scope, metric = leaf.split("/")[-2:]
    seeds = entry["per_seed"]
    checks.equal(f"{leaf}/per_seed", list(seeds), [str(seed) for seed in counts["seeds"]], "counts/seeds")
    checks.equal(f"{leaf}/mean", entry["mean"], statistics.fmean(seeds.values()), "the mean of per_seed")
    upper = 1.0 if "top" in metric else math.log(2) if "js" in metric else math.inf
    inside = all(-1e-6 <= value <= upper + 1e-6 for value in seeds.values())
    checks.holds(f"{leaf}/per_seed", inside, f"a {metric} cannot lie outside [0, {upper:.4g}]")
    enough = counts["groups"][scope] >= criteria["min_groups"] and len(seeds) >= criteria["min_seeds"]
    if not enough:
        for key in ("lower", "upper", *(name for name in MEAN_SQUARES if name in entry)):
            checks.equal(f"{leaf}/{key}", entry[key], None, "a table this small")
        return
    if set(MEAN_SQUARES) & set(entry):
        check_mss(checks, leaf, entry, list(seeds.values()), counts["groups"][scope], max(map(abs, seeds.values())))
    checks.holds(f"{leaf}/lower", entry["lower"] <= entry["mean"] <= entry["upper"], "the mean is outside its interval")
    middle, size = (entry["lower"] + entry["upper"]) / 2, max(abs(entry["lower"]), abs(entry["upper"]))
    checks.equal(f"{leaf}/mean", entry["mean"], middle, "the middle of lower and upper", scale=size)


def _ratios(checks: Checks, decision: Decision) -> None:
    """Check share, gap closure and the resolvable gap where the study is large enough for them."""
    fit, arms, c = decision.fit, decision.arms, decision.roles.candidate
    if fit["resolvable_gap"] is None:
        checks.holds(f"{decision.root}/resolvable_gap", not fit["refutations"], "is missing beside a decided verdict")
        return
    metric, level = fit["primary_metric"], decision.level
    sign = 1 if "top" in metric else -1
    own = {
        arm: sign * scopes["domain"][metric]["mean"]
        for arm, scopes in arms.items()
        if metric in scopes.get("domain", {})
    }
    share = fit["share"]
    placebo = max(decision.roles.placebos, key=lambda arm: own[arm])
    checks.equal(f"{decision.root}/share/placebo", share["placebo"], placebo, "the placebo with the best mean")
    _ratio(checks, f"{decision.root}/share", share, own[c] - own[placebo], own[c] - own["raw"], level)
    key = "bits_per_byte"
    bits = {arm: scopes["domain"][key]["mean"] for arm, scopes in arms.items() if key in scopes.get("domain", {})}
    room = next(test for test in fit["tests"] if test["id"] == "0.room.bits_per_byte")
    shown = room["interval"]["lower"] > 0
    closure = fit["gap_closure"]
    checks.holds(
        f"{decision.root}/gap_closure", (closure is not None) == shown, "is reported where room is shown, only there"
    )
    others = sorted(set(bits) - {"raw", "oracle"}) if shown else []
    leaf = f"{decision.root}/gap_closures"
    checks.equal(leaf, sorted(fit["gap_closures"]), others, "the arms with bits per byte, where room is shown")
    checks.equal(f"{decision.root}/gap_closure", closure, fit["gap_closures"].get(c), f"{leaf}/{c}")
    for arm, stored in fit["gap_closures"].items():
        _ratio(checks, f"{leaf}/{arm}", stored, bits["raw"] - bits[arm], bits["raw"] - bits["oracle"], level)
    _gap(checks, decision, fit["resolvable_gap"])


def _ratio(checks: Checks, leaf: str, stored: Record, num: float, den: float, level: float) -> None:
    # a share is a ratio of differences of means: near zero its last digits are those of the means, not its own
    checks.equal(f"{leaf}/estimate", stored["estimate"], num / den if den else None, "the arms' means", scale=1.0)
    checks.equal(f"{leaf}/level", stored["level"], level, "the protocol")
    pieces = stored["pieces"]
    bounded = is_number(pieces[0][0]) and is_number(pieces[-1][1])
    checks.equal(f"{leaf}/bounded", stored["bounded"], bounded, "the ends of its pieces")
    ends = [
        (-math.inf if low is None else low, math.inf if high is None else high) for low, high in pieces
    ]  # fmt: skip
    flat = [end for piece in ends for end in piece]
    inside = stored["estimate"] is None or any(low <= stored["estimate"] <= high for low, high in ends)
    checks.holds(f"{leaf}/pieces", flat == sorted(flat) and inside, f"{show(pieces)} do not hold the estimate in order")


def _gap(checks: Checks, decision: Decision, stored: Record) -> None:
    n_seeds = len(decision.fit["counts"]["seeds"])
    times = interpolated(n_seeds, decision.criteria["resolvable"])
    leaf, best = f"{decision.root}/resolvable_gap", decision.roles.native or decision.roles.candidate
    checks.equal(f"{leaf}/n_seeds", stored["n_seeds"], n_seeds, "counts/seeds")
    checks.equal(f"{leaf}/metric", stored["metric"], decision.fit["primary_metric"], "primary_metric")
    checks.equal(f"{leaf}/standard_errors", stored["standard_errors"], times, "the protocol's `resolvable`")
    checks.equal(
        f"{leaf}/gap", stored["gap"], stored["standard_error"] * stored["standard_errors"], "standard error x multiple"
    )
    words = [f"{best} - {placebo}" for placebo in decision.roles.placebos]
    asked = [t for t in decision.fit["tests"] if t["metric"] == stored["metric"] and t["contrast"] in words]
    errors = {t["contrast"]: standard_error(t["interval"]) for t in asked if "msd" in t["interval"]}
    if errors:
        widest = max(errors, key=lambda contrast: errors[contrast])
        checks.equal(f"{leaf}/contrast", stored["contrast"], widest, "the mean squares of the tests")
        checks.equal(
            f"{leaf}/standard_error", stored["standard_error"], errors[widest], "the mean squares of the tests"
        )
    checks.holds(
        f"{leaf}/contrast", stored["contrast"] in words, f"{show(stored['contrast'])} is none of {', '.join(words)}"
    )


def interpolated(n_seeds: int, points: list[dict[str, float]]) -> float:
    """Return the multiple of the standard error for a number of seeds, linear in 1 / (seeds - 1), flat outside."""
    known = sorted((1 / (point["seeds"] - 1), float(point["standard_errors"])) for point in points)
    x = 1 / (n_seeds - 1)
    if x <= known[0][0] or x >= known[-1][0]:
        return known[0][1] if x <= known[0][0] else known[-1][1]
    (x0, y0), (x1, y1) = next((a, b) for a, b in itertools.pairwise(known) if a[0] <= x <= b[0])
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def met(means: Record, limits: Record) -> dict[str, bool]:
    """Return which published thresholds means meet: top-1 and top-5 at or above, the others below."""
    return {m: bool(means[m] >= limits[m] if "top" in m else means[m] < limits[m]) for m in AGREEMENT}


def _published(checks: Checks, result: Record, decision: Decision) -> None:
    stored, leaf = decision.fit["published_criteria"], f"{decision.root}/published_criteria"
    limits = result["provenance"]["spec"]["protocol"]["published_criteria"]
    checks.equal(f"{leaf}/thresholds", stored["thresholds"], limits, "the protocol")
    there = sorted(arm for arm, scopes in decision.arms.items() if "js_nats" in scopes.get("domain", {}))
    checks.equal(f"{leaf}/arms", sorted(stored["arms"]), there, "the arms that have agreement")
    for arm, entry in stored["arms"].items():
        flags = met(entry["means"], limits)
        checks.equal(f"{leaf}/arms/{arm}/met", entry["met"], flags, "means and thresholds")
        checks.equal(f"{leaf}/arms/{arm}/passed", entry["passed"], all(flags.values()), "means and thresholds")
    controls = [arm for arm in CONTROLS[decision.kind] if arm in stored["arms"]]
    checks.equal(f"{leaf}/controls", stored["controls"], controls, "the arms")
    passed = [arm for arm in controls if all(met(stored["arms"][arm]["means"], limits).values())]
    c = decision.roles.candidate
    word = "yes" if all(met(stored["arms"][c]["means"], limits).values()) else "no"
    sentence = f"published criteria met by: {c} {word}; control arms {len(passed)} of {len(controls)}"
    checks.equal(f"{leaf}/sentence", stored["sentence"], sentence, "means and thresholds")


def _nib(checks: Checks, result: Record) -> None:
    """Check the original's keys: pass flags from means, the combined draw from its parts, `nib_l2` from `nib_official`."""
    limits = result["provenance"]["spec"]["protocol"]["published_criteria"]
    official, extended, combined = result["nib_official"], result["nib_extended"], result["nib_combined"]
    parts = {str(official["rng_seed"]): official, **extended}
    for seed, part in parts.items():
        leaf = "nib_official" if part is official else f"nib_extended/{seed}"
        flags = met({metric: part[key] for key, metric in NIB.items()}, limits)
        checks.equal(f"{leaf}/pass", part["pass"], all(flags.values()), "means and thresholds")
    top5 = {seed: part["mean_top5"] for seed, part in parts.items()}
    checks.equal("nib_combined/per_rng_mean_top5", combined["per_rng_mean_top5"], top5, "the draws")
    n = sum(part["n_chunks"] for part in parts.values())
    checks.equal("nib_combined/n_chunks", combined["n_chunks"], n, "the draws")
    mean = sum(part["n_chunks"] * part["mean_top5"] for part in parts.values()) / n
    checks.equal("nib_combined/mean_top5", combined["mean_top5"], mean, "the draws")
    se = combined["std_top5"] / math.sqrt(n)
    checks.equal("nib_combined/se_top5", combined["se_top5"], se, "std / sqrt(n)")
    for key, sign in (("ci_95_low", -1), ("ci_95_high", 1)):
        checks.equal(f"nib_combined/{key}", combined[key], mean + sign * 1.96 * se, "mean +- 1.96 se")
    renamed = {
        "mean_js": "mean_js",
        "mean_top1": "mean_top1_agree",
        "mean_top5": "mean_top5_overlap",
        "mean_ent": "mean_entropy_diff",
    }
    l2 = {new: official[old] for old, new in renamed.items()} | {"pass": official["pass"], "thresholds": limits}
    checks.equal("nib_l2", result["nib_l2"], l2, "nib_official")


def _legacy(checks: Checks, result: Record) -> None:
    spec = result["provenance"]["spec"]
    claim, ppl = spec["claim"], result["perplexity"]
    arm = ROLES[claim["kind"]].candidate
    expected = {
        "source_model": claim["source"], "target_model": claim["target"], "domain_steps": spec["training_steps"],
        "calibration_steps": sum(phase["steps"] for phase in spec["budget"]["phases"]["module"]),
        "ppl_native": ppl[UNFITTED]["oracle"]["domain"], "ppl_calibrated": ppl[claim["fit"]][arm]["domain"], "ppl_raw": ppl[UNFITTED]["raw"]["domain"],
        "overall_pass": result["fits"][claim["fit"]]["published_criteria"]["arms"][arm]["passed"],
    }  # fmt: skip
    for key, value in expected.items():
        checks.equal(key, result[key], value, "its other leaves")
    for name in {claim["source"], claim["target"]} ^ set(result["backbones"]):
        checks.add(f"backbones/{name}", "is not what the claim names")


def _training(checks: Checks, result: Record) -> None:
    for i, row in enumerate(result["training"]):
        steps = steps_of(row["fit"], result)
        checks.equal(f"training/{i}/steps", row["steps"], steps, "the budget")
        if row.get("phase_floors"):
            checks.holds(f"training/{i}/phase_floors", count_numbers(row["phase_floors"]) > 0, "holds no figure")


def judged_for(results: Mapping[str, Record]) -> dict[str, int]:
    """Return claim -> the number of claims its strict level was made for (a ladder has none of its own)."""
    specs = {name: result["provenance"]["spec"] for name, result in results.items()}
    return {name: spec["n_claims"] for name, spec in specs.items() if "n_claims" in spec}


def steps_of(fit: str, result: Record) -> int:
    """Return how many steps the arms of a fit get: those of the claim's fit, other ones in a variant, none in closed form."""
    budget, claim = result["provenance"]["spec"]["budget"], result["claim"]
    phases = budget["phases"]["module"]
    if fit == claim["fit"]:
        return int(result["calibration_steps"])
    if fit not in claim.get("variants", ()):
        return 0
    change = budget["variants"][fit]
    return sum(int(change.get("steps", phase["steps"])) for phase in phases)


def check_summary(checks: Checks, summary: Record, results: Mapping[str, Record]) -> None:
    """Add to `checks` whatever of a page does not follow from the result files. Args: results: those it must list, by id."""
    words = {name: result["verdict"] for name, result in results.items()}
    checks.equal("verdicts", summary["verdicts"], words, "the result files")
    spec = summary["provenance"]["spec"]
    counted = [name for name in spec["counted"] if name in words]
    total, level = len(counted), 1 - (1 - spec["protocol"]["criteria"]["level"]) / spec["n_claims"]
    for name, claims in judged_for(results).items():
        words_of = f"the level {name} was judged at"
        checks.equal("provenance/spec/n_claims", spec["n_claims"], claims, words_of)
    of_record = [name for name, result in results.items() if "claim" in result["claim"].get("record", {})]
    if of_record:
        checks.equal("provenance/spec/counted", sorted(counted), sorted(of_record), "the claims of the record")
    supported = sorted(name for name in counted if words[name] == "SUPPORTED")
    staying = [name for name in supported if results[name]["verdict_at_strict_level"] == "SUPPORTED"]
    stay = f"{len(staying)} of {total} stay SUPPORTED with intervals of {level:.5g}"
    sentence = f"{len(supported)} of {total} claims SUPPORTED; {stay}"
    headline = {"sentence": sentence, "n": total, "supported": supported, "level": level, "stay_supported": staying}
    checks.equal("headline", summary["headline"], headline, "the result files")
