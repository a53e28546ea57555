"""The engine on another device: nothing is left on the wrong one, and it computes there what it computes on a CPU.

Without a card the second device is a fake one that refuses what lies elsewhere (`fake_card.py`); with one, `pytest -m
cuda` runs the same on it.
"""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from devices import IDS, PATHS, Bench
from fake_card import CARD, OnCard, fake_card
from made_arms import PROVENANCE, edited
from rescaled import rescaled
from small_models import FAMILIES
from study_world import World, small_workflow

import abi.base.job as job_module
from abi.base import compute
from abi.base.errors import ConfigError
from abi.base.manifests.modules import ModulesManifest
from abi.base.manifests.states import StatesManifest
from abi.base.typed import Compute
from abi.models.backbone import load_checked, save_backbone
from abi.models.described import describe_backbone
from abi.plan.config import load
from abi.plan.faults import Faults, check_scale
from abi.plan.scale import ComputeSection, RuleCompute, Scale
from abi.plan.workflow import Workflow

TOLERANCE = {"fake": 1e-4, "cuda": 5e-3}
"""Most that figures of two devices differ, relative to the largest of their kind: sums are taken in another order."""

LONG = {"general-only", "few-shot", "live qwen2", "live t5"}
"""Paths that differ from others in the teacher or the family alone, and take half of the time."""


@pytest.fixture(params=["fake", pytest.param("cuda", marks=pytest.mark.cuda)])
def card(request, monkeypatch):
    """The name of a kind of card, and what computes there while it is open."""
    if request.param == "fake":
        return "fake", fake_card(monkeypatch)
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA card on this machine")
    return "cuda", compute.using(compute.decided("cuda"))


@pytest.mark.parametrize(
    "path", [path if path not in LONG else pytest.param(path, marks=pytest.mark.long) for path in PATHS]
)
def test_a_card_computes_what_a_cpu_computes_and_leaves_nothing_on_it(
    path, card, make_states, make_backbone, texts, tmp_path
):
    given = make_states, make_backbone, texts
    expected = PATHS[path](Bench(*given, tmp_path / "cpu"))
    kind, there = card
    with there:
        found = PATHS[path](Bench(*given, tmp_path / "card"))
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert not isinstance(found[name], OnCard), f"{name} was not brought back"
        apart = float((found[name] - value).abs().max() / value.abs().max().clamp_min(1e-2))
        assert apart <= TOLERANCE[kind], f"{name}: {apart}"


def test_the_fake_card_refuses_what_lies_elsewhere(monkeypatch):
    with fake_card(monkeypatch):
        there = torch.ones(3).to(CARD)
        for wrong in (
            lambda: there + torch.ones(3),
            lambda: there @ torch.ones(3),
            lambda: torch.arange(3)[there.long()],
        ):
            with pytest.raises(AssertionError, match="is on the CPU and others are on the card"):
                wrong()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + 1.0).device == torch.zeros(2, device=there.device).device == CARD
        assert (there + 1.0).cpu().numpy().tolist() == [2, 2, 2]


# whole jobs


def results_of(world, claim):
    """The evidence of a claim as its jobs write it."""
    world.evidence(claim)
    return pd.concat([pd.read_csv(path) for path in world.workflow.of(claim).verdict_input()["evidence"]])


def least_study():
    """A study of one seed with the fewest windows that every job takes, and an atlas of two texts."""

    def change(scale):
        for text in scale["texts"].values():
            text["max_windows"] = {"train": 16, "calibration": 8, "test": 16}

    config = rescaled(small_workflow(max_seeds=1), change).config
    atlas = edited(config.studies["domain_atlas"], texts=["python", "general"])
    return Workflow(replace(config, studies=config.studies | {"domain_atlas": atlas}))


@pytest.fixture(scope="module")
def expected(make_backbone, tmp_path_factory):
    """Claim -> its evidence as a CPU writes it in fp32, made once."""
    folder = tmp_path_factory.mktemp("cpu")
    return cache(lambda claim: made(folder / claim, least_study(), make_backbone, claim))


def made(folder, workflow, make_backbone, claim):
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return results_of(World(workflow, make_backbone), claim)


def apart(one, other, metric="loss_nats"):
    """Return how far apart figures of two runs are, at most, the rows of both the same."""
    same = [column for column in one.columns if column != "value"]
    assert one[same].equals(other[same])
    values = [frame.loc[frame.metric == metric, "value"] for frame in (one, other)]
    return float((values[0] - values[1]).abs().max())


@pytest.mark.long
@pytest.mark.parametrize("claim", ["domain_atlas", "calibration_scaling"])
def test_the_jobs_of_a_claim_give_the_same_evidence_on_a_card(claim, expected, card, make_backbone, tmp_path):
    wanted, (kind, there) = expected(claim), card
    with there as on:
        found = made(tmp_path / "card", least_study(), make_backbone, claim)
        manifest = next((tmp_path / "card").rglob("modules/**/1-1.json"))
    assert ModulesManifest.read(manifest).provenance.compute == on
    assert apart(wanted, found) <= 10 * TOLERANCE[kind]


def test_a_backbone_in_bf16_gives_figures_close_to_those_in_fp32(expected, make_backbone, tmp_path):
    half = rescaled(least_study(), lambda scale: scale.update(compute={"precision": "bf16"}))
    with compute.using(compute.CPU):
        found = made(tmp_path / "bf16", half, make_backbone, "domain_atlas")
    stored = StatesManifest.read(next((tmp_path / "bf16").rglob("states/*/python.test.json")))
    assert (stored.dtype, stored.provenance.compute.precision) == ("bfloat16", "bf16")
    assert (
        0 < apart(expected("domain_atlas"), found) <= 0.05
    )  # nats; bf16 has three digits, and losses are about six nats


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_backbone_in_bf16_keeps_head_facts_and_rotary_frequencies(family, make_backbone, window_of):
    backbone = make_backbone(family)
    window, head, facts = window_of(backbone), backbone.head(), backbone.facts
    plain = backbone.hidden_states(IDS, window)[-1]
    frequencies = {name: b.clone() for name, b in backbone.model.named_buffers() if name.endswith("inv_freq")}
    assert bool(frequencies) == (family in {"qwen2", "gpt_neox", "llama"})
    run = backbone.run_in(torch.bfloat16)
    half = run.hidden_states(IDS, window)[-1]
    assert half.dtype == torch.bfloat16
    assert (half.float() - plain).abs().max() <= 0.06 * plain.abs().max()
    assert all(torch.equal(b, frequencies[name]) for name, b in run.model.named_buffers() if name in frequencies)
    assert run.facts == facts
    assert (run.head().scale, run.head().soft_cap) == (head.scale, head.soft_cap)


def test_a_backbone_is_rounded_before_it_is_brought_to_a_device(make_backbone, tmp_path, monkeypatch):
    backbone, folder = make_backbone("gpt2"), tmp_path / "gpt2"
    save_backbone(backbone, folder)
    base = describe_backbone(backbone, folder, tmp_path / "head", name="b", revision="built", provenance=PROVENANCE)
    moved, own = [], torch.nn.Module.to

    def to(model, *given):
        moved.append((model.get_output_embeddings().weight.dtype, *given))
        return own(model, *given)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    found = load_checked(folder, base, torch.bfloat16)
    assert moved == [(torch.bfloat16, torch.device("cpu"))]  # it was read so, and no copy in fp32 was made
    assert torch.equal(found.embeddings_out.weight, backbone.embeddings_out.weight.bfloat16())


# what is asked, and what that decides


@pytest.mark.parametrize(
    ("asked", "n_cards", "expected"),
    [("cpu", 2, "cpu"), ("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cuda", 1, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_is_decided_by_what_is_there(asked, n_cards, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cards)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: f"card {n}")
    found = compute.decided(asked)
    assert (found.device, found.name) == (expected, None if expected == "cpu" else f"card {expected[-1]}")


@pytest.mark.parametrize(("asked", "n_cards"), [("cuda", 0), ("cuda:2", 2)])
def test_a_card_that_is_not_there_is_refused(asked, n_cards, monkeypatch, refuses):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cards)
    with refuses(f"device {asked} is asked for and this machine has {n_cards} CUDA cards", ConfigError):
        compute.decided(asked)


def test_a_job_that_asks_for_an_absent_card_ends_in_one_sentence_before_it_starts(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for name in ("_start_log", "code_of"):
        monkeypatch.setattr(job_module, name, lambda *_: "digest")
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    params, asked = SimpleNamespace(code="digest", spec={}), SimpleNamespace(device="cuda")
    given = SimpleNamespace(log=[], rule="fit", params=params, input=[], threads=1, resources=asked)
    with pytest.raises(SystemExit) as ended, job_module.job(given):
        pytest.fail("the job started")
    assert ended.value.code == 2
    assert [line.message.partition(";")[0] for line in caplog.records if line.levelname == "ERROR"] == [
        f"fit: device cuda is asked for and this machine has 0 CUDA cards that torch {torch.__version__} can use"
    ]


@pytest.mark.parametrize(
    ("device", "able", "asked", "expected"),
    [
        ("cpu", False, "auto", "fp32"),
        ("cpu", True, "auto", "bf16"),
        ("cpu", False, "bf16", "bf16"),
        ("cpu", True, "fp32", "fp32"),
        ("cuda:0", True, "auto", "bf16"),
        ("cuda:0", False, "auto", "fp32"),
    ],
)
def test_bf16_is_chosen_where_the_processor_has_it(device, able, asked, expected, monkeypatch, caplog):
    monkeypatch.setattr(compute, "_has_bf16", lambda: able)
    compute._say.cache_clear()
    with compute.using(Compute(device=device, precision="fp32", deterministic=True)), caplog.at_level("INFO", "abi"):
        dtype = compute.use_precision(asked)
        assert compute.current().precision == expected
    assert dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[expected]
    assert f"frozen backbones run in {expected} on {device}" in caplog.text
    assert ("six times as long" in caplog.text) == (expected == "bf16" and not able)
    assert compute.current() == compute.CPU


def test_bf16_on_a_card_without_it_is_refused(monkeypatch, refuses):
    monkeypatch.setattr(compute, "_has_bf16", lambda: False)
    old = Compute(device="cuda:0", name="an old card", precision="fp32", deterministic=True)
    with compute.using(old), refuses("bf16 is asked for and an old card has none", ConfigError):
        compute.use_precision("bf16")


def test_what_is_formed_at_once_follows_a_cards_memory_in_powers_of_two(monkeypatch):
    free = [2**33]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[0], 2**34))
    assert compute.rows_at_once(64, 50_000, torch.device("cpu")) == 64
    # the last but one: no copy of more than 2**28 logits
    for free[0], rows in ((2**33, 512), (2**33 - 2**28, 512), (2**40, 4096), (2**20, 64)):
        compute._card_rows.cache_clear()
        assert compute.rows_at_once(64, 50_000, CARD) == rows
    free[0] = 2**40
    assert compute.rows_at_once(64, 50_000, CARD) == 64  # chosen once
    compute._card_rows.cache_clear()


def test_a_device_reruns_nothing_and_a_precision_what_stores_states():
    plain = small_workflow()

    def specs(**given):
        workflow = rescaled(plain, lambda scale: scale.update(compute=given) if given else None)
        jobs = workflow.of("gpt2_to_gpt2_medium")
        return {
            "states": workflow.states_spec("gpt2", "python"),
            "updated": workflow.updated_states_spec("t5_large_general", "held.1", "python", "1-1"),
            "rest": [workflow.module_spec("python", "standard", "source", "1-1"), jobs.calibration_spec("1-1")],
        }

    usual = specs()
    assert "precision" not in usual["states"]
    assert specs(device="auto") == specs(precision="fp32") == usual
    half, auto = specs(precision="bf16"), specs(precision="auto")
    assert (half["states"]["precision"], auto["updated"]["precision"]) == ("bf16", "auto")
    assert half["rest"] == usual["rest"]
    own = specs(precision="bf16", rules={"write_updated_states": {"precision": "fp32", "device": "cpu"}})
    assert (own["states"], own["updated"]) == (half["states"], usual["updated"])


def test_what_a_rule_cannot_have_is_refused():
    config = load("tiny")

    def faults(**rules):
        scale = config.scale.plain() | {"compute": {"rules": rules}}
        found = Faults(Scale.model_validate(scale), {}, [], [])
        check_scale(found, "config/scales/tiny.yaml")
        return found.sentences

    assert faults(write_states={"precision": "bf16"}, train_modules={"device": "cuda"}) == []
    [unknown] = faults(judge_claim={"device": "cuda"})
    assert "compute.rules" in unknown
    assert faults(train_modules={"precision": "bf16"}) == [
        "config/scales/tiny.yaml: compute.rules.train_modules.precision: no backbone's states are stored there; take it out"
    ]


def test_a_rules_own_device_leaves_the_scales_precision():
    section = ComputeSection(device="auto", precision="bf16", rules={"write_states": RuleCompute(device="cpu")})
    assert section.of("write_states") == RuleCompute(device="cpu", precision="bf16")
    assert section.of("train_modules") == RuleCompute(device="auto", precision="bf16")


def test_bf16_is_asked_of_the_card_that_is_used(monkeypatch):
    """Two cards of one machine need not have it both, and torch asks the first."""
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda place: (asked.append(place), nullcontext())[1])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    with compute.using(Compute(device="cuda:1", name="none", precision="fp32", deterministic=True)):
        assert compute._has_bf16()
    assert asked == ["cuda:1"]
