"""The job of an update on tiny real models: what it begins with, reads and writes; an updated backbone is one like any other."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from made_arms import edited
from safetensors.torch import load_file
from study_world import World, documents_of, job, small_workflow

from abi.base.errors import DataError, TamperError
from abi.base.files import sha256_file, sha256_tensors
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.batches import BatchManifest
from abi.models.backbone import Window, load_backbone
from abi.models.described import describe_backbone
from abi.models.head import Head
from abi.models.saved import member, read_head, read_states
from abi.models.update import part_of_round
from abi.steps import update_backbone

UPDATE, BATCH = "gpt2_medium_general", "1-2"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_backbone):
    """Two rounds of both ways of an update of GPT-2, and one of T5; never edited."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("updates"))
        world = World(small_workflow(max_seeds=2), make_backbone)
        for update, text in ((UPDATE, "python"), ("t5_large_general", "python")):
            for way in ("held", "free"):
                for number in range(1, 1 + world.workflow.scale.updates[update].rounds):
                    world.updated_states(update, f"{way}.{number}", text, BATCH)
        return world, Path.cwd()


@pytest.fixture
def world(whole, tmp_path, monkeypatch):
    """A private copy of it, as the working directory."""
    world, folder = whole
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return world.again()


def base_of(world, update=UPDATE):
    name = world.workflow.scale.updates[update].backbone
    return BackboneManifest.read(f"{world.workflow.backbone_folder(name)}.json")


def manifest_of(world, stage, seed=1, update=UPDATE):
    return member([world.workflow.updated(update, stage, BATCH)], seed, f"seed{seed}.json")


def rerun(world, stage="held.1", update=UPDATE, batch=BATCH, inputs=None, **spec):
    """Run the job again into `again` with some inputs or parts of the spec changed; return the entries of its manifest."""
    given = {**world.update_inputs(update, stage, batch), **(inputs or {})}
    running = job("update_backbone", {**world.workflow.update_spec(update, stage, batch), **spec}, given)
    update_backbone.run(running, given, {"manifest": "again.json", "folder": "again"})
    return BatchManifest.read("again.json").members


def untimed(members):
    return [(member.seed, edited(member.figures, elapsed_s=0.0)) for member in members]


@pytest.mark.parametrize(("update", "stage"), [(UPDATE, "held.2"), (UPDATE, "free.1"), ("t5_large_general", "held.1")])
@torch.no_grad()
def test_an_updated_backbone_is_a_backbone_like_any_other(world, update, stage):
    path = manifest_of(world, stage, 2, update)
    told, folder = BackboneManifest.read(path), path.with_suffix("")
    backbone = load_backbone(folder / "model")
    about = {"name": told.name, "revision": "updated", "provenance": told.provenance}
    assert told == edited(
        describe_backbone(backbone, folder / "model", "again.safetensors", **about), format=told.format, seal=told.seal
    )
    assert Path("again.safetensors").read_bytes() == (folder / "head.safetensors").read_bytes()
    assert told.name == f"{update}.{stage}.seed2"
    assert told.vocabulary == base_of(world, update).vocabulary
    assert told.head_sha256 == sha256_file(folder / "head.safetensors")
    head, own = Head.read(folder / "head.safetensors"), backbone.head()
    assert torch.equal(head.weight, own.weight)
    assert head.scale == own.scale == told.head_scale


@torch.no_grad()
@pytest.mark.parametrize("update", [UPDATE, "t5_large_general"])
def test_stored_states_of_an_updated_backbone_through_its_head_are_its_logits(world, update):
    batch = world.workflow.updated_states(update, "held.1", "python", BATCH)
    states = read_states(member([batch], 1, "seed1.test.json"), "test")
    folder = manifest_of(world, "held.1", 1, update).with_suffix("")
    logits = read_head(folder / "head.safetensors", states).logits(states.final(slice(0, 5)))
    window = Window(**world.workflow.update_spec(update, "held.1", BATCH)["window"])
    tokens = load_file(states.path)["tokens"][states.windows[:5]]
    own = load_backbone(folder / "model").logits(tokens, window)
    torch.testing.assert_close(logits, own, rtol=1e-4, atol=1e-5)


def test_every_seed_way_and_round_is_another_backbone(world):
    stages = ("held.1", "held.2", "free.1", "free.2")
    hashes = {BackboneManifest.read(manifest_of(world, s, n)).weights_sha256 for s in stages for n in (1, 2)}
    assert len(hashes | {base_of(world).weights_sha256}) == 9


def test_the_backbone_itself_and_the_modules_stay_as_they_are(whole):
    world, folder = whole
    of = ("gpt2_medium", "python", "standard", "source")
    [manifest] = world.workflow.module_manifests(of, BATCH)
    for entry in json.loads((folder / manifest).read_text())["modules"]:
        weights = load_file(folder / manifest.removesuffix(".json") / entry["folder"] / "abi_model.safetensors")
        assert sha256_tensors(weights) == entry["sha256"]
    backbone = load_backbone(folder / "results/tiny/backbones/gpt2_medium")
    told = BackboneManifest.read(folder / "results/tiny/backbones/gpt2_medium.json")
    assert sha256_tensors(dict(backbone.model.named_parameters())) == told.weights_sha256


def begun(world, monkeypatch, stage):
    """Run a stage and return what `update` is given: hashes of backbone and anchor, texts, recipe, number of modules."""
    seen, real = [], update_backbone.update
    packed, pack = [], update_backbone.pack

    def packing(tokenizer, texts, length):
        packed.append((list(texts), pack(tokenizer, texts, length)))
        return packed[-1][1]

    def spy(backbone, anchor, windows, window, recipe, *, modules, **rest):
        hashes = [sha256_tensors(dict(one.model.named_parameters())) for one in (backbone, anchor)]
        [texts] = [texts for texts, of_texts in packed if of_texts is windows]
        seen.append((*hashes, texts, recipe, len(modules)))
        return real(backbone, anchor, windows, window, recipe, modules=modules, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(update_backbone, "update", spy)
        patch.setattr(update_backbone, "pack", packing)
        rerun(world, stage)
    assert len(packed) == 2, "text is tokenized again for a seed, or for a loss"
    return seen


@pytest.mark.parametrize("way", ["held", "free"])
def test_a_round_begins_with_the_round_before_and_is_held_to_the_first_backbone(world, monkeypatch, way):
    base = base_of(world).weights_sha256
    first, second = begun(world, monkeypatch, f"{way}.1"), begun(world, monkeypatch, f"{way}.2")
    assert [entry[:2] for entry in first] == [(base, base)] * 2
    before = [BackboneManifest.read(manifest_of(world, f"{way}.1", seed)).weights_sha256 for seed in (1, 2)]
    assert [entry[:2] for entry in second] == [(before[0], base), (before[1], base)]


def test_rounds_read_train_text_in_parts_that_are_disjoint(world, monkeypatch):
    train = [d.text for d in documents_of(world.workflow, "general") if d.split == "train"]
    first, second = (begun(world, monkeypatch, f"free.{n}")[0][2] for n in (1, 2))
    assert first == part_of_round(train, 1, 2)
    assert sorted(first + second) == sorted(train)
    assert not set(first) & set(second)


def test_both_ways_see_the_text_in_one_order_and_seeds_in_their_own(world, monkeypatch):
    held, free = begun(world, monkeypatch, "held.1"), begun(world, monkeypatch, "free.1")
    orders = [[entry[3].seed for entry in seen] for seen in (held, free)]
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == 2
    assert [entry[4] for entry in held] == [2, 2]
    assert [entry[4] for entry in free] == [0, 0]
    assert {entry[3].stability for entry in free} == {0.0}


def test_a_second_run_is_bit_identical(world):
    before = [manifest_of(world, "held.1", seed) for seed in (1, 2)]
    again = rerun(world)
    assert untimed(again) == untimed(BatchManifest.read(world.workflow.updated(UPDATE, "held.1", BATCH)).members)
    for seed, path in zip((1, 2), before, strict=True):
        one, other = (BackboneManifest.read(p) for p in (path, Path(f"again/seed{seed}.json")))
        assert one.weights_sha256 == other.weights_sha256


def test_a_seed_does_not_depend_on_the_others_of_its_batch(world):
    rerun(world, seeds=[2])
    assert not Path("again/seed1.json").exists()
    own, other = manifest_of(world, "held.1", 2), Path("again/seed2.json")
    assert BackboneManifest.read(own).weights_sha256 == BackboneManifest.read(other).weights_sha256


def test_figures_say_what_the_update_did(world):
    [one, two] = BatchManifest.read(world.workflow.updated(UPDATE, "held.1", BATCH)).members
    assert (one.figures.steps, one.figures.tokens_seen) == (6, 6 * 4 * 12)
    assert one.figures.general_loss_before == two.figures.general_loss_before
    assert one.figures.general_loss_after < one.figures.general_loss_before
    assert one.figures.stability_mse > 0
    after = [
        m.figures.general_loss_after
        for m in BatchManifest.read(world.workflow.updated(UPDATE, "held.1", BATCH)).members
    ]
    begins = [
        m.figures.general_loss_before
        for m in BatchManifest.read(world.workflow.updated(UPDATE, "held.2", BATCH)).members
    ]
    assert after == begins
    [free, _] = BatchManifest.read(world.workflow.updated(UPDATE, "free.1", BATCH)).members
    assert free.figures.stability_mse is None


def test_a_body_update_leaves_the_head_file_as_it_is(world):
    name = world.workflow.scale.updates["t5_large_general"].backbone
    for stage in ("held.1", "free.1"):
        told = BackboneManifest.read(manifest_of(world, stage, 1, "t5_large_general"))
        assert told.head_sha256 == sha256_file(world.workflow.head(name))
        assert told.weights_sha256 != base_of(world, "t5_large_general").weights_sha256


# refusals


def test_a_module_that_is_missing_is_named(world, refuses):
    with refuses("none of .* holds seed 3"):
        rerun(world, seeds=[3])
    assert not Path("again.json").exists()


def test_a_module_of_another_backbone_is_not_held(world, refuses):
    world.modules(("gpt2_large", "python", "standard", "source"))
    other = world.workflow.module_manifests(("gpt2_large", "python", "standard", "source"), BATCH)
    with refuses("module of seed 1 belongs to another backbone than gpt2_medium"):
        rerun(world, inputs={"source_python": other}, seeds=[1])


def test_a_backbone_with_other_weights_than_its_manifest_is_tampering(world, refuses):
    base = world.workflow.backbone_folder("gpt2_medium")
    shutil.copy(manifest_of(world, "free.1").with_suffix("") / "model/model.safetensors", f"{base}/model.safetensors")
    with refuses(
        "is missing or not the file of backbone gpt2_medium; delete its manifest to rebuild both", TamperError
    ):
        rerun(world)


def test_a_round_before_that_was_altered_is_tampering(world, refuses):
    path = manifest_of(world, "held.1")
    path.write_text(path.read_text().replace("updated", "altered", 1))
    with refuses("is not the file that .* promises", TamperError):
        rerun(world, "held.2")


def test_weights_of_the_round_before_that_are_another_seeds_are_tampering(world, refuses):
    one, two = (manifest_of(world, "held.1", seed).with_suffix("") / "model/model.safetensors" for seed in (1, 2))
    shutil.copy(two, one)
    with refuses("is missing or not the file of backbone gpt2_medium_general.held.1.seed1", TamperError):
        rerun(world, "held.2")


def test_more_rounds_than_texts_are_refused(world, refuses):
    with refuses("update gpt2_medium_general: round 1000 has no text; lower `rounds` or add text", DataError):
        rerun(world, "free.1", round=1000, rounds=1000)


def test_a_rate_that_diverges_writes_no_manifest(world, refuses):
    training = {"batch": 4, "phases": [{"steps": 30, "lr": 1e30}]}
    with refuses("is not finite|the loss is (nan|inf) at step", DataError):
        rerun(world, "free.1", training=training)
    assert not Path("again.json").exists()
