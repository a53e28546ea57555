"""Metrics of positions that experiments alone ask for (`base/diagnostics.py` names them), and noise of three kinds."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from scipy.stats import rankdata
from torch import Tensor

from abi.arms.forms import ArmForm, Correcting, Readout
from abi.arms.metrics import Distribution, Key, Score, distribution, js_nats, scored, top_ids
from abi.base.names import REFERENCE
from abi.models.head import Head
from abi.models.module import AbiModule, derive_seed
from abi.models.states import States
from abi.plan.specs.experiments import Noise

IDENTICAL = 0.001
"""JS in nats below which two distributions count as one, the lowest threshold of the original's distribution."""
RANKED, PAIRED = 100, 20
"""Tokens, the reference's likeliest, whose order is compared: by ranks, by pairs."""


@dataclass(frozen=True)
class Pair:
    """What a metric reads of some scored positions `[n]` of whole windows: reference, arm and plain backbone.

    Args: logits: `[n, V]` of each; error: the arm's correction minus the reference's, `[n, D]`; gram: of the head.
    """

    reference: Distribution
    arm: Distribution
    reference_logits: Tensor
    arm_logits: Tensor
    plain_logits: Tensor
    error: Tensor
    gram: Tensor
    n_windows: int


def js_easy(pair: Pair) -> Tensor:
    """Return JS where the reference's entropy is at most its median in the window; NaN elsewhere."""
    sure = pair.reference.entropy.view(pair.n_windows, -1)
    ranked = sure.sort(-1).values  # on a card a median with its place is not deterministic, and refused
    easy = (sure <= ranked[:, (sure.shape[1] - 1) // 2, None]).flatten()
    return js_nats(pair.reference, pair.arm).where(easy, torch.nan)


def in_ten(pair: Pair) -> Tensor:
    """Return the share of the reference's five likeliest tokens among the arm's ten."""
    ten = top_ids(pair.arm_logits, 10)
    return (pair.reference.top.unsqueeze(-1) == ten.unsqueeze(-2)).any(-1).float().mean(-1)


def same_five(pair: Pair) -> Tensor:
    """Return whether both have the same five likeliest tokens."""
    return (pair.reference.top.sort(-1).values == pair.arm.top.sort(-1).values).all(-1).float()


def five_kept(pair: Pair) -> Tensor:
    """Return the overlap of the five likeliest tokens with those of the plain backbone."""
    plain = top_ids(pair.plain_logits, 5)
    return (plain.unsqueeze(-1) == pair.arm.top.unsqueeze(-2)).any(-1).float().mean(-1)


def spearman_distance(pair: Pair) -> Tensor:
    """Return 1 - Spearman's rho over the reference's likeliest tokens, ties at their mean rank."""
    ids = pair.reference_logits.topk(min(RANKED, pair.reference_logits.shape[-1]), dim=-1).indices
    both = [torch.from_numpy(rankdata(x.gather(-1, ids).cpu().numpy(), axis=-1)) for x in _logits(pair)]
    x, y = (ranks - ranks.mean(-1, keepdim=True) for ranks in both)
    spread = (x.square().sum(-1) * y.square().sum(-1)).sqrt().clamp_min(1e-12)
    return 1 - (x * y).sum(-1) / spread


def kendall_distance(pair: Pair) -> Tensor:
    """Return 1 - Kendall's tau-b over the reference's likeliest tokens."""
    ids = pair.reference_logits.topk(min(PAIRED, pair.reference_logits.shape[-1]), dim=-1).indices
    x, y = (torch.sign(v.unsqueeze(-1) - v.unsqueeze(-2)) for v in (z.gather(-1, ids) for z in _logits(pair)))
    spread = (x.square().sum((-2, -1)) * y.square().sum((-2, -1))).sqrt().clamp_min(1e-12)
    return 1 - (x * y).sum((-2, -1)) / spread


def head_gain(pair: Pair) -> Tensor:
    """Return the squared logits of the error over those of an error of its size in a random direction; 1 of none."""
    size = pair.error.square().sum(-1) * pair.gram.diagonal().mean()
    read = ((pair.error @ pair.gram) * pair.error).sum(-1)
    return torch.where(size > 0, read / size.clamp_min(1e-30), torch.ones_like(size))


def _logits(pair: Pair) -> tuple[Tensor, Tensor]:
    return pair.reference_logits, pair.arm_logits


OF_POSITIONS: Mapping[str, Callable[[Pair], Tensor]] = {
    "js_easy_nats": js_easy,
    "near_identical": lambda pair: (js_nats(pair.reference, pair.arm) < IDENTICAL).float(),
    "same_five": same_five,
    "in_ten": in_ten,
    "spearman_distance": spearman_distance,
    "kendall_distance": kendall_distance,
    "head_gain": head_gain,
    "five_kept": five_kept,
}
"""Metric -> its value per position `[n]`."""


@torch.inference_mode()
def diagnosed(
    arms: Mapping[Key, ArmForm | None],
    reference: ArmForm,
    states: States,
    head: Head,
    asked: Mapping[str, Collection[str]],
    scope: str = "domain",
    *,
    windows_per_batch: int,
) -> Iterator[Score]:
    """Yield metrics of arms on held-out windows of a scope: means over scored positions, `[N]` windows.

    Args: asked: metric -> the arms it is asked of; the reference, which all are compared with, is none of them;
        windows_per_batch: whose logits are held at once, for the reference and one arm.
    """
    found: dict[tuple[Key, str], list[Tensor]] = {}
    wanted = {key: [name for name, of in asked.items() if key.arm in of] for key in arms if key.arm != REFERENCE}
    readouts = {key: Readout(arms[key], head) for key, names in wanted.items() if names}
    judge, errs = Readout(reference, head), "head_gain" in asked
    scaled = head.weight * head.scale if errs else head.weight[:0]
    gram = scaled.T @ scaled
    for start in range(0, len(states) if readouts else 0, windows_per_batch):
        index = slice(start, min(start + windows_per_batch, len(states)))
        plain = head.linear(states.final(index)[:, states.skip :].flatten(0, 1))
        taught = judge.logits(plain, scored(judge.read(states, index), states))
        known = distribution(taught)
        own = corrected(reference, states, index) if errs else plain.new_zeros(1)
        for key, readout in readouts.items():
            logits = readout.logits(plain, scored(readout.read(states, index), states))
            error = corrected(arms[key], states, index) - own if errs else own
            count = index.stop - start
            pair = Pair(known, distribution(logits), taught, logits, head.capped(plain), error, gram, count)
            for name in wanted[key]:
                values = OF_POSITIONS[name](pair).double().view(count, -1).nanmean(-1)
                found.setdefault((key, name), []).append(values.cpu())
    for (key, name), parts in found.items():
        yield Score(scope, key, name, torch.cat(parts))


def corrected(model: ArmForm | None, states: States, index: slice) -> Tensor:
    """Return what a form adds to the final state of scored positions `[n, D]`; nothing of the plain backbone."""
    made = getattr(model, "correction", None)
    found = None if made is None else scored(made(states, index), states)
    return torch.zeros_like(states.final(index)[:, states.skip :].flatten(0, 1)) if found is None else found


class Disturbed(Correcting):
    """A module with noise: on the final state, on its ABI state, or in what of that `proj_out` does not read.

    The noise of a window is that of its number and a seed, so that every reading of it is the same.
    """

    def __init__(self, module: AbiModule | None, head: Head, where: Noise, size: float, seed: int) -> None:
        self.module, self.where, self.size, self.seed = module, where, size, seed
        self.per_state = size * len(head.weight) ** 0.5 / float((head.weight * head.scale).norm())
        """Of the noise of a state whose logits vary by `size` on average over the vocabulary."""

    def correction(self, states: States, index: Tensor | slice) -> Tensor:
        """Return the correction `[B, T, D]` of some windows with its noise."""
        if self.where == "state":
            final = states.final(index)
            noise = self.per_state * self.drawn(states, index, final.shape[-1]).to(final)
            return noise if self.module is None else noise + self.module.correction(states, index)
        assert self.module is not None
        state = self.module.abi_state(states.taps(self.module.config.taps, index))
        noise = self.drawn(states, index, state.shape[-1]).to(state)
        if self.where == "null":
            noise = noise @ null_space(self.module.proj_out.weight)
        scale = self.size * state.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        found: Tensor = self.module.proj_out(state + scale * noise)
        return found

    def drawn(self, states: States, index: Tensor | slice, width: int) -> Tensor:
        """Return normal noise `[B, T, width]` of some windows."""
        shape = states.manifest.positions, width
        seeds = [derive_seed("noise", self.where, self.seed, int(number)) for number in states.windows[index]]
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def null_space(weight: Tensor) -> Tensor:
    """Return the projection `[A, A]` of row vectors to what a map `[D, A]` makes nothing of; float32.

    Directions whose singular value is below the largest by the precision of float32 count as none.
    """
    _, values, rows = torch.linalg.svd(weight.double(), full_matrices=True)
    rank = int((values > values.max() * 1e-6).sum())
    free = rows[rank:]
    return (free.T @ free).to(weight)
