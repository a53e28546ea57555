"""Manifests: the small JSON files that lie beside texts, weights, states and evidence and promise what is in them."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from abi.base.typed import Count, Document, Provenance, Sha256, Typed

Positive = Annotated[int, Field(ge=1)]
Split = Literal["train", "calibration", "test"]
Rate = Annotated[float, Field(ge=0, le=1)]


class Shares(Typed):
    """Share of the groups of a text per split, by which a group's split is found again."""

    train: float
    calibration: float
    test: float


class SplitCounts(Typed):
    """How much of a text is in one split."""

    groups: Count
    documents: Count
    bytes: Count


class HeldOutDocument(Typed):
    """A document that nothing is trained on: how much of it train holds too."""

    split: Literal["calibration", "test"]
    package: str
    """The largest unit its group belongs to: its source, or the group itself where a text has one source alone."""
    in_train: Rate
    """Share of its different long lines that stand in some document of the train split."""


class TextManifest(Document):
    """corpus/<text>.json."""

    kind: ClassVar[str] = "text"
    splits: dict[Split, SplitCounts]
    assignment_sha256: Sha256
    """Of document -> (group, split, hash of its text)."""
    identifier_share: Annotated[float, Field(ge=0)]
    """Share of words that are program identifiers: code that is left in prose."""
    held_out: dict[str, HeldOutDocument]
    """Every document of calibration and test."""
    provenance: Provenance

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for split in ("calibration", "test"):
            told, there = sum(of.split == split for of in self.held_out.values()), self.splits.get(split)
            if told != (there.documents if there else 0):
                raise ValueError(f"held_out tells of {told} {split} documents, splits of another number")
        return self


class Pretraining(Typed):
    """What building a backbone left; empty for a download."""

    steps: Positive | None = None
    tokens_seen: Positive | None = None
    loss_nats: float | None = None
    """Mean of the last 50 steps, nats per token."""


class BackboneFacts(Typed):
    """What was measured when a backbone was admitted; differences are relative, 0 where they are rounding."""

    precision: str
    """Of the weights."""
    causal: float
    """Earlier logits, when later tokens change."""
    head: float
    """The final state through the head, against the model's logits."""
    taps: float | None
    """Hidden states, against what the blocks read; null: they stand in no list, only the final state may be read."""
    cache: float | None
    """Logits while generating with a cache, against those without; null: it does not run."""
    padded: float | None
    """Logits of a prompt in a padded batch, against those alone; null: it does not run."""
    characters_lost: Rate
    """Share of the characters of a test text that encoding and decoding loses."""
    ends: bool
    """Whether the tokenizer's ends of tokens are those of the text they spell."""


class BackboneManifest(Document):
    """backbones/<backbone>.json."""

    kind: ClassVar[str] = "backbone"
    name: str
    revision: str
    """Commit of the hub, or `built`."""
    model_class: Annotated[str, Field(alias="class")]
    model_type: str
    width: Positive
    """D."""
    depth: Positive
    """Tap of the final state."""
    n_parameters: Positive
    head_rows: Positive
    n_tokens: Positive
    vocabulary: str
    """Hash of the vocabulary."""
    weights_sha256: Sha256
    identity_sha256: Sha256 | None = None
    """Of weights, stored buffers, config and tokenizer together; files of older code lack it."""
    facts: BackboneFacts | None = None
    """What was measured when it was admitted."""
    files: dict[str, Sha256]
    """Of every file in its folder."""
    head_scale: float
    """The family's scale of the final state."""
    head_sha256: Sha256
    pretraining: Pretraining
    provenance: Provenance

    @property
    def base(self) -> "BaseFacts":
        """What everything made with this backbone says of it."""
        return BaseFacts(
            base_model=self.name,
            base_revision=self.revision,
            base_sha256=self.weights_sha256,
            identity_sha256=self.identity_sha256,
            head_sha256=self.head_sha256,
            vocabulary=self.vocabulary,
        )


class TokensManifest(Document):
    """heads/<backbone>.tokens.json."""

    kind: ClassVar[str] = "tokens"
    vocabulary: str
    spellings: Annotated[list[str | None], Field(min_length=2)]
    """Per token id its bytes as Latin-1 text; null for special tokens and rows without a token."""


class BaseFacts(Typed):
    """Which backbone something was made with."""

    base_model: str
    base_revision: str
    base_sha256: Sha256
    identity_sha256: Sha256 | None = None
    """Of weights, stored buffers, config and tokenizer together; files of older code lack it."""
    head_sha256: Sha256
    vocabulary: str

    @property
    def base(self) -> "BaseFacts":
        """These facts alone, of a manifest that holds them among others."""
        return BaseFacts(**{name: getattr(self, name) for name in BaseFacts.model_fields})


class StoredWindows(Typed):
    """What a store of states holds."""

    n_windows: Positive
    """N."""
    length: Positive
    """Tokens per window."""
    positions: Positive
    """T, predicted positions per window."""
    width: Positive
    """D."""
    taps: list[int]
    final_tap: int
    dtype: str
    skip: Count
    """First positions that are not scored."""
    documents: list[str]
    groups: list[str]


class StatesManifest(StoredWindows, BaseFacts, Document):
    """states/<backbone>/<text>.<split>.json."""

    kind: ClassVar[str] = "states"
    split: Split
    characters_lost: Rate | None = None
    """Share of the characters of its documents that the tokenizer loses; files of older code lack it."""
    tensors_sha256: Sha256
    corpus_sha256: Sha256
    """`assignment_sha256` of the text's manifest."""
    shares: Shares
    salt: str
    """Mixed into the group hash that splits."""
    provenance: Provenance


class ModuleShape(Typed):
    """Sizes of a module, as its folder records them."""

    width: Positive
    taps: list[int]
    d_abi: Positive
    expansion: Positive
    tap_norms: bool
    domain_net: bool


class ModuleFacts(BaseFacts):
    """What a saved module says of itself beside its weights: its backbone, name, role, text and seed."""

    name: str
    role: Literal["source", "oracle", "reference", "home", "arm"]
    text: str
    seed: int


class ModuleManifest(ModuleFacts, Document):
    """abi_config.json of a module folder."""

    kind: ClassVar[str] = "module"
    module: ModuleShape
    rotated: bool
    """Whether the domain net sits behind a fixed rotation."""
    sha256: Sha256


class ModuleEntry(Typed):
    """One native module of a batch."""

    seed: int
    folder: str
    """Module folder beside the manifest."""
    sha256: Sha256
    domain_sha256: Sha256
    steps: Count
    final_loss: float
    """Mean of the last 50 steps, nats per position."""
    elapsed_s: float
    n_parameters: Positive


class ModulesManifest(Document):
    """modules/<backbone>/<text>/<shape>/<role>/<batch>.json."""

    kind: ClassVar[str] = "modules"
    modules: Annotated[list[ModuleEntry], Field(min_length=1)]
    provenance: Provenance


class FitFigures(Typed):
    """What a fit leaves of an arm; the training figures are absent where it was solved."""

    n_trainable: Count
    frozen_sha256: Sha256
    steps: Count
    lr: Annotated[float, Field(ge=0)] | None = None
    """Peak learning rate, the arm's own."""
    gain: Annotated[float, Field(ge=0)] | None = None
    """Factor of the correction, chosen on held-out general text (general-only)."""
    final_loss: float | None = None
    phase_floors: list[float] = []
    best_step: int | None = None
    elapsed_s: float | None = None


class ArmEntry(FitFigures):
    """One fitted arm of a seed."""

    arm: str
    fit: str
    draw: Count
    seed: int
    domain_sha256: Sha256 | None = None
    folder: str

    @property
    def place(self) -> str:
        """The folder that an arm of this name, fit, draw and seed has."""
        return f"seed{self.seed}/{self.fit}/{self.arm}-{self.draw}"


class FittedEntry(ArmEntry):
    """One arm that was fitted on stored states."""

    sha256: Sha256
    """Of its tensors."""


class CalibrationManifest(Document):
    """calibration/<claim>/<batch>.json."""

    kind: ClassVar[str] = "calibration"
    arms: Annotated[list[FittedEntry], Field(min_length=1)]
    provenance: Provenance


class ScopeRun(Typed):
    """The states whose windows an adapted backbone was run on."""

    tensors_sha256: Sha256
    n_windows: Positive


class LoraEntry(ArmEntry):
    """One LoRA adapter of a seed."""

    adapter_sha256: Sha256
    """Tensors of adapter_model.safetensors."""
    finals_sha256: Sha256
    """File of the final states."""


class LoraManifest(Document):
    """lora/<claim>/<batch>.json."""

    kind: ClassVar[str] = "lora"
    base_model: str
    base_sha256: Sha256
    """Weights of the backbone, checked before and after every fit."""
    rank: Positive
    alpha: Positive
    """PEFT's `lora_alpha`, twice the rank."""
    target_modules: Annotated[list[str], Field(min_length=1)]
    n_interface: Positive
    """Trainable parameters of the interface of the claim's module."""
    n_trainable: Positive
    scopes: dict[str, ScopeRun]
    arms: Annotated[list[LoraEntry], Field(min_length=1)]
    provenance: Provenance


class AlignmentFigures(Typed):
    """How good a rotation is; cosines are of held-out rows."""

    n_rows: Annotated[float, Field(ge=1)]
    effective_rank: float
    residual: float
    """Relative, in sample."""
    cosine_before: float
    cosine_held_out: float


class AlignmentEntry(AlignmentFigures):
    """One rotation of a seed."""

    seed: int
    rotation: Literal["aligned", "home", "own", "other"]


class AlignmentManifest(Document):
    """alignments/<claim>/<batch>.json."""

    kind: ClassVar[str] = "alignment"
    alignments: list[AlignmentEntry]
    rotations_sha256: Sha256
    """Of the file of rotations."""
    provenance: Provenance


class UpdateFigures(Typed):
    """What an update did; losses in nats per token."""

    steps: Positive
    tokens_seen: Positive
    loss_nats: float
    stability_mse: float | None = None
    """Mean squared drift of the held ABI states in the last steps."""
    elapsed_s: float
    general_loss_before: float
    general_loss_after: float


class Member(Typed):
    """What lies beside a batch's manifest for one seed: file -> its hash."""

    seed: Positive
    files: Annotated[dict[str, Sha256], Field(min_length=1)]
    figures: UpdateFigures | None = None


class BatchManifest(Document):
    """updates/..., updated_states/... and written/..., one file per batch of seeds."""

    kind: ClassVar[str] = "batch"
    members: Annotated[list[Member], Field(min_length=1)]
    provenance: Provenance


class RowsFile(Typed):
    """One csv.gz beside an evidence manifest."""

    sha256: Sha256
    rows: Positive


class EvidenceFiles(Typed):
    """The two files beside an evidence manifest."""

    evidence: RowsFile
    draws: RowsFile


class EvidenceContents(Typed):
    """The different values of the evidence rows."""

    fits: Annotated[list[str], Field(min_length=1)]
    arms: Annotated[list[str], Field(min_length=1)]
    draws: Annotated[list[Count], Field(min_length=1)]
    seeds: Annotated[list[Count], Field(min_length=1)]
    scopes: Annotated[list[str], Field(min_length=1)]


class EvidenceManifest(Document):
    """evidence/<claim>/<batch>.json."""

    kind: ClassVar[str] = "evidence"
    files: EvidenceFiles
    contents: EvidenceContents
    provenance: Provenance
