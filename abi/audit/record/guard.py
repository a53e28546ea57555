"""Is the record what was published? The hashes of its files, the hash of their list, and the leaves that were altered.

The record never changes. `MANIFEST.sha256` lists the hash of every file, and the hash of that list stands here, so that
regenerated hashes do not hide an edit. Which leaves were edited is told by the version history, where there is one.
"""

import functools
import hashlib
import subprocess
from collections.abc import Iterator

from abi.audit.record.data import leaves
from abi.base.files import ROOT, Json, listed
from abi.judge.published import MANIFEST, Record, parse

LIST_SHA256 = "2a3fdd0acd55639449d6f04802c6272dbb4828c794bf12293bc3e88d16cae84c"
PLACE = "config/record"


def digest(text: str) -> str:
    """Return the hex SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def alterations(record: Record) -> list[str]:
    """Return one sentence per alteration of the record; empty if it is what was published."""
    intact = digest(record.manifest) == LIST_SHA256
    hashes = listed(record.manifest if intact else original(MANIFEST, LIST_SHA256) or record.manifest)
    found = [f"{name} is not part of the record; remove it" for name in sorted(set(record.texts) - set(hashes))]
    found += [f"{name} is missing; restore it" for name in sorted(set(hashes) - set(record.texts))]
    altered = [name for name in hashes if name in record.texts and digest(record.texts[name]) != hashes[name]]
    for name in altered:
        published = original(name, hashes[name])
        if published is None:
            found.append(f"{name}: is not the file that was published (no version history here names the leaf)")
        else:
            changed = changed_leaves(record.texts[name], published, name)
            nothing = "its bytes changed but no leaf did (white space, order or number format)"
            found += [f"{name}: {sentence}" for sentence in changed or [nothing]]
    if not intact:
        there = listed(record.manifest)
        lines = [name for name, sha256 in hashes.items() if there.get(name) != sha256]
        found.append(f"{MANIFEST}: is not the list that was published{': ' if lines else ''}{', '.join(lines)}")
    return found


def changed_leaves(text: str, published: str, name: str) -> list[str]:
    """Return a sentence for every leaf of a file that is not as published, is new or is missing."""
    present, known = _marked(text, name), _marked(published, name)
    altered = [path for path, mark in present.items() if known.get(path) != mark]
    missing = [f"leaf {path} is missing" for path in known if path not in present]
    return [*(f"leaf {path} is not what was published" for path in altered), *missing]


@functools.lru_cache(maxsize=64)
def _marked(text: str, name: str) -> dict[str, tuple[type, Json]]:
    """Return path -> kind and value of every leaf; a number is kept as it is written, and is no text."""
    return {path: (type(value), value) for path, value in leaves(parse(text, name, exact=True))}


def original(name: str, sha256: str) -> str | None:
    """Return the text of a file of the record with this hash: this checkout's, or one of its history; None without."""
    return next((text for text in _versions(name) if digest(text) == sha256), None)


def _versions(name: str) -> Iterator[str]:
    path = ROOT / PLACE / name
    if path.is_file():
        yield path.read_text(encoding="utf-8", errors="replace")
    for commit in _git("rev-list", "HEAD", "--", f"{PLACE}/{name}").split():
        yield _git("show", f"{commit}:./{PLACE}/{name}")


def _git(*arguments: str) -> str:
    """Return what git says in this checkout; nothing where there is no git or no history."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
