"""Findings that need more than one file or document: exchanged figures, copies, what no file holds."""

from pathlib import Path

from abi.audit.record.arithmetic import agrees, lookup, show
from abi.audit.record.data import CONTRADICTED, INCONSISTENT, MATCH, NO_EVIDENCE, Item, is_number, leaves
from abi.base.files import Json
from abi.judge.published import FIGURES, Record, parse

LINEAGE, SIZE = "pythia_to_gpt2", "gpt2_to_gpt2_medium"
LINEAGE_FILE, SIZE_FILE = "cross_lineage_results.json", "cross_size_transfer_results.json"
LAW_FILE, FLOOR_FILE = "calibration_scaling_law_b_results.json", "calibration_budget_floor_results.json"
ROBUST_FILE = "method_robustness_results.json"
WHOLE = "record"  # the claim of what concerns the record as a whole


def exchanged(record: Record) -> list[Item]:
    """Return the finding that the documents' lineage and size efficacies are each nearer the other's file."""
    leaf = "efficacy_vs_native_pct"
    own = [record.files[name][leaf] for name in (LINEAGE_FILE, SIZE_FILE)]
    names = [f"{claim}.efficacy_pct" for claim in (LINEAGE, SIZE)]
    stated = [record.entries[name]["value"] for name in names]
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
    """Return whether figures that one file took over from another are those of the other."""
    items = []
    source = record.files[LAW_FILE]["exp11_source"]
    for name, point in source.items():
        pairs = {"floor_steps": f"domains/{name}/floor_steps", "margin_median": f"domains/{name}/margin_stats/median"}
        for leaf, path in pairs.items():
            here, there = point[leaf], lookup(record.files[FLOOR_FILE], path)
            paths = f"exp11_source/{name}/{leaf}", path
            items.append(_copy("calibration_scaling", LAW_FILE, FLOOR_FILE, here, there, *paths))
    floor, run = "domains/python/budget_curve/0", "procrustes_only/na/na/0"
    names = {"mean_js": "js", "top1": "top1", "top5": "top5", "entropy": "entropy_diff", "r_squared": "r_squared"}
    for leaf, other in names.items():
        here, there = (
            lookup(record.files[file], path)
            for file, path in ((ROBUST_FILE, f"{run}/{leaf}"), (FLOOR_FILE, f"{floor}/{other}"))
        )
        items.append(
            _copy("method_robustness", ROBUST_FILE, FLOOR_FILE, here, there, f"{run}/{leaf}", f"{floor}/{other}")
        )
    margin, mean = f"{run}/native_margin_5_6", "domains/python/margin_mean"
    here, there = lookup(record.files[ROBUST_FILE], margin), lookup(record.files[FLOOR_FILE], mean)
    return [*items, _copy("method_robustness", ROBUST_FILE, FLOOR_FILE, here, there, margin, mean)]


def _copy(claim: str, name: str, other: str, here: Json, there: Json, path: str, source: str) -> Item:
    good = agrees(here, there)
    reason = (
        f"{path} {show(here)} {'is' if good else 'is not'} the {show(there)} of the same run in {other} ({source})."
    )
    paths = f"{name}:{path}", f"{other}:{source}"
    return Item(f"{name}#{path} copy", claim, "file", MATCH if good else INCONSISTENT, reason, leaves=paths)


def unsupported(items: list[Item]) -> list[Item]:
    """Return the finding that names every documented figure for which there is no file or no leaf."""
    names = [item.id for item in items if item.kind == "document" and item.state == NO_EVIDENCE]
    if not names:
        return []
    reason = f"{len(names)} documented figures or findings have no result file or no place in it: {', '.join(names)}."
    return [Item("unsupported", WHOLE, "file", NO_EVIDENCE, reason, "none", main=True)]


def rows_behind(record: Record, items: list[Item], claims: dict[str, str]) -> list[Item]:
    """Return, per result file, how many of its numbers follow from others and how many rest on nothing published."""
    related_items = [item for item in items if item.kind == "file" and not item.id.endswith("#ranges")]
    recomputed = {leaf for item in related_items for leaf in item.leaves}
    found = []
    for name, claim in claims.items():
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
    agreeing = sum(entry["agrees"] is True for entry in record.entries.values())
    total = len(record.entries)
    expected = {"total": total, "agrees": agreeing, "disagrees": total - agreeing}
    paths = tuple(f"{FIGURES}:counts/{key}" for key in expected)
    good = record.counts == expected
    reason = (
        f"the counts stored with the documented figures {'are' if good else 'are not'} those of its {total} entries."
    )
    items = [Item("counts", WHOLE, "file", MATCH if good else INCONSISTENT, reason, leaves=paths)]
    metrics = {"js": "mean_js", "top1": "mean_top1", "top5": "mean_top5", "ent": "mean_entropy_diff"}
    for short, metric in metrics.items():
        bar = record.thresholds[metric]
        own = {n: e for n, e in record.entries.items() if e["metric"] == f"nib.{short}"}
        good = all((e["comparator"], e["threshold"]) == (bar["cmp"], bar["value"]) for e in own.values())
        reason = (
            f"{metric} {bar['cmp']} {show(bar['value'])} {'is' if good else 'is not'} the threshold of all its "
            f"{len(own)} entries."
        )
        paths = (f"{FIGURES}:nib_thresholds/{metric}/value", *(f"{FIGURES}:entries/{name}/threshold" for name in own))
        items.append(Item(f"thresholds {metric}", WHOLE, "file", MATCH if good else INCONSISTENT, reason, leaves=paths))
    return items


def count_leaves(record: Record, items: list[Item]) -> tuple[int, int, int]:
    """Return how many leaves the record has, how many are numbers, and how many of those entered some item."""
    every: list[tuple[str, Json]] = []
    for name, text in record.texts.items():
        file = Path(name).name
        every += [(f"{file}:{path}", value) for path, value in leaves(parse(text, name))]
    numbers = {leaf for leaf, value in every if is_number(value)}
    entered = {leaf for item in items for leaf in item.leaves}
    return len(every), len(numbers), len(numbers & entered)
