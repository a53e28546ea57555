"""Hooks of mkdocs: every document keeps its place in the repository, and what documents link to comes along."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
SEARCH = ("search/lunr.js", "search/search_index.js", "search/search.js")
FIGURES = re.compile(r"(?<!\S)[^\sA-Za-z]*\d[^\sA-Za-z]*(?:\s+|$)")
"""Numbers that stand alone: they are most of the pages of verdicts, and nobody searches for them."""
LINK = re.compile(r"""(?<!`)\]\(([^)#\s]+)[^)]*\)|\b(?:src|href)="([^"#]+)""")


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Name headings as GitHub does, so that links to them work in both places."""
    config.mdx_configs["toc"] = {"slugify": slug, "permalink": False}
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Return the pages of `nav` and every page of docs/, by their places in the repository, and the files they link to.

    A page of docs/ that the nav leaves out is a warning of mkdocs then, and the build fails.
    """
    from mkdocs.structure.files import File, Files

    pages = {*listed(config.nav), *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}
    found = {name: ROOT / name for name in [*config.extra_css, *sorted(pages)]}
    for page in sorted(pages):
        for target in linked(ROOT / page):
            if target.is_file() and target.is_relative_to(ROOT):
                found.setdefault(target.relative_to(ROOT).as_posix(), target)
    theme = [file for file in files if file.abs_src_path and not Path(file.abs_src_path).is_relative_to(ROOT / "docs")]
    return Files([*theme, *(File.generated(config, name, abs_src_path=str(path)) for name, path in found.items())])


def on_env(env: object, config: "MkDocsConfig", files: "Files") -> None:
    """Load the search as scripts of the page in place of the plugin's own, which asks a server for its index."""
    config.extra_javascript = [*SEARCH]  # type: ignore[assignment]


def on_post_build(config: "MkDocsConfig") -> None:
    """Write the plugin's index of sections as a script, each with the title of its page, and our search beside it."""
    folder = Path(config.site_dir) / "search"
    index = json.loads((folder / "search_index.json").read_text(encoding="utf-8"))
    pages = {one["location"]: one["title"] for one in index["docs"] if "#" not in one["location"]}
    sections = [
        one | {"page": pages[one["location"].partition("#")[0]], "text": FIGURES.sub("", one["text"])}
        for one in index["docs"]
        if "#" in one["location"]
    ]
    script = f"window.searchIndex = {json.dumps({'docs': sections}, ensure_ascii=False)};\n"
    (folder / "search_index.js").write_text(script, encoding="utf-8")
    (folder / "search.js").write_text((ROOT / "envs" / "search.js").read_text(encoding="utf-8"), encoding="utf-8")
    for unused in ("search_index.json", "main.js", "worker.js"):
        (folder / unused).unlink()


def linked(page: Path) -> list[Path]:
    """Return what a page links to in the repository, whether it is there or not."""
    targets = [first or second for first, second in LINK.findall(page.read_text(encoding="utf-8"))]
    return [(page.parent / target).resolve() for target in targets if "://" not in target]


def slug(heading: str, separator: str) -> str:
    """Return the anchor of a heading as GitHub makes it: letters, digits, dashes; each space one dash."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def listed(entries: object) -> list[str]:
    """Return the pages of a nav, in order."""
    if isinstance(entries, str):
        return [entries]
    parts = entries.values() if isinstance(entries, dict) else entries
    return [page for part in parts or [] for page in listed(part)]
