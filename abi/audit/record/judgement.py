"""The published record of ABI and its judgement (protocol section 7): standard library only, nothing of ours enters it.

`judge(load())` says of every documented figure, of what every result file says about itself, and of every line of the
original's verifier whether it is `MATCH`, `CONTRADICTED` (the document against its file or its code), `NO EVIDENCE`
(nothing to compare with), `INCONSISTENT` (the file against itself) or `VACUOUS` (it passes whatever was measured), each
with one sentence. Everything is computed from the figures; the agreement noted by hand in the record is never used.
"""

from collections.abc import Callable
from pathlib import Path

from abi.audit.record import across, benchmarks, laws, reconstruction, sweeps, transfers, updates
from abi.audit.record.checks import Checks
from abi.audit.record.data import (
    CONTRADICTED,
    INCONSISTENT,
    MATCH,
    NO_EVIDENCE,
    STATES,
    VACUOUS,
    Item,
    Judgement,
)
from abi.audit.record.documents import judge_documents
from abi.audit.record.guard import alterations
from abi.audit.record.page import to_markdown, to_text
from abi.base.errors import DataError
from abi.base.files import Json
from abi.judge.published import RESTORE, RESULTS, Record, check_claim, claims_of, default_root, load_record

__all__ = [
    "CONTRADICTED",
    "INCONSISTENT",
    "MATCH",
    "NO_EVIDENCE",
    "STATES",
    "VACUOUS",
    "Item",
    "Judgement",
    "Record",
    "judge",
    "judge_files",
    "load",
    "to_markdown",
    "to_text",
]

FILES: dict[str, tuple[str, Callable[[Checks], None]]] = {
    "cross_arch_t5_nib_v53_results.json": ("t5_same_backbone", reconstruction.judge_reconstruction),
    "cross_family_nib_results.json": ("gpt2_to_qwen", transfers.judge_pair),
    "cross_arch_enc_dec_nib_results.json": ("t5_to_gpt2", transfers.judge_pair),
    "cross_arch_t5_succession_results.json": ("t5_update", updates.judge_t5_update),
    "scale_validation_results.json": ("gpt2_update", updates.judge_gpt2_update),
    "succession_results_v2.json": ("succession", updates.judge_succession),
    "calibration_scaling_law_b_results.json": ("calibration_scaling", laws.judge_scaling),
    "cross_lineage_results.json": ("pythia_to_gpt2", transfers.judge_lineage),
    "cross_size_large_nib_v9_results.json": ("cross_size", transfers.judge_cross_size),
    "cross_size_transfer_results.json": ("gpt2_to_gpt2_medium", transfers.judge_size_transfer),
    "multi_domain_atlas_results.json": ("domain_atlas", transfers.judge_atlas),
    "abi_ablation_results.json": ("ablation_alpha", updates.judge_ablation),
    "abi_scaling_results.json": ("abi_width_sweep", laws.judge_width),
    "analytical_calibration_results.json": ("analytical_calibration", laws.judge_analytical),
    "calibration_budget_floor_results.json": ("calibration_budget_floor", laws.judge_budget_floor),
    "generation_equivalence_results.json": ("generation_equivalence", sweeps.judge_generation),
    "knowledge_non_interference_results.json": ("non_interference", sweeps.judge_interference),
    "method_robustness_results.json": ("method_robustness", sweeps.judge_robustness),
    "nib_geometry_diagnostic_results.json": ("geometry_diagnostic", laws.judge_geometry),
    "non_inferiority_results.json": ("nib_full", benchmarks.judge_levels),
    "precision_parity_results.json": ("precision_parity", benchmarks.judge_precision),
    "procrustes_nib_results.json": ("procrustes_full_nib", benchmarks.judge_levels),
    "ranking_quality_results.json": ("ranking_quality", benchmarks.judge_ranking),
    "transition_zone_results.json": ("transition_zone", sweeps.judge_transition),
}
"""Every result file of the record: the claim it belongs to and what judges it."""


def load(root: Path | None = None) -> Record:
    """Return the record under `root`; DataError names a missing or unreadable file."""
    return load_record(root or default_root(), tuple(f"{RESULTS}/{name}" for name in FILES))


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


def judge_files(record: Record) -> list[Item]:
    """Return what the result files say about themselves and about each other, and the original's 31 lines."""
    items = [item for name in FILES for item in judge_file(name, record.files[name])]
    try:
        items += reconstruction.original_lines(record.files[reconstruction.FILE])
        items += across.exchanged(record) + across.copies(record)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the record lacks a figure or holds one not of its kind ({error!r}); {RESTORE}") from error
    return items


def judge(record: Record) -> Judgement:
    """Return the judgement of a record: one item per documented figure, per relation and per line of the verifier.

    An altered record is not judged: its alterations are named instead. Args: record: from `load`.
    """
    altered = alterations(record)
    if altered:
        return Judgement((), tuple(altered), len(record.texts), *across.count_leaves(record, []))
    missing = sorted(set(FILES) - set(record.files))
    if missing:
        raise DataError(f"{record.root}: lacks {', '.join(missing)}; {RESTORE}")
    stated, inside = judge_documents(record), judge_files(record)
    claims = {name: claim for name, (claim, _) in FILES.items()}
    whole = across.unsupported(stated) + across.own_counts(record)
    found = [*stated, *inside, *across.rows_behind(record, inside, claims), *whole]
    order = {claim: i for i, claim in enumerate(dict.fromkeys(item.claim for item in found))}
    items = sorted(found, key=lambda item: order[item.claim])
    return Judgement(tuple(items), (), len(record.texts), *across.count_leaves(record, items))


def states_of(claim: str, root: Path | None = None) -> dict[str, tuple[str, str]]:
    """Return metric -> (state, reason) of what was published for a claim. Raises: ConfigError: not of the record."""
    record = load(root)
    check_claim(claim, claims_of(record))
    return states_in(record, judge_documents(record), claim)


def states_in(record: Record, judged: list[Item], claim: str) -> dict[str, tuple[str, str]]:
    """Return metric -> (state, reason) of a claim. Args: judged: the items of the record's documents."""
    items = {item.id: item for item in judged}
    return {
        entry["metric"]: (items[name].state, items[name].reason)
        for name, entry in record.entries.items()
        if entry["claim"] == claim
    }
