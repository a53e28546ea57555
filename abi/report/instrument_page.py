"""The instrument's figures as Markdown: limits of protocol section 5 and what was seen, power and what it rests on."""

from collections.abc import Iterable, Sequence

from abi.base import page_manifests
from abi.base.catalogue import NATIVE, RANDOM
from abi.base.page_manifests import InstrumentFigures, SimulatedKind
from abi.judge.simulation import COVERAGE, LIMITS, asked
from abi.report.render import Cell, Table, markdown

FIRST = "interval of 95 % covers, first grid"
SECOND = "interval of 95 % covers, second grid (unfriendly effects)"
CANDIDATES = {
    RANDOM: "C distributed as `random`",
    "half": "C at half of the gap",
    NATIVE: "C distributed as `native`",
    "no net": "no net matters",
}
RATES = {"SUPPORTED": "SUPPORTED", "REFUTED": "REFUTED", "a": "REFUTED by (a)", "a or c": "REFUTED by (a) or (c)"}


def render(figures: InstrumentFigures) -> str:
    """Return the figures of a run (`judge.simulation.run`) as sections of Markdown."""
    seeds = sorted({cell.n_seeds for cell in figures.coverage.first.cells})
    heads = ["limit", "asked", *(f"{n} seeds" for n in seeds), "state", "simulated"]
    limits = Table(heads, [*coverage_rows(figures, seeds), *verdict_rows(figures, seeds)])
    sections = {
        "Limits and what was seen": markdown(limits),
        "Tables outside their limit": _outside(figures),
        "Power: SUPPORTED / REFUTED for a net as good as the right one": _power(figures.power),
        "What the power rests on beside the gap": conditions(figures.conditions),
        "Every simulated kind of study": _studies(figures.studies),
    }
    return "\n\n".join("\n".join([f"## {title}", "", *lines]) for title, lines in sections.items()) + "\n"


def coverage_rows(figures: InstrumentFigures, seeds: Sequence[int]) -> list[list[str]]:
    """Return one row per grid: the range of coverage per number of seeds, and the cells outside."""
    rows = []
    for part, words in ((figures.coverage.first, FIRST), (figures.coverage.second, SECOND)):
        cells = part.cells
        seen = [_range([cell.coverage for cell in cells if cell.n_seeds == n], 1) for n in seeds]
        tables = f"{sum(cell.tables for cell in cells):,} tables of {len(cells)} kinds"
        rows.append([words, limit_words(*part.limits), *seen, _state(len(part.outside), len(cells)), tables])
    return rows


def verdict_rows(figures: InstrumentFigures, seeds: Sequence[int]) -> list[list[str]]:
    """Return one row per limit on the whole rule: its range per number of seeds, and the studies outside."""
    rows = []
    for kind, limits in LIMITS.items():
        for rate, (least, most) in limits.items():
            of_limit = [study for study in figures.studies if study.kind == kind and rate in study.rates]
            told = [study for study in of_limit if asked(kind, rate, study.n_seeds)]
            seen = [_range([study.rates[rate] for study in told if study.n_seeds == n], 2) for n in seeds]
            outside = sum(not least <= study.rates[rate] <= most for study in told)
            studies = f"{sum(study.studies for study in told):,} studies of {len(told)} kinds"
            words = f"{CANDIDATES[kind]}: {RATES[rate]}"
            rows.append([words, limit_words(least, most), *seen, _state(outside, len(told)), studies])
    return rows


def coverage_by_seeds(figures: InstrumentFigures) -> list[str]:
    """Return how often the interval covers on the first grid, by number of seeds: the evidence for a wider limit."""
    least, most, wider = COVERAGE[0], COVERAGE[1], COVERAGE[1] + 0.01
    cells = figures.coverage.first.cells
    rows: list[list[Cell]] = []
    for n in sorted({cell.n_seeds for cell in cells}):
        found = [cell.coverage for cell in cells if cell.n_seeds == n]
        above = [sum(rate > limit for rate in found) for limit in (most, wider)]
        rows.append([n, len(found), _range(found, 2), sum(rate < least for rate in found), *above])
    limits = (f"below {percent(least)}", f"above {percent(most)}", f"above {percent(wider)}")
    return markdown(Table(["seeds", "kinds of table", "interval covers", *limits], rows))


def limit_words(least: float, most: float) -> str:
    """Return a limit on a rate in words."""
    if most == 0:
        return "never"
    if least == 0:
        return f"at most {percent(most)}"
    if most == 1:
        return f"at least {percent(least)}"
    return f"{percent(least)} to {percent(most)}"


def percent(rate: float, digits: int | None = None) -> str:
    """Return a rate in per cent, with as many digits as it has or as are asked for."""
    return f"{100 * rate:.6g} %" if digits is None else f"{100 * rate:.{digits}f} %"


def _range(rates: Sequence[float], digits: int) -> str:
    if not rates:
        return "-"
    low, high = (f"{100 * rate:.{digits}f}" for rate in (min(rates), max(rates)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _state(outside: int, total: int) -> str:
    return "inside" if not outside else f"**outside** in {outside} of {total} kinds"


def _outside(figures: InstrumentFigures) -> list[str]:
    grids = {"first": figures.coverage.first, "second": figures.coverage.second}
    rows = [[name, *_cell(cell)] for name, grid in grids.items() for cell in grid.outside]
    heads = ["grid", "seeds", "groups", "groups' effect, sd", "seeds' effect, sd", "residual sd", "tables", "coverage"]
    return markdown(Table(heads, rows)) if rows else ["None."]


def _cell(cell: page_manifests.Cell) -> list[str]:
    shape = [f"{cell.groups}, {cell.group_sd:g}", f"{cell.seeds}, {cell.seed_sd:g}", f"{cell.residual_sd:g}"]
    return [str(cell.n_seeds), str(cell.n_groups), *shape, f"{cell.tables:,}", percent(cell.coverage, 2)]


def _power(power: Iterable[SimulatedKind]) -> list[str]:
    """Return one row per number of seeds and seed share, one column per gap."""
    cells = {
        (r.n_seeds, r.seed_share, r.gap_se): f"{r.rates['SUPPORTED']:.0%} / {r.rates['REFUTED']:.0%}" for r in power
    }
    gaps = sorted({gap for *_, gap in cells})
    shares = sorted({(n, share) for n, share, _ in cells})
    rows: list[list[Cell]] = [[n, percent(share, 0), *(cells[n, share, gap] for gap in gaps)] for n, share in shares]
    return markdown(Table(["seeds", "seeds' part of the variance", *(f"{gap:g} SE" for gap in gaps)], rows))


def conditions(studies: Iterable[SimulatedKind]) -> list[str]:
    """Return the chances of a verdict at the gap that is to be resolved, by room and by distance to the harm limit."""
    rows: list[list[Cell]] = []
    for study in studies:
        about = [f"{study.gap_se:g} SE", f"{study.room:g} (U - P)", f"{study.harm_margin_se:.0f} SE"]
        rates = [percent(study.rates[name], 1) for name in ("SUPPORTED", "REFUTED", "c")]
        rows.append([study.n_seeds, *about, *rates])
    heads = ["seeds", "U - P", "room F - R", "distance to the harm limit", "SUPPORTED", "REFUTED", "by (c)"]
    return markdown(Table(heads, rows))


def _studies(studies: Iterable[SimulatedKind]) -> list[str]:
    names = ("SUPPORTED", "REFUTED", "a", "a or c", "b")
    rows: list[list[Cell]] = []
    for study in studies:
        about: list[Cell] = [study.kind, study.regime, study.n_seeds, percent(study.seed_share, 0), f"{study.gap_se:g}"]
        rates = [percent(study.rates[name], 1) if name in study.rates else "-" for name in names]
        rows.append([*about, *rates, "; ".join(study.faults) or "none"])
    return markdown(Table(["candidate", "regime", "seeds", "seeds' part", "gap, SE", *names, "outside"], rows))
