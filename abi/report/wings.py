"""The graph of wings: which folder of `abi` imports from which, read from the code, for docs/architecture.md."""

import ast
from collections.abc import Iterable
from pathlib import Path

from abi.base.files import ROOT
from abi.report.figures.graph import reduced


def wing_graph(root: Path = ROOT) -> str:
    """Return the imports between wings as a mermaid block.

    A double border marks wings that cannot be loaded without torch. An arrow goes from what is imported to what imports
    it, also inside a function; one that a longer path implies is left out.

    Args: root: of the checkout.
    """
    edges: set[tuple[str, str]] = set()
    with_torch: set[str] = set()
    wings = sorted(path.parent.name for path in (root / "abi").glob("*/__init__.py"))
    for wing in wings:
        for path in (root / "abi" / wing).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            edges |= {(name.split(".")[1], wing) for name in imported(ast.walk(tree)) if name.startswith("abi.")}
            with_torch |= {wing for name in imported(tree.body) if name.split(".")[0] == "torch"}
    nodes = [f"    {wing}[[{wing}]]" if wing in with_torch else f"    {wing}[{wing}]" for wing in wings]
    between = sorted((start, end) for start, end in edges if start in wings and start != end)
    arrows = [f"    {start} --> {end}" for start, end in reduced(between)]
    return "\n```mermaid\n" + "\n".join(["flowchart BT", *nodes, *arrows]) + "\n```\n\n"


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the dotted names that some nodes import; a name from a package counts as its module."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found
