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
from typing import TYPE_CHECKING

import numpy as np

from abi.base.catalogue import ARMS
from abi.base.errors import EvidenceError
from abi.base.names import AGREEMENT, RAW, SCOPES, TASKS, UNFITTED
from abi.judge.contrasts import Contrast, Measure, lower_is_better
from abi.judge.fits import Counts, Dropped, PublishedCriteria
from abi.judge.intervals import Array
from abi.judge.rows import APART
from abi.judge.wide import Wide
from abi.plan.specs.judge import Criteria

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = ("domain", "general")


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

    One draw, number 0, is an arm that is not drawn again. Draws of placebos in closed form may stand beside a ladder's
    rungs: arms that share a draw share all of them.
    """
    for (metric, scope), part in rows.groupby(["metric", "scope"], sort=True):
        found = {arm: set(draws) for arm, draws in part.groupby("arm", sort=True)["draw"]}
        several = {arm: own for arm, own in found.items() if own != {0}}
        for arm, own in several.items():
            if missing := set().union(*(draws for draws in several.values() if draws & own)) - own:
                words = f"arm {arm!r} has no {metric} on {scope} of draw {min(missing)}, which others have"
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
