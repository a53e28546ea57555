"""`evaluate`: bits per byte of texts with a module and without, per document and with intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from abi.api.adapters import Adapted, adapted
from abi.api.defaults import COPIED, require_counts, whole
from abi.api.modules import Module, module_of
from abi.api.progress import expect, warn
from abi.api.sides import LEAST_WINDOW, Side, backbone_of, sides
from abi.api.texts import Documents, TextSource, key_of, seen_here, unsplit
from abi.arms.forms import ArmForm
from abi.arms.metrics import Key, Score, evidence_rows, score
from abi.base.errors import DataError
from abi.base.names import RAW, UNFITTED
from abi.base.typed import Count, Positive, Sha256, Typed
from abi.judge.fits import Ratio
from abi.judge.intervals import quantile, ratio_set
from abi.models.attach_any import AnyModule
from abi.models.module import AbiModule
from abi.models.ngram_module import NgramModule
from abi.models.ngrams import Foretold, mixed_losses
from abi.models.portable import Placed, PortableModule
from abi.models.states import States
from abi.report.render import Table, bounds, figure, terminal
from abi.report.study_words import closure_words
from abi.text.copies import passages, share_in
from abi.text.documents import Document

WITH, ADAPTED = "with", "adapted"


class Estimate(Typed):
    """A mean over documents, with the ends of its interval (Student's t); they are null for a single document."""

    mean: float
    lower: float | None
    upper: float | None

    def __str__(self) -> str:
        return figure(self.mean, 4) + bounds(self.lower, self.upper)


class DocumentFigures(Typed):
    """Bits per byte of a document without the module and with it."""

    document: str
    positions: Positive
    """Scored tokens."""
    without: float
    with_module: float
    with_adapter: float | None = None


class Held(Typed):
    """How much of what an adapter gains a module gains, on the same documents."""

    with_adapter: Estimate
    share: Ratio | None
    """The module's gain over the adapter's, with Fieller's set over documents; null for a single document."""


class Evaluation(Typed):
    """What `evaluate` found; `str()` gives it as a table. Bits per byte: less is better."""

    without: Estimate
    with_module: Estimate
    gain: Estimate
    """Without less with, document by document: above 0 the module helps."""
    adapter: Held | None = None
    """Where an adapter was given."""
    documents: list[DocumentFigures]
    left_out: Count
    """Documents that the module was fitted or chosen on, and copies of what an n-gram model counted."""
    unread: Count
    """Documents that are shorter than a window, or lie beyond the most windows."""
    level: float
    module: Sha256
    base: Sha256

    def __str__(self) -> str:
        rows = [["without the module", str(self.without)], ["with the module", str(self.with_module)]]
        rows += [["with the adapter", str(self.adapter.with_adapter)]] if self.adapter else []
        table = Table(["", "bits per byte"], [*rows, ["gain", str(self.gain)]])
        said = f"{len(self.documents)} documents, intervals of {self.level:.0%}"
        beside = f"{self.left_out} left out that the module has seen, {self.unread} skipped (too short, or too many)"
        held = self.adapter and closure_words(self.adapter.share, "not known of one document")
        lines = [*terminal(table, ""), f"{said}; {beside}"]
        return "\n".join([*lines, *([f"share of the adapter's gain that the module holds: {held}"] if held else [])])


def require_scoring(*, window: int, max_windows: int, level: float) -> None:
    """Raise DataError for what nothing can be scored by, before a model or a text is read. Args: as of `evaluate`."""
    if not 0 < level < 1:
        raise DataError(f"evaluate: level {level} is not between 0 and 1; give one such as 0.95")
    require_counts("evaluate", max_windows=max_windows)
    whole("window", window, LEAST_WINDOW)


def evaluate(
    model: Any,
    module: Module,
    texts: TextSource,
    tokenizer: Any = None,
    *,
    adapter: Any = None,
    window: int = 128,
    max_windows: int = 400,
    level: float = 0.95,
) -> Evaluation:
    """Return bits per byte of texts without and with a module, per document, with intervals over documents.

    Documents that the module was fitted or chosen on are left out, so the texts it was trained on may be given: what is
    held out of them is read. Of an n-gram model, which knows its text by heart, so are copies and parts of it. Bytes
    are what models of different tokenizers share.

    >>> module = abi.train(model, tokenizer, texts, steps=20)
    >>> found = abi.evaluate(model, module, texts, tokenizer)
    >>> found.gain.mean > 0
    True

    Args:
        texts: as in `train`.
        tokenizer: as in `attach`.
        adapter: of the model, as in `distill`; how much of its gain the module holds is told, too. Which documents an
            adapter was trained on is not known here: give such that it has not seen.
        window: tokens per window; max_windows: at most so many are read.
        level: of the intervals.
    Raises: DataError: the module belongs to another model, or no document is left.
    """
    require_scoring(window=window, max_windows=max_windows, level=level)
    module = module_of(module, "evaluate: the module")
    every = unsplit(texts)
    if module.record is None:
        warn("evaluate: the module has no record of the text it was trained on; give text that it has not seen")
    documents = _unseen(module, every)
    if not documents:
        raise DataError(f"evaluate: the module has seen all {len(every)} documents; give others")
    with sides(window, target=backbone_of(model, tokenizer)) as [side]:
        module.check(side.backbone, side.marks)
        beside = None if adapter is None else adapted(side.backbone, adapter)
        figures = _figures(side, module, beside, documents, max_windows)
        base = side.base.base_sha256
    gains = [one.without - one.with_module for one in figures]
    return Evaluation(
        without=estimate([one.without for one in figures], level),
        with_module=estimate([one.with_module for one in figures], level),
        gain=estimate(gains, level),
        adapter=None if adapter is None else _held(figures, level),
        documents=figures,
        left_out=len(every) - len(documents),
        unread=len(documents) - len(figures),
        level=level,
        module=module.sha256,
        base=base,
    )


def _unseen(module: Module, documents: Documents) -> list[Document]:
    """Return the documents that a module has not seen, nor one of their copies here; of an n-gram model also none that
    stands mostly in its text.
    """
    seen = seen_here(documents, module.seen)
    others = [document for document in documents if key_of(document) not in seen]
    if not isinstance(module.net, NgramModule):
        return others
    known = {passage for text in module.net.texts for passage in passages(text.decode(errors="replace"))}
    return [document for document in others if share_in(known, document.text) <= COPIED]


def _held(figures: Sequence[DocumentFigures], level: float) -> Held:
    """Return how much of an adapter's gain a module holds."""
    of_adapter = [one.with_adapter for one in figures if one.with_adapter is not None]
    gains = np.array([[one.without - one.with_module for one in figures], [one.without for one in figures]])
    gains[1] -= of_adapter
    # Two equal columns, of two seeds that do not differ: what is left of the set is that over documents.
    tables = np.repeat(gains[..., None], 2, axis=-1)
    share = ratio_set(tables[0], tables[1], level=level) if len(figures) > 1 else None
    return Held(with_adapter=estimate(of_adapter, level), share=share)


def _figures(
    side: Side, module: Module, beside: Adapted | None, documents: Sequence[Document], max_windows: int
) -> list[DocumentFigures]:
    """Return bits per byte of every document that fills a window."""
    net = module.net
    taps = [tap for tap in net.config.taps if tap < side.manifest.depth] if isinstance(net, AbiModule) else ()
    expect(states=side.reading_seconds("texts", "test", max_windows))
    states = side.states(documents, "test", "texts", taps=taps, most=max_windows)
    scopes = {"domain": states}
    arms: dict[Key, ArmForm | None] = {Key(UNFITTED, RAW): None, **_forms(side, net)}
    if beside is not None:
        arms[Key(UNFITTED, ADAPTED)] = beside.arm(side, states, "texts")
    scores = [*score(arms, None, None, scopes, side.head, agree_on=()), *_mixed(side, net, states)]
    rows = list(evidence_rows(scores, scopes, seed=0))
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for _, arm, _, _, _, _, document, positions, metric, value in rows:
        if metric == "bits_per_byte":
            found.setdefault(document, {})[arm] = (positions, value)
    return [
        DocumentFigures(
            document=name,
            positions=of[RAW][0],
            without=of[RAW][1],
            with_module=of[WITH][1],
            with_adapter=of[ADAPTED][1] if beside else None,
        )
        for name, of in found.items()
    ]


def _forms(side: Side, net: AnyModule) -> dict[Key, ArmForm]:
    """Return a module that changes states or logits as a form of an arm, nothing for an n-gram model."""
    if isinstance(net, NgramModule):
        return {}
    placed = Placed(net, side.vocabulary, side.head.scale) if isinstance(net, PortableModule) else net
    return {Key(UNFITTED, WITH): placed}


def _mixed(side: Side, net: AnyModule, states: States) -> list[Score]:
    """Return the losses with an n-gram model, nothing for another module."""
    if not isinstance(net, NgramModule):
        return []
    losses = mixed_losses(Foretold(net.ngrams, side.vocabulary), states, side.head, net.share)
    return [Score("domain", Key(UNFITTED, WITH), "loss_nats", losses)]


def estimate(values: Sequence[float], level: float) -> Estimate:
    """Return the mean of one figure per document with its interval."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean=mean, lower=None, upper=None)
    half = quantile(level, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean=mean, lower=mean - half, upper=mean + half)
