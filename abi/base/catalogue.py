"""Everything there is to know of arms: what each is for, how it is made in a regime, its colour and its words.

A new arm is one entry of `ARMS`; only one of `zero-text` is also placed by code (`steps/evaluate_arms.py`).
Words and colours are for readers: the code digest leaves the keywords `words` and `colour` out (`base/digest.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from abi.base.names import (
    AS_PUBLISHED,
    BEFORE,
    BEFORE_OFF,
    BIAS,
    CALIBRATED,
    CANDIDATE,
    CARRIED,
    CHART,
    CHART_OF,
    DIRECT,
    HOME,
    HOME_IDENTITY,
    IDENTITY,
    LINEAR,
    LINEAR_NARROW,
    LORA,
    MIXED,
    NATIVE,
    NGRAM,
    NO_DOMAIN,
    ORACLE,
    ORACLE_BEFORE,
    ORACLE_OFF,
    PERMUTED,
    PERMUTED_TAUGHT,
    RANDOM,
    RANDOM_NET,
    RANDOM_OF,
    RANDOM_OFF,
    RAW,
    RAW_BEFORE,
    RAW_FREE,
    REFERENCE,
    SHARED,
    SOURCE_ALONE,
    SOURCE_TAUGHT,
    TRANSFERRED,
    UNFROZEN,
    UNTRAINED,
    WRONG_DOMAIN,
    WRONG_TAUGHT,
    ZERO_SHOT,
    ZERO_SHOT_FREE,
    ZERO_SHOT_OFF,
)


@dataclass(frozen=True)
class Purpose:
    """What an arm is for: a figure colours by it, so that a control is never mistaken for the claimed arm."""

    name: str
    words: str
    colour: str


CLAIMED = Purpose("claimed", words="the claimed arm", colour="#d55e00")
BOUND = Purpose("bound", words="bounds: nothing added, trained there", colour="#000000")
CONTROL = Purpose("control", words="positive control", colour="#0072b2")
PLACEBO = Purpose("placebo", words="placebos: nothing known is moved", colour="#6e6e6e")
SMALLER = Purpose("smaller", words="smaller forms", colour="#b87a00")
INSTEAD = Purpose("instead", words="what a user would do instead", colour="#009e73")
RECIPE_OF_RECORD = Purpose("recipe", words="the published recipe", colour="#b5548d")
PURPOSES = (CLAIMED, BOUND, CONTROL, PLACEBO, SMALLER, INSTEAD, RECIPE_OF_RECORD)


@dataclass(frozen=True)
class Recipe:
    """How one arm is made in one regime.

    Args:
        net: whose domain net: `source`, `home` (of a third module of the target), `oracle`, `wrong` (another domain's),
            `random`, `permuted` (the source's), `start` (of the module it starts from) or `none`.
        rotation: `aligned` (source space), `home` (the home module's), `own` (the oracle's space), `other` (the wrong
            domain's), `inverse` (folded as the original does) or `identity`.
        start: `redrawn` (a fresh interface), `carried` (the source's, by least squares on general text: the net then
            stays in the source's space), `carried-other` (the same of the wrong domain's module), `before` (the
            candidate's native module) or `as-is` (the portable module of the source, with nothing calibrated).
        trains: `interface`, `all`, or `published` (all but the module's norm, as the original).
        form: `module`, `linear`, `bias` or `lora` (an adapted backbone, which has its own job: `arms/lora_fit.py`).
        draws: draws per seed where the arm is random and cheap (closed form only).
        closed: whether a closed form says anything that another arm's does not.
        teacher: whose module teaches on the source backbone, beside the regime's own objective: `source`, `permuted`
            (the source's with its net permuted), `wrong` (another domain's), or "" for nobody.
    """

    net: Literal["source", "home", "oracle", "wrong", "random", "permuted", "start", "none"] = "none"
    rotation: Literal["aligned", "home", "own", "other", "inverse", "identity"] = "identity"
    start: Literal["redrawn", "carried", "carried-other", "before", "as-is"] = "redrawn"
    trains: Literal["interface", "all", "published"] = "interface"
    form: Literal["module", "linear", "bias", "lora"] = "module"
    draws: int = 1
    closed: bool = True
    teacher: Literal["source", "permuted", "wrong", ""] = ""

    def given(self) -> dict[str, str | int | bool]:
        """Return field -> value of what is not the default."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}


@dataclass(frozen=True)
class Arm:
    """One way to fill a target's module, or a bound that needs none.

    Args: recipes: regime -> how it is made there; an arm without one is no fit. of_kind: kind -> what it is there,
        where that differs. seeded: whether something of its seed is in it (a network, a teacher, the order of
        windows), so that two seeds cannot give equal bits per byte. apart: whether it reads other windows
        than the target, in its own tokens, so that a document may be another length there or be missing.
    """

    name: str
    purpose: Purpose
    words: str = "-"
    of_kind: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    seeded: bool = True
    apart: bool = False


def _recipes(
    *, domain_text: Recipe, general_only: Recipe | None = None, zero_text: Recipe | None = None, **others: Recipe
) -> dict[str, Recipe]:
    """Return regime -> recipe of an arm. Args: domain_text: of the regimes that see some: oracle-kd and few-shot."""
    unseen = {"general-only": general_only, "zero-text": zero_text}
    found = {"oracle-kd": domain_text, "few-shot": domain_text, **others}
    return found | {regime: recipe for regime, recipe in unseen.items() if recipe is not None}


def _few(recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipe of an arm of `few-shot` alone.

    The student is one and the same whoever teaches it: the source's net behind the source's interface. So an arm and
    its placebos differ in nothing but the lesson, and their difference is what the lesson is worth. A placebo that held
    its teacher's net too would also differ by what that net is worth, which `transferred` - `permuted` says.
    """
    return {"few-shot": recipe}


# In the order in which tables and figures show them; laid out by hand (fmt: skip), as a table of entries.
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(
            RAW, BOUND, seeded=False, words="the plain backbone, nothing added",
            of_kind={"update": "the plain backbone after the update, nothing added"},
        ),
        Arm(RAW_BEFORE, BOUND, seeded=False, words="the plain backbone before any update"),
        Arm(RAW_FREE, BOUND, words="the plain backbone after an update without the stability term"),
        Arm(UNTRAINED, BOUND, words="an interface nobody trained, without a net: where the original's E4 starts"),
        Arm(
            REFERENCE, BOUND,
            words="a second module trained on the target itself; agreement is measured against it, "
            "and it teaches nobody",
        ),
        Arm(
            ORACLE, BOUND, words="a module trained on the target itself with the whole budget",
            of_kind={
                "update": "a module trained on the updated backbone with the whole budget",
                "atlas": "a module trained on the domain with the whole budget; "
                "its corrections are what charts are solved for",
            },
        ),
        Arm(ORACLE_BEFORE, BOUND, words="a module trained on the backbone before any update"),
        Arm(
            BEFORE, BOUND, words="the regressed module as it was before the regression",
            of_kind={"update": "the module on the backbone it was trained beside"},
        ),
        Arm(
            SOURCE_ALONE, INSTEAD, apart=True,
            words="the source backbone with its own module: is there any point in moving",
        ),
        Arm(
            NGRAM, INSTEAD, seeded=False,
            words="an n-gram model of the source's domain text, mixed with the plain backbone: nothing is trained",
        ),
        Arm(
            HOME, CONTROL, recipes=_recipes(domain_text=Recipe("home", "home")),
            words="positive control: the net of a third module of the target, moved and calibrated like the claim",
        ),
        Arm(
            HOME_IDENTITY, CONTROL, recipes=_recipes(domain_text=Recipe("home", "identity")),
            words="the positive control's net without the rotation: is it the net or its rotation",
        ),
        Arm(
            NATIVE, BOUND, recipes=_recipes(domain_text=Recipe("oracle", "own")),
            words="the oracle's own net behind a redrawn interface, calibrated like the moved one: an upper end",
        ),
        Arm(
            CANDIDATE, CLAIMED, recipes={"reconstruction": Recipe("start", start="before", trains="all")},
            words="the claimed arm of a reconstruction: the second module, regressed",
        ),
        Arm(
            TRANSFERRED, CLAIMED, recipes=_recipes(
                domain_text=Recipe("source", "aligned"), general_only=Recipe("source", start="carried"),
                zero_text=Recipe("source", start="as-is"),
            ),
            words="the claimed arm of a transfer: the source's net, its interface calibrated",
        ),
        Arm(ZERO_SHOT, CLAIMED, words="the claimed arm: the module as it is, on the updated backbone"),
        Arm(CHART, CLAIMED, words="the claimed arm: the shared module with the domain's own chart"),
        Arm(
            ZERO_SHOT_FREE, PLACEBO,
            words="control: the module as it is, after an update without the stability term",
        ),
        Arm(
            RANDOM, PLACEBO, words="placebo: a net of random weights, calibrated with the same budget",
            of_kind={
                "update": "placebo: a module nobody trained",
                "atlas": "placebo: a net of random weights in the shared interface, with the domain's own chart",
            },
            recipes=_recipes(
                domain_text=Recipe("random", "aligned", draws=3),
                general_only=Recipe("random", start="carried", draws=3),
                zero_text=Recipe("random", start="as-is", draws=3),
                reconstruction=Recipe("random", start="before", draws=3),
            ),
        ),
        Arm(RANDOM_NET, PLACEBO, words="placebo: the module's own interface around a net of random weights"),
        Arm(
            PERMUTED, PLACEBO,
            words="placebo: the source's net with its weights shuffled, calibrated with the same budget",
            of_kind={"atlas": "placebo: the shared net with its weights shuffled, with the domain's own chart"},
            recipes=_recipes(
                domain_text=Recipe("permuted", "aligned", draws=3),
                general_only=Recipe("permuted", start="carried", draws=3),
                zero_text=Recipe("permuted", start="as-is", draws=3),
            ),
        ),
        Arm(
            IDENTITY, PLACEBO, recipes=_recipes(domain_text=Recipe("source", "identity")),
            words="the source's net without the rotation between the two spaces",
        ),
        Arm(
            AS_PUBLISHED, RECIPE_OF_RECORD,
            recipes=_recipes(domain_text=Recipe("source", "inverse", trains="published", closed=False)),
            words="the original's recipe as it is, which also trains the net it calls frozen",
        ),
        Arm(SHARED, SMALLER, of_kind={"atlas": "the shared module as it is, no chart"}),
        Arm(
            NO_DOMAIN, SMALLER,
            recipes=_recipes(
                domain_text=Recipe("none"), general_only=Recipe("none", start="carried"),
                zero_text=Recipe("none", start="as-is"),
            ),
            words="the interface alone, no net between its projections",
        ),
        Arm(ZERO_SHOT_OFF, SMALLER, words="the module without its net"),
        Arm(ORACLE_OFF, SMALLER, words="the oracle without its net"),
        Arm(BEFORE_OFF, SMALLER, words="the module without its net, before any update"),
        Arm(RANDOM_OFF, SMALLER, words="an interface nobody trained, without a net"),
        Arm(
            LINEAR, SMALLER, words="one linear map instead of a module",
            recipes=_recipes(
                domain_text=Recipe(form="linear"), general_only=Recipe(form="linear"),
                reconstruction=Recipe(form="linear"),
            ),
        ),
        Arm(LINEAR_NARROW, SMALLER, words="one linear map of the rank that a module's map has"),
        Arm(
            BIAS, SMALLER, words="one constant shift of the next-token scores",
            recipes=_recipes(
                domain_text=Recipe(form="bias"), general_only=Recipe(form="bias"),
                zero_text=Recipe(form="bias", start="as-is"),
            ),
        ),
        Arm(
            UNFROZEN, INSTEAD, words="the moved net, free to train",
            recipes=_recipes(
                domain_text=Recipe("source", "aligned", trains="all", closed=False),
                general_only=Recipe("source", start="carried", trains="all", closed=False),
            ),
        ),
        Arm(
            DIRECT, INSTEAD, recipes=_recipes(
                domain_text=Recipe("random", "identity", trains="all", closed=False),
                general_only=Recipe("random", start="carried", trains="all", closed=False),
            ),
            words="a fresh module trained on the target with the budget of the calibration",
        ),
        Arm(
            LORA, INSTEAD, recipes=_recipes(domain_text=Recipe(form="lora", closed=False)),
            words="LoRA adapters on the target with the budget of the calibration",
        ),
        Arm(
            WRONG_DOMAIN, PLACEBO, recipes=_recipes(
                domain_text=Recipe("wrong", "other"), general_only=Recipe("wrong", start="carried-other"),
                zero_text=Recipe("wrong", start="as-is"),
            ),
            words="a net that learned other text, moved the same way",
        ),
        Arm(
            CARRIED, INSTEAD, recipes=_few(Recipe("source", start="carried", closed=False)),
            words="the moved net behind the source's interface, carried on general text; nobody teaches it",
        ),
        Arm(
            SOURCE_TAUGHT, INSTEAD, recipes=_few(Recipe("source", start="carried", closed=False, teacher="source")),
            words="the moved net behind the source's interface; on the same windows the source with its module teaches",
        ),
        Arm(
            PERMUTED_TAUGHT, PLACEBO, recipes=_few(Recipe("source", start="carried", closed=False, teacher="permuted")),
            words="placebo: the same student, taught by the source's module with its net shuffled",
        ),
        Arm(
            WRONG_TAUGHT, PLACEBO, recipes=_few(Recipe("source", start="carried", closed=False, teacher="wrong")),
            words="placebo: the same student, taught by the source's module of another domain",
        ),
    )
}  # fmt: skip


def arm_words(kind: str, arm: str) -> str:
    """Return what an arm is in a claim of some kind, `-` where nothing is known of it."""
    kind = "update" if kind == "succession" else kind
    for start in (CHART_OF, RANDOM_OF):
        if arm.startswith(start):
            return f"the chart of {arm.removeprefix(start)}" + (" with a random net" if start == RANDOM_OF else "")
    if arm.endswith(CALIBRATED):
        return f"the same as `{arm.removesuffix(CALIBRATED)}`, calibrated on general text to say what the moved says"
    if arm.startswith(MIXED):
        return f"two charts mixed, the first by {arm.removeprefix(MIXED)} %"
    known = ARMS.get(arm)
    return "-" if known is None else known.of_kind.get(kind, known.words)


def recipes_of(arms: Iterable[str], regime: str) -> dict[str, Recipe]:
    """Return arm -> how it is made in a regime, of those arms that are fitted there."""
    return {arm: ARMS[arm].recipes[regime] for arm in arms if regime in ARMS[arm].recipes}


def fitted_in(regime: str) -> tuple[str, ...]:
    """Return every arm that can be fitted in a regime."""
    return tuple(recipes_of(ARMS, regime))


def teachers(recipes: Iterable[Recipe]) -> tuple[str, ...]:
    """Return whose modules teach some arms on the source backbone, each once (`Recipe.teacher`)."""
    return tuple(dict.fromkeys(recipe.teacher for recipe in recipes if recipe.teacher))


def reads_source(recipes: Iterable[Recipe]) -> bool:
    """Return whether the fit of some arm reads what the source backbone makes of a text."""
    return any(recipe.teacher or recipe.start.startswith("carried") for recipe in recipes)


def frozen_net(arm: str, regime: str) -> str | None:
    """Return whose trained net an arm holds frozen (`source`, `home`, `oracle`, `wrong`), or None where it has none."""
    recipe = ARMS[arm].recipes.get(regime)
    moved = recipe is not None and recipe.net in {"source", "oracle", "home", "wrong"} and recipe.trains == "interface"
    return recipe.net if recipe is not None and moved else None
