"""What the API does where nothing else is asked: the budgets of scales `tiny` and `real`, the criteria of the protocol.

An installed package has no `config/`, so they stand here; a test compares them with the files there.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass

from abi.base.errors import DataError
from abi.plan.specs.arms import BudgetName, FitPhase, FitSection
from abi.plan.specs.judge import Criteria, ResolvablePoint
from abi.plan.specs.models import NgramSection, PortableTraining, Training
from abi.plan.specs.shared import Phase, Shares, Window

SHARES = Shares(train=0.6, calibration=0.15, test=0.25)
"""Of documents per split."""
SALT = "abi"
SKIP = 20
"""Most first positions of a window that are not scored: they have read too little."""

COPIED = 0.5
"""Share of the passages of a document that stand in another one from which on it is a copy."""
NGRAMS = NgramSection(order=12, share=0.3)
"""The n-gram model that stands beside a moved module."""


@dataclass(frozen=True)
class Budgets:
    """How long and on how much text modules are trained and moved.

    Args: module, portable: training of both kinds; fits: how the arms of a regime are calibrated, `kd` with a teacher,
        `ce` on domain text, `matched` on general text; max_rows: positions of two models that are paired at most.
    """

    module: Training
    portable: PortableTraining
    fits: Mapping[BudgetName, FitSection]
    max_rows: int


SMALL = Budgets(
    module=Training(batch=512, batch_of="positions", phases=[Phase(steps=500, lr=1e-2, warmup=20, decay="cosine")]),
    portable=PortableTraining(
        d_abi=64,
        context=16,
        byte_width=32,
        coarser=24,
        harm=1.0,
        batch=256,
        phases=[Phase(steps=800, lr=3e-3, warmup=20, decay="cosine")],
    ),
    fits={
        "kd": FitSection(
            temperature=2.0,
            kd_weight=0.9,
            batch=128,
            batch_of="positions",
            ridge_penalty=1e-3,
            phases=[FitPhase(steps=300, warmup=20, decay="cosine")],
            rates=[1e-3, 4e-3, 1.6e-2, 6.4e-2, 0.25, 1.0],
        ),
        "ce": FitSection(
            temperature=1.0,
            kd_weight=0.5,
            batch=128,
            batch_of="positions",
            ridge_penalty=1e-3,
            windows=[8, 32, 128],
            phases=[FitPhase(steps=100, warmup=10, decay="cosine")],
            rates=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
        ),
        "matched": FitSection(
            temperature=1.0,
            kd_weight=1.0,
            batch=256,
            batch_of="positions",
            ridge_penalty=1e-3,
            phases=[FitPhase(steps=300, warmup=20, decay="cosine")],
            rates=[3e-3, 1e-2, 3e-2, 1e-1, 3e-1],
        ),
    },
    max_rows=40_000,
)
"""Those of scale `tiny`."""


def _shorter(name: BudgetName, phase: FitPhase, rates: list[float], windows: list[int] | None = None) -> FitSection:
    """Return a calibration whose steps read 64 positions."""
    changed: dict[str, object] = {"batch": 64, "phases": [phase], "rates": rates}
    return SMALL.fits[name].model_copy(update=changed | ({} if windows is None else {"windows": windows}))


LARGE = Budgets(
    module=Training(batch=128, batch_of="positions", phases=[Phase(steps=150, lr=3e-3, warmup=10, decay="cosine")]),
    portable=SMALL.portable.model_copy(
        update={
            "max_anchors": 8000,
            "coarser": 8,
            "batch": 64,
            "phases": [Phase(steps=400, lr=3e-3, warmup=20, decay="cosine")],
        }
    ),
    fits={
        "kd": _shorter("kd", FitPhase(steps=150, warmup=10, decay="cosine"), [3e-4, 3e-3, 1e-2, 3e-2, 1e-1]),
        "ce": _shorter("ce", FitPhase(steps=60, warmup=6, decay="cosine"), [3e-4, 1e-3, 3e-3, 1e-2], [8, 32]),
        "matched": _shorter("matched", FitPhase(steps=150, warmup=10, decay="cosine"), [3e-4, 3e-3, 3e-2, 3e-1]),
    },
    max_rows=6_000,
)
"""Those of scale `real`: a position of a step costs a hundred times what it costs at `tiny`."""
LARGE_HEAD = 2**24
"""Numbers of a head from which on it is a large one."""


def budgets_of(*heads: tuple[int, int]) -> Budgets:
    """Return the budgets of models with some heads, `V, D` each: those of large ones where one is large."""
    return LARGE if any(rows * width >= LARGE_HEAD for rows, width in heads) else SMALL


CRITERIA = Criteria(
    level=0.95,
    half=0.5,
    share=0.1,
    parity=0.8,
    harm=0.01,
    vacuous=0.01,
    min_groups=30,
    min_seeds=3,
    min_positions=64,
    primary_metric="js_nats",
    resolvable=[
        ResolvablePoint(seeds=3, standard_errors=12),
        ResolvablePoint(seeds=5, standard_errors=8),
        ResolvablePoint(seeds=10, standard_errors=6),
    ],
    keeps=0.9,
    floor=0.9,
)
"""The numbers of the protocol, by which `compare` judges."""


def window_for(longest: int, most_positions: int | None, *, encoder_decoder: bool) -> Window:
    """Return how a model reads text: at most as many tokens as it has positions for; an encoder sees the first half.

    Args: most_positions: that a model has, of each half; None: any number.
    """
    both = 2 if encoder_decoder else 1
    length = longest if most_positions is None else min(longest, both * most_positions)
    prefix = length // 2 if encoder_decoder else 0
    return Window(length=length, prefix=prefix, skip=min(SKIP, (length - prefix) // 6))


def require_counts(call: str, **numbers: object) -> None:
    """Raise DataError for what is given of steps, tokens, seeds or dimensions and is no whole number from 1."""
    for name, number in numbers.items():
        if number is not None:
            whole(f"{call}: {name}", number, 1)


def whole(name: str, value: object, least: int | None = None) -> int:
    """Return a whole number, also one of numpy. Raises: DataError: it is none, or less than may be."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise DataError(f"{name} is {value!r}; give a whole number")
    if least is not None and number < least:
        raise DataError(f"{name} is {number}; give {least} or more")
    return number
