"""The graph of wings is read from the code and stands in docs/architecture.md as it is."""

from pathlib import Path

from abi.report.graphs import wing_graph

ROOT = Path(__file__).parents[2]


def write(root, files):
    for name, text in files.items():
        path = root / "abi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_imports_are_arrows_wherever_they_stand_unless_a_longer_path_implies_them(tmp_path):
    write(
        tmp_path,
        {
            **{f"{wing}/__init__.py": "" for wing in ("base", "low", "middle", "top")},
            "low/one.py": "import torch\nfrom abi.base import files\n",
            "middle/two.py": "from abi import low\nfrom abi.middle.three import x\n",
            "top/deep/three.py": "def f():\n    import torch\n    from abi.middle.two import x\n    import abi.low.one\n",
        },
    )
    lines = [line.strip() for line in wing_graph(tmp_path).splitlines()]
    assert lines[2:7] == ["flowchart BT", "base[base]", "low[[low]]", "middle[middle]", "top[top]"]
    assert [line for line in lines if "-->" in line] == ["base --> low", "low --> middle", "middle --> top"]


def test_the_page_shows_the_wings_as_they_are():
    assert wing_graph() in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
