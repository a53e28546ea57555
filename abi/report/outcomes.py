"""What came out of the committed reference run, as parts of documents: verdicts, transfers, claims made of several studies."""

from collections.abc import Mapping, Sequence
from typing import Any

from abi.report import transfers
from abi.report.tables import figure, readme_table, table
from abi.report.words import in_words

Record = Mapping[str, Any]
NOTHING = ["No reference run of these claims is committed yet."]
SHOWN = ("efficacies", "locality", "points", "generation")
"""Tables of results that documents show; the others stand in the report."""


def verdicts(results: Sequence[Record]) -> str:
    """Return the README's table of verdicts, each with its reason in plain words where there are any."""
    return readme_table(results, {result["claim"]["id"]: why(result) for result in results})


def why(result: Record) -> str:
    """Return why a verdict is what it is in plain words, or the reason as the result states it."""
    spec = result["provenance"]["spec"]
    criteria = spec["protocol"]["criteria"] if isinstance(spec.get("protocol"), Mapping) else {}
    return in_words(result, criteria) or f"{result['reason']}."


def transfer_tables(results: Sequence[Record]) -> list[str]:
    """Return the table of transfers, the advice per pair and the ladders of steps, a heading level lower."""
    found = [result for result in results if result["claim"]["kind"] == "transfer"]
    if not found:
        return NOTHING
    lines = transfers.markdown(found).splitlines()[2:]
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def study_tables(results: Sequence[Record]) -> list[str]:
    """Return verdict, reason, the original's pass rules and the tables of claims made of several studies."""
    lines: list[str] = []
    for result in results:
        if "tables" not in result:
            continue
        claim = result["claim"]
        lines += [f"**`{claim['id']}`**: {result['verdict']}. {why(result)}", ""]
        for study, judged in result["fits"].items():
            lines += [f"- `{study}`: {judged['verdict']}"]
        lines += [""] if result["fits"] else []
        if result["checks"]:
            rows = [
                [c["id"], c["words"], figure(c["value"]), figure(c["threshold"]), "yes" if c["passed"] else "no"]
                for c in result["checks"]
            ]
            lines += [*table(["rule of the original", "what", "here", "threshold", "met"], rows), ""]
        for shown in (t for t in result["tables"] if t["id"] in SHOWN):
            lines += [*table(shown["columns"], [[_cell(cell) for cell in row] for row in shown["rows"]]), ""]
    return lines[:-1] or NOTHING


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return figure(value)
    return "-" if value is None else str(value).replace("\n", " ")
