"""Claims that move a module, to another model or size or over an update: what their files say about themselves."""

import math
import statistics
from operator import truediv

from abi.audit.record.arithmetic import agrees, gain, lookup, per_cent, share, show
from abi.audit.record.checks import OVERLAPS, POSITIONS, THRESHOLDS, Checks
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, NO_EVIDENCE, VACUOUS
from abi.base.files import Json

BAR = 70  # per cent, from reproduce_abi.py R3 and R4
GAIN_BAR = 3  # per cent, succession_test_v2.py
EFFICACY_BAR = 40  # per cent, succession_test_v2.py
WIDTH_ROOT = 16  # sqrt(256)


def judge_pair(c: Checks) -> None:
    """Judge gpt2_to_qwen and t5_to_gpt2: one NIB block, its verdict, the configuration stored twice."""
    _single_block(c, "nib_l2", "overall_pass")
    c.thresholds("thresholds")
    c.copies({f"thresholds/{name}": name for name in ("calibration_steps", "n_align_sentences")})


def judge_cross_size(c: Checks) -> None:
    """Judge cross_size: one NIB block on one size, and the attempts before it."""
    _single_block(c, "l2_nib", "nib_pass")
    c.follows("abi_ratio", truediv, "d_abi", "d_model", by="d_abi / d_model")
    own = {"top5": "l2_nib/mean_top5_overlap", "d_abi": "d_abi", "cal_steps": "calibration_steps"}
    c.copies({f"experiment_history/exp36/{name}": source for name, source in own.items()})
    history = c.get("experiment_history")
    failed = [name for name, run in history.items() if run["top5"] < THRESHOLDS["top5"]]
    if failed:
        reason = (
            f"the pass ({c.shown(own['top5'])}) is the attempt kept after failures ({', '.join(failed)} are "
            "in the file); width and step count changed together, so it is evidence for neither."
        )
        paths = [f"experiment_history/{name}/{leaf}" for name in failed for leaf in own]
        c.add(NO_EVIDENCE, "experiment_history", reason, *paths)
    reason = f"nothing crosses sizes: the file holds one model ({c.get('model')}, d_model {c.get('d_model')})."
    c.add(VACUOUS, "model", reason, "d_model")


def _single_block(c: Checks, block: str, verdict: str) -> None:
    c.flags(block, n=POSITIONS)
    c.equal(f"{block}/n_positions", POSITIONS, by="5 chunks x 492 scored positions")
    c.thresholds(f"{block}/thresholds")
    c.copies({verdict: f"{block}/pass"})
    top5 = f"{block}/mean_top5_overlap"
    margin = c.number(top5) - THRESHOLDS["top5"]
    reason = (
        f"the top-5 margin over 0.86 is {margin:.4f} ({margin * POSITIONS * OVERLAPS:.0f} of "
        f"{POSITIONS * OVERLAPS} overlaps), from one training seed and one evaluation seed, with no figure from "
        "which its uncertainty could be computed."
    )
    c.add(NO_EVIDENCE, f"{block}/uncertainty", reason, top5, "seed")


def judge_lineage(c: Checks) -> None:
    """Judge pythia_to_gpt2: efficacy E4, cosines, and what is reached without the module."""
    names = ("ppl_gpt2_pretrained", "ppl_after_align_no_domain", "ppl_cross_lineage_transfer", "ppl_gpt2_native")
    _efficacy(c, "cross_lineage_gain_pct", *names)


def judge_size_transfer(c: Checks) -> None:
    """Judge gpt2_to_gpt2_medium: efficacy E4, cosines, and what is reached without the module."""
    names = ("pretrained", "post_alignment_no_domain", "cross_transfer", "native")
    _efficacy(c, "cross_size_gain_pct", *(f"ppl_medium_{name}" for name in names))


def _efficacy(c: Checks, gained: str, start: str, without: str, transfer: str, native: str) -> None:
    efficacy = "efficacy_vs_native_pct"
    c.follows(efficacy, share, start, transfer, native, by="E4 = (pre - transfer) / (pre - native)")
    c.follows(gained, gain, without, transfer, by="(module off - on) / off")
    for when in ("before", "after"):
        c.follows(f"abi_cos_mult_{when}", cosine_multiple, f"abi_cos_sim_{when}", "d_abi", by="|cos| x sqrt(d_abi)")
    reached = share(*c.numbers(start, without, native))
    if reached >= BAR:
        reason = (
            f"{reached:.1f} of the {c.number(efficacy):.1f} points of efficacy are reached with the domain module "
            f"switched off: the bar of {BAR} is passed without it."
        )
        c.add(VACUOUS, efficacy, reason, start, without, native, efficacy, main=True)


def cosine_multiple(cosine: float, width: float) -> float:
    """Return a cosine as a multiple of that expected of a random pair of vectors."""
    return abs(cosine) * math.sqrt(width)


def judge_atlas(c: Checks) -> None:
    """Judge the domain atlas: its diagonal, the interference matrix, copies, and the SQL selection."""
    c.flags("diagonal_l2", "refine_diag_history", "refine_selection", n=POSITIONS)
    c.thresholds("registry")
    diagonal = c.get("diagonal_l2")
    c.copies({f"r_squared/{domain}": f"diagonal_l2/{domain}/r_squared" for domain in diagonal})
    for domain, block in diagonal.items():
        stored = f"diagonal_l2/{domain}/{'mean_js' if 'mean_js' in block else 'js'}"
        by = f"{stored}, the same measurement,"
        c.follows(f"interference_matrix/{domain}/{domain}", lambda x: x, stored, by=by)
    passes = "diagonal_l2/*/pass"
    c.equal("n_diag_pass", c.passing(passes), passes, by="the number of passes on the diagonal")
    c.equal("n_domains", len(diagonal), by="the number of domains on the diagonal")
    _locality(c)
    sql, degraded = "ppl_calibrated/sql", "non_degradation/sql/sql"
    c.follows(f"{degraded}/ratio", truediv, sql, "base_ppl/sql", by="calibrated / base perplexity")
    c.copies(dict.fromkeys((f"{degraded}/ppl", "ppl_matrix/sql/sql", "refine_selection/sql/ppl"), sql))
    _selection(c)


def _locality(c: Checks) -> None:
    matrix, stated = c.get("interference_matrix"), c.number("locality_ratio")
    on = [f"interference_matrix/{a}/{a}" for a in matrix]
    off = [f"interference_matrix/{a}/{b}" for a in matrix for b in matrix if a != b]
    outside, inside = statistics.fmean(c.numbers(*off)), statistics.fmean(c.numbers(*on))
    half = 0.00005  # the matrix is printed to four decimals
    low, high = (outside - half) / (inside + half), (outside + half) / (inside - half)
    text = f"locality_ratio {show(stated)}: off-diagonal / diagonal mean JS of the matrix is {low:.2f} to {high:.2f}."
    c.holds("locality_ratio", low <= stated <= high, text, "locality_ratio", *on, *off)


def _selection(c: Checks) -> None:
    history, chosen = c.get("refine_diag_history/sql"), c.under("refine_selection/sql")
    scored = {run: "selection_score" for run in c.each("refine_diag_history/sql/*")} | {chosen: "score"}
    for run, score in scored.items():
        l2 = run.get("l2")
        expected = [int(l2["pass"]), l2["top5"], l2["top1"], -l2["mean_js"], -l2["entropy"]]
        good = run.get(score) == expected
        text = f"{run.root}: the score is [made|not made] of its own metrics{'' if good else f' {show(expected)}'}."
        paths = [*(f"{score}/{i}" for i in range(5)), *(f"l2/{key}" for key in ("top5", "top1", "mean_js", "entropy"))]
        run.holds(score, good, text, *paths)
    best = max(history, key=lambda run: run["selection_score"])
    good = best["step"] == chosen.get("step") and best["l2"] == chosen.get("l2")
    text = "the [best-scored SQL checkpoint was selected|selected SQL checkpoint is not the best-scored]."
    chosen.holds("", good, text, "step", "l2/*")
    config = {f"local_topk_kl_{x}": f"local_topk_kl_{x}_by_domain/sql" for x in ("weight", "temp")}
    config |= {f"swa_{x}": f"swa_{x}_by_domain/sql" for x in ("start", "every")}
    config |= {"steps": "refine_steps_by_domain/sql", "selected_checkpoint": "refine_selection/sql/step"}
    config |= {"val_top5": "refine_selection/sql/l2/top5", "final_eval_top5": "diagonal_l2/sql/top5"}
    c.copies({f"sql_retry_config/{leaf}": source for leaf, source in config.items()})
    final, selected = "diagonal_l2/sql/top5", "refine_selection/sql/l2/top5"
    if not any(run["l2"]["pass"] for run in history):
        reason = (
            f"4 of 4 domains are said to pass, yet all {len(history)} SQL checkpoints fail on the seed that "
            f"selects them (best top-5 {c.shown(selected)}); only the final figure {c.shown(final)}, on "
            "another seed, passes."
        )
        c.add(CONTRADICTED, "sql", reason, final, selected, "n_diag_pass")
    entropy, js = "diagonal_l2/sql/entropy_diff", "diagonal_l2/sql/js"
    if agrees(0.0, c.get(entropy)) and c.number(js) > 0:
        reason = (
            f"a SQL entropy difference of 0.0 beside a JS of {c.shown(js)} is not plausible: the same "
            f"checkpoint has {chosen.shown('l2/entropy')} on the selection seed."
        )
        c.add(INCONSISTENT, entropy, reason, entropy, js, "refine_selection/sql/l2/entropy")


# over an update of the backbone


def judge_t5_update(c: Checks) -> None:
    """Judge t5_update: efficacy E1 and what it divides by."""
    raw, zero, oracle = "ppl_py_raw_post_update", "ppl_py_zero_shot", "ppl_cold_start_oracle"
    native, efficacy, bar = "ppl_py_domain_phaseA", "transfer_efficacy_pct", "efficacy_threshold_pct"
    c.follows(efficacy, share, raw, zero, oracle, by="E1 = (raw updated - zero-shot) / (raw updated - cold oracle)")
    c.follows("zero_shot_gain_pct", gain, raw, zero, by="(raw updated - zero-shot) / raw updated")
    c.at_least("passed", efficacy, bar)
    start, reached, cold, phase = c.numbers(raw, zero, oracle, native)
    if cold > reached:
        passes = start - (start - cold) * c.number(bar) / 100
        reason = (
            f"an efficacy of {c.shown(efficacy)} % is a share of nothing: the oracle it divides by "
            f"({cold:.2f}) is worse than the transferred module ({reached:.2f}) and than phase A of the same "
            f"recipe ({phase:.2f}, which makes it {share(start, reached, phase):.0f} %), so any perplexity up to "
            f"{passes:.2f} passes."
        )
        c.add(VACUOUS, efficacy, reason, raw, zero, oracle, native, efficacy, bar, main=True)
    reason = (
        f"the update alone, with no module, takes perplexity from {c.shown('ppl_py_raw_base')} to "
        f"{start:.2f}; no arm without the stability term and no oracle on the updated backbone is recorded."
    )
    c.add(NO_EVIDENCE, "controls", reason, "ppl_py_raw_base", raw)


def judge_gpt2_update(c: Checks) -> None:
    """Judge gpt2_update: five tiers, efficacy E2, the cosine multiple, the roll-out."""
    first, second, third, fourth, last = (f"{i}/metrics" for i in range(5))
    improvement = {
        f"{first}/improvement_pct": (f"{first}/ppl_no_domain", f"{first}/ppl_with_domain"),
        f"{second}/improvement_pct": (f"{second}/ppl_updated_base", f"{second}/ppl_updated_with"),
        f"{third}/imp_native_pct": (f"{third}/ppl_native_base", f"{third}/ppl_native_with"),
    }
    for path, (off, on) in improvement.items():
        c.follows(path, gain, off, on, by="(module off - on) / off")
    efficacy = f"{third}/transfer_efficacy_pct"
    gains = f"{third}/imp_zero_shot_pct", f"{third}/imp_native_pct"
    c.follows(efficacy, per_cent, *gains, by="E2 = zero-shot gain / native gain")
    windows = [f"{fourth}/window_ppls/{i}" for i in range(4)]
    ends = windows[0], windows[-1]
    c.follows(f"{fourth}/last_first_ratio", lambda a, b: b / a, *ends, by="last / first window")
    pairs = {
        f"{second}/source_imp_pct": f"{first}/improvement_pct",
        f"{third}/imp_zero_shot_pct": f"{second}/improvement_pct",
        f"{last}/transfer_efficacy_pct": efficacy,
        f"{third}/ppl_updated_base": f"{second}/ppl_updated_base",
        f"{third}/ppl_updated_with": f"{second}/ppl_updated_with",
        f"{last}/update_steps": f"{second}/update_steps",
        f"{last}/backbone_params_M": f"{first}/backbone_params_M",
    }
    c.copies(pairs)
    for tier in (0, 1):
        c.at_least(f"{tier}/passed", f"{tier}/metrics/improvement_pct", f"{tier}/metrics/threshold_pct")
    c.at_least("2/passed", efficacy, f"{third}/threshold_efficacy_pct")
    c.at_most("3/passed", f"{fourth}/last_first_ratio", f"{fourth}/threshold")
    tiers = [f"{i}/passed" for i in range(4)]
    for path in (f"{last}/all_4_tests_pass", "4/passed"):
        c.equal(path, c.passing(*tiers) == len(tiers), *tiers, by="whether the four tiers pass")
    cosine = f"{second}/abi_cos_sim_post_update", f"{first}/d_abi"
    by = "|cos| x sqrt(d_abi), the multiple of a random pair's expected cosine,"
    c.follows(f"{second}/abi_ratio_vs_random", cosine_multiple, *cosine, by=by)
    ppl = ", ".join(show(value) for value in c.numbers(*windows))
    reason = f"stability S4 passes on windows of perplexity {ppl}: text that repeats itself is 'stable'."
    c.add(VACUOUS, "S4", reason, *windows)
    paths = [f"{third}/ppl_{name}" for name in ("updated_base", "updated_with", "native_base", "native_with")]
    base, reached, other, native = c.numbers(*paths)
    if base != other:
        reason = (
            f"the efficacy of {c.shown(efficacy)} % divides two gains with different bases ({base:g} and "
            f"{other:g}); on one base the module covers {share(base, reached, native):.1f} %, at "
            f"{reached / native:.1f} times the native perplexity."
        )
        c.add(INCONSISTENT, efficacy, reason, efficacy, *paths)


def succession_label(data: Json) -> str:
    """Return the label the script's rule gives, from the checks passed and the lower of the two efficacies."""
    n_pass, n_total = lookup(data, "n_pass"), lookup(data, "n_total")
    low = min(lookup(data, "py_transfer_efficacy"), lookup(data, "md_transfer_efficacy"))
    if n_pass == n_total and low >= 50:
        return "BREAKTHROUGH" if low >= 70 else "STRONG"
    if n_pass >= n_total - 1 and low >= EFFICACY_BAR:
        return "STRONG with a minor failure"
    return "PARTIAL" if n_pass >= n_total - 2 else "FAILED"


def judge_succession(c: Checks) -> None:
    """Judge succession: ten checks, three rounds, the label, and the perplexity behind the gains."""
    rounds = c.each("succession_curve/*")
    gains = [f"{one.root}/{name}" for one in rounds for name in ("py_zs", "md_zs")]
    efficacies = "py_transfer_efficacy", "md_transfer_efficacy"
    passed = [value > GAIN_BAR for value in c.numbers(*gains)]
    n_pass = 1 + sum(passed) + sum(value >= EFFICACY_BAR for value in c.numbers(*efficacies)) + all(passed)
    by = "the number of the script's checks its figures pass (the unrecorded start gains taken as passed)"
    c.equal("n_pass", n_pass, *gains, *efficacies, by=by)
    c.equal("n_total", len(gains) + 4, by="the number of the script's checks")
    c.equal("num_rounds", len(rounds), by="the number of recorded rounds")
    per_round = c.number("steps_per_round")
    c.equal(
        "total_update_steps", c.number("num_rounds") * per_round, "num_rounds", "steps_per_round", by="rounds x steps"
    )
    for i, one in enumerate(rounds, 1):
        one.follows("cos_mult", lambda cos: abs(cos) * WIDTH_ROOT, "cos_sim", by="|cos| x sqrt(256)")
        one.equal("round", i, by="its place in the curve")
        one.equal("steps", i * per_round, "/steps_per_round", by="round x steps per round")
    label, low = succession_label(c.data), min(c.numbers(*efficacies))
    if label in ("PARTIAL", "FAILED"):
        reason = (
            f"CLAIMS calls the succession validated; its file passes {c.shown('n_pass')} of "
            f"{c.shown('n_total')} checks, with an efficacy of {low:.1f} % against a bar of {EFFICACY_BAR} %: "
            f"{label} by the script's own rule."
        )
        c.add(CONTRADICTED, "label", reason, "n_pass", "n_total", *efficacies, main=True)
    paths = "succession_curve/*/py_ppl", "succession_curve/*/md_ppl"
    python, markdown = (" -> ".join(f"{value:.1f}" for value in c.numbers(path)) for path in paths)
    reason = (
        "the gain of 3 % per round is relative to a backbone that decays: perplexity with the module goes "
        f"{python} (python) and {markdown} (markdown) while every round passes."
    )
    c.add(VACUOUS, "perplexity", reason, *paths, main=True)


def judge_ablation(c: Checks) -> None:
    """Judge the stability-weight sweep: gains, efficacy E3, cosines; and what it is not."""
    rows = c.each("rows/*")
    for row in rows:
        row.follows("py_gain", gain, "py_nd", "py_zs", by="(module off - on) / off")
        row.follows("efficacy", per_cent, "py_gain", "/native_gain_pct", by="E3 = gain / native gain")
        row.follows("cos_mult", lambda cos: abs(cos) * WIDTH_ROOT, "cos_sim", by="|cos| x sqrt(256)")
    good = sum(c.numbers("rows/*/elapsed")) < c.number("elapsed_s")
    c.holds("elapsed_s", good, "elapsed_s [covers|is shorter than] its rows.", "elapsed_s", "rows/*/elapsed")
    efficacy = {row.number("alpha"): row.number("efficacy") for row in rows}
    below = [f"{alpha:g}" for alpha, value in efficacy.items() if alpha and value < efficacy[0]]
    if below:
        reason = (
            f"with one seed per weight, stability weights {' and '.join(below)} do worse than none at all "
            f"({efficacy[0]:.1f} %): the sweep cannot tell the stability term from noise."
        )
        c.add(VACUOUS, "rows", reason, *(f"{row.root}/{leaf}" for row in rows for leaf in ("alpha", "efficacy")))
    if not any({"objective", "loss"} & row.keys() for row in c.get("rows")):
        reason = (
            "the file cited for an ablation of seven objectives varies one thing, the stability weight "
            f"({len(rows)} values)."
        )
        c.add(CONTRADICTED, "objectives", reason, "rows/*/alpha", main=True)
