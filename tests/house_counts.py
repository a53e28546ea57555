"""Count what makes a house easy or hard to live in: `python tests/house_counts.py [ROOT ...]`, one column per checkout.

Every figure is read off the syntax tree; nothing of the package is imported.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ARMS = frozenset(
    "transferred random permuted no-domain unfrozen wrong-domain native candidate zero-shot zero-shot-free zero-shot-off "
    "random-net random-off oracle-off before-off raw-before raw-free untrained oracle-before".split()
)
"""Names that mean an arm and nothing else (`oracle`, `linear`, `published`, ... are roles, forms and states as well)."""
OUTSIDE = ("base/catalogue.py", "base/names.py")
FILES = ("inputs", "outputs")
"""What Snakemake hands a step: lists whose names are those of the rule."""

DICTS = re.compile(r"\b(?:Mapping|dict)\[str, Any\]")


def trees(root: Path) -> Iterator[tuple[Path, ast.Module, str]]:
    """Yield path, tree and text of every Python file of the package and its scripts."""
    for folder in ("abi", "scripts"):
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            yield path, ast.parse(text), text


def levels(root: Path) -> int:
    """Return the length of the longest chain of wings that import one another."""
    imports: dict[str, set[str]] = {}
    for path, tree, _ in trees(root):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] != "abi" or len(parts) < 2:
            continue
        own = parts[1]
        imports.setdefault(own, set())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "abi":
                dotted = node.module.split(".")
                names = [dotted[1]] if len(dotted) > 1 else [alias.name for alias in node.names]
            imports[own] |= {name for name in names if name != own}

    def depth(wing: str, above: tuple[str, ...] = ()) -> int:
        below = [depth(name, (*above, wing)) for name in imports.get(wing, ()) if name not in (*above, wing)]
        return 1 + max(below, default=0)

    return max(depth(wing) for wing in imports)


def string_subscripts(tree: ast.Module) -> list[str]:
    """Return what is subscripted with a literal string, once per time."""
    return [
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    ]


def closure(root: Path, start: str) -> set[Path]:
    """Return the files of the package that one of them reaches by its imports, itself among them."""
    todo, seen = [root / start], set()
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "abi":
                for name in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                    todo.append((root / name.replace(".", "/")).with_suffix(".py"))
                    todo.append(root / name.replace(".", "/") / "__init__.py")
    return {path for path in seen if path.name != "__init__.py"}


def counts(root: Path) -> dict[str, int]:
    """Return every figure of a checkout."""
    files = list(trees(root))
    functions = [
        (node.end_lineno or 0) - node.lineno + 1
        for _, tree, _ in files
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    literal = {
        path
        for path, tree, _ in files
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and node.value in ARMS
        and not path.as_posix().endswith(OUTSIDE)
        and "record" not in path.parts
    }
    lines = {path: len(text.splitlines()) for path, _, text in files}
    schemas = list((root / "workflow" / "schemas").glob("*.yaml"))
    top = [path for path in (root / "abi").iterdir() if path.name != "__pycache__"]
    judge = next(p for p in ("abi/steps/judge_claim.py", "abi/stages/verdict.py") if (root / p).exists())
    return {
        "entries of abi/": len(top),
        "levels of imports between entries": levels(root),
        "files that a verdict reaches": len(closure(root, judge)),
        "Mapping[str, Any] and dict[str, Any]": sum(len(DICTS.findall(text)) for _, _, text in files),
        "subscripts with a literal string": sum(len(string_subscripts(tree)) for _, tree, _ in files),
        "  but for a job's files and the record": sum(
            name.split(".")[-1] not in FILES and name != "Literal"
            for path, tree, _ in files
            if "record" not in path.parts
            for name in string_subscripts(tree)
        ),
        "files with an arm's name as a literal": len(literal),
        "lines of Python and schemas": sum(lines.values()) + sum(len(p.read_text().splitlines()) for p in schemas),
        "longest file": max(lines.values()),
        "longest function": max(functions),
        "lines over 120 columns": sum(len(line) > 120 for _, _, text in files for line in text.splitlines()),
        "fmt: skip": sum(text.count("fmt: skip") for _, _, text in files),
        "comment lines": sum(line.lstrip().startswith("#") for _, _, text in files for line in text.splitlines()),
    }


def main() -> None:
    """Print the figures of every checkout side by side."""
    found = [counts(Path(root)) for root in sys.argv[1:] or ["."]]
    for name in found[0]:
        print(f"{name:45}", *(f"{column[name]:>8,}" for column in found))


if __name__ == "__main__":
    main()
