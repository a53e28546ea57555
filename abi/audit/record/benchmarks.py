"""Files of the five-level benchmark, ranking and precision: intervals, counts, bars that cannot be missed."""

from abi.audit.record.arithmetic import binomial_quantile, follows, per_cent, show, whole_count
from abi.audit.record.checks import POSITIONS, Checks
from abi.base.files import Json

LEVELS = {
    "l2": ("L2_distributional", "L2"),
    "l3": ("L3_decoding", "L3"),
    "l4": ("L4a_l4b_functional", "L4ab"),
    "l4c": ("L4c_adversarial", "L4c"),
    "efficacy": ("ppl_efficacy_pct", "efficacy_pct"),
    "summary": ("test_pass_summary", "test_summary"),
}
PERFECT_RANK = 3  # mean of ranks 1 to 5


def judge_levels(c: Checks) -> None:
    """Judge a five-level benchmark file: L2 to L4c, its intervals, its counts."""
    key = {name: next(k for k in names if k in c.data) for name, names in LEVELS.items()}
    l2, l3, l4, l4c, summary = (key[name] for name in ("l2", "l3", "l4", "l4c", "summary"))
    c.flags(l2, n=POSITIONS)
    c.equal(f"{l2}/n_positions", POSITIONS, by="5 chunks x 492 scored positions")
    c.thresholds(f"{l2}/thresholds", "registry")
    c.follows(key["efficacy"], per_cent, "ppl_cal", "ppl_nat", by="E5 = calibrated / native perplexity")
    _decoding(c, l3)
    _functional(c, l4)
    _interval(c, l4)
    _adversarial(c, l4c)
    c.equal(
        f"{l4}/failure_jaccard_pass", _reaches(c, l4, "failure_jaccard"), by="whether failure_jaccard reaches its bar"
    )
    c.equal(f"{l4}/pass_jaccard_pass", _reaches(c, l4, "pass_jaccard"), by="whether pass_jaccard reaches its bar")
    flags = {"L2_distributional": f"{l2}/pass", "L3_decoding": f"{l3}/pass", "L4c_adversarial": f"{l4c}/pass"}
    flags |= {"L4a_functional_NI": f"{l4}/ni_pass", "L4b_error_identity": f"{l4}/failure_jaccard_pass"}
    c.copies({f"{summary}/{name}": path for name, path in flags.items()})
    passes = [f"{summary}/{name}" for name in c.get(summary)]
    c.equal("n_pass", sum(c.get(path) is True for path in passes), *passes, by="the number of levels that pass")
    c.equal("n_total", len(passes), by="the number of levels")


def _reaches(c: Checks, root: str, name: str) -> bool:
    return c.number(f"{root}/{name}") >= c.number(f"registry/{name}")


def _decoding(c: Checks, l3: str) -> None:
    configs = [f"{l3}/configs/{name}" for name in c.get(f"{l3}/configs")]
    margin = "registry/decode_ni_margin_pp"
    for root in configs:
        native, lower = f"{root}/nat_pass_pp", f"{root}/cal_ci_95_lower"
        good = c.number(lower) >= c.number(native) + c.number(margin)
        c.equal(f"{root}/ni_pass", good, native, lower, margin, by="whether the lower bound reaches native + margin")
    flags = [f"{root}/ni_pass" for root in configs]
    for leaf in ("all_configs_pass", "pass"):
        c.equal(f"{l3}/{leaf}", all(c.get(flag) for flag in flags), *flags, by="whether every decoding passes")


def _functional(c: Checks, l4: str) -> None:
    levels = c.get(f"{l4}/by_difficulty")
    c.equal(f"{l4}/n_probes", sum(level["n_probes"] for level in levels.values()), by="the sum over its difficulties")
    for arm in ("nat", "cal"):
        count, rate = f"{l4}/{arm}_pass_probe_count", f"{arm}_pass_pp"
        c.follows(f"{l4}/{rate}", per_cent, count, f"{l4}/n_probes", by="passing probes / probes")
        parts = [f"{l4}/by_difficulty/{level}/{leaf}" for level in levels for leaf in ("n_probes", rate)]
        found = sum(level["n_probes"] * level[rate] / 100 for level in levels.values())
        c.equal(count, round(found), *parts, by="the sum over its difficulties")
    margin = "registry/ni_margin_pp"
    native, threshold, lower = f"{l4}/nat_pass_pp", f"{l4}/ni_threshold_pp", f"{l4}/cal_ci_95/0"
    c.follows(threshold, lambda rate, m: rate + m, native, margin, by="native + margin")
    c.at_least(f"{l4}/ni_pass", lower, threshold)
    floor = 100 * c.number("registry/min_native_floor")
    c.equal(
        f"{l4}/floor_skip",
        c.number(native) < floor,
        native,
        "registry/min_native_floor",
        by="whether native is below the floor",
    )
    if "per_probe_majority" in c.get(l4):
        _probes(c, l4)


def _probes(c: Checks, l4: str) -> None:
    probes: dict[str, Json] = c.get(f"{l4}/per_probe_majority")
    seeds = c.number(f"{l4}/n_seeds")
    for level in c.get(f"{l4}/by_difficulty"):
        own = {name: probe for name, probe in probes.items() if str(probe["diff"]) == level}
        root = f"{l4}/by_difficulty/{level}"
        c.equal(
            f"{root}/n_probes",
            len(own),
            *(f"{l4}/per_probe_majority/{name}/diff" for name in own),
            by="the number of its probes",
        )
        for short, arm in (("nat", "native"), ("cal", "calibrated")):
            leaves = [f"{l4}/per_probe_majority/{name}/{arm}_passes" for name in own]
            rate = 100 * sum(c.numbers(*leaves)) / (seeds * len(own))
            c.equal(f"{root}/{short}_pass_pp", round(rate, 2), *leaves, by="the pass rate of its probes")
    majority = [f"{arm}_majority_pass" for arm in ("native", "calibrated")]
    good = all(
        probe[m] is (2 * probe[m.replace("majority_pass", "passes")] > seeds)
        for probe in probes.values()
        for m in majority
    )
    paths = [f"{l4}/per_probe_majority/{name}/{m}" for name in probes for m in majority]
    text = "every majority flag follows from its passes."
    c.holds(f"{l4}/per_probe_majority", good, text, f"not {text}", *paths)


def _interval(c: Checks, l4: str) -> None:
    n, seeds = int(c.number(f"{l4}/n_probes")), int(c.number(f"{l4}/n_seeds"))
    trials = n * seeds
    for arm in ("nat", "cal"):
        rate = c.number(f"{l4}/{arm}_pass_probe_count") / n
        for i, level in enumerate((0.025, 0.975)):
            path, exact = f"{l4}/{arm}_ci_95/{i}", 100 * binomial_quantile(trials, rate, level) / trials
            good = abs(c.number(path) - exact) <= 100 / trials + 0.01  # 1,000 bootstrap draws are good to one trial
            text = f"{path} {show(c.get(path))}: a bootstrap of {trials} trials gives {exact:.2f}."
            c.holds(path, good, text, text, path, f"{l4}/{arm}_pass_probe_count")
    rate = c.number(f"{l4}/cal_pass_probe_count") / n
    lower, bar = 100 * binomial_quantile(n, rate, 0.025) / n, c.number(f"{l4}/ni_threshold_pp")
    if c.get(f"{l4}/label") == "greedy" and seeds > 1:
        end = (
            f"below its bar of {bar:g}, so by its own rule the level fails"
            if lower < bar
            else f"with its bar at {bar:g}"
        )
        reason = (
            f"the interval of L4a counts {trials} trials, but greedy decoding makes {seeds} identical copies of "
            f"each probe; from the {n} probes there are, the lower bound is {lower:.2f} instead of "
            f"{show(c.get(f'{l4}/cal_ci_95/0'))}, {end}."
        )
        paths = [
            f"{l4}/{leaf}" for leaf in ("cal_ci_95/0", "n_probes", "n_seeds", "cal_pass_probe_count", "ni_threshold_pp")
        ]
        c.inconsistent(f"{l4}/cal_ci_95", reason, *paths, main=lower < bar)


def _adversarial(c: Checks, l4c: str) -> None:
    rows = c.get(f"{l4c}/variant_detail")
    c.equal(f"{l4c}/n_variants", len(rows), by="the number of variants")
    for short, arm in (("nat", "native"), ("cal", "calibrated")):
        leaves = [f"{l4c}/variant_detail/{i}/{arm}_pass" for i in range(len(rows))]
        rate = round(100 * sum(c.get(leaf) for leaf in leaves) / len(rows), 2)
        c.equal(f"{l4c}/{short}_pass_pp", rate, *leaves, by="the pass rate of its variants")
    native, threshold, margin = f"{l4c}/nat_pass_pp", f"{l4c}/ni_threshold_pp", "registry/adversarial_ni_margin_pp"
    c.follows(threshold, lambda rate, m: rate + m, native, margin, by="native + margin")
    for leaf in ("ni_pass", "pass"):
        c.at_least(f"{l4c}/{leaf}", f"{l4c}/cal_ci_95_lower_pp", threshold)
    if c.number(threshold) <= 0:
        reason = (
            f"L4c cannot fail: the reference passes {show(c.get(native))} % of {len(rows)} variants, so the bar "
            f"lies at {show(c.get(threshold))} % and no pass rate is below it."
        )
        c.vacuous(l4c, reason, native, threshold, f"{l4c}/n_variants", main=True)


def judge_precision(c: Checks) -> None:
    """Judge the file called precision parity: distributions of JS, their means and quintiles."""
    n = int(c.number("n_positions"))
    c.equal("n_positions", c.number("n_eval_chunks") * 492, "n_eval_chunks", by="chunks x 492 scored positions")
    for name, block in c.get("results").items():
        root, quintiles = f"results/{name}", [f"results/{name}/entropy_quintile_js/Q{i}" for i in range(1, 6)]
        c.follows(f"{root}/mean_js", _mean, *(f"{q}/mean_js" for q in quintiles), by="the mean of its quintiles")
        c.copies({f"{root}/js_percentiles/mean": f"{root}/mean_js", f"{root}/n_positions": "n_positions"})
        for leaf in ("mean_top1_agree", "frac_perfect_top5", *(f"js_cdf/{k}" for k in block["js_cdf"])):
            share = c.number(f"{root}/{leaf}")
            text = f"{root}/{leaf} {show(share)} is {{}} of {n} positions."
            c.holds(
                f"{root}/{leaf}",
                whole_count(share, n),
                text.format("a whole count"),
                text.format("no whole count"),
                f"{root}/{leaf}",
            )
        c.ordered(f"{root}/js_cdf", *block["js_cdf"])
        c.ordered(f"{root}/js_percentiles", *(k for k in block["js_percentiles"] if k != "mean"))
        for quintile in quintiles:
            c.equal(f"{quintile}/n", n // len(quintiles), "n_positions", by="a fifth of the positions")
        same = [f"{quintile}/frac_identical" for quintile in quintiles]
        c.follows(f"{root}/js_cdf/frac_js_lt_0.001", _mean, *same, by="the mean of frac_identical over its quintiles")
    below = [f"results/{name}/js_cdf/frac_js_lt_0.001" for name in c.get("results")]
    reason = (
        "'frac_identical' averages to frac_js_lt_0.001 in every method: it means a JS below 0.001, not identical "
        "distributions."
    )
    c.inconsistent("frac_identical", reason, *below)


def _mean(*values: float) -> float:
    return sum(values) / len(values)


def judge_ranking(c: Checks) -> None:
    """Judge ranking quality: bins of equal size, failure rates, the rank called displacement."""
    c.follows("efficacy", per_cent, "ppl_cal", "ppl_nat", by="E5 = calibrated / native perplexity")
    failing = "ranking/global_top5_fail_rate"
    c.follows(failing, lambda p: 1 - p, "ranking/top5_overlap/perfect_fraction", by="1 - perfect_fraction")
    c.equal("ranking/n_positions", POSITIONS, by="5 chunks x 492 scored positions")
    for name in ("entropy_binned_failure", "margin_binned_failure"):
        bins = [f"ranking/{name}/{label}" for label in c.get(f"ranking/{name}")]
        rates, sizes = [f"{b}/fail_rate" for b in bins], [f"{b}/n" for b in bins]
        good = follows(c.number(failing), _mean, c.numbers(*rates)) and len(set(c.numbers(*sizes))) == 1
        text = f"{name}: five equal bins {{}} to the global failure rate."
        c.holds(f"ranking/{name}", good, text.format("average"), text.format("do not average"), failing, *rates)
        c.equal("ranking/n_positions", sum(c.numbers(*sizes)), *sizes, by=f"the sum of {name}")
        mean = "mean_entropy" if name.startswith("entropy") else "mean_margin"
        c.ordered("", *(f"{b}/{mean}" for b in bins))
    rank = "ranking/rank_displacement"
    c.copies({f"{rank}/frac_in_top5": "ranking/top5_overlap/mean"})
    c.ordered(rank, "frac_in_top5", "frac_in_top10", "frac_in_top50")
    c.ordered(rank, "p50_displacement", "p90_displacement", "p99_displacement")
    c.ordered("ranking/spearman", "p10", "p50", "p90")
    c.ordered("ranking/kendall", "p10", "p50")
    reason = (
        f"the 'displacement' of {show(c.get(f'{rank}/mean'))} is a rank: five tokens in place give "
        f"{PERFECT_RANK}, not 0."
    )
    c.inconsistent(f"{rank}/mean", reason, f"{rank}/mean")
