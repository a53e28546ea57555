"""Results of claims made of several studies and of the aggregate, from made-up evidence, judged by the functions of a run."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import pandas as pd
from evidence_rows import ROOT, rows
from made_results import (
    WORKFLOW,
    build,
    draws,
    facts_of,
    manifest,
    summarise,
    write_csv,
    write_text_records,
)

from abi.base.job import Job, code_of
from abi.judge import evidence_files
from abi.judge.kinds import OfStudies, kind_of
from abi.plan.specs.judge import JudgeLadder, JudgeStudy
from abi.plan.workflow import seeds_of
from abi.steps import judge_ladder
from abi.steps.judge_study import run

UPDATE, ATLAS, LAW, SUCCESSION = "gpt2_update", "domain_atlas", "calibration_scaling", "succession"
AGGREGATE = "reproduce"
SHA = "a" * 64
LEVELS = {
    "raw": 0.0, "oracle": 1.0, "zero-shot": 0.95, "zero-shot-free": 0.5, "random": 0.1, "zero-shot-off": 0.4, "random-net": 0.45,
    "oracle-off": 0.5, "random-off": 0.05, "before": 0.9, "before-off": 0.35, "oracle-before": 0.99, "raw-before": -0.1,
    "raw-free": 0.02,
}  # fmt: skip
PLAIN = {"zero-shot-free", "before", "before-off", "oracle-before", "raw-before", "raw-free"}


def levels_of(claim_id, text):
    """Arm -> level of one study of a claim."""
    claim = WORKFLOW.config.studies[claim_id]
    if claim.kind == "scaling_law":
        return {
            "raw": 0.0,
            "oracle": 1.0,
            "second": 0.7,
            **{f"budget-{n}": 0.2 + 0.7 * min(1, n / 200) for n in BUDGETS},
        }
    if claim.kind != "atlas":
        return LEVELS
    arms = {
        "raw": 0.0,
        "reference": 1.0,
        "oracle": 1.0,
        "shared": 0.3,
        "chart": 0.9,
        "random": 0.4,
        "permuted": 0.35,
        "linear": 0.5,
        "linear-narrow": 0.45,
    }
    for other in claim.texts:
        arms |= {} if other == text else {f"chart-of-{other}": 0.2, f"random-of-{other}": 0.15}
    mixed = text in claim.mixture
    return arms | ({f"mix-{w}": w / 110 + 0.01 for w in (0, 25, 50, 75, 100)} if mixed else {})


DRAWS = {"random": 3, "permuted": 3}
BUDGETS = WORKFLOW.scale.calibration["kd"].budgets.steps


def names_of(claim, rounds):
    return kind_of(claim.kind, OfStudies).studies(facts_of("c", claim), rounds)


def evidence(claim_id, levels=None, groups=32):
    """Rows of every study of a claim: agreement on the held backbone, losses of every arm, a margin of every point of a law."""
    claim, frames = WORKFLOW.config.studies[claim_id], []
    for i, study in enumerate(names_of(claim, getattr(WORKFLOW.of(claim_id), "rounds", lambda: 1)())):
        text = study.rpartition("-")[2] if claim.kind != "atlas" else study
        own = levels_of(claim_id, text) | (levels or {})
        frame = rows(
            own,
            n_groups=groups,
            per_group=1,
            seed=i,
            n_seeds=WORKFLOW.config.seeds(claim_id),
            draws=DRAWS if claim.kind == "atlas" else None,
        )
        frame = frame[(frame["scope"] == "domain") & ~((frame["metric"] != "bits_per_byte") & frame["arm"].isin(PLAIN))]
        judge = "reference" if claim.kind == "atlas" else "oracle"
        frame = frame[(frame["arm"] != judge) | (frame["metric"] == "bits_per_byte")]
        share = frame["metric"].isin(("top1", "top5"))
        frame = frame.assign(fit=study, value=frame["value"].where(~share, frame["value"].clip(upper=1.0)))
        if claim.kind == "scaling_law":
            # the oracle is measured like any arm, against a second one
            frame = frame.replace({"arm": {"second": "oracle", "oracle": "reference"}})
            one = frame[(frame["arm"] == "raw") & (frame["metric"] == "top5")]
            frame = pd.concat([frame, one.assign(arm="margin", metric="top5_margin", value=0.001 * (i + 1))])
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    loss = frame[frame["metric"] == "bits_per_byte"].assign(metric="loss_nats", value=lambda f: 2 * f["value"])
    return pd.concat([frame, loss], ignore_index=True).assign(seed=lambda f: f["seed"] + 1)


def write_manifests(claim_id):
    """Write what the verdict reads beside the evidence: modules, oracles, updates, generated text."""
    write_text_records(WORKFLOW, claim_id)
    for name, paths in WORKFLOW.of(claim_id).verdict_input().items():
        for path in (Path(p) for p in paths if not Path(p).exists()):
            batch, parts = path.stem, path.parts[2:]
            if parts[0] in ("modules", "updated_modules"):
                made = parts[0] == "modules"
                spec = (
                    WORKFLOW.module_spec(*parts[2:5], batch)
                    if made
                    else WORKFLOW.updated_module_spec(*parts[1:5], batch)
                )
                entries = [
                    {"seed": seed, "folder": "m", "sha256": SHA, "domain_sha256": SHA, "steps": 3, "final_loss": 0.5,
                     "elapsed_s": 2.5, "n_parameters": 11} for seed in seeds_of(batch)
                ]  # fmt: skip
                manifest(
                    path, "modules", "train_modules" if made else "train_updated_modules", spec, {"modules": entries}
                )
            elif parts[0] == "updates":
                figures = {"steps": 100, "tokens_seen": 1000, "loss_nats": 3.0, "elapsed_s": 1.0, "general_loss_before": 4.0,
                           "general_loss_after": 3.5}  # fmt: skip
                held = {"stability_mse": 0.01} if parts[2].startswith("held.") else {}
                members = [
                    {"seed": s, "files": {f"seed{s}.json": SHA}, "figures": figures | held} for s in seeds_of(batch)
                ]
                manifest(
                    path,
                    "batch",
                    "update_backbone",
                    WORKFLOW.update_spec(parts[1], parts[2], batch),
                    {"members": members},
                )
            elif parts[0] == "generation":
                samples = [
                    {"seed": s, "arm": arm, "text": "a b", "ratio": 0.8, "distinct4": 0.5}
                    for s in (1, 2, 3)
                    for arm in ("plain", "module")
                ]
                body = {"samples": samples, "ratio": 0.8, "ratio_plain": 0.8}
                manifest(path, "generation", "generate_text", WORKFLOW.of(claim_id).generation_spec(), body)
            else:
                raise AssertionError(name)


def write_evidence(claim_id, frame):
    inputs = WORKFLOW.of(claim_id).verdict_input()
    for place, drawn, told in zip(inputs["evidence"], inputs["draws"], inputs["manifests"], strict=True):
        batch = Path(told).stem
        write_csv(place, frame[frame["seed"].isin(seeds_of(batch))])
        write_csv(drawn, draws("s", "arm").assign(seed=seeds_of(batch)[0]))
        code = code_of("evaluate_studies", {})
        job = Job("evaluate_studies", WORKFLOW.of(claim_id).evidence_spec(batch), code, [], 1)
        evidence_files.write_promise(told, job.provenance())


def judge_study(claim_id):
    inputs = WORKFLOW.of(claim_id).verdict_input()
    paths = list(dict.fromkeys(path for group in inputs.values() for path in group))
    code = code_of("judge_study", {})
    job = Job("judge_study", JudgeStudy.model_validate(WORKFLOW.of(claim_id).verdict_spec()), code, paths, 1)
    run(job, inputs, {"result": WORKFLOW.result_file(claim_id)})


def make_study(claim_id, levels=None, groups=32):
    write_evidence(claim_id, evidence(claim_id, levels, groups))
    write_manifests(claim_id)
    judge_study(claim_id)


def make_aggregate():
    """The aggregate from the results of its rungs, which are there."""
    inputs = WORKFLOW.of(AGGREGATE).verdict_input()
    code = code_of("judge_ladder", {})
    job = Job(
        "judge_ladder", JudgeLadder.model_validate(WORKFLOW.of(AGGREGATE).verdict_spec()), code, inputs["rungs"], 1
    )
    judge_ladder.run(job, inputs, {"result": WORKFLOW.result_file(AGGREGATE)})


def build_studies(folder, claims=(UPDATE, ATLAS, LAW, SUCCESSION)):
    """Put results/tiny with claims made of several studies into a folder with a copy of config/; made once per process."""
    shutil.copytree(_built(tuple(claims)), folder, dirs_exist_ok=True)
    return folder


@functools.cache
def _built(claims):
    folder = Path(tempfile.mkdtemp(prefix="abi-studies-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    own = tuple(claim for claim in WORKFLOW.claim(AGGREGATE).rungs if claim in WORKFLOW.config.claims)
    if AGGREGATE in claims:
        build(folder, own, levels={"untrained": -0.3})
    else:
        shutil.copytree(ROOT / "config", folder / "config")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for claim in claims:
            make_aggregate() if claim == AGGREGATE else make_study(claim)
        summarise(WORKFLOW)
    finally:
        os.chdir(before)
    return folder
