"""`compare`: is moving better than retraining, here? Judged by the protocol, on the user's own models and texts."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from abi.api.comparison import Comparison, answered, chosen, options_of
from abi.api.defaults import CRITERIA, require_counts, whole
from abi.api.evidence import ZERO_TEXT, Evidence, Study, costs_of
from abi.api.kept import Keep
from abi.api.modules import Module
from abi.api.moving import FIT_OF, Move, shape_of
from abi.api.progress import warn
from abi.api.sides import LEAST_WINDOW, Pair, Side, sides
from abi.api.texts import Documents, TextSource, documents_of, key_of, of_split, require_general, seen_here
from abi.api.training import LEAST_WIDTH, Kind, portable_section, shortened
from abi.base.errors import DataError
from abi.base.typed import Regime
from abi.base.wording import number
from abi.judge.evidence_files import COLUMNS
from abi.judge.fits import Fit
from abi.judge.kinds.transfer import judge_transfer
from abi.judge.rows import validate
from abi.judge.tables import fit_tables
from abi.models.module import AbiModule, ModuleConfig
from abi.models.portable import PortableModule
from abi.plan.specs.arms import FitSection
from abi.plan.specs.models import ModuleSection, PortableTraining
from abi.text.documents import Document

ENOUGH = 200
"""Documents of a text of which as many as a verdict needs are held out: of 150 they are fewer in one case of 13."""


def compare(
    module: Module | Kind,
    source: Pair,
    target: Pair,
    texts: TextSource,
    general_texts: TextSource,
    *,
    regime: Regime | None = None,
    other_texts: TextSource | None = None,
    seeds: int = 3,
    lora: bool = True,
    steps: int | None = None,
    train_steps: int | None = None,
    window: int = 128,
    keep: str | Path | None = None,
) -> Comparison:
    """Return the answer to *is moving better than retraining, here?*, with everything that it rests on.

    For several seeds it trains modules on source and target, moves the source's, and fits beside it, with the same
    budget, placebos (a random net, the moved net permuted), smaller forms, a fresh module (`direct`) and LoRA adapters
    of equal size. In `zero-text`, where nothing is calibrated, the last two read a few windows of the domain instead.
    All are scored on documents that nothing was fitted on. The verdict is the protocol's: 30 such documents and 3 seeds
    are the fewest for one, so that some 200 documents of each text are needed; fewer give INCONCLUSIVE.

    >>> found = abi.compare("module", (model, tokenizer), (other, other_tokenizer), texts, general_texts,
    ...                     seeds=2, steps=5, train_steps=10, lora=False)
    >>> found.verdict, found.choice in ("transferred", "direct", "raw")
    ('INCONCLUSIVE', True)

    Args:
        module: a `Module` of the source, which is one of the seeds; or its kind: then all are trained here.
        source, target: (model, tokenizer) of transformers each; both stay as they are.
        texts, general_texts: of the domain, and of anything else, as in `train`.
        regime: what the target side sees: `few-shot` (if not given), `general-only`, `oracle-kd`; a portable module is
            always `zero-text`.
        other_texts: of another domain, for the control of `zero-text`; if not given the general ones.
        seeds: how many; a verdict needs 3.
        lora: whether adapters are trained; they take longest. `general-only` has none.
        steps: of calibration; train_steps: of modules; if not given those of `transfer` and `train`.
        window: tokens per window.
        keep: a folder for finished parts, from which the same call goes on if it was killed; deleted at the end.
    Raises: DataError, AlignmentError: as `train` and `transfer`; TamperError: something frozen changed.
    """
    began = time.perf_counter()
    given = module if isinstance(module, Module) else None
    regime = require_comparing(module, regime, seeds=seeds, steps=steps, train_steps=train_steps, window=window)
    seeds = whole("compare: seeds", seeds, 1)
    domain = documents_of(texts)
    general = require_general("compare", documents_of(general_texts, "general_texts"), map(key_of, domain))
    other = general
    if other_texts is not None:
        other = require_general("compare", documents_of(other_texts, "other_texts"), map(key_of, domain), "other_texts")
    read = {"domain_texts": _held_out(domain, given), "general_texts": general, "other_texts": other}
    _warn_of_no_verdict(read, seeds)
    # Not how many seeds: more of them go on from fewer.
    asked = {"regime": regime, "lora": lora, "steps": steps, "train_steps": train_steps, **_moving(module)}
    with sides(window, Keep(keep, "compare", [*read.values()], asked), source=source, target=target) as both:
        study = _study(both, read, given, regime, lora=lora, steps=steps, train_steps=train_steps)
        return _judged(study, study.evidence(_seeds(given, seeds)), began)


def _moving(module: Module | Kind) -> dict[str, str]:
    """Return what is moved, as the name of the parts that are kept has it."""
    return {"module": module.sha256} if isinstance(module, Module) else {"kind": module}


def require_comparing(
    module: Module | Kind,
    regime: Regime | None,
    *,
    seeds: int,
    steps: int | None,
    train_steps: int | None,
    window: int,
) -> Regime:
    """Return the regime of a comparison. Args: as of `compare`.

    Raises: DataError: what no modules can be compared by, before a model or a text is read.
    """
    require_counts("compare", seeds=seeds, steps=steps, train_steps=train_steps)
    whole("window", window, LEAST_WINDOW)
    return _regime(module, regime)


def _warn_of_no_verdict(read: Mapping[str, Sequence[Document]], seeds: int) -> None:
    """Warn, before anything is computed, where there can be no verdict: of too few seeds or held-out documents."""
    needed = CRITERIA.min_groups
    for what, given in (("domain_texts", "texts"), ("general_texts", "general_texts")):
        n = len(of_split(read[what], "test"))
        if n < needed:
            held = number(n, "held-out document")
            warn(
                f"compare: {given} gives {held} and a verdict needs {needed}, so it will be INCONCLUSIVE; "
                f"give {ENOUGH} documents or more"
            )
    if seeds < CRITERIA.min_seeds:
        warn(f"compare: a verdict needs {CRITERIA.min_seeds} seeds, so with {seeds} it will be INCONCLUSIVE")


def _reason(fit: Fit) -> str:
    """Return why the verdict is what it is; where there are too few documents, of which text."""
    named = {"domain": "texts", "general": "general_texts"}
    few = [f"{n} of {named[s]}" for s, n in fit.counts.groups.items() if s in named and n < CRITERIA.min_groups]
    return f"{fit.reason} (held-out documents with enough text: {', '.join(few)})" if few else fit.reason


def _seeds(given: Module | None, n: int) -> list[int]:
    """Return n seeds, the given module's first."""
    first = given.about.seed if given else 1
    return [first, *[seed for seed in range(1, n + 1) if seed != first][: n - 1]]


def _study(
    both: Sequence[Side],
    read: Mapping[str, Sequence[Document]],
    given: Module | None,
    regime: Regime,
    *,
    lora: bool,
    steps: int | None,
    train_steps: int | None,
) -> Study:
    """Return the fits that a comparison needs, with their budgets. Raises: DataError: a module of another source."""
    source, target = both
    if given is not None:
        try:
            given.check(source.backbone)
        except DataError as error:
            raise DataError(f"compare: the module must be one of the source, before it is moved; {error}") from None
    move = Move(source, target, _config(source, target, given), read)
    return Study(
        move,
        regime,
        given,
        _budget(regime, move, steps),
        _native(move, given, train_steps),
        _portable(move, given, train_steps),
        adapts=lora and regime != "general-only",
        least=CRITERIA.min_positions,
    )


def _judged(study: Study, evidence: Sequence[Evidence], began: float) -> Comparison:
    """Return what the protocol and the leads say of the evidence of some seeds."""
    rows, unmoved = [row for one in evidence for row in one.rows], all(one.unmoved for one in evidence)
    frame = validate(pd.DataFrame(rows, columns=list(COLUMNS)))
    name = study.fit_name
    fit = judge_transfer(frame, regime=study.regime, frozen=unmoved, fit=name, criteria=CRITERIA)
    options = options_of(fit, fit_tables(frame, fit=name, criteria=CRITERIA), CRITERIA, costs_of(evidence))
    answer = answered(options)
    choice, why = chosen(fit.verdict, answer, options)
    return Comparison(
        regime=study.regime,
        source=study.move.source.origin.model,
        target=study.move.target.origin.model,
        verdict=fit.verdict,
        reason=_reason(fit),
        answer=answer,
        choice=choice,
        why=why,
        options=options,
        fit=fit,
        seconds=round(time.perf_counter() - began + study.kept_seconds, 1),
    )


def _regime(module: Module | Kind, given: Regime | None) -> Regime:
    """Return the regime of a comparison.

    Raises: DataError: no kind of module, a module that was distilled, or a regime that it does not have.
    """
    kind = module.kind if isinstance(module, Module) else module
    if kind == "ngram":
        raise DataError(
            "compare: an n-gram model stands beside every module that is compared; give 'module' or 'portable'"
        )
    if kind not in ("module", "portable"):
        named = repr(module) if isinstance(module, str) else f"a {type(module).__name__}"
        raise DataError(f"compare: {named} is neither a Module nor one of its kinds, 'module' and 'portable'")
    if isinstance(module, Module) and module.record and module.record.adapter:
        raise DataError(
            "compare: the module was distilled from an adapter, and those of other seeds would learn from the text "
            "itself; give one of `train`, or ask `evaluate` with the adapter"
        )
    if kind == "portable":
        if given not in (None, ZERO_TEXT):
            raise DataError(f"compare: a portable module moves as it is, so its regime is {ZERO_TEXT}, not {given}")
        return ZERO_TEXT
    if given == ZERO_TEXT:
        raise DataError(f"compare: {ZERO_TEXT} moves a portable module; give 'portable' (`--kind portable`), or one")
    if given is not None and given not in FIT_OF:
        raise DataError(f"compare: regime {given!r} is none of {', '.join(FIT_OF)}")
    return given or "few-shot"


def _held_out(documents: Documents, given: Module | None) -> list[Document]:
    """Return documents without the test ones that a given module has seen, or a copy of them."""
    seen = seen_here(documents, given.seen if given is not None else ())
    return [document for document in documents if document.split != "test" or key_of(document) not in seen]


def _config(source: Side, target: Side, given: Module | None) -> ModuleConfig:
    """Return the shape of the source's modules: the given one's, or one that reads the final state."""
    if given is not None and isinstance(given.net, AbiModule):
        return given.net.config
    widths = [side.manifest.width for side in (source, target)]
    return ModuleConfig(widths[0], (source.manifest.depth,), min(*widths, max(LEAST_WIDTH, widths[1] // 4)))


def _budget(regime: Regime, move: Move, steps: int | None) -> FitSection:
    """Return the budget of the fits on the target; a ladder of windows has the rungs that the text can fill."""
    section = move.budgets.fits[FIT_OF["few-shot" if regime == ZERO_TEXT else regime]]
    windows = section.windows
    if windows is not None:
        there = len(move.states(move.target, "domain_texts", "train"))
        windows = [n for n in windows if n <= there] or None  # too few for a ladder: all of them, once
    return section.model_copy(update={"phases": shortened(section.phases, steps), "windows": windows})


def _trained_for(given: Module | None, steps: int | None) -> int | None:
    """Return the steps of modules: as many as asked, or those of a given one where it tells them."""
    record = given.record if given else None
    if steps is not None or record is None or record.adapter is not None:
        return steps
    as_trained = record.made_by == "train" or record.regime == "zero-text"  # which moves a module as it is
    return record.steps or None if as_trained else None


def _native(move: Move, given: Module | None, steps: int | None) -> ModuleSection:
    """Return sizes and training of modules, those of the given one."""
    training, trained = move.budgets.module, _trained_for(given, steps)
    training = training.model_copy(update={"phases": shortened(training.phases, trained)})
    return ModuleSection(**dict(shape_of(move.config)), training=training)


def _portable(move: Move, given: Module | None, steps: int | None) -> PortableTraining:
    """Return sizes and training of portable modules, those of the given one."""
    own = portable_section(None, _trained_for(given, steps), move.source.head_size, move.target.head_size)
    if given is None or not isinstance(given.net, PortableModule):
        return own
    config = given.net.config
    sizes = {key: getattr(config, key) for key in ("d_abi", "expansion", "context", "byte_width")}
    return own.model_copy(update=sizes)
