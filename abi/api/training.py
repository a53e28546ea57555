"""`train`: a module beside a frozen model, on texts; and the modules that `compare` trains."""

import time
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args

from abi.api.defaults import NGRAMS, budgets_of, require_counts, whole
from abi.api.kept import Keep, remembered
from abi.api.modules import Adapter, Kind, Module, Record, TextRead, made, read_of, seen_of
from abi.api.progress import expect, fit_seconds, part
from abi.api.sides import LEAST_WINDOW, Side, sides
from abi.api.texts import TextSource, documents_of, key_of, of_split, require_general, warn_of_few
from abi.arms.gradient import FitData, Objective
from abi.arms.native import trained_of_seed
from abi.arms.portable_fit import GENERAL, Lesson, anchors_of, fit_portable, portables
from abi.arms.rates import JUDGED, mean_objectives
from abi.base.errors import DataError
from abi.base.manifests.modules import ModuleEntry, ModuleFacts
from abi.base.manifests.portable import PortableFacts
from abi.base.names import TRANSFERRED
from abi.models.loop import Schedule, Trained
from abi.models.module import AbiModule, read_module
from abi.models.ngram_module import NgramModule
from abi.models.portable import PortableModule
from abi.models.states import States
from abi.plan.specs.models import ModuleSection, PortableTraining, Tap, TrainModules
from abi.text.documents import Document

Role = Literal["source", "oracle", "reference", "home"]
RATES = (3e-3, 1e-2)
LEAST_WIDTH = 64
MOST_SEED = 2**31 - 1
TAKEN: dict[Kind, tuple[str, ...]] = {
    "module": ("d_abi", "taps", "steps", "rates"),
    "portable": ("general_texts", "d_abi", "steps"),
    "ngram": (),
}
"""What each kind takes of what shapes a module and its training."""


def train(
    model: Any,
    tokenizer: Any,
    texts: TextSource,
    kind: Kind = "module",
    general_texts: TextSource | None = None,
    *,
    name: str = "domain",
    d_abi: int | None = None,
    taps: Sequence[Tap] = ("final",),
    steps: int | None = None,
    rates: Sequence[float] = RATES,
    window: int = 128,
    seed: int = 1,
    keep: str | Path | None = None,
) -> Module:
    """Return a module trained beside a frozen model of transformers; the model stays as it is, bit for bit.

    The model reads the texts where it is, on a card too; the module is trained on the CPU.
    `kind="module"` learns from the hidden states a correction of the final state, `[B, T, D]`, by cross-entropy on
    `texts`. `kind="portable"` reads the last bytes of the text, shifts the scores of strings, and is also trained to
    leave `general_texts` alone; it works on other models as it is. So does `kind="ngram"`, which trains nothing: it
    counts the texts and is mixed with a model's own distribution. Try it first; it often does better
    ([docs/regimes.md](regimes.md#an-n-gram-model-instead)).

    >>> module = abi.train(model, tokenizer, texts, name="notes", steps=20)
    >>> module
    Module(module 'notes' for ..., ... parameters)

    Args:
        model, tokenizer: of transformers, causal or encoder-decoder.
        texts: strings (each a document), a file or a folder (.txt, .md, .py, .jsonl with a key `text`). Three fifths of
            the documents are trained on, by the hash of their text; `evaluate` reads those that nothing was fitted on.
        general_texts: the same, of what is not the domain; `portable` needs it, the others take none.
        name: of the domain.
        d_abi: numbers per position that the module works on; if not given 64 for a portable one, for a module a quarter
            of the model's width, at least 64.
        taps: hidden states a module reads, numbers or "final".
        steps: of training; if not given 500, portable 800; beside a model whose head is large (2 ** 24) 150 and 400.
        rates: learning rates of a module, of which the one with the lowest loss on calibration text is kept.
        window: tokens per window; shorter documents are left out.
        seed: of initialisation and order.
        keep: a folder for finished parts, from which the same call goes on if it was killed; deleted at the end.
    Raises: DataError: a model that is not admitted, too little text, or a loss that is not finite.
    """
    asked: Any = {"d_abi": d_abi, "taps": taps, "steps": steps, "rates": rates, "window": window, "seed": seed}
    seed, began = require_training(kind, general_texts, name=name, **asked), time.perf_counter()
    documents = documents_of(texts)
    general = _general(general_texts, documents)
    warn_of_few("train", documents)
    given = {"kind": kind, "name": name, "seed": seed, "d_abi": d_abi, "taps": [*taps], "steps": steps}
    kept = Keep(keep, "train", [documents, general], {**given, "rates": [*rates]})
    with sides(window, kept, model=(model, tokenizer)) as [side]:
        if kind == "ngram":
            module = _counted(side, documents, name, seed)
        elif kind == "portable":
            module = _portable(side, documents, general, name, portable_section(d_abi, steps, side.head_size), seed)
        else:
            module = _native(side, documents, name, module_section(side, d_abi, taps, steps), rates, seed)
    return module.recorded(seconds=round(time.perf_counter() - began, 2))


def require_training(
    kind: Kind,
    general_texts: TextSource | None,
    *,
    d_abi: int | None,
    steps: int | None,
    window: int,
    seed: int,
    name: str = "domain",
    taps: Sequence[Tap] = ("final",),
    rates: Sequence[float] = RATES,
    call: str = "train",
) -> int:
    """Return the seed. Args: as of `train`; call: as errors name it.

    Raises: DataError: what no module can be trained by, before a model or a text is read.
    """
    _require_lists(kind, general_texts, taps, rates)
    if not (isinstance(name, str) and name.strip() and name.isprintable()):
        raise DataError(f"{call}: name is {name!r}; give the domain a name of one line, such as 'notes'")
    require_counts(call, steps=steps, d_abi=d_abi)
    whole("window", window, LEAST_WINDOW)
    unset = {"general_texts": general_texts is None, "d_abi": d_abi is None, "steps": steps is None}
    _require_taken(kind, taps=(*taps,) == ("final",), rates=(*rates,) == RATES, **unset)
    return seed_of(seed)


def _general(texts: TextSource | None, domain: Sequence[Document]) -> Sequence[Document]:
    """Return the documents of general text, none where it is not given. Raises: DataError: most are of the domain."""
    if texts is None:
        return []
    return require_general("train", documents_of(texts, "general_texts"), map(key_of, domain))


def _require_lists(kind: Kind, general_texts: TextSource | None, taps: Sequence[Tap], rates: Sequence[float]) -> None:
    """Raise DataError for a kind or lists that make no module, or a kind without the text that it needs."""
    if kind not in get_args(Kind):
        raise DataError(f"train: there is no kind {kind!r}; give {', '.join(map(repr, get_args(Kind)))}")
    listed = isinstance(taps, Sequence) and not isinstance(taps, str) and len(taps) > 0
    if not (listed and all(tap == "final" or (isinstance(tap, int) and tap >= 0) for tap in taps)):
        raise DataError(f"train: taps are {taps!r}; give a list of numbers of hidden states, or of 'final'")
    known = isinstance(rates, Sequence) and len(rates) > 0 and all(isinstance(rate, Real) for rate in rates)
    if not known or not all(0 < rate < float("inf") for rate in rates):
        raise DataError(f"train: rates are {rates!r}; give a list of numbers above 0, such as [1e-2]")
    if kind == "portable" and general_texts is None:
        raise DataError("train: a portable module also learns where not to act; give `general_texts`")


def _require_taken(kind: Kind, **unset: bool) -> None:
    """Raise DataError where something is given that a kind of module does not take."""
    for name, as_usual in unset.items():
        if not as_usual and name not in TAKEN[kind]:
            raise DataError(f"train: a module of kind {kind!r} takes no `{name}`; leave it out")


def _native(
    side: Side, documents: Sequence[Document], name: str, section: ModuleSection, rates: Sequence[float], seed: int
) -> Module:
    """Return a module that reads hidden states, trained at the best of some rates."""
    most = side.manifest.width * len(section.taps)
    if section.d_abi > most:
        raise DataError(f"train: d_abi is {section.d_abi}; the states that the module reads give at most {most}")
    taps = [tap for tap in section.taps if tap != "final"]
    expect(states=sum(side.reading_seconds("texts", split) for split in ("train", "calibration")))
    expect(modules=len(rates) * module_seconds(section, side))
    data = FitData(side.states(documents, "train", "texts", taps=taps), side.head)
    held_out = FitData(side.states(documents, "calibration", "texts", taps=taps), side.head)
    net, entry, rate = best(section, side, data, held_out, rates, seed, side.folder)
    facts = ModuleFacts(**dict(side.base), name=name, role="source", text=name, seed=seed)
    record = Record(
        made_by="train",
        trained_beside=side.origin,
        texts=[read_of("texts", documents, data.states)],
        seen=seen_of(documents),
        rate=rate,
        steps=entry.steps,
        loss=entry.final_loss,
        seconds=0.0,
    )
    return made(net, facts, record)


def _portable(
    side: Side,
    documents: Sequence[Document],
    general: Sequence[Document],
    name: str,
    section: PortableTraining,
    seed: int,
) -> Module:
    """Return a portable module."""
    expect(states=sum(side.reading_seconds(what, "train") for what in ("texts", "general_texts")))
    expect(modules=portable_seconds(section, side))
    domain, plain = side.states(documents, "train", "texts"), side.states(general, "train", "general_texts")
    net, course = trained_portables(side, section, domain, plain, seed)[TRANSFERRED]
    read = [read_of("texts", documents, domain), read_of("general_texts", general, plain)]
    record = record_of(side, section, course, read, seen_of(documents, general))
    return made(net, PortableFacts(**dict(side.base), name=name, text=name, seed=seed), record)


def _counted(side: Side, documents: Sequence[Document], name: str, seed: int) -> Module:
    """Return an n-gram model of the train documents."""
    read = of_split(documents, "train")
    texts = [document.text.encode() for document in read]
    told = TextRead(what="texts", documents=len(read), bytes=sum(map(len, texts)), positions=0)
    record = Record(
        made_by="train",
        trained_beside=side.origin,
        texts=[told],
        seen=seen_of(documents, splits=("train",)),
        rate=None,
        steps=0,
        loss=None,
        seconds=0.0,
    )
    net = NgramModule(texts, NGRAMS.order, NGRAMS.share)
    return made(net, PortableFacts(**dict(side.base), name=name, text=name, seed=seed), record)


def record_of(
    side: Side,
    section: PortableTraining,
    course: Trained,
    read: list[TextRead],
    seen: list[str],
    adapter: Adapter | None = None,
) -> Record:
    """Return the record of a portable module that was trained beside a side, by an adapter if there is one."""
    return Record(
        made_by="distill" if adapter else "train",
        trained_beside=side.origin,
        adapter=adapter,
        texts=read,
        seen=seen,
        rate=section.phases[0].lr,
        steps=len(course.losses),
        loss=course.last_loss(),
        seconds=0.0,
    )


def seed_of(seed: object) -> int:
    """Return a seed. Raises: DataError: it is none, or that of trials of learning rates."""
    number = whole("seed", seed)
    if not 1 <= number <= MOST_SEED:
        raise DataError(f"seed: {number} cannot be that of a module (0 is that of trials); give 1 to {MOST_SEED}")
    return number


def module_section(side: Side, d_abi: int | None, taps: Sequence[Tap], steps: int | None) -> ModuleSection:
    """Return shape and training of a module of a side."""
    width, training = side.manifest.width, budgets_of(side.head_size).module
    most = width * len(taps)
    return ModuleSection(
        d_abi=min(most, max(LEAST_WIDTH, width // 4)) if d_abi is None else whole("d_abi", d_abi, 1),
        taps=list(taps),
        tap_norms=len(taps) > 1,
        training=training.model_copy(update={"phases": shortened(training.phases, steps)}),
    )


def portable_section(d_abi: int | None, steps: int | None, *heads: tuple[int, int]) -> PortableTraining:
    """Return shape and training of a portable module. Args: heads: of the models it is trained beside, `V, D`."""
    section = budgets_of(*heads).portable
    own = section.d_abi if d_abi is None else whole("d_abi", d_abi, 1)
    return section.model_copy(update={"phases": shortened(section.phases, steps), "d_abi": own})


def module_seconds(section: ModuleSection, side: Side) -> float:
    """Return what training a module beside a side should take."""
    steps = sum(phase.steps for phase in section.training.phases)
    return fit_seconds(steps, section.training.batch, side.head_size)


def portable_seconds(section: PortableTraining, side: Side, members: int = 1) -> float:
    """Return what training portable modules beside a side should take."""
    steps, positions = sum(phase.steps for phase in section.phases), section.batch + section.batch // GENERAL
    return fit_seconds(steps, positions, side.head_size, 1 + members)


def batch_of(section: PortableTraining, lesson: Lesson) -> int:
    """Return how many positions of domain text a step reads: fewer than asked where there is less text."""
    return min(section.batch, len(lesson.domain), GENERAL * len(lesson.general))


def shortened(phases: Sequence[Any], steps: int | None) -> list[Any]:
    """Return the phases of a training, the only one of them with other steps if they are given."""
    if steps is None:
        return list(phases)
    steps, [phase] = whole("steps", steps, 1), phases
    return [phase.model_copy(update={"steps": steps, "warmup": min(phase.warmup, steps // 10)})]


def best(
    section: ModuleSection,
    side: Side,
    data: FitData,
    held_out: FitData,
    rates: Sequence[float],
    seed: int,
    folder: Path,
) -> tuple[AbiModule, ModuleEntry, float]:
    """Return the module with the lowest cross-entropy on held-out data of those trained at some rates, and its rate.

    Raises: DataError: no rate is given, or none can be trained at: as the first of them says.
    """
    judged, told = held_out.at_most(JUDGED), DataError("train: no learning rate is given; give `rates` such as (1e-2,)")
    trained: list[tuple[float, tuple[AbiModule, ModuleEntry, float]]] = []
    for rate in reversed(rates):
        try:
            with part("modules", f"training a module at rate {rate:g}", module_seconds(section, side)):
                net, entry = native(section, data, "source", rate, seed, folder / repr(float(rate)))
        except DataError as error:  # its loss is not finite
            told = error
            continue
        trained.append((float(mean_objectives([net], judged, Objective("ce"))), (net, entry, rate)))
    if not trained:
        raise told
    return min(trained, key=lambda found: found[0])[1]


def entry_of(folder: Path, role: Role, seed: int) -> Path:
    """Return where it is kept what the training of a module left."""
    return folder / role / f"seed{seed}.entry.json"


def native(
    section: ModuleSection, data: FitData, role: Role, rate: float, seed: int, folder: Path
) -> tuple[AbiModule, ModuleEntry]:
    """Return a module trained by cross-entropy at a rate, frozen, and what its training left."""
    [phase] = section.training.phases
    batch = min(section.training.batch, len(data.states) * data.states.manifest.positions)
    changed = {"phases": [phase.model_copy(update={"lr": rate})], "batch": batch}
    training = section.training.model_copy(update=changed)
    spec = TrainModules(
        module=section.model_copy(update={"training": training}), role=role, seeds=[seed], text="texts", name="module"
    )
    place = folder / role
    entry = remembered(
        entry_of(folder, role, seed), ModuleEntry, lambda: trained_of_seed(spec, data, seed, place, place)
    )
    return read_module(place / entry.folder)[0].requires_grad_(False), entry


def trained_portables(
    side: Side,
    section: PortableTraining,
    domain: States,
    general: States,
    seed: int,
    controls: Sequence[str] = (),
) -> dict[str, tuple[PortableModule, Trained]]:
    """Return `transferred` and the controls trained with it: portable modules with their courses.

    Args: controls: `no-domain`, `bias`.
    """
    anchors = anchors_of(side.vocabulary, (domain, general), section.max_anchors)
    lesson = Lesson.of(section, side.head, domain, general, side.vocabulary, anchors)
    modules = portables(section, anchors, controls, seed)
    schedule = Schedule.given(section.phases, section.weight_decay)
    batch = batch_of(section, lesson)
    checkpoint = side.folder / f"{'-'.join(('portable', *controls, str(seed)))}.safetensors"
    with part("modules", f"training {', '.join(modules)}, seed {seed}", portable_seconds(section, side, len(modules))):
        trained = fit_portable(modules, lesson, schedule, batch=batch, seed=seed, checkpoint=checkpoint)
    return {name: (module, trained[name]) for name, module in modules.items()}
