"""`abi verify` from outside: exit codes, streams, ASCII, imports, bad input."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import pytest

from abi.cli import main

ROOT = Path(__file__).resolve().parents[2]
EMPTY = tempfile.mkdtemp()  # no results there: what a running pipeline writes decides nothing
LINEAGE = "published_results/cross_lineage_results.json"


@pytest.fixture
def config(tmp_path):
    shutil.copytree(ROOT / "config" / "record", tmp_path / "record")
    return tmp_path


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch):
    monkeypatch.chdir(EMPTY)


def run(*arguments, **options):
    command = [sys.executable, *options.pop("flags", ()), "-m", "abi.cli", *arguments]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"}
    return subprocess.run(
        command,
        cwd=EMPTY,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def regenerate(config):
    root = config / "record"
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*.json"))
    lines = [f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (root / "MANIFEST.sha256").write_text("".join(lines), encoding="utf-8")


def test_a_contradicted_record_is_an_honest_outcome():
    result = run("verify")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.isascii()
    lines = result.stdout.splitlines()
    assert any(line.startswith("record: intact; ") for line in lines)
    assert "Main findings" in lines
    assert (
        result.stdout.index("total ")
        < result.stdout.index("Main findings")
        < result.stdout.index("The original's 31 lines")
    )


def test_verify_imports_neither_torch_nor_numpy():
    result = run("verify", flags=("-X", "importtime"))
    modules = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "abi.audit.record" in modules
    heavy = {"torch", "numpy", "scipy", "pandas", "snakemake", "pydantic", "yaml", "typer", "matplotlib", "jinja2"}
    assert not {name.split(".")[0] for name in modules} & heavy


def test_time_of_verify_as_information(capsys):
    started = time.perf_counter()
    run("verify")
    with capsys.disabled():
        print(f"\nabi verify: {time.perf_counter() - started:.2f} s")


def test_json_is_one_document(capsys):
    assert main.main(["verify", "--json", "t5_update"]) == 0
    data = json.loads(capsys.readouterr().out)["record"]
    assert data["intact"] is True
    assert list(data["claims"]) == ["t5_update"]
    assert {item["claim"] for item in data["items"]} == {"t5_update"}


def test_a_changed_digit_exits_1_and_is_named(config, capsys):
    edit(config / "record" / LINEAGE, "87.95747", "91.05747")
    regenerate(config)
    assert main.main(["verify", "--config", str(config)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert f"{LINEAGE}: leaf efficacy_vs_native_pct" in out
    assert "record: TAMPERED" in out


def test_a_changed_document_exits_1_and_is_named(config, capsys):
    edit(config / "record" / "published.json", '"value": 304.3', '"value": 304.2')
    assert main.main(["verify", "--json", "--config", str(config)]) == 1
    data = json.loads(capsys.readouterr().out)["record"]
    assert data["altered"][0].startswith("published.json: leaf entries/t5_update.efficacy_pct/value")
    assert data["items"] == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / LINEAGE).unlink(), "cross_lineage_results.json: cannot be read"),
        (lambda root: (root / LINEAGE).write_text("{", encoding="utf-8"), "not a readable JSON file"),
        (lambda root: (root / LINEAGE).write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda root: (root / LINEAGE).write_text('{"a": NaN}', encoding="utf-8"), "NaN is not a figure"),
        (lambda root: (root / LINEAGE).write_text('{"a": 1, "a": 2}', encoding="utf-8"), "a key occurs twice"),
        (lambda root: (root / LINEAGE).write_text("[" * 100_000, encoding="utf-8"), "not a readable JSON file"),
        (lambda root: (root / "published.json").write_text("[]", encoding="utf-8"), "not the figures of a record"),
        (
            lambda root: (root / "published.json").write_text('{"entries": {"a": {}}}', encoding="utf-8"),
            "figures of a record",
        ),
        (lambda root: (root / "MANIFEST.sha256").unlink(), "MANIFEST.sha256: cannot be read"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(config, capsys, damage, words):
    damage(config / "record")
    assert main.main(["verify", "--config", str(config)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_a_fault_of_our_own_is_told_from_an_altered_record(monkeypatch, capsys):
    def crash(arguments):
        raise ZeroDivisionError("of nobody's making")

    monkeypatch.setattr(main, "function_of", lambda name: crash)
    assert main.main(["verify"]) == main.CRASHED
    said = capsys.readouterr().err
    assert "ZeroDivisionError: of nobody's making" in said
    assert said.endswith("abi: a fault of abi itself (ZeroDivisionError); please report it\n")


def test_a_library_without_the_pipeline_says_how_it_is_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    monkeypatch.setitem(sys.modules, "rocrate", None)
    monkeypatch.setattr(main, "function_of", lambda name: lambda arguments: __import__("rocrate.rocrate"))
    assert main.main(["verify"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("abi: rocrate is not installed, which this command needs; pip install")
    assert "[pipeline]" in said


def test_a_run_without_the_pipeline_is_refused_before_anything_is_deleted(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "snakemake_interface_logger_plugins", None)
    monkeypatch.setattr("abi.base.recovery.begin", lambda folder: pytest.fail("the run began"))
    monkeypatch.setattr("os.execv", lambda *given: pytest.fail("Snakemake was started"))
    assert main.main(["run", "--scale", "smoke", "t5_to_gpt2"]) == 2
    assert "pip install 'abi-bench[pipeline]'" in capsys.readouterr().err


def test_debug_shows_the_traceback(config):
    shutil.rmtree(config / "record")
    assert "Traceback" not in run("verify", "--config", str(config)).stderr
    for arguments in (("--debug", "verify"), ("verify", "--debug")):
        assert "Traceback" in run(*arguments, "--config", str(config)).stderr


def test_an_unknown_command_lists_the_valid_ones(capsys):
    assert main.main(["verif"]) == 2
    assert (
        capsys.readouterr().err
        == f"abi: 'verif' is not a command; did you mean 'verify'? (valid: {', '.join(main.COMMANDS)})\n"
    )


@pytest.mark.parametrize("more", [[], ["--brief"]])
def test_an_unknown_claim_names_the_closest(capsys, more):
    """With `--brief` a typo passed: results: intact; 0 result files."""
    assert main.main(["verify", "t5_updat", *more]) == 2
    assert (
        capsys.readouterr().err == "abi: 't5_updat' is no claim; did you mean 't5_update'?; `abi claims` lists them\n"
    )


@pytest.mark.parametrize("claim", ["objective_ablation", "gpt2_to_itself", "t5_to_gpt2_few_shot", "reproduce"])
def test_where_there_is_no_result_of_a_claim_nothing_is_called_intact(capsys, claim):
    assert main.main(["verify", claim]) == 2
    assert capsys.readouterr().err == f"abi: results: none of {claim}; `abi claims` says what is built\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "--jsno"], "abi verify: .*--jsno; see `abi verify --help`"),
        (["claims", "--jsno"], "abi claims: .*--jsno.*; see `abi claims --help`"),
        (["show"], "abi show: .*CLAIM"),
        (["plan", "--cores", "many"], "abi plan: .*--cores.* integer"),
        (["--jsno"], "'--jsno' is not an option of abi itself"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, words, capsys):
    assert main.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.search(words, captured.err)


def test_the_version_is_that_of_the_package(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"abi {metadata.version('abi-bench')}\n"


def test_help_is_a_command_too(capsys):
    assert main.main(["help"]) == 0
    told = capsys.readouterr().out
    assert main.main(["--help"]) == 0
    assert capsys.readouterr().out == told != ""


def test_no_command_prints_help_and_exits_2(capsys):
    assert main.main([]) == 2
    assert "verify" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in main.COMMANDS)])
def test_help_shows_one_example_per_command(arguments, capsys):
    assert main.main(arguments) == 0
    assert re.search(r"example:\n +abi ", capsys.readouterr().out)


def in_bash(command):
    return subprocess.run(
        ["bash", "-c", command],
        cwd=EMPTY,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m abi.cli verify | head -1; exit ${{PIPESTATUS[0]}}"
    result = in_bash(command)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_closed_pipe_does_not_hide_tampering(config):
    edit(config / "record" / LINEAGE, "87.95747", "91.05747")
    command = f"{sys.executable} -m abi.cli verify --config {config} | true; exit ${{PIPESTATUS[0]}}"
    result = in_bash(command)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize(("command", "stream"), [("verify", ">&-"), ("claims", ">&-"), ("check", ">&-")])
def test_a_closed_stdout_is_no_error(command, stream):
    result = in_bash(f"{sys.executable} -m abi.cli {command} {stream}")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["claims", "check"])
def test_a_closed_pipe_is_no_error_of_any_command(command):
    result = in_bash(f"{sys.executable} -u -m abi.cli {command} | true; exit ${{PIPESTATUS[0]}}")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_one_sentence():
    result = in_bash(f"{sys.executable} -m abi.cli check > /dev/full")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "stdout: cannot be written (No space left" in result.stderr


def test_interruption_is_one_line(monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("abi.audit.record.judgement.load", interrupt)
    monkeypatch.setattr("abi.cli.config.load", interrupt)
    for command in ("verify", "check"):
        assert main.main([command]) == 130
        assert capsys.readouterr().err == "abi: interrupted\n"
