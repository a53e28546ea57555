"""Files of benchmarks and sweeps: flags, counts, intervals, bars that cannot be missed, and what runs share."""

from operator import truediv

from abi.audit.record.arithmetic import binomial_quantile, follows, mean, per_cent, show, whole_count, worded
from abi.audit.record.checks import POSITIONS, Checks
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, VACUOUS
from abi.base.files import Json

LEVELS = (
    ("L2_distributional", "L2"),
    ("L3_decoding", "L3"),
    ("L4a_l4b_functional", "L4ab"),
    ("L4c_adversarial", "L4c"),
    ("ppl_efficacy_pct", "efficacy_pct"),
    ("test_pass_summary", "test_summary"),
)
"""What two files call the same: levels L2 to L4c, the efficacy, the passes."""
ARMS = (("nat", "native"), ("cal", "calibrated"))
PERFECT_RANK = 3  # mean of ranks 1 to 5
DEGRADATION_BAR = 0.5  # perplexity, knowledge_non_interference.py


def judge_generation(c: Checks) -> None:
    """Judge generation equivalence G1 to G5, and what its bars let through."""
    syntax, keyword, cross = (c.under(name) for name in ("G1_syntax", "G2_keyword", "G4_cross_ppl"))
    on, off = "calibrated_with_domain", "calibrated_no_domain"
    syntax.follows("parity_gap_pp", lambda a, b: 100 * abs(a - b), "native", on, by="100 |native - calibrated|")
    syntax.at_most("pass", "parity_gap_pp", "threshold_parity_pp")
    better = syntax.number(on) > syntax.number(off)
    syntax.equal("domain_load_bearing", better, on, off, by="whether module on beats module off")
    arms = "transferred_with_domain", "transferred_no_domain"
    keyword.follows("domain_factor", truediv, *arms, by="module on / off")
    keyword.at_least("pass", "domain_factor", "threshold")
    for arm in ("nat", "tr"):
        cross.follows(f"ratio_{arm}", truediv, f"{arm}_cross", f"{arm}_self", by="cross / self perplexity")
    cross.follows("avg_ratio", mean, "ratio_nat", "ratio_tr", by="the mean of the two ratios")
    cross.at_most("pass", "avg_ratio", "threshold")
    _probes(c.under("G5_functional"))
    _coherence(c.under("G3_coherence"))
    c.equal("n_pass", c.passing("G*/pass"), "G*/pass", by="the number of groups that pass")
    c.equal("n_total", len(c.paths("G*")), by="the number of groups")


def _probes(c: Checks) -> None:
    names = "calibrated_with_domain_n calibrated_no_domain_n native_n threshold_abs ni_margin_probes n_probes".split()
    on, off, native, bar, margin, n = c.numbers(*names)
    c.equal("parity_pass", on >= native - margin, *names, by="whether calibrated reaches native - margin")
    c.equal("pass", on >= native - margin and on >= bar, *names, by="parity and the absolute bar")
    c.equal("domain_load_bearing", on > off, *names, by="whether module on beats module off")
    if off >= bar:
        reason = (
            f"the functional bar of {bar:g} probes is passed with the module switched off ({off:g} of {n:g}), "
            f"which does better than the module ({on:g})."
        )
        c.add(VACUOUS, "", reason, *names, main=True)


def _coherence(c: Checks) -> None:
    floor, gap, least = c.numbers("threshold_abs", "threshold_parity_pp", "threshold_nd_ratio")
    figures = "native/avg_diversity", "calibrated/avg_diversity", "no_domain/avg_diversity"
    passing, without = [], []
    for name in c.get("decoding_sweep"):
        run = c.under(f"decoding_sweep/{name}")
        native, own, off = run.numbers(*figures)
        run.follows("cal_nd_ratio", truediv, *figures[1:], by="calibrated / module off")
        run.follows("parity_gap_pp", lambda a, b: 100 * (a - b), *figures[1::-1], by="100 (calibrated - native)")
        good = own >= floor and 100 * abs(own - native) <= gap and own >= least * off
        run.equal("pass", good, *figures, by="what the three diversity bars give")
        for arm in ("native", "calibrated", "no_domain"):
            run.ordered(arm, "min_entropy", "avg_entropy")
            run.ordered(arm, "avg_post_top_p_entropy", "avg_entropy")
        for arm in ("calibrated", "no_domain"):
            run.ordered(arm, "avg_kl_to_native", "max_kl_to_native")
        passing += [name] * good
        without += [name] * (good and 100 * abs(off - native) <= gap and off >= floor)
    baseline = c.get("baseline_config")
    first, best = f"decoding_sweep/{baseline}", f"decoding_sweep/{c.get('best_config')}"
    arms = ("native", "calibrated", "no_domain")
    pairs = {f"{arm}_div": f"{first}/{arm}/avg_diversity" for arm in arms}
    pairs |= {f"best_{arm}_div": f"{best}/{arm}/avg_diversity" for arm in arms}
    c.copies(pairs | {leaf: f"{first}/{leaf}" for leaf in ("cal_nd_ratio", "parity_gap_pp")})
    c.equal("baseline_pass", baseline in passing, f"{first}/pass", by="whether the baseline decoding passes")
    c.equal("stable_configs", passing, by="the list of decodings that pass")
    c.equal("pass", bool(passing), by="whether any decoding passes")
    if baseline not in passing and passing:
        reason = (
            f"coherence passes if any of {len(c.get('decoding_sweep'))} decodings does: the baseline scores "
            f"{c.shown('calibrated_div')} in both models, and in {len(without)} of the {len(passing)} "
            "that pass the model with its module off passes as well."
        )
        c.add(VACUOUS, "", reason, *pairs, *(f"decoding_sweep/{name}/no_domain/avg_diversity" for name in without))


def judge_interference(c: Checks) -> None:
    """Judge non-interference: flags, the damage to WikiText, the second calibration."""
    c.flags("cross_domain_l2", "double_calibration", n=POSITIONS)
    before, after = "/ppl/transferred/wiki_ppl", "/ppl/calibrated/wiki_ppl"
    delta, intact = "wiki_ppl_delta_vs_transferred", "wiki_non_degradation"
    summary = c.under("interference_summary")
    summary.follows(delta, lambda a, b: b - a, before, after, by="calibrated - transferred")
    good = abs(summary.number(delta)) < DEGRADATION_BAR
    summary.equal(intact, good, delta, by="whether |change| is below 0.5")
    python, twice = "/cross_domain_l2/calibrated_vs_native/python", "/double_calibration/py_parity_after_double_cal"
    blocks = {
        "python_parity_intact": (python,),
        "dual_parity_composable": (twice, "/double_calibration/wiki_parity_after_double_cal"),
    }
    for leaf, roots in blocks.items():
        flags = [f"{root}/{flag}" for root in roots for flag in ("js_pass", "top5_pass")]
        summary.equal(leaf, all(c.values(*flags)), *flags, by="what its blocks give")
    if summary.get(intact) is False:
        once, again = f"{python}/mean_top5", f"{twice}/mean_top5"
        reason = (
            "documents say other knowledge is preserved; here calibration takes WikiText perplexity from "
            f"{c.shown(before)} to {c.shown(after)}, and a second calibration takes python top-5 from "
            f"{c.shown(once)} to {c.shown(again)}."
        )
        change = f"{summary.root}/{delta}"
        c.add(CONTRADICTED, "interference", reason, before, after, change, once, again, main=True)


def judge_robustness(c: Checks) -> None:
    """Judge the robustness sweep: flags of its 99 runs, and the native module they share."""
    c.flags(n=POSITIONS)
    seeds = sorted(set(c.values("*/*/*/*/seed")))
    for method in c.data:
        own = c.values(f"{method}/*/*/*/seed")
        same = len({own.count(seed) for seed in seeds}) == 1
        text = f"{method}: [every|not every] setting has the same {len(seeds)} seeds."
        c.holds(f"{method}/seed", same, text, f"{method}/*/*/*/seed")
    margins = c.values("*/*/*/*/native_margin_5_6")
    if len(set(margins)) == 1 and len(seeds) > 1:
        reason = (
            f"its {len(seeds)} seeds are not {len(seeds)} studies: all {len(margins)} runs share one native module "
            f"(margin {margins[0]:g} throughout), so the seeds vary the calibration only."
        )
        c.add(INCONSISTENT, "native_margin_5_6", reason, "*/*/*/*/native_margin_5_6")
    for run in c.each("*/*/*/*"):
        top5, top10 = run.numbers("top5", "native_top5_in_candidate_top10")
        if not top5 <= top10 <= 1:
            reason = f"{run.root}: fewer native top-5 tokens in the top 10 than in the top 5."
            run.add(INCONSISTENT, "native_top5_in_candidate_top10", reason, "top5", "native_top5_in_candidate_top10")


def judge_transition(c: Checks) -> None:
    """Judge the width transition: nine runs, three seeds each, and whether there is a step."""
    c.flags("results", n=POSITIONS)
    c.thresholds("nib_thresholds")
    widths: dict[int, list[Json]] = {}
    for name, run in c.get("results").items():
        root = f"results/{name}"
        good = name == f"d{run['d_abi']}_s{run['seed_offset']}"
        text = f"{name}: width and seed are [those|not those] of its name."
        c.holds(root, good, text, f"{root}/d_abi", f"{root}/seed_offset")
        c.copies({f"{root}/nib_pass": f"{root}/l2/pass"})
        widths.setdefault(run["d_abi"], []).append(run["l2"]["pass"])
    c.equal("d_abi_transition", list(widths), by="the list of widths that ran")
    c.equal("seeds", sorted(set(c.values("results/*/seed_offset"))), by="the list of seeds that ran")
    c.total("total_elapsed_s", "results/*/elapsed_s", by="the nine run times")
    counts = ", ".join(f"{sum(passes)} of {len(passes)} at width {width}" for width, passes in widths.items())
    reason = f"no transition can be seen: {counts} pass, which three seeds per width cannot tell apart."
    c.add(VACUOUS, "results", reason, "results/*/l2/mean_top5")


# the five-level benchmark, precision and ranking


def judge_levels(c: Checks) -> None:
    """Judge a five-level benchmark file: L2 to L4c, its intervals, its counts."""
    l2, l3, l4, l4c, efficacy, summary = [next(name for name in names if name in c.data) for names in LEVELS]
    functional = c.under(l4)
    c.flags(l2, n=POSITIONS)
    c.equal(f"{l2}/n_positions", POSITIONS, by="5 chunks x 492 scored positions")
    c.thresholds(f"{l2}/thresholds", "registry")
    c.follows(efficacy, per_cent, "ppl_cal", "ppl_nat", by="E5 = calibrated / native perplexity")
    _decoding(c.under(l3))
    _functional(functional)
    _interval(functional)
    _adversarial(c.under(l4c))
    for name in ("failure_jaccard", "pass_jaccard"):
        good = functional.number(name) >= c.number(f"registry/{name}")
        functional.equal(f"{name}_pass", good, by=f"whether {name} reaches its bar")
    flags = {"L2_distributional": f"{l2}/pass", "L3_decoding": f"{l3}/pass", "L4c_adversarial": f"{l4c}/pass"}
    flags |= {"L4a_functional_NI": f"{l4}/ni_pass", "L4b_error_identity": f"{l4}/failure_jaccard_pass"}
    c.copies({f"{summary}/{name}": path for name, path in flags.items()})
    c.equal("n_pass", c.passing(f"{summary}/*"), f"{summary}/*", by="the number of levels that pass")
    c.equal("n_total", len(c.get(summary)), by="the number of levels")


def _decoding(c: Checks) -> None:
    margin = "/registry/decode_ni_margin_pp"
    for config in c.each("configs/*"):
        good = config.number("cal_ci_95_lower") >= config.number("nat_pass_pp") + c.number(margin)
        paths = "nat_pass_pp", "cal_ci_95_lower", margin
        config.equal("ni_pass", good, *paths, by="whether the lower bound reaches native + margin")
    good = all(c.values("configs/*/ni_pass"))
    for leaf in ("all_configs_pass", "pass"):
        c.equal(leaf, good, "configs/*/ni_pass", by="whether every decoding passes")


def _functional(c: Checks) -> None:
    levels = c.get("by_difficulty")
    c.equal("n_probes", sum(level["n_probes"] for level in levels.values()), by="the sum over its difficulties")
    for arm in ("nat", "cal"):
        count, rate = f"{arm}_pass_probe_count", f"{arm}_pass_pp"
        c.follows(rate, per_cent, count, "n_probes", by="passing probes / probes")
        parts = [f"by_difficulty/{level}/{leaf}" for level in levels for leaf in ("n_probes", rate)]
        found = sum(level["n_probes"] * level[rate] / 100 for level in levels.values())
        c.equal(count, round(found), *parts, by="the sum over its difficulties")
    margin, floor = "/registry/ni_margin_pp", "/registry/min_native_floor"
    c.follows("ni_threshold_pp", lambda rate, m: rate + m, "nat_pass_pp", margin, by="native + margin")
    c.at_least("ni_pass", "cal_ci_95/0", "ni_threshold_pp")
    below = c.number("nat_pass_pp") < 100 * c.number(floor)
    c.equal("floor_skip", below, "nat_pass_pp", floor, by="whether native is below the floor")
    if "per_probe_majority" in c.get(""):
        _majorities(c)


def _majorities(c: Checks) -> None:
    probes, seeds = c.get("per_probe_majority"), c.number("n_seeds")
    for level in c.get("by_difficulty"):
        own = [f"per_probe_majority/{name}" for name, probe in probes.items() if str(probe["diff"]) == level]
        root = f"by_difficulty/{level}"
        c.equal(f"{root}/n_probes", len(own), *(f"{probe}/diff" for probe in own), by="the number of its probes")
        for short, arm in ARMS:
            passes = [f"{probe}/{arm}_passes" for probe in own]
            rate = 100 * sum(c.numbers(*passes)) / (seeds * len(own))
            c.equal(f"{root}/{short}_pass_pp", round(rate, 2), *passes, by="the pass rate of its probes")
    flags = [(probe[f"{arm}_majority_pass"], probe[f"{arm}_passes"]) for probe in probes.values() for _, arm in ARMS]
    good = all(flag is (2 * passes > seeds) for flag, passes in flags)
    paths = [f"per_probe_majority/{name}/{arm}_majority_pass" for name in probes for _, arm in ARMS]
    c.holds("per_probe_majority", good, "[every|not every] majority flag follows from its passes.", *paths)


def _interval(c: Checks) -> None:
    n, seeds = int(c.number("n_probes")), int(c.number("n_seeds"))
    trials = n * seeds
    for arm, _ in ARMS:
        rate = c.number(f"{arm}_pass_probe_count") / n
        for i, level in enumerate((0.025, 0.975)):
            leaf, exact = f"{arm}_ci_95/{i}", 100 * binomial_quantile(trials, rate, level) / trials
            good = abs(c.number(leaf) - exact) <= 100 / trials + 0.01  # 1,000 bootstrap draws are good to one trial
            text = f"{c.path(leaf)} {c.shown(leaf)}: a bootstrap of {trials} trials gives {exact:.2f}."
            c.holds(leaf, good, text, leaf, f"{arm}_pass_probe_count")
    rate = c.number("cal_pass_probe_count") / n
    lower, bar = 100 * binomial_quantile(n, rate, 0.025) / n, c.number("ni_threshold_pp")
    if c.get("label") == "greedy" and seeds > 1:
        end = worded(
            f"[below its bar of {bar:g}, so by its own rule the level fails|with its bar at {bar:g}]", lower < bar
        )
        reason = (
            f"the interval of L4a counts {trials} trials, but greedy decoding makes {seeds} identical copies of "
            f"each probe; from the {n} probes there are, the lower bound is {lower:.2f} instead of "
            f"{c.shown('cal_ci_95/0')}, {end}."
        )
        paths = "cal_ci_95/0", "n_probes", "n_seeds", "cal_pass_probe_count", "ni_threshold_pp"
        c.add(INCONSISTENT, "cal_ci_95", reason, *paths, main=lower < bar)


def _adversarial(c: Checks) -> None:
    n, margin = len(c.get("variant_detail")), "/registry/adversarial_ni_margin_pp"
    c.equal("n_variants", n, by="the number of variants")
    for short, arm in ARMS:
        passes = f"variant_detail/*/{arm}_pass"
        rate = round(100 * sum(c.values(passes)) / n, 2)
        c.equal(f"{short}_pass_pp", rate, passes, by="the pass rate of its variants")
    c.follows("ni_threshold_pp", lambda rate, m: rate + m, "nat_pass_pp", margin, by="native + margin")
    for leaf in ("ni_pass", "pass"):
        c.at_least(leaf, "cal_ci_95_lower_pp", "ni_threshold_pp")
    if c.number("ni_threshold_pp") <= 0:
        reason = (
            f"L4c cannot fail: the reference passes {c.shown('nat_pass_pp')} % of {n} variants, so the bar "
            f"lies at {c.shown('ni_threshold_pp')} % and no pass rate is below it."
        )
        c.add(VACUOUS, "", reason, "nat_pass_pp", "ni_threshold_pp", "n_variants", main=True)


def judge_precision(c: Checks) -> None:
    """Judge the file called precision parity: distributions of JS, their means and quintiles."""
    n = int(c.number("n_positions"))
    c.equal("n_positions", c.number("n_eval_chunks") * 492, "n_eval_chunks", by="chunks x 492 scored positions")
    for method in c.each("results/*"):
        quintiles = [f"entropy_quintile_js/Q{i}" for i in range(1, 6)]
        method.follows("mean_js", mean, *(f"{q}/mean_js" for q in quintiles), by="the mean of its quintiles")
        method.copies({"js_percentiles/mean": "mean_js", "n_positions": "/n_positions"})
        for leaf in ("mean_top1_agree", "frac_perfect_top5", *(f"js_cdf/{k}" for k in method.get("js_cdf"))):
            share = method.number(leaf)
            text = f"{method.path(leaf)} {show(share)} is [a|no] whole count of {n} positions."
            method.holds(leaf, whole_count(share, n), text, leaf)
        method.ordered("js_cdf")
        method.ordered("js_percentiles", *(k for k in method.get("js_percentiles") if k != "mean"))
        for quintile in quintiles:
            method.equal(f"{quintile}/n", n // len(quintiles), "/n_positions", by="a fifth of the positions")
        same = [f"{quintile}/frac_identical" for quintile in quintiles]
        method.follows("js_cdf/frac_js_lt_0.001", mean, *same, by="the mean of frac_identical over its quintiles")
    reason = (
        "'frac_identical' averages to frac_js_lt_0.001 in every method: it means a JS below 0.001, not identical "
        "distributions."
    )
    c.add(INCONSISTENT, "frac_identical", reason, "results/*/js_cdf/frac_js_lt_0.001")


def judge_ranking(c: Checks) -> None:
    """Judge ranking quality: bins of equal size, failure rates, the rank called displacement."""
    c.follows("efficacy", per_cent, "ppl_cal", "ppl_nat", by="E5 = calibrated / native perplexity")
    r = c.under("ranking")
    failing = "global_top5_fail_rate"
    r.follows(failing, lambda p: 1 - p, "top5_overlap/perfect_fraction", by="1 - perfect_fraction")
    r.equal("n_positions", POSITIONS, by="5 chunks x 492 scored positions")
    for name, figure in (("entropy_binned_failure", "mean_entropy"), ("margin_binned_failure", "mean_margin")):
        rates, sizes = r.numbers(f"{name}/*/fail_rate"), r.numbers(f"{name}/*/n")
        good = follows(r.number(failing), mean, rates) and len(set(sizes)) == 1
        text = f"{name}: five equal bins [average|do not average] to the global failure rate."
        r.holds(name, good, text, failing, f"{name}/*/fail_rate")
        r.equal("n_positions", sum(sizes), f"{name}/*/n", by=f"the sum of {name}")
        c.ordered("", *r.paths(f"{name}/*/{figure}"))
    r.copies({"rank_displacement/frac_in_top5": "top5_overlap/mean"})
    r.ordered("rank_displacement", "frac_in_top5", "frac_in_top10", "frac_in_top50")
    r.ordered("rank_displacement", "p50_displacement", "p90_displacement", "p99_displacement")
    r.ordered("spearman", "p10", "p50", "p90")
    r.ordered("kendall", "p10", "p50")
    rank = "rank_displacement/mean"
    reason = f"the 'displacement' of {r.shown(rank)} is a rank: five tokens in place give {PERFECT_RANK}, not 0."
    r.add(INCONSISTENT, rank, reason, rank)
