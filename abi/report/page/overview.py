"""What stands first: the summary for a newcomer, the ladder of claims, what is not claimed, how to read the rest."""

from collections import Counter
from collections.abc import Sequence

from abi.base.catalogue import KINDS, arm_words
from abi.base.names import VERDICTS
from abi.judge.results import AnyResult, BackboneFacts, Result
from abi.report.page.blocks import Block, Bullets, Fold, Para, Section
from abi.report.page.facts import Facts
from abi.report.render import Table, figure
from abi.report.verdicts import claim_row
from abi.report.words import deciding, grouped, in_order, in_words, listed, number, regime_of, studies, verdict_words

CLAIMED = (
    "**What was claimed.** The original repository reports that a small domain module, trained once beside a "
    "frozen language model, goes on working when it is moved to another frozen model and only the two thin "
    "projections around it are calibrated anew."
)
LADDER = (
    "Every row is generated from a result file. **Published criteria here** applies the original's own "
    "thresholds to held-out documents, for the claimed arm and for the control arms: where controls pass as "
    "well, passing says nothing. The verdict follows the protocol, which was fixed before any run; the test and "
    "interval behind each word stand in the claim's own section."
)
METRICS = (
    "JS is the Jensen-Shannon divergence between the next-token distributions of an arm and of the reference (0 "
    "is equal, less is better); top-5 is the share of the five likeliest tokens both name; bits per byte is the "
    "loss on held-out text in a unit that does not depend on the tokenizer."
)
FAMILIES = {
    "transfer": "transfers",
    "reconstruction": "the reconstruction",
    "update": "updates and successions",
    "atlas": "the atlas",
}


def anchor(result: AnyResult) -> str:
    """Return the anchor of a result's section."""
    return f"claim-{result.claim.id}"


def summary(facts: Facts) -> Section:
    """Return what was claimed and what was found, in one paragraph that is generated from the verdicts."""
    heads = [head for head, _ in grouped(facts.results)]
    published = sum(head.claim.id in facts.spec.counted for head in heads)
    tested = (
        f"**What was found.** {number(len(heads), 'claim')} ({published} of them published there) "
        f"{'was' if len(heads) == 1 else 'were'} tested again at scale `{facts.spec.scale}` "
        f"({facts.spec.description}) on held-out documents, each beside control arms that get the same "
        f"calibration: {_counted(heads)}."
    )
    parts = [CLAIMED, tested, _others(facts), _own_share(heads), _criteria(heads), f"{facts.headline}."]
    note = Para("**The budgets of this scale only test the machinery: its verdicts mean nothing.**", "lead")
    lead = Para(" ".join(part for part in parts if part), "lead")
    return Section("summary", "In one paragraph", [note, lead] if facts.spec.meaningless else [lead])


def _counted(results: Sequence[AnyResult]) -> str:
    found = Counter[str](result.verdict for result in results)
    return listed([f"{found[word]} **{word}**" for word in VERDICTS if found[word]] or ["no verdict yet"])


def _others(facts: Facts) -> str:
    others = [other for _, regimes in grouped(facts.results) for other in regimes]
    if not others:
        return ""
    of_them = f"({number(len(others), 'regime')} of them)"
    return f"The same claims where the target side sees less text or no teacher {of_them}: {_counted(others)}."


def _own_share(results: Sequence[AnyResult]) -> str:
    """Return how much of what the moved modules gain is their own and not the calibration's."""
    fits = [deciding(result) for result in results if result.claim.kind == "transfer"]
    shares = [fit.share.estimate for fit in fits if fit is not None and fit.share is not None]
    known = sorted(100 * share for share in shares if share is not None)
    if not known:
        return ""
    span = f"{figure(known[0])} %" if len(known) == 1 else f"between {figure(known[0])} and {figure(known[-1])} %"
    return (
        f"Where a module was moved to another model ({number(len(known), 'claim')}), {span} of what it gains there is "
        "its own; the rest is gained just as well by a net of random weights, or by its own weights shuffled, after "
        "the same calibration."
    )


def _criteria(results: Sequence[AnyResult]) -> str:
    """Return how often the claimed arms and the controls meet the original's own thresholds."""
    own: list[bool] = []
    controls: list[bool] = []
    for result in (result for result in results if isinstance(result, Result)):
        met, arm = result.deciding.published_criteria, KINDS[result.claim.kind].claimed
        if met is not None and arm in met.arms:
            own.append(met.arms[arm].passed)
            controls += [met.arms[name].passed for name in met.controls if name in met.arms]
    if not own:
        return ""
    return (
        f"The original's own pass marks, applied to documents nothing was trained on, are met by {sum(own)} of "
        f"{len(own)} claimed arms and by {sum(controls)} of {len(controls)} control arms, which move no knowledge."
    )


def ladder(facts: Facts) -> Section:
    """Return the table of all claims with their verdicts."""
    rows = []
    for result, others in grouped(facts.results):
        _, _, published, criteria, _, reason = claim_row(result)
        beside = "; ".join(f"{regime_of(other)} **{other.verdict}**" for other in others) or "-"
        verdict = verdict_words(result).replace(result.verdict, f"**{result.verdict}**")
        link = f"[{result.claim.id}](#{anchor(result)})"
        rows.append([link, verdict, published, criteria, in_words(result, facts.spec.criteria) or reason, beside])
    heads = ["claim", "verdict", "published", "published criteria here", "why", "other regimes"]
    blocks: list[Block] = [Para(LADDER), Table(heads, rows)]
    if facts.spec.pending:
        names = [f"`{name}` ({title})" for name, title in facts.spec.pending.items()]
        blocks.append(Para(f"Not run at this scale, without a verdict: {listed(names)}.", "note"))
    return Section("ladder", "The claim ladder", blocks)


def limits(facts: Facts) -> Section:
    """Return what the verdicts do not say, from the configuration and the results."""
    backbones: dict[str, BackboneFacts] = {}
    for result in facts.results:
        backbones |= result.backbones if isinstance(result, Result) else {}
    words = [
        f"`{name}` ({about.model_class}, {about.n_parameters:,} parameters, {about.revision[:12]})"
        for name, about in sorted(backbones.items())
    ]
    texts = sorted({f"`{result.claim.text}`" for result in facts.results if result.claim.text})
    regimes = sorted({regime_of(result) for result in facts.results})
    items = [
        f"Scale `{facts.spec.scale}`: {facts.spec.description}. The verdicts hold for these backbones and this text: "
        f"{'; '.join(words) or 'backbones as configured'}; text {listed(texts)}.",
        f"{_sampled(facts)} are sampled, backbones are not: another backbone of the same size may behave otherwise.",
        f"Regimes that were measured: {listed(regimes)}. A verdict speaks of its own regime alone.",
    ]
    if facts.spec.scale != "paper":
        names = "scale `paper` names them, and it is not this run"
        items.append(f"Nothing here says what happens with the published models: {names}.")
    items += [
        "Non-inferior is not identical, and a refuted recipe is no proof that no recipe works.",
        "Nothing here is about production use, other languages or other domains.",
    ]
    return Section("limits", "What this does not claim", [Bullets(items)])


def _sampled(facts: Facts) -> str:
    counts = [fit.counts for result in facts.results for fit in result.studies.values()]
    seeds = sorted({len(count.seeds) for count in counts})
    groups = sorted({count.groups["domain"] for count in counts if "domain" in count.groups})
    if not seeds or not groups:
        return "Documents and seeds"
    span = [str(n[0]) if n[0] == n[-1] else f"{n[0]} to {n[-1]}" for n in (groups, seeds)]
    return f"Documents ({span[0]} held-out groups) and seeds ({span[1]})"


def reading(facts: Facts) -> Section:
    """Return the words that a reader needs: verdicts, metrics, arms."""
    half, level = facts.spec.criteria.half, 100 * facts.spec.criteria.level
    verdicts = [
        "**SUPPORTED**: every required test of the protocol holds at its level.",
        "**REFUTED**: the opposite of a required property is shown, for example that less than "
        f"{half:g} of what the right net adds is kept.",
        "**INCONCLUSIVE**: neither is shown; the reason names the first test that is not shown, and the gap this study "
        "could have resolved.",
        "**VACUOUS**: the oracle itself gains next to nothing, so there is nothing to move.",
    ]
    intervals = (
        f"Intervals are at {level:g} % over groups of documents and seeds. Figures have three significant digits."
    )
    return Section("reading", "How to read this", [Bullets(verdicts), Para(f"{METRICS} {intervals}"), *_arms(facts)])


def _arms(facts: Facts) -> list[Fold]:
    """Return a folded table of arms per kind of claim: one name may mean another thing in another kind."""
    seen: dict[str, set[str]] = {}
    for result in facts.results:
        family = "update" if result.claim.kind == "succession" else result.claim.kind
        for fit in studies(result).values():
            seen.setdefault(family, set()).update(fit.arms)
    folds = []
    for kind, arms in seen.items():
        rows = [[f"`{arm}`", arm_words(kind, arm)] for arm in in_order(arms)]
        folds.append(Fold(f"The {len(arms)} arms of {FAMILIES.get(kind, kind)}", [Table(["arm", "what it is"], rows)]))
    return [fold for fold, arms in zip(folds, seen.values(), strict=True) if arms]
