"""Digests follow the wings: which rules an edit of a file reruns, file by file."""

import ast
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from abi.base import digest
from abi.base.definitions import parsed
from abi.base.digest import code_digest, names_reached, parse_ahead, reached
from abi.base.job import code_of, computing, release, software_of, step_of
from abi.base.regimes import REGIMES

ROOT = Path(__file__).parents[2]
RULES = {path.stem for path in (ROOT / "abi" / "steps").glob("*.py")} - {"__init__"}
JUDGES = {"judge_claim", "judge_study", "judge_ladder"}
PAGES = {"summarise", "tabulate_transfers", "tabulate_experiments", "write_cards", "write_report"}
READ_RESULTS = JUDGES | PAGES
FITS = {"calibrate_arms", "choose_rates", "train_lora", "evaluate_experiment"}  # the last fits arms of its own, too
EVIDENCE = {"evaluate_arms", "evaluate_studies", "evaluate_experiment"}

RERUN = {
    "abi/text/grammar.py": {"build_text"},
    "abi/text/sources.py": {"build_text"},
    "abi/plan/specs/text.py": {"build_text", "measure_overlap"},
    "abi/models/build.py": {"build_backbone"},
    "abi/models/wheels.py": {"build_backbone"},
    "abi/models/lora.py": {"train_lora"},
    "abi/models/update.py": {"update_backbone"},
    "abi/arms/fitting.py": FITS,
    "abi/arms/rates.py": FITS - {"calibrate_arms"},
    "abi/base/catalogue.py": FITS | READ_RESULTS - {"tabulate_experiments"},
    "abi/base/manifests/rates.py": FITS | READ_RESULTS,
    "abi/arms/metrics.py": EVIDENCE,
    "abi/models/kernels.py": EVIDENCE | FITS | {"train_modules", "train_updated_modules"},
    "abi/arms/atlas.py": {"evaluate_studies"},
    "abi/judge/verdict.py": JUDGES,
    "abi/judge/intervals.py": JUDGES | {"simulate_studies"},
    "abi/judge/simulation.py": {"simulate_studies"},
    "abi/judge/kinds/atlas.py": JUDGES,
    "abi/judge/results.py": READ_RESULTS,
    "abi/judge/left_out.py": JUDGES - {"judge_ladder"},
    "abi/plan/specs/judge.py": READ_RESULTS | {"simulate_studies"},
    "abi/plan/specs/report.py": PAGES - {"summarise", "tabulate_experiments"},
    "abi/report/cards.py": {"write_cards"},
    "abi/report/page.py": {"write_report"},
    "abi/audit/record/sweeps.py": {"write_report"},  # which quotes the judgement of the record
    "abi/audit/results/rejudge.py": set(),
    "abi/plan/workflow.py": set(),
    "abi/plan/kinds/arms.py": set(),
    "abi/plan/measured.py": {"write_report"},
    "abi/cli/main.py": set(),
    "abi/base/job.py": set(),
    "abi/base/warm.py": set(),
}


RERUN_BY_NAME = {
    "abi/base/catalogue.py:ARMS": READ_RESULTS - {"tabulate_experiments"},  # a new arm
    "abi/base/regimes.py:KINDS": READ_RESULTS - {"tabulate_experiments"},  # a new kind of claim
    "abi/plan/specs/models.py:NgramSection": {"evaluate_arms"},
    "abi/plan/specs/models.py:TrainModules": {"train_modules", "train_updated_modules"},
    "abi/arms/metrics.py:ngram_scores": {"evaluate_arms"},
    "abi/models/kernels.py:_top_ids": EVIDENCE,
    "abi/models/attach.py:Attached": {"evaluate_experiment", "generate_text", "write_lesson_text"},
    "abi/models/attach_any.py:AttachedAny": set(),
    "abi/models/ngram_mixture.py:NgramMixture": set(),
    "abi/models/logit_shift.py:LogitShift": set(),
    "abi/models/portable.py:placebo_of": {"calibrate_placebos", "evaluate_arms"},
    "abi/base/typed.py:Provenance": RULES,
}
"""File and definition -> the rules that an edit of it reruns."""


@pytest.mark.parametrize("edited", RERUN_BY_NAME)
def test_an_edit_of_a_definition_reruns_what_may_reach_it_alone(edited):
    file, name = edited.split(":")
    assert {rule for rule in RULES if name in names_reached([step_of(rule)]).get(file, ())} == RERUN_BY_NAME[edited]


def test_what_was_parsed_ahead_is_found_by_its_bytes_and_an_edit_is_not_missed(tmp_path, monkeypatch):
    (tmp_path / "abi/steps").mkdir(parents=True)
    for name in ("__init__.py", "steps/__init__.py", "other.py"):
        (tmp_path / "abi" / name).write_text("")
    step = tmp_path / "abi/steps/fit.py"
    step.write_text("from abi import other\nWIDTH = 3\nother\n")
    start, own = "abi/steps/fit.py", []
    parse_ahead([start], tmp_path)
    monkeypatch.setattr(digest, "parsed", lambda contents, *given: own.append(contents) or parsed(contents, *given))
    before = code_digest(start, root=tmp_path)
    assert own == []
    step.write_text("from abi import other\nWIDTH = 4\nother\n")
    for cached in (digest._source, digest.reached):
        cached.cache_clear()  # as in another process
    assert code_digest(start, root=tmp_path) != before
    assert own == [step.read_bytes()]


@pytest.mark.parametrize("edited", RERUN)
def test_an_edit_reruns_the_rules_of_its_wing_alone(edited):
    assert (ROOT / edited).is_file()
    assert {rule for rule in RULES if edited in reached((step_of(rule),))} == RERUN[edited]


UNSEEN = {"globals", "eval", "exec", "__import__", "__init_subclass__", "__subclasses__", "__set_name__", "__getattr__"}
BY_NAME = {
    "abi/steps/calibrate_arms.py",
    "abi/steps/choose_rates.py",
    "abi/judge/kinds/__init__.py",
    "abi/audit/results/records.py",
}
"""Files that import by a name: `starts_of` and the walk know what."""


def test_no_rule_runs_what_the_digest_cannot_follow():
    files = {file for rule in RULES for file in reached((step_of(rule),)) if file.endswith(".py")}
    for file in files:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = {getattr(node, "id", getattr(node, "name", "")) for node in ast.walk(tree)}
        assert file == "abi/base/sandboxed.py" or not names & UNSEEN, file  # which runs the code of others
        assert "import_module" not in names or file in BY_NAME
        assert not any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)), file


@pytest.mark.parametrize("wing", ["plan", "audit/results", "cli"])
def test_no_rule_depends_on_what_plans_audits_and_commands(wing):
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "abi" / wing).rglob("*.py") if "specs" not in path.parts}
    found = {file for rule in RULES for file in reached((step_of(rule),)) if file in files}
    assert {Path(file).name for file in found} <= {"__init__.py", "measured.py"}


def test_a_calibration_depends_on_the_teacher_of_its_own_regime():
    taught = [regime for regime in REGIMES.values() if regime.lesson]
    codes = {code_of("calibrate_arms", {"regime": regime.name}) for regime in taught}
    assert len(codes) == len({regime.lesson for regime in taught}) == 3
    for regime in taught:
        assert (ROOT / "abi" / "arms" / f"{regime.lesson}.py").is_file()
    shared = reached((step_of("calibrate_arms"),))
    assert not {f"abi/arms/{regime.lesson}.py" for regime in taught} & set(shared)


def test_a_choice_of_rates_depends_on_its_teacher_and_on_adapters_where_it_has_some():
    def code(regime, *arms):
        return code_of("choose_rates", {"regime": regime, "arms": arms})

    assert len({code(regime, "bias") for regime in ("oracle-kd", "few-shot", "general-only")}) == 3
    assert code("oracle-kd", "bias") == code("reconstruction", "bias")
    assert code("oracle-kd", "bias") != code("oracle-kd", "bias", "lora")
    assert "abi/models/lora.py" not in reached((step_of("choose_rates"),))


def reworded(tmp_path, file, old, new):
    """The rules whose digest changes when a file of a copy is edited."""
    before, after = tmp_path / "before", tmp_path / "after"
    for copy in (before, after):
        shutil.copytree(ROOT / "abi", copy / "abi", ignore=shutil.ignore_patterns("__pycache__"))
    text = (after / file).read_text(encoding="utf-8")
    assert old in text
    (after / file).write_text(text.replace(old, new), encoding="utf-8")
    return {rule for rule in RULES if code_digest(step_of(rule), root=before) != code_digest(step_of(rule), root=after)}


def test_words_of_the_catalogue_count_for_what_shows_them_alone(tmp_path):
    found = reworded(tmp_path, "abi/base/catalogue.py", 'words="the claimed arm"', 'words="the arm that is claimed"')
    shown = {rule for rule in RULES if any(name.startswith("abi/report/") for name in reached((step_of(rule),)))}
    assert found == shown & RERUN["abi/base/catalogue.py"]
    assert "summarise" in found
    assert "train_modules" not in found


def test_words_elsewhere_count(tmp_path):
    assert "judge_study" in reworded(tmp_path, "abi/judge/studies.py", "words=", "words=1 or ")


def test_every_rule_whose_figures_hang_on_packages_names_their_releases():
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    named = dict(
        re.findall(r'use rule step as (\w+) with:(?:(?!\n\n\n).)*?software=software_of\("(\w+)"\)', text, re.S)
    )
    assert all(rule == given for rule, given in named.items())
    assert set(named) == {rule for rule in RULES if software_of(rule)}
    compiling = {rule for rule in RULES if "abi/models/kernels.py" in reached((step_of(rule),), ROOT)}
    assert compiling == {rule for rule in RULES if "numba" in software_of(rule)}


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [("torch", "2.13.0+cpu", "2.13.0"), ("torch", "2.13.0+cu130", "2.13.0"), ("python", "3.11.7", "3.11")],
)
def test_another_build_of_a_release_reruns_nothing(name, version, expected):
    assert release(name, version) == expected


def test_a_step_computes_where_its_code_reaches_models_or_arms():
    """In a warm process torch is there for every job, so provenance cannot go by that."""
    for rule in RULES:
        wings = {Path(name).parts[1] for name in reached((step_of(rule),), ROOT)}
        assert computing(import_module(f"abi.steps.{rule}")) is bool({"models", "arms"} & wings), rule


CARRIED = {
    "abi/base/files.py": {
        "write_tensors": "d2976d3a3fde", "read_tensors": "612b31857262", "parse_json": "132823953124", "sha256_file": "b2d7c4e457c0", "sha256_tensors": "0f8e9a5b656f", "sha256_json": "5d3c79691584",
    },
    "abi/base/job.py": {"_placed": "8b0e83f171d9"},
}  # fmt: skip
"""Definitions that no digest holds although figures pass through them -> the digest of each."""


def test_what_carries_figures_outside_every_digest_is_as_it_was():
    """After an edit here that changes a byte of a file, rerun everything (`--forceall`); then write down the digest."""
    found = {}
    for name, asked in CARRIED.items():
        source = parsed((ROOT / name).read_bytes(), Path(name).parts[:-1], ())
        found[name] = {one: d.digest[:12] for d in source.definitions for one in d.names if one in asked}
    assert found == CARRIED


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        ("class A:\n    a: int\n    b: int\n", "class A:\n    b: int\n    a: int\n", True),
        ("D = {1: 2, 3: 4}\n", "D = {3: 4, 1: 2}\n", True),
        ("call(1)\ncall(2)\n", "call(2)\ncall(1)\n", True),
        ("import abi.a\nimport abi.b\n", "import abi.b\nimport abi.a\n", False),
    ],
    ids=["fields", "entries of a dict", "statements", "imports"],
)
def test_order_counts_but_for_that_of_imports(tmp_path, one, other, counts):
    digests = []
    for name, code in (("one", one), ("other", other)):
        (tmp_path / name / "abi").mkdir(parents=True)
        for file, content in (("__init__", ""), ("a", "act()\n"), ("b", "act()\n"), ("step", code)):
            (tmp_path / name / "abi" / f"{file}.py").write_text(content)
        digests.append(code_digest("abi/step.py", root=tmp_path / name))
    assert (digests[0] != digests[1]) == counts
