"""The published record as read from `config/record/`: figures, pins, and the items a judgement is made of.

The record is data and never changes. Three things guard it: `MANIFEST.sha256` beside it (for `sha256sum -c`), a digest
of every file and a fingerprint of every leaf in `abi.audit.record.pins` (in the code, so that regenerated hashes do not hide
an edit), and the recomputation of whatever follows from other figures (`abi.audit.record.checks`).
"""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from abi.base.files import Json
from abi.judge.published import MANIFEST, Record, Token, parse

MATCH = "MATCH"
CONTRADICTED = "CONTRADICTED"
NO_EVIDENCE = "NO EVIDENCE"
INCONSISTENT = "INCONSISTENT"
VACUOUS = "VACUOUS"
STATES = (MATCH, CONTRADICTED, NO_EVIDENCE, INCONSISTENT, VACUOUS)

MARK = 3  # characters of a leaf's fingerprint: 18 bits; the file's sha256 stands behind it


@dataclass(frozen=True)
class Item:
    """One judged thing: what it is, its state, and one sentence of reason."""

    id: str
    claim: str
    kind: str  # document: a documented figure; file: a relation inside the files; verifier: a line of the original's
    state: str
    reason: str
    basis: str = (
        "files"  # files: recomputed here; by hand: found by reading the original's code; none: nothing to compare
    )
    leaves: tuple[str, ...] = ()  # "file:leaf" of every figure that entered
    note: str | None = None
    main: bool = False


@dataclass(frozen=True)
class Judgement:
    """Every item, what was altered in the record (empty if nothing), and how many leaves there are."""

    items: tuple[Item, ...]
    altered: tuple[str, ...]
    n_files: int
    n_leaves: int
    n_numeric: int
    n_entered: int  # numbers that entered a comparison or a recomputation

    @property
    def claims(self) -> list[str]:
        """Return the claims in the record's order."""
        return list(dict.fromkeys(item.claim for item in self.items))

    def counts(self, claim: str | None = None) -> dict[str, int]:
        """Return how many items of a claim (or of all) are in each state."""
        chosen = [item.state for item in self.items if claim in (None, item.claim)]
        return {state: chosen.count(state) for state in STATES}

    def as_dict(self, claims: list[str] | None = None) -> dict[str, Any]:
        """Return the judgement (of some claims, or all) as plain data for `--json`."""
        shown = claims or self.claims
        return {
            "intact": not self.altered,
            "altered": list(self.altered),
            "files": self.n_files,
            "leaves": self.n_leaves,
            "numbers": self.n_numeric,
            "numbers_entered": self.n_entered,
            "counts": self.counts(),
            "claims": {claim: self.counts(claim) for claim in shown},
            "items": [asdict(item) for item in self.items if item.claim in shown],
        }


def leaves(node: Json, path: str = "") -> list[tuple[str, Json]]:
    """Return (path, value) of every leaf in file order; an empty list or object is a leaf."""
    found: list[tuple[str, Json]] = []
    _collect(node, path, found)
    return found


def _collect(node: Json, path: str, found: list[tuple[str, Json]]) -> None:
    if isinstance(node, dict | list) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            _collect(value, f"{path}/{key}" if path else str(key), found)
    else:
        found.append((path, node))


def is_number(value: Json) -> bool:
    """Return whether a leaf is a number (a truth value is not)."""
    return isinstance(value, int | float | Token) and not isinstance(value, bool)


def digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def fingerprint(path: str, value: Json) -> str:
    """Return the mark of one leaf: its place and its value as written."""
    shown = value if isinstance(value, Token) else json.dumps(value)
    raw = hashlib.sha256(f"{path}={shown}".encode()).digest()
    return base64.urlsafe_b64encode(raw[:MARK]).decode("ascii")[:MARK]


def fingerprints(text: str, name: str) -> str:
    """Return the marks of every leaf of a file, in file order, as one string: what `abi.audit.record.pins` holds."""
    return "".join(fingerprint(path, value) for path, value in leaves(parse(text, name, exact=True)))


def changed_leaves(text: str, name: str, pinned: str) -> list[str]:
    """Return the paths of the leaves that are not as pinned; where leaves are missing, the place after which."""
    now = [(path, fingerprint(path, value)) for path, value in leaves(parse(text, name, exact=True))]
    marks = [pinned[i : i + MARK] for i in range(0, len(pinned), MARK)]
    if len(now) == len(marks):
        return [path for (path, mark), pin in zip(now, marks, strict=True) if mark != pin]
    known, present = set(marks), {mark for _, mark in now}
    found = [path for path, mark in now if mark not in known]
    lost = sum(mark not in present for mark in marks)
    if lost > len(found):
        same = next((i for i, (_, mark) in enumerate(now) if i >= len(marks) or mark != marks[i]), len(now))
        found.append(f"{lost} leaves missing after {now[same - 1][0] if same else 'the start'}")
    return found


def alterations(record: Record, pins: dict[str, tuple[str, str]]) -> list[str]:
    """Return one sentence per alteration of the record against its pins; empty if nothing changed."""
    found = [f"{name} is not part of the record; remove it" for name in sorted(set(record.texts) - set(pins))]
    for name, (pinned_digest, marks) in pins.items():
        if digest(record.texts[name]) == pinned_digest:
            continue
        changed = changed_leaves(record.texts[name], name, marks)
        found += [f"{name}: leaf {path} is not what was published" for path in changed]
        if not changed:
            found.append(f"{name}: its bytes changed but no leaf did (white space, order or number format)")
    expected = "".join(f"{pinned_digest}  {name}\n" for name, (pinned_digest, _) in sorted(pins.items()))
    if record.manifest != expected:
        there = dict(line.split("  ", 1)[::-1] for line in record.manifest.splitlines() if "  " in line)
        lines = [name for name, (pinned_digest, _) in sorted(pins.items()) if there.get(name) != pinned_digest]
        found.append(f"{MANIFEST}: does not hold the pinned digest of {', '.join(lines) or 'exactly the pinned files'}")
    return found
