"""Files of the generation, interference, robustness and width experiments: flags, counts, and what they share."""

from abi.audit.record.arithmetic import show
from abi.audit.record.checks import POSITIONS, Checks
from abi.base.files import Json

DEGRADATION_BAR = 0.5  # perplexity, knowledge_non_interference.py


def judge_generation(c: Checks) -> None:
    """Judge generation equivalence G1 to G5, and what its bars let through."""
    g1, g2, g4, g5 = "G1_syntax", "G2_keyword", "G4_cross_ppl", "G5_functional"
    on, off = f"{g1}/calibrated_with_domain", f"{g1}/calibrated_no_domain"
    c.follows(f"{g1}/parity_gap_pp", lambda a, b: 100 * abs(a - b), f"{g1}/native", on, by="100 |native - calibrated|")
    c.at_most(f"{g1}/pass", f"{g1}/parity_gap_pp", f"{g1}/threshold_parity_pp")
    c.equal(f"{g1}/domain_load_bearing", c.number(on) > c.number(off), on, off, by="whether module on beats module off")
    arms = f"{g2}/transferred_with_domain", f"{g2}/transferred_no_domain"
    c.follows(f"{g2}/domain_factor", _over, *arms, by="module on / off")
    c.at_least(f"{g2}/pass", f"{g2}/domain_factor", f"{g2}/threshold")
    for ratio, arm in (("ratio_nat", "nat"), ("ratio_tr", "tr")):
        c.follows(f"{g4}/{ratio}", _over, f"{g4}/{arm}_cross", f"{g4}/{arm}_self", by="cross / self perplexity")
    ratios = f"{g4}/ratio_nat", f"{g4}/ratio_tr"
    c.follows(f"{g4}/avg_ratio", lambda a, b: (a + b) / 2, *ratios, by="the mean of the two ratios")
    c.at_most(f"{g4}/pass", f"{g4}/avg_ratio", f"{g4}/threshold")
    _probes(c, g5)
    _coherence(c, "G3_coherence")
    groups = [f"{name}/pass" for name in c.data if name.startswith("G")]
    c.equal("n_pass", sum(c.get(path) is True for path in groups), *groups, by="the number of groups that pass")
    c.equal("n_total", len(groups), by="the number of groups")


def _over(a: float, b: float) -> float:
    return a / b


def _probes(c: Checks, g5: str) -> None:
    leaves = (
        "calibrated_with_domain_n",
        "calibrated_no_domain_n",
        "native_n",
        "threshold_abs",
        "ni_margin_probes",
        "n_probes",
    )
    paths = [f"{g5}/{leaf}" for leaf in leaves]
    on, off, native, bar, margin, n = c.numbers(*paths)
    c.equal(f"{g5}/parity_pass", on >= native - margin, *paths, by="whether calibrated reaches native - margin")
    c.equal(f"{g5}/pass", on >= native - margin and on >= bar, *paths, by="parity and the absolute bar")
    c.equal(f"{g5}/domain_load_bearing", on > off, *paths, by="whether module on beats module off")
    if off >= bar:
        reason = (
            f"the functional bar of {bar:g} probes is passed with the module switched off ({off:g} of {n:g}), "
            f"which does better than the module ({on:g})."
        )
        c.vacuous(g5, reason, *paths, main=True)


def _coherence(c: Checks, g3: str) -> None:
    floor, gap, least = c.numbers(
        *(f"{g3}/{bar}" for bar in ("threshold_abs", "threshold_parity_pp", "threshold_nd_ratio"))
    )
    passing, without = [], []
    for name in c.get(f"{g3}/decoding_sweep"):
        root = f"{g3}/decoding_sweep/{name}"
        paths = [f"{root}/{arm}/avg_diversity" for arm in ("native", "calibrated", "no_domain")]
        native, own, off = c.numbers(*paths)
        c.follows(f"{root}/cal_nd_ratio", _over, paths[1], paths[2], by="calibrated / module off")
        c.follows(
            f"{root}/parity_gap_pp", lambda a, b: 100 * (a - b), paths[1], paths[0], by="100 (calibrated - native)"
        )
        good = own >= floor and 100 * abs(own - native) <= gap and own >= least * off
        c.equal(f"{root}/pass", good, *paths, by="what the three diversity bars give")
        for arm in ("native", "calibrated", "no_domain"):
            c.ordered(f"{root}/{arm}", "min_entropy", "avg_entropy")
            c.ordered(f"{root}/{arm}", "avg_post_top_p_entropy", "avg_entropy")
        for arm in ("calibrated", "no_domain"):
            c.ordered(f"{root}/{arm}", "avg_kl_to_native", "max_kl_to_native")
        passing += [name] * good
        without += [name] * (good and 100 * abs(off - native) <= gap and off >= floor)
    baseline, best = c.get(f"{g3}/baseline_config"), c.get(f"{g3}/best_config")
    first, last = f"{g3}/decoding_sweep/{baseline}", f"{g3}/decoding_sweep/{best}"
    arms = {"native": "native", "calibrated": "calibrated", "no_domain": "no_domain"}
    pairs = {f"{g3}/{arm}_div": f"{first}/{key}/avg_diversity" for arm, key in arms.items()}
    pairs |= {f"{g3}/best_{arm}_div": f"{last}/{key}/avg_diversity" for arm, key in arms.items()}
    c.copies(pairs | {f"{g3}/{leaf}": f"{first}/{leaf}" for leaf in ("cal_nd_ratio", "parity_gap_pp")})
    c.equal(f"{g3}/baseline_pass", baseline in passing, f"{first}/pass", by="whether the baseline decoding passes")
    c.equal(f"{g3}/stable_configs", passing, by="the list of decodings that pass")
    c.equal(f"{g3}/pass", bool(passing), by="whether any decoding passes")
    if baseline not in passing and passing:
        reason = (
            f"coherence passes if any of {len(c.get(f'{g3}/decoding_sweep'))} decodings does: the baseline scores "
            f"{show(c.get(f'{g3}/calibrated_div'))} in both models, and in {len(without)} of the {len(passing)} "
            "that pass the model with its module off passes as well."
        )
        c.vacuous(g3, reason, *pairs, *(f"{g3}/decoding_sweep/{name}/no_domain/avg_diversity" for name in without))


def judge_interference(c: Checks) -> None:
    """Judge non-interference: flags, the damage to WikiText, the second calibration."""
    c.flags("cross_domain_l2", "double_calibration", n=POSITIONS)
    before, after = "ppl/transferred/wiki_ppl", "ppl/calibrated/wiki_ppl"
    summary = "interference_summary"
    delta = f"{summary}/wiki_ppl_delta_vs_transferred"
    c.follows(delta, lambda a, b: b - a, before, after, by="calibrated - transferred")
    c.equal(
        f"{summary}/wiki_non_degradation",
        abs(c.number(delta)) < DEGRADATION_BAR,
        delta,
        by="whether |change| is below 0.5",
    )
    python, twice = "cross_domain_l2/calibrated_vs_native/python", "double_calibration/py_parity_after_double_cal"
    blocks = {
        "python_parity_intact": (python,),
        "dual_parity_composable": (twice, "double_calibration/wiki_parity_after_double_cal"),
    }
    for leaf, roots in blocks.items():
        flags = [f"{root}/{flag}" for root in roots for flag in ("js_pass", "top5_pass")]
        c.equal(f"{summary}/{leaf}", all(c.get(flag) for flag in flags), *flags, by="what its blocks give")
    if c.get(f"{summary}/wiki_non_degradation") is False:
        top5 = f"{python}/mean_top5", f"{twice}/mean_top5"
        reason = (
            "documents say other knowledge is preserved; here calibration takes WikiText perplexity from "
            f"{show(c.get(before))} to {show(c.get(after))}, and a second calibration takes python top-5 from "
            f"{show(c.get(top5[0]))} to {show(c.get(top5[1]))}."
        )
        c.contradicted("interference", reason, before, after, delta, *top5, main=True)


def judge_robustness(c: Checks) -> None:
    """Judge the robustness sweep: flags of its 99 runs, and the native module they share."""
    c.flags(n=POSITIONS)
    runs: dict[str, dict[str, Json]] = {}
    for method, temperatures in c.data.items():
        for t, weights in temperatures.items():
            for w, rows in weights.items():
                runs |= {f"{method}/{t}/{w}/{i}": run for i, run in enumerate(rows)}
    seeds = sorted({run["seed"] for run in runs.values()})
    for method in c.data:
        own = {path: run for path, run in runs.items() if path.startswith(f"{method}/")}
        counts = {sum(run["seed"] == seed for run in own.values()) for seed in seeds}
        text = f"{method}: {{}} setting has the same {len(seeds)} seeds."
        c.holds(
            f"{method}/seed",
            len(counts) == 1,
            text.format("every"),
            text.format("not every"),
            *(f"{p}/seed" for p in own),
        )
    margins = {run["native_margin_5_6"] for run in runs.values()}
    if len(margins) == 1 and len(seeds) > 1:
        reason = (
            f"its {len(seeds)} seeds are not {len(seeds)} studies: all {len(runs)} runs share one native module "
            f"(margin {margins.pop():g} throughout), so the seeds vary the calibration only."
        )
        c.inconsistent("native_margin_5_6", reason, *(f"{path}/native_margin_5_6" for path in runs))
    for path, run in runs.items():
        paths = [f"{path}/{leaf}" for leaf in ("top5", "native_top5_in_candidate_top10")]
        if not run["top5"] <= run["native_top5_in_candidate_top10"] <= 1:
            c.inconsistent(paths[1], f"{path}: fewer native top-5 tokens in the top 10 than in the top 5.", *paths)


def judge_transition(c: Checks) -> None:
    """Judge the width transition: nine runs, three seeds each, and whether there is a step."""
    c.flags("results", n=POSITIONS)
    c.thresholds("nib_thresholds")
    widths: dict[int, list[bool]] = {}
    for name, run in c.get("results").items():
        root = f"results/{name}"
        good = name == f"d{run['d_abi']}_s{run['seed_offset']}"
        text = f"{name}: width and seed are {{}} of its name."
        c.holds(root, good, text.format("those"), text.format("not those"), f"{root}/d_abi", f"{root}/seed_offset")
        c.copies({f"{root}/nib_pass": f"{root}/l2/pass"})
        widths.setdefault(run["d_abi"], []).append(run["l2"]["pass"])
    seeds = {run["seed_offset"] for run in c.get("results").values()}
    c.equal("d_abi_transition", list(widths), by="the list of widths that ran")
    c.equal("seeds", sorted(seeds), by="the list of seeds that ran")
    c.total("total_elapsed_s", *(f"results/{name}/elapsed_s" for name in c.get("results")), by="the nine run times")
    counts = ", ".join(f"{sum(passes)} of {len(passes)} at width {width}" for width, passes in widths.items())
    reason = f"no transition can be seen: {counts} pass, which three seeds per width cannot tell apart."
    c.vacuous("results", reason, *(f"results/{name}/l2/mean_top5" for name in c.get("results")))
