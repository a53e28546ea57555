"""A digest of the code that a rule runs: of its step and everything it imports, blind to comments and docstrings."""

import ast
import functools
import hashlib
from pathlib import Path

from abi.base.files import ROOT

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
    todo, found = [Path(root, start) for start in starts], dict[str, str]()
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        contents, imported = _read(path, root)
        found |= contents
        for module in imported:
            place = Path(root, *module.split("."))
            todo += [place.with_suffix(".py"), place / "__init__.py"]
    if any(name.startswith(READERS) for name in found):
        hidden = [name for name in found if _for_readers(name)]
        found |= {name: _whole_digest(Path(root, name)) for name in hidden}
    return found


def _for_readers(name: str) -> tuple[str, ...]:
    """Return the keyword arguments of a file that only readers see."""
    return next((keywords for place, keywords in FOR_READERS.items() if name.startswith(place)), ())


@functools.cache
def _whole_digest(path: Path) -> str:
    """Return the digest of a file with what only readers see."""
    return _tree_digest(_parsed(path))


def _parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file: not kept, since every collection of garbage would walk it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _read(path: Path, root: Path) -> tuple[dict[str, str], list[str]]:
    """Return name -> digest of a file and its package's templates, and the `abi` modules it imports; parsed once."""
    relative = path.relative_to(root)
    package = relative.with_suffix("").parts[:-1]
    tree = _parsed(path)
    nodes = list(ast.walk(tree))
    names = {name for node in nodes for name in _imported(node, package)}
    found = {str(relative): _tree_digest(tree, _for_readers(relative.as_posix()))}
    if path.name == "__init__.py":
        templates = [file for file in path.parent.iterdir() if file.suffix in TEMPLATES]
        found |= {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in templates}
        if any(_lists_itself(node) for node in nodes):
            names |= {".".join((*package, file.stem)) for file in path.parent.glob("*.py")}
    return found, sorted(names - OUTSIDE_DIGEST)


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
