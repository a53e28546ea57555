"""ABI: train a domain module beside a frozen language model, move it, and judge the move.

The names below are loaded when they are first used, so that importing `abi` costs next to nothing and no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abi.api.attaching import attach, detach, generate
    from abi.api.comparing import compare
    from abi.api.distilling import distill
    from abi.api.loading import load_backbone
    from abi.api.modules import Module
    from abi.api.scoring import evaluate
    from abi.api.several import Several
    from abi.api.training import train
    from abi.api.transferring import transfer
    from abi.arms.alignment import fit_procrustes
    from abi.base.errors import AbiError
    from abi.judge.kinds.transfer import judge_reconstruction, judge_transfer
    from abi.judge.results import read_result
    from abi.judge.rows import read_evidence
    from abi.models.backbone import Backbone
    from abi.models.load import load_module
    from abi.models.module import AbiModule, ModuleConfig, save_module
    from abi.models.portable import PortableConfig, PortableModule
    from abi.models.states import Window

__version__ = "0.1.0"

_HOME = {
    "AbiError": "abi.base.errors",
    "AbiModule": "abi.models.module",
    "Backbone": "abi.models.backbone",
    "Module": "abi.api.modules",
    "Several": "abi.api.several",
    "ModuleConfig": "abi.models.module",
    "PortableConfig": "abi.models.portable",
    "PortableModule": "abi.models.portable",
    "Window": "abi.models.states",
    "attach": "abi.api.attaching",
    "compare": "abi.api.comparing",
    "detach": "abi.api.attaching",
    "distill": "abi.api.distilling",
    "evaluate": "abi.api.scoring",
    "fit_procrustes": "abi.arms.alignment",
    "generate": "abi.api.attaching",
    "judge_reconstruction": "abi.judge.kinds.transfer",
    "judge_transfer": "abi.judge.kinds.transfer",
    "load_backbone": "abi.api.loading",
    "load_module": "abi.models.load",
    "read_evidence": "abi.judge.rows",
    "read_result": "abi.judge.results",
    "save_module": "abi.models.module",
    "train": "abi.api.training",
    "transfer": "abi.api.transferring",
}
"""Public name -> the module that defines it."""

__all__ = [
    "AbiError",
    "AbiModule",
    "Backbone",
    "Module",
    "ModuleConfig",
    "PortableConfig",
    "PortableModule",
    "Several",
    "Window",
    "attach",
    "compare",
    "detach",
    "distill",
    "evaluate",
    "fit_procrustes",
    "generate",
    "judge_reconstruction",
    "judge_transfer",
    "load_backbone",
    "load_module",
    "read_evidence",
    "read_result",
    "save_module",
    "train",
    "transfer",
]


def __getattr__(name: str) -> Any:
    """Return a public name, loading its module. Raises: AttributeError: there is none of that name."""
    if name not in _HOME:
        raise AttributeError(f"module 'abi' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the public names for completion."""
    return [*__all__, "__version__"]
