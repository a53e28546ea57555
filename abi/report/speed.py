"""The benchmarks as Markdown and as a figure: what was measured beside what it was to reach, and how cost grows."""

from typing import Any

from abi.base.manifests.speed import Benchmark, Growth, Quantity, SpeedManifest, Target
from abi.base.wording import number
from abi.report.figures import CYCLE, MARKERS, Drawing, svg_of
from abi.report.render import Cell, Table, figure, markdown

RATE = "of the machine's rate"
HEADS: dict[Quantity, str] = {"ratio": "times faster", "seconds": "s", "memory_mib": "MiB", "share": RATE}


def page(made: SpeedManifest) -> str:
    """Return everything as a page of its own."""
    return f"# Speed\n\n{sections(made)}\n"


def sections(made: SpeedManifest) -> str:
    """Return the machine, the table, what it was to reach, and the curves."""
    gates = Table(["what", "measured", "value", "gate", "goal", ""], judged(made.benchmarks))
    missed = sum(len(one.missed) for one in made.benchmarks)
    told = f"{missed} of {len(gates.rows)} gates are missed." if missed else "No gate is missed."
    parts = [machine(made), markdown(lines(made.benchmarks)), told, markdown(gates), markdown(curves(made.growth))]
    return "\n\n".join(parts)


def machine(made: SpeedManifest) -> str:
    """Return in words on what was measured: processor, threads, load, rate."""
    here, found = made.machine, made.machine.hardware
    loads = [load for load in (here.load, made.load_after) if load is not None]
    busy = f", with a load of {' before and '.join(f'{load:.1f}' for load in loads)} after" if len(loads) == 2 else ""
    shared = " The machine was shared." if loads and max(loads) > here.threads + 0.5 else ""
    return (
        f"Measured on {found.cpu} ({found.cpus} cores, {found.system}), {number(here.threads, 'thread')}"
        f"{busy}.{shared} Times are CPU seconds, medians; the variants alternate in one process, so that a load "
        f"hits all of them. The machine multiplies fp32 matrices at {here.gflops:.0f} GFLOP per CPU second (numpy). "
        f"All of it took {made.elapsed_s / 60:.1f} minutes."
    )


def lines(benchmarks: list[Benchmark]) -> Table:
    """Return one row per benchmark."""
    rows: list[list[Cell]] = [
        [
            one.title,
            figure(one.reference_s),
            figure(one.seconds),
            figure(one.ratio),
            figure(one.memory_mib),
            "-" if one.share is None else f"{one.share:.0%}",
            one.note or "-",
        ]
        for one in benchmarks
    ]
    heads = ["what", "original, s", "abi, s", "times faster", "MiB above inputs", RATE, "note"]
    return Table(heads, rows)


def judged(benchmarks: list[Benchmark]) -> list[list[Cell]]:
    """Return one row per quantity that is to reach something: its value, gate and goal, and whether it meets them."""
    return [_judged(one, quantity, target) for one in benchmarks for quantity, target in one.targets.items()]


def _judged(one: Benchmark, quantity: Quantity, target: Target) -> list[Cell]:
    value, sign = one.value(quantity), {"more": ">=", "less": "<="}[target.better]
    limits = ["-" if limit is None else f"{sign} {limit:g}" for limit in (target.gate, target.goal)]
    words = "not measured on this system" if value is None else target.words(value)
    return [one.title, HEADS[quantity], figure(value), *limits, words]


def curves(growth: list[Growth]) -> Table:
    """Return one row per curve: its sizes, costs, and slope against theory."""
    rows: list[list[Cell]] = []
    for one in growth:
        sizes = ", ".join(f"{point.size:,}" for point in one.points)
        costs = ", ".join(figure(1000 * point.seconds) for point in one.points)
        rows.append([one.title, sizes, costs, figure(one.slope), figure(one.theory)])
    return Table(
        ["a KD step grows with", "sizes", "ms", "slope (log over log)", "slope of the counted operations"], rows
    )


def drawing(made: SpeedManifest) -> str:
    """Return the curves as one figure in SVG: cost over size, and the counted operations as a dashed line."""
    rows = [(one.name, point.size, point.seconds, point.flop) for one in made.growth for point in one.points]
    words = "; ".join(f"{one.title}: slope {one.slope:.2f}, of the operations {one.theory:.2f}" for one in made.growth)
    caption = "CPU time of a KD step against size; dashed, the same as its counted operations grow"
    columns = ("curve", "size", "seconds", "flop")

    def draw(panel: Any) -> None:
        places = panel.subplots(1, len(made.growth), squeeze=False)[0]
        for i, (axes, one) in enumerate(zip(places, made.growth, strict=True)):
            sizes, costs = [p.size for p in one.points], [1000 * p.seconds for p in one.points]
            last = one.points[-1]
            axes.loglog(sizes, costs, color=CYCLE[i], marker=MARKERS[i], markersize=4, linewidth=1)
            ideal = [1000 * last.seconds * p.flop / last.flop for p in one.points]
            axes.loglog(sizes, ideal, color="#777777", linestyle="--", linewidth=0.8)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45, minor=False)
            axes.set_xticks([], minor=True)
            axes.set_xlabel(one.title, fontsize=7)
        places[0].set_ylabel("ms per step")

    return svg_of(Drawing("benchmarks", caption, words, columns, rows, draw, (2.2 * len(made.growth), 2.4)))
