"""What is taken of a file: code, prose, Markdown or all of it."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator


def extract(text: str, how: str, name: str) -> str | None:
    """Return the part of a file that is the wanted kind of text, "" where it has none; None: Python 3 cannot parse it.

    Args: how: `code` (Python without docstrings and licence header), `prose` (docstrings of a Python file, or a
        prose file, without code blocks, doctests and tables), `markdown` (Markdown or reStructuredText without HTML and
        badges) or `plain` (all of it).
    """
    if how == "markdown":
        text = strip_html(text)
    if how in {"plain", "markdown"}:
        return text.strip() + "\n" if text.strip() else ""
    python = name.endswith(".py")
    try:
        if how == "code":
            return _without_docstrings(text) if python else ""
        return strip_code("\n\n".join(_docstrings(text)) if python else text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _docstring_nodes(text: str) -> list[tuple[ast.Expr, bool]]:
    """Return each docstring statement, in order, with whether it is the only statement of its block."""
    found = []
    for node in _blocks(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())) as first, *others]:
                    found.append((first, not others and not isinstance(node, ast.Module)))
    return sorted(found, key=lambda pair: (pair[0].lineno, pair[0].col_offset))


def _blocks(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node that can hold statements; expressions hold no docstring, so they are not walked."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            value = getattr(node, field, None)
            todo += [item for item in value if isinstance(item, ast.AST)] if isinstance(value, list) else []


def _docstrings(text: str) -> list[str]:
    return [inspect.cleandoc(str(node.value.value)) for node, _ in _docstring_nodes(text)]  # type: ignore[attr-defined]


def _without_docstrings(text: str) -> str:
    """Return source with docstrings cut out by span, and without the comment block that heads the file."""
    lines = text.encode().splitlines(keepends=True)
    for node, only in reversed(_docstring_nodes(text)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset or 0 :]
        tail = re.sub(rb"^\s*;[ \t]*", b"", tail) if tail.lstrip().startswith(b";") else tail
        kept = head + (b"pass" if only else b"") + tail
        lines[first : last + 1] = [kept] if kept.strip() else []
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith(b"#")), len(lines))
    return re.sub(r"\n{4,}", "\n\n\n", b"".join(lines[start:]).decode())


FENCE = re.compile(r"^\s*(```|~~~)")
TABLE = re.compile(r"^\s*(\|.*\||\+[-=+]+\+|[=\-]{2,}(\s+[=\-]{2,})+)\s*$")
RULER = re.compile(r"^\s*([=\-~^\"'*#_+`])\1{2,}\s*$")
INLINE = re.compile(r"``?[^`]*``?")
CODE_LIKE = re.compile(
    r"[\w\])]\s*=\s*\S|^\s*(import|from|def|class|return|for|if)\b.*[:(]$|[{}\[\];]|self\.|->"
    r"|^\s*\w+ \(.*\):?$|^\s*\w+ ?: \w+"
)
IDENTIFIER = re.compile(r"`[^`\n]+`|\b\w+_\w+\b|\b[a-z]+[A-Z]\w*\b|\b\w+\.\w+\b|\w\(")


def strip_code(text: str) -> str:
    """Return prose without code blocks, doctests, directives, tables, rulers and lines that look like code."""
    kept: list[str] = []
    fenced, literal, doctest = False, -1, False
    for line in text.splitlines():
        indent, blank = len(line) - len(line.lstrip()), not line.strip()
        if FENCE.match(line):
            fenced = not fenced
            continue
        doctest = line.lstrip().startswith((">>>", "... ")) or (doctest and not blank)
        if literal >= 0 and not blank and indent <= literal:
            literal = -1
        if fenced or doctest or literal >= 0 or TABLE.match(line) or RULER.match(line):
            continue
        code = bool(CODE_LIKE.search(INLINE.sub("", line)))
        if line.lstrip().startswith(".. ") or line.rstrip().endswith("::"):
            literal = indent
            line = "" if line.lstrip().startswith(".. ") else line.rstrip()[:-1]
        if not code:
            kept.append(line.rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip() + "\n" if any(kept) else ""


def identifier_share(texts: Iterable[str]) -> float:
    """Return the share of words that are program identifiers (snake_case, camelCase, dotted, backticked, calls)."""
    words = identifiers = 0
    for text in texts:
        words += len(text.split())
        identifiers += sum(1 for _ in IDENTIFIER.finditer(text))
    return identifiers / words if words else 0.0


HTML = re.compile(r"(`+)[^`]*\1|<!--.*?-->|</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>", re.DOTALL)
IMAGE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])|\[\s*\](?:\([^)]*\)|\[[^\]]*\])")

RST_IMAGE = re.compile(r"^\.\. (?:\|[^|\n]*\| )?image::.*\n(?:[ \t]+:.*\n)*", re.MULTILINE)
SUBSTITUTIONS = re.compile(r"(?:\|\w[^|]*\w\|\s*)+$")


def strip_html(text: str) -> str:
    """Return Markdown or reStructuredText without HTML and without lines of images alone (badges); code stays."""
    kept: list[str] = []
    for block, fenced in _blocks_of_code(text):
        if not fenced:
            block = HTML.sub(lambda found: found[0] if found[1] else "", block)
            block = RST_IMAGE.sub("", block)
            block = "\n".join(line for line in block.split("\n") if not _is_badge(line))
            block = re.sub(r"\n(?:[ \t]*\n){2,}", "\n\n", block)
        kept.append(block)
    return "".join(kept)


def _is_badge(line: str) -> bool:
    """Return whether a line holds images, maybe as links, or substitutions, and no word."""
    left = IMAGE.sub("", IMAGE.sub("", line))
    return bool(SUBSTITUTIONS.match(line)) or (left != line and not re.search(r"\w", left))


def _blocks_of_code(text: str) -> list[tuple[str, bool]]:
    """Return text in pieces, each with whether it is a fenced code block; joined they are the text."""
    pieces: list[tuple[str, bool]] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        fence = bool(FENCE.match(line))
        inside = fenced or fence
        fenced ^= fence
        if pieces and pieces[-1][1] == inside:
            pieces[-1] = (pieces[-1][0] + line, inside)
        else:
            pieces.append((line, inside))
    return pieces
