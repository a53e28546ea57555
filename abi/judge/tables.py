"""Evidence rows -> full tables of groups x seeds, with everything that was dropped counted.

One row is one document, arm, draw, seed, scope and metric; every arm has rows for every seed, `raw` too. Documents are
averaged within their group, draws within their seed (closed-form placebos have three; a ladder of few-shot budgets can
be written as draws too, since its figure is the mean over the ladder). An arm that stands apart (`catalogue.Arm.apart`)
reads other windows in other tokens: it is in no contrast, and its tables hold those of its documents that the others
keep, perhaps of fewer groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abi.base.catalogue import ARMS
from abi.base.diagnostics import METRICS as CATALOGUE
from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT, RAW, SCOPES, TASKS, UNFITTED
from abi.judge.contrasts import TEACHER, Contrast, Measure, lower_is_better
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS, check_promise, files_of, read_rows
from abi.judge.fits import Counts, Dropped, PublishedCriteria
from abi.judge.intervals import Array
from abi.judge.wide import Wide
from abi.plan.specs.judge import Criteria

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = ("domain", "general")
METRICS = (*AGREEMENT, *(f"{TEACHER}{metric}" for metric in AGREEMENT), *(m for m in CATALOGUE if m not in AGREEMENT))


@dataclass(frozen=True)
class Form:
    """The columns of a csv file of rows: which hold whole numbers (`value` a figure), valid words, and the key."""

    name: str
    columns: tuple[str, ...]
    whole: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    key: tuple[str, ...]


EVIDENCE = Form(
    "evidence",
    COLUMNS,
    ("draw", "seed", "n_positions"),
    {"scope": SCOPES, "metric": METRICS},
    ("fit", "arm", "draw", "seed", "scope", "document", "metric"),
)
APART = frozenset(arm.name for arm in ARMS.values() if arm.apart)
DRAWS = Form(
    "draws", DRAW_COLUMNS, ("draw", "seed", "rng_seed", "chunk"), {"metric": AGREEMENT}, tuple(DRAW_COLUMNS[:-1])
)


@dataclass(frozen=True)
class FitTables:
    """The evidence of one fit as tables `[D, S]` per measure and arm, natural signs, and the counts behind them.

    The tables of an arm that stands apart may have fewer groups than D.
    """

    fit: str
    tables: Mapping[Measure, Mapping[str, Array]]
    document_means: Mapping[Measure, Mapping[str, float]]
    draws: Mapping[str, int]
    counts: Counts
    complete: Mapping[str, Wide]
    """Scope -> the figures that are counted."""
    apart: Mapping[str, Wide]
    """The same of arms that stand apart."""

    @property
    def documents(self) -> dict[str, tuple[str, ...]]:
        """Scope -> the documents that are counted."""
        return {scope: tuple(map(str, table.documents)) for scope, table in self.complete.items()}

    def without(self, gone: Mapping[str, Collection[str]]) -> FitTables:
        """Return the tables without some of the documents that are counted. Args: gone: scope -> documents."""
        complete, apart = (
            {scope: table.without(gone.get(scope, ())) for scope, table in of.items()}
            for of in (self.complete, self.apart)
        )
        return _of_complete(self.fit, complete, apart, self.draws, self.counts.seeds, self.counts.dropped)

    def turned(self) -> dict[Measure, dict[str, Array]]:
        """Return the tables with every sign turned so that more is better."""
        return {m: {arm: m.sign * table for arm, table in arms.items()} for m, arms in self.tables.items()}

    @property
    def arms(self) -> set[str]:
        """The arms that there are, on whatever text."""
        return {arm for arms in self.tables.values() for arm in arms}

    def perplexities(self) -> dict[str, dict[str, float]]:
        """Return arm -> scope -> perplexity per token: exp of the mean loss over the documents and seeds that count."""
        found: dict[str, dict[str, float]] = {}
        for scope in SCOPES:
            for arm, loss in self.document_means.get(Measure("loss_nats", scope), {}).items():
                found.setdefault(arm, {})[scope] = math.exp(loss)
        return found

    def require(self, contrast: Contrast) -> None:
        """Raise an EvidenceError for the first arm of a contrast that has no rows of its measure."""
        there, (metric, scope) = self.tables.get(contrast.measure, {}), contrast.measure
        for arm in contrast.weights:
            if arm not in there:
                what = f"fit {self.fit}: arm {arm!r} has no rows of {metric} on {scope}"
                raise EvidenceError(f"evidence, {what}; arms that have: {', '.join(sorted(there)) or 'none'}")


def read_promised(manifests: Sequence[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the validated evidence rows and random draws of some batches, each checked against its manifest.

    Raises: DataError, TamperError: a file is not what its manifest promises (see `check_promise`); EvidenceError:
        rows that break their form, or that stand in two batches.
    """
    import pandas as pd

    found: dict[str, list[pd.DataFrame]] = {EVIDENCE.name: [], DRAWS.name: []}
    for manifest in manifests:
        rows, paths = check_promise(manifest), files_of(manifest)
        found["evidence"].append(validate(rows["evidence"], str(paths["evidence"])))
        found["draws"].append(formed(rows["draws"], DRAWS, str(paths["draws"])))
    evidence, draws = (pd.concat(frames, ignore_index=True) for frames in found.values())
    for form, frame in ((EVIDENCE, evidence), (DRAWS, draws)):
        _check_unique(frame, form, f"{form.name} of all batches")
    return evidence, draws


def read_evidence(path: str | Path) -> pd.DataFrame:
    """Return the validated rows of an evidence file.

    Args: path: a csv or csv.gz with the columns of `evidence_files.COLUMNS`, in any order.
    Raises: EvidenceError: one sentence for the first fault found (see `validate`), or a file that cannot be read.
    """
    return validate(read_rows(path), str(path))


def validate(frame: pd.DataFrame, where: str = "frame") -> pd.DataFrame:
    """Return a copy of evidence rows with checked columns, types, names and values.

    Raises: EvidenceError: a column missing or unknown, no rows, a value that is not a finite number or outside its
        metric's range, an unknown scope or metric, a document in two groups or with different n_positions, a row twice.
    """
    frame = formed(frame, EVIDENCE, where)
    _check_documents(frame, f"{EVIDENCE.name} {where}")
    return frame


def formed(frame: pd.DataFrame, form: Form, where: str) -> pd.DataFrame:
    """Return a copy of `frame` with the columns, types, words and ranges of a form, every row once."""
    where = f"{form.name} {where}"
    if wrong := sorted(set(form.columns) ^ set(frame.columns)):
        raise EvidenceError(
            f"{where}: missing or unknown column {', '.join(wrong)}; needed are {', '.join(form.columns)}"
        )
    if frame.empty:
        raise EvidenceError(f"{where}: no rows; rerun the evaluation that writes it")
    frame = frame.loc[:, list(form.columns)].reset_index(drop=True)
    for column in form.columns:
        if column in (*form.whole, "value"):
            frame[column] = _numbers(frame[column], where, whole=column in form.whole)
        else:
            frame[column] = _text(frame[column], where)
    for column, valid in form.words.items():
        if unknown := sorted(set(frame[column].unique()) - set(valid)):
            raise EvidenceError(f"{where}: {column} {unknown[0]!r} is none of {', '.join(valid)}")
    _check_ranges(frame, where)
    _check_unique(frame, form, where)
    return frame


def fit_tables(evidence: pd.DataFrame, *, fit: str, criteria: Criteria) -> FitTables:
    """Return the tables of one fit: a document or seed missing in one arm is dropped in all, and counted.

    Args: evidence: validated rows; fit: their `fit`; rows of "-" (raw, oracle, reference) belong to every fit.
    Raises: EvidenceError: an unknown fit, an arm under both fits, nothing complete, or two equal columns.
    """
    rows = _rows_of_fit(evidence, fit)
    _check_draws(rows[rows["fit"] == fit], fit)
    aside = rows["arm"].isin(APART)
    parts = {str(scope): part for scope, part in rows[~aside].groupby("scope", sort=True)}
    wide = {scope: Wide.of(part) for scope, part in parts.items()}
    long_enough = rows[aside & (rows["n_positions"] >= criteria.min_positions)]
    apart = {str(scope): Wide.of(part) for scope, part in long_enough.groupby("scope", sort=True)}
    seeds, dropped_seeds = _common_seeds([of[scope] for of in (wide, apart) for scope in HELD_OUT if scope in of])
    least = {scope: 0 if scope == TASKS else criteria.min_positions for scope in parts}  # a task is whole at any length
    short = {s: set(part.loc[part["n_positions"] < least[s], "document"].unique()) for s, part in parts.items()}
    complete = {scope: table.complete(seeds, short[scope]) for scope, table in wide.items()}
    if empty := [scope for scope in HELD_OUT if scope in complete and not len(complete[scope])]:
        words = f"no {empty[0]} document is complete in every arm, draw, metric and seed"
        raise EvidenceError(f"evidence, fit {fit}: {words}")
    kept = {scope: table.only(complete[scope].documents) for scope, table in apart.items() if scope in wide}
    beside = {scope: table.complete(seeds, ()) for scope, table in kept.items()}
    dropped = Dropped(
        seeds=dropped_seeds,
        documents={scope: len(wide[scope]) - len(table) for scope, table in complete.items()},
        documents_too_short={scope: len(found) for scope, found in short.items()},
    )
    draws = {str(arm): int(n) for arm, n in rows.groupby("arm")["draw"].nunique().items()}
    made = _of_complete(fit, complete, beside, draws, seeds, dropped)
    _check_columns(made.tables, seeds)
    return made


def _of_complete(
    fit: str,
    complete: Mapping[str, Wide],
    apart: Mapping[str, Wide],
    draws: Mapping[str, int],
    seeds: Sequence[int],
    dropped: Dropped,
) -> FitTables:
    """Return the tables of complete figures."""
    tables: dict[Measure, dict[str, Array]] = {}
    means: dict[Measure, dict[str, float]] = {}
    for scope, wide in ((scope, table) for of in (complete, apart) for scope, table in of.items() if len(table)):
        of_groups, overall = wide.means()
        for (metric, arm), table in of_groups.items():
            tables.setdefault(Measure(metric, scope), {})[arm] = table
            means.setdefault(Measure(metric, scope), {})[arm] = overall[metric, arm]
    counts = Counts(
        groups={scope: len(set(table.groups)) for scope, table in complete.items()},
        documents={scope: len(table) for scope, table in complete.items()},
        seeds=list(seeds),
        dropped=dropped,
    )
    return FitTables(fit, tables, means, draws, counts, complete, apart)


def _text(column: pd.Series, where: str) -> pd.Series:
    bad = column.isna()
    if empty := [word for word in column[~bad].unique() if not str(word).strip()]:
        bad |= column.isin(empty)
    if bad.any():
        raise EvidenceError(f"{where}: column {column.name!r} row {_line(bad)} is empty; every row needs one")
    return column.astype(str)


def _numbers(column: pd.Series, where: str, *, whole: bool) -> pd.Series:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = ~numbers.between(-math.inf, math.inf, inclusive="neither") | (
        whole & ((numbers != numbers.round()) | (numbers < 0))
    )
    if bad.any():
        found, kind = column[bad].iloc[0], "a whole number from 0 on" if whole else "a finite number"
        raise EvidenceError(f"{where}: column {column.name!r} row {_line(bad)} holds {found!r}; expected {kind}")
    return numbers.astype(np.int64) if whole else numbers


def _line(bad: pd.Series) -> int:
    """Return the line in the file of the first bad row; the header is line 1."""
    return int(np.flatnonzero(bad.to_numpy())[0]) + 2


def largest(metric: str) -> float:
    """Return the largest value that a metric can have; the least is 0."""
    return 1.0 if "top" in metric else math.log(2) if "js" in metric else math.inf


def _check_ranges(frame: pd.DataFrame, where: str) -> None:
    """Raise for a value that its metric cannot have: a wrong sign or unit would turn a verdict."""
    upper = frame["metric"].map({metric: largest(metric) for metric in frame["metric"].unique()})
    bad = (frame["value"] < -1e-6) | (frame["value"] > upper + 1e-6)
    if bad.any():
        row, limits = frame[bad].iloc[0], f"[0, {upper[bad].iloc[0]:.4g}]"
        words = f"{row['metric']} is {row['value']:.6g} and cannot lie outside {limits}"
        raise EvidenceError(f"{where}: row {_line(bad)}: {words}")


def _check_unique(frame: pd.DataFrame, form: Form, where: str) -> None:
    twice = frame.duplicated(list(form.key))
    if twice.any():
        row = frame[twice].iloc[0]
        named = ", ".join(f"{name} {row[name]}" for name in form.key)
        raise EvidenceError(f"{where}: row {_line(twice)} is there twice ({named}); write every row once")


def _check_documents(frame: pd.DataFrame, where: str) -> None:
    """Raise for a document that is not the same one in all rows that are read together: those of a fit, and of no fit.

    Studies of several texts are fits of one file; code and prose of one source file are documents of one name in two.
    An arm that stands apart may score other positions.
    """
    unfitted = frame["fit"] == UNFITTED
    for fit in sorted(frame.loc[~unfitted, "fit"].unique()) or [UNFITTED]:
        part = frame[unfitted | (frame["fit"] == fit)]
        for column, keys in (("group", ["scope", "document"]), ("n_positions", ["scope", "document", "metric"])):
            compared = part[~part["arm"].isin(APART)] if column == "n_positions" else part
            different = compared[[*keys, column]].drop_duplicates()
            twice = different.duplicated(keys)
            if twice.any():
                name = min(different.loc[twice, keys].itertuples(index=False, name=None))
                raise EvidenceError(
                    f"{where}: document {name[1]!r} on {name[0]} has more than one {column}; "
                    "every arm and seed must score the same positions of the same documents"
                )


def _rows_of_fit(evidence: pd.DataFrame, fit: str) -> pd.DataFrame:
    fits = sorted(set(evidence["fit"].unique()) - {UNFITTED})
    if fit not in fits:
        raise EvidenceError(f"evidence: fit {fit!r} has no rows; fits there: {', '.join(fits) or 'none'}")
    own = evidence["fit"] == fit
    seeds = evidence.loc[own, "seed"].unique()  # a closed form may have more seeds than a gradient fit
    rows = evidence[own | ((evidence["fit"] == UNFITTED) & evidence["seed"].isin(seeds))]
    ways = rows[["arm", "fit"]].drop_duplicates()["arm"].value_counts()
    if (ways > 1).any():
        arm = min(ways[ways > 1].index)
        raise EvidenceError(
            f"evidence: arm {arm!r} has rows of fit {fit!r} and of {UNFITTED!r}; it can have one of them"
        )
    if "domain" not in rows["scope"].unique():
        raise EvidenceError(f"evidence, fit {fit}: no rows on held-out domain text (scope domain)")
    return rows


def _check_draws(rows: pd.DataFrame, fit: str) -> None:
    """Raise for a fitted arm that lacks draws which others have: its mean would be over fewer rungs of a ladder.

    One draw, number 0, is an arm that is not drawn again: beside the draws of placebos in closed form.
    """
    for (metric, scope), part in rows.groupby(["metric", "scope"], sort=True):
        whole = set(part["draw"].unique())
        for arm, own in part.groupby("arm", sort=True)["draw"]:
            if set(own) not in ({0}, whole):
                words = f"arm {arm!r} has no {metric} on {scope} of draw {min(whole - set(own))}, which others have"
                raise EvidenceError(f"evidence, fit {fit}: {words}; rerun the evaluation")


def _common_seeds(wide: Sequence[Wide]) -> tuple[list[int], list[int]]:
    """Return the seeds that every arm, draw and metric has on held-out text, and those that were dropped."""
    found = [seeds for of_scope in wide for seeds in of_scope.seeds().values()]
    kept = set.intersection(*found)
    if not kept:
        raise EvidenceError("evidence: no seed is present in every arm, draw and metric; rerun the evaluation")
    return sorted(kept), sorted(set.union(*found) - kept)


def _check_columns(tables: Mapping[Measure, Mapping[str, Array]], seeds: Sequence[int]) -> None:
    """Raise where two seeds give the same figures in every group: a network that was shared or copied.

    The plain backbone's own figures may repeat: a fit whose chosen gain is 0 is the plain backbone in every seed.
    """
    for measure, arms in tables.items():
        if measure.metric not in ("js_nats", "bits_per_byte") or measure.scope == "on_training_text":
            continue
        plain = arms.get(RAW) if measure.metric == "bits_per_byte" else None
        for arm, table in arms.items():
            if measure.metric == "bits_per_byte" and arm in ARMS and not ARMS[arm].seeded:
                continue
            for i, j in combinations(range(len(seeds)), 2):
                silent = plain is not None and np.array_equal(table[:, i], plain[:, i])
                if np.array_equal(table[:, i], table[:, j]) and not silent:
                    raise EvidenceError(
                        f"evidence: arm {arm!r} has equal {measure.metric} on {measure.scope} for the seeds {seeds[i]} "
                        f"and {seeds[j]} in every group; seeds must not share a network"
                    )


# the published criteria


def published_criteria(
    tables: FitTables, thresholds: Mapping[str, float], candidate: str, controls: Collection[str]
) -> PublishedCriteria:
    """Return which of the four published thresholds each arm's means meet: means over documents and seeds."""
    measured = {metric: tables.document_means[Measure(metric, "domain")] for metric in AGREEMENT}
    means = {arm: {metric: measured[metric][arm] for metric in AGREEMENT} for arm in sorted(measured[AGREEMENT[0]])}
    if candidate not in means:
        words = f"arm {candidate!r} has no agreement; arms: {', '.join(means)}"
        raise EvidenceError(f"evidence, fit {tables.fit}: {words}")
    return criteria_met(means, thresholds, candidate, controls)


def criteria_met(
    means: Mapping[str, Mapping[str, float]], thresholds: Mapping[str, float], candidate: str, controls: Collection[str]
) -> PublishedCriteria:
    """Return which arms meet the published thresholds.

    Args: means: arm -> the four metrics of the NIB; controls: arms that move no knowledge; those that are missing are
        not counted.
    """
    arms = {}
    for arm, values in means.items():
        met = thresholds_met(values, thresholds)
        arms[arm] = {"means": values, "met": met, "passed": all(met.values())}
    counted = [arm for arm in controls if arm in arms]
    passed = [arm for arm in counted if arms[arm]["passed"]]
    word = "yes" if arms[candidate]["passed"] else "no"
    sentence = f"published criteria met by: {candidate} {word}; control arms {len(passed)} of {len(counted)}"
    found = {"sentence": sentence, "thresholds": dict(thresholds), "controls": counted, "arms": arms}
    return PublishedCriteria.model_validate(found)


def thresholds_met(means: Mapping[str, float], thresholds: Mapping[str, float]) -> dict[str, bool]:
    """Return which published thresholds some means meet: below where less is better, else at or above."""
    return {m: v < thresholds[m] if lower_is_better(m) else v >= thresholds[m] for m, v in means.items()}
