"""Claims that move a module to another model or size: what their result files say about themselves."""

import math
import statistics

from abi.audit.record.arithmetic import agrees, gain, lookup, share, show
from abi.audit.record.checks import POSITIONS, THRESHOLDS, Checks

BAR = 70  # per cent, from reproduce_abi.py R3 and R4
OVERLAPS = 5  # per position


def judge_pair(c: Checks) -> None:
    """Judge gpt2_to_qwen and t5_to_gpt2: one NIB block, its verdict, the configuration stored twice."""
    _single_block(c, "nib_l2", "overall_pass")
    c.thresholds("thresholds")
    c.copies({f"thresholds/{name}": name for name in ("calibration_steps", "n_align_sentences")})


def judge_cross_size(c: Checks) -> None:
    """Judge cross_size: one NIB block on one size, and the attempts before it."""
    _single_block(c, "l2_nib", "nib_pass")
    c.follows("abi_ratio", lambda a, b: a / b, "d_abi", "d_model", by="d_abi / d_model")
    own = {"top5": "l2_nib/mean_top5_overlap", "d_abi": "d_abi", "cal_steps": "calibration_steps"}
    c.copies({f"experiment_history/exp36/{name}": source for name, source in own.items()})
    history = c.get("experiment_history")
    failed = [name for name, run in history.items() if run["top5"] < THRESHOLDS["top5"]]
    if failed:
        reason = (
            f"the pass ({show(c.get(own['top5']))}) is the attempt kept after failures ({', '.join(failed)} are "
            "in the file); width and step count changed together, so it is evidence for neither."
        )
        paths = [f"experiment_history/{name}/{leaf}" for name in failed for leaf in own]
        c.no_evidence("experiment_history", reason, *paths)
    c.vacuous(
        "model",
        f"nothing crosses sizes: the file holds one model ({c.get('model')}, d_model {c.get('d_model')}).",
        "d_model",
    )


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
    c.no_evidence(f"{block}/uncertainty", reason, top5, "seed")


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
        cosine = f"abi_cos_sim_{when}", "d_abi"
        c.follows(f"abi_cos_mult_{when}", lambda cos, d: abs(cos) * math.sqrt(d), *cosine, by="|cos| x sqrt(d_abi)")
    reached = share(*c.numbers(start, without, native))
    if reached >= BAR:
        reason = (
            f"{reached:.1f} of the {c.number(efficacy):.1f} points of efficacy are reached with the domain module "
            f"switched off: the bar of {BAR} is passed without it."
        )
        c.vacuous(efficacy, reason, start, without, native, efficacy, main=True)


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
    passes = [f"diagonal_l2/{domain}/pass" for domain in diagonal]
    c.equal(
        "n_diag_pass", sum(c.get(path) is True for path in passes), *passes, by="the number of passes on the diagonal"
    )
    c.equal("n_domains", len(diagonal), by="the number of domains on the diagonal")
    _locality(c)
    sql = "ppl_calibrated/sql"
    c.follows(
        "non_degradation/sql/sql/ratio", lambda a, b: a / b, sql, "base_ppl/sql", by="calibrated / base perplexity"
    )
    c.copies(dict.fromkeys(("non_degradation/sql/sql/ppl", "ppl_matrix/sql/sql", "refine_selection/sql/ppl"), sql))
    _selection(c)


def _locality(c: Checks) -> None:
    matrix, stated = c.get("interference_matrix"), c.number("locality_ratio")
    on = [f"interference_matrix/{a}/{a}" for a in matrix]
    off = [f"interference_matrix/{a}/{b}" for a in matrix for b in matrix if a != b]
    outside, inside = statistics.fmean(c.numbers(*off)), statistics.fmean(c.numbers(*on))
    half = 0.00005  # the matrix is printed to four decimals
    low, high = (outside - half) / (inside + half), (outside + half) / (inside - half)
    text = f"locality_ratio {show(stated)}: off-diagonal / diagonal mean JS of the matrix is {low:.2f} to {high:.2f}."
    c.holds("locality_ratio", low <= stated <= high, text, text, "locality_ratio", *on, *off)


def _selection(c: Checks) -> None:
    history, chosen = c.get("refine_diag_history/sql"), c.get("refine_selection/sql")
    roots = {f"refine_diag_history/sql/{i}": "selection_score" for i in range(len(history))}
    for root, score in (roots | {"refine_selection/sql": "score"}).items():
        l2 = lookup(c.data, f"{root}/l2")
        expected = [int(l2["pass"]), l2["top5"], l2["top1"], -l2["mean_js"], -l2["entropy"]]
        good = c.get(f"{root}/{score}") == expected
        paths = [f"{root}/{score}/{i}" for i in range(5)] + [
            f"{root}/l2/{k}" for k in ("top5", "top1", "mean_js", "entropy")
        ]
        no = f"{root}: the score is not made of its own metrics {show(expected)}."
        c.holds(f"{root}/{score}", good, f"{root}: the score is made of its own metrics.", no, *paths)
    best = max(history, key=lambda run: run["selection_score"])
    good = best["step"] == chosen["step"] and best["l2"] == chosen["l2"]
    paths = ["refine_selection/sql/step", *(f"refine_selection/sql/l2/{k}" for k in chosen["l2"])]
    c.holds(
        "refine_selection/sql",
        good,
        "the best-scored SQL checkpoint was selected.",
        "the selected SQL checkpoint is not the best-scored.",
        *paths,
    )
    config = {f"local_topk_kl_{x}": f"local_topk_kl_{x}_by_domain/sql" for x in ("weight", "temp")}
    config |= {f"swa_{x}": f"swa_{x}_by_domain/sql" for x in ("start", "every")}
    config |= {"steps": "refine_steps_by_domain/sql", "selected_checkpoint": "refine_selection/sql/step"}
    config |= {"val_top5": "refine_selection/sql/l2/top5", "final_eval_top5": "diagonal_l2/sql/top5"}
    c.copies({f"sql_retry_config/{leaf}": source for leaf, source in config.items()})
    final, selected = "diagonal_l2/sql/top5", "refine_selection/sql/l2/top5"
    if not any(run["l2"]["pass"] for run in history):
        reason = (
            f"4 of 4 domains are said to pass, yet all {len(history)} SQL checkpoints fail on the seed that "
            f"selects them (best top-5 {show(c.get(selected))}); only the final figure {show(c.get(final))}, on "
            "another seed, passes."
        )
        c.contradicted("sql", reason, final, selected, "n_diag_pass")
    entropy, js = "diagonal_l2/sql/entropy_diff", "diagonal_l2/sql/js"
    if agrees(0.0, c.get(entropy)) and c.number(js) > 0:
        reason = (
            f"a SQL entropy difference of 0.0 beside a JS of {show(c.get(js))} is not plausible: the same "
            f"checkpoint has {show(chosen['l2']['entropy'])} on the selection seed."
        )
        c.inconsistent(entropy, reason, entropy, js, "refine_selection/sql/l2/entropy")
