"""The lesson of `few-shot`: nobody teaches, but for arms that modules of the source teach on the same domain windows.

Such an arm starts from the source's net and interface, carried on general text, and is fitted as all others are. Beside
that it is asked, where source and target have read the same characters of a window, for the shift that a module makes
there on the source backbone: as in `general-only`, but on the few domain windows.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from abi.arms.alignment import pair_states, spread_rows
from abi.arms.domain_lesson import DomainLesson
from abi.arms.fitting import Nets, few_windows
from abi.arms.general_lesson import carried_interface, pair_of, shared_tokens, shift_of
from abi.arms.gradient import FitData, Lessons
from abi.base.catalogue import reads_source, teachers
from abi.base.errors import AlignmentError
from abi.base.job import InputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.base.names import PERMUTED
from abi.models.module import AbiModule, permuted
from abi.models.saved import check_backbone, check_same_text, read_head, read_states
from abi.models.states import States
from abi.plan.specs.arms import TaughtArms

SIDES = ("target", "source")


class FewShotLesson(DomainLesson):
    """Fits on a few domain windows."""

    def __init__(self, spec: TaughtArms, inputs: InputFiles) -> None:
        super().__init__(spec, inputs)
        names, needed = teachers(spec.arms.values()), reads_source(spec.arms.values())
        self.source = SourceLessons(spec, names, inputs, self.states) if needed else None

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets and data, with what modules of the source teach on the windows of its ladder."""
        nets, data = super().of(seed)
        if self.source is None:
            return nets, data
        assert nets.source is not None
        general, penalty = self.source.general, self.source.penalty
        carried = carried_interface(nets.source, general.source, general.target, self.config, penalty)
        lessons = self.source.on_windows(nets, seed, len(data.head.weight))
        return nets, replace(data, carried={"source": carried}, lessons=lessons)


class SourceLessons:
    """What modules of the source teach where it has read the same as the target. Args: names: of the teachers."""

    def __init__(self, spec: TaughtArms, names: Sequence[str], inputs: InputFiles, target: States) -> None:
        assert spec.max_rows is not None
        assert spec.budget.windows is not None
        self.names, self.most, self.windows = names, spec.max_rows, max(spec.budget.windows)
        self.penalty, self.target = spec.budget.ridge_penalty, target
        self.states = read_states(inputs["source_train"], "train")
        check_same_text(self.states, target)
        self.head = read_head(inputs["source_head"], self.states)
        self.ids = shared_tokens(*(TokensManifest.read(inputs[f"{role}_tokens"]).spellings for role in SIDES))
        general = [read_states(inputs[f"{role}_states"], "train") for role in SIDES]
        for role, own, states in zip(SIDES, (target, self.states), general, strict=True):
            check_backbone(states, own.manifest.base_sha256, f"the {role}'s domain ones")
        self.general = pair_of(general[0], general[1], self.head, self.most)
        self.paired = pair_states(target, self.states, None)

    def on_windows(self, nets: Nets, seed: int, n_tokens: int) -> Lessons:
        """Return what each teacher says on the windows of a seed's largest rung. Args: n_tokens: V of the target.

        Raises: DataError: the ladder asks for more windows than there are; AlignmentError: the source has read the same
            nowhere in them.
        """
        positions = self.target.manifest.positions
        at_target, at_source = self.paired
        there = torch.isin(at_target // positions, few_windows(len(self.target), self.windows, seed))
        at_target, at_source = at_target[there], at_source[there]
        if not len(at_target):
            raise AlignmentError(
                f"few-shot: {self.states.path} has no position that has read the same as one of the {self.windows} "
                f"windows of seed {seed}; add text or lengthen `windows`"
            )
        kept = spread_rows(len(at_target), self.most)
        row = torch.full((len(self.target) * positions,), -1)
        row[at_target[kept]] = torch.arange(len(kept))
        own = self.states.positions(at_source[kept])
        shifts = {name: shift_of(teaching(name, nets, seed), own, self.head, self.ids, n_tokens) for name in self.names}
        return Lessons(shifts, row.view(-1, positions))


def teaching(name: str, nets: Nets, seed: int) -> AbiModule:
    """Return the module of the source that teaches (`Recipe.teacher`)."""
    given = nets.wrong if name == "wrong" else nets.source
    assert given is not None
    return permuted(given, seed, 0) if name == PERMUTED else given


read = FewShotLesson
