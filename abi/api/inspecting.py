"""How attached modules move the next-token distribution of a model, position by position, and what it then writes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from abi.api.several import Choice, Several
from abi.arms.metrics import Distribution, distribution, js_nats, top_ids
from abi.base.errors import DataError
from abi.base.typed import Typed
from abi.models.attach import generate
from abi.models.backbone import Backbone
from abi.models.probe import evaluating
from abi.models.tokenizers import continuation, decode, prompt_ids

MOST_TOKENS = 256
"""Of a prompt: the logits of all its positions are held at once."""
ROWS = 32
"""Positions whose distributions are compared at once."""
TOP = 5
"""Tokens shown per position."""


class Likely(Typed):
    """A token with its probability under the plain model (`before`) and with the modules (`after`)."""

    id: int
    text: str
    before: float
    after: float


class Position(Typed):
    """One next-token distribution, without and with the modules."""

    text: str | None
    """The token that stands there in the prompt; None after its end."""
    js_nats: float
    """Jensen-Shannon divergence of the two distributions, 0 to ln 2."""
    before: list[Likely]
    """The most probable tokens of the plain model, the most probable first."""
    after: list[Likely]
    """Those with the modules."""
    nats_before: float | None
    """-ln of the probability of the token that stands there; None after the end."""
    nats_after: float | None


class BothTexts(Typed):
    """What is written after a prompt."""

    without: str
    with_modules: str


class Effect(Typed):
    """One module alone, at weight 1, on a prompt; means over its positions."""

    module: str
    js_from_plain: float
    """Nats, over every position, the one after the end included."""
    js_from_reference: float | None
    """Nats, from the module that was named as reference; None where none was."""
    nats_before: float | None
    """Mean of -ln p of the prompt's tokens; None where nothing of it is predicted."""
    nats_after: float | None


def inspect_tokens(attached: Several, choice: Choice, prompt: str, top: int = TOP) -> list[Position]:
    """Return what a choice of modules does at every position that a prompt has, and at the one after its end.

    A causal model predicts every token but the first. An encoder-decoder reads the first half of the tokens in its
    encoder and predicts the second.

    >>> module = abi.train(model, tokenizer, texts, steps=20)
    >>> with abi.attach(model, {"sql": module}, tokenizer=tokenizer) as attached:
    ...     told = inspect_tokens(attached, {"sql": 0.5}, "SELECT a FROM b")
    >>> told[-1].text is None and 0 <= told[-1].js_nats <= 0.6932
    True

    Args: attached: as `abi.attach` gives it for modules by name; choice: one of them, a mixture or None.
    Raises: DataError: no token, more than 256 or than the model has positions for, or an unknown module.
    """
    ids = _ids(attached.backbone, prompt)
    targets, before = _targets(attached.backbone, ids), _logits(attached, None, ids)
    after = _logits(attached, choice, ids)
    found: list[Position] = []
    for start in range(0, len(before), ROWS):
        rows = slice(start, start + ROWS)
        own = targets[rows]
        found += _positions(attached.backbone, own, distribution(before[rows]), distribution(after[rows]), top)
    return found


def write_both(
    attached: Several, choice: Choice, prompt: str, n_tokens: int, *, temperature: float = 0.0, seed: int = 0
) -> BothTexts:
    """Return what the plain model and the model with a choice of modules write after a prompt, with the same draws.

    Args: temperature: 0 is greedy. Raises: DataError: as `inspect_tokens` and `abi.generate`.
    """
    backbone = attached.backbone
    ids = _ids(backbone, prompt)
    rows = torch.tensor([ids])
    texts = []
    for one in (None, choice):
        with attached.using(one):
            made = generate(backbone, rows, n_tokens, temperature=temperature, seed=seed)[0].tolist()
        texts.append(continuation(backbone.tokenizer, [] if backbone.is_encoder_decoder else ids, made))
    return BothTexts(without=texts[0], with_modules=texts[1])


def compare_modules(attached: Several, names: Sequence[str], prompt: str, reference: str | None = None) -> list[Effect]:
    """Return what each of some modules does alone on a prompt, at weight 1.

    Args: reference: a module from which the others' distributions are measured too, as a native one.
    Raises: DataError: as `inspect_tokens`.
    """
    ids = _ids(attached.backbone, prompt)
    targets = _targets(attached.backbone, ids)
    fixed = None if reference is None else _logits(attached, reference, ids)
    plain, found = _logits(attached, None, ids), []
    for name in names:
        own = fixed if fixed is not None and name == reference else _logits(attached, name, ids)
        found.append(
            Effect(
                module=name,
                js_from_plain=_mean_js(plain, own),
                js_from_reference=None if fixed is None else _mean_js(fixed, own),
                nats_before=_mean_nats(plain, targets),
                nats_after=_mean_nats(own, targets),
            )
        )
    return found


def _ids(backbone: Backbone, prompt: str) -> list[int]:
    """Return the ids of a prompt. Raises: DataError: none, or too many."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise DataError("prompt: it is not valid UTF-8; give text") from None
    ids = prompt_ids(backbone.tokenizer, prompt)
    least = 2 if backbone.is_encoder_decoder else 1
    if len(ids) < least:
        raise DataError(f"prompt: {len(ids)} tokens are too few; give some text")
    most = min(MOST_TOKENS, backbone.most_positions or MOST_TOKENS)
    if len(ids) > most:
        raise DataError(f"prompt: {len(ids)} tokens are more than {most}; give a shorter text")
    return ids


def _targets(backbone: Backbone, ids: Sequence[int]) -> list[int | None]:
    """Return the token that stands at each predicted position; None after the end."""
    return [*(ids[len(ids) // 2 :] if backbone.is_encoder_decoder else ids[1:]), None]


@torch.no_grad()
def _logits(attached: Several, choice: Choice, ids: Sequence[int]) -> Tensor:
    """Return the logits `[T, V]` of every predicted position under a choice, on the CPU."""
    backbone = attached.backbone
    rows = torch.tensor([list(ids)], device=backbone.device)
    given = {"input_ids": rows}
    if backbone.is_encoder_decoder:
        half = len(ids) // 2
        start = rows.new_full((1, 1), backbone.start_id)
        given = {"input_ids": rows[:, :half], "decoder_input_ids": torch.cat([start, rows[:, half:]], dim=1)}
    with attached.using(choice), evaluating(backbone.model):
        found: Tensor = backbone.model(**given, use_cache=False).logits[0].float().cpu()
    return found


def _positions(
    backbone: Backbone, targets: Sequence[int | None], before: Distribution, after: Distribution, top: int
) -> list[Position]:
    """Return some positions. Args: targets: the token of each, `[N]`; before, after: distributions `[N, V]`."""
    apart, first, second = js_nats(before, after).tolist(), top_ids(before.p, top), top_ids(after.p, top)
    texts = {i: decode(backbone.tokenizer, [i]) for i in {*first.flatten().tolist(), *second.flatten().tolist()}}

    def likely(row: int, ids: Tensor) -> list[Likely]:
        return [
            Likely(id=i, text=texts[i], before=before.p[row, i].item(), after=after.p[row, i].item())
            for i in ids[row].tolist()
        ]

    return [
        Position(
            text=None if target is None else decode(backbone.tokenizer, [target]),
            js_nats=apart[row],
            before=likely(row, first),
            after=likely(row, second),
            nats_before=_nats(before, row, target),
            nats_after=_nats(after, row, target),
        )
        for row, target in enumerate(targets)
    ]


def _nats(of: Distribution, row: int, target: int | None) -> float | None:
    """Return -ln p of a token under a row, of however small a p."""
    return None if target is None else (of.log_total[row] - (of.logits[row, target] - of.peak[row])).item()


def _mean_js(first: Tensor, second: Tensor) -> float:
    """Return the mean divergence of two sets of logits `[T, V]`, in nats."""
    parts = zip(first.split(ROWS), second.split(ROWS), strict=True)
    return torch.cat([js_nats(distribution(one), distribution(other)) for one, other in parts]).mean().item()


def _mean_nats(logits: Tensor, targets: Sequence[int | None]) -> float | None:
    """Return the mean of -ln p of the tokens that stand there; None where none does."""
    known = [target for target in targets if target is not None]
    if not known:
        return None
    return torch.nn.functional.cross_entropy(logits[: len(known)], torch.tensor(known)).item()
