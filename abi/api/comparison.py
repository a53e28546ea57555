"""What `compare` says: verdict, options with intervals and cost, an answer, a choice (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from abi.base.catalogue import arm_words
from abi.base.names import DIRECT, LORA, NGRAM, ORACLE, PERMUTED, RANDOM, RAW, SOURCE_ALONE, TRANSFERRED
from abi.base.typed import Count, Regime, Typed, Verdict
from abi.judge.contrasts import Contrast
from abi.judge.fits import Figure, Fit, IntervalFound
from abi.judge.intervals import interval
from abi.judge.protocol import BPB
from abi.judge.tables import FitTables
from abi.plan.specs.judge import Criteria
from abi.report.render import Table, bounds, figure, markdown, terminal

SHOWN = (TRANSFERRED, RANDOM, PERMUTED, DIRECT, LORA, NGRAM, ORACLE, RAW, SOURCE_ALONE)
"""The options that the table shows, in its order."""
RETRAINED = (DIRECT, LORA)
MOVED = "the module of the source, moved"
MOST_HARM = 0.1
"""Harm to general text that is not worth a sentence, as a share of the gain on the domain."""
Answer = Literal["yes", "no", "not shown"]


class Cost(Typed):
    """What an option costs on the target: seconds of one fit, the numbers that are trained, and memory."""

    seconds: float
    n_trained: Count
    memory_mb: float | None
    """The most that its fits took beside what was in memory before; arms that are fitted together share a figure."""


class Option(Typed):
    """One way to have a model of the domain. Bits per byte on held-out text: less is better."""

    arm: str
    bits_per_byte: Figure
    general: Figure | None
    """The same on general text."""
    lead: IntervalFound | None
    """How many bits per byte the moved module is better by, where there are documents and seeds enough."""
    mean_lead: float | None
    """The mean of it; None where the arm was scored on other documents."""
    cost: Cost | None
    """None where nothing is fitted."""

    @property
    def words(self) -> str:
        """What it is."""
        return MOVED if self.arm == TRANSFERRED else arm_words("transfer", self.arm)


class Comparison(Typed):
    """The answer to *is moving better than retraining, here?*; `str()` gives it as a table."""

    regime: Regime
    source: str
    target: str
    verdict: Verdict
    """Of the protocol: is it the moved net that helps."""
    reason: str
    answer: Answer
    """Whether moving is better than retraining with the same budget."""
    choice: str
    """The arm to choose."""
    why: str
    options: list[Option]
    fit: Fit
    """Every arm, test and interval of the verdict."""
    seconds: float
    """Of this call, and of the seeds that it went on from; of a seed that a kill cut off only what came after."""

    def table(self) -> Table:
        """Return the options as a table."""
        heads = ["option", "bits per byte", "moved is better by", "general text", "seconds", "MB", "trained numbers"]
        rows = [[o.arm, *_cells(o), *_costs(o.cost)] for o in self.options if o.arm in SHOWN]
        return Table(heads, rows)

    def __str__(self) -> str:
        lines = [self._title(), "", *terminal(self.table()), ""]
        lines += [f"  {option.arm}: {option.words}" for option in self.options if option.arm in SHOWN]
        return "\n".join([*lines, "", *self._said()])

    def markdown(self) -> str:
        """Return the same as Markdown, for a model card."""
        return "\n".join([self._title(), "", markdown(self.table()), "", *self._said()])

    def _title(self) -> str:
        counts = self.fit.counts
        rests = f"{counts.documents['domain']} held-out documents, {len(counts.seeds)} seeds"
        return f"{self.source} to {self.target}, regime {self.regime}: {self.verdict} ({rests})"

    def _said(self) -> list[str]:
        return [
            f"Verdict: {self.verdict}. {self.reason}",
            f"Is moving better than retraining with the same budget? {self.answer.capitalize()}.{self._rivals()}",
            f"Choice among moving, retraining and the plain target: {self.choice}. {self.why}",
        ]

    def _rivals(self) -> str:
        """Return which form of retraining was not tried, "" where all were."""
        untried = [arm for arm in RETRAINED if arm not in {option.arm for option in self.options}]
        return f" (Not tried: {', '.join(untried)}.)" if untried else ""


def _cells(option: Option) -> list[str]:
    """Return bits per byte, lead and general text of an option as text."""
    own, general, lead = option.bits_per_byte, option.general, option.lead
    mean = "-" if option.mean_lead is None else figure(option.mean_lead)
    ahead = mean + ("" if lead is None else bounds(lead.lower, lead.upper))
    return [
        figure(own.mean, 4) + bounds(own.lower, own.upper),
        "-" if option.arm == TRANSFERRED else ahead,
        "-" if general is None else figure(general.mean, 4),
    ]


def _costs(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["-"] * 3
    return [figure(cost.seconds), "-" if cost.memory_mb is None else f"{cost.memory_mb:.0f}", str(cost.n_trained)]


def options_of(fit: Fit, tables: FitTables, criteria: Criteria, costs: Mapping[str, Cost]) -> list[Option]:
    """Return every arm of a fit as an option, the moved module first, then as the table shows them."""
    turned = tables.turned()[BPB]
    found = []
    for arm, figures in fit.arms.items():
        if BPB.metric not in figures.domain:
            continue
        lead = Contrast("lead", BPB, {TRANSFERRED: 1, arm: -1})
        alike = turned[arm].shape == turned[TRANSFERRED].shape
        same = alike and arm != TRANSFERRED
        sizes = {"min_groups": criteria.min_groups, "min_seeds": criteria.min_seeds}
        found.append(
            Option(
                arm=arm,
                bits_per_byte=figures.domain[BPB.metric],
                general=figures.general.get(BPB.metric),
                lead=interval(lead.table({BPB: turned}), level=criteria.level, **sizes) if same else None,
                mean_lead=float(turned[TRANSFERRED].mean() - turned[arm].mean()) if alike else None,
                cost=costs.get(arm),
            )
        )
    order = {arm: i for i, arm in enumerate(SHOWN)}
    return sorted(found, key=lambda option: order.get(option.arm, len(order)))


def answered(options: Sequence[Option]) -> Answer:
    """Return whether the moved module is shown to be better than every form of retraining, or worse than one."""
    leads = [option.lead for option in options if option.arm in RETRAINED]
    if any(lead is not None and lead.upper < 0 for lead in leads):
        return "no"
    return "yes" if leads and all(lead is not None and lead.lower > 0 for lead in leads) else "not shown"


def chosen(verdict: Verdict, answer: Answer, options: Sequence[Option]) -> tuple[str, str]:
    """Return the arm to choose, and why in a few sentences."""
    by_arm = {option.arm: option for option in options}
    rivals = [by_arm[arm] for arm in RETRAINED if arm in by_arm]
    if answer == "no":
        rivals = [one for one in rivals if one.lead is not None and one.lead.upper < 0]
    retrained = min(rivals, key=_bits, default=None)
    moved, raw, source = by_arm[TRANSFERRED], by_arm[RAW], by_arm.get(SOURCE_ALONE)
    if verdict == "VACUOUS":
        return RAW, "A module trained on the target itself gains nothing here: there is nothing to move."
    if retrained is not None and answer != "yes" and _bits(raw) <= min(_bits(retrained), _bits(moved)):
        arm = RAW
        said = "Neither the moved module nor retraining with the same budget beats the plain target, on average."
    elif retrained is not None and answer != "yes" and _bits(retrained) < _bits(raw):
        arm = retrained.arm
        said = {
            "no": f"`{arm}` is better than the moved module, with the same budget and without the source model.",
            "not shown": f"The moved module is not shown to be better than `{arm}`, which needs no source model.",
        }[answer]
    elif raw.lead is not None and raw.lead.lower > 0:
        arm = TRANSFERRED
        said = "The moved module is better than the plain target"
        if answer == "yes":
            said += " and than retraining with the same budget."
        else:
            said += "." if retrained is None else "; retraining with the same budget is not, on average."
    else:
        arm, said = RAW, "The moved module is not shown to be better than the plain target."
    if arm == TRANSFERRED and verdict != "SUPPORTED":
        said += " It is not shown that its own net does it: see the placebos."
    said += _harm(by_arm[arm], raw)
    native = by_arm.get(ORACLE)
    if native is not None and _bits(native) < _bits(by_arm[arm]):
        said += " A module trained on all of `texts` on the target itself is better still, where that is allowed."
    counted = by_arm.get(NGRAM)
    if counted is not None and _bits(counted) < _bits(by_arm[arm]):
        said += (
            " An n-gram model of the same text, mixed with the plain target, is better still on these texts and trains "
            "nothing; ask yourself whether you need a module."
        )
    if source is not None and source.mean_lead is not None and _bits(source) < min(_bits(moved), _bits(by_arm[arm])):
        said += " If you may keep the source model, it is better still on these texts, with its own module."
    return arm, said


def _harm(option: Option, raw: Option) -> str:
    """Return what an option costs on general text, "" where it is little beside what it gains."""
    if option.general is None or raw.general is None:
        return ""
    harm = option.general.mean - raw.general.mean
    told = f" General text gets worse by {figure(harm)} bits per byte."
    return told if harm > MOST_HARM * (_bits(raw) - _bits(option)) > 0 else ""


def _bits(option: Option) -> float:
    return option.bits_per_byte.mean
