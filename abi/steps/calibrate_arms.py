"""Job: every arm of a claim for a batch of seeds, fitted by gradient and in closed form with the same data and budget."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from abi.arms.alignment import pair_states, read_rotations
from abi.arms.data import FitData, Lesson, spread_rows
from abi.arms.forms import corrections
from abi.arms.lesson import carried_corrections, carried_interface, shared_tokens, shift_of
from abi.arms.recipes import Nets, budget_of, fit_all
from abi.base.files import read_json, write_json
from abi.base.job import Job
from abi.models.module import AbiModule, ModuleConfig
from abi.models.saved import (
    base_facts,
    check_backbone,
    check_same_text,
    member,
    module_of_seed,
    read_head,
    read_states,
    shape,
)
from abi.models.states import Head, States

Record = dict[str, Any]
Pair = tuple[States, States, Head]


def run(job: Job, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """Write `manifest` and beside it one folder per seed, fit and arm."""
    spec: Record = dict(job.spec)
    budget, folder, arms = budget_of(spec), Path(outputs["folder"]), []
    teaching = Teaching(spec, inputs) if spec["regime"] == "general-only" else Taught(spec, inputs)
    facts = {**base_facts(teaching.states), "text": spec["text"]}
    for seed in spec["seeds"]:
        nets, data = teaching.of(seed)
        records = fit_all(
            spec["regime"], spec["arms"], teaching.config, nets, data, budget, seed=seed, folder=folder / f"seed{seed}",
            facts=facts, checkpoints=job.scratch, closed_only=seed in spec["closed_only"],
        )  # fmt: skip
        arms += [{**record, "folder": f"seed{seed}/{record['folder']}"} for record in records]
    write_json(outputs["manifest"], "calibration", {"arms": arms, "provenance": job.provenance()})


class Taught:
    """Fits on domain text: an oracle or a reference teaches (`oracle-kd`, a reconstruction), or nobody (`few-shot`)."""

    def __init__(self, spec: Record, inputs: Mapping[str, Any]) -> None:
        self.regime, self.inputs = spec["regime"], inputs
        self.states = read_states(inputs["train"], "train")
        self.head, self.config = read_head(inputs["head"], self.states), shape(spec["module"], self.states)

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets and data; the teacher is the oracle of a transfer, the reference of a reconstruction."""
        if self.regime == "reconstruction":
            nets = Nets(before=self.own("before", seed))
            teacher: AbiModule | None = self.own("reference", seed)
        else:
            rotations = read_rotations(self.inputs["alignment"], seed)
            oracle = self.own("oracle", seed)
            nets = Nets(
                source=module_of_seed(self.inputs["source"], seed), oracle=oracle, aligned=rotations["aligned"],
                own=rotations["own"], wrong=other_domain(self.inputs, seed), other=rotations.get("other"),
            )  # fmt: skip
            teacher = oracle if self.regime == "oracle-kd" else None
        taught = None if teacher is None else corrections(teacher, self.states)
        return nets, FitData(self.states, self.head, taught)

    def own(self, role: str, seed: int) -> AbiModule:
        """Return a module of the target backbone itself."""
        return module_of_seed(self.inputs[role], seed, self.states)


class Teaching:
    """Fits on general text alone, where the source backbone with its module teaches (`general-only`)."""

    def __init__(self, spec: Record, inputs: Mapping[str, Any]) -> None:
        self.inputs, self.penalty = inputs, spec["budget"]["ridge_penalty"]
        self.most = {"train": spec["max_rows"], "calibration": max(1, spec["max_rows"] // 10)}
        self.ids = shared_tokens(_spellings(inputs["target_tokens"]), _spellings(inputs["source_tokens"]))
        self.states = read_states(inputs["target_states"], "train")
        self.config: ModuleConfig = shape(spec["module"], self.states)
        self.head = read_head(inputs["head"], self.states)
        self.closed_only = spec["closed_only"]
        source = read_states(inputs["source_states"], "train")
        self.bases = {"target": self.states.manifest["base_sha256"], "source": source.manifest["base_sha256"]}
        target_held_out, source_held_out = (
            read_states(inputs[f"{role}_held_out"], "calibration") for role in ("target", "source")
        )
        self.pairs = {
            "train": self.paired(self.states, source, "train"),
            "calibration": self.paired(target_held_out, source_held_out, "calibration"),
        }

    def paired(self, target: States, source: States, split: str) -> Pair:
        """Return one-position windows of target and source that have read the same text, and the source's head."""
        check_same_text(source, target)
        for role, states in (("target", target), ("source", source)):
            check_backbone(states, self.bases[role], f"the {role}'s general ones")
        at_target, at_source = pair_states(target, source, None)
        rows = spread_rows(len(at_target), self.most[split])
        head = read_head(self.inputs["source_head"], source)
        return target.positions(at_target[rows]), source.positions(at_source[rows]), head

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets and its lesson on general text, beside it the one on text its source wrote, where there is one."""
        source = module_of_seed(self.inputs["source"], seed, self.pairs["train"][1])
        data = self.data(source, self.pairs)
        if "written" in self.inputs.keys() and seed not in self.closed_only:
            pairs = {split: self.paired(*self.written(seed, split), split) for split in self.pairs}
            data = replace(data, others={"written": self.data(source, pairs)})
        return Nets(source=source), data

    def written(self, seed: int, split: str) -> tuple[States, States]:
        """Return the target's and the source's states of a split of what a seed's source wrote."""
        target, source = (
            read_states(member(self.inputs["written"], seed, f"seed{seed}.{role}.{split}.json"), split)
            for role in ("target", "source")
        )
        return target, source

    def data(self, source: AbiModule, pairs: Mapping[str, Pair]) -> FitData:
        """Return what arms are fitted with on the paired positions of a text."""
        lesson, held_out = self.lesson(source, pairs["train"]), self.lesson(source, pairs["calibration"])
        carried = carried_interface(source, pairs["train"][1], lesson.states, self.config, self.penalty)
        teacher = carried_corrections(lesson, self.penalty)
        return FitData(lesson.states, self.head, teacher, lesson.shift, held_out, carried)

    def lesson(self, source: AbiModule, pair: Pair) -> Lesson:
        """Return what a seed's source module teaches on paired positions."""
        target_states, source_states, source_head = pair
        shift = shift_of(source, source_states, source_head, self.ids, len(self.head.weight))
        return Lesson(target_states, self.head, shift)


def other_domain(inputs: Mapping[str, Any], seed: int) -> AbiModule | None:
    """Return the source's module of another domain, where the claim has the arm `wrong-domain`."""
    return module_of_seed(inputs["wrong"], seed) if "wrong" in inputs.keys() else None


def _spellings(path: str) -> list[str | None]:
    found: list[str | None] = read_json(path, "tokens")["spellings"]
    return found
