"""docs/tour.md runs, block by block, in an empty folder, as it promises."""

import time

import pytest
from test_api_examples import blocks

import abi
from abi.cli.main import main


@pytest.mark.long
def test_the_tour_runs_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace, began = {}, time.process_time()
    for block in blocks("docs/tour.md"):
        exec(compile(block, "docs/tour.md", "exec"), namespace)
    said, beside = capsys.readouterr()
    assert "belongs to other weights" in said
    assert "bos_token_id" not in beside  # transformers warns of ids that a vocabulary lacks
    assert time.process_time() - began < 120
    for name in ("small-gpt2", "small-qwen"):  # the folders of the page's last command go together
        given = ["--model", name, "--module", f"{name}-module", "--prompt", "import", "--tokens", "4"]
        assert main(["generate", *given]) == 0, capsys.readouterr().err
    trained, moved = (abi.Module.from_pretrained(f"{name}-module") for name in ("small-gpt2", "small-qwen"))
    assert (trained.record.made_by, moved.record.made_by) == ("train", "transfer")
    gained = abi.evaluate(namespace["gpt2"][0], trained, "domain-texts", namespace["gpt2"][1], window=64)
    assert gained.gain.lower > 0
