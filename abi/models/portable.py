"""Portable modules: they read the text and write on strings, and so fit any backbone as they are.

An ABI module reads hidden states, which mean nothing to another backbone; there its interface must be calibrated. A
portable module reads the last bytes of the text, and answers with one shift of the log-probability per *anchor*, a
string of its source's vocabulary. On another vocabulary a token takes the shift of the longest anchor it begins with.
Nothing of it depends on a backbone, so it moves with nothing calibrated (regime `zero-text`, `docs/protocol.md`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from abi.base import compute
from abi.base.errors import DataError, TamperError
from abi.base.files import read_tensors, write_text
from abi.base.manifests.portable import PortableFacts, PortableManifest, PortableShape, PortablesManifest
from abi.base.names import NO_DOMAIN, PERMUTED, RANDOM
from abi.models.module import (
    CARD,
    CONFIG,
    WEIGHTS,
    DomainNet,
    check_digest,
    check_finite,
    check_tensors,
    derive_seed,
    permute_domain_net,
    write_weights,
)
from abi.models.products import Linear, linear
from abi.models.states import States

NO_BYTE = 256
"""Stands for what was before the text began."""


class Vocabulary:
    """The tokens of a vocabulary by what they spell: bytes as Latin-1 text, None for a token that spells nothing."""

    def __init__(self, spellings: Sequence[str | None]) -> None:
        self.spellings = [spelling or "" for spelling in spellings]
        self.lengths = torch.tensor([len(spelling) for spelling in self.spellings])
        self.bytes = torch.full((len(self.spellings), max(1, int(self.lengths.max()))), NO_BYTE, dtype=torch.int16)
        for i, spelling in enumerate(self.spellings):
            if spelling:
                read = torch.frombuffer(bytearray(spelling.encode("latin-1")), dtype=torch.uint8)
                self.bytes[i, : len(read)] = read.short()

    @property
    def strings(self) -> tuple[str, ...]:
        """What its tokens spell, each string once, in the order of ids."""
        return tuple(dict.fromkeys(filter(None, self.spellings)))

    def longest(self, strings: Sequence[str]) -> Tensor:
        """Return per token `[V]` the index of the longest string it begins with, `len(strings)` where there is none."""
        index = {string: i for i, string in enumerate(strings)}
        most = max(map(len, index), default=0)

        def found(spelling: str) -> int:
            begins = (spelling[:n] for n in range(min(len(spelling), most), 0, -1))
            return next((index[begin] for begin in begins if begin in index), len(strings))

        return torch.tensor([found(spelling) for spelling in self.spellings])

    def contexts(self, tokens: Tensor, size: int) -> Tensor:
        """Return the last bytes `[B, L, size]` of the text after each token of `[B, L]`, `NO_BYTE` where there is none.

        Tokens that spell nothing, such as padding, are passed over.
        """
        tokens = tokens.cpu().long()
        lengths = self.lengths[tokens]
        ends = lengths.cumsum(1)
        at = torch.arange(self.bytes.shape[1])
        there = at < lengths.unsqueeze(-1)
        places = (size + ends - lengths).unsqueeze(-1) + at
        text = torch.full((len(tokens), size + int(ends.max())), NO_BYTE, dtype=torch.int16)
        rows = torch.arange(len(tokens)).view(-1, 1, 1).expand_as(places)
        text[rows[there], places[there]] = self.bytes[tokens][there]
        return text.unfold(1, size, 1)[torch.arange(len(tokens)).unsqueeze(1), ends]

    def contexts_of(self, states: States, index: Tensor | slice, size: int) -> Tensor:
        """Return the last bytes `[B, T, size]` that each predicted position of some windows has read."""
        tokens = states.tokens(index)
        first = tokens.shape[1] - states.manifest.positions
        return self.contexts(tokens, size)[:, first - 1 : -1]


@dataclass(frozen=True)
class PortableConfig:
    """Shape of a portable module.

    Args: anchors: strings it writes on (bytes as Latin-1 text), S of them; d_abi: width A of the ABI space; expansion:
        hidden width of the domain net over A; context: bytes K of the text it reads; byte_width: numbers per byte.
    Raises: DataError: no anchors, an empty one, or one twice.
    """

    anchors: tuple[str, ...]
    d_abi: int
    expansion: int = 4
    context: int = 16
    byte_width: int = 32
    domain_net: bool = True

    def __post_init__(self) -> None:
        if not self.anchors or "" in self.anchors or len(set(self.anchors)) < len(self.anchors):
            raise DataError("portable module: its anchors must be different strings, one or more, none of them empty")


class PortableModule(nn.Module):
    """One shift per anchor `[..., S]` of the last bytes `[..., K]` of a text: `proj_out(z)`, `z = h + alpha * D(h)`.

    Reader (`h = LN(context_in(bytes))`) and writer are its interface; the domain net D is that of an ABI module.
    """

    def __init__(self, config: PortableConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed the caller's cards, too
            self.bytes = nn.Embedding(NO_BYTE + 1, config.byte_width)
            self.context_in = Linear(config.context * config.byte_width, config.d_abi, bias=False)
            self.abi_ln = nn.LayerNorm(config.d_abi)
            self.proj_out = Linear(config.d_abi, len(config.anchors), bias=False)
            nn.init.zeros_(self.proj_out.weight)
            self.domain = DomainNet(config.d_abi, config.expansion) if config.domain_net else None
        self.domain_alpha = nn.Parameter(torch.tensor(1.0))

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return self.bytes.weight.device

    def abi_state(self, contexts: Tensor) -> Tensor:
        """Return `z` `[..., A]` of contexts `[..., K]`, wherever they are."""
        contexts = contexts.to(self.device)
        h: Tensor = self.abi_ln(self.context_in(self.bytes(contexts.long()).flatten(-2)))
        return h if self.domain is None else h + self.domain_alpha * self.domain(h)

    def forward(self, contexts: Tensor) -> Tensor:
        """Return the shift `[..., S]`."""
        shift: Tensor = self.proj_out(self.abi_state(contexts))
        return shift


def placebos_of(module: PortableModule, draws: Mapping[str, int], seed: int) -> dict[tuple[str, int], PortableModule]:
    """Return (arm, draw) -> a module's reader and writer around another net. Args: draws: arm -> how many."""
    drawn = [(arm, draw) for arm, n in draws.items() for draw in range(n)]
    return {(arm, draw): placebo_of(module, arm, derive_seed("placebo", arm, seed, draw)) for arm, draw in drawn}


def placebo_of(module: PortableModule, kind: str, seed: int) -> PortableModule:
    """Return a module's reader and writer around a `random` net, its own `permuted`, or none (`no-domain`); frozen.

    The gate belongs to the net: a random one has the gate of a fresh module.
    """
    other = PortableModule(replace(module.config, domain_net=kind != NO_DOMAIN), seed)
    own = other.state_dict()
    state = {name: value for name, value in module.state_dict().items() if name in own}
    if kind == RANDOM:
        state |= {name: value for name, value in own.items() if name.startswith("domain")}
    other.load_state_dict(state)
    if kind == PERMUTED:
        permute_domain_net(other, seed)
    return other.requires_grad_(False).to(module.device)


class Placed:
    """A portable module on a vocabulary, as one form of an arm (`arms/forms.py`): a shift of all logits.

    Args: scale: of the head that its logits are added to, which `Readout` puts on everything it reads.
    """

    logit_bias = None
    above_cap = True

    def __init__(self, module: PortableModule, vocabulary: Vocabulary, scale: float = 1.0) -> None:
        self.module, self.vocabulary = module, vocabulary
        self.anchor_of = vocabulary.longest(module.config.anchors)
        written = torch.nn.functional.pad(module.proj_out.weight.detach(), (0, 0, 0, 1))
        self.writer = written.index_select(0, self.anchor_of.to(module.device)) / scale

    @property
    def shared(self) -> int:
        """How many of its anchors are tokens of the vocabulary."""
        return len({*self.module.config.anchors} & {*self.vocabulary.strings})

    def read(self, states: States, index: Tensor | slice) -> Tensor:
        """Return what its logits are linear in: the ABI state `[B, T, A]` of some windows."""
        return self.module.abi_state(self.vocabulary.contexts_of(states, index, self.module.config.context))

    def readout(self, head: Tensor) -> Tensor:
        """Return the map `[V, A]` from what it reads to logits, whatever the head's `[V, D]`."""
        return self.writer

    def shift(self, tokens: Tensor, last: int | None = None) -> Tensor:
        """Return what is added to the logits `[B, n, V]` after the last n tokens of `[B, L]`, or after all.

        It is where the tokens are: the module follows a backbone that was moved.
        """
        if self.module.device != tokens.device:
            self.module.to(tokens.device)
            self.writer = self.writer.to(tokens.device)
        contexts = self.vocabulary.contexts(tokens, self.module.config.context)
        contexts = contexts if last is None else contexts[:, -last:]
        return linear(self.module.abi_state(contexts), self.writer)


def save_portable(module: PortableModule, folder: str | Path, facts: PortableFacts) -> str:
    """Write `abi_config.json`, `abi_model.safetensors` and the card; return the weights' tensor hash."""
    folder = Path(folder)
    digest = write_weights(module, folder)
    shape = PortableShape(**{**asdict(module.config), "anchors": list(module.config.anchors)})
    PortableManifest(portable=shape, sha256=digest, **dict(facts)).write(folder / CONFIG)
    write_text(
        folder / CARD,
        f"---\nlibrary_name: abi\ntags: [abi, domain-module, portable]\n---\n\n"
        f"# Portable ABI module `{facts.name}`, seed {facts.seed}\n\n"
        f"Trained on text `{facts.text}` beside `{facts.base_model}`. It reads the last {shape.context} bytes of the\n"
        f"text and shifts {len(shape.anchors)} strings; it works with any backbone whose tokens spell text.\n"
        "What it is worth stands in the verdicts of the claims that use it, not here.\n",
    )
    return digest


def read_portable(folder: str | Path) -> tuple[PortableModule, PortableManifest]:
    """Return a saved portable module, frozen, and its manifest.

    Raises: DataError: a file is missing or damaged, tensors are missing, extra, of wrong shape or not finite, or the
        hash differs.
    """
    folder = Path(folder)
    about = PortableManifest.read(folder / CONFIG)
    config = PortableConfig(**{**dict(about.portable), "anchors": tuple(about.portable.anchors)})
    tensors, where = read_tensors(folder / WEIGHTS)[0], str(folder / WEIGHTS)
    with torch.device("meta"):  # before memory of these sizes is taken
        check_tensors(PortableModule(config).state_dict(), tensors, where, "portable module")
    check_finite(tensors, where)
    module = PortableModule(config)
    module.load_state_dict(tensors)
    check_digest(tensors, about.sha256, folder)
    return module.requires_grad_(False), about


def portable_of_seed(manifests: Sequence[str], seed: int, arm: str) -> PortableModule:
    """Return a portable module of a seed, or a control trained with it, frozen.

    Raises: DataError: no manifest holds it; TamperError: the weights are not those the manifest recorded.
    """
    for path in manifests:
        for entry in PortablesManifest.read(path).modules:
            if (entry.seed, entry.arm) == (seed, arm):
                module, about = read_portable(Path(path).with_suffix("") / entry.folder)
                if about.sha256 != entry.sha256:
                    raise TamperError(f"{path}: {arm} of seed {seed} is not the one recorded; rebuild it")
                return module.to(compute.device())
    raise DataError(f"portable modules: none of {list(manifests)} holds {arm} of seed {seed}; ask Snakemake for them")
