"""Damaged and forged files as a job reads them: each is refused in one sentence, before memory of its sizes is taken.

`DAMAGE` is what a disk or a careless hand does. `FORGED` is what somebody does who writes hashes and seals that fit.
"""

import gzip
import hashlib
import json
import shutil

import pytest
import torch
from made_arms import PROVENANCE, SALT, SHARES, states_manifest
from made_results import edit, put
from safetensors.torch import load_file, save_file

from abi.arms.alignment import read_rotations
from abi.arms.forms import ARM_FILE, FINALS, LinearMap, LogitBias, save_fitted
from abi.base.errors import AbiError
from abi.base.files import sha256_file, sha256_tensors, write_tensors
from abi.base.manifests.alignments import AlignmentManifest
from abi.base.manifests.arms import CalibrationManifest, FittedEntry, LoraEntry, LoraManifest, ScopeRun
from abi.base.manifests.backbones import BackboneManifest, TokensManifest
from abi.base.manifests.batches import BatchManifest, Member
from abi.base.manifests.modules import ModuleEntry, ModuleManifest, ModulesManifest
from abi.base.manifests.states import StatesManifest
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS, check_promise, write_csv, write_promise
from abi.models.backbone import load_checked, save_backbone
from abi.models.described import describe_backbone
from abi.models.module import CONFIG, WEIGHTS, AbiModule, ModuleConfig, save_module
from abi.models.saved import UpdatedBackbone, module_of_seed, read_head, read_states
from abi.models.states import Head, States
from abi.steps.evaluate_arms import fitted_of_seed, lora_of_seed
from abi.text.corpus import Chosen, summary
from abi.text.documents import Document, read_assigned, split_of, write_documents

SHAPE, WIDTH, VOCABULARY, SEEDS = ModuleConfig(8, (1, 2), 5, 2), 8, 11, (1, 2)
SIZES = {"steps": 1, "n_trainable": 1, "frozen_sha256": "a" * 64}


def groups_of(split, n):
    return [name for name in (f"g{i}" for i in range(1000)) if split_of(name, SHARES, SALT) == split][:n]


def write_store(root, make_backbone):
    """Write one of everything that a job reads, all sound."""
    backbone = make_backbone("gpt2")
    save_backbone(backbone, root / "backbone")
    about = {"name": "b", "revision": "built", "provenance": PROVENANCE}
    describe_backbone(backbone, root / "backbone", root / "b.head", **about).write(root / "backbone.json")
    TokensManifest(vocabulary="c", spellings=["a", "b", None]).write(root / "tokens.json")
    rng = torch.Generator().manual_seed(0)
    write_tensors(root / "head", {"weight": torch.randn(VOCABULARY, WIDTH, generator=rng)}, {"scale": "1.0"})
    base = {"head_sha256": sha256_file(root / "head")}
    for split, n in (("train", 9), ("test", 6)):
        write_states(root / f"{split}.json", split, n, base, rng)
    facts = states_manifest(stored(6, []), **base).base
    modules = []
    for seed in SEEDS:
        module = AbiModule(SHAPE, seed=seed)
        told = facts_of(facts, f"seed{seed}", "oracle", seed)
        sha256 = save_module(module, root / f"modules/seed{seed}", told)
        net = sha256_tensors(module.domain_parameters())
        modules.append(ModuleEntry(seed=seed, folder=f"seed{seed}", sha256=sha256, domain_sha256=net, steps=1,
                                   final_loss=1.0, elapsed_s=1.0, n_parameters=1))  # fmt: skip
    ModulesManifest(modules=modules, provenance=PROVENANCE).write(root / "modules.json")
    write_arms(root, facts)
    turned = {f"{seed}.{name}": rotation(5, seed) for seed in SEEDS for name in ("aligned", "home", "own")}
    write_tensors(root / "rotations.safetensors", turned)
    digest = sha256_file(root / "rotations.safetensors")
    AlignmentManifest(alignments=[], rotations_sha256=digest, provenance=PROVENANCE).write(root / "rotations.json")
    write_evidence(root / "evidence.json")
    shutil.copytree(root / "backbone", root / "updates/seed1/model")
    shutil.copy(root / "b.head", root / "updates/seed1/head.safetensors")
    shutil.copy(root / "backbone.json", root / "updates/seed1.json")
    files = {"seed1.json": sha256_file(root / "updates/seed1.json")}
    BatchManifest(members=[Member(seed=1, files=files)], provenance=PROVENANCE).write(root / "updates.json")
    write_text(root)


def rotation(width, seed):
    matrix = torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(matrix)[0].float()


def facts_of(base, name, role, seed):
    return ModuleManifest.model_construct(**dict(base), name=name, role=role, text="t", seed=seed).model_copy()


def stored(n, groups):
    names = [f"d{i}" for i in range(n // 3)]
    return {"n_windows": n, "length": 7, "positions": 6, "width": WIDTH, "taps": [1, 2], "final_tap": 2,
            "dtype": "float32", "skip": 1, "documents": names, "groups": groups or names}  # fmt: skip


def write_states(path, split, n, base, rng):
    tensors = {f"tap.{tap}": torch.randn(n, 6, WIDTH, generator=rng) for tap in (1, 2)}
    tensors["tokens"] = torch.randint(VOCABULARY, (n, 7), generator=rng, dtype=torch.int32)
    tensors["targets"] = tensors["tokens"][:, 1:].clone()
    tensors["target_bytes"] = torch.ones(n, 6, dtype=torch.int32)
    tensors["char_end"] = torch.arange(n * 6, dtype=torch.int32).view(n, 6)
    tensors["document"] = torch.arange(n, dtype=torch.int32) // 3
    save_file(tensors, path.with_suffix(".safetensors"))
    digest = sha256_file(path.with_suffix(".safetensors"))
    about = stored(n, groups_of(split, n // 3))
    states_manifest(about, split=split, tensors_sha256=digest, **base).write(path)


def write_arms(root, base):
    arms, lora = [], []
    for seed in SEEDS:
        made = {
            "native": AbiModule(SHAPE, seed=seed),
            "random": AbiModule(SHAPE, seed=7),
            "bias": LogitBias(VOCABULARY),
        }
        made["linear"] = LinearMap((1, 2), WIDTH)
        for name, model in made.items():
            place = f"seed{seed}/kd/{name}-0"
            with torch.no_grad():
                next(model.parameters()).add_(seed)
            sha256 = save_fitted(model, root / "arms" / place, facts_of(base, name, "arm", seed))
            net = {"domain_sha256": sha256_tensors(model.domain_parameters())} if isinstance(model, AbiModule) else {}
            arms.append(FittedEntry(arm=name, fit="kd", draw=0, seed=seed, folder=place, sha256=sha256, **net, **SIZES))
        test, file = read_states(root / "test.json", "test"), root / f"lora/seed{seed}/kd/lora-0" / FINALS
        finals = {"domain.final": test.final(slice(None)) + seed, "domain.windows": test.windows.int()}
        write_tensors(file, finals, {"scopes": json.dumps({"domain": test.manifest.tensors_sha256})})
        lora.append(LoraEntry(arm="lora", fit="kd", draw=0, seed=seed, folder=f"seed{seed}/kd/lora-0", **SIZES,
                              adapter_sha256="a" * 64, finals_sha256=sha256_file(file)))  # fmt: skip
    CalibrationManifest(arms=arms, provenance=PROVENANCE).write(root / "arms.json")
    scopes = {"domain": ScopeRun(tensors_sha256=test.manifest.tensors_sha256, n_windows=6)}
    LoraManifest(base_model="b", base_sha256=base.base_sha256, rank=1, alpha=2, target_modules=["h"], n_interface=1,
                 n_trainable=1, scopes=scopes, arms=lora, provenance=PROVENANCE).write(root / "lora.json")  # fmt: skip


def write_evidence(path):
    row = ["-", "raw", 0, 1, "domain", "g0", "d0", 5, "js_nats", 0.5]
    write_csv(path.with_suffix(".csv.gz"), COLUMNS, [row])
    write_csv(path.with_suffix(".draws.csv.gz"), DRAW_COLUMNS, [["-", "raw", 0, 1, 7777, 0, "js_nats", 0.5]])
    write_promise(path, PROVENANCE)


def write_text(root):
    found = []
    for i, group in enumerate(groups_of("train", 3)):
        text = f"text {i}\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(Document(f"d{i}", group, "s", "1", digest, "train", len(text), text))
    write_documents(found, root / "text.jsonl.gz")
    summary(Chosen(found), PROVENANCE).write(root / "text.json")


@pytest.fixture(scope="module")
def sound(tmp_path_factory, make_backbone):
    root = tmp_path_factory.mktemp("sound")
    write_store(root, make_backbone)
    return root


@pytest.fixture
def store(sound, tmp_path):
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path


def states_and_head(root):
    states = read_states(root / "test.json", "test")
    return states, read_head(root / "head", states)


READERS = {
    "states": states_and_head,
    "module": lambda root: module_of_seed([str(root / "modules.json")], 1, read_states(root / "test.json", "test")),
    "arms": lambda root: fitted_of_seed([str(root / "arms.json")], 1, *states_and_head(root)),
    "lora": lambda root: lora_of_seed([str(root / "lora.json")], 1, {"domain": states_and_head(root)[0]}),
    "rotations": lambda root: read_rotations([str(root / "rotations.json")], 1),
    "backbone": lambda root: load_checked(root / "backbone", BackboneManifest.read(root / "backbone.json")),
    "updated": lambda root: (
        lambda found: (
            load_checked(found.model, found.about()),
            Head.read(found.head, found.about().head_sha256),
        )
    )(UpdatedBackbone.of([root / "updates.json"], 1)),
    "tokens": lambda root: TokensManifest.read(root / "tokens.json"),
    "evidence": lambda root: check_promise(root / "evidence.json"),
    "text": lambda root: read_assigned(root / "text.jsonl.gz", root / "text.json"),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_sound_is_read(sound, reader):
    assert READERS[reader](sound)


# what a disk or a careless hand does


def flip(name, at=-3):
    """One bit of one byte."""

    def damage(root):
        path = root / name
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(bytes(content))

    return damage


def cut(name):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-7])


def empty(name):
    return lambda root: (root / name).write_bytes(b"")


def gone(name):
    return lambda root: (root / name).unlink()


def said(name, leaf, value):
    """A value of a JSON file changed, and nothing else."""

    def damage(root):
        document = json.loads((root / name).read_text(encoding="utf-8"))
        put(leaf, value(document) if callable(value) else value)(document)
        (root / name).write_text(json.dumps(document), encoding="utf-8")

    return damage


def swap(one, other):
    def damage(root):
        (root / one).rename(root / "aside")
        (root / other).rename(root / one)
        (root / "aside").rename(root / other)

    return damage


def over(one, other):
    """A file or folder put in the place of another."""

    def damage(root):
        copy = shutil.copytree if (root / one).is_dir() else shutil.copy
        if (root / other).is_dir():
            shutil.rmtree(root / other)
        copy(root / one, root / other)

    return damage


BINARY = {
    "states": "test.safetensors",
    "module": f"modules/seed1/{WEIGHTS}",
    "arms": f"arms/seed1/kd/native-0/{WEIGHTS}",
    "lora": f"lora/seed1/kd/lora-0/{FINALS}",
    "rotations": "rotations.safetensors",
    "backbone": "backbone/model.safetensors",
    "updated": "updates/seed1/head.safetensors",
    "evidence": "evidence.csv.gz",
    "text": "text.jsonl.gz",
}
RECORD = {
    "states": "test.json",
    "module": "modules.json",
    "arms": "arms.json",
    "lora": "lora.json",
    "rotations": "rotations.json",
    "backbone": "backbone.json",
    "updated": "updates.json",
    "evidence": "evidence.json",
    "text": "text.json",
    "tokens": "tokens.json",
}
LAST = {"backbone": -3, "updated": -3}
DAMAGE = {
    **{(reader, f"bit of {name}"): flip(name) for reader, name in BINARY.items()},
    **{(reader, f"{name} cut"): cut(name) for reader, name in BINARY.items()},
    **{(reader, f"{name} gone"): gone(name) for reader, name in BINARY.items()},
    **{(reader, f"bit of {name}"): flip(name, 60) for reader, name in RECORD.items()},
    **{(reader, f"{name} empty"): empty(name) for reader, name in RECORD.items()},
    ("states", "bit in the middle"): flip("test.safetensors", 2000),
    ("states", "head"): flip("head"),
    ("states", "test in place of train"): over("train.safetensors", "test.safetensors"),
    ("states", "10^15 windows"): said("test.json", "n_windows", 10**15),
    ("states", "width 10^9"): said("test.json", "width", 10**9),
    ("states", "negative skip"): said("test.json", "skip", -1),
    ("states", "another skip"): said("test.json", "skip", 2),
    ("states", "documents in another order"): said("test.json", "documents", lambda d: d["documents"][::-1]),
    ("states", "groups in another order"): said("test.json", "groups", lambda d: d["groups"][::-1]),
    ("states", "another salt"): said("test.json", "salt", "pepper"),
    ("states", "one tap less"): said("test.json", "taps", [2]),
    ("module", "taps in another order"): said(f"modules/seed1/{CONFIG}", "module/taps", [2, 1]),
    ("module", "taps out of range"): said(f"modules/seed1/{CONFIG}", "module/taps", [1, 99]),
    ("module", "expansion -1"): said(f"modules/seed1/{CONFIG}", "module/expansion", -1),
    ("module", "width 10^9"): said(f"modules/seed1/{CONFIG}", "module/width", 10**9),
    ("module", "seed of another"): over("modules/seed2", "modules/seed1"),
    ("module", "entries swapped"): said("modules.json", "modules", lambda d: d["modules"][::-1]),
    ("module", "folders swapped"): swap("modules/seed1", "modules/seed2"),
    ("arms", "two arms swapped"): swap("arms/seed1/kd/native-0", "arms/seed1/kd/random-0"),
    ("arms", "random replaced by native"): over("arms/seed1/kd/native-0", "arms/seed1/kd/random-0"),
    ("arms", "bias of another seed"): over("arms/seed2/kd/bias-0", "arms/seed1/kd/bias-0"),
    ("arms", "linear of another seed"): over("arms/seed2/kd/linear-0", "arms/seed1/kd/linear-0"),
    ("arms", "native of another seed"): over("arms/seed2/kd/native-0", "arms/seed1/kd/native-0"),
    ("arms", "bit of a bias"): flip(f"arms/seed1/kd/bias-0/{ARM_FILE}"),
    ("arms", "bit of a linear map"): flip(f"arms/seed1/kd/linear-0/{ARM_FILE}"),
    ("arms", "another name"): said("arms.json", "arms/0/arm", "transferred"),
    ("arms", "another draw"): said("arms.json", "arms/0/draw", 3),
    ("arms", "another fit"): said("arms.json", "arms/0/fit", "ce"),
    ("lora", "of another seed"): over("lora/seed2", "lora/seed1"),
    ("backbone", "config of another"): said("backbone/config.json", "n_head", 4),
    ("backbone", "tokenizer"): flip("backbone/tokenizer.json", 300),
    ("backbone", "tokenizer gone"): gone("backbone/tokenizer.json"),
    ("updated", "member"): flip("updates/seed1.json", 90),
    ("updated", "weights"): flip("updates/seed1/model/model.safetensors"),
    ("tokens", "a spelling"): said("tokens.json", "spellings/0", "x"),
    ("evidence", "draws"): flip("evidence.draws.csv.gz"),
    ("evidence", "seeds"): said("evidence.json", "contents/seeds", [3]),
    ("text", "another split"): said("text.json", "assignment_sha256", "a" * 64),
}


@pytest.mark.parametrize(("reader", "name"), DAMAGE)
def test_what_is_damaged_is_refused_in_one_sentence(store, reader, name):
    DAMAGE[reader, name](store)
    refused(READERS[reader], store)


def refused(reader, root):
    with pytest.raises(AbiError) as caught:
        reader(root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value) or "modules: none of" in str(caught.value)


# what somebody does who writes hashes and seals that fit


def states_of(change, **about):
    """States with other tensors, or another manifest, of which every hash is right."""

    def forge(root):
        tensors = load_file(root / "test.safetensors")
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, root / "test.safetensors")
        found = StatesManifest.read(root / "test.json")
        made = {"tensors_sha256": sha256_file(root / "test.safetensors"), **about}
        found.model_copy(update=made).write(root / "test.json")

    return forge


def put_number(name, value, at=(0, 0)):
    return lambda tensors: tensors[name].__setitem__(at, value)


def module_of(change=None, **shape):
    """A module with other weights, or of another shape, of which every hash is right."""

    def forge(root):
        folder, path = root / "modules/seed1", root / "modules.json"
        tensors = load_file(folder / WEIGHTS)
        if change is not None:
            change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
        digest = sha256_tensors(tensors)
        net = sha256_tensors({name: tensor for name, tensor in tensors.items() if name.startswith("domain")})
        edit(folder / CONFIG, lambda d: d.update(sha256=digest, module=d["module"] | shape))
        edit(path, lambda d: d["modules"][0].update(sha256=digest, domain_sha256=net))

    return forge


def rotations_of(**changed):
    def forge(root):
        path = root / "rotations.safetensors"
        write_tensors(path, load_file(path) | {f"1.{name}": tensor for name, tensor in changed.items()})
        edit(root / "rotations.json", put("rotations_sha256", sha256_file(path)))

    return forge


def in_record(name, leaf, value):
    return lambda root: edit(root / name, put(leaf, value))


def folders_swapped(root):
    def change(document):
        one, other = document["arms"][0], document["arms"][1]
        one["folder"], other["folder"] = other["folder"], one["folder"]
        one["sha256"], other["sha256"] = other["sha256"], one["sha256"]

    edit(root / "arms.json", change)


def documents_reordered(root):
    lines = gzip.decompress((root / "text.jsonl.gz").read_bytes()).decode().splitlines()
    made = [json.loads(line) for line in lines]
    made[0]["group"], made[1]["group"] = made[1]["group"], made[0]["group"]
    (root / "text.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in made).encode()))


FORGED = {
    ("states", "NaN"): states_of(put_number("tap.2", torch.nan)),
    ("states", "infinity"): states_of(put_number("tap.1", torch.inf)),
    ("states", "target beyond the vocabulary"): states_of(put_number("targets", VOCABULARY)),
    ("states", "negative target"): states_of(put_number("targets", -1)),
    ("states", "token beyond the vocabulary"): states_of(put_number("tokens", VOCABULARY)),
    ("states", "negative bytes"): states_of(put_number("target_bytes", -1)),
    ("states", "negative text position"): states_of(put_number("char_end", -1)),
    ("states", "documents permuted"): states_of(lambda t: t.update(document=t["document"].flip(0))),
    ("states", "a document left out"): states_of(put_number("document", 1, slice(0, 3))),
    ("states", "10^15 windows"): states_of(lambda t: None, n_windows=10**15),
    ("states", "width 10^9"): states_of(lambda t: None, width=10**9),
    ("states", "all positions left out"): states_of(lambda t: None, skip=6),
    ("states", "another width"): states_of(lambda t: t.update({"tap.1": t["tap.1"][..., :4]})),
    ("states", "a tap that is not there"): states_of(lambda t: None, taps=[1, 2, 9]),
    ("states", "a document without a group"): states_of(lambda t: None, groups=["g0"]),
    ("module", "NaN"): module_of(put_number("proj_in.weight", torch.nan)),
    ("module", "rotation that is none"): module_of(put_number("rotation", 7.0)),
    ("module", "taps out of range"): module_of(taps=[1, 99]),
    ("module", "negative tap"): module_of(taps=[-1, 2]),
    ("module", "expansion 10^9"): module_of(expansion=10**9),
    ("module", "width 10^9"): module_of(width=10**9),
    ("module", "expansion -1"): module_of(expansion=-1),
    ("module", "d_abi 10^9"): module_of(d_abi=10**9),
    ("module", "seed of another"): in_record(f"modules/seed1/{CONFIG}", "seed", 2),
    ("module", "net of another"): in_record("modules.json", "modules/0/domain_sha256", "b" * 64),
    ("arms", "folders and hashes swapped"): folders_swapped,
    ("arms", "folder outside"): in_record("arms.json", "arms/0/folder", "../modules/seed1"),
    ("arms", "another net"): in_record("arms.json", "arms/0/domain_sha256", "b" * 64),
    ("arms", "another name"): in_record(f"arms/seed1/kd/native-0/{CONFIG}", "name", "random"),
    ("rotations", "NaN"): rotations_of(aligned=torch.full((5, 5), torch.nan)),
    ("rotations", "another width"): rotations_of(own=torch.ones(5, 4)),
    ("rotations", "not orthogonal"): rotations_of(aligned=torch.eye(5) * 1.1),
    ("lora", "of another fit"): in_record("lora.json", "arms/0/fit", "ce"),
    ("text", "groups swapped"): documents_reordered,
    ("evidence", "other rows"): in_record("evidence.json", "files/draws/rows", 2),
}


@pytest.mark.parametrize(("reader", "name"), FORGED)
def test_what_cannot_be_is_refused_although_every_hash_is_right(store, reader, name):
    FORGED[reader, name](store)
    refused(READERS[reader], store)


def test_the_tables_are_as_long_as_is_promised():
    assert len(DAMAGE) >= 60
    assert len(FORGED) >= 30


def test_a_file_is_hashed_once_for_all_its_readers_and_again_after_a_write(store, monkeypatch):
    """What a check costs: one pass over the file per process, however often it is read."""
    import os
    import time

    from abi.base import files

    path, hashed = store / "test.safetensors", []
    os.utime(path, (1, 1))
    real = files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda name: hashed.append(str(name)) or real(name))
    time.sleep(2 * files.FRESH_NS / 1e9)
    for _ in range(3):
        assert isinstance(read_states(store / "test.json", "test"), States)
    assert hashed.count(str(path)) == 1
    flip("test.safetensors")(store)
    refused(states_and_head, store)
