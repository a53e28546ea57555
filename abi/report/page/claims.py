"""A section per claim: statement, what was published, what the record's own files say, our figures with every control."""

from collections.abc import Mapping
from typing import Any

from abi.audit.record.data import MATCH, STATES, Item
from abi.report.figures import curves, dots
from abi.report.page.blocks import Block, Bullets, Code, Fold, Para, Plots, Section, Table
from abi.report.page.facts import Facts
from abi.report.page.overview import anchor
from abi.report.tables import (
    arm_cells,
    counts_words,
    figure,
    fit_words,
    gain_words,
    grouped,
    primary_fit,
    regime_of,
    studies,
    test_cells,
)
from abi.report.words import in_words

Record = Mapping[str, Any]
MOST = 6


def sections(facts: Facts) -> Section:
    """Return the sections of all claims, every regime inside its claim's."""
    parts = [_claim(facts, head, others) for head, others in grouped(facts.results)]
    return Section("claims", "Claim by claim", parts)


def _claim(facts: Facts, head: Record, others: list[Record]) -> Section:
    claim = head["claim"]
    blocks: list[Block] = [Para(claim["statement"], "quote"), Para(_about(claim), "note"), *_verdict(facts, head)]
    blocks += [*_published(facts, head), *_own_files(facts, claim.get("record", {}).get("claim"))]
    blocks += _figures(head)
    for other in others:
        sees = other["claim"].get("sees")
        told: list[Block] = [Para(f"The same statement where the target side sees {sees}.")] if sees else []
        title = f"`{claim['id']}`: regime {regime_of(other)}"
        blocks.append(
            Section(anchor(other), title, [*told, *_verdict(facts, other), *_figures(other), citation(facts, other)])
        )
    blocks.append(citation(facts, head))
    return Section(anchor(head), f"`{claim['id']}`: {claim['title']}", blocks)


def _about(claim: Record) -> str:
    words = [f"Kind `{claim['kind']}`"]
    words += [f"regime `{claim['regime']}`"] if claim.get("regime", claim["kind"]) != claim["kind"] else []
    if claim.get("source") and claim["source"] != claim.get("target"):
        words.append(f"from `{claim['source']}` to `{claim.get('target', '-')}`")
    elif backbone := claim.get("source") or claim.get("backbone"):
        words.append(f"backbone `{backbone}`")
    words += [f"text `{claim['text']}`"] if "text" in claim else []
    words += [f"the target side sees {claim['sees']}"] if "sees" in claim else []
    number = claim.get("record", {}).get("number")
    return ", ".join([*words, *([f"number {number} of the record"] if number else [])]) + "."


def _verdict(facts: Facts, result: Record) -> list[Block]:
    note = " (a scale too small to mean anything)" if result["meaningless"] else ""
    strict = f" Judged with the wider intervals that several claims need: **{result['verdict_at_strict_level']}**."
    plain = in_words(result, facts.criteria)
    head = f"Verdict: **{result['verdict']}**{note}. {plain}"
    return [Para(head.strip()), Para(f"Reason as recorded: {result['reason']}.{strict}", "note")]


def _published(facts: Facts, result: Record) -> list[Block]:
    """Return what the original published: figures it set a pass mark for in the open, the others to be opened."""
    figures = result["record"]
    if not figures:
        return [Para("Published: no figure of its own.", "note")]
    claim = result["claim"]["record"]["claim"]
    states = {item.id.removeprefix(f"{claim}."): item.state for item in facts.judgement.items if item.claim == claim}
    main = {name: f for name, f in figures.items() if f.get("threshold") is not None} or dict(
        list(figures.items())[:MOST]
    )
    rest = {name: f for name, f in figures.items() if name not in main}
    blocks: list[Block] = [_figures_table(main, states, "What the original published")]
    return [*blocks, Fold(f"Its other {len(rest)} figures", [_figures_table(rest, states, "")])] if rest else blocks


def _figures_table(figures: Record, states: Mapping[str, str], caption: str) -> Table:
    rows = [
        [
            f"`{name}`",
            shown(f["value"], whole=True),
            _mark(f),
            _state(states[name]),
        ]
        for name, f in figures.items()
    ]
    return Table(["figure", "published", "its own pass mark", "document against its own file"], rows, caption)


def _state(state: str) -> str:
    return f"**{state}**" if state in STATES else state


def _mark(figures: Record) -> str:
    if figures.get("threshold") is None:
        return "-"
    return f"{figures['comparator']} {figures['threshold']}"


def _own_files(facts: Facts, claim: str | None) -> list[Block]:
    """Return what the record's own files say of a claim of the record."""
    items = [item for item in facts.judgement.items if item.claim == claim and item.kind != "verifier"]
    if not items:
        return []
    counts = {state: sum(item.state == state for item in items) for state in STATES}
    found = ", ".join(f"**{state}** {n}" for state, n in counts.items() if n)
    main = [item for item in items if item.main]
    rest = [item for item in items if item.state != MATCH and not item.main]
    blocks: list[Block] = [
        Para(f"The record's own files, judged without anything of ours ({len(items)} relations): {found}.")
    ]
    blocks += [Bullets([_item(item) for item in main])] if main else []
    blocks += (
        [Fold(f"The other findings that are no match ({len(rest)})", [Bullets([_item(i) for i in rest])])]
        if rest
        else []
    )
    return blocks


def _item(item: Item) -> str:
    return f"**{item.state}** {item.reason}"


def _figures(result: Record) -> list[Block]:
    """Return our figures of a result: rungs, checks, studies, and whatever else it brings along."""
    name, own = result["claim"]["id"], primary_fit(result)
    blocks: list[Block] = [*_rungs(result), *_checks(result)]
    for fit, judged in studies(result).items():
        if own is None or judged is own:
            blocks += _study(result, fit, judged)
        else:
            title = f"Fit `{fit}` ({fit_words(result, fit)}): **{judged['verdict']}**"
            blocks.append(Fold(title, [Para(f"{judged['reason']}."), *_tables(result, fit, judged)]))
    blocks += [
        Table(t["columns"], [[shown(cell) for cell in row] for row in t["rows"]], _caption(t))
        for t in result.get("tables", ())
    ]
    drawings = [curves.curve(name, entry) for entry in result.get("curves", ())]
    drawings += [curves.matrix(name, entry) for entry in result.get("matrices", ())]
    return [*blocks, *([Plots(drawings)] if drawings else [])]


def _rungs(result: Record) -> list[Block]:
    rows = [
        [
            f"[{rung['id']}](#claim-{rung['id']})",
            f"**{rung['verdict']}**",
            f"**{rung['verdict_at_strict_level']}**" if "verdict_at_strict_level" in rung else "-",
            rung.get("reason", "-"),
        ]
        for rung in result.get("rungs", ())
    ]
    return (
        [Table(["rung", "verdict", "at the strict level", "why"], rows, "The claims this one rests on")] if rows else []
    )


def _checks(result: Record) -> list[Block]:
    rows = [
        [f"`{c['id']}`", c["words"], figure(c["value"]), figure(c["threshold"]), "passed" if c["passed"] else "failed"]
        for c in result.get("checks", ())
    ]
    caption = "The original's own pass rules, applied to what was measured here; they decide nothing"
    return [Table(["check", "rule", "measured here", "threshold", "outcome"], rows, caption)] if rows else []


def _study(result: Record, fit: str, judged: Record) -> list[Block]:
    """Return the figures and tables of a study that counts."""
    blocks: list[Block] = []
    if "fit" not in result["claim"]:
        blocks.append(Para(f"Study `{fit}`: **{judged['verdict']}**. {judged['reason']}."))
    drawings = dots.drawings(result["claim"]["id"], fit, judged)
    if drawings:
        blocks += [Para(_key(judged), "note"), Plots(drawings)]
    return [*blocks, *_tables(result, fit, judged)]


def _key(judged: Record) -> str:
    return (
        "Every arm on held-out domain text: small dots are seeds, the diamond is the mean, the line its interval. Orange-red: the claimed arm; grey: placebos; "
        f"blue: positive control; ochre: smaller forms; green: what a user would do instead. {counts_words(judged)}."
    )


def _tables(result: Record, fit: str, judged: Record) -> list[Block]:
    """Return the table of arms in the open and that of tests to be opened."""
    blocks: list[Block] = []
    met = judged.get("published_criteria")
    words = [f"Published criteria met by: {met['sentence'].removeprefix('published criteria met by: ')}"] if met else []
    words += [gain_words(judged)] if judged.get("share") or judged.get("gap_closure") else []
    blocks += [Para(". ".join(words) + ".")] if words else []
    heads, rows = _filled(*arm_cells(result, fit, judged))
    if len(heads) > 1:
        rows = [[f"`{arm}`", *cells] for arm, *cells in rows]
        blocks.append(Table(heads, rows, f"Every arm, mean [interval], {counts_words(judged)}"))
    heads, tests = test_cells(judged)
    if tests:
        failing = [f"`{t['id']}`" for t in judged["tests"] if t.get("required", True) and not t.get("passed")]
        title = f"The {len(tests)} tests; required and not shown: {', '.join(failing) or 'none'}"
        blocks.append(
            Fold(
                title,
                [
                    Table(
                        heads,
                        [[f"`{name}`", *cells] for name, *cells in tests],
                        "More is better; a test holds if its interval lies above its limit",
                    )
                ],
            )
        )
    return blocks


def _filled(heads: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Return a table without the columns that say nothing."""
    kept = [i for i in range(len(heads)) if any(row[i] != "-" for row in rows)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _caption(entry: Record) -> str:
    return ". ".join(part.rstrip(".") for part in (entry.get("title"), entry.get("caption")) if part)


def shown(value: Any, *, whole: bool = False) -> str:
    """Return a cell: numbers with three significant digits, or every digit if `whole`; lists and truth values in words."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(shown(item, whole=whole) for item in value)
    return figure(value) if isinstance(value, float) and not whole else str(value)


def citation(facts: Facts, result: Record) -> Fold:
    """Return how to cite a result."""
    cited, claim = facts.citation, result["claim"]
    authors = " and ".join(
        author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in cited["authors"]
    )
    number = claim.get("record", {}).get("number")
    note = [
        f"version {cited['version']}", f"claim {claim['id']}" + (f" ({number} of the record)" if number else ""), f"scale {result['scale']}",
        f"protocol {result['protocol']}", f"code {result['provenance']['code']}", f"verdict {result['verdict']}",
    ]  # fmt: skip
    entry = f"@misc{{abi_{result['scale']}_{claim['id']},\n  author = {{{{{authors}}}}},\n  title = {{{cited['title']}}},\n  note = {{{'; '.join(note)}}},\n}}"
    return Fold(f"Cite `{claim['id']}`", [Code(entry)])
