"""Documents name files and modules of this repository: each of them is there."""

import re
from pathlib import Path

import pytest

import abi

ROOT = Path(__file__).parents[2]
FOLDERS = "abi|benchmarks|config|docs|envs|profiles|scripts|tests|workflow"
FILE = re.compile(rf"(?<![\w./<>-])(?:{FOLDERS})/[\w./-]*(?![\w./*<-])")
MODULE = re.compile(r"`(abi\.[\w.]+)`")
MADE = {"config/scales/paper.lock.yaml", "config/scales/mine.yaml"}
"""Files that a command of the same page writes."""
RECORD = ROOT / "docs" / "record.md"
"""It quotes what the original says of its own files."""
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "config/README.md", "results/README.md")
    ),
    *sorted(set((ROOT / "docs").glob("*.md")) - {RECORD}),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    files = {name.rstrip(".") for name in FILE.findall(text)} - MADE
    modules = {name for name in MODULE.findall(text) if name.removeprefix("abi.") not in abi.__all__}
    files |= {f"{'/'.join(name.split('.'))}.py" for name in modules}
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
