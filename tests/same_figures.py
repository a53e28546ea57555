"""Compare every result file of two runs, leaf by leaf: `python tests/same_figures.py BEFORE AFTER`.

A redesign must change no figure: exit code 0 and one sentence where every leaf of every JSON file is equal, bit for bit;
else 1 and the leaves that differ. Left out is what says how a file was made (`provenance`), seconds, and what a key names.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ASIDE = {"provenance", "elapsed_s", "format", "sha256"}
"""Leaves that tell how a file was made, not what was found: a hash of a file covers its provenance."""

RECORD = ("value", "comparator", "threshold", "holds", "document", "file", "leaf", "file_value")
"""What a result quotes of the published record; how the record was judged stands in the report."""


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every leaf that a redesign may not change."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ASIDE:
                continue
            if path == "/record" and isinstance(value, dict):
                value = {name: value[name] for name in RECORD if name in value}
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, node


def differences(before: Path, after: Path) -> Iterator[str]:
    """Yield a sentence per file that one run lacks and per leaf that differs."""
    names = {path.name for folder in (before, after) for path in folder.glob("*.json")}
    for name in sorted(names):
        if not (before / name).exists() or not (after / name).exists():
            yield f"{name}: only in one of the runs"
            continue
        pair = [dict(leaves(json.loads((folder / name).read_text(encoding="utf-8")))) for folder in (before, after)]
        for path in sorted(pair[0].keys() | pair[1].keys()):
            old, new = (found.get(path, "(absent)") for found in pair)
            if old != new:
                yield f"{name}{path}: {old!r} before, {new!r} after"


def main() -> int:
    """Print what differs between two folders of results."""
    before, after = map(Path, sys.argv[1:3])
    found = list(differences(before, after))
    n_files = len(list(before.glob("*.json")))
    n_leaves = sum(len(dict(leaves(json.loads(path.read_text(encoding="utf-8"))))) for path in before.glob("*.json"))
    print("\n".join([*found[:50], f"{len(found)} of {n_leaves:,} leaves of {n_files} files differ"]))
    return 1 if found or not n_leaves else 0


if __name__ == "__main__":
    sys.exit(main())
