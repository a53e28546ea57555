"""The instrument's figures as Markdown: limits of protocol section 5 and what was seen, power and what it rests on."""

from collections.abc import Iterable, Sequence

from abi.base.manifests.pages import InstrumentFigures, SimulatedKind
from abi.base.names import HOME, RANDOM
from abi.judge.simulation import COVERAGE, LIMITS, asked
from abi.report.render import Cell, Table, markdown

FIRST = "interval of 95 % covers, first grid"
SECOND = "interval of 95 % covers, second grid (unfriendly effects)"
CANDIDATES = {
    RANDOM: "C distributed as `random`",
    "half": "C at half of the gap",
    "share": "C owns a tenth of its gain, against every placebo",
    "share of the best": "C owns a tenth of its gain, against the best placebo",
    HOME: "C distributed as `home`",
    "no net": "no net matters",
}
RATES = {
    "SUPPORTED": "SUPPORTED",
    "REFUTED": "REFUTED",
    "a": "REFUTED by (a)",
    "b": "REFUTED by (b)",
    "a or c": "REFUTED by (a) or (c)",
}


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
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items()) + "\n"


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
    for kind, rate, limits in ((kind, *limit) for kind, of_kind in LIMITS.items() for limit in of_kind.items()):
        of_kind = [study for study in figures.studies if study.kind == kind and rate in study.rates]
        told = [study for study in of_kind if asked(kind, rate, study.n_seeds)]
        seen = [_range([study.rates[rate] for study in told if study.n_seeds == n], 2) for n in seeds]
        outside = sum(not limits[0] <= study.rates[rate] <= limits[1] for study in told)
        studies = f"{sum(study.studies for study in told):,} studies of {len(told)} kinds"
        words = f"{CANDIDATES[kind]}: {RATES[rate]}"
        rows.append([words, limit_words(*limits), *seen, _state(outside, len(told)), studies])
    return rows


def coverage_by_seeds(figures: InstrumentFigures) -> str:
    """Return how often the interval covers on the first grid, by number of seeds: the evidence for a wider limit."""
    least, most, wider = COVERAGE[0], COVERAGE[1], COVERAGE[1] + 0.01
    by_seeds: dict[int, list[float]] = {}
    for cell in figures.coverage.first.cells:
        by_seeds.setdefault(cell.n_seeds, []).append(cell.coverage)
    rows: list[list[Cell]] = []
    for n, found in sorted(by_seeds.items()):
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
    return f"at least {percent(least)}" if most == 1 else f"{percent(least)} to {percent(most)}"


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


def _outside(figures: InstrumentFigures) -> str:
    rows: list[list[Cell]] = []
    for name, grid in (("first", figures.coverage.first), ("second", figures.coverage.second)):
        for c in grid.outside:
            shape = [f"{c.groups}, {c.group_sd:g}", f"{c.seeds}, {c.seed_sd:g}", f"{c.residual_sd:g}"]
            rows.append([name, c.n_seeds, c.n_groups, *shape, f"{c.tables:,}", percent(c.coverage, 2)])
    heads = ["grid", "seeds", "groups", "groups' effect, sd", "seeds' effect, sd", "residual sd", "tables", "coverage"]
    return markdown(Table(heads, rows)) if rows else "None."


def _power(power: Iterable[SimulatedKind]) -> str:
    """Return one row per number of seeds and seed share, one column per gap."""
    rates = {(s.n_seeds, s.seed_share, s.gap_se): (s.rates["SUPPORTED"], s.rates["REFUTED"]) for s in power}
    cells = {key: f"{supported:.0%} / {refuted:.0%}" for key, (supported, refuted) in rates.items()}
    gaps = sorted({gap for *_, gap in cells})
    shares = sorted({(n, share) for n, share, _ in cells})
    rows: list[list[Cell]] = [[n, percent(share, 0), *(cells[n, share, gap] for gap in gaps)] for n, share in shares]
    return markdown(Table(["seeds", "seeds' part of the variance", *(f"{gap:g} SE" for gap in gaps)], rows))


def conditions(studies: Iterable[SimulatedKind]) -> str:
    """Return the chances of a verdict at the gap that is to be resolved, by room and by distance to the harm limit."""
    rows: list[list[Cell]] = []
    for study in studies:
        about = [f"{study.gap_se:g} SE", f"{study.room:g} (U - P)", f"{study.harm_margin_se:.0f} SE"]
        rows.append([study.n_seeds, *about, *_rates(study, ("SUPPORTED", "REFUTED", "c"))])
    heads = ["seeds", "U - P", "room F - R", "distance to the harm limit", "SUPPORTED", "REFUTED", "by (c)"]
    return markdown(Table(heads, rows))


def _studies(studies: Iterable[SimulatedKind]) -> str:
    names = ("SUPPORTED", "REFUTED", "a", "a or c", "b")
    rows: list[list[Cell]] = []
    for s in studies:
        about = [percent(s.seed_share, 0), f"{s.gap_se:g}", *_rates(s, names), "; ".join(s.faults) or "none"]
        rows.append([s.kind, s.regime, s.n_seeds, *about])
    return markdown(Table(["candidate", "regime", "seeds", "seeds' part", "gap, SE", *names, "outside"], rows))


def _rates(study: SimulatedKind, names: Iterable[str]) -> list[str]:
    return [percent(study.rates[name], 1) if name in study.rates else "-" for name in names]
