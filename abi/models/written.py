"""What a backbone wrote after some prompts."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Written:
    """Continuations of prompts: their text, the ids `[P]` of each prompt, the ids `[n]` of each continuation."""

    texts: list[str]
    prompts: list[Tensor]
    ids: list[Tensor]
