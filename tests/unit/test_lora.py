"""The arm `lora`: real tiny models, the budget of the other arms, a backbone that stays as it is, figures that are its own."""

import json
import math
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from made_arms import AS_SCHEDULED, BASE, PROVENANCE, edited, recipes_of, states_manifest
from made_results import edit, put
from safetensors.torch import load_file

from abi.arms.fitting import Budget, Nets, fit_all, gradient_tasks
from abi.arms.forms import FINALS, StoredStates, corrections, load_stored
from abi.arms.gradient import Batch, FitData, Objective
from abi.arms.lora_fit import Lora, n_interface, train_adapter, write_finals
from abi.arms.metrics import Key, evaluate, evidence_rows, published_draws, score
from abi.arms.rates import mean_objectives
from abi.base.errors import TamperError
from abi.base.files import sha256_file
from abi.base.manifests.arms import ScopeRun
from abi.base.regimes import REGIMES
from abi.models.backbone import Backbone, Window, final_states, save_backbone
from abi.models.described import describe_backbone
from abi.models.loop import BatchOrder, Phase, Schedule, Trained
from abi.models.lora import adapt, lora_shape
from abi.models.module import AbiModule, ModuleConfig, derive_seed
from abi.models.saved import spread
from abi.models.states import States, make_windows, write_states
from abi.models.tokenizers import encode
from abi.plan.config import load
from abi.plan.specs.models import Shape
from abi.plan.workflow import Workflow
from abi.steps.evaluate_arms import lora_of_seed
from abi.text.documents import Document

MODULE = Shape(d_abi=12, taps=["final"], tap_norms=False)
SCHEDULE = Schedule([Phase(3, 3e-2)])
BUDGET = Budget(SCHEDULE, Batch(4), Objective("kd"), 1e-3, rates=AS_SCHEDULED)
EVERY = ["gpt2", "qwen2", "t5"]


class World:
    """A tiny backbone with its windows, states of two texts, head, and a teacher."""

    def __init__(self, family, make_backbone, texts, folder, seed=0):
        self.backbone = make_backbone(family, seed=seed)
        prefix = 5 if self.backbone.is_encoder_decoder else 0
        self.window, self.folder = Window(12, prefix, 1), folder
        self.head = self.backbone.head()
        save_backbone(self.backbone, folder / "model")
        about = {"name": family, "revision": "built", "provenance": PROVENANCE}
        self.base = describe_backbone(self.backbone, folder / "model", folder / "head.safetensors", **about)
        self.sha256 = self.base.weights_sha256
        self.train, self.test = self.states("train", texts[:2]), self.states("test", texts[2:])
        oracle = AbiModule(self.shape, seed=3).requires_grad_(False)
        self.data = FitData(self.train, self.head, corrections(oracle, self.train))

    @property
    def shape(self):
        return ModuleConfig(16, (self.backbone.depth,), 12)

    def states(self, name, texts):
        documents = [Document(f"{name}{i}", f"g{i}", "s", "1", "0" * 64, name, len(t), t) for i, t in enumerate(texts)]
        windows = make_windows(
            documents, partial(encode, self.backbone.tokenizer), self.window, max_windows=16, max_per_document=8, min_scored=1
        )  # fmt: skip
        path = self.folder / f"{name}.safetensors"
        stored = write_states(self.backbone, windows, self.window, [], self.head, path)
        return States(path, states_manifest(stored, base_sha256=self.sha256, tensors_sha256=sha256_file(path)))

    def lora(self):
        return Lora(self.backbone, self.base, MODULE, self.train)

    def fit(self, folder, lora=None, task=None, scopes=None, seed=1):
        lora = lora or self.lora()
        [task] = [task] if task else gradient_tasks(self.data, BUDGET, seed)
        scopes = scopes or {"domain": self.test, "on_training_text": self.train.select([1, 5, 6])}
        return lora.fit(task, BUDGET, seed, scopes, folder.parent, folder.name)

    def adapted(self, folder):
        """The adapter of a folder on the backbone, as anybody would load it with PEFT."""
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            model = PeftModel.from_pretrained(self.backbone.model, folder).get_base_model().eval()
        return Backbone(model, self.backbone.tokenizer)


@pytest.fixture(params=EVERY)
def world(request, make_backbone, texts, tmp_path):
    return World(request.param, make_backbone, texts, tmp_path)


@pytest.fixture
def gpt2(make_backbone, texts, tmp_path):
    return World("gpt2", make_backbone, texts, tmp_path)


# size and place of the adapter


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "t5", "t5-v1.1", "gpt_neox", "llama", "bart", "opt"])
def test_an_adapter_is_on_every_linear_layer_of_the_decoder_blocks_and_nowhere_else(make_backbone, family):
    backbone = make_backbone(family)
    shape = lora_shape(backbone, 10_000)
    before = backbone.model.get_output_embeddings()
    adapted = adapt(backbone, shape, 0)
    layers = {name.partition(".lora_")[0] for name in adapted.trainable}
    assert layers == set(shape.layers)
    assert len(layers) == 2 * {"gpt2": 4, "qwen2": 7, "llama": 7, "t5": 10, "t5-v1.1": 11, "bart": 10}.get(
        family, 4 if family == "gpt_neox" else 6
    )
    assert not [name for name in layers if "head" in name or "embed" in name or "encoder" in name.split(".")]
    assert adapted.backbone.model.get_output_embeddings() is before
    assert {p.shape[0] if "lora_A" in name else p.shape[1] for name, p in adapted.trainable.items()} == {shape.rank}
    assert sum(p.numel() for p in adapted.trainable.values()) == shape.n_parameters
    assert [name for name, p in adapted.backbone.model.named_parameters() if p.requires_grad] == list(adapted.trainable)


@pytest.mark.parametrize(("wanted", "rank"), [(9.2, 1), (14, 1), (18.1, 1), (18.3, 2), (27, 2), (27.4, 3), (1000, 100)])
def test_the_rank_is_the_one_with_the_closest_number_of_parameters(make_backbone, wanted, rank):
    backbone = make_backbone("gpt2")
    one = lora_shape(backbone, 10**6).n_parameters // lora_shape(backbone, 10**6).rank
    interface = int(wanted / 10 * one)
    assert lora_shape(backbone, interface).rank == rank


def test_an_adapter_has_at_most_a_tenth_more_parameters_than_the_interface(make_backbone):
    backbone = make_backbone("qwen2")
    one = lora_shape(backbone, 10**6).n_parameters // lora_shape(backbone, 10**6).rank
    assert lora_shape(backbone, int(1.8 * one)).rank == 1  # 2 is closer, but 1.11 times
    assert lora_shape(backbone, int(1.83 * one)).rank == 2
    for interface in range(one // 2, 4 * one, 37):
        assert lora_shape(backbone, interface).n_parameters <= 1.1 * interface


def test_where_rank_one_is_too_much_the_last_blocks_alone_are_adapted(make_backbone, refuses):
    backbone = make_backbone("gpt2")
    whole = lora_shape(backbone, 10**6)
    one = whole.n_parameters // whole.rank
    half = lora_shape(backbone, int(0.6 * one))
    assert (half.rank, half.n_parameters) == (1, one // 2)
    assert {name.split(".")[2] for name in half.layers} == {"1"}
    with refuses("rank 1 on one block has more than"):
        lora_shape(backbone, int(0.4 * one))


def test_the_interface_of_the_claims_module_is_what_calibration_trains(world):
    assert n_interface(MODULE, world.train) == 2 * 16 * 12 + 2 * 12


# the backbone stays, the adapter starts at nothing


def test_an_untrained_adapter_corrects_nothing(world):
    adapted = adapt(world.backbone, world.lora().shape, 1)
    write_finals(adapted.backbone, world.window, {"domain": world.test}, world.folder / FINALS)
    arm = load_stored(world.folder / FINALS, sha256_file(world.folder / FINALS), {"domain": world.test}, world.sha256)
    assert not arm.correction(world.test, slice(None)).any()


def test_a_fit_leaves_the_backbone_bit_for_bit_and_changes_what_it_says(world, tmp_path):
    lora = world.lora()
    before = {name: p.clone() for name, p in world.backbone.model.named_parameters()}
    for seed in (1, 2):
        record = world.fit(tmp_path / f"{seed}", lora, seed=seed)
        after = dict(lora.backbone.model.named_parameters())
        assert list(after) == list(before)
        assert all(torch.equal(after[name], p) for name, p in before.items())
        assert record.n_trainable == lora.shape.n_parameters <= 1.1 * lora.n_interface
        assert record.steps == 3
        final = load_file(tmp_path / f"{seed}" / FINALS)["domain.final"]
        assert (final - world.test.final(slice(None))).abs().max() > 1e-3
    assert final_states(lora.backbone, world.test.tokens(slice(None)), world.window).equal(
        world.test.final(slice(None))
    )


def test_training_lowers_the_loss(world):
    adapted = adapt(world.backbone, lora_shape(world.backbone, 5000), 1)
    data, schedule = FitData(world.train.select(range(4)), world.head), Schedule([Phase(60, 1e-2)])
    losses = train_adapter(adapted, data, world.window, Objective("ce"), schedule, batch=4, seed=0).losses
    assert losses[-1] < losses[0] - 0.05


def test_a_backbone_that_changes_stops_the_fit(gpt2, tmp_path, monkeypatch):
    lora = gpt2.lora()

    def spoil(adapted, *args, **kwargs):
        with torch.no_grad():
            next(iter(adapted.base.values())).add_(1e-3)
        return Trained([1.0] * 3, 0.0)

    monkeypatch.setattr("abi.arms.lora_fit.train_adapter", spoil)
    with pytest.raises(TamperError, match="the weights are not those of backbone gpt2; delete its manifest"):
        gpt2.fit(tmp_path / "a", lora)


def test_states_of_another_backbone_are_no_training_text(gpt2, refuses):
    other = edited(gpt2.base, weights_sha256="b" * 64)
    with refuses("are of another backbone than gpt2; rebuild the states"):
        Lora(gpt2.backbone, other, MODULE, gpt2.train)


# the budget of all other arms


@pytest.mark.parametrize("windows", [(), (4, 8)])
def test_an_adapter_sees_the_windows_of_the_other_arms_in_their_order(gpt2, tmp_path, monkeypatch, windows):
    regime = "few-shot" if windows else "oracle-kd"
    objective = Objective("ce" if windows else "kd")
    budget = replace(BUDGET, objective=objective, windows=windows)
    seen = []
    real = States.final

    def noted(self, index):
        if isinstance(index, torch.Tensor):
            seen.append((self.manifest.n_windows, self.windows[index].tolist(), self.targets(index).sum().item()))
        return real(self, index)

    monkeypatch.setattr(States, "final", noted)
    fit_all(
        recipes_of(regime, only=["bias"]),
        gpt2.shape,
        Nets(),
        gpt2.data,
        budget,
        seed=5,
        folder=tmp_path / "bias",
        base=BASE,
        text="t",
    )
    others, seen[:] = list(seen), []
    monkeypatch.setattr(States, "final", real)
    real_tokens = States.tokens

    def noted_tokens(self, index):
        seen.append((self.manifest.n_windows, self.windows[index].tolist(), self.targets(index).sum().item()))
        return real_tokens(self, index)

    monkeypatch.setattr(States, "tokens", noted_tokens)
    tasks = gradient_tasks(gpt2.data, budget, 5)
    assert [task.draw for task in tasks] == (list(windows) or [0])
    lora, adapted = gpt2.lora(), None
    for task in tasks:
        adapted = adapt(lora.backbone, lora.shape, derive_seed("lora", 5))
        train_adapter(
            adapted,
            task.data,
            gpt2.window,
            objective,
            task.schedule,
            batch=4,
            seed=derive_seed("calibration", 5),
        )
        lora.backbone = adapted.remove()
    assert len(others) == 3 * len(tasks)
    assert seen == others


def test_a_record_says_what_a_record_of_the_other_arms_says(gpt2, tmp_path):
    [other] = fit_all(
        recipes_of("oracle-kd", only=["bias"]), gpt2.shape, Nets(), gpt2.data, BUDGET, seed=1,
        folder=tmp_path / "bias", base=BASE, text="t",
    )[:1]  # fmt: skip
    record = gpt2.fit(tmp_path / "lora")
    assert (
        other.model_fields_set - {"sha256"} <= record.model_fields_set
    )  # its adapter and states have hashes of their own
    assert (record.fit, record.draw, record.steps) == (other.fit, other.draw, other.steps)


@pytest.mark.parametrize(("kind", "teacher"), [("kd", None), ("correction-mse", 1), ("matched", 1)])
def test_an_objective_an_adapter_cannot_have_is_refused(gpt2, kind, teacher, refuses):
    adapted = adapt(gpt2.backbone, gpt2.lora().shape, 1)
    data = FitData(gpt2.train, gpt2.head, gpt2.data.teacher if teacher else None)
    with refuses(f"not by {kind}"):
        train_adapter(adapted, data, gpt2.window, Objective(kind), SCHEDULE, batch=4, seed=0)


def test_batches_are_the_seeds_own():
    assert (
        BatchOrder(16, 4, derive_seed("calibration", 5))[2].tolist()
        != BatchOrder(16, 4, derive_seed("calibration", 6))[2].tolist()
    )


def test_two_fits_are_byte_identical(world, tmp_path):
    records = [world.fit(tmp_path / name) for name in "ab"]
    one, two = (edited(record, elapsed_s=0.0, folder="") for record in records)
    assert one == two
    for file in (FINALS, "adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_adapter_resumes_to_the_same_bits(gpt2, tmp_path, monkeypatch):
    from abi.models import loop

    whole = gpt2.fit(tmp_path / "whole")
    task = gradient_tasks(gpt2.data, BUDGET, 1)[0]
    saved = loop._save_checkpoint

    def stop(path, trainable, optimizer, losses):
        saved(path, trainable, optimizer, losses)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save_checkpoint", stop)
    adapted = adapt(gpt2.backbone, gpt2.lora().shape, derive_seed("lora", 1))
    run = partial(
        train_adapter, data=task.data, window=gpt2.window, objective=BUDGET.objective, schedule=task.schedule,
        batch=4, seed=derive_seed("calibration", 1), checkpoint=tmp_path / "c",
    )  # fmt: skip
    monkeypatch.setattr(loop.fit, "__kwdefaults__", {**loop.fit.__kwdefaults__, "checkpoint_every_s": -1.0})
    with pytest.raises(KeyboardInterrupt):
        run(adapted)
    monkeypatch.setattr(loop, "_save_checkpoint", saved)
    again = adapt(adapted.remove(), adapted.shape, 99)
    run(again)
    assert again.save(tmp_path / "again", "gpt2") == whole.adapter_sha256


# trials of learning rates


@pytest.mark.parametrize("rate", [3e-2, 1e30])
def test_a_trial_is_the_fit_itself_judged_on_held_out_text(gpt2, tmp_path, rate):
    teacher = corrections(AbiModule(gpt2.shape, seed=3).requires_grad_(False), gpt2.test)
    held_out = FitData(gpt2.test, gpt2.head, teacher)
    whole = replace(BUDGET, schedule=Schedule([Phase(3, 1.0)]))
    budget, lora = replace(whole, rates={"lora": rate}), gpt2.lora()
    [task] = gradient_tasks(gpt2.data, budget, 1)
    found = lora.tried(task, budget, 1, held_out)
    if rate == 1e30:  # it diverged, and the backbone is as it was
        assert not math.isfinite(found)
        budget = replace(whole, rates={"lora": 3e-2})
        found = lora.tried(task, budget, 1, held_out)
    entry = lora.fit(task, budget, 1, {"domain": gpt2.test}, tmp_path, "arm")
    assert entry.lr == 3e-2
    stored = load_stored(tmp_path / "arm" / FINALS, entry.finals_sha256, {"domain": gpt2.test}, gpt2.sha256)
    assert found == float(mean_objectives([stored], held_out, budget.objective))


# evaluation of stored states


def table(rows):
    return {row[:-1]: row[-1] for row in rows}


def test_stored_states_give_the_figures_of_the_adapted_model(world, tmp_path):
    record = world.fit(tmp_path / "arm")
    scopes = {"domain": world.test, "on_training_text": world.train.select([1, 5, 6])}
    arm = load_stored(tmp_path / "arm" / FINALS, record.finals_sha256, scopes, world.sha256)
    reference = AbiModule(world.shape, seed=8).requires_grad_(False)
    scores = score({Key("kd", "lora"): arm, Key("-", "raw"): None}, reference, None, scopes, world.head)
    rows = table(evidence_rows(scores, scopes, 1))
    adapted = world.adapted(tmp_path / "arm")
    for scope, states in scopes.items():
        logits = adapted.logits(states.tokens(slice(None)), world.window).detach()
        loss = torch.nn.functional.cross_entropy(
            logits[:, 1:].flatten(0, 1), states.targets(slice(None))[:, 1:].flatten(), reduction="none"
        ).view(len(states), -1).mean(1)  # fmt: skip
        for i, name in enumerate(states.manifest.documents):
            [value] = [
                v
                for key, v in rows.items()
                if key[1:2] + key[4:5] + key[6:7] + key[8:] == ("lora", scope, name, "loss_nats")
            ]
            assert value == pytest.approx(float(loss[states.document == i].mean()), rel=1e-5)
    assert {key[:3] for key in rows} == {("kd", "lora", 0), ("-", "raw", 0)}


def test_the_records_draws_take_the_drawn_windows_of_the_stored_states(gpt2, tmp_path):
    record = gpt2.fit(tmp_path / "arm", scopes={"domain": gpt2.test})
    arm = load_stored(tmp_path / "arm" / FINALS, record.finals_sha256, {"domain": gpt2.test}, gpt2.sha256)
    reference = AbiModule(gpt2.shape, seed=8).requires_grad_(False)
    whole = {m: v for _, m, v in evaluate({"a": arm}, gpt2.test, gpt2.head, reference=reference, teacher=None)}
    rows = list(
        published_draws(
            score({Key("kd", "lora"): arm}, reference, None, {"domain": gpt2.test}, gpt2.head),
            len(gpt2.test),
            seed=1,
            rng_seeds=[7, 8],
            n_chunks=4,
        )
    )
    import numpy as np

    for *_, rng_seed, chunk, metric, value in rows:
        window = np.random.default_rng(rng_seed).integers(0, len(gpt2.test), 4)[chunk]
        assert value == pytest.approx(float(whole[metric][window]), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("chosen", [[6], [5, 1], [6, 6, 1, 5]])
def test_stored_states_follow_a_selection_of_windows(gpt2, chosen):
    shifted = gpt2.train.final(torch.tensor([1, 5, 6])) + 1.0
    arm = StoredStates({gpt2.train.manifest.tensors_sha256: (torch.tensor([1, 5, 6]), shifted)})
    part = gpt2.train.select(chosen)
    assert arm.correction(part, slice(None)) == pytest.approx(torch.ones(len(chosen), 11, 16), abs=1e-5)
    again = gpt2.train.select([0, *chosen]).select(range(1, len(chosen) + 1))
    assert arm.correction(again, torch.tensor([0])).shape == (1, 11, 16)


def test_windows_that_were_not_run_are_refused(gpt2, refuses):
    finals = gpt2.train.final(torch.tensor([1, 5]))
    arm = StoredStates({gpt2.train.manifest.tensors_sha256: (torch.tensor([1, 5]), finals)})
    for states in (gpt2.train.select([1, 4]), gpt2.train.select([7]), gpt2.test.select([1])):
        with refuses("was not run on these windows of .*; rebuild it"):
            arm.correction(states, slice(None))


def test_stored_states_of_other_states_or_another_backbone_are_refused(gpt2, make_backbone, texts, tmp_path, refuses):
    record = gpt2.fit(tmp_path / "arm", scopes={"domain": gpt2.test})
    path, sha256 = tmp_path / "arm" / FINALS, record.finals_sha256
    with refuses("was not run on the windows of .*train.safetensors"):
        load_stored(path, sha256, {"domain": gpt2.train}, gpt2.sha256)
    with refuses("was not run on the windows of"):
        load_stored(path, sha256, {"general": gpt2.test}, gpt2.sha256)
    (tmp_path / "other").mkdir()
    other = World("gpt2", make_backbone, texts, tmp_path / "other", seed=1)
    with refuses("is an arm of another backbone than"):
        load_stored(path, sha256, {"domain": other.test}, gpt2.sha256)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with refuses("is not the file that its manifest promises", TamperError):
        load_stored(path, sha256, {"domain": gpt2.test}, gpt2.sha256)


# job


def test_evaluation_takes_a_seeds_arms_from_the_manifests(gpt2, tmp_path, refuses):
    lora, scopes = gpt2.lora(), {"domain": gpt2.test}
    budget = replace(BUDGET, windows=(4, 8))
    arms = []
    for task in gradient_tasks(gpt2.data, budget, 1):
        folder = f"seed1/kd/lora-{task.draw}"
        arms.append(lora.fit(task, budget, 1, scopes, tmp_path / "1-1", folder))
    of_scopes = {"domain": ScopeRun(tensors_sha256=gpt2.test.manifest.tensors_sha256, n_windows=len(gpt2.test))}
    lora.manifest(scopes=of_scopes, arms=arms, provenance=PROVENANCE).write(tmp_path / "1-1.json")
    manifests = [str(tmp_path / "1-1.json")]
    assert list(lora_of_seed(manifests, 1, scopes)) == [Key("kd", "lora", 4), Key("kd", "lora", 8)]
    with refuses("holds seed 2"):
        lora_of_seed(manifests, 2, scopes)
    edit(tmp_path / "1-1.json", put("base_sha256", "b" * 64))
    with refuses("is an arm of another backbone"):
        lora_of_seed(manifests, 1, scopes)


def test_the_adapters_config_names_its_layers_and_size(gpt2, tmp_path):
    gpt2.fit(tmp_path / "arm")
    config = json.loads((tmp_path / "arm" / "adapter_config.json").read_text())
    assert (config["lora_dropout"], config["peft_type"], config["fan_in_fan_out"]) == (0.0, "LORA", True)
    assert config["lora_alpha"] == 2 * config["r"]
    assert config["base_model_name_or_path"] == "gpt2"


def test_the_training_windows_that_are_reported_are_those_of_evaluation(gpt2):
    assert spread(gpt2.train, 4) == [0, 1, 8, 9]


# the configuration


@pytest.fixture(scope="module")
def workflow():
    return Workflow(load("tiny"))


HEADLINES = ("gpt2_to_qwen", "t5_to_gpt2")


@pytest.mark.parametrize("claim", HEADLINES)
def test_the_headlines_have_the_arm_where_it_is_trained_on_domain_text(workflow, claim):
    for name, wanted in ((claim, True), (f"{claim}_few_shot", True), (f"{claim}_general_only", False)):
        for inputs in (workflow.of(name).evidence_input("1-5"), workflow.of(name).verdict_input()):
            assert ("lora" in inputs) == wanted
            assert inputs.get("lora", [f"results/tiny/lora/{name}/1-5.json"])[0] == f"results/tiny/lora/{name}/1-5.json"
        assert "lora" not in workflow.of(name).calibration_spec("1-5")["arms"]


def test_general_only_has_no_such_arm():
    assert [regime for regime in REGIMES if "lora" in recipes_of(regime, lora=True)] == ["oracle-kd", "few-shot"]


@pytest.mark.parametrize("claim", HEADLINES)
def test_the_job_sees_the_teacher_of_its_regime_and_the_text_that_is_evaluated(workflow, claim):
    inputs, few = (workflow.of(name).lora_input("1-5") for name in (claim, f"{claim}_few_shot"))
    assert inputs["oracle"] == workflow.of(claim).calibration_input("1-5")["oracle"]
    assert "oracle" not in few
    for name in ("domain", "general", "head"):
        assert inputs[name] == workflow.of(claim).evidence_input("1-5")[name]
    assert not {"source", "reference", "alignment"} & set(inputs)
    assert "training_windows" in workflow.of(claim).lora_spec("1-5")
    assert "training_windows" not in workflow.of(f"{claim}_few_shot").lora_spec("1-5")


@pytest.mark.parametrize("claim", [*HEADLINES, *(f"{claim}_few_shot" for claim in HEADLINES)])
def test_an_adapter_has_the_budget_and_the_rates_of_every_other_arm(workflow, claim):
    jobs = workflow.of(claim)
    assert jobs.lora_spec("1-5")["budget"] == jobs.calibration_spec("1-5")["budget"]
    assert jobs.lora_input("1-5")["rates"] == jobs.calibration_input("1-5")["rates"]
    assert "lora" in jobs.rates_spec()["arms"]
