"""Every documented figure against its own result file; what has no file, and what was found by reading the code."""

import math
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from abi.audit.record.arithmetic import agrees, lookup, matching, mean, show, worded
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, MATCH, NO_EVIDENCE, Item
from abi.audit.record.reconstruction import DECLARED, FILE, SEEDS
from abi.audit.record.transfers import succession_label
from abi.base.files import Json
from abi.judge.published import FIGURES, Entry, Record

COMPARE = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
ALPHA_WIDTH, ANCHOR_WIDTH, BACKBONE_WIDTH, TAPS = 4096, 512, 1024, 6
OTHER = "reference/45AP_D2048_seed99_official/top5_official"
LAW, SUCCESSION = "calibration_scaling_law_b_results.json", "succession_results_v2.json"
ROBUST, TRANSITION = "method_robustness_results.json", "transition_zone_results.json"
ABLATION, PRECISION = "abi_ablation_results.json", "precision_parity_results.json"
SIZES, PUBLISHED = "cross_size_large_nib_v9_results.json", "reproduce_abi_results.json"


class Found(NamedTuple):
    """What stands against a documented value: the value, how it was found, and the leaves it was found in."""

    value: Json
    how: str
    leaves: tuple[str, ...] = ()


class Derived(NamedTuple):
    """How a figure that is not one leaf follows from the record, or from stated shapes.

    `find` is given the files of the record and the values of the leaves (patterns; `{}` is what the group of the
    figure's pattern matched), and returns the value and how it was found; without one it is the leaf's own value.
    """

    find: Callable[..., tuple[Json, str]] | None
    file: str = ""
    leaves: tuple[str, ...] = ()


def module_parameters(d_in: int, d_abi: int, d_model: int, taps: int = 0) -> int:
    """Return the parameters of the original's module: projections, norms, four-fold domain net, gate, tap norms."""
    hidden = 4 * d_abi
    net = d_abi * hidden + hidden + hidden * d_abi + d_abi
    return d_in * d_abi + 2 * d_abi + net + 2 * d_abi + 1 + d_abi * d_model + 2 * d_model * taps


def _passes(file: str, leaf: str) -> Derived:
    def find(_: Json, *found: Json) -> tuple[Json, str]:
        passes = sum(value is True for value in found)
        return passes, f"{file} holds {passes} passes of {len(found)} runs"

    return Derived(find, file, (leaf,))


def _without_hard_seed(_: Json, *found: float) -> tuple[Json, str]:
    return round(mean(*found), 4), f"the mean of the other four seeds in {FILE} is {mean(*found):.4f}"


def _angle(_: Json, error: float) -> tuple[Json, str]:
    degrees = math.degrees(math.acos(1 - error / 0.24**2))
    return round(degrees, 2), f"arccos(1 - best_corrMSE / 0.24^2) is {degrees:.2f}"


def _succession(files: Json, n_pass: int, n_total: int) -> tuple[Json, str]:
    label = succession_label(files[SUCCESSION])
    return label, f"{SUCCESSION} has n_pass {n_pass} of {n_total}, which the script's rule labels {label}"


def _objectives(_: Json, rows: list[dict[str, Json]]) -> tuple[Json, str]:
    found = len({key for row in rows for key in row} & {"objective", "loss"})
    return found, f"the rows of {ABLATION} differ in the stability weight and hold {found} objectives"


def _sizes(files: Json) -> tuple[Json, str]:
    model = files[SIZES]["model"]
    return 1 if isinstance(model, str) else len(model), f"{SIZES} holds {show(model)} only"


def _beats(_: Json, solved: float, stepped: float) -> tuple[Json, str]:
    return solved > stepped, f"{PRECISION} has {100 * solved:.1f} % against {100 * stepped:.1f} %"


def _constant(value: Json, how: str) -> Derived:
    return Derived(lambda _: (value, how))


STAGE_C = module_parameters(TAPS * BACKBONE_WIDTH, ALPHA_WIDTH, BACKBONE_WIDTH)
PARAMETERS = module_parameters(TAPS * BACKBONE_WIDTH, ALPHA_WIDTH, BACKBONE_WIDTH, TAPS)
ANCHOR = module_parameters(BACKBONE_WIDTH, ANCHOR_WIDTH, BACKBONE_WIDTH)
PROJECTIONS = 2 * BACKBONE_WIDTH * 256 / 1e6
LINES = f"{len(DECLARED) + 7} lines: {len(DECLARED)} comparisons, 4 thresholds, 3 that cannot fail"
DERIVED: dict[str, Derived] = {
    r"calibration_scaling\.floor\.(.*)": Derived(None, LAW, ("new_data/{}/floor_steps",)),
    r"calibration_scaling\.margin_median\.(.*)": Derived(None, LAW, ("new_data/{}/margin_median",)),
    r"method_robustness\.(.*)\.passes": _passes(ROBUST, "{}/*/*/*/pass"),
    r"transition_zone\.(.*)\.passes": _passes(TRANSITION, "results/{}_*/nib_pass"),
    r"t5_same_backbone\.mean_top5_without_seed_1111": Derived(
        _without_hard_seed, FILE, tuple(f"nib_combined/per_rng_mean_top5/{s}" for s in SEEDS if s != "1111")
    ),
    r"t5_same_backbone\.residual_angle_deg": Derived(_angle, FILE, ("best_corrMSE",)),
    r"t5_same_backbone\.only_passing_configuration": Derived(
        lambda _, top5: (top5 < 0.86, f"{FILE} holds another configuration at {show(top5)} ({OTHER})"), FILE, (OTHER,)
    ),
    r"t5_same_backbone\.objectives_ablated": Derived(_objectives, ABLATION, ("rows",)),
    r"t5_same_backbone\.abi_params": _constant(PARAMETERS, f"the stated shapes have {PARAMETERS} parameters"),
    r"t5_same_backbone\.anchor_abi_params": _constant(ANCHOR, f"the stated shapes have {ANCHOR} parameters"),
    r"t5_same_backbone\.verifier_checks": _constant(len(DECLARED) + 7, f"it prints {LINES}"),
    r"t5_to_gpt2\.calibration_params_M": _constant(
        PROJECTIONS, f"2 x 1024 x 256 projections are {PROJECTIONS:.3g} million"
    ),
    r"original_package\.stage_c_trainable": _constant(
        PARAMETERS, f"with its tap norms trained, as the package does, {PARAMETERS} train ({STAGE_C} without)"
    ),
    r"succession\.status": Derived(_succession, SUCCESSION, ("n_pass", "n_total")),
    r"succession\.result_file_name": _constant(SUCCESSION, f"no such file exists; the record holds {SUCCESSION}"),
    r"cross_size\.sizes_in_result_file": Derived(_sizes),
    r"precision_parity\.procrustes_beats_sgd_at_0\.001": Derived(
        _beats, PRECISION, tuple(f"results/{arm}/js_cdf/frac_js_lt_0.001" for arm in ("procrustes_D", "sgd_800"))
    ),
    r"reproduce_abi\.results_shipped": Derived(
        lambda files: (
            PUBLISHED in files,
            worded(f"the record [holds|does not hold] a file {PUBLISHED}", PUBLISHED in files),
        )
    ),
}
"""Documented figures whose value is not one leaf."""

EMPTY: dict[str, tuple[Callable[[Json], bool], str]] = {
    "domain_atlas.no_mixture_reaches_dual_parity": (lambda found: not found, "the file's mixture_results is empty"),
    "domain_atlas.non_degradation_recorded": (
        lambda found: all(set(row) == {source} for source, row in found.items()),
        "the file's non_degradation holds each chart on its own domain only",
    ),
}
"""Documented findings whose place in the file is empty: absent rather than contradicted."""

MAIN = frozenset({"t5_same_backbone.architecture_confirmed"})


def _found(record: Record, name: str, entry: Entry) -> Found | None:
    for pattern, rule in DERIVED.items():
        if matched := re.fullmatch(pattern, name):
            return _derived(record, rule, *matched.groups())
    file, path = entry.result_file, entry.json_path
    if path is None or file not in record.files:
        return None
    try:
        return _derived(record, Derived(None, file, (path,)))
    except KeyError:
        return None


def _derived(record: Record, rule: Derived, *groups: str) -> Found:
    file, data = rule.file, record.files.get(rule.file)
    paths = [path for leaf in rule.leaves for path in matching(data, leaf.format(*groups))]
    values = [lookup(data, path) for path in paths]
    leaves = tuple(f"{file}:{path}" for path in paths)
    if rule.find is None:
        return Found(values[0], f"{file} {paths[0]} holds {show(values[0])}", leaves)
    return Found(*rule.find(record.files, *values), leaves)


def _held(entry: Entry) -> bool | None:
    if entry.comparator is None or entry.threshold is None:
        return None
    return COMPARE[entry.comparator](entry.value, entry.threshold)


def judge_document(record: Record, name: str, entry: Entry) -> Item:
    """Return the item of one documented figure."""
    own = tuple(f"{FIGURES}:entries/{name}/{leaf}" for leaf in ("value", "json_value", "threshold"))
    found = _found(record, name, entry)
    basis, leaves = "files", own + (found.leaves if found else ())
    if found is not None and name in EMPTY and EMPTY[name][0](found.value):
        state, reason, leaves = NO_EVIDENCE, f"{_stated(entry)}; {EMPTY[name][1]}.", found.leaves
    elif _held(entry) != entry.holds:
        bound = f"{entry.comparator} {show(entry.threshold)} is called {show(entry.holds)}"
        state, reason, leaves = INCONSISTENT, f"{name}: {show(entry.value)} {bound}.", own
    elif found is None:
        state, reason, basis = _without_file(entry)
        leaves = ()
    elif entry.json_path is not None and not _same_copy(entry.json_value, found.value):
        copied = f"the record's copy is {show(entry.json_value)}"
        state, reason = INCONSISTENT, f"{entry.metric}: {copied}, but {found.how}."
    else:
        good = agrees(entry.value, found.value)
        state = MATCH if good else CONTRADICTED
        reason = worded(f"{_stated(entry)}[, and|;] {found.how}.", good)
        if not entry.documents:
            reason = f"{entry.metric}: {found.how}; no document states it."
    return Item(name, entry.claim, "document", state, reason, basis, leaves, entry.note, name in MAIN)


def _stated(entry: Entry) -> str:
    docs = entry.documents
    outside = re.sub(r"\([^)]*\)", "", docs)
    verb = "say" if re.search(r",|/[A-Z]", outside) else "says"
    return f"{entry.metric}: {docs} {verb} {_quoted(entry.value)}"


def _quoted(value: Json) -> str:
    return f"'{value}'" if isinstance(value, str) else show(value)


def _same_copy(copied: Json, found: Json) -> bool:
    if isinstance(copied, str) and isinstance(found, str):
        return copied.split(" ")[0] == found.split(" ")[0]
    return agrees(copied, found) or agrees(found, copied)


def _without_file(entry: Entry) -> tuple[str, str, str]:
    """Return state, reason and basis of a figure that no result file holds."""
    value, other, docs, stated = entry.value, entry.json_value, entry.documents, _stated(entry)
    if other is None:
        return NO_EVIDENCE, f"{stated}; no result file holds it.", "none"
    if other == "no result file":
        return NO_EVIDENCE, f"{stated}, and no result file exists.", "none"
    if " vs " in docs:
        first, second = docs.split(" vs ", 1)
        said = f"{first} says {show(value)}, {second} {show(other)}"
        return CONTRADICTED, f"{entry.metric}: {said}; no result file holds either.", "by hand"
    good = agrees(value, other)
    if entry.kind == "figure" and good:
        given = f"the documents' own figures give {show(other)}"
        return NO_EVIDENCE, f"{stated}; no result file holds it ({given}).", "none"
    why = f" ({entry.note})" if entry.note else ""
    reason = f"{stated}; by hand, from the original's code and documents: {_quoted(other)}{why}."
    return MATCH if good else CONTRADICTED, reason, "by hand"


def judge_documents(record: Record) -> list[Item]:
    """Return one item per documented figure, in the record's order."""
    return [judge_document(record, name, entry) for name, entry in record.entries.items()]
