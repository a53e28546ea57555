"""`evaluate`: bits per byte of texts with a module and without, per document and with intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from abi.api.modules import Module, key_of
from abi.api.progress import expect
from abi.api.sides import Side, backbone_of, sides
from abi.api.texts import TextSource, unsplit
from abi.arms.forms import ArmForm
from abi.arms.metrics import Key, evidence_rows, score
from abi.base.errors import DataError
from abi.base.names import RAW, UNFITTED
from abi.base.typed import Count, Positive, Sha256, Typed
from abi.judge.intervals import quantile
from abi.models.portable import Placed, PortableModule
from abi.report.render import Table, bounds, figure, terminal
from abi.text.documents import Document

WITH = "with"


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


class Evaluation(Typed):
    """What `evaluate` found; `str()` gives it as a table. Bits per byte: less is better."""

    without: Estimate
    with_module: Estimate
    gain: Estimate
    """Without less with, document by document: above 0 the module helps."""
    documents: list[DocumentFigures]
    left_out: Count
    """Documents that the module was fitted or chosen on."""
    unread: Count
    """Documents that are shorter than a window, or lie beyond the most windows."""
    level: float
    module: Sha256
    base: Sha256

    def __str__(self) -> str:
        rows = [["without the module", str(self.without)], ["with the module", str(self.with_module)]]
        table = Table(["", "bits per byte"], [*rows, ["gain", str(self.gain)]])
        said = f"{len(self.documents)} documents, intervals of {self.level:.0%}"
        beside = f"{self.left_out} left out that the module has seen, {self.unread} too short or too many"
        return "\n".join([*terminal(table, ""), f"{said}; {beside}"])


def evaluate(
    model: Any,
    module: Module,
    texts: TextSource,
    tokenizer: Any = None,
    *,
    window: int = 128,
    max_windows: int = 400,
    level: float = 0.95,
) -> Evaluation:
    """Return bits per byte of texts without and with a module, per document, with intervals over documents.

    Documents that the module was fitted or chosen on are left out, so the texts it was trained on may be given: what is
    held out of them is read. Bytes are what models of different tokenizers share.

    >>> module = abi.train(model, tokenizer, texts, steps=20)
    >>> found = abi.evaluate(model, module, texts, tokenizer)
    >>> found.gain.mean > 0
    True

    Args:
        texts: as in `train`.
        tokenizer: as in `attach`.
        window: tokens per window; max_windows: at most so many are read.
        level: of the intervals.
    Raises: DataError: the module belongs to another model, or no document is left.
    """
    if not 0 < level < 1:
        raise DataError(f"evaluate: level {level} is no probability; give one such as 0.95")
    if max_windows < 1:
        raise DataError(f"evaluate: max_windows {max_windows} reads no text; give 1 or more")
    every = unsplit(texts)
    documents = [document for document in every if key_of(document) not in module.seen]
    if not documents:
        raise DataError(f"evaluate: the module has seen all {len(every)} documents; give others")
    with sides(window, target=backbone_of(model, tokenizer)) as [side]:
        module.check(side.backbone)
        figures = _figures(side, module, documents, max_windows)
        base = side.base.base_sha256
    gains = [one.without - one.with_module for one in figures]
    return Evaluation(
        without=estimate([one.without for one in figures], level),
        with_module=estimate([one.with_module for one in figures], level),
        gain=estimate(gains, level),
        documents=figures,
        left_out=len(every) - len(documents),
        unread=len(documents) - len(figures),
        level=level,
        module=module.sha256,
        base=base,
    )


def _figures(side: Side, module: Module, documents: Sequence[Document], max_windows: int) -> list[DocumentFigures]:
    """Return bits per byte of every document that fills a window."""
    net = module.net
    taps = () if isinstance(net, PortableModule) else [tap for tap in net.config.taps if tap < side.manifest.depth]
    expect(states=side.reading_seconds("texts", "test", max_windows))
    states = side.states(documents, "test", "texts", taps=taps, most=max_windows)
    form: ArmForm = Placed(net, side.vocabulary, side.head.scale) if isinstance(net, PortableModule) else net
    scopes = {"domain": states}
    arms: dict[Key, ArmForm | None] = {Key(UNFITTED, RAW): None, Key(UNFITTED, WITH): form}
    rows = list(evidence_rows(score(arms, None, None, scopes, side.head, agree_on=()), scopes, seed=0))
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for _, arm, _, _, _, _, document, positions, metric, value in rows:
        if metric == "bits_per_byte":
            found.setdefault(document, {})[arm] = (positions, value)
    return [
        DocumentFigures(document=name, positions=of[RAW][0], without=of[RAW][1], with_module=of[WITH][1])
        for name, of in found.items()
    ]


def estimate(values: Sequence[float], level: float) -> Estimate:
    """Return the mean of one figure per document with its interval."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean=mean, lower=None, upper=None)
    half = quantile(level, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean=mean, lower=mean - half, upper=mean + half)
