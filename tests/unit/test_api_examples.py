"""Every example that a user may paste runs: of the README, the guide and the docstrings."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import api_world
import pytest
from sweeps import first
from test_documents import ELSEWHERE, commands

import abi
from abi.cli import main

ROOT = Path(__file__).parents[2]


PARTS = {
    "Module": ("with_verdict", "save_pretrained", "from_pretrained", "push_to_hub"),
    "Several": ("generate",),
}
"""Public class -> its methods that have an example of their own."""


def blocks(page):
    """The Python of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(world, adapter, tmp_path, monkeypatch):
    """A folder with what the examples of the documents name."""
    named = {"first-model": "small-gpt2", "second-model": "small-qwen", "domain-texts": "queries"}
    for name, there in {**named, "general-texts": "prose"}.items():
        shutil.copytree(world / there, tmp_path / name)
    api_world.moved_adapter(adapter, tmp_path / "first-adapter", "first-model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_the_example_of_the_readme_runs_in_a_fresh_process(folder):
    [example] = blocks("README.md")
    (folder / "example.py").write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = os.times()
    done = subprocess.run(
        [sys.executable, "example.py"], env=environment, capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SELECT")
    assert os.times().children_user - began.children_user < 60  # of CPU: other tests may run beside it


def own(page):
    """The commands of a page on the models of `folder`, in order."""
    asked = ELSEWHERE - {"demo"}  # which serves until it is interrupted: test_demo.py
    return [c[1:] for c in commands(ROOT / page) if c[0] == "abi" and c[1] in asked and "--backbone" not in c]


@pytest.mark.parametrize(
    ("page", "least"), [("README.md", 3), pytest.param("docs/library.md", 5, marks=pytest.mark.long)]
)
def test_the_commands_of_a_page_run_one_after_the_other(folder, page, least, capsys):
    asked = own(page)
    assert len(asked) >= least
    for command in asked:
        quick = ["--steps", "5"] if command[0] in ("train", "transfer") and "--steps" not in command else []
        quick += ["--train-steps", "5"] if command[0] == "compare" else []
        assert main.main([*command, *quick]) == 0, capsys.readouterr().err
    assert "SELECT" in capsys.readouterr().out


@pytest.mark.long
def test_the_guide_runs_block_by_block(folder):
    namespace = {}
    for block in blocks("docs/library.md"):
        exec(compile(block, "docs/library.md", "exec"), namespace)
    assert namespace["found"].gain.lower > 0


@pytest.mark.parametrize(
    "name",
    first(
        2, ["attach", "evaluate", "Module", "Several", "detach", "generate", "train", "distill", "transfer", "compare"]
    ),
)
def test_every_public_docstring_has_an_example_that_runs(name, gpt2, qwen, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my-lora").symlink_to(adapter)
    known = {"abi": abi, "texts": api_world.queries(24), "general_texts": api_world.prose(24)}
    known |= dict(zip(("model", "tokenizer", "other", "other_tokenizer"), (*gpt2, *qwen), strict=True))
    thing = getattr(abi, name)
    found = [test for test in doctest.DocTestFinder().find(thing, name, globs=known) if test.examples]
    assert {test.name for test in found} == {name, *(f"{name}.{part}" for part in PARTS.get(name, ()))}
    for test in found:
        told = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append, clear_globs=False)
        assert not told, "".join(told)
