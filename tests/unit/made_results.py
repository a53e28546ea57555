"""A complete results/tiny from made-up evidence, judged by the same functions as a run's; and ways to forge it."""

import atexit
import copy
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from evidence_rows import RECONSTRUCTION, ROOT, TRANSFER, rows, source_alone

from abi.audit.record.arithmetic import lookup
from abi.audit.record.data import is_number
from abi.audit.results.places import write_manifest
from abi.base.files import sha256_file
from abi.base.job import Job, code_of
from abi.base.manifests.alignments import AlignmentManifest
from abi.base.manifests.arms import CalibrationManifest, LoraManifest
from abi.base.manifests.backbones import BackboneManifest
from abi.base.manifests.batches import BatchManifest
from abi.base.manifests.modules import ModulesManifest
from abi.base.manifests.overlaps import OverlapManifest
from abi.base.manifests.pages import GenerationManifest
from abi.base.manifests.rates import RatesManifest
from abi.base.manifests.texts import TextManifest
from abi.base.names import AGREEMENT, CLOSED_FORM, PAGES
from abi.base.regimes import KINDS
from abi.base.typed import seal_of
from abi.judge import evidence_files
from abi.judge.results import ClaimFacts
from abi.plan.config import load
from abi.plan.specs.judge import JudgeClaim, JudgeLadder, Summarise
from abi.plan.workflow import Workflow, seeds_of
from abi.steps import judge_claim
from abi.steps import judge_ladder as ladder
from abi.steps import summarise as summary

CLAIM = "t5_to_gpt2"
FEW = {"direct": 0.5, "carried": 0.55, "source-taught": 0.8, "permuted-taught": 0.6, "wrong-domain-taught": 0.4}
"""Levels of arms that rungs are compared by."""
FEW_SHOT, GENERAL_ONLY, LADDER = "t5_to_gpt2_few_shot", "gpt2_to_qwen_general_only", "cross_size"
WORKFLOW = Workflow(load("tiny"))
RUNGS = tuple(WORKFLOW.claim(LADDER).rungs)
FILE = WORKFLOW.result_file(CLAIM)
CODE = code_of("evaluate_arms", {})


HEAVY = {"torch", "pandas", "transformers", "snakemake", "jsonschema"}


# a complete results folder


def write_csv(path, frame):
    evidence_files.write_csv(path, list(frame), frame.astype(object).itertuples(index=False))


def write_promise(workflow, claim, path):
    job = Job("evaluate_arms", workflow.of(claim).evidence_spec(Path(path).stem), CODE, [], 1)
    evidence_files.write_promise(path, job.provenance(map(str, evidence_files.files_of(path).values())))


def facts_of(claim_id, claim):
    """What a result repeats of a claim of the configuration."""
    about = known(claim.plain(), ClaimFacts)
    if claim.kind != "experiment":
        about.pop("arms", None)  # a list of names elsewhere, which a verdict does not repeat
    return ClaimFacts.model_validate({"id": claim_id, **about})


def known(given, model):
    return {key: value for key, value in given.items() if key in model.model_fields}


def fits_of_claim(claim):
    return facts_of("c", claim).fits


def evidence(claim, groups, levels):
    """Rows of every fit of a claim: no target net in general-only, a ladder of three budgets as draws in few-shot."""
    n_seeds, n_closed = WORKFLOW.config.seeds(claim), WORKFLOW.config.closed_form_seeds(claim)
    windows = WORKFLOW.of(claim).verdict_spec()["budget"].get("windows", ())
    claim, frames = WORKFLOW.claim(claim), []
    base = {"transfer": TRANSFER, "reconstruction": RECONSTRUCTION}[claim.kind] | (levels or {})
    base = {
        arm: level
        for arm, level in base.items()
        if arm not in ("home", "home-identity", "native") or claim.regime != "general-only"
    }
    base |= FEW if claim.regime == "few-shot" else {}
    budgets = dict.fromkeys(set(base) & set(claim.arms), 3) if claim.regime == "few-shot" else {}
    for i, name in enumerate(fits_of_claim(claim)):
        frame = rows(base, n_groups=groups, per_group=1, fit=name, seed=i, draws=budgets, n_seeds=n_closed)
        many = (frame["fit"] == "-") | (name == CLOSED_FORM) | (frame["seed"] < n_seeds)
        frames.append(frame[many & ((frame["fit"] != "-") | (i == 0))])
    frame = pd.concat(frames, ignore_index=True)
    if budgets:
        frame["draw"] = frame["draw"].where(frame["fit"] == "-", frame["draw"].map(dict(enumerate(windows))))
    if claim.regime in ("few-shot", "general-only"):
        frame = frame[frame["scope"] != "on_training_text"]
    if claim.kind == "transfer":
        frame = pd.concat([frame, source_alone(frame, without=["general003.0"])], ignore_index=True)
    loss = frame[frame["metric"] == "bits_per_byte"].assign(metric="loss_nats", value=lambda f: 2 * f["value"])
    frame = pd.concat([frame, loss], ignore_index=True)
    if claim.kind == "reconstruction":
        frame.loc[frame["arm"] == "before", "fit"] = "-"
        frame = frame.drop_duplicates(["fit", "arm", "draw", "seed", "scope", "document", "metric"])
    return frame.assign(seed=frame["seed"] + 1)


def draws(fit, arm, budgets=1):
    rng = np.random.default_rng(3)
    keys = [
        (draw, seed, chunk, metric)
        for draw in range(budgets) for seed in (7777, 1111, 2222) for chunk in range(4) for metric in AGREEMENT
    ]  # fmt: skip
    frame = pd.DataFrame(keys, columns=["draw", "rng_seed", "chunk", "metric"])
    return frame.assign(fit=fit, arm=arm, seed=1, value=rng.uniform(0.1, 0.65, len(frame)))


MANIFESTS = {
    model.kind: model
    for model in (
        AlignmentManifest,
        BackboneManifest,
        BatchManifest,
        CalibrationManifest,
        GenerationManifest,
        LoraManifest,
        OverlapManifest,
        ModulesManifest,
        TextManifest,
        RatesManifest,
    )
}


def manifest(path, kind, rule, spec, body):
    job = Job(rule, spec, code_of(rule, spec), [], 1)
    MANIFESTS[kind].model_validate({**body, "provenance": job.provenance()}).write(path)


def write_manifests(workflow, claim):
    sha, budget = "a" * 64, workflow.of(claim).verdict_spec()["budget"]
    steps, grid = sum(p["steps"] for p in budget["phases"]), budget["rates"]
    fits = {fit: 0 if fit == CLOSED_FORM else steps for fit in fits_of_claim(workflow.claim(claim))}
    for variant in workflow.claim(claim).variants:
        fits[variant] = budget["variants"][variant].get("steps", steps)
    for path in workflow.of(claim).verdict_input()["calibration"]:
        arms = [
            {"arm": arm, "fit": fit, "draw": 0, "seed": seed, "steps": trained, "n_trainable": 7 + seed,
             "frozen_sha256": sha, "domain_sha256": sha, "sha256": sha, "folder": f"{fit}/{arm}/{seed}",
             **({"final_loss": 0.4 + seed / 7, "elapsed_s": 1.5 + seed, "phase_floors": [0.4 + seed / 7], "lr": grid[1]} if trained else {})}
            for fit, trained in fits.items() for arm in workflow.claim(claim).arms if arm != "lora"
            for seed in seeds_of(Path(path).stem) if fit == CLOSED_FORM or seed <= workflow.config.seeds(claim)
        ]  # fmt: skip
        manifest(
            path, "calibration", "calibrate_arms", workflow.of(claim).calibration_spec(Path(path).stem), {"arms": arms}
        )
    for path in workflow.of(claim).verdict_input()["rates"]:
        arms = [
            {"arm": arm, "objectives": [1.0, 0.5, *[None] * len(grid[2:])], "rate": grid[1], "at_end": False}
            for arm in workflow.claim(claim).arms
        ]
        body = {"seed": 0, "grid": grid, "arms": arms}
        manifest(path, "rates", "choose_rates", workflow.of(claim).rates_spec(), body)
    for path in workflow.of(claim).verdict_input().get("lora", []):
        fit, seeds = workflow.claim(claim).fit, seeds_of(Path(path).stem)
        arms = [
            {"arm": "lora", "fit": fit, "draw": 0, "seed": seed, "steps": steps, "n_trainable": 7, "frozen_sha256": sha,
             "final_loss": 0.4, "elapsed_s": 1.5, "phase_floors": [0.4], "lr": grid[1], "best_step": 1, "folder": "f",
             "adapter_sha256": sha, "finals_sha256": sha} for seed in seeds
        ]  # fmt: skip
        body = {"base_model": "m", "base_sha256": sha, "rank": 1, "alpha": 2, "target_modules": ["h.0.c"], "n_interface": 7,
                "n_trainable": 7, "scopes": {}, "arms": arms}  # fmt: skip
        manifest(path, "lora", "train_lora", workflow.of(claim).lora_spec(Path(path).stem), body)
    for role, (backbone, text, shape, kind) in workflow.of(claim).modules().items():
        for path in (path for path in workflow.of(claim).verdict_input()[role] if not Path(path).exists()):
            spec = workflow.module_spec(text, shape, kind, Path(path).stem)
            modules = [
                {"seed": seed, "folder": "m", "sha256": sha, "domain_sha256": sha, "steps": 3, "final_loss": 0.5,
                 "elapsed_s": 2.5, "n_parameters": 11} for seed in spec["seeds"]
            ]  # fmt: skip
            manifest(path, "modules", "train_modules", spec, {"modules": modules})
            assert backbone in path
    for path in workflow.of(claim).verdict_input().get("alignments", []):
        if not Path(path).exists():
            write_alignment(workflow, path)
    for path in workflow.of(claim).verdict_input()["backbones"]:
        if Path(path).exists():
            continue
        body = {
            "name": Path(path).stem, "revision": "built", "class": "GPT2LMHeadModel", "model_type": "gpt2", "width": 64, "depth": 2,
            "n_parameters": 157440, "head_rows": 640, "n_tokens": 640, "vocabulary": "f" * 20, "weights_sha256": sha,
            "files": {}, "head_scale": 1.0, "head_sha256": sha, "pretraining": {"steps": 80, "loss_nats": 5.3789},
        }  # fmt: skip
        manifest(path, "backbone", "build_backbone", workflow.backbone_spec(Path(path).stem), body)


ALIGNED = {"n_rows": 1000, "effective_rank": 10.0, "residual": 0.4, "cosine_before": 0.01, "cosine_held_out": 0.9}


def write_alignment(workflow, path):
    """Write the manifest of a claim's rotations of a batch of seeds."""
    claim, batch = path.split("/")[-2:]
    seeds = seeds_of(Path(batch).stem)
    entries = [
        {**ALIGNED, "seed": seed, "rotation": name} for seed in seeds for name in ("aligned", "home", "own", "other")
    ]
    spec = workflow.of(claim).alignment_spec(Path(batch).stem)
    manifest(path, "alignment", "fit_alignment", spec, {"alignments": entries, "rotations_sha256": "a" * 64})


def write_text_records(workflow, claim):
    """Write the records of a claim's texts and what of them is scored: documents of both scopes, five packages, a
    seventh of the documents close.
    """
    inputs = workflow.of(claim).verdict_input()
    group_of = {f"{scope}{n:03d}.{i}": n for scope in ("domain", "general") for n in range(99) for i in range(2)}
    for path in (path for path in inputs["overlaps"] if not Path(path).exists()):
        text, backbone = Path(path).stem, Path(path).parent.name
        scored = {
            name: {"bytes": 1000, "in_train": 0.4 if group % 7 == 3 else group / 400}
            for name, group in group_of.items()
        }
        spec = workflow.overlap_spec(backbone, text)
        body = {"text": text, "base_model": backbone, "documents": scored}
        manifest(path, "overlap", "measure_overlap", spec, body)
    for path in (path for path in inputs["texts"] if not Path(path).exists()):
        held_out = {  # of the whole documents, which no verdict asks
            name: {"split": "test", "package": f"p{group % 5}", "in_train": 1.0} for name, group in group_of.items()
        }
        counts = {"groups": 99, "documents": len(held_out), "bytes": 1}
        body = {
            "splits": {"test": counts},
            "assignment_sha256": "a" * 64,
            "identifier_share": 0.1,
            "left_out": {},
            "copies": {},
            "held_out": held_out,
        }
        manifest(path, "text", "build_text", workflow.text_spec(Path(path).stem), body)


def judge(workflow, claim):
    inputs = workflow.of(claim).verdict_input()
    paths = list(dict.fromkeys(path for group in inputs.values() for path in group))
    spec, code = JudgeClaim.model_validate(workflow.of(claim).verdict_spec()), code_of("judge_claim", {})
    job = Job("judge_claim", spec, code, paths, 1)
    judge_claim.run(job, inputs, {"result": workflow.result_file(claim)})


def judge_ladder(workflow, claim):
    paths = workflow.result_files(workflow.claim(claim).rungs)
    spec, code = JudgeLadder.model_validate(workflow.of(claim).verdict_spec()), code_of("judge_ladder", {})
    job = Job("judge_ladder", spec, code, paths, 1)
    ladder.run(job, {"rungs": paths}, {"result": workflow.result_file(claim)})


def summarise(workflow):
    """Write every page whose claims are there; the summary lists what there is."""
    for page in PAGES:
        paths = [path for path in workflow.page_files(page) if Path(path).exists()]
        if page == "headline" and paths != workflow.page_files(page):
            continue
        code = code_of("summarise", {})
        job = Job("summarise", Summarise.model_validate(workflow.page_spec(page)), code, paths, 1)
        names = {"markdown": f"{page}.md", "text": f"{page}.txt", "record": f"{page}.json"}
        summary.run(job, paths, {key: f"{workflow.results}/{name}" for key, name in names.items()})


def build(folder, claims=(CLAIM, "t5_same_backbone"), *, groups=32, levels=None):
    """Put a complete results/tiny into a folder with a copy of config/; made once per process for the same arguments."""
    made = _built(tuple(claims), groups, tuple(sorted((levels or {}).items())))
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


@functools.cache
def _built(claims, groups, levels):
    folder = Path(tempfile.mkdtemp(prefix="abi-made-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(ROOT / "config", folder / "config")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for claim in claims:
            if claim in WORKFLOW.config.ladders:
                judge_ladder(WORKFLOW, claim)
                continue
            kind, fit = WORKFLOW.claim(claim).kind, WORKFLOW.claim(claim).fit
            frame, inputs = evidence(claim, groups, dict(levels)), WORKFLOW.of(claim).verdict_input()
            budgets = 3 if WORKFLOW.claim(claim).regime == "few-shot" else 1
            for path in inputs["evidence"]:
                write_csv(path, frame[frame["seed"].isin(seeds_of(Path(path).name.split(".")[0]))])
            for i, path in enumerate(inputs["draws"]):
                write_csv(path, draws(fit, KINDS[kind].claimed, budgets).assign(seed=i + 1))
            for path in inputs["manifests"]:
                write_promise(WORKFLOW, claim, path)
            write_manifests(WORKFLOW, claim)
            write_text_records(WORKFLOW, claim)
            judge(WORKFLOW, claim)
        summarise(WORKFLOW)
    finally:
        os.chdir(before)
    return folder


def edit(path, change):
    """Change a JSON file as a careful forger does: with a seal that fits, where it has one."""
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    change(document)
    if "seal" in document:
        document["seal"] = seal_of(document)
    Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def put(leaf, value):
    def change(document):
        *parents, last = leaf.split("/")
        node = lookup(document, "/".join(parents)) if parents else document
        node[int(last) if isinstance(node, list) else last] = value

    return change


def regenerate(path, source):
    """Write the hash of an input into a result, and the result's into the summary: as a careful forger would.

    The manifest of altered evidence is forged too.
    """
    forged = [str(source)]
    for manifest in WORKFLOW.of(CLAIM).verdict_input()["manifests"]:
        if Path(source) in evidence_files.files_of(manifest).values():
            told = {
                key: part.plain()
                for key, part in evidence_files.promise_of(manifest, evidence_files.rows_of(manifest)).items()
            }
            edit(manifest, lambda document, told=told: document.update(told))
            forged.append(manifest)
    for name in forged:
        digest = sha256_file(name)
        edit(path, lambda document, n=name, d=digest: document["provenance"]["inputs"].__setitem__(n, d))
    whole = sha256_file(path)
    into_pages(path, whole)


def regenerate_summary(path):
    into_pages(path, sha256_file(path))


def into_pages(path, digest):
    """Write the hash of a result into every page that lists it."""
    for page in (Path("results/tiny", f"{page}.json") for page in PAGES):
        listed = page.exists() and str(path) in json.loads(page.read_text(encoding="utf-8"))["provenance"]["inputs"]
        if listed:
            edit(page, lambda document: document["provenance"]["inputs"].__setitem__(str(path), digest))


def kinds(found, *wanted):
    return [f for f in found.findings if f.kind in wanted]


def digit_changed(value):
    """Return the number with its last digit changed that makes a difference."""
    text = repr(value)
    stop = text.index("e") if "e" in text else len(text)
    for i in reversed([i for i in range(stop) if text[i].isdigit()]):
        new = float(f"{text[:i]}{(int(text[i]) + 1) % 10}{text[i + 1 :]}")
        if new != value:
            return int(new) if isinstance(value, int) else new
    raise AssertionError(value)


def numbers(node, leaf=""):
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, f"{leaf}/{key}" if leaf else str(key))
    elif is_number(node):
        yield leaf, node


def spine(document, leaf, value):
    """Change one leaf of a document whose parents are copied on the way, so that the original stays."""
    node, parts = document, leaf.split("/")
    for part in parts[:-1]:
        key = int(part) if isinstance(node, list) else part
        node[key] = copy.copy(node[key])
        node = node[key]
    node[int(parts[-1]) if isinstance(node, list) else parts[-1]] = value


def run(*arguments, flags=(), cwd=None, **variables):
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii:strict",
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    command = [sys.executable, *flags, "-m", "abi.cli", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def reference(here):
    folder = here / "results/reference/tiny"
    folder.mkdir(parents=True)
    for path in WORKFLOW.page_files("summary"):
        if Path(path).exists():
            shutil.copy(path, folder)
    write_manifest(folder)
    return folder


def edit_reference(path, change):
    """Edit a file of a reference as one who adopts it again would: with a manifest that fits."""
    edit(path, change)
    write_manifest(Path(path).parent)
