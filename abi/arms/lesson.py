"""What a source backbone with its module teaches a target on general text that both have read; no domain text enters.

The correction travels through what two models share, their vocabulary: by how much the module moves the source's
distribution at a position (a log-ratio per token) is asked of the target at the position that has read the same
characters. The interface travels by least squares from target states to the source's ABI space. Source: protocol
section 3, regime `general-only`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from abi.arms.alignment import ridge_solve
from abi.arms.data import CHUNK, Lesson
from abi.base.errors import AlignmentError
from abi.models.module import AbiModule, ModuleConfig
from abi.models.states import Head, States


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
            f"vocabularies: {len(pairs)} of {len(target)} target tokens are in the source's; nothing can be taught through so few"
        )
    ids = torch.tensor(pairs, dtype=torch.long)
    return ids[:, 0], ids[:, 1]


@torch.no_grad()
def shift_of(source: AbiModule, states: States, head: Head, ids: tuple[Tensor, Tensor], n_tokens: int) -> Tensor:
    """Return the log-ratio `[P, V]` (float16) that a module makes on its own backbone, at the target's token ids.

    Args: states: one-position windows of the source; ids: shared tokens of target and source; n_tokens: V of the target.
    """
    at_target, at_source = ids
    shift = torch.zeros(len(states), n_tokens, dtype=torch.float16)
    for start in range(0, len(states), CHUNK):
        part = slice(start, start + CHUNK)
        final = states.final(part).squeeze(1)
        moved = final + source(states.taps(source.config.taps, part)).squeeze(1)
        ratio = torch.log_softmax(head.logits(moved), -1) - torch.log_softmax(head.logits(final), -1)
        shift[part.start : part.start + len(final), at_target] = ratio[:, at_source].half()
    return shift


@torch.no_grad()
def carried_interface(
    source: AbiModule, source_states: States, target_states: States, config: ModuleConfig, penalty: float
) -> AbiModule:
    """Return a module of the target whose interface gives the source's ABI states as well as a linear map can.

    `proj_in` is the ridge solution from target features to the source's pre-norm state at paired positions; the norm is the
    source's; `proj_out` is zero. Args: states: paired one-position windows; config: of the target's module.
    """
    module = AbiModule(config)
    gram = moment = torch.zeros(())
    for start in range(0, len(target_states), CHUNK):
        part = slice(start, start + CHUNK)
        x = module.features(target_states.taps(config.taps, part)).flatten(0, 1).double()
        wanted = source.proj_in(source.features(source_states.taps(source.config.taps, part)))
        gram, moment = gram + x.T @ x, moment + x.T @ wanted.flatten(0, 1).double()
    module.proj_in.weight.copy_(ridge_solve(gram, moment, penalty).T)
    module.abi_ln.load_state_dict(source.abi_ln.state_dict())
    module.proj_out.weight.zero_()
    return module.requires_grad_(False)


@torch.no_grad()
def carried_corrections(lesson: Lesson, penalty: float) -> Tensor:
    """Return the corrections `[P, 1, D]` whose logits come closest to the shift, up to a constant per position.

    Weighted least squares in the target's head; a token's weight is its mean probability on the lesson's text.
    """
    weight = lesson.head.weight.double() * lesson.head.scale
    usual = torch.zeros(len(weight), dtype=torch.float64)
    for start in range(0, len(lesson.states), CHUNK):
        final = lesson.states.final(slice(start, start + CHUNK)).squeeze(1)
        usual += torch.softmax(lesson.head.logits(final), -1).sum(0, dtype=torch.float64)
    usual /= usual.sum()
    centred = weight - usual @ weight
    weighted = usual.unsqueeze(1) * centred
    solved = ridge_solve(centred.T @ weighted, weighted.T, penalty)
    parts = [lesson.shift[i : i + CHUNK].float() @ solved.T for i in range(0, len(lesson.shift), CHUNK)]
    return torch.cat(parts).unsqueeze(1)
