"""Every job of a claim made of several studies, on tiny real models and made-up text, with the specs and paths of a run."""

import hashlib
import random
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from made_arms import PROVENANCE, edited

from abi.base.digest import code_digest
from abi.base.job import Job, spec_of
from abi.judge.results import read_result
from abi.models.backbone import save_backbone
from abi.models.described import describe_backbone
from abi.plan.config import load
from abi.plan.scale import Scale
from abi.plan.workflow import Workflow
from abi.steps import (
    evaluate_studies,
    measure_overlap,
    train_modules,
    train_updated_modules,
    update_backbone,
    write_states,
    write_updated_states,
)
from abi.steps.judge_study import run
from abi.text.corpus import Chosen, summary
from abi.text.documents import SPLITS, Document, split_of, write_documents

FAMILIES = {"gpt2": "gpt2", "gpt2_medium": "gpt2", "gpt2_large": "gpt2", "t5_large": "t5"}
WORDS = ["state", "window", "loss", "token", "norm", "rate", "model", "batch", "index", "text", "größe", "head"]
LINES = {
    "python": ["def {a}_{b}({c}):", "    return {a} + {c}[{n}]", "# the {a} of a {b}"],
    "general": ["the {a} of a {b} is {c}", "a {c} has {n} {a}s", "{a}, {b} and {c}."],
    "markdown": ["## {a} {b}", "- `{c}`: {a} {n}", "**{b}** of [{a}]({c})"],
    "sql": ["SELECT {a}, {b} FROM {c}", "WHERE {a} > {n}", "ORDER BY {b}"],
}
STEPS = [{"steps": 6, "lr": 3e-2, "warmup": 1}]
LOOKED_AT = {
    "t5_update": ["t5_large_general"],
    "gpt2_update": ["gpt2_medium_general", "gpt2_medium_sql"],
    "calibration_scaling": ["gpt2_general", "gpt2_large_general"],
}


def small_workflow(max_seeds=3, **updates):
    """The study of scale `tiny` with models, texts and budgets of a few seconds; `updates` change every update.

    A claim looks at fewer updates than at `tiny`, and at two wherever it compares them.
    """
    config = load("tiny")
    scale, criteria = config.scale.plain(), edited(config.protocol.criteria, min_positions=10)
    scale["max_seeds"] = max_seeds
    for name, definition in scale["backbones"].items():
        prefix = 5 if FAMILIES.get(name) == "t5" else 0
        definition |= {"window": {"length": 12, "prefix": prefix, "skip": 1}, "taps": [1], "width": 16}
    for module in scale["modules"].values():
        module |= {"d_abi": 6, "taps": ["final"], "tap_norms": False, "training": {"batch": 4, "phases": STEPS}}
    for update in scale["updates"].values():
        update |= {"rounds": min(update["rounds"], 2), "training": {"batch": 4, "phases": STEPS}, **updates}
    for text in scale["texts"].values():
        text |= {"max_windows": {"train": 60, "calibration": 20, "test": 200},
                 "max_windows_per_document": {"train": 4, "calibration": 2, "test": 2}}  # fmt: skip
    scale["calibration"]["kd"] |= {"budgets": {"steps": [0, 2, 5], "lr": 1e-2, "warmup": 1}}
    protocol = edited(config.protocol, criteria=criteria)
    fewer = {claim: edited(config.studies[claim], updates=names) for claim, names in LOOKED_AT.items()}
    studies = config.studies | fewer
    return Workflow(replace(config, scale=Scale.model_validate(scale), protocol=protocol, studies=studies))


def documents_of(workflow, text, n=160):
    """Documents of their own groups; about 40 are test documents."""
    draw = random.Random(text)

    def line():
        a, b, c = (draw.choice(WORDS) for _ in range(3))
        return draw.choice(LINES[text]).format(a=a, b=b, c=c, n=draw.randint(0, 99))

    found = []
    for i in range(n):
        body = "\n".join(line() for _ in range(14)) + "\n"
        digest, group = hashlib.sha256(body.encode()).hexdigest(), f"{text}{i}"
        split = split_of(group, dict(workflow.scale.split_of(text)), workflow.scale.salt)
        found.append(Document(f"{text}/{i}", group, "made", "1", digest, split, len(body.encode()), body))
    return found


def flat(inputs):
    return [str(p) for value in inputs.values() for p in ([value] if isinstance(value, str) else value)]


def job(rule, spec, inputs):
    """A job of a rule as its script makes it: with the spec that the rule's step reads."""
    typed = spec_of(import_module(f"abi.steps.{rule}"), spec, rule)
    return Job(rule, typed, code_digest(f"abi/steps/{rule}.py"), flat(inputs), 1)


class World:
    """Runs the jobs of a study in the working directory, each once, as the rules of the workflow do."""

    def __init__(self, workflow, make_backbone):
        self.workflow, self.make_backbone, self.done = workflow, make_backbone, set()

    def again(self):
        """Return a world that knows what was made so far, for a copy of its folder."""
        other = World(self.workflow, self.make_backbone)
        other.done = set(self.done)
        return other

    def once(self, *key):
        fresh = key not in self.done
        self.done.add(key)
        return fresh

    def text(self, name):
        if self.once("text", name):
            files, made = self.workflow.text_files(name), documents_of(self.workflow, name)
            write_documents(made, files["documents"])
            summary(Chosen(made), PROVENANCE).write(files["record"])

    def backbone(self, name):
        if not self.once("backbone", name):
            return
        folder = self.workflow.backbone_folder(name)
        made = self.make_backbone(FAMILIES[name], seed=sorted(FAMILIES).index(name))
        save_backbone(made, folder)
        about = job("build_backbone", self.workflow.backbone_spec(name), {}).provenance()
        head = self.workflow.head(name)
        describe_backbone(made, folder, head, name=name, revision="built", provenance=about).write(f"{folder}.json")

    def states(self, backbone, text):
        if not self.once("states", backbone, text):
            return
        self.text(text)
        self.backbone(backbone)
        folder = self.workflow.backbone_folder(backbone)
        inputs = {
            **self.workflow.text_files(text),
            "backbone": f"{folder}.json",
            "head": self.workflow.head(backbone),
            "model": folder,
        }
        running = job("write_states", self.workflow.states_spec(backbone, text), inputs)
        write_states.run(running, inputs, {s: self.workflow.states(backbone, text, s) for s in SPLITS})

    def modules(self, of):
        backbone, text, shape, role = of
        self.states(backbone, text)
        for batch in self.workflow.batches("modules", self.workflow.module_seeds(*of)):
            if self.once("modules", *of, batch):
                inputs = {"train": self.workflow.states(backbone, text, "train"), "head": self.workflow.head(backbone)}
                out = f"{self.workflow.results}/modules/{'/'.join(of)}/{batch}"
                running = job("train_modules", self.workflow.module_spec(text, shape, role, batch), inputs)
                train_modules.run(running, inputs, {"manifest": f"{out}.json", "folder": out})

    def update_inputs(self, update, stage, batch):
        """Inputs of an update, all there."""
        definition = self.workflow.scale.updates[update]
        self.text(definition.text)
        self.backbone(definition.backbone)
        for text in definition.holds:
            self.modules((definition.backbone, text, definition.module, "source"))
        way, number = stage.split(".")
        if int(number) > 1:
            self.update(update, f"{way}.{int(number) - 1}", batch)
        model = self.workflow.backbone_folder(definition.backbone)
        return {**self.workflow.update_input(update, stage, batch), "model": model}

    def update(self, update, stage, batch):
        if self.once("update", update, stage, batch):
            inputs, path = self.update_inputs(update, stage, batch), self.workflow.updated(update, stage, batch)
            running = job("update_backbone", self.workflow.update_spec(update, stage, batch), inputs)
            update_backbone.run(running, inputs, {"manifest": path, "folder": path.removesuffix(".json")})

    def updated_states(self, update, stage, text, batch):
        self.update(update, stage, batch)
        self.text(text)
        if self.once("updated_states", update, stage, text, batch):
            inputs = {**self.workflow.text_files(text), "updated": self.workflow.updated(update, stage, batch)}
            path = self.workflow.updated_states(update, stage, text, batch)
            running = job("write_updated_states", self.workflow.updated_states_spec(update, stage, text, batch), inputs)
            write_updated_states.run(running, inputs, {"manifest": path, "folder": path.removesuffix(".json")})

    def updated_modules(self, update, stage, text, role, batch):
        self.updated_states(update, stage, text, batch)
        if self.once("updated_modules", update, stage, text, role, batch):
            inputs = {
                "states": self.workflow.updated_states(update, stage, text, batch),
                "updated": self.workflow.updated(update, stage, batch),
            }
            path = self.workflow.updated_modules(update, stage, text, role, batch)
            spec = self.workflow.updated_module_spec(update, stage, text, role, batch)
            running = job("train_updated_modules", spec, inputs)
            train_updated_modules.run(running, inputs, {"manifest": path, "folder": path.removesuffix(".json")})

    def before_evidence(self, claim_id):
        """Make everything that the evidence of a claim reads."""
        claim, whole = self.workflow.config.studies[claim_id], f"1-{self.workflow.config.seeds(claim_id)}"
        for of in self.workflow.of(claim_id).modules().values():
            self.modules(of)
        for text in claim.texts if claim.kind == "atlas" else ():
            self.states(claim.backbone, text)
        for update in self.workflow.of(claim_id).updates():
            for batch in self.workflow.update_batches(update, whole):
                for stage in self.workflow.of(claim_id).stages():
                    for text in claim.texts:
                        self.updated_states(update, stage, text, batch)
                        if stage.startswith("held."):
                            for role in self.workflow.of(claim_id).roles:
                                self.updated_modules(update, stage, text, role, batch)

    def evidence(self, claim_id):
        if not self.once("evidence", claim_id):
            return
        self.before_evidence(claim_id)
        wanted = self.workflow.of(claim_id).verdict_input()
        for evidence, draws, manifest in zip(wanted["evidence"], wanted["draws"], wanted["manifests"], strict=True):
            inputs = self.workflow.of(claim_id).evidence_input(Path(manifest).stem)
            running = job("evaluate_studies", self.workflow.of(claim_id).evidence_spec(Path(manifest).stem), inputs)
            outputs = {"evidence": evidence, "draws": draws, "manifest": manifest}
            evaluate_studies.run(running, inputs, outputs)

    def overlap(self, path):
        backbone, text = path.parent.name, path.stem
        self.states(backbone, text)
        if self.once("overlap", backbone, text):
            inputs = {**self.workflow.text_files(text), "states": self.workflow.states(backbone, text, "test")}
            running = job("measure_overlap", self.workflow.overlap_spec(backbone, text), inputs)
            measure_overlap.run(running, inputs, {"manifest": str(path)})

    def verdict(self, claim_id):
        """Judge a claim; return its result file."""
        self.evidence(claim_id)
        for path in self.workflow.of(claim_id).verdict_input()["overlaps"]:
            self.overlap(Path(path))
        inputs = {k: v for k, v in self.workflow.of(claim_id).verdict_input().items() if k != "generation"}
        path = self.workflow.result_file(claim_id)
        run(job("judge_study", self.workflow.of(claim_id).verdict_spec(), inputs), inputs, {"result": path})
        return read_result(path)
