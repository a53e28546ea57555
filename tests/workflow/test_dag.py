"""The DAG run for real at scale smoke: what is stale, what is reproducible."""

import json
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from chains import DAMAGED, FORGED, RUN, fit_together, only, resealed

from abi.audit.results.chain import Chain
from abi.audit.results.places import CRATE
from abi.audit.results.records import read_record
from abi.audit.results.status import remembered
from abi.base.digest import OUTSIDE_DIGEST, names_reached
from abi.base.errors import DataError
from abi.base.files import sha256_file
from abi.base.job import step_of
from abi.cli import main
from abi.cli.deep import deep
from abi.cli.verify import pages
from abi.plan.config import load

LESSONS = [f"abi/arms/{name}_lesson.py" for name in ("domain", "few_shot", "general")]
LOADED = {"calibrate_arms": LESSONS, "choose_rates": [*LESSONS, step_of("train_lora")]}
"""What steps load by names of their specs (`abi.base.job.starts_of`)."""
PAGES = ("summarise", "tabulate_transfers", "write_report", "write_cards")

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(540)]


def test_everything_is_built_and_nothing_is_stale(built):
    assert built.planned() == {}
    assert (built.root / "results/smoke/summary.md").exists()


def test_result_files_name_verdict_arms_and_what_made_them(built):
    result = json.loads((built.root / "results/smoke/cross_arch_enc_dec_nib_results.json").read_text())
    assert result["verdict"] in {"SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS"}
    assert set(load("smoke", built.root).claims["t5_to_gpt2"].arms) <= set(result["fits"]["kd"]["arms"])
    assert set(result["provenance"]["inputs"]) >= {"results/smoke/evidence/t5_to_gpt2/1-3.csv.gz"}
    assert result["nib_official"]["rng_seed"] == 7777


def test_evidence_reads_in_pandas_with_every_core_arm_and_held_out_groups_only(built):
    rows = pd.read_csv(built.root / "results/smoke/evidence/t5_to_gpt2/1-3.csv.gz")
    manifest = pd.read_csv(built.root / "results/smoke/corpus/python.csv")
    test_groups = set(manifest[manifest["split"] == "test"]["group"])
    assert set(rows[rows["scope"] == "domain"]["group"]) <= test_groups
    assert {"raw", "oracle", "reference", "native", "transferred", "random", "permuted"} <= set(rows["arm"])


def test_no_group_is_in_two_splits_and_both_texts_split_alike(built):
    tables = [pd.read_csv(built.root / f"results/smoke/corpus/{text}.csv") for text in ("python", "general")]
    assert (pd.concat(tables).groupby("group")["split"].nunique() == 1).all()


def test_the_report_shows_every_claim_and_snakemakes_own_report_the_same_figures(edited):
    folder = edited.root / "results/smoke"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(f'id="claim-{name}"' in page for name in edited.targets())
    assert "verdicts are no evidence" in page
    assert {path.stem for path in (folder / "cards").iterdir()} == {"t5_same_backbone", "t5_to_gpt2"}
    edited.run("--report", "own.html")
    own = (edited.root / "own.html").read_text(encoding="utf-8")
    assert all(path.name in own for path in (folder / "figures").glob("*.svg"))
    assert "Every arm of one study" in own


def test_a_comment_or_docstring_edit_reruns_nothing(edited):
    edited.edit(
        "abi/arms/metrics.py", lambda text: text.replace('"""NIB metrics', '"""Metrics, NIB') + "\n# a remark\n"
    )
    edited.edit("abi/steps/train_modules.py", lambda text: text + "# a remark\n")
    assert edited.planned() == {}


def test_touched_files_rerun_nothing(edited):
    for path in [
        *edited.root.glob("abi/**/*.py"),
        *edited.root.glob("scripts/*.py"),
        *edited.root.glob("results/smoke/**/*.json"),
    ]:
        path.touch()
    assert edited.planned() == {}


def test_an_edit_of_metrics_reruns_evaluation_and_what_follows(edited):
    edited.edit("abi/arms/metrics.py", lambda text: text.replace("FLOOR = -70.0", "FLOOR = -71.0"))
    assert set(edited.planned()) == {"evaluate_arms", "judge_claim", *PAGES}


@pytest.mark.long
def test_no_step_calls_what_its_digest_leaves_out(again):
    started_by_the_job = ("abi/base/warm.py", "abi/base/heap.py", "abi/base/compute.py")
    outside = {"abi/__init__.py", *(f"{name.replace('.', '/')}.py" for name in OUTSIDE_DIGEST)}
    rules = set()
    for file in again.traced.glob("*.tsv"):
        called = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
        rule = Path(called[0][0]).stem
        counted = names_reached([step_of(rule), *LOADED.get(rule, ())], again.root)
        names = {(str(Path(path).relative_to(again.root)), name.split(".")[0]) for path, name in called}
        none = outside | {path for path in started_by_the_job if path not in counted}
        missed = {(path, name) for path, name in names if path not in none and name not in counted.get(path, ())}
        assert not {one for one in missed if one[0].endswith(".py") and not one[1].startswith("<")}, rule
        rules.add(rule)
    assert {"build_text", "write_states", "train_modules", "calibrate_arms", "evaluate_arms", "judge_claim"} <= rules


def test_an_edit_that_is_taken_back_reruns_nothing(edited):
    file, text = edited.edit("abi/models/loop.py", lambda text: text.replace("1_000_003", "1_000_033"))
    assert "train_modules" in edited.planned()
    file.write_text(text, encoding="utf-8")
    assert edited.planned() == {}


def test_the_grid_of_learning_rates_reruns_no_frozen_stage(edited):
    edited.edit("config/scales/smoke.yaml", lambda c: c["calibration"]["kd"].update(rates=[3.0e-3, 1.0e-2]))
    planned = edited.planned()
    fits = {"choose_rates", "calibrate_arms", "train_lora"}
    assert set(planned) == {*fits, "evaluate_arms", "judge_claim", *PAGES}
    assert {planned[rule] for rule in (*fits, "judge_claim")} == {1}  # the transfer in oracle-kd


def test_a_claims_words_rerun_its_verdict_only(edited):
    edited.edit("config/claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(title="Another title"))
    pages = {"summarise": 2, "tabulate_transfers": 1, "write_report": 1, "write_cards": 1}
    assert edited.planned() == {"judge_claim": 4, **pages}  # four regimes, two pages that count


def test_two_swapped_values_are_noticed(edited):
    def swap(content):
        windows = content["texts"]["python"]["max_windows"]
        windows["train"], windows["test"] = windows["test"], windows["train"] + 1

    edited.edit("config/scales/smoke.yaml", swap)
    assert edited.planned()["write_states"] == 2  # one per backbone


def test_code_edited_while_the_workflow_runs_is_refused(edited):
    (edited.root / "results/smoke/cross_arch_enc_dec_nib_results.json").unlink()
    snakefile = edited.root / "workflow/rules/common.smk"
    snakefile.write_text(snakefile.read_text().replace("return digest(", 'return "0" * 20 or digest('))
    done = edited.run("t5_to_gpt2", check=False)
    assert done.returncode != 0
    assert "run the same command again" in done.stderr + done.stdout


@pytest.mark.long
def test_a_new_claim_is_data_alone(edited):
    def other_direction(content):
        claim = {
            **content["claims"]["t5_to_gpt2"],
            "source": "gpt2_medium",
            "target": "t5_large",
            "title": "GPT-2 to T5",
        }
        content["claims"]["gpt2_to_t5"] = {**claim, "record": {"result_file": "gpt2_to_t5_results.json"}}

    edited.edit("config/claims.yaml", other_direction)
    planned = edited.planned("gpt2_to_t5")
    assert not {"build_text", "build_backbone"} & set(planned)
    assert planned["write_states"] == 1  # of the new source, on what its `wrong-domain` learns
    edited.run("gpt2_to_t5")
    result = json.loads((edited.root / "results/smoke/gpt2_to_t5_results.json").read_text())
    assert result["source_model"] == "gpt2_medium"
    assert result["record"] == {}


@pytest.mark.long
def test_two_runs_from_scratch_agree_bit_for_bit_even_after_a_kill(built, again):
    evidence = [path.relative_to(built.root) for path in (built.root / "results/smoke/evidence").rglob("*.csv.gz")]
    assert evidence
    for path in evidence:
        assert (built.root / path).read_bytes() == (again.root / path).read_bytes(), path.name


def test_snakemake_remembers_every_record_by_what_made_it(built, monkeypatch):
    """So `--mend` deletes nothing that Snakemake itself would make again."""
    monkeypatch.chdir(built.root)
    made = {}
    for path in map(str, RUN.rglob("*.json")):
        with suppress(DataError):  # a configuration, spellings
            made[path] = read_record(path).made
    assert len(made) > 30
    assert [path for path in made if not remembered(path, made[path])] == []


# the chain from the texts to the verdicts


def test_the_first_broken_link_of_the_chain_is_named(edited, monkeypatch):
    monkeypatch.chdir(edited.root)
    assert Chain.of(RUN).broken == []
    wrong = {}
    for name, (pattern, damage, record) in DAMAGED.items():
        path = only(pattern)
        whole = path.read_bytes()
        damage(path)
        first = Chain.of(RUN).broken[0]
        if first.file != str(path) or not Path(first.record).match(str(RUN / record)):
            wrong[name] = first.words()
        path.write_bytes(whole)
    assert wrong == {}
    assert Chain.of(RUN).loose() == []
    resealed(only("evidence/t5_to_gpt2/1-*.json"), lambda document: document["provenance"].update(inputs={}))
    fit_together()
    assert Chain.of(RUN).broken == []
    [cut] = Chain.of(RUN).loose()
    assert cut.words().endswith("promises a chain back to a text, it names no input of evaluate_arms")
    for rule, asked in WRONG_RULES.items():
        path = only("evidence/t5_to_gpt2/1-*.json")
        resealed(path, lambda document, rule=rule: document["provenance"].update(rule=rule))
        fit_together()
        told = Chain.of(RUN).broken[0]
        assert (told.file, told.promised, told.found) == (str(path), f"a record of {asked}", f"it says {rule}")


WRONG_RULES = {
    "evaluate_studies": "evaluate_arms",  # of which nothing is scored again
    "build_text": "evaluate_arms or evaluate_experiment or evaluate_studies",  # with which a chain may begin
}
"""Rule that a record of evidence names, and which may write it."""


@pytest.mark.long
def test_an_honest_chain_is_whole_also_where_it_is_made_again(built, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["verify", "--deep", str(built.root / RUN)]) == 0
    out = capsys.readouterr().out
    assert "chain: whole, in " in out
    assert "5 judged again" in out
    assert "rows of 5 claims scored again" in out
    assert "\n            not " not in out  # nothing is set aside, the regime without text neither


@pytest.mark.long
def test_a_forgery_whose_hashes_and_seals_fit_is_found_where_it_is_made_again(edited, monkeypatch):
    monkeypatch.chdir(edited.root)
    for forge, _ in FORGED.values():
        forge()
    fit_together()
    assert Chain.of(RUN).broken == []
    found = {part.name: part for part in deep(RUN, [], pages).parts}
    for name, (_, pattern) in FORGED.items():
        assert {Path(link.file) for link in found[name.partition(":")[0]].broken} & set(RUN.glob(pattern)), name


@pytest.mark.long
def test_a_run_is_described_as_a_provenance_run_crate(edited):
    edited.run("crate")
    assert edited.planned("crate") == {}
    folder = edited.root / RUN
    graph = {e["@id"]: e for e in json.loads((folder / CRATE).read_text(encoding="utf-8"))["@graph"]}
    files = {name: e for name, e in graph.items() if e["@type"] == "File" and "sha256" in e}
    assert len(files) > 1000
    assert {name: sha256_file(folder / unquote(name)) for name in files} == {n: e["sha256"] for n, e in files.items()}
    rules = edited.root / "workflow/rules/report.smk"
    rules.write_text(
        rules.read_text(encoding="utf-8") + "\n# One line more of what the crate describes.\n", encoding="utf-8"
    )
    assert edited.planned("crate") == {"crate": 1}
