"""The published record of ABI and its judgement (protocol section 7): standard library only, nothing of ours enters it.

`judge(load())` says of every documented figure, of what every result file says about itself, and of every line of the
original's verifier whether it is `MATCH`, `CONTRADICTED` (the document against its file or its code), `NO EVIDENCE`
(nothing to compare with), `INCONSISTENT` (the file against itself) or `VACUOUS` (it passes whatever was measured), each
with one sentence. Everything is computed from the figures; the agreement noted by hand in the record is never used.
"""

from collections.abc import Callable
from pathlib import Path

from abi.audit.record import laws, reconstruction, sweeps, transfers
from abi.audit.record.arithmetic import agrees, lookup, show, worded
from abi.audit.record.checks import Checks
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, MATCH, NO_EVIDENCE, Item, Judgement, is_number, leaves
from abi.audit.record.documents import judge_documents
from abi.audit.record.guard import alterations
from abi.base.errors import DataError, TamperError
from abi.base.files import Json
from abi.judge.published import FIGURES, RESTORE, RESULTS, Record, default_root, load_record, parse

LINEAGE, SIZE = "pythia_to_gpt2", "gpt2_to_gpt2_medium"
LINEAGE_FILE, SIZE_FILE = "cross_lineage_results.json", "cross_size_transfer_results.json"
LAW_FILE, FLOOR_FILE = "calibration_scaling_law_b_results.json", "calibration_budget_floor_results.json"
ROBUST_FILE = "method_robustness_results.json"
WHOLE = "record"  # the claim of what concerns the record as a whole
FILES: dict[str, tuple[str, Callable[[Checks], None]]] = {
    "cross_arch_t5_nib_v53_results.json": ("t5_same_backbone", reconstruction.judge_reconstruction),
    "cross_family_nib_results.json": ("gpt2_to_qwen", transfers.judge_pair),
    "cross_arch_enc_dec_nib_results.json": ("t5_to_gpt2", transfers.judge_pair),
    "cross_arch_t5_succession_results.json": ("t5_update", transfers.judge_t5_update),
    "scale_validation_results.json": ("gpt2_update", transfers.judge_gpt2_update),
    "succession_results_v2.json": ("succession", transfers.judge_succession),
    "calibration_scaling_law_b_results.json": ("calibration_scaling", laws.judge_scaling),
    "cross_lineage_results.json": ("pythia_to_gpt2", transfers.judge_lineage),
    "cross_size_large_nib_v9_results.json": ("cross_size", transfers.judge_cross_size),
    "cross_size_transfer_results.json": ("gpt2_to_gpt2_medium", transfers.judge_size_transfer),
    "multi_domain_atlas_results.json": ("domain_atlas", transfers.judge_atlas),
    "abi_ablation_results.json": ("ablation_alpha", transfers.judge_ablation),
    "abi_scaling_results.json": ("abi_width_sweep", laws.judge_width),
    "analytical_calibration_results.json": ("analytical_calibration", laws.judge_analytical),
    "calibration_budget_floor_results.json": ("calibration_budget_floor", laws.judge_budget_floor),
    "generation_equivalence_results.json": ("generation_equivalence", sweeps.judge_generation),
    "knowledge_non_interference_results.json": ("non_interference", sweeps.judge_interference),
    "method_robustness_results.json": ("method_robustness", sweeps.judge_robustness),
    "nib_geometry_diagnostic_results.json": ("geometry_diagnostic", laws.judge_geometry),
    "non_inferiority_results.json": ("nib_full", sweeps.judge_levels),
    "precision_parity_results.json": ("precision_parity", sweeps.judge_precision),
    "procrustes_nib_results.json": ("procrustes_full_nib", sweeps.judge_levels),
    "ranking_quality_results.json": ("ranking_quality", sweeps.judge_ranking),
    "transition_zone_results.json": ("transition_zone", sweeps.judge_transition),
}
"""Every result file of the record: the claim it belongs to and what judges it."""


def load(root: Path | None = None) -> Record:
    """Return the record under `root`; DataError names a missing or unreadable file."""
    return load_record(root or default_root(), tuple(f"{RESULTS}/{name}" for name in FILES))


def judge(record: Record) -> Judgement:
    """Return the judgement of a record: one item per documented figure, per relation and per line of the verifier.

    An altered record is not judged: its alterations are named instead. Args: record: from `load`.
    """
    altered = alterations(record)
    if altered:
        return Judgement((), tuple(altered), len(record.texts), *count_leaves(record, []))
    missing = sorted(set(FILES) - set(record.files))
    if missing:
        raise DataError(f"{record.root}: lacks {', '.join(missing)}; {RESTORE}")
    stated, inside = judge_documents(record), judge_files(record)
    found = [*stated, *inside, *rows_behind(record, inside), *unsupported(stated), *own_counts(record)]
    order = {claim: i for i, claim in enumerate(dict.fromkeys(item.claim for item in found))}
    items = sorted(found, key=lambda item: order[item.claim])
    return Judgement(tuple(items), (), len(record.texts), *count_leaves(record, items))


def judged() -> Judgement:
    """Return the judgement of the record as it was published. Raises: TamperError: it was altered."""
    found = judge(load())
    if found.altered:
        raise TamperError(f"config/record: {found.altered[0]}; {RESTORE}")
    return found


def judge_files(record: Record) -> list[Item]:
    """Return what the result files say about themselves and about each other, and the original's 31 lines."""
    items = [item for name in FILES for item in judge_file(name, record.files[name])]
    try:
        items += reconstruction.original_lines(record.files[reconstruction.FILE])
        items += exchanged(record) + copies(record)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the record lacks a figure or holds one not of its kind ({error!r}); {RESTORE}") from error
    return items


def judge_file(name: str, data: Json) -> list[Item]:
    """Return the items of one result file; DataError if it lacks a figure that its kind always has."""
    claim, check = FILES[name]
    checks = Checks(claim, name, data)
    try:
        check(checks)
        checks.ranges()
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, AttributeError, StopIteration) as error:
        raise DataError(f"{name}: a figure is missing or not of its kind ({error!r}); {RESTORE}") from error
    return checks.items


def items_of(record: Record, judged: list[Item], claim: str) -> dict[str, Item]:
    """Return metric -> item of what documents say of a claim. Args: judged: the items of the record's documents."""
    items = {item.id: item for item in judged}
    return {entry.metric: items[name] for name, entry in record.entries.items() if entry.claim == claim}


# findings that need more than one file or document


def exchanged(record: Record) -> list[Item]:
    """Return the finding that the documents' lineage and size efficacies are each nearer the other's file."""
    leaf = "efficacy_vs_native_pct"
    own = [record.files[name][leaf] for name in (LINEAGE_FILE, SIZE_FILE)]
    names = [f"{claim}.efficacy_pct" for claim in (LINEAGE, SIZE)]
    stated = [record.entries[name].value for name in names]
    straight = [abs(a - b) for a, b in zip(stated, own, strict=True)]
    crossed = [abs(a - b) for a, b in zip(stated, reversed(own), strict=True)]
    if not max(crossed) < min(straight):
        return []
    reason = (
        f"documents give {show(stated[0])} % for cross-lineage and {show(stated[1])} % for cross-size, the files "
        f"{own[0]:.2f} and {own[1]:.2f}: exchanged, for each is nearer the other's file (by {crossed[0]:.2f} and "
        f"{crossed[1]:.2f}) than its own ({straight[0]:.2f} and {straight[1]:.2f}), and neither is the figure of "
        "any file."
    )
    paths = (f"{LINEAGE_FILE}:{leaf}", f"{SIZE_FILE}:{leaf}", *(f"{FIGURES}:entries/{name}/value" for name in names))
    return [
        Item("exchanged", claim, "file", CONTRADICTED, reason, leaves=paths, main=claim == LINEAGE)
        for claim in (LINEAGE, SIZE)
    ]


def copies(record: Record) -> list[Item]:
    """Return whether figures that two files took over from the one with the budget floors are those of that file."""
    taken = []
    for name in record.files[LAW_FILE]["exp11_source"]:
        own = {"floor_steps": "floor_steps", "margin_median": "margin_stats/median"}
        taken += [(LAW_FILE, f"exp11_source/{name}/{a}", f"domains/{name}/{b}") for a, b in own.items()]
    run, floor = "procrustes_only/na/na/0", "domains/python/budget_curve/0"
    same = {"mean_js": "js", "top1": "top1", "top5": "top5", "entropy": "entropy_diff", "r_squared": "r_squared"}
    taken += [(ROBUST_FILE, f"{run}/{a}", f"{floor}/{b}") for a, b in same.items()]
    taken += [(ROBUST_FILE, f"{run}/native_margin_5_6", "domains/python/margin_mean")]
    items = []
    for name, path, source in taken:
        here, there = lookup(record.files[name], path), lookup(record.files[FLOOR_FILE], source)
        sentence = f"{path} {show(here)} [is|is not] the {show(there)} of the same run in {FLOOR_FILE} ({source})."
        paths = f"{name}:{path}", f"{FLOOR_FILE}:{source}"
        items.append(_relation(f"{name}#{path} copy", FILES[name][0], agrees(here, there), sentence, *paths))
    return items


def _relation(name: str, claim: str, good: bool, sentence: str, *paths: str) -> Item:
    return Item(name, claim, "file", MATCH if good else INCONSISTENT, worded(sentence, good), leaves=paths)


def unsupported(items: list[Item]) -> list[Item]:
    """Return the finding that names every documented figure for which there is no file or no leaf."""
    names = [item.id for item in items if item.kind == "document" and item.state == NO_EVIDENCE]
    reason = f"{len(names)} documented figures or findings have no result file or no place in it: {', '.join(names)}."
    return [Item("unsupported", WHOLE, "file", NO_EVIDENCE, reason, "none", main=True)] if names else []


def rows_behind(record: Record, items: list[Item]) -> list[Item]:
    """Return, per result file, how many of its numbers follow from others and how many rest on nothing published."""
    related_items = [item for item in items if item.kind == "file" and not item.id.endswith("#ranges")]
    recomputed = {leaf for item in related_items for leaf in item.leaves}
    found = []
    for name, (claim, _) in FILES.items():
        numbers = [path for path, value in leaves(record.files[name]) if is_number(value)]
        related = sum(f"{name}:{path}" in recomputed for path in numbers)
        reason = (
            f"no rows per position or document stand behind {name}: {related} of its {len(numbers)} numbers stand "
            f"in a relation that can be recomputed, {len(numbers) - related} in none."
        )
        found.append(Item(f"{name}#evidence", claim, "file", NO_EVIDENCE, reason, "none"))
    return found


def own_counts(record: Record) -> list[Item]:
    """Return whether the counts and thresholds stored with the documented figures are those of its entries."""
    agreeing, total = sum(entry.agrees is True for entry in record.entries.values()), len(record.entries)
    expected = {"total": total, "agrees": agreeing, "disagrees": total - agreeing}
    sentence = f"the counts stored with the documented figures [are|are not] those of its {total} entries."
    paths = [f"{FIGURES}:counts/{key}" for key in expected]
    items = [_relation("counts", WHOLE, record.counts == expected, sentence, *paths)]
    for short, metric in {
        "js": "mean_js",
        "top1": "mean_top1",
        "top5": "mean_top5",
        "ent": "mean_entropy_diff",
    }.items():
        bar = record.thresholds[metric]
        own = {name: entry for name, entry in record.entries.items() if entry.metric == f"nib.{short}"}
        good = all((entry.comparator, entry.threshold) == bar for entry in own.values())
        held = f"{metric} {bar.cmp} {show(bar.value)}"
        sentence = f"{held} [is|is not] the threshold of all its {len(own)} entries."
        paths = [f"{FIGURES}:nib_thresholds/{metric}/value", *(f"{FIGURES}:entries/{name}/threshold" for name in own)]
        items.append(_relation(f"thresholds {metric}", WHOLE, good, sentence, *paths))
    return items


def count_leaves(record: Record, items: list[Item]) -> tuple[int, int, int]:
    """Return how many leaves the record has, how many are numbers, and how many of those entered some item."""
    every: list[tuple[str, Json]] = []
    for name, text in record.texts.items():
        every += [(f"{Path(name).name}:{path}", value) for path, value in leaves(parse(text, name))]
    numbers = {leaf for leaf, value in every if is_number(value)}
    return len(every), len(numbers), len(numbers & {leaf for item in items for leaf in item.leaves})
