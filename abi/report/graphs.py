"""Graphs of the repository that documents show: the DAG of rules, and the imports between wings."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from abi.base.errors import DataError
from abi.base.files import ROOT
from abi.report.figures import reduced


def rule_graph() -> str:
    """Return the DAG of rules as Snakemake draws it, as a mermaid block with sorted edges.

    Raises: DataError: Snakemake is not there or cannot plan.
    """
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word of why"])[-1][:160]
        raise DataError(f"docs: Snakemake cannot draw the rules ({reason}); run `make setup`, then `snakemake -n`")
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", done.stdout))
    found = re.findall(r"(id\d+) --> (id\d+)", done.stdout)
    return _mermaid("TB", sorted(f"    {names[start]} --> {names[end]}" for start, end in found))


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
            edges |= {(name.split(".")[1], wing) for name in _imported(ast.walk(tree)) if name.startswith("abi.")}
            with_torch |= {wing for name in _imported(tree.body) if name.split(".")[0] == "torch"}
    nodes = [f"    {wing}[[{wing}]]" if wing in with_torch else f"    {wing}[{wing}]" for wing in wings]
    between = sorted((start, end) for start, end in edges if start in wings and start != end)
    arrows = [f"    {start} --> {end}" for start, end in reduced(between)]
    return _mermaid("BT", [*nodes, *arrows])


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the dotted names that some nodes import; a name from a package counts as its module."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _mermaid(kind: str, lines: Iterable[str]) -> str:
    """Return a graph as it stands between two markers."""
    return "\n".join(["", "```mermaid", f"flowchart {kind}", *lines, "```", "", ""])
