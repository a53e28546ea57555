"""Claim 1: what its result file says about itself, and the 31 lines of the original's verifier."""

import math
import statistics
from collections.abc import Iterator
from operator import sub

from abi.audit.record.arithmetic import agrees, lookup, mean, show, worded
from abi.audit.record.checks import BELOW, THRESHOLDS, Checks
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, MATCH, VACUOUS, Item
from abi.base.files import Json

FILE = "cross_arch_t5_nib_v53_results.json"
SEEDS = ("7777", "1111", "2222", "3333", "4444")
CHUNK = 59  # scored positions of a 64-token window, the first 5 skipped
CHUNKS = 5  # per seed
T_975_DF4 = 2.776  # two-sided 95 % quantile of Student's t for five seeds
WIDTH = 1024  # of the backbone
CLAIM = "t5_same_backbone"


def judge_reconstruction(c: Checks) -> None:
    """Judge claim 1: seeds, the combined interval, the training schedule."""
    c.flags("nib_official", "nib_extended", n=CHUNKS * CHUNK)
    c.thresholds("registry")
    blocks = {seed: f"nib_extended/{seed}" for seed in SEEDS} | {SEEDS[0]: "nib_official"}
    c.copies({f"nib_combined/per_rng_mean_top5/{seed}": f"{block}/mean_top5" for seed, block in blocks.items()})
    c.equal("nib_official/rng_seed", int(SEEDS[0]), by="the official evaluation seed")
    top5 = "nib_official/mean_top5", "reference/45AP_D2048_seed99_official/top5_official"
    c.follows("delta_top5_official_vs_45AP", sub, *top5, by="official top-5 minus 45AP's")
    earlier = "reference/45AQ_D2048_seed456_extended"
    c.follows("delta_corrMSE_vs_45AQ", sub, "best_corrMSE", f"{earlier}/corrMSE", by="corrMSE minus 45AQ's")
    bounds = f"{earlier}/ci_95/0", f"{earlier}/ci_95/1"
    c.follows(f"{earlier}/top5_extended_mean", mean, *bounds, by="the middle of its interval")
    _schedule(c)
    _combined(c.under("nib_combined"))
    _interval(c.under("nib_combined"))


def _schedule(c: Checks) -> None:
    c.equal("n_taps", len(c.get("tap_layers")), by="the number of tap layers")
    c.equal("d_in", WIDTH * c.number("n_taps"), "n_taps", by=f"n_taps x {WIDTH}")
    taps = {f"registry/tap_layers/{i}": f"tap_layers/{i}" for i in range(len(c.get("tap_layers")))}
    c.copies({"registry/n_taps": "n_taps", "registry/d_abi": "d_abi"} | taps)
    early = [f"registry/phase{i}_steps" for i in (1, 2, 3)]
    steps = sum(c.numbers(*early)) + c.number("p4_steps")
    c.equal("total_cal_steps", steps, "p4_steps", *early, by="phases 1 to 3 plus p4_steps")
    planned, total = sum(c.numbers(*early, "registry/phase4_steps")), c.number("total_cal_steps")
    no = (
        f"the registry inside the file gives phase 4 {c.shown('registry/phase4_steps')} steps, {planned} in all, "
        f"while the file reports {c.shown('p4_steps')} and {total}."
    )
    text = "the registry's phases add up." if planned == total else no
    c.holds("registry/phase4_steps", planned == total, text, "registry/phase4_steps")
    c.ordered("phase_corrMSE_floors", "P1", "P2", "P3", "P4", falling=True)
    c.ordered("", "best_corrMSE", "phase_corrMSE_floors/P4")
    c.equal("best_step", min(c.number("best_step"), total), "total_cal_steps", by="a step of the run")


def _combined(c: Checks) -> None:
    means = [f"per_rng_mean_top5/{seed}" for seed in SEEDS]
    c.follows("mean_top5", mean, *means, by="the mean of the five seeds")
    c.follows("se_top5", lambda sd, n: sd / math.sqrt(n), "std_top5", "n_positions", by="std_top5 / sqrt(n_positions)")
    c.follows("ci_95_low", lambda m, s: m - 1.96 * s, "mean_top5", "se_top5", by="mean - 1.96 se")
    c.follows("ci_95_high", lambda m, s: m + 1.96 * s, "mean_top5", "se_top5", by="mean + 1.96 se")
    c.follows("ci_margin_vs_0860", lambda low: low - 0.86, "ci_95_low", by="ci_95_low - 0.86")
    rule = c.get("/nib_official/pass") is True and c.number("mean_top5") >= THRESHOLDS["top5"]
    text = "what the script's rule gives (official pass, and combined mean of 0.86 or more)"
    c.equal("/architecture_confirmed", rule, "/nib_official/pass", "mean_top5", by=text)
    values = c.numbers(*means)
    passing = sum(value >= THRESHOLDS["top5"] for value in values)
    if values[0] == max(values) and passing < len(values):
        reason = (
            f"the official pass rests on the best of the five recorded seeds ({SEEDS[0]}: {show(values[0])}); "
            f"{passing} of 5 reach 0.86, and their mean {c.shown('mean_top5')} does not."
        )
        c.add(INCONSISTENT, "/nib_official", reason, *means, "mean_top5")


def _interval(c: Checks) -> None:
    means = [f"per_rng_mean_top5/{seed}" for seed in SEEDS]
    values = c.numbers(*means)
    center, deviation = statistics.fmean(values), statistics.stdev(values)
    half = T_975_DF4 * deviation / math.sqrt(len(values))
    n, positions = c.number("n_positions"), len(values) * CHUNKS * CHUNK
    if n != positions:
        reason = (
            f"the {n} 'positions' of the combined figure are chunks: 5 seeds x {CHUNKS} chunks of {CHUNK} scored "
            f"tokens are {positions} positions."
        )
        c.add(INCONSISTENT, "n_positions", reason, "n_positions", "/nib_official/n_chunks", main=True)
    if not agrees(c.number("std_top5"), deviation):
        reason = (
            f"the standard deviation {c.shown('std_top5')} does not follow from the five seeds (theirs is "
            f"{deviation:.4f}); it can only be that of {n} chunk means, which no file holds."
        )
        c.add(INCONSISTENT, "std_top5", reason, "std_top5", *means, main=True)
    low, high = c.numbers("ci_95_low", "ci_95_high")
    if not (agrees(low, center - half) and agrees(high, center + half)):
        reason = (
            f"the interval [{show(low)}, {show(high)}] does not follow from the five seeds, which give "
            f"[{center - half:.4f}, {center + half:.4f}] (t, 4 degrees of freedom): it counts {n} chunks as "
            "independent."
        )
        c.add(INCONSISTENT, "ci_95", reason, "ci_95_low", "ci_95_high", *means, main=True)


DECLARED: tuple[tuple[str, object, float | None], ...] = (
    ("tap_layers", [19, 20, 21, 22, 23, 24], None),
    ("n_taps", 6, None),
    ("d_abi", 4096, None),
    ("d_in", 6144, None),
    ("per_tap_ln", True, None),
    ("total_cal_steps", 16000, None),
    ("seed_a", 42, None),
    ("seed_c", 99, None),
    ("best_corrMSE", 0.003047, 1e-7),
    ("best_step", 15466, None),
    ("nib_official/mean_js", 0.01391, 1e-6),
    ("nib_official/mean_top1", 0.8508, 1e-5),
    ("nib_official/mean_top5", 0.8725, 1e-5),
    ("nib_official/mean_ent", 0.2256, 1e-5),
    ("nib_official/pass", True, None),
    ("nib_combined/mean_top5", 0.8549, 1e-5),
    ("nib_combined/std_top5", 0.0316, 1e-5),
    ("nib_combined/ci_95_low", 0.8425, 1e-5),
    ("nib_combined/ci_95_high", 0.8673, 1e-5),
    *(
        (f"nib_combined/per_rng_mean_top5/{seed}", value, 1e-5)
        for seed, value in zip(SEEDS, (0.8725, 0.8353, 0.8475, 0.8542, 0.8651), strict=True)
    ),
)
"""Line by line, what `verify_result.py` compares: leaf, constant in the script, tolerance (None: exact)."""


def original_lines(data: Json) -> list[Item]:
    """Return the 31 lines `verify_result.py` prints, and what it leaves out: "25 checks" is 24 comparisons."""
    lines = [(*_compared(lookup(data, path), path, value, most), path) for path, value, most in DECLARED]
    keys = {"js": "mean_js", "top1": "mean_top1", "top5": "mean_top5", "entropy": "mean_ent"}
    for metric, key in keys.items():
        value, bar = lookup(data, f"nib_official/{key}"), THRESHOLDS[metric]
        good = value < bar if metric in BELOW else value >= bar
        sign = "<" if metric in BELOW else ">="
        reason = worded(f"official {key} {show(value)} {sign} {bar:g}: [holds|fails].", good)
        lines.append((MATCH if good else CONTRADICTED, reason, f"nib_official/{key}"))
    passing = sum(lookup(data, f"nib_combined/per_rng_mean_top5/{s}") >= THRESHOLDS["top5"] for s in SEEDS)
    toothless = {
        "ci_95_low": "ci_95_low >= 0.840: a miss prints a warning and still verifies; 0.840 is none of the four "
        "thresholds.",
        "per_rng_mean_top5/4444": "seeds that reach 0.86, counted over 7777 and 4444 only: the other three seeds are "
        f"never counted (over all five it is {passing} of 5).",
        "ci_95_high": "interval = mean +- 1.96 se within 0.001: a miss prints a warning and still verifies.",
    }
    lines += [(VACUOUS, f"cannot fail: {reason}", f"nib_combined/{leaf}") for leaf, reason in toothless.items()]
    items = [_line(str(i), state, reason, path) for i, (state, reason, path) in enumerate(lines, 1)]
    return [*items, _ignored(data, len(items))]


def _compared(value: Json, path: str, constant: object, tolerance: float | None) -> tuple[str, str]:
    """Return state and reason of a comparison with a constant of the script."""
    if tolerance is None or not isinstance(constant, float):
        good = agrees(constant, value)
    else:
        good = abs((round(value, 6) if path == "best_corrMSE" else value) - constant) <= tolerance
    verb = "rounds to" if path == "best_corrMSE" else "is"
    reason = worded(f"{path} {show(value)} [{verb}|is not] {show(constant)}.", good)
    if value == constant:
        reason = f"{path} is {show(value)}, as declared."
    return MATCH if good else CONTRADICTED, reason


def _line(number: str, state: str, reason: str, *paths: str, main: bool = False) -> Item:
    leaves = tuple(f"{FILE}:{path}" for path in paths)
    return Item(f"line {number}", CLAIM, "verifier", state, reason, leaves=leaves, main=main)


def _ignored(data: Json, lines: int) -> Item:
    every = list(_figures(data))
    read = {path for path, *_ in DECLARED} & set(every)
    unread = ("architecture_confirmed", "nib_extended", "registry", "model", "phase_corrMSE_floors", "elapsed_min")
    reason = (
        f"the '25 checks' of the original's verifier are {len(DECLARED)} comparisons of one file with constants in the "
        f"script ({lines} lines in all): they read {len(read)} of its {len(every)} values (a list is one) and no "
        f"other file, not {', '.join(unread[:-1])} or {unread[-1]}."
    )
    return _line("31+", VACUOUS, reason, *(path for path in every if path.split("/")[0] in unread), main=True)


def _figures(node: Json, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _figures(value, f"{path}/{key}" if path else key)
    else:
        yield path
