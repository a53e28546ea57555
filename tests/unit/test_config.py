import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from abi.base.errors import ConfigError
from abi.base.files import scales
from abi.cli.config import checked
from abi.cli.main import main
from abi.plan import config
from abi.plan.config import SCHEMAS, load, schema_files
from abi.plan.workflow import Workflow
from abi.plan.yaml_files import read_scale

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


def edit(root, name, change):
    path = root / "config" / name
    content = yaml.load(path.read_text(), yaml.CSafeLoader)
    change(content)
    path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False))


def sentence(root, scale="tiny"):
    with pytest.raises(ConfigError) as error:
        config.load(scale, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def told(root, scale="tiny"):
    with pytest.raises(ConfigError) as error:
        config.load(scale, root)
    return str(error.value).splitlines()


@pytest.mark.parametrize("scale", scales())
def test_every_shipped_scale_is_valid(scale):
    assert config.load(scale).claims


def test_the_schemas_are_those_of_the_models():
    for path, text in schema_files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is out of date; run `make docs`"
    assert {path.name for path in (ROOT / SCHEMAS).iterdir()} == {Path(path).name for path in schema_files()}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("claims", "claims.yaml"),
        ("protocol", "protocol.yaml"),
        ("scale", "scales/tiny.yaml"),
        ("scale", "scales/paper.yaml"),
    ],
)
def test_the_files_of_config_fit_their_schema(name, file):
    validator = Draft202012Validator(json.loads((ROOT / SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8")))
    given = yaml.safe_load((ROOT / "config" / file).read_text(encoding="utf-8"))
    assert not list(validator.iter_errors(given))
    assert not validator.is_valid({**given, "extra": 1})


def test_an_unknown_scale_is_named_with_the_closest(root):
    assert "did you mean 'tiny'?" in sentence(root, "tinny")


CLAIM_FAULTS = {
    "unknown key": (
        lambda c: c.update(sedes=1),
        "claims.t5_to_gpt2: kind transfer has no 'sedes'; did you mean 'seeds'?",
    ),
    "unknown scale": (lambda c: c.update(scales=["tini"]), "did you mean 'tiny'?"),
    "misspelt kind": (lambda c: c.update(knd=c.pop("kind")), "claims.t5_to_gpt2: has 'knd' for 'kind'; rename it"),
    "misspelt text": (lambda c: c.update(txt=c.pop("text")), "claims.t5_to_gpt2: has 'txt' for 'text'; rename it"),
    "unknown backbone": (lambda c: c.update(target="gpt2_medum"), "did you mean 'gpt2_medium'?"),
    "unknown text": (lambda c: c.update(text="pyhton"), "did you mean 'python'?"),
    "unknown module": (lambda c: c.update(module="standart"), "did you mean 'standard'?"),
    "unknown arm": (lambda c: c["extra_arms"]["oracle-kd"].append("randm"), "did you mean 'random'?"),
    "arms of a regime it lacks": (lambda c: c.update(regimes=["few-shot"]), "is not among its regimes"),
    "unknown variant": (
        lambda c: c.update(variants={"general-only": ["matched-shot"]}),
        "did you mean 'matched-short'?",
    ),
    "a T5 that is to write": (
        lambda c: c.update(variants={"general-only": ["matched-written"]}),
        "t5_large is an encoder-decoder; take it out",
    ),
    "unknown regime": (lambda c: c.update(regimes=["fewshot"]), "regimes"),
    "arms of its own": (lambda c: c.update(arms=["random", "bias"]), "kind transfer has no 'arms'"),
    "no target": (lambda c: c.pop("target"), "kind transfer needs 'target'"),
    "ladder with a text": (lambda c: c.update(kind="ladder", rungs=["a", "b"]), "kind ladder has no"),
    "source equals target": (lambda c: c.update(target="t5_large"), "needs two different backbones"),
    "reference of a transfer": (
        lambda c: c.update(reference_module="anchor"),
        "kind transfer has no 'reference_module'",
    ),
    "unstored tap": (lambda c: c.update(module="wide"), "does not store"),
    "no seeds": (lambda c: c.update(seeds=0), "seeds"),
    "title of two lines": (lambda c: c.update(title="T5\n## GPT-2"), "title: is not one line of text; join its lines"),
    "result file of the summary": (lambda c: c["record"].update(result_file="summary.json"), "is another file"),
    "unknown claim of the record": (lambda c: c["record"].update(claim="t5_to_gpt"), "did you mean 't5_to_gpt2'?"),
    "result file of another": (
        lambda c: c["record"].update(result_file="cross_arch_t5_nib_v53_results.json"),
        "already that of",
    ),
    "claim of the record of another": (
        lambda c: c["record"].update(claim="gpt2_to_qwen"),
        "t5_to_gpt2.record.claim is already that of gpt2_to_qwen; take it out of one",
    ),
    "general text as the domain": (
        lambda c: c.update(text="general"),
        "claims.t5_to_gpt2.text: 'general' is `alignment.text`, which is no domain apart from general text; name another or take out",
    ),
}


@pytest.mark.parametrize("fault", CLAIM_FAULTS)
def test_a_faulty_claim_is_one_sentence(root, fault):
    change, words = CLAIM_FAULTS[fault]
    edit(root, "claims.yaml", lambda c: change(c["claims"]["t5_to_gpt2"]))
    assert [line for line in told(root) if words in line]


def test_a_misspelt_key_is_one_sentence(root):
    """It was told as missing, and again as unknown."""
    edit(root, "claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(targt=c["claims"]["t5_to_gpt2"].pop("target")))
    assert sentence(root) == "config/claims.yaml: claims.t5_to_gpt2: has 'targt' for 'target'; rename it"


TOP_FAULTS = {
    "missing control": (lambda c: c["regimes"]["oracle-kd"]["arms"].remove("bias"), "lacks the control arm 'bias'"),
    "arm of another regime": (lambda c: c["regimes"]["general-only"]["arms"].append("native"), "arm of general-only"),
    "unknown rung": (lambda c: c["claims"]["cross_size"]["rungs"].append("gpt2_to_gtp2_large"), "did you mean"),
    "no claim": (lambda c: c.update(claims={}), "holds no claim"),
    "headline of none": (lambda c: c.update(headline=[]), "headline"),
    "headline misspelt": (lambda c: c["headline"].append("t5_to_gtp2"), "headline: 't5_to_gtp2' is not a claim"),
    "headline of an own claim": (lambda c: c["headline"].append("gpt2_to_gpt2_large"), "that the record holds"),
    "headline of a regime": (lambda c: c["headline"].append("t5_to_gpt2_few_shot"), "did you mean 't5_to_gpt2'?"),
    "headline of a pending claim": (lambda c: c["headline"].append("t5_to_qwen2_7b"), "claim of scale tiny"),
    "result file of the headline": (
        lambda c: c["claims"]["t5_to_gpt2"]["record"].update(result_file="headline.json"),
        "is another file",
    ),
    "a dose without its cosine": (lambda c: c["claims"]["alignment_dose"].pop("cosine"), "kind dose needs 'cosine'"),
    "unknown rung of a dose": (
        lambda c: c["claims"]["alignment_dose"]["rungs"].append("gpt2_to_itslf"),
        "did you mean 'gpt2_to_itself'?",
    ),
    "rung of another regime": (
        lambda c: c["claims"]["alignment_dose"]["rungs"].append("t5_to_gpt2_few_shot"),
        "'t5_to_gpt2_few_shot' is not a transfer in oracle-kd, at any scale",
    ),
    "rungs of another scale": (
        lambda c: c["claims"]["alignment_dose"].update(rungs=["gpt2_to_itself", "t5_to_qwen2_7b"]),
        "alignment_dose.rungs: scale tiny runs fewer than two of them",
    ),
    "unknown near target": (
        lambda c: c["claims"]["gpt2_to_gpt2_updated"].update(target="gpt2_genral_fast"),
        "did you mean 'gpt2_general_fast'?",
    ),
    "regimes of a near transfer": (
        lambda c: c["claims"]["gpt2_to_itself"].update(regimes=["few-shot"]),
        "kind near_transfer has no 'regimes'",
    ),
    "a target twice": (
        lambda c: c["claims"].update(t5_to_gpt2_few_shot=dict(c["claims"]["gpt2_to_gpt2_large"])),
        "claims.t5_to_gpt2_few_shot: its target 't5_to_gpt2_few_shot' is that of t5_to_gpt2 too; rename one",
    ),
    "a target twice, the other way round": (
        lambda c: c.update(claims={"t5_to_gpt2_few_shot": dict(c["claims"]["gpt2_to_gpt2_large"]), **c["claims"]}),
        "claims.t5_to_gpt2: its target 't5_to_gpt2_few_shot' is that of t5_to_gpt2_few_shot too; rename one",
    ),
    "a rung of another kind": (
        lambda c: c["claims"]["cross_size"]["rungs"].append("domain_atlas"),
        "cross_size.rungs: 'domain_atlas' is of kind atlas; a ladder takes transfer, near_transfer and reconstruction",
    ),
    "a rung of another scale": (
        lambda c: c["claims"]["cross_size"]["rungs"].append("t5_to_qwen2_7b"),
        "cross_size.rungs: 't5_to_qwen2_7b' does not run at scale tiny; take it out, or give the claim `scales`",
    ),
    "a rung that is a ladder": (
        lambda c: c["claims"]["cross_size"]["rungs"].append("reproduce"),
        "cross_size.rungs: 'reproduce' is of kind aggregate; a ladder takes",
    ),
    "rule as a ladder": (lambda c: c["claims"].update(headline=c["claims"].pop("cross_size")), "name of a rule"),
}


@pytest.mark.parametrize("fault", TOP_FAULTS)
def test_a_faulty_file_of_claims_is_one_sentence(root, fault):
    change, words = TOP_FAULTS[fault]
    edit(root, "claims.yaml", change)
    assert words in sentence(root)


def test_without_a_claim_of_the_record_every_own_claim_is_counted_in_every_regime(root):
    def strip(content):
        content["claims"] = {name: content["claims"][name] for name in content["headline"]}
        for claim in content["claims"].values():
            del claim["record"]["claim"]

    edit(root, "claims.yaml", strip)
    regimes = [f"t5_to_gpt2_{regime}" for regime in ("few_shot", "general_only", "zero_text")]
    assert config.load("tiny", root).published() == ["t5_same_backbone", "t5_to_gpt2", *regimes]


WHEEL = {"parts": ["a==1"], "sha256": "0" * 64, "form": "gguf", "licence": {"name": "x"}}
SCALE_FAULTS = {
    "an update named as a backbone": (
        lambda s: s["updates"].update(gpt2=s["updates"]["gpt2_general_fast"]),
        "updates.gpt2: is the name of a backbone too",
    ),
    "split": (lambda s: s["split"].update(test=0.5), "sum to"),
    "d_abi": (lambda s: s["modules"]["wide"].update(d_abi=400), "modules.wide.d_abi: 400 is too large for t5_large"),
    "skip": (lambda s: s["backbones"]["t5_large"]["window"].update(skip=64), "leaves none of 64 positions"),
    "source": (lambda s: s["texts"]["python"].update(sources="wheel"), "did you mean 'wheels'?"),
    "type": (lambda s: s["jobs"]["seeds_per_job"].update(modules="five"), "seeds_per_job.modules"),
    "name of another scale": (lambda s: s.update(scale="smoke"), "write the name of the file"),
    "name with a slash": (
        lambda s: s["texts"].update({"a/b": s["texts"]["python"]}),
        "texts.a/b: 'a/b' is no name that may stand here",
    ),
    "resources of a rule that lack one": (
        lambda s: s["jobs"]["resources"].update(train={"mem_mb": 500, "runtime": 1, "gpu": 0}),
        "needs 'threads' in jobs.resources.train",
    ),
    "misspelt rule": (
        lambda s: s["jobs"]["resources"].update(train_module=s["jobs"]["resources"]["default"]),
        "did you mean 'train_modules'?",
    ),
    "resources that no job asks for": (
        lambda s: s["jobs"]["resources"].update(headline=s["jobs"]["resources"]["default"]),
        "'headline' is not a rule whose resources a scale sets",
    ),
    "a card for a rule that uses none": (
        lambda s: s["jobs"]["resources"].update(judge_claim={**s["jobs"]["resources"]["default"], "gpu": 1}),
        "jobs.resources.judge_claim.gpu: its jobs compute on a CPU",
    ),
    "more than the ceiling": (
        lambda s: s["jobs"].update(ceiling={"runtime": 90}),
        "jobs.resources.calibrate_arms.runtime: 100 is above 90, the ceiling",
    ),
    "whole number as a float": (lambda s: s["jobs"]["seeds_per_job"].update(modules=2.0), "seeds_per_job.modules: 2.0"),
    "not a number": (lambda s: s["split"].update(train=float("nan")), ".nan is not a number"),
    "infinite": (lambda s: s["calibration"]["kd"].update(ridge_penalty=float("inf")), ".inf is not a number"),
    "no written text": (
        lambda s: s["calibration"]["matched"].pop("written"),
        "calibration.matched: variant 'matched-written' needs `written`",
    ),
    "huge": (lambda s: s["alignment"].update(max_rows=10**40), "is not a number that a setting can have"),
    "key that is no word": (lambda s: s["texts"].update({2020: s["texts"]["python"]}), "'2020' is no word"),
    "no draws": (lambda s: s["evaluation"].update(rng_seeds=[]), "evaluation.rng_seeds"),
    "folder without path": (
        lambda s: s["sources"].update(a=[{"kind": "folder"}]),
        "sources.a.0: kind folder needs 'path'",
    ),
    "data set without id": (
        lambda s: s["sources"].update(a=[{"kind": "hub", "revision": "0" * 40}]),
        "sources.a.0: kind hub needs 'id'",
    ),
    "split of a text": (
        lambda s: s["texts"]["markdown"]["split"].update(test=0.5),
        "texts.markdown.split: the shares sum",
    ),
    "grammar without seed": (lambda s: s["sources"]["synthetic_sql"][0].pop("seed"), "kind grammar needs 'seed'"),
    "no such grammar": (
        lambda s: s["sources"]["synthetic_sql"][0].update(name="sparql"),
        "sources.synthetic_sql.0.name",
    ),
    "descriptions of none": (
        lambda s: s["sources"]["descriptions"][0].pop("packages"),
        "kind metadata needs 'packages'",
    ),
    "version as a number": (
        lambda s: s["sources"]["descriptions"][0]["packages"].update(packaging=25.0),
        "packages.packaging: 25.0 should be a valid string",
    ),
    "heading": (
        lambda s: s["sources"].update(a=[{"kind": "hub", "id": "a", "revision": "0" * 40, "heading": "("}]),
        "is no regular expression",
    ),
    "containing": (
        lambda s: s["sources"]["wheels"][0].update(containing="("),
        "sources.wheels.0.containing: is no regular expression (missing ), unterminated subpattern at position 0)",
    ),
    "window beyond the model": (
        lambda s: s["backbones"]["gpt2_medium"]["window"].update(length=1000),
        "1000 tokens are more than the 256 positions",
    ),
    "rates out of order": (
        lambda s: s["calibration"]["kd"].update(rates=[0.1, 0.01]),
        "calibration.kd.rates: [0.1, 0.01] do not ascend; sort them",
    ),
    "a curve without a beginning": (
        lambda s: s["calibration"]["kd"]["budgets"].update(steps=[4, 8]),
        "calibration.kd.budgets.steps: [4, 8] lack 0, which every curve begins with; add it",
    ),
    "one rate twice": (lambda s: s["calibration"]["kd"].update(rates=[0.1, 0.1]), "0.1 stands there twice"),
    "one rate": (lambda s: s["calibration"]["kd"].update(rates=[0.1]), "calibration.kd.rates"),
    "a fit below its rate": (
        lambda s: s["calibration"]["kd"]["phases"][0].update(lr=0.5),
        "calibration.kd.phases: no phase has the arm's own learning rate; give the fastest `lr: 1.0`",
    ),
    "an unknown claim": (
        lambda s: s.update(claims=["t5_same_backbone", "t5_to_gpt2", "t5_to_gpt3"]),
        "tiny.yaml: claims: 't5_to_gpt3' is not a claim of config/claims.yaml; did you mean 't5_to_gpt2'?",
    ),
    "a claim of another scale": (
        lambda s: s.update(claims=["t5_same_backbone", "t5_to_gpt2", "t5_to_qwen2_7b"]),
        "tiny.yaml: claims: 't5_to_qwen2_7b' names other scales (paper); add this one there",
    ),
    "its own headline": (
        lambda s: s.update(headline=["gpt2_to_gpt2_large"]),
        "tiny.yaml: headline: 'gpt2_to_gpt2_large' is not a claim of scale tiny",
    ),
    "backbone from two places": (
        lambda s: s["backbones"]["t5_large"].update(folder={"path": "~/t5"}),
        "backbones.t5_large: needs one of `build`, `hub`, `wheel`, `folder`",
    ),
    "wheel without version": (
        lambda s: s["backbones"]["t5_large"].update(wheel=WHEEL | {"parts": ["--index-url=http://x"]}),
        "backbones.t5_large.wheel.parts.0: '--index-url=http://x'",
    ),
    "one part twice": (
        lambda s: s["backbones"]["t5_large"].update(wheel=WHEEL | {"parts": ["a==1", "a==1"]}),
        "'a==1' stands there twice",
    ),
    "a few-shot fit of the whole text": (
        lambda s: s["calibration"]["ce"].pop("windows"),
        "tiny.yaml: calibration.ce: few-shot needs `windows`, or it sees the whole text; add them",
    ),
    "windows out of order": (
        lambda s: s["calibration"]["ce"].update(windows=[32, 8]),
        "calibration.ce.windows: [32, 8] do not ascend; sort them",
    ),
    "more windows than text": (
        lambda s: s["calibration"]["ce"].update(windows=[8, 2000]),
        "calibration.ce.windows: 2000 are more than the 1400 of texts.python.max_windows.train; lower one or raise this",
    ),
    "claims without a headline": (
        lambda s: s.update(claims=["gpt2_to_qwen", "domain_atlas"]),
        "config/scales/tiny.yaml: has `claims` and no `headline`; give `headline`, some of gpt2_to_qwen, domain_atlas",
    ),
    "a tap beyond the model": (
        lambda s: s["backbones"]["t5_large"].update(taps=[2, 3, 9]),
        "backbones.t5_large.taps: 9 is beyond the 4 layers of the model; lower it",
    ),
    "one tap twice": (
        lambda s: s["backbones"]["t5_large"].update(taps=[2, 3, 2]),
        "backbones.t5_large.taps: 2 stands there twice; take it out once",
    ),
    "one tap of a module twice": (
        lambda s: s["modules"]["standard"].update(taps=["final", "final"]),
        "modules.standard.taps: final stands there twice; take it out once",
    ),
    "too few scored positions": (
        lambda s: s["backbones"]["t5_large"]["window"].update(skip=40),
        "backbones.t5_large.window: 2 windows of 24 scored positions are all of a test document of python, "
        "and the protocol asks for 64; lower `skip`, or raise `length` or texts.python.max_windows_per_document",
    ),
    "warm-up beyond its steps": (
        lambda s: s["calibration"]["kd"]["phases"][0].update(warmup=400),
        "tiny.yaml: calibration.kd.phases.0: 400 steps of warm-up are more than its 300 steps; lower `warmup`",
    ),
    "warm-up beyond the steps of pretraining": (
        lambda s: s["backbones"]["gpt2"]["build"]["pretraining"].update(warmup=800),
        "backbones.gpt2.build.pretraining: 800 steps of warm-up are more than its 700 steps",
    ),
    "no size for a document": (
        lambda s: s["texts"]["sql"].update(min_bytes_per_document=9000),
        "texts.sql: `min_bytes_per_document` 9000 is above `max_bytes_per_document` 8000; lower it",
    ),
    "too few test groups": (
        lambda s: s["texts"]["sql"].update(min_test_groups=5),
        "texts.sql.min_test_groups: 5 test groups give no interval and so no verdict; write 30, or set `meaningless: true`",
    ),
    "too few test windows": (
        lambda s: s["texts"]["sql"]["max_windows"].update(test=28),
        "texts.sql.max_windows.test: 28 windows of as many test groups at most give no interval and so no verdict",
    ),
    "a rate that YAML reads as text": (
        lambda s: s["backbones"]["gpt2"]["build"]["pretraining"].update(lr="3e-3"),
        "pretraining.lr: '3e-3' is text to YAML; write 3.0e-3",
    ),
    "no update to name": (
        lambda s: s.update(updates={}, claims=["succession"], headline=["succession"]),
        "is not an update of scale tiny, which has none",
    ),
    "deep key": (lambda s: s["backbones"]["t5_large"]["build"]["pretraining"].update(step=3), "did you mean 'steps'?"),
}


@pytest.mark.parametrize("fault", SCALE_FAULTS)
def test_a_faulty_scale_is_one_sentence(root, fault):
    change, words = SCALE_FAULTS[fault]
    edit(root, "scales/tiny.yaml", change)
    assert words in sentence(root)


@pytest.mark.parametrize(("path", "words"), [("/nowhere", "is not a folder; correct `path`"), ("", "holds no file")])
def test_a_folder_without_the_text_of_a_claim_is_refused_before_anything_runs(root, path, words):
    source = {"kind": "folder", "path": path or str(root), "pattern": "*.txt", "label": "notes"}
    for name in ("wheels", "descriptions"):  # of a text that each claim names, and of one in a list of texts
        edit(root, "scales/tiny.yaml", lambda s, name=name: s["sources"].update({name: [source]}))
        found = config.load("tiny", root)
        with pytest.raises(ConfigError, match=rf"config/scales/tiny.yaml: sources.\w+: .*{re.escape(words)}"):
            found.require_inputs()
        shutil.copy(ROOT / "config" / "scales" / "tiny.yaml", root / "config" / "scales")


@pytest.mark.parametrize("pattern", ["a**b/*.txt"])
def test_a_pattern_that_cannot_be_used_is_one_sentence(root, pattern):
    source = {"kind": "folder", "path": str(root), "pattern": pattern, "label": "notes"}
    edit(root, "scales/tiny.yaml", lambda s: s["sources"].update(wheels=[source]))
    with pytest.raises(ConfigError, match=r"sources.wheels: pattern .* cannot be used"):
        config.load("tiny", root).require_inputs()


def test_a_target_that_is_none_is_named_with_the_closest(root):
    found = config.load("tiny", root)
    found.require_targets(["t5_to_gpt2", "headline", "all", "results/tiny/any.json", "t5_to_gpt2_few_shot"])
    with pytest.raises(ConfigError, match=r"'gemma3_to_smollm2_zero_text' is no claim .*; it runs at scales? real"):
        config.load("tiny").require_targets(["gemma3_to_smollm2_zero_text"])
    (root / "config/scales/broken.yaml").write_text("extends: tiny\nseeds: many\n")
    with pytest.raises(ConfigError, match=r"'t5_to_gpt' is no claim of scale tiny; did you mean 't5_to_gpt2'"):
        found.require_targets(["t5_to_gpt"])
    with pytest.raises(ConfigError, match="'' is no claim of scale tiny"):
        found.require_targets([""])


def test_a_scale_may_run_a_part_of_the_claims(root):
    edit(root, "scales/tiny.yaml", lambda s: s.update(claims=["t5_same_backbone"], headline=["t5_same_backbone"]))
    loaded = config.load("tiny", root)
    assert (list(loaded.every()), loaded.headline) == (["t5_same_backbone"], ("t5_same_backbone",))
    assert loaded.elsewhere("t5_to_gpt2") == "is not among the claims of scale tiny"
    assert loaded.elsewhere("t5_to_qwen2_7b") == "runs at scale paper only"


def test_several_faults_are_all_told_one_sentence_each(root):
    edit(root, "scales/tiny.yaml", lambda s: s["split"].update(tets=0.5))
    edit(root, "protocol.yaml", lambda p: p["criteria"].update(level=2))
    edit(root, "claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(seeds="five", sedes=1))
    found = told(root)
    for words in (
        "claims.t5_to_gpt2.seeds: 'five'",
        "no 'sedes'",
        "unknown key 'tets' in split; did you mean",
        "level: 2 ",
    ):
        assert len([line for line in found if words in line]) == 1, (words, found)
    assert len(found) == 4


def test_several_names_that_nothing_defines_are_all_told(root):
    edit(root, "scales/tiny.yaml", lambda s: s["texts"]["python"].update(sources="wheel"))
    edit(root, "claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(text="pyhton", module="standart"))
    assert [line.rpartition("did you mean ")[2][:11].split("'")[1] for line in told(root)] == [
        "wheels",
        "python",
        "standard",
    ]


def test_broken_yaml_names_file_and_line(root):
    (root / "config/claims.yaml").write_text("claims:\n  a: [1\n")
    assert re.search(r"claims.yaml: is not valid YAML in line \d", sentence(root))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\na: 2\n", "line 2 .'a' occurs twice"),
        (b"claims: {}\nheadline: [a]\n", "needs 'regimes'; add it"),
        (b"[" * 3000, "is nested too deeply"),
        (b"claims:\n  ? [1, 2]\n  : x\n", "a key is no word"),
        (b"claims: &a {<<: {b: 1}, b: 2}\nx: {<<: *a, b: 3}\n", "unknown key 'x' .valid: headline, regimes, claims."),
        (b"- a\n", "the file: ..a.. should be a valid dictionary; correct it"),
        (b"\xff", "is not valid YAML"),
    ],
)
def test_what_is_no_configuration_is_one_sentence(root, content, words):
    (root / "config/claims.yaml").write_bytes(content)
    assert re.search(words, "\n".join(told(root)))


def test_a_folder_and_a_loop_of_links_in_place_of_a_file_are_one_sentence(root):
    (root / "config/scales/smoke.yaml").unlink()
    (root / "config/scales/smoke.yaml").symlink_to("smoke.yaml")
    assert "smoke.yaml: cannot be read" in sentence(root, "smoke")
    (root / "config/protocol.yaml").unlink()
    (root / "config/protocol.yaml").mkdir()
    assert "protocol.yaml: cannot be read" in sentence(root)


def test_a_base_that_is_no_mapping_is_refused(root):
    (root / "config/scales/tiny.yaml").write_text("- 1\n")
    assert "holds no mapping" in sentence(root, "smoke")


def test_a_run_needs_the_backbones_that_arms_of_an_experiment_name():
    assert load("paper").backbones(["geometry_diagnostic"]) == {"gpt2", "gpt2_medium", "gpt2_large"}


def test_a_claim_cannot_take_the_name_of_a_rule(root):
    edit(root, "claims.yaml", lambda c: c["claims"].update(crate=c["claims"].pop("gpt2_to_gpt2_large")))
    assert [line for line in told(root) if "claims.crate: is the name of a rule" in line]


def test_a_claim_cannot_take_the_name_of_a_folder_beside_the_makefile(root):
    edit(root, "claims.yaml", lambda c: c["claims"].update(docs=c["claims"].pop("gpt2_to_gpt2_large")))
    edit(root, "claims.yaml", lambda c: c["claims"].update(abi=c["claims"].pop("gpt2_to_gpt2_medium")))
    said = told(root)
    assert [line for line in said if "claims.abi: `make abi` would find the folder of that name" in line]
    assert [line for line in said if "claims.docs: is a word of the Makefile" in line]


@pytest.mark.parametrize(
    "lock",
    ["", "5", "- a", "backbones: [a]", "sources: 3", f"backbones: {{t5_large: {'0' * 40}}}", "x: {}",
     "backbones: {t5_large: {revision: main, files: {}}}"],
)  # fmt: skip
def test_a_lock_that_is_none_is_refused(root, lock):
    (root / "config/scales/paper.lock.yaml").write_text(lock)
    assert "is no lock of `abi pin`" in sentence(root, "paper")


def test_a_scale_extends_another_key_by_key(root):
    tiny, smoke = (read_scale(name, root / "config/scales") for name in ("tiny", "smoke"))
    assert smoke.calibration["kd"].temperature == tiny.calibration["kd"].temperature
    assert smoke.backbones["t5_large"].build.pretraining.lr == tiny.backbones["t5_large"].build.pretraining.lr
    assert smoke.calibration["kd"].phases != tiny.calibration["kd"].phases


def test_scales_that_extend_each_other_are_refused(root):
    edit(root, "scales/tiny.yaml", lambda s: s.update(extends="smoke"))
    assert "extends" in sentence(root, "smoke")


PINNED = {"revision": "0" * 40, "files": {"config.json": {"bytes": 3, "hash": "1" * 40}}}
SIZES = {"parameters": 5, "rows": 2, "width": 2}


def locked(root, **edits):
    """Write a lock of scale paper, in which some entries differ; returns what the scale then has unpinned."""
    names = [name for name, b in read_scale("paper", root / "config/scales").backbones.items() if b.hub]
    backbones = {name: {**PINNED, "sizes": SIZES, **edits.get(name, {})} for name in names}
    lock = {"backbones": backbones, "sources": {"Salesforce/wikitext": PINNED}}
    (root / "config/scales/paper.lock.yaml").write_text(yaml.safe_dump(lock))
    return read_scale("paper", root / "config/scales").unpinned()


def test_a_lock_pins_what_was_unpinned(root):
    assert locked(root) == []
    hub = read_scale("paper", root / "config/scales").backbones["t5_large"].hub
    assert (hub.revision, hub.sizes.parameters, hub.files["config.json"].bytes) == ("0" * 40, 5, 3)
    assert hub.sentinels_as_bytes


def test_a_revision_that_a_scale_names_itself_needs_files_of_that_revision(root):
    edit(root, "scales/paper.yaml", lambda s: s["backbones"]["gpt2"]["hub"].update(revision="f" * 40))
    assert locked(root) == ["gpt2"]
    assert locked(root, gpt2={"revision": "f" * 40}) == []


def test_a_revision_without_its_files_is_not_pinned(root):
    assert locked(root, gpt2={"files": {}}) == ["gpt2"]


def test_a_scale_has_the_pins_of_what_it_extends_but_for_models_it_takes_from_elsewhere(root):
    locked(root)
    mine = root / "config/scales/mine.yaml"
    mine.write_text("scale: mine\nextends: paper\nbackbones: {gpt2: {hub: {id: someone/gpt2}}}\n")
    scale = read_scale("mine", mine.parent)
    assert scale.unpinned() == ["gpt2"]
    assert (scale.backbones["gpt2"].hub.files, scale.backbones["gpt2"].hub.sizes) == ({}, None)
    assert scale.backbones["t5_large"].hub == read_scale("paper", mine.parent).backbones["t5_large"].hub
    own = {**PINNED, "revision": "5" * 40, "licence": "mit"}
    (mine.parent / "mine.lock.yaml").write_text(yaml.safe_dump({"backbones": {"gpt2": own}, "sources": {}}))
    scale = read_scale("mine", mine.parent)
    assert (scale.unpinned(), scale.backbones["gpt2"].hub.licence) == ([], "mit")
    (mine.parent / "mine.lock.yaml").unlink()
    mine.write_text(f"scale: mine\nextends: paper\nbackbones: {{gpt2: {{hub: {{revision: {'f' * 40}}}}}}}\n")
    scale = read_scale("mine", mine.parent)  # another revision has other files
    assert (scale.unpinned(), scale.backbones["gpt2"].hub.files) == (["gpt2"], {})
    mine.write_text("scale: mine\nextends: paper\nbackbones: [gpt2, qwen]\n")
    with pytest.raises(ConfigError, match="backbones"):
        read_scale("mine", mine.parent)
    mine.write_text("scale: mine\nextends: paper\nbackbones: {gpt2: {hub: [1]}}\n")
    with pytest.raises(ConfigError, match=r"backbones\.gpt2\.hub"):
        read_scale("mine", mine.parent)


def test_paper_is_unpinned_until_abi_pin_has_run():
    scale = read_scale("paper", ROOT / "config/scales")
    if not (ROOT / "config/scales/paper.lock.yaml").exists():
        with pytest.raises(ConfigError, match="abi pin --scale paper"):
            scale.require_pinned()


def test_a_run_is_asked_for_the_pins_and_terms_of_what_it_needs_alone(root):
    """Gemma's terms stopped a run of SmolLM2, and one model of nine without a pin stopped a claim on two others."""
    real = config.load("real", root)
    real.require_inputs(["smollm2_same_backbone"])
    for asked in (["gemma3_to_smollm2"], ["headline"], []):
        with pytest.raises(ConfigError, match="Gemma Terms of Use must be accepted"):
            real.require_inputs(asked)
    paper = config.load("paper", root)
    with pytest.raises(ConfigError, match=r"no pinned revision of gpt2_medium, Salesforce/wikitext; go"):
        paper.require_pinned(["gpt2_update"])
    with pytest.raises(ConfigError, match="qwen2_7b"):
        paper.require_pinned()
    with pytest.raises(ConfigError, match=r"no pinned revision of t5_large, gpt2_medium, Salesforce/wikitext; go"):
        paper.require_pinned(["headline"])
    assert config.targets_of(["snakemake", "-n", "--", "a", "b"]) == ["a", "b"]
    assert config.targets_of(["snakemake", "-n", "a"]) == []


def test_pinned_text_sources_are_the_locked_versions():
    lock = (ROOT / "envs/requirements.lock").read_text()
    for place in read_scale("tiny", ROOT / "config/scales").sources["wheels"]:
        assert f"{place.package}=={place.version} " in lock
        assert metadata.version(place.package) == place.version


def test_pip_and_conda_have_the_same_pins():
    names = r"(?m)^([A-Za-z0-9._-]+==[^\s;\\]+)"
    lock = set(re.findall(names, (ROOT / "envs/requirements.lock").read_text()))
    lock |= set((ROOT / "envs/torch.txt").read_text().split())
    conda = yaml.safe_load((ROOT / "envs/abi.yaml").read_text())["dependencies"][-1]["pip"]
    assert set(conda) == lock


def test_a_declared_width_bounds_a_module_as_a_built_one_does(root):
    edit(root, "scales/real.yaml", lambda s: s["modules"]["standard"].update(d_abi=600))
    said = [
        line for line in told(root, "real") if "modules.standard.d_abi: 600 is too large for smollm2: 576 wide" in line
    ]
    assert said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check", "scale mine: "),
        ("claims", "scale mine: "),
        ("pin", "scale mine: nothing to pin"),
        ("plan t5_to_qwen2_7b", "it runs at scale paper only"),
        ("generate --backbone x --prompt a", "'x' is not a backbone of scale mine"),
        ("replicates", "replicates of mine"),
    ],
)
def test_every_command_reads_the_configuration_of_the_checkout_it_is_called_in(root, words, said, monkeypatch, capsys):
    (root / "config/scales/mine.yaml").write_text("extends: tiny\nscale: mine\n")
    monkeypatch.chdir(root)
    command, *more = words.split()
    main([command, *more, "--scale", "mine"])
    found = capsys.readouterr()
    assert said in found.out + found.err


def test_a_configuration_is_read_without_libyaml_as_with_it():
    code = "import yaml; yaml.__with_libyaml__ = {}; from abi.plan.config import load; print(load('tiny'))"
    with_it, without = (
        subprocess.run([sys.executable, "-c", code.format(has)], cwd=ROOT, capture_output=True, text=True, check=True)
        for has in (True, False)
    )
    assert with_it.stdout == without.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("max_seeds: 3\n", "has `replicate`, and max_seeds beside it; a replicate has other pretraining seeds alone"),
        ("extends:\n", "has `replicate` and no `extends`; name the scale that it replicates"),
    ],
)
def test_a_replicate_changes_nothing_else(root, more, words):
    """It was compared with its scale as if both had the same budgets."""
    path = root / "config/scales/tiny_r1.yaml"
    if more.startswith("extends"):
        path.write_text(path.read_text().replace("extends: tiny\n", ""))
    else:
        path.write_text(path.read_text() + more)
    assert sentence(root, "tiny_r1").startswith(f"config/scales/tiny_r1.yaml: {words}")


def test_a_replicate_builds_no_claim_on_models_of_others(root):
    """They would be the same models again, and their verdicts counted as those of other pretraining seeds."""
    assert "gpt2_to_qwen" in config.load("tiny_r1", root).every()
    hub = {"id": "Qwen/Qwen2-0.5B", "revision": "unpinned"}
    edit(root, "scales/tiny.yaml", lambda s: s["backbones"]["qwen"].update(hub=hub))
    edit(root, "scales/tiny.yaml", lambda s: s["backbones"]["qwen"].pop("build"))
    assert "gpt2_to_qwen" in config.load("tiny", root).every()
    found = config.load("tiny_r1", root)
    assert "t5_to_gpt2" in found.every()
    assert not [name for name in found.every() if name.startswith("gpt2_to_qwen")]
    assert "gpt2_to_qwen" in found.pending


def test_a_folder_of_a_model_is_asked_for_its_layers_and_positions(root, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "num_hidden_layers": 4, "max_position_embeddings": 64})
    )
    made = {"folder": {"path": str(tmp_path)}, "taps": [2, 7], "window": {"length": 128, "prefix": 0, "skip": 20}}
    edit(root, "scales/tiny.yaml", lambda s: s["backbones"].update(own=made))
    assert [line.partition("backbones.own.")[2] for line in told(root)] == [
        "taps: 7 is beyond the 4 layers of the model; lower it",
        "window: 128 tokens are more than the 64 positions of the model; lower `length`",
    ]
    for content in ("[]", "{", '{"num_hidden_layers": "x"}', "[" * 5000):
        (tmp_path / "config.json").write_text(content)
        assert config.load("tiny", root).scale.backbones["own"].taps == [2, 7]


@pytest.mark.parametrize(
    ("package", "version", "words"),
    [
        ("no-such-package", "1.0", "is not installed; run `pip install no-such-package==1.0`, or correct its entry"),
        ("sympy", "0.1", "is installed as {}, not as 0.1; run `pip install sympy==0.1`, or correct its entry"),
    ],
)
def test_a_package_that_is_not_installed_is_told_before_anything_runs(root, package, version, words):
    for name, source in (
        ("wheels", {"kind": "package", "package": package, "version": version}),
        ("descriptions", {"kind": "metadata", "packages": {package: version}, "part_bytes": 2500}),
    ):
        edit(root, "scales/tiny.yaml", lambda s, name=name, source=source: s["sources"].update({name: [source]}))
        place = f"config/scales/tiny.yaml: sources.{name}: {package}"
        said = f"jobs on this machine will be refused: {place} {words.format(metadata.version('sympy'))}"
        assert said in checked("tiny", [], root)
        shutil.copy(ROOT / "config" / "scales" / "tiny.yaml", root / "config" / "scales")


@pytest.mark.parametrize("emptied", [None, [], "gpt2"])
def test_backbones_that_are_none_in_what_a_scale_extends_are_one_sentence(root, emptied):
    edit(root, "scales/tiny.yaml", lambda s: s.update(backbones=emptied))
    for scale in ("tiny", "smoke", "real"):
        assert told(root, scale)


def test_what_gives_no_verdict_is_noted(root):
    edit(root, "claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(seeds=2))
    assert not [line for line in checked("paper", []) if line.startswith("note")]
    note = "note: claims.t5_to_gpt2: a verdict needs 3 seeds, and it has 2: no interval, hence no verdict"
    assert note in checked("tiny", [], root)
    assert note in checked("tiny", ["t5_to_gpt2"], root)
    assert note not in checked("tiny", ["gpt2_to_qwen"], root)
    few = {"scale": "few", "extends": "tiny", "description": "few seeds", "max_seeds": 2}
    (root / "config" / "scales" / "few.yaml").write_text(yaml.safe_dump(few))
    assert note.replace("t5_to_gpt2", "gpt2_to_qwen") in checked("few", ["gpt2_to_qwen"], root)
    edit(root, "scales/smoke.yaml", lambda s: s["texts"]["sql"].update(min_test_groups=5))
    assert "note: texts.sql.min_test_groups: 5 test groups give no interval and so no verdict; write 30" in checked(
        "smoke", [], root
    )


def test_a_scale_cannot_have_the_name_of_the_folder_of_committed_runs(root):
    (root / "config/scales/smoke.yaml").rename(root / "config/scales/reference.yaml")
    assert "results/reference is where committed runs lie; give the scale another name" in sentence(root, "reference")


def test_the_report_depends_on_every_document_of_the_record_and_no_verdict_does(root):
    def specs():
        workflow = Workflow(load("smoke", root))
        return workflow.report_spec(), workflow.page_spec("summary"), workflow.of("t5_to_gpt2").verdict_spec()

    before = specs()
    document = sorted((root / "config/record/published_results").glob("*.json"))[0]
    document.write_text(document.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert [a == b for a, b in zip(before, specs(), strict=True)] == [False, True, True]
