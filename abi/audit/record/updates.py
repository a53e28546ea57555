"""Claims that a module survives an update of its backbone: what their result files say about themselves."""

import math

from abi.audit.record.arithmetic import gain, lookup, per_cent, share, show
from abi.audit.record.checks import Checks
from abi.base.files import Json

GAIN_BAR = 3  # per cent, succession_test_v2.py
EFFICACY_BAR = 40  # per cent, succession_test_v2.py
WIDTH_ROOT = 16  # sqrt(256)


def judge_t5_update(c: Checks) -> None:
    """Judge t5_update: efficacy E1 and what it divides by."""
    raw, zero, oracle, native = (
        "ppl_py_raw_post_update",
        "ppl_py_zero_shot",
        "ppl_cold_start_oracle",
        "ppl_py_domain_phaseA",
    )
    efficacy, bar = "transfer_efficacy_pct", "efficacy_threshold_pct"
    c.follows(efficacy, share, raw, zero, oracle, by="E1 = (raw updated - zero-shot) / (raw updated - cold oracle)")
    c.follows("zero_shot_gain_pct", gain, raw, zero, by="(raw updated - zero-shot) / raw updated")
    c.at_least("passed", efficacy, bar)
    start, reached, cold, phase = c.numbers(raw, zero, oracle, native)
    if cold > reached:
        passes = start - (start - cold) * c.number(bar) / 100
        reason = (
            f"an efficacy of {show(c.get(efficacy))} % is a share of nothing: the oracle it divides by "
            f"({cold:.2f}) is worse than the transferred module ({reached:.2f}) and than phase A of the same "
            f"recipe ({phase:.2f}, which makes it {share(start, reached, phase):.0f} %), so any perplexity up to "
            f"{passes:.2f} passes."
        )
        c.vacuous(efficacy, reason, raw, zero, oracle, native, efficacy, bar, main=True)
    reason = (
        f"the update alone, with no module, takes perplexity from {show(c.get('ppl_py_raw_base'))} to "
        f"{start:.2f}; no arm without the stability term and no oracle on the updated backbone is recorded."
    )
    c.no_evidence("controls", reason, "ppl_py_raw_base", raw)


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
    c.follows(f"{fourth}/last_first_ratio", lambda a, b: b / a, windows[0], windows[3], by="last / first window")
    pairs = {
        f"{second}/source_imp_pct": f"{first}/improvement_pct",
        f"{third}/imp_zero_shot_pct": f"{second}/improvement_pct",
        f"{last}/transfer_efficacy_pct": efficacy,
    }
    pairs |= {f"{third}/{name}": f"{second}/{name}" for name in ("ppl_updated_base", "ppl_updated_with")}
    pairs |= {
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
        c.equal(path, all(c.get(tier) is True for tier in tiers), *tiers, by="whether the four tiers pass")
    cosine = f"{second}/abi_cos_sim_post_update", f"{first}/d_abi"
    by = "|cos| x sqrt(d_abi), the multiple of a random pair's expected cosine,"
    c.follows(f"{second}/abi_ratio_vs_random", lambda cos, d: abs(cos) * math.sqrt(d), *cosine, by=by)
    ppl = ", ".join(show(value) for value in c.numbers(*windows))
    c.vacuous(
        "S4", f"stability S4 passes on windows of perplexity {ppl}: text that repeats itself is 'stable'.", *windows
    )
    _two_bases(c, third, efficacy)


def _two_bases(c: Checks, root: str, efficacy: str) -> None:
    paths = [
        f"{root}/{name}" for name in ("ppl_updated_base", "ppl_updated_with", "ppl_native_base", "ppl_native_with")
    ]
    base, reached, other, native = c.numbers(*paths)
    if base != other:
        reason = (
            f"the efficacy of {show(c.get(efficacy))} % divides two gains with different bases ({base:g} and "
            f"{other:g}); on one base the module covers {share(base, reached, native):.1f} %, at "
            f"{reached / native:.1f} times the native perplexity."
        )
        c.inconsistent(efficacy, reason, efficacy, *paths)


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
    rounds = range(len(c.get("succession_curve")))
    gains = [f"succession_curve/{i}/{name}" for i in rounds for name in ("py_zs", "md_zs")]
    efficacies = ["py_transfer_efficacy", "md_transfer_efficacy"]
    passed = [value > GAIN_BAR for value in c.numbers(*gains)]
    n_pass = 1 + sum(passed) + sum(value >= EFFICACY_BAR for value in c.numbers(*efficacies)) + all(passed)
    by = "the number of the script's checks its figures pass (the unrecorded start gains taken as passed)"
    c.equal("n_pass", n_pass, *gains, *efficacies, by=by)
    c.equal("n_total", len(gains) + 4, by="the number of the script's checks")
    c.equal("num_rounds", len(rounds), by="the number of recorded rounds")
    steps = c.number("num_rounds") * c.number("steps_per_round")
    c.equal("total_update_steps", steps, "num_rounds", "steps_per_round", by="rounds x steps")
    for i in rounds:
        root = f"succession_curve/{i}"
        c.follows(f"{root}/cos_mult", lambda cos: abs(cos) * WIDTH_ROOT, f"{root}/cos_sim", by="|cos| x sqrt(256)")
        c.equal(f"{root}/round", i + 1, by="its place in the curve")
        c.equal(f"{root}/steps", (i + 1) * c.number("steps_per_round"), "steps_per_round", by="round x steps per round")
    label, low = succession_label(c.data), min(c.numbers(*efficacies))
    if label in ("PARTIAL", "FAILED"):
        reason = (
            f"CLAIMS calls the succession validated; its file passes {show(c.get('n_pass'))} of "
            f"{show(c.get('n_total'))} checks, with an efficacy of {low:.1f} % against a bar of {EFFICACY_BAR} %: "
            f"{label} by the script's own rule."
        )
        c.contradicted("label", reason, "n_pass", "n_total", *efficacies, main=True)
    _perplexity(c, rounds)


def _perplexity(c: Checks, rounds: range) -> None:
    paths = {name: [f"succession_curve/{i}/{name}_ppl" for i in rounds] for name in ("py", "md")}
    rises = {name: " -> ".join(f"{value:.1f}" for value in c.numbers(*leaves)) for name, leaves in paths.items()}
    reason = (
        "the gain of 3 % per round is relative to a backbone that decays: perplexity with the module goes "
        f"{rises['py']} (python) and {rises['md']} (markdown) while every round passes."
    )
    c.vacuous("perplexity", reason, *paths["py"], *paths["md"], main=True)


def judge_ablation(c: Checks) -> None:
    """Judge the stability-weight sweep: gains, efficacy E3, cosines; and what it is not."""
    rows = [f"rows/{i}" for i in range(len(c.get("rows")))]
    for row in rows:
        c.follows(f"{row}/py_gain", gain, f"{row}/py_nd", f"{row}/py_zs", by="(module off - on) / off")
        c.follows(f"{row}/efficacy", per_cent, f"{row}/py_gain", "native_gain_pct", by="E3 = gain / native gain")
        c.follows(f"{row}/cos_mult", lambda cos: abs(cos) * WIDTH_ROOT, f"{row}/cos_sim", by="|cos| x sqrt(256)")
    times = [f"{row}/elapsed" for row in rows]
    good = sum(c.numbers(*times)) < c.number("elapsed_s")
    c.holds("elapsed_s", good, "elapsed_s covers its rows.", "elapsed_s is shorter than its rows.", "elapsed_s", *times)
    efficacy = {c.number(f"{row}/alpha"): c.number(f"{row}/efficacy") for row in rows}
    below = [f"{alpha:g}" for alpha, value in efficacy.items() if alpha and value < efficacy[0]]
    paths = [f"{row}/{leaf}" for row in rows for leaf in ("alpha", "efficacy")]
    if below:
        reason = (
            f"with one seed per weight, stability weights {' and '.join(below)} do worse than none at all "
            f"({efficacy[0]:.1f} %): the sweep cannot tell the stability term from noise."
        )
        c.vacuous("rows", reason, *paths)
    keys = sorted({key for row in c.get("rows") for key in row})
    if not {"objective", "loss"} & set(keys):
        reason = (
            "the file cited for an ablation of seven objectives varies one thing, the stability weight "
            f"({len(rows)} values)."
        )
        c.contradicted("objectives", reason, *(f"{row}/alpha" for row in rows), main=True)
