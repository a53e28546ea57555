"""Modules of every kind on a live backbone: those that correct its states, and those that read its text.

The second change its logits. They stand apart from `attach.py`, which the steps of the workflow use.
"""

from abi.base.errors import DataError
from abi.base.manifests.modules import ModuleManifest
from abi.base.manifests.ngrams import NgramManifest
from abi.models.attach import Attached, Marks, check_pair
from abi.models.backbone import Backbone
from abi.models.logit_shift import LogitShift, TextHooks, check_spelling, check_vocabulary, vocabulary_of
from abi.models.module import AbiModule
from abi.models.ngram_mixture import NgramMixture
from abi.models.ngram_module import NgramModule
from abi.models.portable import PortableManifest, PortableModule
from abi.models.probe import admit

AnyModule = AbiModule | PortableModule | NgramModule
AnyManifest = ModuleManifest | PortableManifest | NgramManifest


class AttachedAny(Attached):
    """As `Attached`; portable modules shift the logits, and an n-gram model is mixed with them.

    Args: parts: (module, weight) pairs; the correction, or the shift, is their weighted sum. Of n-gram models one may
        be given, by itself.
    Raises: DataError: as `Attached`.
    """

    def __init__(self, backbone: Backbone, parts: list[tuple[AnyModule, float]]) -> None:
        super().__init__(backbone, [(module, weight) for module, weight in parts if isinstance(module, AbiModule)])
        self.on_logits: TextHooks | None = None
        try:
            self.on_logits = _on_logits(backbone, parts)
        except BaseException:  # also Ctrl-C: counting takes seconds
            self.detach()
            raise

    def detach(self) -> None:
        """Take the modules off; the backbone is then the plain one, bit for bit. Twice does no harm."""
        super().detach()
        if self.on_logits is not None:
            self.on_logits.remove()


def _on_logits(backbone: Backbone, parts: list[tuple[AnyModule, float]]) -> TextHooks | None:
    """Return the hooks of what reads text, None where nothing does."""
    for module, weight in parts:
        if isinstance(module, NgramModule):
            if len(parts) > 1 or weight != 1:
                raise DataError("attach: an n-gram model is mixed with the backbone alone; attach it by itself")
            return NgramMixture(backbone, module)
    placed = [(module.to(backbone.device), by) for module, by in parts if isinstance(module, PortableModule)]
    return LogitShift(backbone, placed) if placed else None


def check_any(
    backbone: Backbone, module: AnyModule, about: AnyManifest | None = None, base: Marks | None = None
) -> None:
    """Raise DataError where a module cannot belong to a backbone.

    A portable module belongs to all whose vocabulary begins with its anchors somewhere; an n-gram model to all whose
    tokens spell text. Args: as of `check_pair`.
    """
    if isinstance(module, PortableModule):
        return check_vocabulary(backbone, module)
    if isinstance(module, NgramModule):
        return check_spelling(backbone, vocabulary_of(backbone))
    assert about is None or isinstance(about, ModuleManifest)
    return check_pair(backbone, module, about, base)


def attach_any(backbone: Backbone, module: AnyModule, about: AnyManifest | None = None) -> AttachedAny:
    """Put a module of any kind on a backbone.

    Of a portable module its logits are then head(final) + shift(text), of an n-gram model the logarithms of the
    mixture of both, of every other as `attach` has them. Args, Raises: as of `attach`.
    """
    admit(backbone)
    check_any(backbone, module, about)
    return AttachedAny(backbone, [(module, 1.0)])
