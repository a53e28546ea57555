"""The documents as a site (`make site`): every page is in its menu, and links lead where they lead in the repository."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("site_hooks", ROOT / "envs" / "site.py")
site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site)
NAV = site.listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])


def test_every_page_of_docs_is_in_the_menu_once():
    assert {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").glob("*.md")} <= {*NAV}
    assert len(NAV) == len({*NAV})


@pytest.mark.parametrize("page", NAV)
def test_every_link_of_a_page_leads_to_a_file_of_the_repository(page):
    targets = site.linked(ROOT / page)
    assert [path for path in targets if not path.exists() or not path.is_relative_to(ROOT)] == []


def test_links_are_found_in_every_form(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        '[a](other.md#part) [b](https://x.y/z.md) [c](#here) <img src="a.svg"> [d](../abi/one.py "title")\n'
    )
    names = [path.relative_to(tmp_path).as_posix() for path in site.linked(page)]
    assert names == ["docs/other.md", "docs/a.svg", "abi/one.py"]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Did I reproduce it?", "did-i-reproduce-it"),
        ("`abi demo`: a page", "abi-demo-a-page"),
        ("A - B", "a---b"),
        ("What is_not claimed", "what-is_not-claimed"),
    ],
)
def test_anchors_are_those_of_github(heading, anchor):
    assert site.slug(heading, "-") == anchor


def test_a_dead_link_and_a_page_outside_the_menu_fail_the_build(tmp_path):
    mkdocs = pytest.importorskip("mkdocs.config", reason="mkdocs is not installed; `make site` runs it")
    from mkdocs.commands.build import build
    from mkdocs.exceptions import Abort

    for fault in ("none", "dead link", "page outside"):
        folder = tmp_path / fault.replace(" ", "-")
        (folder / "envs").mkdir(parents=True)
        (folder / "docs").mkdir()
        for name in ("envs/site.py", "envs/site.css", "envs/search.js"):
            (folder / name).write_text((ROOT / name).read_text())
        (folder / "README.md").write_text(
            "# A\n\n[b](docs/b.md)\n" + ("[c](docs/c.md)\n" if fault == "dead link" else "")
        )
        (folder / "docs/b.md").write_text(
            "# B\n\n[a](../README.md)\n\n## How far?\n\nA word and 0.25 more of &lt;/script&gt;.\n"
        )
        if fault == "page outside":
            (folder / "docs/d.md").write_text("# D\n")
        settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text()) | {"nav": ["README.md", "docs/b.md"]}
        (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings))
        config = mkdocs.load_config(str(folder / "mkdocs.yml"))
        if fault == "none":
            build(config)
            assert 'href="docs/b.html"' in (folder / "build/site/index.html").read_text()
            searches_by_itself(folder / "build/site")
        else:
            with pytest.raises(Abort):
                build(config)


def searches_by_itself(folder):
    """The page has the box, and loads its index as a script of this folder; a section names its page and its anchor."""
    page = (folder / "docs/b.html").read_text()
    scripts = re.findall(r'<script src="([^"]+)"', page)
    assert [name.partition("/search/")[2] for name in scripts[-3:]] == ["lunr.js", "search_index.js", "search.js"]
    assert all((folder / "docs" / name).is_file() for name in scripts)
    assert 'id="mkdocs-search-query"' in page
    assert not [path for path in (folder / "search").iterdir() if path.suffix == ".json" or path.name == "worker.js"]
    written = (folder / "search/search_index.js").read_text()
    index = json.loads(written.removeprefix("window.searchIndex = ").removesuffix(";\n"))
    [found] = [one for one in index["docs"] if one["location"] == "docs/b.html#how-far"]
    assert (found["page"], found["title"]) == ("B", "How far?")
    assert found["text"] == "A word and more of </script>."
