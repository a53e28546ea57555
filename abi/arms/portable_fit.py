"""How portable modules are trained, on their source: cross-entropy on domain text, and no change of general text.

Most steps are asked of a *coarser vocabulary* than the source's: some anchors are left out, and a token counts as the
longest anchor left that it begins with. So the shift of `re` means something even where `return` is a token, as it must
on a target whose vocabulary lacks `return`.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from abi.base.manifests.portable import PortableEntry, PortableFacts
from abi.base.names import BIAS, TRANSFERRED
from abi.models.head import Head
from abi.models.loop import BatchOrder, Member, Schedule, Trained, fit_together
from abi.models.module import derive_seed
from abi.models.portable import PortableConfig, PortableModule, Vocabulary, save_portable
from abi.models.states import States
from abi.plan.specs.models import PortableTraining

GENERAL = 4
"""Positions of domain text to one of general text: what must not change is said sooner than what must."""
CONSTANT = ("abi_ln.bias", "proj_out.weight")
"""What trains of a module that reads nothing."""
NOTHING = -1e4
"""Log-probability of what cannot be: its exponential is 0, and it can be multiplied with 0."""
COARSER = 0.75
"""Share of the steps that are asked of a coarser vocabulary."""


@dataclass(frozen=True)
class Read:
    """Some positions: final states `[P, D]`, targets `[P]`, last bytes of the text `[P, K]`."""

    final: Tensor
    targets: Tensor
    contexts: Tensor


class Positions:
    """All positions of a store of states, each by itself; what is not asked for stays on the disk."""

    def __init__(self, states: States, vocabulary: Vocabulary, context: int) -> None:
        self.states = states.by_position()
        self.contexts = vocabulary.contexts_of(states, slice(None), context).flatten(0, 1)

    def at(self, rows: Tensor) -> Read:
        """Return some of them."""
        final, targets = self.states.final(rows), self.states.targets(rows)
        return Read(final.squeeze(1), targets.squeeze(1), self.contexts[rows].to(final.device))

    def __len__(self) -> int:
        return len(self.contexts)


@dataclass(frozen=True)
class Lesson:
    """What the portable modules of a source are trained on.

    Args: anchor_of: what a token counts as in the source's own vocabulary and in coarser ones, `[1 + n, V]`; S for a
        token that begins with no anchor. harm: weight of the change of general text.
    """

    head: Head
    domain: Positions
    general: Positions
    anchor_of: Tensor
    harm: float

    @classmethod
    def of(
        cls,
        shape: PortableTraining,
        head: Head,
        domain: States,
        general: States,
        vocabulary: Vocabulary,
        anchors: tuple[str, ...],
    ) -> "Lesson":
        """Return the lesson of a source. Args: domain, general: its states on train text; anchors: written on."""
        domain_text, general_text = (Positions(states, vocabulary, shape.context) for states in (domain, general))
        maps = coarser(anchors, vocabulary, shape.coarser, derive_seed("coarser"))
        return cls(head, domain_text, general_text, maps, shape.harm)


def portables(
    shape: PortableTraining, anchors: tuple[str, ...], controls: Sequence[str], seed: int
) -> dict[str, PortableModule]:
    """Return the untrained portable modules of a seed. Args: controls: arms beside `transferred`, without its net.

    All of a seed begin with the same weights, of other sources and domains too: they differ in what they learned alone.
    """
    config = PortableConfig(anchors, shape.d_abi, shape.expansion, shape.context, shape.byte_width)
    configs = {TRANSFERRED: config, **dict.fromkeys(controls, replace(config, domain_net=False))}
    return {name: PortableModule(own, derive_seed("portable", seed)) for name, own in configs.items()}


def anchors_of(vocabulary: Vocabulary, texts: Sequence[States], most: int | None) -> tuple[str, ...]:
    """Return the strings that a portable module writes on: every one of a vocabulary, or `most` of them.

    Single bytes come first, so that hardly a token begins with none; then what the texts use most.
    """
    strings = vocabulary.strings
    if most is None or most >= len(strings):
        return strings
    used: Counter[str] = Counter()
    for states in texts:
        counted = torch.bincount(states.targets(slice(None)).flatten(), minlength=len(vocabulary.spellings))
        for token in counted.nonzero().flatten().tolist():
            used[vocabulary.spellings[token]] += int(counted[token])
    kept = {*sorted(strings, key=lambda string: (len(string) > 1, -used[string]))[:most]}
    return tuple(string for string in strings if string in kept)


def coarser(anchors: Sequence[str], vocabulary: Vocabulary, n: int, seed: int) -> Tensor:
    """Return what tokens count as, `[1 + n, V]`: with all anchors, and with n draws of a half to all of them.

    Single bytes always stay, so that hardly a token begins with none.
    """
    generator = torch.Generator().manual_seed(seed)
    short = torch.tensor([len(anchor) == 1 for anchor in anchors])
    maps = [vocabulary.longest(anchors)]
    for _ in range(n):
        share = 0.5 + 0.5 * torch.rand(1, generator=generator)
        kept = (short | (torch.rand(len(anchors), generator=generator) < share)).nonzero().flatten()
        known = vocabulary.longest([anchors[i] for i in kept.tolist()])
        maps.append(torch.cat([kept, torch.tensor([len(anchors)])])[known])
    return torch.stack(maps)


def trainable(module: PortableModule, name: str) -> dict[str, Tensor]:
    """Return what of a module trains: everything, or of `bias` the constant shift that a module without input makes."""
    parameters: dict[str, Tensor] = dict(module.named_parameters())
    if name != BIAS:
        return parameters
    with torch.no_grad():
        module.context_in.weight.zero_()
        module.abi_ln.bias.fill_(1.0)  # the writer begins at zero: from two zeros nothing is learned
    return {key: parameters[key] for key in CONSTANT}


def fit_portable(
    modules: Mapping[str, PortableModule],
    lesson: Lesson,
    schedule: Schedule,
    *,
    batch: int,
    seed: int,
    checkpoint: Path | None = None,
) -> dict[str, Trained]:
    """Train the portable modules of a seed in step with each other; return the course of each.

    Args: batch: positions of domain text a step reads; it reads a quarter as many of general text.
    Raises: TamperError: a frozen part changed; DataError: less text than a batch.
    """
    domain = BatchOrder(len(lesson.domain), batch, derive_seed("portable", "domain", seed), "positions")
    general = BatchOrder(
        len(lesson.general), max(1, batch // GENERAL), derive_seed("portable", "general", seed), "positions"
    )

    anchor_of = lesson.anchor_of.to(lesson.head.weight.device)

    def losses(step: int) -> list[Tensor]:
        own = derive_seed("portable", "vocabulary", seed, step)
        texts = lesson.domain.at(domain[step]), lesson.general.at(general[step])
        return losses_of(list(modules.values()), lesson, *texts, anchor_of=drawn(anchor_of, own))

    parts = {name: trainable(module, name) for name, module in modules.items()}
    return _in_step(modules, parts, lesson.head, losses, schedule, seed, checkpoint)


def calibrate_placebos(
    placebos: Mapping[str, PortableModule],
    moved: PortableModule,
    general: Positions,
    head: Head,
    anchor_of: Tensor,
    schedule: Schedule,
    *,
    batch: int,
    seed: int,
    checkpoint: Path | None = None,
) -> dict[str, Trained]:
    """Train reader and writer of placebos to say on general text what the moved module says there; nets stay frozen.

    Args: anchor_of: what tokens of the target count as, `[V]`; batch: positions per step.
    Raises: as `fit_portable`.
    """
    order = BatchOrder(len(general), batch, derive_seed("placebos", seed), "positions")
    anchor_of = anchor_of.to(head.weight.device)

    def losses(step: int) -> list[Tensor]:
        read = general.at(order[step])
        plain = Plain.of(head.logits(read.final), anchor_of, len(moved.config.anchors))
        wanted = plain.moved(moved, read.contexts).detach()
        said = (plain.moved(module, read.contexts) for module in placebos.values())
        return [(wanted.exp() * (wanted - own)).sum(1).mean() for own in said]

    parts: dict[str, dict[str, Tensor]] = {}
    for name, module in placebos.items():
        interface = [key for key, _ in module.named_parameters() if not key.startswith("domain")]
        parts[name] = {key: module.get_parameter(key) for key in (CONSTANT if name == BIAS else interface)}
    return _in_step(placebos, parts, head, losses, schedule, seed, checkpoint)


def _in_step(
    modules: Mapping[str, PortableModule],
    parts: Mapping[str, dict[str, Tensor]],
    head: Head,
    losses: Callable[[int], list[Tensor]],
    schedule: Schedule,
    seed: int,
    checkpoint: Path | None,
) -> dict[str, Trained]:
    """Train parts of modules in step with each other; return the course of each."""
    members = []
    for name, module in modules.items():
        frozen: dict[str, Tensor] = {key: p for key, p in module.named_parameters() if key not in parts[name]}
        for key, parameter in module.named_parameters():
            parameter.requires_grad_(key in parts[name])
        members.append(Member(f"{name} seed {seed}", parts[name], schedule, frozen | {"head": head.weight}))
    trained = fit_together(losses, members, checkpoint=checkpoint)
    for module in modules.values():
        module.requires_grad_(False)
    return dict(zip(modules, trained, strict=True))


def write_portable(
    module: PortableModule, facts: PortableFacts, trained: Trained, schedule: Schedule, folder: Path
) -> PortableEntry:
    """Save a trained module in the folder of its seed and name below `folder`; return its entry of the manifest."""
    place = f"seed{facts.seed}/{facts.name}"
    return PortableEntry(
        arm=facts.name,
        seed=facts.seed,
        folder=place,
        sha256=save_portable(module, folder / place, facts),
        steps=schedule.steps,
        final_loss=trained.last_loss(),
        elapsed_s=round(trained.elapsed_s, 2),
        n_parameters=sum(p.numel() for p in module.parameters()),
    )


@dataclass(frozen=True)
class Plain:
    """How likely the plain model makes every string, all tokens together that count as it: `mass` `[P, 1 + S]`.

    A shift per string changes how likely strings are and not what happens among the tokens of one, so that losses over
    V tokens are, exactly, losses over S strings. The last column is of tokens that begin with no anchor.
    """

    mass: Tensor

    @classmethod
    def of(cls, logits: Tensor, anchor_of: Tensor, n_anchors: int) -> "Plain":
        """Return that of logits `[P, V]`. Args: anchor_of: what tokens count as, `[V]`."""
        return cls(logits.new_zeros(len(logits), n_anchors + 1).index_add(1, anchor_of, logits.softmax(-1)))

    @functools.cached_property
    def log(self) -> Tensor:
        """The logarithm of the mass; where no token counts as a string one so small that its exponential is 0."""
        return torch.where(self.mass > 0, self.mass.log(), NOTHING)

    def moved(self, module: PortableModule, contexts: Tensor) -> Tensor:
        """Return the log-probabilities of the strings under a module, `[P, 1 + S]`."""
        return torch.log_softmax(self.log + torch.nn.functional.pad(module(contexts), (0, 1)), -1)


def drawn(anchor_of: Tensor, seed: int) -> Tensor:
    """Return the source's own vocabulary `[V]`, or a coarser one."""
    generator = torch.Generator().manual_seed(seed)
    use_own = float(torch.rand(1, generator=generator)) >= COARSER or len(anchor_of) == 1
    return anchor_of[0 if use_own else int(torch.randint(1, len(anchor_of), (1,), generator=generator))]


def losses_of(
    modules: Sequence[PortableModule], lesson: Lesson, domain: Read, general: Read, *, anchor_of: Tensor
) -> list[Tensor]:
    """Return the loss of every module, a mean over positions, in nats: CE on domain text plus `harm` times KL(plain,
    moved) on general text.

    Args: anchor_of: what tokens count as, `[V]`; what must be predicted is the anchor of the target.
    """
    n, anchors = len(domain.targets), modules[0].config.anchors
    plain = Plain.of(lesson.head.logits(torch.cat([domain.final, general.final])), anchor_of, len(anchors))
    contexts, wanted = torch.cat([domain.contexts, general.contexts]), anchor_of[domain.targets].unsqueeze(1)
    losses = []
    for module in modules:
        moved = plain.moved(module, contexts)
        cross_entropy = -moved[:n].gather(1, wanted).mean()
        change = (plain.mass[n:] * (plain.log[n:] - moved[n:])).sum(1).mean()
        losses.append(cross_entropy + lesson.harm * change)
    return losses
