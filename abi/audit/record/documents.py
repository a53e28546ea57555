"""Every documented figure against its own result file; what has no file, and what was found by reading the code."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from abi.audit.record.arithmetic import agrees, lookup, show
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, MATCH, NO_EVIDENCE, Item
from abi.audit.record.reconstruction import DECLARED, FILE
from abi.audit.record.updates import succession_label
from abi.base.files import Json
from abi.judge.published import FIGURES, Record, documents

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
ALPHA_WIDTH, ANCHOR_WIDTH, BACKBONE_WIDTH, TAPS = 4096, 512, 1024, 6


class Found(NamedTuple):
    """What stands against a documented value: the value, how it was found, and the leaves it was found in."""

    value: Json
    how: str
    leaves: tuple[str, ...] = ()


def module_parameters(d_in: int, d_abi: int, d_model: int, taps: int = 0) -> int:
    """Return the parameters of the original's module: projections, norms, four-fold domain net, gate, tap norms."""
    hidden = 4 * d_abi
    net = d_abi * hidden + hidden + hidden * d_abi + d_abi
    return d_in * d_abi + 2 * d_abi + net + 2 * d_abi + 1 + d_abi * d_model + 2 * d_model * taps


def _count(record: Record, name: str, paths: list[str], how: str) -> Found:
    passes = sum(lookup(record.files[name], path) is True for path in paths)
    return Found(passes, f"{name} holds {passes} {how} of {len(paths)} runs", tuple(f"{name}:{path}" for path in paths))


def _scaling(record: Record, metric: str) -> Found:
    name = "calibration_scaling_law_b_results.json"
    leaf, label = metric.split(".", 1)
    path = f"new_data/{label}/{'floor_steps' if leaf == 'floor' else leaf}"
    value = lookup(record.files[name], path)
    return Found(value, f"{name} {path} holds {show(value)}", (f"{name}:{path}",))


def _robustness(record: Record, metric: str) -> Found:
    name, method = "method_robustness_results.json", metric.split(".", 1)[0]
    runs = record.files[name][method].items()
    paths = [f"{method}/{t}/{w}/{i}/pass" for t, by in runs for w, rows in by.items() for i in range(len(rows))]
    return _count(record, name, paths, "passes")


def _transition(record: Record, metric: str) -> Found:
    name, width = "transition_zone_results.json", metric.split(".", 1)[0]
    keys = [key for key in record.files[name]["results"] if key.startswith(f"{width}_")]
    return _count(record, name, [f"results/{key}/nib_pass" for key in keys], "passes")


def _without_hard_seed(record: Record, metric: str) -> Found:
    del metric
    root = "nib_combined/per_rng_mean_top5"
    seeds = [seed for seed in lookup(record.files[FILE], root) if seed != "1111"]
    mean = sum(lookup(record.files[FILE], f"{root}/{seed}") for seed in seeds) / len(seeds)
    leaves = tuple(f"{FILE}:{root}/{seed}" for seed in seeds)
    return Found(round(mean, 4), f"the mean of the other four seeds in {FILE} is {mean:.4f}", leaves)


def _angle(record: Record, metric: str) -> Found:
    del metric
    error = lookup(record.files[FILE], "best_corrMSE")
    degrees = math.degrees(math.acos(1 - error / 0.24**2))
    return Found(round(degrees, 2), f"arccos(1 - best_corrMSE / 0.24^2) is {degrees:.2f}", (f"{FILE}:best_corrMSE",))


def _only_passing(record: Record, metric: str) -> Found:
    del metric
    path = "reference/45AP_D2048_seed99_official/top5_official"
    value = lookup(record.files[FILE], path)
    return Found(value < 0.86, f"{FILE} holds another configuration at {show(value)} ({path})", (f"{FILE}:{path}",))


def _succession(record: Record, metric: str) -> Found:
    del metric
    name = "succession_results_v2.json"
    data = record.files[name]
    how = (
        f"{name} has n_pass {data['n_pass']} of {data['n_total']}, which the script's rule labels "
        f"{succession_label(data)}"
    )
    return Found(succession_label(data), how, (f"{name}:n_pass", f"{name}:n_total"))


def _beats(record: Record, metric: str) -> Found:
    del metric
    name = "precision_parity_results.json"
    paths = [f"results/{arm}/js_cdf/frac_js_lt_0.001" for arm in ("procrustes_D", "sgd_800")]
    solved, stepped = (lookup(record.files[name], path) for path in paths)
    how = f"{name} has {100 * solved:.1f} % against {100 * stepped:.1f} %"
    return Found(solved > stepped, how, tuple(f"{name}:{path}" for path in paths))


def _exists(name: str) -> Callable[[Record, str], Found]:
    def find(record: Record, metric: str) -> Found:
        del metric
        there = name in record.files
        return Found(there, f"the record {'holds' if there else 'does not hold'} a file {name}")

    return find


def _named_file(record: Record, metric: str) -> Found:
    del metric
    name = "succession_results_v2.json"
    return Found(name, f"no such file exists; the record holds {name if name in record.files else 'neither'}")


def _plain(value: Json, how: str) -> Callable[[Record, str], Found]:
    return lambda record, metric: Found(value, how)


def _objectives(record: Record, metric: str) -> Found:
    del metric
    name = "abi_ablation_results.json"
    keys = {key for row in record.files[name]["rows"] for key in row}
    found = len(keys & {"objective", "loss"})
    return Found(
        found, f"the rows of {name} differ in the stability weight and hold {found} objectives", (f"{name}:rows",)
    )


def _sizes(record: Record, metric: str) -> Found:
    del metric
    name = "cross_size_large_nib_v9_results.json"
    model = record.files[name]["model"]
    return Found(1 if isinstance(model, str) else len(model), f"{name} holds {show(model)} only")


STAGE_C = module_parameters(TAPS * BACKBONE_WIDTH, ALPHA_WIDTH, BACKBONE_WIDTH)
PARAMETERS = module_parameters(TAPS * BACKBONE_WIDTH, ALPHA_WIDTH, BACKBONE_WIDTH, TAPS)
ANCHOR = module_parameters(BACKBONE_WIDTH, ANCHOR_WIDTH, BACKBONE_WIDTH)
PROJECTIONS = 2 * BACKBONE_WIDTH * 256 / 1e6
DERIVED: dict[str, Callable[[Record, str], Found]] = {
    r"calibration_scaling\.(floor|margin_median)\..*": _scaling,
    r"method_robustness\..*\.passes": _robustness,
    r"transition_zone\..*\.passes": _transition,
    r"t5_same_backbone\.mean_top5_without_seed_1111": _without_hard_seed,
    r"t5_same_backbone\.residual_angle_deg": _angle,
    r"t5_same_backbone\.only_passing_configuration": _only_passing,
    r"t5_same_backbone\.objectives_ablated": _objectives,
    r"t5_same_backbone\.abi_params": _plain(PARAMETERS, f"the stated shapes have {PARAMETERS} parameters"),
    r"t5_same_backbone\.anchor_abi_params": _plain(ANCHOR, f"the stated shapes have {ANCHOR} parameters"),
    r"t5_same_backbone\.verifier_checks": _plain(
        len(DECLARED) + 7,
        f"it prints {len(DECLARED) + 7} lines: {len(DECLARED)} comparisons, 4 thresholds, 3 that cannot fail",
    ),
    r"t5_to_gpt2\.calibration_params_M": _plain(
        PROJECTIONS, f"2 x 1024 x 256 projections are {PROJECTIONS:.3g} million"
    ),
    r"original_package\.stage_c_trainable": _plain(
        PARAMETERS, f"with its tap norms trained, as the package does, {PARAMETERS} train ({STAGE_C} without)"
    ),
    r"succession\.status": _succession,
    r"succession\.result_file_name": _named_file,
    r"cross_size\.sizes_in_result_file": _sizes,
    r"precision_parity\.procrustes_beats_sgd_at_0\.001": _beats,
    r"reproduce_abi\.results_shipped": _exists("reproduce_abi_results.json"),
}
"""Documented figures whose value is not one leaf: how it is computed from the record (or from stated shapes)."""

EMPTY: dict[str, tuple[Callable[[Json], bool], str]] = {
    "domain_atlas.no_mixture_reaches_dual_parity": (lambda found: not found, "the file's mixture_results is empty"),
    "domain_atlas.non_degradation_recorded": (
        lambda found: all(set(row) == {source} for source, row in found.items()),
        "the file's non_degradation holds each chart on its own domain only",
    ),
}
"""Documented findings whose place in the file is empty: absent rather than contradicted."""

MAIN = frozenset({"t5_same_backbone.architecture_confirmed"})


def _quoted(value: Json) -> str:
    return f"'{value}'" if isinstance(value, str) else show(value)


def _says(docs: str) -> str:
    outside = re.sub(r"\([^)]*\)", "", docs)
    return "say" if re.search(r",|/[A-Z]", outside) else "says"


def _derive(record: Record, name: str, entry: dict[str, Json]) -> Found | None:
    for pattern, find in DERIVED.items():
        if re.fullmatch(pattern, name):
            return find(record, entry["metric"])
    file, path = entry["result_file"], entry["json_path"]
    if file is None or path is None or file not in record.files:
        return None
    try:
        value = lookup(record.files[file], path)
    except KeyError:
        return None
    return Found(value, f"{file} {path} holds {show(value)}", (f"{file}:{path}",))


def _held(entry: dict[str, Json]) -> bool | None:
    if entry["comparator"] is None or entry["threshold"] is None:
        return None
    return COMPARE[entry["comparator"]](entry["value"], entry["threshold"])


def judge_document(record: Record, name: str, entry: dict[str, Json]) -> Item:
    """Return the item of one documented figure."""
    docs, value = documents(entry), entry["value"]
    stated = f"{entry['metric']}: {docs} {_says(docs)} {_quoted(value)}"
    own = tuple(f"{FIGURES}:entries/{name}/{leaf}" for leaf in ("value", "json_value", "threshold"))
    found = _derive(record, name, entry)

    def item(state: str, reason: str, basis: str = "files", leaves: tuple[str, ...] = ()) -> Item:
        return Item(name, entry["claim"], "document", state, reason, basis, leaves, entry["note"], name in MAIN)

    if name in EMPTY and found is not None and EMPTY[name][0](found.value):
        return item(NO_EVIDENCE, f"{stated}; {EMPTY[name][1]}.", leaves=found.leaves)
    if _held(entry) != entry["holds"]:
        reason = (
            f"{name}: {show(value)} {entry['comparator']} {show(entry['threshold'])} is called {show(entry['holds'])}."
        )
        return item(INCONSISTENT, reason, leaves=own)
    if found is not None:
        copied = entry["json_path"] is None or _same_copy(entry["json_value"], found.value)
        if not copied:
            reason = f"{entry['metric']}: the record's copy is {show(entry['json_value'])}, but {found.how}."
            return item(INCONSISTENT, reason, leaves=own + found.leaves)
        good = agrees(value, found.value)
        if not docs:
            reason = f"{entry['metric']}: {found.how}; no document states it."
            return item(MATCH if good else CONTRADICTED, reason, leaves=own + found.leaves)
        joint = ", and" if good else ";"
        return item(MATCH if good else CONTRADICTED, f"{stated}{joint} {found.how}.", leaves=own + found.leaves)
    return _without_file(item, stated, docs, entry)


def _same_copy(copied: Json, found: Json) -> bool:
    if isinstance(copied, str) and isinstance(found, str):
        return copied.split(" ")[0] == found.split(" ")[0]
    return agrees(copied, found) or agrees(found, copied)


def _without_file(item: Callable[..., Item], stated: str, docs: str, entry: dict[str, Json]) -> Item:
    value, other, note = entry["value"], entry["json_value"], entry["note"]
    if other is None:
        return item(NO_EVIDENCE, f"{stated}; no result file holds it.", "none")
    if other == "no result file":
        return item(NO_EVIDENCE, f"{stated}, and no result file exists.", "none")
    if " vs " in docs:
        first, second = docs.split(" vs ", 1)
        reason = f"{entry['metric']}: {first} says {show(value)}, {second} {show(other)}; no result file holds either."
        return item(CONTRADICTED, reason, "by hand")
    if entry["kind"] == "figure" and agrees(value, other):
        return item(
            NO_EVIDENCE, f"{stated}; no result file holds it (the documents' own figures give {show(other)}).", "none"
        )
    good = agrees(value, other)
    why = f" ({note})" if note else ""
    reason = f"{stated}; by hand, from the original's code and documents: {_quoted(other)}{why}."
    return item(MATCH if good else CONTRADICTED, reason, "by hand")


def judge_documents(record: Record) -> list[Item]:
    """Return one item per documented figure, in the record's order."""
    return [judge_document(record, name, entry) for name, entry in record.entries.items()]
