"""The instrument's figures as Markdown: limits of protocol section 5 and what was seen, power, what power rests on (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abi.judge.simulation import COVERAGE, LIMITS, asked
from abi.report.tables import table

Record = Mapping[str, Any]
GRIDS = {
    "first": "interval of 95 % covers, first grid",
    "second": "interval of 95 % covers, second grid (unfriendly effects)",
}
CANDIDATES = {
    "random": "C distributed as `random`",
    "half": "C at half of the gap",
    "native": "C distributed as `native`",
    "no net": "no net matters",
}
RATES = {"SUPPORTED": "SUPPORTED", "REFUTED": "REFUTED", "a": "REFUTED by (a)", "a or c": "REFUTED by (a) or (c)"}


def render(figures: Record) -> str:
    """Return the figures of a run (`instrument.run`) as sections of Markdown."""
    seeds = sorted({cell["n_seeds"] for cell in figures["coverage"]["first"]["cells"]})
    lines = ["## Limits and what was seen", ""]
    heads = ["limit", "asked", *(f"{n} seeds" for n in seeds), "state", "simulated"]
    lines += table(heads, [*coverage_rows(figures, seeds), *verdict_rows(figures, seeds)])
    lines += ["", "## Tables outside their limit", "", *_outside(figures)]
    lines += ["", "## Power: SUPPORTED / REFUTED for a net as good as the right one", "", *_power(figures["power"])]
    lines += ["", "## What the power rests on beside the gap", "", *conditions(figures["conditions"])]
    lines += ["", "## Every simulated kind of study", "", *_studies(figures["studies"])]
    return "\n".join(lines) + "\n"


def coverage_rows(figures: Record, seeds: Sequence[int]) -> list[list[str]]:
    """Return one row per grid: the range of coverage per number of seeds, and the cells outside."""
    rows = []
    for name, words in GRIDS.items():
        part = figures["coverage"][name]
        cells, (least, most) = part["cells"], part["limits"]
        seen = [_range([cell["coverage"] for cell in cells if cell["n_seeds"] == n], 1) for n in seeds]
        tables = f"{sum(cell['tables'] for cell in cells):,} tables of {len(cells)} kinds"
        rows.append([words, limit_words(least, most), *seen, _state(len(part["outside"]), len(cells), "kinds"), tables])
    return rows


def verdict_rows(figures: Record, seeds: Sequence[int]) -> list[list[str]]:
    """Return one row per limit on the whole rule: the range of its rate per number of seeds, and the studies outside."""
    rows = []
    for kind, limits in LIMITS.items():
        for rate, (least, most) in limits.items():
            of_limit = [s for s in figures["studies"] if s["kind"] == kind and rate in s["rates"]]
            told = [s for s in of_limit if asked(kind, rate, s["n_seeds"])]
            seen = [_range([s["rates"][rate] for s in told if s["n_seeds"] == n], 2) for n in seeds]
            outside = [s for s in told if not least <= s["rates"][rate] <= most]
            studies = f"{sum(s['studies'] for s in told):,} studies of {len(told)} kinds"
            words = f"{CANDIDATES[kind]}: {RATES[rate]}"
            rows.append([words, limit_words(least, most), *seen, _state(len(outside), len(told), "kinds"), studies])
    return rows


def coverage_by_seeds(figures: Record) -> list[str]:
    """Return how often the interval covers on the first grid, by number of seeds: the evidence for a wider limit."""
    cells = figures["coverage"]["first"]["cells"]
    rows = []
    for n in sorted({cell["n_seeds"] for cell in cells}):
        found = [cell["coverage"] for cell in cells if cell["n_seeds"] == n]
        above = [sum(rate > limit for rate in found) for limit in (COVERAGE[1], COVERAGE[1] + 0.01)]
        below = sum(rate < COVERAGE[0] for rate in found)
        rows.append([str(n), str(len(found)), _range(found, 2), *map(str, (below, *above))])
    limits = (f"below {percent(COVERAGE[0])}", f"above {percent(COVERAGE[1])}", f"above {percent(COVERAGE[1] + 0.01)}")
    return table(["seeds", "kinds of table", "interval covers", *limits], rows)


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


def _state(outside: int, total: int, unit: str) -> str:
    return "inside" if not outside else f"**outside** in {outside} of {total} {unit}"


def _outside(figures: Record) -> list[str]:
    rows = []
    for name, part in figures["coverage"].items():
        for cell in part["outside"]:
            shape = [f"{cell['groups']}, {cell['group_sd']:g}", f"{cell['seeds']}, {cell['seed_sd']:g}"]
            size = [str(cell["n_seeds"]), str(cell["n_groups"])]
            rows.append(
                [name, *size, *shape, f"{cell['residual_sd']:g}", f"{cell['tables']:,}", percent(cell["coverage"], 2)]
            )
    heads = ["grid", "seeds", "groups", "groups' effect, sd", "seeds' effect, sd", "residual sd", "tables", "coverage"]
    return table(heads, rows) if rows else ["None."]


def _power(power: Iterable[Record]) -> list[str]:
    """Return one row per number of seeds and seed share, one column per gap."""
    cells = {
        (r["n_seeds"], r["seed_share"], r["gap_se"]): f"{r['rates']['SUPPORTED']:.0%} / {r['rates']['REFUTED']:.0%}"
        for r in power
    }
    gaps = sorted({gap for *_, gap in cells})
    rows = [
        [str(n), percent(share, 0), *(cells[n, share, gap] for gap in gaps)]
        for n, share in sorted({(n, share) for n, share, _ in cells})
    ]
    return table(["seeds", "seeds' part of the variance", *(f"{gap:g} SE" for gap in gaps)], rows)


def conditions(studies: Iterable[Record]) -> list[str]:
    """Return the chances of a verdict at the gap that is to be resolved, by room and by distance to the harm limit."""
    rows = []
    for r in studies:
        rates = r["rates"]
        about = [str(r["n_seeds"]), f"{r['gap_se']:g} SE", f"{r['room']:g} (U - P)", f"{r['harm_margin_se']:.0f} SE"]
        rows.append([*about, percent(rates["SUPPORTED"], 1), percent(rates["REFUTED"], 1), percent(rates["c"], 1)])
    heads = ["seeds", "U - P", "room F - R", "distance to the harm limit", "SUPPORTED", "REFUTED", "by (c)"]
    return table(heads, rows)


def _studies(studies: Iterable[Record]) -> list[str]:
    names = ("SUPPORTED", "REFUTED", "a", "a or c", "b")
    rows = []
    for r in studies:
        about = [r["kind"], r["regime"], str(r["n_seeds"]), percent(r["seed_share"], 0), f"{r['gap_se']:g}"]
        rates = [percent(r["rates"][name], 1) if name in r["rates"] else "-" for name in names]
        rows.append([*about, *rates, "; ".join(r["faults"]) or "none"])
    return table(["candidate", "regime", "seeds", "seeds' part", "gap, SE", *names, "outside"], rows)
