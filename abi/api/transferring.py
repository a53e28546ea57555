"""`transfer`: a module moved to another model; what is given decides the regime."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from abi.api.defaults import require_counts, whole
from abi.api.kept import Keep
from abi.api.modules import Module, Record, made, module_of, seen_of
from abi.api.moving import FIT_OF, TRIAL, Move, chosen_rates, fitted
from abi.api.progress import expect, fit_seconds, part
from abi.api.sides import LEAST_WINDOW, Pair, backbone_in, origin_of, sides
from abi.api.texts import TextSource, documents_of, key_of, require_general, warn_of_few
from abi.api.training import seed_of, shortened
from abi.base.errors import DataError
from abi.base.manifests.modules import ModuleFacts
from abi.base.names import TRANSFERRED
from abi.base.typed import Regime, Split
from abi.models.module import AbiModule

ARMS_MOVED = (TRANSFERRED,)
S = TypeVar("S")


def transfer(
    module: Module,
    source: Pair | None,
    target: Pair,
    *,
    general_texts: TextSource | None = None,
    domain_texts: TextSource | None = None,
    teacher: Module | None = None,
    steps: int | None = None,
    window: int = 128,
    seed: int = 1,
    keep: str | Path | None = None,
) -> Module:
    """Return a module moved to another model: its net as it is, its interface calibrated there.

    The regime follows from what is given:

    | given | regime | what happens |
    | --- | --- | --- |
    | a portable module, an n-gram model | `zero-text` | nothing is calibrated, no text is read |
    | general texts | `general-only` | the source with its module teaches on general text, by tokens that both have |
    | and domain texts | `few-shot` | interfaces are aligned on general text (Procrustes); cross-entropy on the domain |
    | and a teacher | `oracle-kd` | the same alignment; a module trained on the target teaches on the domain |

    >>> module = abi.train(model, tokenizer, texts, steps=20)
    >>> moved = abi.transfer(module, (model, tokenizer), (other, other_tokenizer),
    ...                      general_texts=general_texts, steps=10)
    >>> moved.record.regime
    'general-only'

    Args:
        source, target: (model, tokenizer) of transformers each; any two families and vocabularies. In `zero-text` the
            source is not read and may be None.
        general_texts, domain_texts: as `texts` of `train`; both models must read them.
        teacher: a module of the target itself, trained on the domain.
        steps: of calibration; if not given 300, in `few-shot` 100; where a head is large, 150 and 60.
        window: tokens per window.
        seed: of the redrawn interface and the order.
        keep: a folder for finished parts, from which the same call goes on if it was killed; deleted at the end.
    Raises: DataError: a module of another model, a regime without its texts, one with texts or steps that it does not
        use, or too little text; AlignmentError: the models share too few positions or tokens.
    """
    module = module_of(module, "transfer: the module")
    seed, began = require_moving(steps=steps, window=window, seed=seed), time.perf_counter()
    if not isinstance(module.net, AbiModule):
        return _as_is(module, target, general_texts, domain_texts, teacher, steps)
    (source, general_texts), regime = needed(source, general_texts), regime_of(domain_texts, teacher)
    domain = [] if domain_texts is None else documents_of(domain_texts, "domain_texts")
    general = documents_of(general_texts, "general_texts")
    require_general("transfer", general, {*module.learned, *map(key_of, domain)})
    warn_of_few("transfer", general, "general_texts")
    taught_by = None if teacher is None else module_of(teacher, "transfer: the teacher").sha256
    given = {"module": module.sha256, "teacher": taught_by, "steps": steps, "seed": seed}
    kept = Keep(keep, "transfer", [general, domain], given)
    with sides(window, kept, source=source, target=target) as [of_source, of_target]:
        module.check(of_source.backbone, of_source.marks)
        move = Move(of_source, of_target, module.net.config, {"general_texts": general, "domain_texts": domain})
        moved = _calibrated(module, move, regime, teacher, steps, seed)
    seen = {key for one in (module, teacher, moved) if one and one.record for key in one.record.seen}
    return moved.recorded(seen=sorted(seen), seconds=round(time.perf_counter() - began, 2))


def require_moving(*, steps: int | None, window: int, seed: int) -> int:
    """Return the seed. Args: as of `transfer`.

    Raises: DataError: what no module can be moved by, before a model or a text is read.
    """
    require_counts("transfer", steps=steps)
    whole("window", window, LEAST_WINDOW)
    return seed_of(seed)


def needed(source: S | None, general: TextSource | None) -> tuple[S, TextSource]:
    """Return what a module that reads hidden states cannot be moved without. Raises: DataError: it was not given."""
    if source is None or general is None:
        lacks = "its `source`" if source is None else "`general_texts` that both models read"
        raise DataError(f"transfer: a module that reads hidden states needs {lacks}")
    return source, general


def regime_of(domain: TextSource | None, teacher: object) -> Regime:
    """Return the regime that follows from what is given. Raises: DataError: a teacher without text to teach on."""
    if teacher is not None and domain is None:
        raise DataError("transfer: a teacher teaches on domain text; give `domain_texts`")
    if domain is None:
        return "general-only"
    return "oracle-kd" if teacher else "few-shot"


def _calibrated(
    module: Module, move: Move, regime: Regime, taught_by: Module | None, steps: int | None, seed: int
) -> Module:
    """Return the module with its interface calibrated on the target. Raises: DataError: a teacher of another model."""
    net, side, section = module.net, move.target, move.budgets.fits[FIT_OF[regime]]
    teacher = None if taught_by is None else taught_by.net
    assert isinstance(net, AbiModule)
    if taught_by is not None:
        try:
            taught_by.check(side.backbone, side.marks)
        except DataError as error:
            raise DataError(f"transfer: the teacher is no module of the target; {error}") from None
    if teacher is not None and not isinstance(teacher, AbiModule):
        raise DataError("transfer: the teacher works on any model; give one that reads the target's hidden states")
    section = section.model_copy(update={"windows": None, "phases": shortened(section.phases, steps)})
    fitting = fit_seconds(sum(phase.steps for phase in section.phases), section.batch, side.head_size)
    _foresee(move, regime, (1 + len(section.rates)) * fitting)
    trial = move.lesson(regime, net, TRIAL, teacher)
    words = "choosing the learning rate"
    rates = chosen_rates(regime, ARMS_MOVED, move.config, trial, section, side.folder, words=words, fitting_s=fitting)
    lesson = move.lesson(regime, net, seed, teacher)
    with part("arms", "calibrating the module", fitting):
        [(arm, figures)] = fitted(regime, ARMS_MOVED, move.config, lesson, section, rates, seed, side.folder).values()
    assert isinstance(arm.model, AbiModule)
    aligned = lesson.rotations.get("aligned")
    read = [move.read("general_texts", move.states(side, "general_texts", "train"))]
    if regime != "general-only":
        read.append(move.read("domain_texts", lesson.data.states))
    record = Record(
        made_by="transfer",
        trained_beside=module.origin,
        moved_to=side.origin,
        regime=regime,
        texts=read,
        seen=seen_of(*move.texts.values()),
        rate=rates[TRANSFERRED],
        steps=figures.steps,
        loss=figures.final_loss,
        cosine=None if aligned is None else aligned.figures.cosine_held_out,
        seconds=0.0,
    )
    text = module.about.text
    return made(arm.model, ModuleFacts(**dict(side.base), name=text, role="arm", text=text, seed=seed), record)


def _foresee(move: Move, regime: Regime, fitting: float) -> None:
    """Tell whoever watches what a transfer should take."""
    splits: tuple[Split, ...] = ("train", "calibration")
    read = [
        (side, "general_texts", split)
        for side in (move.source, move.target)
        for split in splits[: 1 + (regime == "general-only")]
    ]
    read += [(move.target, "domain_texts", split) for split in splits if regime != "general-only"]
    expect(states=sum(side.reading_seconds(what, split) for side, what, split in read), arms=fitting)


def _as_is(
    module: Module,
    target: Any,
    general_texts: TextSource | None,
    domain_texts: TextSource | None,
    teacher: Module | None,
    steps: int | None,
) -> Module:
    """Return a module that works on any model as it is, after a look at the target's vocabulary.

    Raises: DataError: an option that it does not use, or a vocabulary that it cannot read.
    """
    unused = {"general_texts": general_texts, "domain_texts": domain_texts, "teacher": teacher, "steps": steps}
    if wrong := [name for name, value in unused.items() if value is not None]:
        raise DataError(f"transfer: a module of kind {module.kind!r} moves as it is; leave out {', '.join(wrong)}")
    backbone = backbone_in("target", target)
    module.check(backbone)
    moved: dict[str, Any] = {"made_by": "transfer", "moved_to": origin_of(backbone.model), "regime": "zero-text"}
    if module.record is not None:
        # With the texts, the steps and the loss of its training; a verdict is that of another target.
        return module.recorded(**moved, verdict=None, seconds=0.0)
    return replace(
        module,
        record=Record(
            **moved, trained_beside=module.origin, texts=[], seen=[], rate=None, steps=0, loss=None, seconds=0.0
        ),
    )
