"""A digest of the code that a rule runs: of its step and everything it imports, blind to comments and docstrings."""

import ast
import functools
import hashlib
from pathlib import Path

from abi.base.files import ROOT

OUTSIDE_DIGEST = frozenset({"abi", "abi.base.errors", "abi.base.files", "abi.base.digest", "abi.base.job"})
"""Modules whose edits change messages, not results: they stay out of every digest."""


FOR_READERS = frozenset({"words", "colour", "description"})
"""Keyword arguments that only readers see: no figure depends on them, so an edit of one reruns nothing."""


def code_digest(path: str, root: Path = ROOT) -> str:
    """Return a digest of a file and of every `abi` module it reaches, blind to comments and docstrings.

    The walk is over type names and non-empty fields, so that Python 3.11, 3.12 and 3.13 agree.
    Args: path: relative to the repository root.
    """
    return _digest_closure(path, str(root))


@functools.cache
def _digest_closure(start: str, root: str) -> str:
    todo, seen, digest = [Path(root) / start], set(), hashlib.sha256()
    trees: dict[str, str] = {}
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        trees[str(path.relative_to(root))] = _tree_digest(tree)
        package = path.relative_to(root).with_suffix("").parts[:-1]
        names = {name for node in ast.walk(tree) for name in _imported(node, package)}
        for name in sorted(names - OUTSIDE_DIGEST):
            place = Path(root, *name.split("."))
            todo += [place.with_suffix(".py"), place / "__init__.py"]
    for name in sorted(trees):
        digest.update(f"{name}={trees[name]};".encode())
    return digest.hexdigest()[:20]


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


def _tree_digest(tree: ast.AST) -> str:
    parts: list[str] = []
    _walk(tree, parts)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _walk(node: object, parts: list[str]) -> None:
    if isinstance(node, ast.AST):
        parts.append(f"({type(node).__name__}")
        for field, value in ast.iter_fields(node):
            if field in {"ctx", "kind", "type_ignores", "type_comment"} or value is None or value == []:
                continue
            if field == "body" and isinstance(value, list):
                value = [item for item in value if not _is_docstring(item)]
            if field == "keywords":
                value = [item for item in value if item.arg not in FOR_READERS]
            parts.append(f" {field}=")
            _walk(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        for item in node:
            _walk(item, parts)
    else:
        parts.append(repr(node))


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
