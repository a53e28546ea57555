"""`abi new-claim`: what it writes, what stays, what it refuses; and the guide that tells of it, on models built here."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import api_world
import pytest
import yaml
from test_documents import OWN, ROOT, commands

from abi.base.errors import ConfigError
from abi.base.files import write_texts
from abi.cli import main
from abi.cli.new_claim import inserted
from abi.cli.options import folder_name, labelled
from abi.plan.config import load
from abi.plan.workflow import Workflow

GUIDE = [c[1:] for c in commands(ROOT / "docs" / "extending.md") if c[:2] == ["abi", "new-claim"]]
FILES = ("config/claims.yaml", "config/scales/smoke.yaml")
FOLDERS = 70


@pytest.fixture(scope="module")
def home(world, tmp_path_factory):
    """A home with two models of one's own and notes in many folders."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(world / "small-gpt2", folder / "models" / "first")
    shutil.copytree(world / "small-qwen", folder / "models" / "second")
    for i, text in enumerate(api_world.queries(FOLDERS)):
        api_world.write(folder / "notes" / f"{i:03d}", [text], ".md")
    return folder


@pytest.fixture
def root(home, tmp_path, monkeypatch):
    """A checkout with a configuration, as the working directory; its user's home is `home`."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    return tmp_path


def run(capsys, *arguments, code=0):
    """Run the command; return what it says on stdout, or on stderr."""
    assert main.main(["new-claim", *arguments]) == code
    out, error = capsys.readouterr()
    return out if code == 0 else error


def texts(root):
    """File of configuration -> its text."""
    return {path.relative_to(root): path.read_text() for path in sorted((root / "config").rglob("*.yaml"))}


def test_the_guide_makes_folders_and_notes_a_claim_that_is_valid(root, capsys):
    before = texts(root)
    said = [run(capsys, *command[1:]) for command in GUIDE]
    assert f"wrote config/claims.yaml: claims.{OWN}\n" in said[0]
    assert "wrote config/scales/smoke.yaml: sources.notes, texts.notes, backbones.first, backbones.second\n" in said[0]
    assert "config/scales" not in said[1]  # what the first has written is known by its name
    shown = [line.removeprefix("next: ") for line in said[0].splitlines() if line.startswith("next: ")]
    page = [" ".join(c) for c in commands(ROOT / "docs" / "extending.md")]
    assert [line for line in shown if line in page] == shown != []
    workflow = Workflow(load("smoke", root))
    assert workflow.scale.backbones["first"].folder.path == "~/models/first"
    assert workflow.scale.backbones["second"].width == 40
    assert workflow.scale.backbones["second"].window.length == 64  # the model has no more positions
    claim = workflow.claim(OWN)
    assert (claim.source, claim.target, claim.text, claim.regime) == ("first", "second", "notes", "few-shot")
    assert {"second_to_first", "second_to_first_general_only"} <= {*workflow.config.claims}
    assert OWN in load("tiny", root).pending
    for file, text in texts(root).items():
        lines = iter(text.splitlines())
        assert all(line in lines for line in before[file].splitlines()), "lines and their order stay"
        if str(file) not in FILES:
            assert text == before[file]


def test_an_encoder_decoder_gets_a_prefix_and_a_built_pair_every_scale_that_has_it(root, make_backbone, capsys):
    from abi.models.backbone import save_backbone

    save_backbone(make_backbone("t5"), root / "T5 of mine")
    run(
        capsys,
        "--source",
        "gpt2",
        "--target",
        "t5=T5 of mine",
        "--text",
        "sql",
        "--scale",
        "smoke",
        "--module",
        "narrow",
        code=2,
    )
    run(capsys, "third", "--source", "gpt2", "--target", "qwen", "--text", "python", "--seeds", "4")
    entry = yaml.safe_load((root / FILES[0]).read_text())["claims"]["third"]
    assert entry["seeds"] == 4
    assert {"tiny", "smoke", "tiny_r1"} <= {*entry.get("scales", ["tiny", "smoke", "tiny_r1"])}
    assert "real" not in entry.get("scales", [])
    training = "{batch: 32, phases: [{steps: 40, lr: 2.0e-3, warmup: 4, decay: cosine}]}"
    added = f"\nmodules:\n  narrow: {{d_abi: 8, taps: [final], tap_norms: false, training: {training}}}"
    path = root / FILES[1]
    path.write_text(path.read_text().replace("\nmodules:", added))
    t5 = ["--source", "gpt2", "--target", "t5=T5 of mine", "--text", "python", "--scale", "smoke", "--module", "narrow"]
    run(capsys, *t5)
    window = load("smoke", root).scale.backbones["t5"].window
    assert (window.length, window.prefix) == (128, 64)


def test_a_scale_that_lists_its_claims_gets_one_more(root, capsys):
    path = root / "config/scales/real.yaml"
    path.write_text(path.read_text().replace("accepts: []", "accepts: [gemma]"))
    said = run(capsys, "mine", "--source", "smollm2", "--target", "gemma3", "--text", "python", "--scale", "real")
    assert "wrote config/scales/real.yaml: claims: mine" in str(said)
    assert "mine" in load("real", root).claims
    assert (
        "claims: [smollm2_same_backbone, gemma3_to_smollm2, smollm2_to_gemma3, smollm2_to_itself, smollm2_update, mine]"
        in path.read_text()
    )
    assert "mine" in load("tiny", root).pending


def test_a_flat_folder_is_a_text_of_as_many_groups_as_files(root, capsys):
    flat = root / "flat"
    flat.mkdir()
    for path in sorted(Path.home().glob("notes/*/*")):
        (flat / f"{path.parent.name}-{path.name}").write_text(path.read_text())
    said = run(capsys, "mine", *PAIR[:4], "--text", str(flat), "--scale", "smoke")
    assert "each file of flat is a group, since its folders are too few" in said
    [place] = load("smoke", root).scale.sources["flat"]
    assert place.group_by == "file"


def test_it_asks_for_what_is_left_out(root, monkeypatch, capsys):
    answers = io.StringIO("gpt2\nqwen\npython\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", answers)
    assert main.main(["new-claim", "asked"]) == 0
    said = capsys.readouterr()
    assert said.err == "Which model does the module come from? Which model does it move to? Which text is the domain? "
    assert "claims.asked" in said.out
    assert load("tiny", root).claims["asked"].target == "qwen"


def test_of_several_files_all_are_written_or_none(tmp_path):
    first, second = tmp_path / "a" / "first", tmp_path / "second"
    write_texts({first: "old", second: "old"})
    with pytest.raises(UnicodeEncodeError):
        write_texts({first: "new", second: "\udc00"})
    with pytest.raises(UnicodeEncodeError):
        write_texts({first: "\udc00", second: "new"})
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["old", "old"]
    write_texts({first: "new", second: "new"})
    assert first.read_text() == second.read_text() == "new"


PAIR = ["--source", "gpt2", "--target", "qwen", "--text", "python"]
REFUSED = {
    "taken": (["gpt2_to_qwen", *PAIR], "'gpt2_to_qwen' is taken under claims; give another name"),
    "no name": (["My Claim", *PAIR], "'My Claim' is no name"),
    "one letter": (["x", *PAIR], "'x' is no name; give two or more of a to z, 0 to 9 and _, a letter first"),
    "word of the Makefile": (["smoke", *PAIR], "is a word of the Makefile"),
    "kind": ([*PAIR, "--kind", "atlas"], "it writes no 'atlas' .valid: transfer, near_transfer."),
    "backbone": (["xx", "--source", "gpt", *PAIR[2:]], "'gpt' is no folder, no hub id .* did you mean 'gpt2'"),
    "text": (["xx", *PAIR[:4], "--text", "pyton"], "'pyton' is no folder and no text .* did you mean 'python'"),
    "regime": (["xx", *PAIR, "--regimes", "few-shto"], "'few-shto'"),
    "regimes of a near transfer": (
        ["xx", *PAIR, "--kind", "near_transfer", "--regimes", "few-shot"],
        "a near_transfer has no regimes; take out --regimes, or write a transfer",
    ),
    "target of another": (["gpt2_to_qwen_few_shot", *PAIR], "'gpt2_to_qwen_few_shot' is a target of gpt2_to_qwen, one"),
    "module": (["xx", *PAIR, "--module", "standrad"], "'standrad' is not a module.*; did you mean 'standard'"),
    "seeds": (["xx", *PAIR, "--seeds", "none"], "Invalid value for '--seeds'"),
    "nobody to ask": (["xx"], "there is no terminal to ask on"),
    "too wide": (
        ["xx", *PAIR[:2], "--target", "~/models/second", *PAIR[4:]],
        "64 is too large for second: 40 wide .*lower it, or add a narrower shape under .* name it with --module",
    ),
    "a backbone's name": (
        ["x", *PAIR[:2], "--target", "gpt2=~/models/first", *PAIR[4:]],
        "'gpt2' is taken under backb",
    ),
    "no model": (["xx", *PAIR[:2], "--target", "~/notes", *PAIR[4:]], "gives no config of a model"),
    "one group": (["xx", *PAIR[:4], "--text", "~/notes/000"], "it has . files?, give more .docs/extending.md, A text."),
    "no text": (["xx", *PAIR[:4], "--text", "~/models/first"], "holds no file that ends with .txt, .md, .py"),
    "scale": (["xx", *PAIR, "--scale", "tin"], "no scale 'tin'; did you mean 'tiny'"),
}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: [file.unlink() for file in folder.glob("tokenizer*")], "holds no tokenizer"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "cannot be read as safetensors"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "its tokenizer cannot be read"),
        (lambda folder: shutil.copy(folder.parent / "first" / "tokenizer.json", folder), "do not belong together"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(home, root, damage, words, capsys):
    broken = home / "models" / "broken"
    shutil.copytree(home / "models" / "second", broken)
    try:
        damage(broken)
        said = run(capsys, "xx", *PAIR[:2], "--target", str(broken), *PAIR[4:], code=2)
    finally:
        shutil.rmtree(broken)
    assert words in said
    assert said.count("\n") == 1


def test_a_claim_that_can_show_nothing_is_noted(root, capsys):
    said = run(capsys, "xx", *PAIR[:4], "--text", "general", "--seeds", "2")
    assert said.count("note: claims.xx: a verdict needs 3 seeds, and it has 2: no interval, hence no verdict\n") == 1
    assert "note: both models are aligned on general" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("extends: tiny\nscale: mine\nmax_sedes: 3\n", "config/scales/mine.yaml: unknown key 'max_sedes'"),
        ("extends: tiny\nscale: mine\nalignment: {text: prose}\n", "mine.yaml: alignment.text: 'prose' is not a text"),
    ],
)
def test_another_scale_that_is_broken_is_named_and_hinders_no_claim(root, content, words, capsys):
    (root / "config/scales/mine.yaml").write_text(content)
    said = run(capsys, "xx", *PAIR)
    assert "checked: every other scale is valid with it; it runs at " in said
    assert re.search(f"note: scale mine is not valid, with this claim or without: .*{re.escape(words)}", said)
    assert "xx" in load("tiny", root).claims


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_a_claim_is_refused_and_nothing_is_written(root, fault, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    before = texts(root)
    arguments, words = REFUSED[fault]
    said = run(capsys, *arguments, code=2)
    assert re.search(words, said), said
    assert said.count("\n") == 1
    assert texts(root) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\n", "a: 1\n\nb:\n  x: [1]\n"),
        ("b:  # these\n  y: 2\n\n# of c\nc: 3\n", "b:  # these\n  y: 2\n  x: [1]\n\n# of c\nc: 3\n"),
        ("b:\n  y: >-\n    long\n    text\n# end\n", "b:\n  y: >-\n    long\n    text\n  x: [1]\n# end\n"),
    ],
)
def test_an_entry_goes_to_the_end_of_its_section(text, expected):
    assert inserted(text, "b", "x", [1], "file") == expected


def test_a_section_in_one_line_is_left_to_the_user():
    with pytest.raises(ConfigError, match="b is written in one line"):
        inserted("b: {y: 2}\n", "b", "x", 1, "file")


@pytest.mark.long
@pytest.mark.workflow
def test_snakemake_plans_the_claim_of_the_guide(home, tmp_path, monkeypatch, capsys):
    for part in ("abi", "config", "profiles", "scripts", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    run(capsys, *GUIDE[0][1:])
    command = [sys.executable, "-m", "snakemake", "-n", OWN, "--config", "scale=smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    jobs = dict(re.findall(r"(?m)^(\w+) +(\d+)$", done.stdout))
    assert (jobs["build_backbone"], jobs["build_text"], jobs["judge_claim"]) == ("2", "3", "1")
    assert Path("config/claims.yaml").read_text().count(f"  {OWN}:") == 1


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("mine=/models/a", ("mine", "/models/a")),
        ("/runs/lr=3/m", ("", "/runs/lr=3/m")),
        ("user/model", ("", "user/model")),
    ],
)
def test_a_name_stands_before_the_sign_and_a_place_may_hold_one(given, found):
    assert labelled(given) == found


def test_a_folder_that_is_meant_by_a_point_has_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_name(".") == tmp_path.name
