"""The windows of a text as a backbone reads it, and what its tokenizer loses of the text."""

from collections.abc import Sequence
from functools import partial

from abi.base.typed import Split
from abi.models.backbone import Backbone
from abi.models.probe import require_lossless
from abi.models.states import Window, Windows, make_windows
from abi.models.tokenizers import encode, start_of
from abi.plan.specs.models import WriteStates
from abi.text.documents import Document


def windows_and_lost_share(
    documents: Sequence[Document], spec: WriteStates, backbone: Backbone, split: Split
) -> tuple[Windows, float]:
    """Return the windows of a split's documents and the share of their characters that the tokenizer loses.

    Raises: DataError: it loses text.
    """
    windows = windows_of(backbone, documents, split, spec)
    used = set(windows.names)
    return windows, require_lossless(backbone, [d.text for d in documents if d.split == split and d.document in used])


def windows_of(backbone: Backbone, documents: Sequence[Document], split: str, spec: WriteStates) -> Windows:
    """Return the windows of a split's documents, tokenized for a backbone."""
    return make_windows(
        [d for d in documents if d.split == split],
        partial(encode, backbone.tokenizer),
        Window.of(spec.window),
        max_windows=getattr(spec.max_windows, split),
        max_per_document=getattr(spec.max_windows_per_document, split),
        min_scored=spec.min_scored,
        begin=start_of(backbone.tokenizer),
    )
