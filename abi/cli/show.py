"""Commands that show what is known of claims: `abi claims` and `abi show` (no torch, no numpy, ASCII)."""

import argparse
import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abi.audit.record.text import ascii_only
from abi.audit.results.staleness import stale
from abi.audit.results.verify import config_root
from abi.base.errors import DataError
from abi.base.files import read_result
from abi.cli.config import scale_options
from abi.judge.published import figures_of
from abi.plan.config import load
from abi.plan.transfers import Study
from abi.report.tables import (
    counts_words,
    figure,
    fit_words,
    in_groups,
    in_order,
    is_ladder,
    primary_fit,
    published_words,
    share_words,
    studies,
)

WIDTH = 100
PLOT = 48
NEVER, UNREADABLE, PENDING = "never run", "unreadable", "pending"
STATES = ("fresh", "stale", NEVER, UNREADABLE, PENDING)
METRICS = (
    ("js_nats", "JS to the reference, nats (less is better)"),
    ("bits_per_byte", "bits per byte (less is better)"),
)
Record = Mapping[str, Any]


def claims_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi claims`."""
    scale_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document for machines instead of a table")


def show_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `abi show`."""
    parser.add_argument("claim", metavar="CLAIM", help="a claim of config/claims.yaml (`abi claims` lists them)")
    claims_options(parser)
    parser.add_argument(
        "--exit-rule",
        action="store_true",
        help="exit with 1 unless every pass rule of the original is met (`reproduce`)",
    )


def claims(options: argparse.Namespace) -> int:
    """Print a table of all claims, their regimes and ladders; exit code 2 if a result cannot be read."""
    study = Study(load(options.scale, config_root()))
    found = [about(study, claim_id) for claim_id in [*study.listed("summary"), *study.config.pending]]
    code = 2 if any(row["state"] == UNREADABLE for row in found) else 0
    if options.json:
        print(json.dumps({"scale": options.scale, "claims": found}, indent=1))
        return code
    print(ascii_only("\n".join(table(found))))
    note = " (meaningless scale: it only tests the machinery)" if study.scale["meaningless"] else ""
    states = [row["state"] for row in found]
    counts = {state: states.count(state) for state in STATES if state in states}
    print(f"\nscale {options.scale}{note}: " + ", ".join(f"{n} {state}" for state, n in counts.items()))
    print("A line that begins with _ is another regime of the claim above it: its id is both together.")
    return code


def show(options: argparse.Namespace) -> int:
    """Print everything known of one claim, regime or ladder. Raises: DataError: its result file lacks a part."""
    study = Study(load(options.scale, config_root()))
    claim, row = given(study, options.claim), about(study, options.claim)
    path = None if row["state"] == PENDING else Path(study.result_file(options.claim))
    result = read_result(path) if path is not None and os.path.lexists(path) else None
    if options.json:
        command = command_of(study, options.claim)
        print(json.dumps({**row, "statement": claim["statement"], "command": command, "result": result}, indent=1))
        return exit_code(result, options)
    lines = _head(study, row)
    if result is None:
        lines += [f"Never run at scale {options.scale}. This builds it:", f"  {command_of(study, options.claim)}"]
    else:
        try:
            body = _rungs(result) if is_ladder(result) else [*_verdict(result), *_arms(result), *_training(result)]
            lines += [*body, *_provenance(result, str(path))]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                f"{path}: lacks a part or holds one of another kind ({error!r}); delete it and rebuild it"
            ) from None
    print(ascii_only("\n".join(lines)))
    return exit_code(result, options)


def exit_code(result: Record | None, options: argparse.Namespace) -> int:
    """Return 0; with `--exit-rule` the original's: 1 unless there are pass rules of the original and all are met."""
    if not options.exit_rule:
        return 0
    checks = () if result is None else result.get("checks", ())
    return 0 if checks and all(check["passed"] for check in checks) else 1


def about(study: Study, claim_id: str) -> dict[str, Any]:
    """Return what the table says of a claim: id, kind, regime, published, verdict, state, why it is stale, unreadable, pending."""
    claim = given(study, claim_id)
    of_record = claim.get("record", {}).get("claim")
    known = figures_of(of_record) if of_record else {}
    row = {"id": claim_id, "of": claim.get("of"), "kind": claim["kind"], "regime": claim.get("regime")}
    row |= {"published": published_words({"record": known}), "verdict": None}
    if claim_id in study.config.pending:
        return row | {"state": PENDING, "why": [f"runs at scale {', '.join(claim['scales'])} only"]}
    path = Path(study.result_file(claim_id))
    if not os.path.lexists(path):
        return row | {"state": NEVER, "why": []}
    try:
        result = read_result(path)
    except DataError as error:
        return row | {"state": UNREADABLE, "why": [str(error)]}
    reasons = list(dict.fromkeys(words for _, words in stale(study, claim_id, result)))
    return row | {"verdict": result["verdict"], "state": "stale" if reasons else "fresh", "why": reasons}


def given(study: Study, claim_id: str) -> dict[str, Any]:
    """Return a claim, a regime, a ladder or a pending claim as configured. Raises: ConfigError: unknown."""
    return study.config.pending.get(claim_id) or study.claim(claim_id)


def state_words(row: Record) -> str:
    """Return the state with the first reason in a few words."""
    if not row["why"]:
        return str(row["state"])
    more = f" (+{len(row['why']) - 1})" if len(row["why"]) > 1 else ""
    return f"{row['state']}: {row['why'][0]}{more}"


def command_of(study: Study, claim_id: str) -> str:
    """Return the command that builds a claim, at a scale that can run it."""
    pending = study.config.pending.get(claim_id)
    return f"snakemake --config scale={pending['scales'][0] if pending else study.config.name} -- {claim_id}"


def table(rows: Sequence[Record]) -> list[str]:
    """Return the table of claims, at most `WIDTH` columns wide, regimes under their claim, reasons under their line."""
    ordered = in_groups([{"claim": row, "row": row} for row in rows])
    cells = [_cells(item["row"]) for item in ordered]
    heads = ["claim", "kind", "published", "verdict", "state"]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    lines = []
    for own, item in zip([heads, *cells], [None, *ordered], strict=True):
        lines.append("  ".join(f"{cell:<{width}}" for cell, width in zip(own, widths, strict=True)).rstrip())
        if item is not None and item["row"]["why"]:
            lines += _wrapped(state_words(item["row"]), "      ")
    return lines


def _cells(row: Record) -> list[str]:
    name, kind = row["id"], row["kind"]
    if row["of"]:
        name, kind = "  " + name.removeprefix(row["of"]), row["regime"]
    return [name, kind, row["published"], row["verdict"] or "-", row["state"]]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _head(study: Study, row: Record) -> list[str]:
    claim = given(study, row["id"])
    lines = [f"{row['id']}: {claim['title']}", *_wrapped(claim["statement"]), ""]
    lines += _wrapped(f"{'; '.join(_about(claim))}; scale {study.config.name}")
    if claim.get("of"):
        lines += _wrapped(f"another regime of {claim['of']}")
    lines += _wrapped(f"published: {row['published']}")
    state = row["state"] + (": " + "; ".join(row["why"]) if row["why"] else "")
    return [*lines, *(_wrapped(f"state: {state}") if row["state"] != NEVER else []), ""]


def _about(claim: Record) -> list[str]:
    """Return in words how a claim is measured: kind, regime, backbones, text, fit; of a ladder its rungs."""
    if "rungs" in claim:
        return [f"{claim['kind']} of {', '.join(claim['rungs'])}"]
    words = [claim["kind"]]
    if claim["kind"] == "transfer" and "regime" in claim:
        words.append(f"regime {claim['regime']} (the target side sees {claim['sees']})")
    if "source" in claim and "target" in claim:
        pair = (claim["source"], claim["target"])
        words.append(claim["source"] if len(set(pair)) == 1 else " -> ".join(pair))
    elif "backbone" in claim:
        words.append(claim["backbone"])
    words += [f"text {claim['text']}"] if "text" in claim else []
    return [*words, *([f"fitted by {claim['fit']}"] if "fit" in claim else [])]


def _rungs(result: Record) -> list[str]:
    """Return the verdict of a ladder and that of every rung with its reason."""
    note = "  (meaningless scale: it only tests the machinery)" if result["meaningless"] else ""
    lines = [f"{result['verdict']}{note}", *_wrapped(result["reason"])]
    lines += [line for check in result.get("checks", ()) for line in _wrapped(check_words(check))]
    lines += ["", "Rungs"]
    for rung in result["rungs"]:
        lines += _wrapped(f"{rung['id']}: {rung['verdict']} (at the strict level {rung['verdict_at_strict_level']})")
        lines += _wrapped(rung["reason"], "      ")
    return lines


def _verdict(result: Record) -> list[str]:
    """Return verdict, reason, share and the tests with their intervals; of several studies what each found."""
    note = "  (meaningless scale: it only tests the machinery)" if result["meaningless"] else ""
    lines = [f"{result['verdict']}{note}", *_wrapped(result["reason"])]
    primary = primary_fit(result)
    if primary is not None:
        lines += _wrapped(primary.get("published_criteria", {}).get("sentence", ""))
        lines += [f"  share of the gain that is the moved net's own: {share_words(primary)}"]
    for fit, judged in studies(result).items():
        if judged is not primary:
            lines += [f"  fit {fit} ({fit_words(result, fit)}): {judged['verdict']}"]
    lines += [line for check in result.get("checks", ()) for line in _wrapped(check_words(check))]
    return [*lines, *(line for name, judged in _shown(result) for line in _tests(name, judged))]


def check_words(check: Record) -> str:
    """Return one pass rule of the original as words."""
    told = f"{figure(check['value'])}, threshold {figure(check['threshold'])}"
    return f"rule {check['id']}, {check['words']}: {'passed' if check['passed'] else 'failed'} ({told})"


def _shown(result: Record) -> list[tuple[str, Record]]:
    """Return the studies that are shown in full with the name each needs: the deciding one, else all of them."""
    primary = primary_fit(result)
    return [("", primary)] if primary is not None else [(f" ({fit})", found) for fit, found in studies(result).items()]


def _tests(name: str, judged: Record) -> list[str]:
    heads = ["test", "mean", f"{100 * judged['level']:g} % interval", "limit", "holds"]
    rows = [
        [test["id"], figure(test["mean"]), bounds(test["interval"]), figure(test["limit"]), holds(test)]
        for test in judged["tests"]
    ]
    words = f"Tests on {counts_words(judged)}{name}; more is better, * is reported only"
    return ["", *textwrap.wrap(words, WIDTH), *columns(heads, rows)]


def bounds(interval: Record | None) -> str:
    """Return an interval as words."""
    return "-" if interval is None else f"[{figure(interval['lower'])}, {figure(interval['upper'])}]"


def holds(test: Record) -> str:
    """Return whether a test holds; a star where nothing hangs on it."""
    return ("yes" if test["passed"] else "no") + ("" if test["required"] else " *")


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows in aligned columns, indented."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    return [
        "  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]


def _arms(result: Record) -> list[str]:
    """Return one plot per metric: every arm a line, in the fixed order."""
    lines: list[str] = []
    for name, judged in _shown(result):
        arms = judged["arms"]
        for metric, words in METRICS:
            known = {a: arms[a]["domain"][metric] for a in in_order(arms) if metric in arms[a].get("domain", {})}
            lines += ["", f"Arms on held-out domain text{name}: {words}", *plot(known)] if known else []
    return [*lines, "  o mean, . one seed, ( ) interval of the mean"] if lines else []


def plot(arms: Mapping[str, Record]) -> list[str]:
    """Return one line per arm: its seeds as dots, its mean, its interval, on one axis; nothing for no arms.

    Args: arms: name -> figure of a result file (mean, per_seed, lower, upper).
    """
    if not arms:
        return []
    values = {
        arm: [v for v in (f["mean"], f["lower"], f["upper"], *f["per_seed"].values()) if v is not None]
        for arm, f in arms.items()
    }
    low, high = min(map(min, values.values())), max(map(max, values.values()))
    width = max(len(arm) for arm in arms)
    lines = []
    for arm, entry in arms.items():
        cells = [" "] * PLOT
        for seed in entry["per_seed"].values():
            cells[place(seed, low, high)] = "."
        for end, mark in ((entry["lower"], "("), (entry["upper"], ")")):
            if end is not None:
                cells[place(end, low, high)] = mark
        cells[place(entry["mean"], low, high)] = "o"
        lines.append(
            f"  {arm:<{width}} |{''.join(cells)}| {figure(entry['mean'])} {bounds(entry) if entry['lower'] is not None else ''}".rstrip()
        )
    left, right = figure(low), figure(high)
    return [*lines, f"  {'':<{width}}  {left}{right:>{PLOT - len(left)}}"]


def place(value: float, low: float, high: float) -> int:
    """Return the column of a value on an axis of `PLOT` columns."""
    return round((value - low) / (high - low) * (PLOT - 1)) if high > low else 0


def _training(result: Record) -> list[str]:
    """Return what the fitted arms were trained with."""
    rows, lines = [], []
    for row in result.get("training", ()):
        if row["fit"] == result["claim"].get("fit"):
            loss, seconds = row.get("final_loss"), row.get("elapsed_s")
            rows.append([row["arm"], str(row["steps"]), str(row["n_trainable"]), figure(loss), figure(seconds)])
    if rows:
        lines = ["", f"Training of the arms ({result['claim']['fit']}; means over seeds)"]
        lines += columns(["arm", "steps", "trainable", "last loss", "seconds"], rows)
    for name, facts in result.get("backbones", {}).items():
        lines += _wrapped(
            f"{name}: {facts['class']}, {facts['n_parameters']} parameters, depth {facts['depth']}, width {facts['width']}, revision {facts['revision']}"
        )
    return lines


def _provenance(result: Record, path: str) -> list[str]:
    """Return what made the result file."""
    made = result["provenance"]
    packages = ", ".join(
        f"{name} {made['versions'][name]}" for name in ("python", "torch", "numpy") if name in made["versions"]
    )
    lines = ["", "Made by", f"  {path}"]
    lines += [f"  rule {made['rule']}, code {made['code']}, protocol {result['protocol']}, {made['threads']} thread"]
    lines += _wrapped(
        f"{packages}; {made['hardware'].get('cpu', 'unknown processor')}; {made['elapsed_s']:.1f} s, {made['peak_memory_mb']:.0f} MB"
    )
    return [*lines, *(f"  {digest[:12]}  {name}" for name, digest in made["inputs"].items())]
