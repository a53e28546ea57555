"""A closed form may have more seeds than the gradient fits of its claim: who needs them, who does not."""

import math

import pandas as pd
import pytest
from evidence_rows import CRITERIA, rows

from abi.judge.rows import validate
from abi.judge.tables import fit_tables
from abi.plan.config import load
from abi.plan.workflow import Workflow, seeds_of

WORKFLOW = Workflow(load("tiny"))
CLAIM = "gpt2_to_qwen"


def test_modules_alignments_and_evidence_cover_all_of_them():
    assert (WORKFLOW.config.seeds(CLAIM), WORKFLOW.config.closed_form_seeds(CLAIM)) == (5, 10)
    inputs = WORKFLOW.of(CLAIM).verdict_input()
    for key in ("source", "oracle", "reference", "calibration"):
        assert [
            seed for path in inputs[key] for seed in seeds_of(path.rpartition("/")[2].removesuffix(".json"))
        ] == list(range(1, 11))


def test_regimes_that_share_an_alignment_share_its_batches():
    whole, few = (WORKFLOW.of(claim).calibration_input("1-5")["alignment"] for claim in (CLAIM, f"{CLAIM}_few_shot"))
    assert whole == few == [f"results/tiny/alignments/{CLAIM}/1-10.json"]


def test_few_shot_has_no_closed_form_and_lora_no_more_seeds():
    assert WORKFLOW.config.closed_form_seeds(f"{CLAIM}_few_shot") == 5
    assert WORKFLOW.of(CLAIM).lora_files("1-10")["lora"] == [f"results/tiny/lora/{CLAIM}/1-5.json"]
    assert WORKFLOW.of(CLAIM).lora_files("6-10") == {}
    assert WORKFLOW.of(CLAIM).calibration_spec("6-10")["closed_only"] == [6, 7, 8, 9, 10]
    assert WORKFLOW.of(CLAIM).calibration_spec("1-5")["closed_only"] == []


def test_a_claim_without_the_key_has_one_number_of_seeds():
    assert WORKFLOW.config.closed_form_seeds("pythia_to_gpt2") == WORKFLOW.config.seeds("pythia_to_gpt2") == 3


@pytest.mark.parametrize(("fit", "seeds"), [("kd", 3), ("closed-form", 6)])
def test_each_fit_is_judged_on_its_own_seeds_and_none_counts_as_dropped(fit, seeds):
    frame = validate(pd.concat(_two_fits(), ignore_index=True))
    found = fit_tables(frame, fit=fit, criteria=CRITERIA)
    assert (len(found.counts.seeds), found.counts.dropped.seeds) == (seeds, [])


def test_a_perplexity_is_over_the_documents_and_seeds_of_its_fit():
    losses = [part[part["metric"] == "bits_per_byte"].assign(metric="loss_nats") for part in _two_fits()]
    frame = validate(pd.concat([*_two_fits(), *losses], ignore_index=True))
    own = frame[(frame["metric"] == "loss_nats") & (frame["scope"] == "domain") & (frame["arm"] == "oracle")]
    for fit, seeds in (("kd", 3), ("closed-form", 6)):
        found = fit_tables(frame, fit=fit, criteria=CRITERIA).perplexities()
        wanted = math.exp(own[own["seed"] < seeds]["value"].mean())
        assert found["oracle"]["domain"] == pytest.approx(wanted)
        assert found["transferred"].keys() == {"domain", "general"}


def _two_fits():
    """Return rows of three seeds, and of a fit in closed form that has six."""
    both = rows(n_seeds=6, fit="closed-form"), rows(n_seeds=3, fit="kd", seed=1)
    return both[0], both[1][both[1]["fit"] != "-"]
