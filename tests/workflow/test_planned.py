"""The DAG in an empty folder: what is planned, and what is refused before anything is planned."""

import re
import subprocess
import sys

import pytest

PAGES = ("summarise", "tabulate_transfers", "tabulate_experiments", "write_report", "write_cards")

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(540)]


def test_plain_snakemake_plans_all_claims_in_an_empty_folder(empty):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"], cwd=empty.root, capture_output=True, text=True, check=True
    )
    assert "judge_claim" in done.stdout
    assert "results/tiny/summary.md" in done.stdout
    assert "results/tiny/headline.md" in done.stdout


def test_the_headline_plans_its_claims_alone(empty):
    planned = empty.planned("headline", scale="tiny")
    assert (planned["judge_claim"], planned["summarise"], planned["build_backbone"]) == (2, 1, 2)
    assert "judge_ladder" not in planned


def test_a_ladder_plans_its_rungs(empty):
    planned = empty.planned("cross_size")
    assert (planned["judge_claim"], planned["judge_ladder"]) == (3, 1)


def test_the_slurm_profile_plans_the_same_jobs_with_more_memory_and_time_at_each_attempt(empty):
    profile = ("t5_same_backbone", "--workflow-profile", "profiles/slurm")
    assert empty.planned(*profile) == empty.planned("t5_same_backbone")
    asked = [re.findall(r"runtime=\d+|mem_mb=\d+", empty.run("-n", *profile, "--attempt", n).stdout) for n in "12"]
    once, twice = ([int(word.partition("=")[2]) for word in words] for words in asked)
    assert once
    assert twice == [2 * amount for amount in once]


def test_an_update_plans_its_own_backbones_and_no_transfer(empty):
    jobs = empty.planned("t5_update")
    assert (jobs["update_backbone"], jobs["write_updated_states"], jobs["train_updated_modules"]) == (6, 6, 3)
    assert not {"calibrate_arms", "fit_alignment", "evaluate_arms", "generate_text"} & set(jobs)


def test_an_atlas_and_a_law_plan_nothing_of_each_other(empty):
    atlas, law = empty.planned("domain_atlas"), empty.planned("calibration_scaling")
    assert "update_backbone" not in atlas
    assert law["update_backbone"] == 6
    assert (law["write_updated_states"], law["train_updated_modules"]) == (12, 24)


def test_a_pending_claim_is_no_target_of_a_scale_that_cannot_run_it(empty):
    assert "t5_to_qwen2_7b" not in empty.run("--list-target-rules").stdout


def test_a_claim_alone_plans_only_what_it_needs(empty):
    planned = empty.planned("t5_same_backbone")
    assert planned["build_backbone"] == planned["judge_claim"] == 1
    assert "fit_alignment" not in planned
    assert planned == empty.planned("results/smoke/cross_arch_t5_nib_v53_results.json")


def test_the_menu_lists_every_claim_with_its_title(empty):
    menu = empty.run("--list-target-rules").stdout
    assert all(f"{name} ({title})" in menu for name, title in empty.targets().items())


def test_every_job_that_imports_torch_fits_the_budget(empty):
    light = {"build_text", "judge_claim", "judge_study", "judge_ladder", *PAGES}
    # a fifth of them try learning rates: a job per fitted claim, modules and rotations of one more seed
    for target, most in (("headline", 50), ("all", 340)):
        planned = empty.planned(target, scale="tiny")
        assert 0 < sum(n for rule, n in planned.items() if rule not in light) <= most


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "config/claims.yaml",
            lambda c: c["claims"]["t5_to_gpt2"].update(target="gpt2_medum"),
            "did you mean 'gpt2_medium'?",
        ),
        ("config/claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(sedes=3), "did you mean 'seeds'?"),
        ("config/scales/smoke.yaml", lambda c: c["modules"]["wide"].update(d_abi=5000), "d_abi: 5000"),
        (
            "config/scales/smoke.yaml",
            lambda c: c["calibration"]["kd"].update(temprature=3),
            "did you mean 'temperature'?",
        ),
    ],
)
def test_bad_configuration_is_one_sentence_and_exit_code_2(empty, file, change, words):
    empty.edit(file, change)
    done = empty.run(check=False)
    assert done.returncode == 2
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("abi: ")]
    assert words in sentence
    assert "Traceback" not in done.stderr
    assert not (empty.root / "results").exists()


def test_a_paper_claim_without_its_downloads_refuses(empty):
    done = empty.run("t5_to_gpt2", check=False, scale="paper")
    assert done.returncode == 2
    assert "abi pin --scale paper" in done.stderr
    assert not (empty.root / "results").exists()


def test_rates_are_chosen_once_per_fitted_claim_before_its_arms_are_fitted(empty):
    few = empty.planned("t5_to_gpt2_few_shot")
    assert few["choose_rates"] == few["calibrate_arms"] == few["train_lora"] == 1
    assert few["train_modules"] > len({"source", "oracle", "reference"})  # those of the trials besides
    assert "choose_rates" not in empty.planned("t5_to_gpt2_zero_text")
    assert "calibrate_arms" not in empty.planned("results/smoke/rates/t5_to_gpt2_few_shot.json")
