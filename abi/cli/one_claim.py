"""What `abi show` says of a result: verdict, statements, tests, every arm as a small plot, what made it (ASCII)."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence

from abi.base.errors import DataError
from abi.base.names import CANDIDATE
from abi.base.wording import number
from abi.judge.fits import ArmFigures, Figure, Fit, TableShown
from abi.judge.results import STATEMENTS, AnyResult, LadderResult, Result, StudyResult
from abi.report.render import Table, bounds, figure, listed, terminal
from abi.report.statements import Stated, decided_by, told
from abi.report.study_words import (
    check_words,
    counts_words,
    held,
    interval_words,
    rates_words,
    robustness_of,
    robustness_words,
    share_words,
)
from abi.report.words import MEANINGLESS, checks_of, deciding, fit_words, in_order, plain_words, studies

WIDTH = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
"""Columns of the terminal, within what can be read."""
PLOT = 48
METRICS = (
    ("js_nats", "JS to the reference, nats (less is better)"),
    ("bits_per_byte", "bits per byte (less is better)"),
)
OWN_LINES = {STATEMENTS, "passes"}
"""Tables of which every row is said in words, or repeats the rules of the original."""


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """Return the lines of a text, at most `WIDTH` wide."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def found(result: AnyResult, path: str) -> list[str]:
    """Return verdict and reason, then the rungs of a ladder, or share, tests, arms and training of studies."""
    stated = {one.study: one for one in told(result)} if isinstance(result, StudyResult) else {}
    strict = result.verdict_at_strict_level
    lines = [
        result.verdict
        + (f" (at the strict level {strict})" if strict not in (None, result.verdict) else "")
        + (f"  ({MEANINGLESS})" if result.meaningless else "")
    ]
    lines += [*wrapped(plain_words(result)), *wrapped(f"by the protocol: {_reason(result, stated)}")]
    checks = [line for check in checks_of(result) for line in wrapped(check_words(check))]
    if isinstance(result, LadderResult):
        lines += [*checks, "", "Rungs"]
        for rung in result.rungs:
            lines += wrapped(f"{rung.id}: {rung.verdict} (at the strict level {rung.verdict_at_strict_level})")
            lines += wrapped(rung.reason, "      ")
        return [*lines, *_tables(result.tables)]
    own = deciding(result)
    if isinstance(result, Result) and own is None:
        raise DataError(f"{path}: holds no fit {result.claim.fit!r}, which decides; delete it and rebuild it")
    if own is not None:
        lines += wrapped(own.published_criteria.sentence) if own.published_criteria else []
        lines += [f"  share of the gain that is the net's own: {share_words(own)}"]
    for name, fit in studies(result).items():
        if name in stated:
            lines += wrapped(f"{name}: {fit.verdict}: {stated[name].statement}")
            lines += wrapped(decided_by(stated[name]), "      ")
        elif fit is not own:
            lines += [f"  fit {name} ({fit_words(result, name)}): {fit.verdict}"]
            lines += wrapped(fit.reason, "      ") if own is None and fit.verdict != "SUPPORTED" else []
    shown = {"": own} if own is not None else studies(result)
    tests = [line for name, fit in shown.items() for line in _tests(name, fit)]
    tests += [line for fit in shown.values() for line in _shared(result, fit)]
    tables = [] if isinstance(result, Result) else _tables(result.tables)
    return [*lines, *checks, *tables, *tests, *_arms(_arms_of(shown, stated)), *_training(result)]


def _reason(result: AnyResult, stated: Mapping[str, Stated]) -> str:
    """Return the reason of a result, in which the arm that a statement is about bears its own name."""
    about = next((one for name, one in stated.items() if f"{name}: " in result.reason), None)
    return result.reason if about is None else result.reason.replace(f"{CANDIDATE} ", f"{about.candidate} ")


def _tables(tables: Sequence[TableShown]) -> list[str]:
    """Return the tables that a result brings along, each with as many columns as a terminal holds."""
    lines: list[str] = []
    for one in (table for table in tables if table.id not in OWN_LINES and table.rows):
        texts = Table(one.columns, one.rows).texts
        widths = [max(map(len, column)) for column in zip(one.columns, *texts, strict=True)]
        n = max((i for i in range(1, len(widths) + 1) if 2 + sum(widths[:i]) + 2 * (i - 1) <= WIDTH), default=1)
        rest = f"; in the JSON file, too: {listed(one.columns[n:])}" if n < len(widths) else ""
        table = Table(one.columns[:n], [row[:n] for row in one.rows])
        lines += ["", *textwrap.wrap(f"{one.title}{rest}", WIDTH), *terminal(table)]
    return lines


def _tests(name: str, fit: Fit) -> list[str]:
    heads = ["test", "mean", f"{100 * fit.level:g} % interval", "limit", "holds"]
    holds = [held(test) + ("" if test.required else " *") for test in fit.tests]
    figures = [[test.id, test.mean, interval_words(test.interval), test.limit] for test in fit.tests]
    rows = [[*cells, held] for cells, held in zip(figures, holds, strict=True)]
    scopes = {test.scope for test in fit.tests} & set(fit.counts.groups) - {"domain"}
    beside = "".join(f", {fit.counts.groups[scope]} groups of {scope} text" for scope in sorted(scopes))
    words = f"Tests on {counts_words(fit)}{beside}{_label(name)}; more is better, * is reported only"
    return ["", *textwrap.wrap(words, WIDTH), *terminal(Table(heads, rows))]


def _shared(result: Result | StudyResult, fit: Fit) -> list[str]:
    """Return what the test text of a fit shares with train, and the verdict without some of that text."""
    told = robustness_of(result, fit.fit)
    sentences = [] if told is None else robustness_words(told, fit)
    heads = [f"Text shared with train ({fit.fit}); reported, it decides nothing"] if sentences else []
    return ["", *heads, *(line for sentence in sentences for line in wrapped(sentence))] if heads else []


def _label(name: str) -> str:
    return f" ({name})" if name else ""


def _arms_of(shown: Mapping[str, Fit], stated: Mapping[str, Stated]) -> dict[str, dict[str, ArmFigures]]:
    """Return the arms of studies; those of an experiment by their own names, once per text, which statements share."""
    if not stated:
        return {name: fit.arms for name, fit in shown.items()}
    of_texts: dict[str, dict[str, ArmFigures]] = {}
    for name, fit in shown.items():
        own, arms = stated[name].candidate, of_texts.setdefault(name.rpartition("-")[2], {})
        arms |= {own if arm == CANDIDATE else arm: figures for arm, figures in fit.arms.items()}
    if len(of_texts) > 1:
        return of_texts
    [alone] = of_texts.values()
    return {"": alone}


def _arms(shown: Mapping[str, Mapping[str, ArmFigures]]) -> list[str]:
    """Return a plot per metric on domain text, and on general text where an arm has figures on that alone."""
    lines: list[str] = []
    for name, arms in shown.items():
        alone = any(not figures.of("domain") for figures in arms.values())
        for scope in ("domain", "general") if alone else ("domain",):
            for metric, words in METRICS:
                known = {arm: arms[arm].of(scope)[metric] for arm in in_order(arms) if metric in arms[arm].of(scope)}
                lines += ["", f"Arms on held-out {scope} text{_label(name)}: {words}", *plot(known)] if known else []
    return [*lines, "  o mean, . one seed, ( ) interval of the mean"] if lines else []


def plot(arms: Mapping[str, Figure]) -> list[str]:
    """Return one line per arm: its seeds as dots, its mean, its interval, on one axis; nothing for no arms."""
    if not arms:
        return []
    values = [(found.mean, found.lower, found.upper, *found.per_seed.values()) for found in arms.values()]
    known = [value for of_arm in values for value in of_arm if value is not None]
    low, high, width, lines = min(known), max(known), max(len(arm) for arm in arms), []
    for arm, found in arms.items():
        marks = [(seed, ".") for seed in found.per_seed.values()]
        marks += [(end, mark) for end, mark in ((found.lower, "("), (found.upper, ")")) if end is not None]
        cells = [" "] * PLOT
        for value, mark in [*marks, (found.mean, "o")]:
            cells[place(value, low, high)] = mark
        lines.append(f"  {arm:<{width}} |{''.join(cells)}| {figure(found.mean)}{bounds(found.lower, found.upper)}")
    left, right = figure(low), figure(high)
    return [*lines, f"  {'':<{width}}  {left}{right:>{PLOT - len(left)}}"]


def place(value: float, low: float, high: float) -> int:
    """Return the column of a value on an axis of `PLOT` columns."""
    return round((value - low) / (high - low) * (PLOT - 1)) if high > low else 0


def _training(result: Result | StudyResult) -> list[str]:
    """Return what the fitted arms were trained with, and the backbones they were trained on."""
    if isinstance(result, StudyResult):
        return []
    own, lines = [entry for entry in result.training if entry.fit == result.claim.fit], []
    if own:
        heads = ["arm", "rate", "steps", "trainable", "last loss", "seconds"]
        rows = [[e.arm, e.lr, e.steps, e.n_trainable, e.final_loss, e.elapsed_s] for e in own]
        lines = ["", f"Training of the arms ({result.claim.fit}; means over seeds)", *terminal(Table(heads, rows))]
        lines += wrapped(rates_words(result.rates)) if result.rates else []
    for name, its in result.backbones.items():
        sizes = f"{its.n_parameters} parameters, depth {its.depth}, width {its.width}"
        lines += wrapped(f"{name}: {its.model_class}, {sizes}, revision {its.revision}")
    return lines


def provenance(result: AnyResult, path: str) -> list[str]:
    """Return what made the result file."""
    made = result.provenance
    packages = [f"{name} {made.versions[name]}" for name in ("python", "torch", "numpy") if name in made.versions]
    cost = f"{made.elapsed_s:.1f} s, {made.peak_memory_mb:.0f} MB"
    lines = ["", "Made by", f"  {path}"]
    lines += [f"  rule {made.rule}, code {made.code}, protocol {result.protocol}, {number(made.threads, 'thread')}"]
    lines += wrapped(f"{', '.join(packages)}; {made.hardware.cpu or 'unknown processor'}; {cost}")
    return [*lines, *(f"  {digest[:12]}  {name}" for name, digest in made.inputs.items())]
