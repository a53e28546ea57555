"""The DAG in an empty folder: what is planned, and what is refused before anything is planned.

A dry run takes seconds: one answers for several targets where the jobs of each can still be told apart, and for every
test that asks the same.
"""

import re
import subprocess
import sys
from functools import cache

import pytest

PAGES = ("summarise", "tabulate_transfers", "tabulate_experiments", "write_report", "write_cards")

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(540)]


@pytest.fixture(scope="module")
def untouched(copied, tmp_path_factory):
    """A copy in which nothing was built; never edited."""
    return copied(tmp_path_factory.mktemp("planned") / "repo")


@pytest.fixture(scope="module")
def planned(untouched):
    """Targets -> what `untouched` plans for them."""
    return cache(untouched.planned)


def of_torch(jobs):
    """Return how many jobs import torch."""
    light = {"build_text", "judge_claim", "judge_study", "judge_ladder", *PAGES}
    return sum(n for rule, n in jobs.items() if rule not in light)


# a fifth of the jobs that import torch try learning rates: a job per fitted claim, modules and rotations of a seed more;
# 17 compare what is scored with train, a job per backbone and text, of two CPU-seconds each


def test_plain_snakemake_plans_all_claims_in_an_empty_folder_within_the_budget(untouched):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"], cwd=untouched.root, capture_output=True, text=True, check=True
    )
    assert "judge_claim" in done.stdout
    assert "results/tiny/summary.md" in done.stdout
    assert "results/tiny/headline.md" in done.stdout
    assert 0 < of_torch(untouched.counted(done.stdout)) <= 360


def test_the_headline_plans_its_claims_alone_within_the_budget(untouched):
    jobs = untouched.planned("headline", scale="tiny")
    assert (jobs["judge_claim"], jobs["summarise"], jobs["build_backbone"]) == (2, 1, 2)
    assert "judge_ladder" not in jobs
    assert 0 < of_torch(jobs) <= 50


def test_a_ladder_plans_its_rungs_and_a_law_its_updates(planned):
    jobs = planned("cross_size", "calibration_scaling")
    assert (jobs["judge_claim"], jobs["judge_ladder"], jobs["judge_study"]) == (3, 1, 1)
    assert jobs["update_backbone"] == 6
    assert (jobs["write_updated_states"], jobs["train_updated_modules"]) == (12, 24)


def test_an_update_plans_its_own_backbones_and_an_atlas_none_and_both_no_transfer(planned):
    jobs = planned("t5_update", "domain_atlas")
    assert (jobs["update_backbone"], jobs["write_updated_states"], jobs["train_updated_modules"]) == (6, 6, 3)
    assert not {"calibrate_arms", "fit_alignment", "evaluate_arms", "generate_text"} & set(jobs)


def test_a_claim_alone_plans_only_what_it_needs(planned):
    jobs = planned("t5_same_backbone")
    assert jobs["build_backbone"] == jobs["judge_claim"] == 1
    assert "fit_alignment" not in jobs


def test_its_file_is_planned_alike_by_the_slurm_profile_with_more_memory_and_time_at_each_attempt(untouched, planned):
    asked = ("-n", "results/smoke/cross_arch_t5_nib_v53_results.json", "--workflow-profile", "profiles/slurm")
    said = [untouched.run(*asked, "--attempt", n).stdout for n in "12"]
    assert untouched.counted(said[0]) == planned("t5_same_backbone")
    amounts = [[int(n) for n in re.findall(r"(?:runtime|mem_mb)=(\d+)", text)] for text in said]
    assert amounts[0]
    assert amounts[1] == [2 * amount for amount in amounts[0]]


def test_the_menu_lists_every_claim_with_its_title_and_no_pending_one(untouched):
    menu = untouched.run("--list-target-rules").stdout
    assert all(f"{name} ({title})" in menu for name, title in untouched.targets().items())
    assert "t5_to_qwen2_7b" not in menu


def test_bad_configuration_is_one_sentence_and_exit_code_2(empty):
    empty.edit("config/claims.yaml", lambda c: c["claims"]["t5_to_gpt2"].update(target="gpt2_medum"))
    done = empty.run(check=False)
    assert done.returncode == 2
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("abi: ")]
    assert "did you mean 'gpt2_medium'?" in sentence
    assert "Traceback" not in done.stderr
    assert not (empty.root / "results").exists()


def test_a_paper_claim_without_its_downloads_refuses(untouched):
    done = untouched.run("t5_to_gpt2", check=False, scale="paper")
    assert done.returncode == 2
    assert "abi pin --scale paper" in done.stderr
    assert not (untouched.root / "results").exists()


def test_rates_are_chosen_once_per_fitted_claim_before_its_arms_are_fitted(planned):
    few = planned("t5_to_gpt2_few_shot")
    assert few["choose_rates"] == few["calibrate_arms"] == few["train_lora"] == 1
    assert few["train_modules"] > len({"source", "oracle", "reference"})  # those of the trials besides
    before = planned("results/smoke/rates/t5_to_gpt2_few_shot.json", "t5_to_gpt2_zero_text")
    assert before["choose_rates"] == 1  # of the file; the other is fitted on no text
    assert "calibrate_arms" not in before
