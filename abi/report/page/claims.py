"""A section per claim: statement, what was published, what the record's files say, our figures with every control."""

from collections.abc import Mapping, Sequence

from abi.audit.record.data import MATCH, STATES, Item
from abi.judge.fits import Fit
from abi.judge.results import AnyResult, ClaimFacts, LadderResult, Published, PublishedFigure, Result, StudyResult
from abi.report.figures import dots, lines
from abi.report.page.blocks import Block, Bullets, Code, Fold, Para, Plots, Section
from abi.report.page.facts import Facts
from abi.report.page.overview import anchor
from abi.report.render import Cell, Table
from abi.report.verdicts import arms_table, tests_table
from abi.report.words import (
    checks_of,
    counts_words,
    deciding,
    fit_words,
    gain_words,
    grouped,
    in_words,
    met_words,
    regime_of,
    studies,
)

MOST = 6
"""Published figures in the open, where the original set no pass mark."""
KEY = (
    "Every arm on held-out domain text: small dots are seeds, the diamond is the mean, the line its interval. "
    "Orange-red: the claimed arm; grey: placebos; blue: positive control; ochre: smaller forms; "
    "green: what a user would do instead."
)


def sections(facts: Facts) -> Section:
    """Return the sections of all claims, every regime inside its claim's."""
    parts = [_claim(facts, head, others) for head, others in grouped(facts.results)]
    return Section("claims", "Claim by claim", parts)


def _claim(facts: Facts, head: AnyResult, others: Sequence[AnyResult]) -> Section:
    claim = head.claim
    blocks: list[Block] = [Para(claim.statement, "quote"), Para(_about(claim), "note"), *_verdict(facts, head)]
    blocks += [*_published(facts, head), *_own_files(facts, claim.record.claim), *_figures(head)]
    for other in others:
        sees = other.claim.sees
        told = [Para(f"The same statement where the target side sees {sees}.")] if sees else []
        inner = [*told, *_verdict(facts, other), *_figures(other), citation(facts, other)]
        blocks.append(Section(anchor(other), f"`{claim.id}`: regime {regime_of(other)}", inner))
    blocks.append(citation(facts, head))
    return Section(anchor(head), f"`{claim.id}`: {claim.title}", blocks)


def _about(claim: ClaimFacts) -> str:
    words = [f"Kind `{claim.kind}`"]
    words += [f"regime `{claim.regime}`"] if (claim.regime or claim.kind) != claim.kind else []
    if claim.source and claim.source != claim.target:
        words.append(f"from `{claim.source}` to `{claim.target or '-'}`")
    elif backbone := claim.source or claim.backbone:
        words.append(f"backbone `{backbone}`")
    words += [f"text `{claim.text}`"] if claim.text else []
    words += [f"the target side sees {claim.sees}"] if claim.sees else []
    words += [f"number {claim.record.number} of the record"] if claim.record.number else []
    return ", ".join(words) + "."


def _verdict(facts: Facts, result: AnyResult) -> list[Block]:
    note = " (a scale too small to mean anything)" if result.meaningless else ""
    strict = f"Judged with the wider intervals that several claims need: **{result.verdict_at_strict_level}**."
    head = f"Verdict: **{result.verdict}**{note}. {in_words(result, facts.spec.criteria)}"
    return [Para(head.strip()), Para(f"Reason as recorded: {result.reason}. {strict}", "note")]


# the record


def _published(facts: Facts, result: AnyResult) -> list[Block]:
    """Return what the original published: figures it set a pass mark for in the open, the others to be opened."""
    figures, claim = result.record, result.claim.record.claim
    if not figures:
        return [Para("Published: no figure of its own.", "note")]
    states = {item.id.removeprefix(f"{claim}."): item.state for item in facts.judgement.items if item.claim == claim}
    marked = {name: found for name, found in figures.items() if found.threshold is not None}
    main = marked or dict(list(figures.items())[:MOST])
    rest = {name: found for name, found in figures.items() if name not in main}
    blocks: list[Block] = [_figures_table(main, states, "What the original published")]
    return [*blocks, Fold(f"Its other {len(rest)} figures", [_figures_table(rest, states, "")])] if rest else blocks


def _figures_table(figures: Mapping[str, PublishedFigure], states: Mapping[str, str], caption: str) -> Table:
    rows: list[list[Cell]] = []
    for name, found in figures.items():
        mark = None if found.threshold is None else f"{found.comparator} {found.threshold}"
        state = states[name]
        rows.append([f"`{name}`", whole(found.value), mark, f"**{state}**" if state in STATES else state])
    return Table(["figure", "published", "its own pass mark", "document against its own file"], rows, caption)


def whole(value: Published) -> Cell:
    """Return a published value with every digit it has; lists in words."""
    if isinstance(value, list):
        return ", ".join(str(whole(item)) for item in value)
    return str(value) if isinstance(value, float) else value


def _own_files(facts: Facts, claim: str | None) -> list[Block]:
    """Return what the record's own files say of a claim of the record."""
    items = [item for item in facts.judgement.items if item.claim == claim and item.kind != "verifier"]
    if not items:
        return []
    counts = {state: sum(item.state == state for item in items) for state in STATES}
    found = ", ".join(f"**{state}** {n}" for state, n in counts.items() if n)
    told = f"The record's own files, judged without anything of ours ({len(items)} relations): {found}."
    main = [item for item in items if item.main]
    rest = [item for item in items if item.state != MATCH and not item.main]
    blocks: list[Block] = [Para(told), *([_items(main)] if main else [])]
    return [*blocks, *([Fold(f"The other findings that are no match ({len(rest)})", [_items(rest)])] if rest else [])]


def _items(items: Sequence[Item]) -> Bullets:
    return Bullets([f"**{item.state}** {item.reason}" for item in items])


# our figures


def _figures(result: AnyResult) -> list[Block]:
    """Return our figures of a result: rungs, checks, studies, and whatever else it brings along."""
    blocks: list[Block] = [*_rungs(result), *_checks(result)]
    if isinstance(result, LadderResult):
        return blocks
    own = deciding(result)
    for name, fit in studies(result).items():
        if own is None or fit is own:
            blocks += _study(result, name, fit)
        else:
            title = f"Fit `{name}` ({fit_words(result, name)}): **{fit.verdict}**"
            blocks.append(Fold(title, [Para(f"{fit.reason}."), *_tables(result, name, fit)]))
    drawings = [lines.curve(result.claim.id, entry) for entry in result.curves]
    if isinstance(result, StudyResult):
        for shown in result.tables:
            caption = ". ".join(part.rstrip(".") for part in (shown.title, shown.caption) if part)
            blocks.append(Table(shown.columns, shown.rows, caption))
        drawings += [lines.matrix(result.claim.id, entry) for entry in result.matrices]
    return [*blocks, *([Plots(drawings)] if drawings else [])]


def _rungs(result: AnyResult) -> list[Block]:
    if not isinstance(result, LadderResult):
        return []
    rows = [
        [f"[{r.id}](#claim-{r.id})", f"**{r.verdict}**", f"**{r.verdict_at_strict_level}**", r.reason]
        for r in result.rungs
    ]
    return [Table(["rung", "verdict", "at the strict level", "why"], rows, "The claims this one rests on")]


def _checks(result: AnyResult) -> list[Block]:
    rows = [
        [f"`{check.id}`", check.words, check.value, check.threshold, "passed" if check.passed else "failed"]
        for check in checks_of(result)
    ]
    caption = "The original's own pass rules, applied to what was measured here; they decide nothing"
    return [Table(["check", "rule", "measured here", "threshold", "outcome"], rows, caption)] if rows else []


def _study(result: Result | StudyResult, name: str, fit: Fit) -> list[Block]:
    """Return the figures and tables of a study that counts."""
    blocks: list[Block] = []
    if result.claim.fit is None:
        blocks.append(Para(f"Study `{name}`: **{fit.verdict}**. {fit.reason}."))
    drawings = dots.drawings(result.claim.id, name, fit)
    if drawings:
        blocks += [Para(f"{KEY} {counts_words(fit)}.", "note"), Plots(drawings)]
    return [*blocks, *_tables(result, name, fit)]


def _tables(result: Result | StudyResult, name: str, fit: Fit) -> list[Block]:
    """Return the table of arms in the open and that of tests to be opened."""
    blocks: list[Block] = []
    words = [f"Published criteria met by: {met_words(fit)}"] if fit.published_criteria else []
    words += [gain_words(fit)] if gain_words(fit) else []
    blocks += [Para(". ".join(words) + ".")] if words else []
    arms = arms_table(result, name, fit).filled()
    if len(arms.heads) > 1:
        caption = f"Every arm, mean [interval], {counts_words(fit)}"
        blocks.append(Table(arms.heads, arms.coded().rows, caption))
    if fit.tests:
        failing = [f"`{test.id}`" for test in fit.tests if test.required and not test.passed]
        title = f"The {len(fit.tests)} tests; required and not shown: {', '.join(failing) or 'none'}"
        blocks.append(Fold(title, [tests_table(fit).coded()]))
    return blocks


def citation(facts: Facts, result: AnyResult) -> Fold:
    """Return how to cite a result."""
    cited, claim = facts.citation, result.claim
    note = [
        f"version {cited.version}",
        f"claim {claim.id}" + (f" ({claim.record.number} of the record)" if claim.record.number else ""),
        f"scale {result.scale}",
        f"protocol {result.protocol}",
        f"code {result.provenance.code}",
        f"verdict {result.verdict}",
    ]
    entry = [
        f"@misc{{abi_{result.scale}_{claim.id},",
        f"  author = {{{{{' and '.join(cited.authors)}}}}},",
        f"  title = {{{cited.title}}},",
        f"  note = {{{'; '.join(note)}}},",
        "}",
    ]
    return Fold(f"Cite `{claim.id}`", [Code("\n".join(entry))])
