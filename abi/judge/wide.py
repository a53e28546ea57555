"""The figures of one scope of text as one array of documents x columns, from which the tables of a fit are made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from abi.judge.contrasts import Bools
from abi.judge.intervals import Array

if TYPE_CHECKING:
    import pandas as pd


class Column(NamedTuple):
    """What a column of figures is of."""

    metric: str
    arm: str
    draw: int
    seed: int


@dataclass(frozen=True)
class Wide:
    """The figures of one scope `[documents, columns]`, NaN where there is none; both are sorted."""

    groups: Array
    documents: Array
    columns: Sequence[Column]
    values: Array

    def __len__(self) -> int:
        return len(self.documents)

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Wide:
        """Return rows that stand once each."""
        lines, documents = _numbered(rows, ["group", "document"])
        places, columns = _numbered(rows, list(Column._fields))
        values = np.full((len(documents), len(columns)), np.nan)
        values[lines, places] = rows["value"].to_numpy(dtype=np.float64)
        groups, names = np.array(documents, dtype=object).T
        return cls(groups, names, [Column(str(m), str(a), int(d), int(s)) for m, a, d, s in columns], values)

    def seeds(self) -> dict[tuple[str, str, int], set[int]]:
        """Return metric, arm and draw -> the seeds that have some figure."""
        found: dict[tuple[str, str, int], set[int]] = {}
        for column in self.columns:
            found.setdefault(column[:3], set()).add(column.seed)
        return found

    def only(self, names: Iterable[str]) -> Wide:
        """Return some of the documents."""
        kept = set(names)
        return self._at(np.array([name in kept for name in self.documents], dtype=bool))

    def without(self, names: Collection[str]) -> Wide:
        """Return all documents but some."""
        return self.only(set(self.documents) - set(names))

    def _at(self, lines: Bools) -> Wide:
        return replace(self, groups=self.groups[lines], documents=self.documents[lines], values=self.values[lines])

    def complete(self, seeds: Collection[int], short: Collection[str]) -> Wide:
        """Return the columns of some seeds whose arms have all of them, and the documents that have all of those.

        Args: short: documents that are left out.
        """
        own = self.seeds()
        full = [c.seed in seeds and own[c[:3]] >= set(seeds) for c in self.columns]
        columns = [column for column, there in zip(self.columns, full, strict=True) if there]
        kept = replace(self, columns=columns, values=self.values[:, np.array(full, dtype=bool)])
        whole = np.logical_and(np.isfinite(kept.values).all(1), len(columns) > 0)
        return kept._at(whole).without(short)

    def means(self) -> tuple[dict[tuple[str, str], Array], dict[tuple[str, str], float]]:
        """Return metric and arm -> table of groups x seeds, and the plain mean over documents.

        Documents are averaged within their group, then draws within their seed.
        """
        _, starts, sizes = np.unique(self.groups, return_index=True, return_counts=True)
        of_groups = np.add.reduceat(self.values, starts, axis=0) / sizes[:, None]
        of_documents, places = self.values.mean(0), dict[tuple[str, str], list[int]]()
        for place, column in enumerate(self.columns):  # sorted: draws, and seeds in each of them
            places.setdefault((column.metric, column.arm), []).append(place)
        n_draws = {key: len({self.columns[place].draw for place in own}) for key, own in places.items()}
        tables = {k: of_groups[:, p].reshape(len(sizes), n_draws[k], -1).mean(1) for k, p in places.items()}
        return tables, {key: float(of_documents[own].mean()) for key, own in places.items()}


def _numbered(rows: pd.DataFrame, keys: list[str]) -> tuple[NDArray[Any], list[tuple[Any, ...]]]:
    """Return the place of every row among the sorted values of some columns, and those values."""
    found = rows[keys].drop_duplicates().sort_values(keys)
    return rows.groupby(keys, sort=True).ngroup().to_numpy(), list(found.itertuples(index=False, name=None))
