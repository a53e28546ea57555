"""Experiments: statements judged from evidence whose truth is known, judged again, forged, and one made end to end."""

import copy
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from evidence_rows import ROOT, rows
from made_results import WORKFLOW, draws, manifest, put, write_csv, write_text_records
from made_studies import judge_study
from rescaled import rescaled
from study_world import World, job, small_workflow

from abi.arms.generated_code import FAILS_ALIKE, PASSES_ALIKE
from abi.audit.record.arithmetic import lookup
from abi.audit.results.findings import Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.relations import check_result
from abi.base.diagnostics import CODE, WAYS
from abi.base.files import sha256_tensors
from abi.base.job import Job, code_of
from abi.base.manifests.experiments import FitsManifest
from abi.judge import evidence_files
from abi.judge.evidence_files import COLUMNS
from abi.judge.kinds.experiment import alike, of_placebo
from abi.judge.published import figures_of
from abi.judge.results import StudyResult, result_of
from abi.judge.rows import read_evidence
from abi.models.saved import module_of_seed
from abi.plan.workflow import Workflow, seeds_of
from abi.report.experiments import page, statements_table
from abi.report.statements import OF_STATEMENTS, told
from abi.report.words import plain_words
from abi.steps import evaluate_experiment, train_modules

CLAIM = "analytical_calibration"
TRUE = {"raw": 0.0, "oracle": 1.0, "reference": 1.0, "solved": 0.9, "steps": 0.7, "solved-50": 0.8, "solved-200": 0.8,
        "solved-800": 0.8, "drawn": 0.1, "random-solved": 0.5, "random": 0.45, "linear": 0.4}  # fmt: skip


def make(claim_id, levels, groups=32, tasks=None):
    """The result of an experiment from made-up evidence: level 0 is the plain backbone, level 1 an oracle.

    Args: tasks: arm -> the share of tasks that it passes.
    """
    jobs, inputs = WORKFLOW.of(claim_id), WORKFLOW.of(claim_id).verdict_input()
    spec, [told], frames = jobs.evidence_spec(jobs.batch()), inputs["manifests"], []
    for i, (study, about) in enumerate(spec["studies"].items()):
        arms = {arm: levels[arm] for arm in ("raw", "oracle", "reference", *about["arms"])}
        arms["candidate"] = arms.pop(about["about"])
        frame = rows(arms, n_groups=groups, per_group=1, seed=i, n_seeds=len(spec["seeds"])).assign(fit=study)
        frames.append(frame[frame["scope"].isin(spec["scopes"])])
        frames += [task_rows(study, arms, about.get("code", []), len(spec["seeds"]), tasks or {})]
    frame = pd.concat(frames, ignore_index=True)
    loss = frame[frame["metric"] == "bits_per_byte"].assign(metric="loss_nats", value=lambda f: 2 * f["value"])
    frame = pd.concat([frame, loss], ignore_index=True).assign(seed=lambda f: f["seed"] + 1)
    write_csv(inputs["evidence"][0], frame)
    write_csv(inputs["draws"][0], draws("s", "arm").assign(seed=1))
    running = Job("evaluate_experiment", spec, code_of("evaluate_experiment", {}), [], 1)
    evidence_files.write_promise(told, running.provenance())
    grid = spec["budget"]["rates"]
    tried = [
        {"arm": name, "objectives": [2.0, 1.0, *[3.0] * (len(grid) - 2)], "rate": grid[1], "at_end": False}
        for name, arm in spec["arms"].items() if arm.get("by") == "steps" and "rate_of" not in arm
    ]  # fmt: skip
    body = {"seed": 0, "grid": grid, "tried": tried, "arms": [], "provenance": running.provenance()}
    FitsManifest.model_validate(body).write(inputs["fits"][0])
    write_text_records(WORKFLOW, claim_id)
    for path in inputs["modules"]:
        _, text, shape, role = Path(path).parts[3:7]
        entries = [
            {"seed": s, "folder": "m", "sha256": "a" * 64, "domain_sha256": "a" * 64, "steps": 3, "final_loss": 0.5,
             "elapsed_s": 2.5, "n_parameters": 11} for s in seeds_of(Path(path).stem)
        ]  # fmt: skip
        module = WORKFLOW.module_spec(text, shape, role, Path(path).stem)
        manifest(path, "modules", "train_modules", module, {"modules": entries})
    judge_study(claim_id)
    return json.loads(Path(WORKFLOW.result_file(claim_id)).read_text())


def task_rows(study, arms, metrics, n_seeds, tasks):
    """Figures of generated code on sixty tasks: an arm passes the easiest of them, in every decoding alike."""
    found = []
    for metric in metrics:
        for arm in arms:
            share = tasks.get(arm, 0.0)
            for seed in range(n_seeds):
                for task in range(60):
                    passed = task + seed % 2 < 60 * share
                    other = task < 60 * tasks.get("reference", 0.0)
                    least = 0.4 if metric.startswith("fails") else 0.45
                    alike = 1.0 if passed == other else 0.0
                    alike = least if passed and other and metric.startswith("fails") else alike
                    alike = least if not (passed or other) and metric.startswith("passes") else alike
                    value = alike if "alike" in metric else float(passed)
                    found.append((study, arm, 0, seed, "tasks", f"t{task}", f"t{task}", 48, metric, value))
    return pd.DataFrame(found, columns=COLUMNS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(result):
    return {study: fit["verdict"] for study, fit in result["fits"].items()}


def found(result):
    """The leaves that `abi verify` names."""
    checks = Checks("r.json")
    check_result(checks, ResultFile(Path("r.json"), result, result_of(result, "r.json")), {}, figures_of)
    return {finding.leaf for finding in checks.found}


def test_general_text_that_an_experiment_is_also_trained_on_is_left_out_where_train_holds_it(folder):
    """It is one of the texts of the claim: the plan says which of them a test on general text is about."""
    levels = dict.fromkeys(WORKFLOW.of("non_interference").claim.arms, 0.9)
    result = make("non_interference", {"raw": 0.0, "oracle": 1.0, "reference": 1.0, **levels})
    assert result["robustness"]["capability-python"]["close"].keys() == {"domain", "general"}
    assert found(result) == set()


@pytest.mark.parametrize(
    ("changed", "instead", "after", "whole"),
    [
        ({}, "SUPPORTED", "SUPPORTED", "SUPPORTED"),
        ({"steps": 0.97}, "REFUTED", "SUPPORTED", "REFUTED"),
        ({"solved-50": 0.9}, "SUPPORTED", "INCONCLUSIVE", "INCONCLUSIVE"),
        ({"solved-800": 1.0}, "SUPPORTED", "SUPPORTED", "SUPPORTED"),  # reported, decides nothing
        ({"oracle": 0.0}, "VACUOUS", "VACUOUS", "VACUOUS"),
    ],
)
def test_a_statement_gets_the_word_that_its_registered_tests_give_it(folder, changed, instead, after, whole):
    result = make(CLAIM, TRUE | changed)
    assert words(result) == {"instead-python": instead, "worse-after-python": after}
    assert result["verdict"] == whole
    assert found(result) == set()
    of = StudyResult.of(result, "r.json")
    n = [instead, after].count(whole)
    assert plain_words(of).startswith(f"{n} of 2 statements {OF_STATEMENTS[whole][n - 1]}")
    assert [row[2] for row in statements_table([of]).rows] == [f"**{instead}**", f"**{after}**"]
    assert f"**{whole}**" in page([of])
    assert result["rates"]["arms"]["steps"] == {"rate": result["rates"]["grid"][1], "at_end": False}


RANKED = {"raw": 0.0, "oracle": 1.0, "reference": 1.0, "calibrated": 0.95, "random": 0.5, "linear": 0.4}


@pytest.mark.parametrize(("level", "passes"), [(0.5, "no"), (0.95, "yes")])
def test_tests_against_bounds_are_asked_of_the_placebo_and_decide_nothing(folder, level, passes):
    result = make("nib_full", RANKED | {"random": level}, tasks=NATIVE)
    assert words(result)["perplexity-python"] == words(result)["distribution-python"] == "SUPPORTED"
    said = {one.study: one for one in told(StudyResult.of(result, "r.json"))}
    assert said["perplexity-python"].placebo == said["distribution-python"].placebo == passes
    assert said["code-net-python"].placebo == "-"  # asks for more than the placebo, so nothing is left to ask of it
    of = {test["id"]: test for test in result["fits"]["perplexity-python"]["tests"]}
    assert of["p.bits"]["contrast"] == "random - 0.8 oracle - 0.2 raw"
    assert not of["p.bits"]["required"]
    figures = result["fits"]["perplexity-python"]["arms"]["candidate"]["domain"]
    assert said["perplexity-python"].figure == figures["bits_per_byte"]["mean"]
    assert said["perplexity-python"].contrast == "candidate - 0.8 oracle - 0.2 raw"  # and not that there is room


def test_a_placebo_is_asked_only_where_it_was_made_alike():
    arms = WORKFLOW.claim("method_robustness").arms
    assert alike(arms, "both-8-2", "random-both")
    assert not alike(arms, "both-8-2", "random")  # took no steps
    assert not alike(arms, "both-8-2", "random-alone")  # had no solve before
    assert not alike(arms, "both-4-2", "random-both")  # at another temperature
    of = {name: WORKFLOW.claim(name) for name in ("analytical_calibration", "calibration_budget_floor", "nib_full")}
    asked = {
        (name, statement): bool(of_placebo(claim, claim.statements[statement]))
        for name, claim in of.items()
        for statement in claim.statements
    }
    assert {key for key, told in asked.items() if told} == {
        ("nib_full", level) for level in ("perplexity", "distribution", "decoding", "functional", "variants")
    }  # neither where an arm is set against variants of itself, nor where it is to fall short


def test_works_is_the_low_bar_that_the_page_says_it_is():
    path = ROOT / "results/reference/tiny/objective_ablation_results.json"
    arms = json.loads(path.read_text())["fits"]["only-python"]["arms"]
    linear, random, native = (arms[arm]["domain"]["js_nats"] for arm in ("linear", "random", "oracle"))
    assert random["upper"] < native["lower"]
    assert linear["mean"] < native["mean"]


def test_a_question_of_ours_is_told_from_what_the_original_says():
    path = ROOT / "results/reference/tiny/nib_geometry_diagnostic_results.json"
    rows = {one.study: one.statement for one in told(StudyResult.of(json.loads(path.read_text()), path.name))}
    assert rows["head-python"].startswith("Asked by us: ")
    assert not rows["fragility-python"].startswith("Asked by us: ")


def test_too_few_groups_are_no_verdict(folder):
    assert words(make(CLAIM, TRUE, groups=20)) == dict.fromkeys(
        ("instead-python", "worse-after-python"), "INCONCLUSIVE"
    )


CODED = {"raw": 0.0, "oracle": 1.0, "reference": 1.0, "calibrated": 0.95, "random": 0.5, "linear": 0.4}
LEVELS = ("decoding-python", "functional-python", "variants-python", "code-net-python")
NATIVE = {"oracle": 0.6, "reference": 0.6, "candidate": 0.6, "random": 0.2, "raw": 0.1}


@pytest.mark.parametrize(
    ("changed", "words_of"),
    [
        ({}, ("SUPPORTED", "SUPPORTED", "SUPPORTED", "SUPPORTED")),
        (
            {"candidate": 0.55},
            ("SUPPORTED", "INCONCLUSIVE", "SUPPORTED", "SUPPORTED"),
        ),  # the lower margin is not cleared
        ({"candidate": 0.2}, ("REFUTED", "REFUTED", "REFUTED", "INCONCLUSIVE")),
        ({"random": 0.6}, ("SUPPORTED", "SUPPORTED", "SUPPORTED", "INCONCLUSIVE")),
        # a native module that passes nothing, or next to nothing, shows nothing: the margin cannot be missed
        (dict.fromkeys(NATIVE, 0.0), ("VACUOUS",) * 4),
        ({"oracle": 1 / 60, "candidate": 0.0}, ("VACUOUS",) * 4),
        # nor may a level pass whose native rate is near the floor
        ({"oracle": 0.1, "reference": 0.1, "candidate": 0.1, "random": 0.1}, ("INCONCLUSIVE",) * 4),
    ],
)
def test_a_level_of_generated_code_passes_by_its_margin_and_never_below_its_floor(folder, changed, words_of):
    result = make("nib_full", CODED, tasks=NATIVE | changed)
    found_words = words(result)
    assert tuple(found_words[level] for level in LEVELS) == words_of
    assert found_words["perplexity-python"] == "SUPPORTED"
    assert found(result) == set()
    if "VACUOUS" in words_of:
        assert "below the floor" in result["fits"]["functional-python"]["reason"]


def test_margins_and_floors_of_the_levels_are_those_that_were_published():
    shipped = ROOT / "config" / "record" / "published_results"
    registry = json.loads((shipped / "non_inferiority_results.json").read_text())["registry"]
    published = json.loads((shipped / "generation_equivalence_results.json").read_text())
    for claim in ("nib_full", "procrustes_full_nib"):
        of = WORKFLOW.claim(claim).statements
        assert {test.by for test in of["decoding"].tests.values()} == {registry["decode_ni_margin_pp"] / 100}
        assert {test.by for test in of["variants"].tests.values()} == {registry["adversarial_ni_margin_pp"] / 100}
        assert of["functional"].tests["passed"].by == registry["ni_margin_pp"] / 100
        assert of["functional"].floors == {"passed.greedy": registry["min_native_floor"]}
        assert of["functional"].tests["failures"].by == registry["failure_jaccard"] == FAILS_ALIKE
        assert of["functional"].tests["passes"].by == registry["pass_jaccard"] == PASSES_ALIKE
    of = WORKFLOW.claim("generation_equivalence").statements
    points = published["G1_syntax"]["threshold_parity_pp"] / 100
    assert {test.by for test in of["syntax"].tests.values()} == {-points}
    assert of["keywords"].tests["than-plain"].weights["raw"] == -published["G2_keyword"]["threshold"]
    coherence = published["G3_coherence"]
    assert of["diversity"].tests["enough"].by == coherence["threshold_abs"]
    assert of["diversity"].tests["no-less"].by == -coherence["threshold_parity_pp"] / 100
    assert of["diversity"].tests["than-off"].weights["calibrated-off"] == -coherence["threshold_nd_ratio"]
    assert of["perplexity"].tests["ratio"].by == -published["G4_cross_ppl"]["threshold"]
    probes = published["G5_functional"]
    assert of["functional"].tests["enough"].by == probes["threshold_abs"] / probes["n_probes"]
    assert of["functional"].tests["no-less"].by == -probes["ni_margin_probes"] / probes["n_probes"]
    decoded = {(way.temperature, way.top_p) for name, way in WAYS.items() if "-p" in name}
    configs = [entry["config"] for entry in coherence["decoding_sweep"].values()]
    plain = {(one["temperature"], one["top_p"]) for one in configs if one["repetition_penalty"] == 1}
    assert decoded == plain


LEAF = "fits/instead-python"


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        ("verdict", "REFUTED"),
        (f"{LEAF}/verdict", "REFUTED"),
        (f"{LEAF}/reason", "because"),
        (f"{LEAF}/tests/2/interval/lower", -0.5),
        (f"{LEAF}/tests/2/required", False),
        (f"{LEAF}/tests/2/contrast", "candidate - raw"),
        (f"{LEAF}/refutations/0/holds", True),
        (f"{LEAF}/arms/steps/domain/js_nats/mean", lambda mean: 0.5 * mean),
        ("tables/0/rows/0/2", "REFUTED"),
        ("tables/0/rows/0/1", "Steps are better."),
        ("tables/1/rows/0/1", "direct"),
        ("tables/2/rows/0/2", 99),
        ("claim/statements/instead/tests/than-steps/weights/steps", 0.0),
        ("claim/statements/instead/says", "Steps do as well as a solve."),
    ],
)
def test_a_forged_leaf_is_found_by_judging_again(forged, leaf, value):
    made = copy.deepcopy(forged)
    made.pop("seal", None)
    put(leaf, value(lookup(made, leaf)) if callable(value) else value)(made)
    assert found(made), leaf


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    place = tmp_path_factory.mktemp("forged")
    shutil.copytree(ROOT / "config", place / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return make(CLAIM, TRUE)


def test_the_ids_of_experiments_are_targets_whose_files_bear_the_names_of_the_original():
    shipped = {path.name for path in (ROOT / "config" / "record" / "published_results").glob("*.json")}
    files = {name: WORKFLOW.claim(name).record.result_file for name in WORKFLOW.experiments}
    assert {name for name, file in files.items() if file not in shipped} == {"objective_ablation"}
    assert set(WORKFLOW.config.published()).isdisjoint(WORKFLOW.experiments)
    assert all(WORKFLOW.claim(name).seeds >= 3 for name in files)


def test_numbers_that_statements_take_from_the_protocol_are_those_of_the_protocol():
    criteria = WORKFLOW.config.protocol.criteria
    of_protocol = {criteria.parity, criteria.floor, criteria.half, criteria.share, criteria.harm}
    of_protocol |= {round(1 - number, 9) for number in of_protocol} | {1.0}
    for name in WORKFLOW.experiments:
        for statement in WORKFLOW.claim(name).statements.values():
            of_text = [test for test in statement.tests.values() if test.metric not in CODE]
            weights = {round(abs(w), 9) for test in of_text for w in test.weights.values()}
            assert weights <= of_protocol, (name, statement.says)


# made end to end


def short(scale):
    scale["calibration"]["kd"] |= {"phases": [{"steps": 16, "warmup": 2}], "rates": [3e-3, 3e-2], "batch": 32}


def trial(world, of):
    """The native module of the seed that rates are tried with."""
    workflow, (backbone, text, shape, role) = world.workflow, of
    inputs = {"train": workflow.states(backbone, text, "train"), "head": workflow.head(backbone)}
    out = f"{workflow.results}/modules/{'/'.join(of)}/0-0"
    spec = job("train_modules", workflow.module_spec(text, shape, role, "0-0"), inputs)
    train_modules.run(spec, inputs, {"manifest": f"{out}.json", "folder": out})


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_backbone):
    """An experiment on a tiny real model: the study, its inputs and its outputs, in a folder of their own."""
    folder = tmp_path_factory.mktemp("experiment")
    workflow: Workflow = rescaled(small_workflow(2), short)
    world, jobs = World(workflow, make_backbone), workflow.of(CLAIM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        world.states("gpt2_medium", "general")
        for name, of in jobs.modules().items():
            world.modules(of)
            if not name.startswith("reference"):
                trial(world, of)
        inputs, wanted = jobs.evidence_input(jobs.batch()), jobs.verdict_input()
        outputs = {
            key: wanted[f"{key}s" if key == "manifest" else key][0] for key in ("evidence", "draws", "manifest", "fits")
        }
        running = job("evaluate_experiment", jobs.evidence_spec(jobs.batch()), inputs)
        evaluate_experiment.run(running, inputs, outputs)
    return folder, workflow, inputs, outputs


def test_every_arm_of_every_study_is_scored_and_the_arm_asked_about_is_its_candidate(run):
    folder, workflow, _, outputs = run
    found = read_evidence(folder / outputs["evidence"])
    spec = workflow.of(CLAIM).evidence_spec("1-2")
    for name, about in spec["studies"].items():
        own = found[found["fit"] == name]
        assert set(own["arm"]) == {"raw", "oracle", "reference", "candidate", *about["arms"]} - {about["about"]}
        assert set(own["seed"]) == {1, 2}
        assert set(own.loc[own["arm"] == "reference", "metric"]) == {"loss_nats", "bits_per_byte"}
    same = [found[(found["fit"] == name) & (found["arm"] == "steps")]["value"].tolist() for name in spec["studies"]]
    assert same[0] == same[1]


def test_fits_say_what_was_chosen_and_that_the_moved_net_stayed(run):
    folder, _, inputs, outputs = run
    fits = FitsManifest.read(folder / outputs["fits"])
    assert [one.arm for one in fits.tried] == ["steps", "solved-50", "solved-200", "solved-800", "random"]
    steps = {fit.arm: fit.steps for fit in fits.arms}
    assert steps == {"drawn": 0, "solved": 0, "steps": 16, "solved-50": 1, "solved-200": 4, "solved-800": 16,
                     "random-solved": 0, "random": 16, "linear": 0}  # fmt: skip
    rates = {one.arm: one.rate for one in fits.tried}
    trained = [fit for fit in fits.arms if fit.steps]
    assert {(fit.arm, fit.lr) for fit in trained} == {(arm, rates[arm]) for arm in {fit.arm for fit in trained}}
    module = module_of_seed([str(folder / path) for path in inputs["source_python"]], 1)
    net = {f"{name}": p for name, p in module.domain_parameters().items()}
    assert len({fit.frozen_sha256 for fit in trained if fit.seed == 1 and not fit.arm.startswith("random")}) == 1
    assert sha256_tensors(net) not in {fit.frozen_sha256 for fit in trained}  # with the head and the rotation
