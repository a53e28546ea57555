"""The commands on models and texts of one's own: what they write, print and refuse, and how they go on after a kill."""

import json
import logging
import shutil

import pytest

import abi
from abi.api.comparison import Comparison
from abi.api.progress import watched
from abi.base.files import parse_json
from abi.cli import main, use
from abi.cli.watching import Watcher
from abi.models.module import CONFIG


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """An empty folder beside which the models and texts of `world` lie, as `w`."""
    (tmp_path / "w").symlink_to(world)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["train", "--model", "w/small-gpt2", "--texts", "w/queries", "--steps", "20", "--out", "made"]
PAIR = ["--source", "w/small-gpt2", "--target", "w/small-qwen"]
COMPARE = ["compare", *PAIR, "--texts", "w/queries", "--general-texts", "w/prose", "--no-lora"]
COMPARE += ["--regime", "general-only", "--seeds", "2", "--steps", "2", "--train-steps", "4"]


def run(capsys, *arguments, code=0):
    """Run a command; return what it says on stdout and on stderr."""
    assert main.main(list(arguments)) == code
    return capsys.readouterr()


def left(folder):
    """The names in a folder, but for the link to the world."""
    return sorted(path.name for path in folder.iterdir() if path.name != "w")


def test_a_module_is_trained_moved_evaluated_and_writes(here, gpt2, capsys):
    told = parse_json(run(capsys, *TRAIN, "--name", "sql", "--json").out)
    made = abi.Module.from_pretrained("made")
    assert (told["module"], told["out"], told["record"]["steps"]) == (made.sha256, "made", 20)
    assert told["record"]["seen"] == len(made.seen) > 0
    own = abi.train(*gpt2, here / "w" / "queries", name="sql", steps=20)
    assert own.sha256 == made.sha256  # the command is the function
    with abi.attach(gpt2[0], made, tokenizer=gpt2[1]):  # and its module fits a plain model of transformers
        pass
    moving = ["transfer", "--module", "made", *PAIR, "--general-texts", "w/prose", "--steps", "5", "--out", "moved"]
    shown = run(capsys, *moving)
    assert "next: abi evaluate --model w/small-qwen --module moved" in shown.out
    both = "--source w/small-gpt2 --target w/small-qwen --regime general-only"
    assert f"next: abi compare --module made {both} --texts PATH --general-texts w/prose\n" in shown.out + "\n"
    assert "% " in shown.err
    assert " calibrating the module" in shown.err.splitlines()[-1]
    judged = parse_json(
        run(capsys, "evaluate", "--model", "w/small-qwen", "--module", "moved", "--texts", "w/queries", "--json").out
    )
    assert judged["module"] == abi.Module.from_pretrained("moved").sha256
    asked = ["generate", "--model", "w/small-qwen", "--prompt", "SELECT", "--tokens", "4", "--json"]
    plain, moved = (parse_json(run(capsys, *asked, *more).out) for more in ([], ["--module", "moved"]))
    assert plain["module"] is None
    assert moved["module"] == judged["module"]
    assert left(here) == ["made", "moved"]


def test_options_of_training_and_evaluation_reach_the_functions(here, gpt2, capsys):
    given = ["--taps", "1", "--taps", "final", "--rates", "1e-3", "--d-abi", "8"]
    told = parse_json(run(capsys, *TRAIN, *given, "--json").out)
    own = abi.train(*gpt2, here / "w" / "queries", d_abi=8, taps=(1, "final"), rates=(1e-3,), steps=20)
    assert told["module"] == own.sha256
    assert "taps are ['middle']" in run(capsys, *TRAIN, "--force", "--taps", "middle", code=2).err
    asked = ["evaluate", "--model", "w/small-gpt2", "--module", "made", "--texts", "w/queries", "--json"]
    wide, narrow = (parse_json(run(capsys, *asked, *more).out) for more in ([], ["--level", "0.5"]))
    assert wide["gain"]["lower"] < narrow["gain"]["lower"] < narrow["gain"]["upper"] < wide["gain"]["upper"]
    assert len(parse_json(run(capsys, *asked, "--max-windows", "3").out)["documents"]) <= 3


def test_files_of_several_kinds_are_texts(here, world, capsys):
    rows = [path.read_text() for path in sorted((world / "queries").iterdir())]
    (here / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows[:24]))
    (here / "more").mkdir()
    for i, row in enumerate(rows[24:]):
        (here / "more" / f"{i}.txt").write_text(row)
    once = run(capsys, *TRAIN, "--json")
    more = ["--texts", "rows.jsonl", "--texts", "more", "--out", "again"]
    twice = run(capsys, *[word for word in TRAIN if word not in ("--texts", "w/queries")], *more, "--json")
    assert parse_json(once.out)["record"]["texts"] == parse_json(twice.out)["record"]["texts"]


@pytest.fixture
def cached(here, world, monkeypatch):
    """A model in the cache of the hub at two commits, which is offline; the options that name it at the first."""
    place = here / "cache" / "models--me--small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("b" * 40)
    for commit, name in (("a", "small-gpt2"), ("b", "small-qwen")):
        shutil.copytree(world / name, place / "snapshots" / (commit * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return ["--model", "me/small", "--revision", "a" * 40]


def test_a_model_of_the_hub_is_read_at_the_revision_that_is_asked_for_and_records_name_it(here, cached, capsys):
    given = [word for word in TRAIN if word not in ("--model", "w/small-gpt2")]
    said = run(capsys, *given, *cached)
    assert f"next: abi evaluate --model me/small --revision {'a' * 40} --module made" in said.out
    module = abi.Module.from_pretrained("made")
    assert (module.about.base_model, module.about.base_revision) == ("me/small", "a" * 40)
    assert module.record.trained_beside.revision == "a" * 40
    asked = ["evaluate", "--module", "made", "--texts", "w/queries"]
    run(capsys, *asked, *cached)
    assert "wide, and this one is" in run(capsys, *asked, "--model", "me/small", code=2).err  # the newest is another
    asked = ["generate", "--prompt", "SELECT", "--module", "made", "--tokens", "2"]
    run(capsys, *asked, *cached)
    pair = ["--source", "me/small", "--source-revision", "a" * 40, "--target", "me/small"]
    more = ["--general-texts", "w/prose", "--steps", "2", "--out", "moved"]
    run(capsys, "transfer", "--module", "made", *pair, *more)
    assert abi.Module.from_pretrained("moved").record.moved_to.revision == "b" * 40


# what is written


def test_nothing_is_overwritten_without_force_nor_what_abi_did_not_write(here, capsys):
    run(capsys, *TRAIN)
    before = (here / "made" / CONFIG).read_bytes()
    assert "made: is there already; give another folder, or --force" in run(capsys, *TRAIN, code=2).err
    assert (here / "made" / CONFIG).read_bytes() == before
    run(capsys, *TRAIN, "--seed", "2", "--force")
    assert abi.Module.from_pretrained("made").about.seed == 2
    (here / "made" / "thesis.md").write_text("years of work")
    assert "holds thesis.md, which abi did not write" in run(capsys, *TRAIN, "--force", code=2).err
    (here / "file").write_text("")
    assert "is not a folder" in run(capsys, *TRAIN, "--out", "file/made", code=2).err
    assert "is a file" in run(capsys, *TRAIN, "--out", "file", "--force", code=2).err
    (here / "link").symlink_to("made")
    assert (
        "is a file or a link, which abi does not replace" in run(capsys, *TRAIN, "--out", "link", "--force", code=2).err
    )
    assert left(here) == ["file", "link", "made"]


class Interrupted(Watcher):
    """Somebody who presses Ctrl-C at a part."""

    at = ""

    def __call__(self, course, said):
        super().__call__(course, said)
        if said is not None and said.startswith(self.at):
            raise KeyboardInterrupt


def interrupted(monkeypatch, at):
    monkeypatch.setattr(Interrupted, "at", at)
    monkeypatch.setattr(use, "Watcher", Interrupted)


def test_an_interrupted_training_leaves_nothing_half_and_goes_on(here, monkeypatch, capsys):
    whole = parse_json(run(capsys, *TRAIN, "--out", "whole", "--json").out)
    interrupted(monkeypatch, "training a module at rate 0.01")
    said = run(capsys, *TRAIN, code=130)
    assert said.err.endswith("abi: interrupted; the same command goes on from the parts in .made.parts\n")
    assert said.out == ""
    assert left(here) == [".made.parts", "whole"]
    monkeypatch.setattr(use, "Watcher", Watcher)
    again = run(capsys, *TRAIN, "--json")
    assert "going on from .made.parts: 2 texts read, 1 modules trained" in again.err
    assert "reading texts" not in again.err
    assert parse_json(again.out)["module"] == whole["module"]
    assert left(here) == ["made", "whole"]


def test_parts_of_another_call_are_made_anew_and_other_files_are_left(here, monkeypatch, capsys):
    interrupted(monkeypatch, "training a module at rate 0.01")
    run(capsys, *TRAIN, code=130)
    monkeypatch.setattr(use, "Watcher", Watcher)
    assert "holds parts of another call" in run(capsys, *TRAIN, "--name", "other").err
    (here / ".second.parts").mkdir()
    (here / ".second.parts" / "thesis.md").write_text("years of work")
    assert "holds something else than finished parts" in run(capsys, *TRAIN, "--out", "second", code=2).err
    assert left(here / ".second.parts") == ["thesis.md"]


def figures(told):
    """All figures of a comparison but for what it took."""
    return {option.arm: (option.bits_per_byte, option.general, option.lead) for option in told.options}


@pytest.mark.long
def test_a_comparison_that_was_killed_goes_on_from_its_seeds(here, monkeypatch, capsys):
    whole = Comparison.model_validate_json(run(capsys, *COMPARE, "--json").out)
    assert left(here) == []
    interrupted(monkeypatch, "training target's module (oracle), seed 2")
    run(capsys, *COMPARE, "--out", "told", code=130)
    assert left(here) == [".told.parts"]
    monkeypatch.setattr(use, "Watcher", Watcher)
    again = run(capsys, *COMPARE, "--out", "told")
    assert "1 rates chosen, 1 seeds done" in again.err
    assert "seed 1" not in again.err
    assert sorted(path.name for path in (here / "told").iterdir()) == sorted(use.COMPARED)
    told = Comparison.model_validate_json((here / "told" / "comparison.json").read_text())
    assert figures(told) == figures(whole)
    assert (told.verdict, told.choice) == (whole.verdict, whole.choice)
    assert f"plain target: {told.choice}." in again.out
    for option in told.options:
        assert option.cost is None or option.cost.memory_mb >= 0
    assert "general text  seconds  MB  trained numbers" in again.out


# what is refused

REFUSED = {
    "no model of the folder": (["--model", "w/queries"], "w/queries: holds no config.json, so it is no model"),
    "no folder and no hub": (["--model", "no/where"], "no/where: is no folder here, and no model comes from the hub"),
    "a kind that is none": (["--kind", "adapter"], "there is no kind 'adapter'; give 'module', 'portable', 'ngram'"),
    "a revision of a folder": (["--revision", "v1"], "w/small-gpt2: is a folder, which has no revision 'v1'; leave it"),
    "no text": (["--texts", "nowhere"], "'nowhere' is neither a folder nor a file"),
    "no number": (["--steps", "many"], "Invalid value for '--steps'"),
    "no window": (["--window", "4"], "window is 4; give 16 or more"),
    "no steps": (["--steps", "0"], "train: steps is 0; give 1 or more"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_done_is_one_sentence_and_code_2(here, fault, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments, words = REFUSED[fault]
    given = [*TRAIN]
    for option, value in zip(arguments[::2], arguments[1::2], strict=True):
        given = [*given[: given.index(option)], *given[given.index(option) + 2 :]] if option in given else given
        given += [option, value]
    said = run(capsys, *given, code=2)
    assert words in said.err.splitlines()[-1]
    assert sum(line.startswith("abi") for line in said.err.splitlines()) == 1
    assert said.out == ""
    assert left(here) == []


@pytest.mark.parametrize("command", ["train", "distill", "transfer", "compare", "evaluate"])
def test_what_is_asked_is_checked_before_a_model_is_loaded(here, command, monkeypatch, capsys):
    monkeypatch.setattr("abi.api.loading.load_backbone", None)
    trained = ["--kind", "portabel"] if command == "train" else []
    wrong = {
        "train": [*TRAIN, *trained],
        "distill": [
            "distill",
            "--model",
            "m",
            "--adapter",
            "a",
            *"--general-texts w/prose --texts nowhere --out o".split(),
        ],
        "transfer": ["transfer", "--module", "m", "--target", "t", "--out", "o", "--general-texts", "nowhere"],
        "compare": ["compare", "--source", "s", "--target", "t", "--texts", "w/queries", "--general-texts", "w/prose"],
        "evaluate": ["evaluate", "--model", "m", "--module", "m", "--texts", "nowhere"],
    }[command]
    wrong += ["--regime", "fewshot"] if command == "compare" else []
    words = {"train": "no kind 'portabel'", "compare": "regime 'fewshot' is none of"}
    assert words.get(command, "'nowhere' is neither a folder nor a file") in run(capsys, *wrong, code=2).err


def test_a_damaged_model_of_a_user_is_not_to_be_deleted(here, world, capsys):
    (here / "broken").mkdir()
    (here / "broken" / "config.json").write_text((world / "small-gpt2" / "config.json").read_text())
    said = run(capsys, "train", "--model", "broken", "--texts", "w/queries", "--out", "made", code=2)
    assert "broken: is not a loadable backbone" in said.err
    assert "delete" not in said.err


def test_a_shell_is_told_commands_and_options(monkeypatch, capsys):
    def told(*words):
        monkeypatch.setenv("_ABI_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert main.main([]) == 0
        monkeypatch.delenv("_ABI_COMPLETE")
        return capsys.readouterr().out.split()

    assert told("abi", "tr") == ["train", "transfer"]
    assert told("abi", "compare", "--gen") == ["--general-texts"]
    assert told("abi", "new-claim", "--so") == ["--source"]
    assert told("abi", "verify", "--re") == ["--recompute"]
    assert {"--deep", "--against", "--help"} < {*told("abi", "verify", "t5_to_gpt2", "--json", "--")}
    assert told("abi", "run", "t5_to_gpt2", "--cores", "2", "--") == ["--help", "--scale", "--mend"]
    assert told("abi", "verify", "") == told("abi", "nothing", "--re") == []
    assert "complete -o default -F _abi_completion abi" in run(capsys, "completion", "bash").out
    assert "'tcsh' is none of bash, zsh, fish" in run(capsys, "completion", "tcsh", code=2).err


def test_a_model_and_a_backbone_are_one_too_many(capsys):
    for given in ([], ["--model", "a", "--backbone", "gpt2"]):
        assert "give one of --model" in run(capsys, "generate", "--prompt", "a", *given, code=2).err
    assert "not valid UTF-8" in run(capsys, "generate", "--model", "a", "--prompt", "a\udce9", code=2).err


def test_a_warning_of_the_engine_reaches_who_watches():
    told = []
    with watched(lambda _, said: told.append(said)):
        logging.getLogger("abi.arms.alignment").warning("alignment: effective rank %.1f of %d", 2.5, 64)
        logging.getLogger("abi.base.job").info("a line of the log")
    assert told == ["alignment: effective rank 2.5 of 64"]
