"""The original's supporting experiments on one page: what it says, the verdict, the one figure that decides it."""

from collections.abc import Iterable, Mapping, Sequence

from abi.base.regimes import EXPERIMENT
from abi.base.wording import number
from abi.judge.results import AnyResult, StudyResult
from abi.plan.specs.experiments import Asked, Statement, said
from abi.report.render import Cell, Table, link, markdown
from abi.report.statements import decided_by, told
from abi.report.words import MEANINGLESS, verdict_words

HEADS = ["experiment", "the original says, in our words", "verdict", "a placebo passes", "what decides it"]
CAPTION = "Every sentence of the original that rests on one of its supporting experiments"
NONE_YET = "No experiment was run here yet."


def experiments_of(results: Iterable[AnyResult]) -> list[StudyResult]:
    """Return the experiments among some results."""
    return [result for result in results if isinstance(result, StudyResult) and result.claim.kind == EXPERIMENT]


def statements_table(results: Iterable[AnyResult], *, linked: bool = False) -> Table:
    """Return a row per statement of every experiment. Args: linked: whether experiments are links to their section."""
    rows: list[list[Cell]] = []
    for result in experiments_of(results):
        name = link(result.claim.id) if linked else f"`{result.claim.id}`"
        rows += [[name, one.statement, f"**{one.verdict}**", one.placebo, decided_by(one)] for one in told(result)]
    return Table(HEADS, rows, CAPTION)


def page(results: Sequence[AnyResult]) -> str:
    """Return the page of all experiments as Markdown."""
    found = experiments_of(results)
    if not found:
        return f"# Experiments\n\n{NONE_YET}\n"
    first, counted = found[0], number(sum(len(told(result)) for result in found), "statement")
    words = [[f"`{r.claim.id}`", r.claim.title, f"**{verdict_words(r)}**", r.claim.record.result_file] for r in found]
    about = (
        f"Scale `{first.scale}`, protocol {first.protocol}. {number(len(found), 'experiment')} of the original with "
        f"{counted}; more is better in every difference, intervals are over groups of documents and seeds."
    )
    registered = (
        "What each statement needs stands in `config/claims.yaml`, every test with its interval in the result file. "
        "`docs/experiments.md` says which tests were changed after their figures were seen. `a placebo passes`: a "
        "random net, made as the arm is, passes the same tests; asked where they set the arm against bounds alone."
    )
    parts = [
        "# Experiments",
        f"{about} **{MEANINGLESS}**" if first.meaningless else about,
        markdown(Table(["experiment", "about", "verdict", "result file"], words)),
        "## Statement by statement",
        markdown(statements_table(found)),
        registered,
        *filter(None, [at_ends(found)]),
    ]
    return "\n\n".join(parts) + "\n"


def at_ends(results: Iterable[AnyResult]) -> str:
    """Return in a sentence which arms chose a learning rate at an end of the grid; nothing where none did."""
    found = []
    for result in experiments_of(results):
        chosen = {} if result.rates is None else result.rates.arms
        if ends := [f"`{arm}`" for arm, one in chosen.items() if one.at_end]:
            found.append(f"`{result.claim.id}` ({', '.join(ends)})")
    told = "Arms whose learning rate lies at an end of the grid, so that one beyond it might suit them better: "
    return f"{told}{'; '.join(found)}." if found else ""


def registered_table(claims: Mapping[str, Mapping[str, Statement]]) -> Table:
    """Return what decides every statement. Args: claims: experiment -> its statements, by name."""
    rows: list[list[Cell]] = [
        [
            f"`{claim}`",
            said(statement),
            "; ".join(asked_words(test) for test in statement.tests.values() if test.required),
        ]
        for claim, statements in claims.items()
        for statement in statements.values()
    ]
    return Table(["experiment", "the original says, in our words", "SUPPORTED where each lower bound is above 0"], rows)


def asked_words(test: Asked) -> str:
    """Return one test as a formula."""
    parts = [
        ("- " if weight < 0 else "+ ") + ("" if abs(weight) == 1 else f"{abs(weight):g} ") + f"`{arm}`"
        for arm, weight in test.weights.items()
    ]
    limit = f" {'+' if test.margin < 0 else '-'} {abs(test.margin):g} `raw`'s figure" if test.margin else ""
    limit += f" {'+' if test.by < 0 else '-'} {abs(test.by):g}" if test.by else ""
    where = f"{test.metric}{' on general text' if test.scope == 'general' else ''}"
    return f"{' '.join(parts).removeprefix('+ ')}{limit} ({where})"
