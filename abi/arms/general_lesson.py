"""The lesson of `general-only`: a source backbone with its module teaches, on general text that both sides have read.

No domain text enters. The correction travels through what two models share, their vocabulary: by how much the module
moves the source's distribution at a position (a log-ratio per token) is asked of the target at the position that has
read the same characters. The interface travels by least squares from target states to the source's ABI space
(`docs/protocol.md`, section 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from abi.arms.alignment import pair_states, ridge_solve
from abi.arms.fitting import Nets
from abi.arms.gradient import FitData, Shift
from abi.arms.losses import PAIRED_LOGITS, PAIRED_ROWS
from abi.base.errors import AlignmentError
from abi.base.job import InputFiles
from abi.base.manifests.backbones import TokensManifest
from abi.models.head import Head
from abi.models.module import AbiModule, ModuleConfig
from abi.models.saved import check_backbone, check_same_text, member, module_of_seed, read_head, read_states, shape
from abi.models.states import States
from abi.plan.specs.arms import TaughtArms


@dataclass(frozen=True)
class Pair:
    """One-position windows `[P, 1, ...]` of target and source that have read the same text, and the source's head."""

    target: States
    source: States
    source_head: Head


class GeneralLesson:
    """Fits on general text alone, where the source backbone with its module teaches."""

    def __init__(self, spec: TaughtArms, inputs: InputFiles) -> None:
        assert spec.max_rows is not None
        self.inputs, self.penalty, self.closed_only = inputs, spec.budget.ridge_penalty, spec.closed_only
        self.variants = [spec.budget.variants[name] for name in spec.variants]
        # A gain is one number of seven: a tenth of the rows chooses it as well as all.
        self.most = {"train": spec.max_rows, "calibration": max(1, spec.max_rows // 10)}
        target, source = (TokensManifest.read(inputs[f"{role}_tokens"]).spellings for role in ("target", "source"))
        self.ids = shared_tokens(target, source)
        self.states = read_states(inputs["target_states"], "train")
        self.config = shape(spec.module, self.states)
        self.head = read_head(inputs["head"], self.states)
        of_source = read_states(inputs["source_states"], "train")
        self.bases = {"target": self.states.manifest.base_sha256, "source": of_source.manifest.base_sha256}
        held_out = [read_states(inputs[f"{role}_held_out"], "calibration") for role in ("target", "source")]
        self.pairs = {
            "train": self.paired("train", self.states, of_source),
            "calibration": self.paired("calibration", *held_out),
        }

    def paired(self, split: str, target: States, source: States) -> Pair:
        """Return what target and source have both read, at most so many positions spread over all of it."""
        for role, states in (("target", target), ("source", source)):
            check_backbone(states, self.bases[role], f"the {role}'s general ones")
        return pair_of(target, source, read_head(self.inputs["source_head"], source), self.most[split])

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets and its lesson on general text; beside it those of variants, on a share of it or on text
        that its source wrote.
        """
        own = self.pairs["train"].source
        source = module_of_seed(self.inputs["source"], seed, own)
        wrong = module_of_seed(self.inputs["wrong"], seed, own) if "wrong" in self.inputs.keys() else None
        nets = Nets(source=source, wrong=wrong)
        data = self.data(nets, self.pairs)
        if seed in self.closed_only:
            return nets, data
        whole = {"": (data, self.pairs["train"].source)}
        if "written" in self.inputs.keys():
            pairs = {}
            for split in self.pairs:
                names = [f"seed{seed}.{role}.{split}.json" for role in ("target", "source")]
                written = [read_states(member(self.inputs["written"], seed, name), split) for name in names]
                pairs[split] = self.paired(split, *written)
            whole["written"] = self.data(nets, pairs), pairs["train"].source
        others: dict[tuple[str, float], FitData] = {}
        for variant in self.variants:
            of_text, own = whole[variant.text]
            if variant.share < 1:
                part = of_text.first(variant.share)
                of_text = self.carried(nets, part, own.select(range(len(part.states))))
            others[variant.text, variant.share] = of_text
        return nets, replace(data, others=others)

    def data(self, nets: Nets, pairs: Mapping[str, Pair]) -> FitData:
        """Return what arms are fitted with on the paired positions of a text; the source teaches them all."""
        assert nets.source is not None
        lesson, held_out = (self.lesson(nets.source, pairs[split]) for split in ("train", "calibration"))
        return self.carried(nets, replace(lesson, held_out=held_out), pairs["train"].source)

    def carried(self, nets: Nets, lesson: FitData, own: States) -> FitData:
        """Return a lesson with what is carried on its text: the interfaces, and the corrections for closed forms.

        Args: own: the source's states at the lesson's positions.
        """
        carried = {
            name: carried_interface(module, own, lesson.states, self.config, self.penalty)
            for name, module in (("source", nets.source), ("other", nets.wrong))
            if module is not None
        }
        return replace(lesson, teacher=carried_corrections(lesson, self.penalty), carried=carried)

    def lesson(self, source: AbiModule, pair: Pair) -> FitData:
        """Return what a seed's source module teaches on paired positions."""
        shift = shift_of(source, pair.source, pair.source_head, self.ids, len(self.head.weight))
        return FitData(pair.target, self.head, shift=shift)


read = GeneralLesson


def pair_of(target: States, source: States, source_head: Head, most: int) -> Pair:
    """Return what target and source have both read of a text, at most so many positions spread over all of it.

    Raises: DataError: they are of different texts; AlignmentError: they share no position.
    """
    check_same_text(source, target)
    at_target, at_source = pair_states(target, source, most)
    return Pair(target.positions(at_target), source.positions(at_source), source_head)


def shared_tokens(target: Sequence[str | None], source: Sequence[str | None]) -> tuple[Tensor, Tensor]:
    """Return the ids of the tokens that both vocabularies spell alike, `[S]` of the target and `[S]` of the source.

    Args: spellings per id (bytes as Latin-1 text), None for special tokens. The first id of a spelling counts.
    Raises: AlignmentError: fewer than a tenth of the target's tokens are shared.
    """
    at_source: dict[str, int] = {}
    for i, spelling in enumerate(source):
        if spelling:
            at_source.setdefault(spelling, i)
    pairs = [(i, at_source[s]) for i, s in enumerate(target) if s and s in at_source]
    if len(pairs) < 0.1 * len(target):
        raise AlignmentError(
            f"vocabularies: {len(pairs)} of {len(target)} target tokens are in the source's; "
            "nothing can be taught through so few"
        )
    ids = torch.tensor(pairs, dtype=torch.long)
    return ids[:, 0], ids[:, 1]


def _rows(head: Head) -> int:
    """Return how many paired positions have their logits formed at once."""
    return max(1, min(PAIRED_ROWS, PAIRED_LOGITS // len(head.weight)))


@torch.no_grad()
def shift_of(source: AbiModule, states: States, head: Head, ids: tuple[Tensor, Tensor], n_tokens: int) -> Shift:
    """Return the log-ratio at P positions that a module makes on its own backbone, at the target's token ids.

    Args: states: one-position windows of the source; ids: shared tokens of target and source; n_tokens: V of the
        target.
    """
    at_target, at_source = ids[0], ids[1].to(states.device)
    # Half precision: P x S numbers, each a difference of two log-probabilities of a few nats.
    shared = torch.empty(len(states), len(at_target), dtype=torch.float16)
    at_once = _rows(head)
    for start in range(0, len(states), at_once):
        part = slice(start, start + at_once)
        final = states.final(part).squeeze(1)
        moved = final + source(states.taps(source.config.taps, part)).squeeze(1)
        ratio = torch.log_softmax(head.logits(moved), -1) - torch.log_softmax(head.logits(final), -1)
        shared[part] = ratio[:, at_source].half().cpu()
    return Shift(shared, at_target, n_tokens)


@torch.no_grad()
def carried_interface(
    source: AbiModule, source_states: States, target_states: States, config: ModuleConfig, penalty: float
) -> AbiModule:
    """Return a module of the target whose interface gives the source's ABI states as well as a linear map can.

    `proj_in` is the ridge solution from target features to the source's pre-norm state at paired positions; the norm is
    the source's; `proj_out` is zero. Args: states: paired one-position windows; config: of the target's module.
    """
    module = AbiModule(config).to(source.device)
    gram = moment = torch.zeros(())
    for start in range(0, len(target_states), PAIRED_ROWS):
        part = slice(start, start + PAIRED_ROWS)
        x = module.features(target_states.taps(config.taps, part)).flatten(0, 1).double()
        wanted = source.proj_in(source.features(source_states.taps(source.config.taps, part)))
        gram, moment = gram + x.T @ x, moment + x.T @ wanted.flatten(0, 1).double()
    module.proj_in.weight.copy_(ridge_solve(gram, moment, penalty).T)
    module.abi_ln.load_state_dict(source.abi_ln.state_dict())
    module.proj_out.weight.zero_()
    return module.requires_grad_(False)


@torch.no_grad()
def carried_corrections(lesson: FitData, penalty: float) -> Tensor:
    """Return the corrections `[P, 1, D]` whose logits come closest to the shift, up to a constant per position.

    Weighted least squares in the target's head, where it caps its logits in its mean slope for each token; a token's
    weight is its mean probability on the lesson's text.
    """
    assert lesson.shift is not None
    weight = lesson.head.weight.double() * lesson.head.scale
    usual, slopes = weight.new_zeros(len(weight)), weight.new_zeros(len(weight))
    at_once = _rows(lesson.head)
    for start in range(0, len(lesson.states), at_once):
        final = lesson.states.final(slice(start, start + at_once)).squeeze(1)
        logits = lesson.head.logits(final)
        usual += torch.softmax(logits, -1).sum(0, dtype=torch.float64)
        if (slope := lesson.head.slope(logits)) is not None:
            slopes += slope.sum(0, dtype=torch.float64)
    usual /= usual.sum()
    if lesson.head.soft_cap is not None:
        weight = weight * (slopes / len(lesson.states)).unsqueeze(1)
    # A constant added to all logits of a position changes no distribution: it is taken out of the head's rows.
    centred = weight - usual @ weight
    weighted = usual.unsqueeze(1) * centred
    solved = ridge_solve(centred.T @ weighted, weighted.T, penalty)
    starts, shift = range(0, len(lesson.shift), at_once), lesson.shift
    parts = [(shift.rows(slice(at, at + at_once), solved.device) @ solved.T).cpu() for at in starts]
    return torch.cat(parts).unsqueeze(1)
