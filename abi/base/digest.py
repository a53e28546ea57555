"""A digest of the code that a rule runs: of its step and everything it imports, blind to comments and docstrings."""

import ast
import atexit
import contextlib
import functools
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from abi.base.errors import DataError
from abi.base.files import ROOT, parse_file, sha256_file, write_text

OUTSIDE_DIGEST = frozenset({"abi", "abi.base.errors", "abi.base.files", "abi.base.digest", "abi.base.job"})
"""Modules whose edits change messages, not results: they stay out of every digest."""

TEMPLATES = frozenset({".j2", ".css"})
"""Files of a package that make its pages: they belong to its code."""

FOR_READERS = {
    "abi/base/catalogue.py": ("words", "colour"),
    "abi/base/regimes.py": ("words",),
    "abi/plan/specs/": ("description",),
}
"""Where a file lies -> keyword arguments in it that only readers see: no figure depends on them."""

READERS = "abi/report/"
"""What reaches this wing shows those words: for its rules they count."""


def code_digest(*paths: str, root: Path = ROOT) -> str:
    """Return a digest of some files and of every `abi` module they reach, blind to comments and docstrings.

    The walk is over type names and non-empty fields, so that Python 3.11, 3.12 and 3.13 agree.
    Args: paths: relative to the repository root.
    """
    found = reached(paths, root)
    return hashlib.sha256("".join(f"{name}={found[name]};" for name in sorted(found)).encode()).hexdigest()[:20]


@functools.cache
def reached(starts: tuple[str, ...], root: Path = ROOT) -> dict[str, str]:
    """Return name -> digest of some files and of everything they reach."""
    todo, found = [path for start in starts if (path := Path(root, start)).is_file()], dict[str, str]()
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        contents, imported = _read(path, root)
        found |= contents
        todo += imported
    if any(name.startswith(READERS) for name in found):
        hidden = [name for name in found if _for_readers(name)]
        found |= {name: _source(Path(root, name), root).whole for name in hidden}
    return found


def _for_readers(name: str) -> tuple[str, ...]:
    """Return the keyword arguments of a file that only readers see."""
    return next((keywords for place, keywords in FOR_READERS.items() if name.startswith(place)), ())


@dataclass(frozen=True)
class Source:
    """What the bytes of a file and its name say, and nothing else does: this may be kept on disk."""

    digest: str
    whole: str
    """the digest with what only readers see"""
    imported: list[str]
    """dotted `abi` modules that it may load"""
    lists_itself: bool


_known: dict[str, Source] = {}
"""Hash of a file's name and bytes, of this file's and of Python's version -> what was parsed of it."""
_used: set[str] = set()
"""Those of them that a digest of this process rests on."""


def remember(path: Path) -> None:
    """Parse no file again whose bytes are those of an earlier plan: read what was parsed then, add to it at the end.

    The plan alone calls this. A job and `abi verify` parse the code themselves, so that a forged file misleads neither.
    Args: path: of the file that keeps it; one that is missing, damaged or cannot be written is done without.
    """
    with contextlib.suppress(DataError, TypeError, AttributeError):
        _known.update({key: Source(**value) for key, value in parse_file(path).items()})
    before = frozenset(_known)
    atexit.register(_keep, path.absolute(), before)


def _keep(path: Path, before: frozenset[str]) -> None:
    """Write what was parsed, if any of it is new; what no longer counts is left out."""
    if not _used <= before:
        with contextlib.suppress(DataError):
            write_text(path, json.dumps({key: vars(_known[key]) for key in sorted(_used)}))


@functools.cache
def _source(path: Path, root: Path) -> Source:
    """Return what a file says, parsed once per contents."""
    relative, contents = path.relative_to(root), path.read_bytes()
    salt = f"{relative.as_posix()}\0{sys.version_info[:2]}\0{_own_code()}\0"
    key = hashlib.sha256(salt.encode() + contents).hexdigest()
    _used.add(key)
    if key not in _known:
        tree, hidden = ast.parse(contents), _for_readers(relative.as_posix())
        nodes, package = list(ast.walk(tree)), relative.with_suffix("").parts[:-1]
        digest = _tree_digest(tree, hidden)
        _known[key] = Source(
            digest=digest,
            whole=_tree_digest(tree) if hidden else digest,
            imported=sorted({name for node in nodes for name in _imported(node, package)}),
            lists_itself=any(_lists_itself(node) for node in nodes),
        )
    return _known[key]


@functools.cache
def _own_code() -> str:
    return sha256_file(__file__)


@functools.cache
def _read(path: Path, root: Path) -> tuple[dict[str, str], list[Path]]:
    """Return name -> digest of a file and its package's templates, and the files of the `abi` modules it imports."""
    relative, source = path.relative_to(root), _source(path, root)
    names, found = set(source.imported), {str(relative): source.digest}
    if path.name == "__init__.py":
        templates = [file for file in path.parent.iterdir() if file.suffix in TEMPLATES]
        found |= {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in templates}
        if source.lists_itself:
            names |= {".".join((*relative.parts[:-1], file.stem)) for file in path.parent.glob("*.py")}
    return found, [file for name in sorted(names - OUTSIDE_DIGEST) for file in _files_of(name, root)]


@functools.cache
def _files_of(module: str, root: Path) -> list[Path]:
    """Return the file of a dotted module or of its package, nothing where the name is none of a module."""
    place = Path(root, *module.split("."))
    return [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]


def _lists_itself(node: ast.AST) -> bool:
    """Return whether a node is `iter_modules(__path__)`, by which a package imports every file of its folder."""
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "iter_modules"


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Return the dotted `abi` modules that one import node of a file in `package` may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.startswith("abi.")]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join([*base, *filter(None, [node.module])])
        if module.split(".")[0] == "abi":
            return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def _tree_digest(tree: ast.AST, left_out: tuple[str, ...] = ()) -> str:
    """Return the digest of a syntax tree. Args: left_out: keyword arguments that do not count."""
    parts: list[str] = []
    _walk(tree, parts, left_out)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _walk(node: object, parts: list[str], left_out: tuple[str, ...]) -> None:
    if isinstance(node, ast.AST):
        parts.append(f"({type(node).__name__}")
        for field, value in ast.iter_fields(node):
            if field in {"ctx", "kind", "type_ignores", "type_comment"} or value is None or value == []:
                continue
            if field == "body" and isinstance(value, list):
                value = [item for item in value if not _is_docstring(item)]
            if field == "keywords":
                value = [item for item in value if item.arg not in left_out]
            parts.append(f" {field}=")
            _walk(value, parts, left_out)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            _walk(item, parts, left_out)
    else:
        parts.append(repr(node))


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
