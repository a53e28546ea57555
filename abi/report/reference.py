"""The committed run of a scale: its results, and the pages that are committed beside them."""

from pathlib import Path

from abi.base.files import ROOT
from abi.base.names import PAGES
from abi.judge.results import AnyResult, read_result
from abi.plan.config import load
from abi.plan.measured import REFERENCE, committed
from abi.plan.specs.judge import Summarise
from abi.plan.workflow import Workflow
from abi.report import transfers
from abi.report.verdicts import headline_of, summary_pages


def reference_results(scale: str) -> list[AnyResult]:
    """Return the committed result files of a scale, in the order of the claims; a reference may hold some of them."""
    order = {Path(path).name: place for place, path in enumerate(Workflow(load(scale)).page_files("summary"))}
    return [read_result(path) for path in sorted(committed(scale), key=lambda path: order.get(path.name, len(order)))]


def reference_pages(scale: str) -> dict[str, str]:
    """Return path from the checkout -> text of the pages that are committed beside the results of a scale.

    They are made of these results, some of which may have been adopted alone.
    """
    there = {path.stem: path.relative_to(ROOT).as_posix() for path in (REFERENCE / scale).glob("*.md")}
    if not there:
        return {}
    workflow, results, made = Workflow(load(scale)), reference_results(scale), dict[str, str]()
    for page in (page for page in PAGES if page in there):
        listed = [result for result in results if result.claim.id in workflow.listed(page)]
        spec = Summarise.model_validate(workflow.page_spec(page))
        made[there[page]] = summary_pages(listed, headline_of(listed, spec).sentence)[".md"]
    if path := there.get("transfer"):
        made[path] = transfers.page(transfers.moved_of(results))
    return made
