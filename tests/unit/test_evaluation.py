import math

import numpy as np
import pytest
import torch

from abi.arms.forms import LogitBias
from abi.arms.metrics import Key, evaluate, evidence_rows, published_draws, score
from abi.base.names import AGREEMENT
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS
from abi.models.module import AbiModule, ModuleConfig


@pytest.fixture
def arms():
    bias = LogitBias(11).requires_grad_(False)
    bias.logit_bias.copy_(torch.linspace(-1, 1, 11))
    modules = {
        f"{name}": AbiModule(ModuleConfig(8, (2,), 5), seed).requires_grad_(False)
        for seed, name in enumerate(("reference", "oracle", "moved"))
    }
    return {
        Key("-", "raw"): None, Key("-", "reference"): modules["reference"], Key("-", "oracle"): modules["oracle"],
        Key("kd", "moved"): modules["moved"], Key("closed-form", "moved", 2): modules["moved"], Key("kd", "bias"): bias,
    }  # fmt: skip


@pytest.fixture
def reference(arms):
    return arms[Key("-", "reference")]


def table(rows):
    """(fit, arm, draw, scope, document, metric) -> row, from evidence rows."""
    dicts = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    keyed = {tuple(d[k] for k in ("fit", "arm", "draw", "scope", "document", "metric")): d for d in dicts}
    assert len(keyed) == len(dicts)
    return keyed


@pytest.fixture
def evidence(make_states, head, arms, reference):
    scopes = {
        "domain": make_states(n=8, name="d"),
        "general": make_states(n=6, seed=1, name="g"),
        "on_training_text": make_states(n=5, seed=2, name="t"),
    }
    return scopes, table(evidence_rows(score(arms, reference, arms[Key("-", "oracle")], scopes, head), scopes, seed=4))


def per_window(model, states, head, reference, teacher):
    return {m: v for _, m, v in evaluate({"a": model}, states, head, reference=reference, teacher=teacher)}


def test_a_row_is_the_mean_of_a_documents_windows(evidence, arms, reference, head):
    scopes, rows = evidence
    states = scopes["domain"]
    for key, model in arms.items():
        values = per_window(model, states, head, reference, arms[Key("-", "oracle")])
        for metric in ("loss_nats", *AGREEMENT, "teacher_js_nats"):
            if key.arm == "reference" and metric != "loss_nats":
                continue
            for i, windows in enumerate(([0, 1, 2], [3, 4, 5], [6, 7])):
                row = rows[key.fit, key.arm, key.draw, "domain", f"d{i}", metric]
                assert row["value"] == pytest.approx(np.mean([values[metric][w] for w in windows]), rel=1e-5, abs=1e-7)
                assert (row["n_positions"], row["group"], row["seed"]) == (len(windows) * 5, f"g{i // 2}", 4)


def test_bits_per_byte_are_all_nats_of_a_document_over_all_its_bytes(evidence, arms, head):
    scopes, rows = evidence
    for scope, states in scopes.items():
        logits = head.logits(states.final(slice(None))[:, 1:]).double()
        for i, name in enumerate(states.manifest.documents):
            own = states.document == i
            nats = torch.nn.functional.cross_entropy(
                logits[own].flatten(0, 1), states.targets(slice(None))[own][:, 1:].flatten(), reduction="sum"
            )
            wanted = float(nats) / math.log(2) / float(states.target_bytes[own][:, 1:].sum())
            assert rows["-", "raw", 0, scope, name, "bits_per_byte"]["value"] == pytest.approx(wanted, rel=1e-5)


def test_doubling_the_bytes_halves_the_bits_per_byte(make_states, head, reference):
    states = make_states()
    found = []
    for _ in range(2):
        rows = table(
            evidence_rows(
                score({Key("-", "raw"): None}, reference, None, {"domain": states}, head), {"domain": states}, 1
            )
        )
        found.append(rows["-", "raw", 0, "domain", "d0", "bits_per_byte"]["value"])
        states.target_bytes.mul_(2)
    assert found[0] == pytest.approx(2 * found[1])


def test_the_reference_is_never_compared_with_itself(evidence):
    _, rows = evidence
    assert {key[5] for key in rows if key[1] == "reference"} == {"loss_nats", "bits_per_byte"}
    assert {key[5] for key in rows if key[1] == "oracle"} == {
        "loss_nats",
        "bits_per_byte",
        "teacher_js_nats",
        *AGREEMENT,
    }


def test_off_domain_text_gives_losses_alone(evidence):
    _, rows = evidence
    assert {key[5] for key in rows if key[3] == "general"} == {"loss_nats", "bits_per_byte"}
    assert {key[5] for key in rows if key[3] == "on_training_text"} >= set(AGREEMENT)


def test_every_arm_has_every_document(evidence, arms):
    scopes, rows = evidence
    for key in arms:
        for scope, states in scopes.items():
            assert {k[4] for k in rows if k[:4] == (key.fit, key.arm, key.draw, scope)} == set(
                states.manifest.documents
            )


def test_one_model_under_two_names_has_the_same_figures(evidence):
    _, rows = evidence
    for key, row in rows.items():
        if key[:3] == ("kd", "moved", 0):
            assert rows["closed-form", "moved", 2, *key[3:]]["value"] == row["value"]


def test_without_a_teacher_agreement_with_it_is_that_with_the_reference(make_states, head, arms, reference):
    scopes = {"domain": make_states()}
    rows = table(evidence_rows(score(arms, reference, None, scopes, head), scopes, 1))
    for (*key, metric), row in rows.items():
        if metric == "teacher_js_nats":
            assert row["value"] == rows[*key, "js_nats"]["value"]


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_rows_do_not_depend_on_the_batch(evidence, arms, reference, head, batch):
    scopes, rows = evidence
    again = table(
        evidence_rows(
            score(arms, reference, arms[Key("-", "oracle")], scopes, head, windows_per_batch=batch), scopes, 4
        )
    )
    assert again.keys() == rows.keys()
    assert all(again[key]["value"] == pytest.approx(row["value"], rel=1e-5, abs=1e-6) for key, row in rows.items())


def test_rows_are_the_same_at_every_run(evidence, arms, reference, head):
    scopes, rows = evidence
    assert table(evidence_rows(score(arms, reference, arms[Key("-", "oracle")], scopes, head), scopes, 4)) == rows


SEEDS = (7777, 1111)


@pytest.fixture
def draws(make_states, head, arms, reference):
    states = make_states()
    scores = score(arms, reference, None, {"domain": states}, head)
    rows = list(published_draws(scores, len(states), seed=4, rng_seeds=SEEDS, n_chunks=5))
    return states, [dict(zip(DRAW_COLUMNS, row, strict=True)) for row in rows]


def test_published_draws_are_those_of_numpys_generator(draws, arms, reference, head):
    states, rows = draws
    values = per_window(arms[Key("kd", "moved")], states, head, reference, None)
    for rng_seed in SEEDS:
        chosen = np.random.default_rng(rng_seed).integers(0, 12, 5)
        for metric in AGREEMENT:
            found = [
                r["value"]
                for r in rows
                if (r["fit"], r["arm"], r["rng_seed"], r["metric"]) == ("kd", "moved", rng_seed, metric)
            ]
            assert found == pytest.approx([float(values[metric][w]) for w in chosen], rel=1e-5, abs=1e-6)


def test_one_draw_of_five_is_five_draws_of_one():
    rng = np.random.default_rng(7777)
    assert [int(rng.integers(0, 12)) for _ in range(5)] == np.random.default_rng(7777).integers(0, 12, 5).tolist()


def test_published_draws_hold_the_four_metrics_of_every_arm_and_chunk(draws, arms):
    _, rows = draws
    assert len(rows) == (len(arms) - 1) * len(SEEDS) * 5 * len(AGREEMENT)
    assert "reference" not in {row["arm"] for row in rows}
    assert {row["metric"] for row in rows} == set(AGREEMENT)
    assert {row["chunk"] for row in rows} == set(range(5))
    assert {row["seed"] for row in rows} == {4}
