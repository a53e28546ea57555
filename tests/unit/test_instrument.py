from dataclasses import replace

import numpy as np
import pytest
from evidence_rows import CRITERIA

from abi.base.job import Job
from abi.base.manifests.pages import InstrumentManifest
from abi.base.names import AGREEMENT
from abi.judge.contrasts import Measure
from abi.judge.protocol import BPB
from abi.judge.simulation import (
    FAST,
    FULL,
    LIMITS,
    Cell,
    Design,
    coverage,
    designs,
    draw,
    first_grid,
    measure_cell,
    measure_design,
    power_designs,
    run,
    second_grid,
    simulate,
)
from abi.report.instrument_page import render

JS = Measure("js_nats", "domain")


def rng():
    return np.random.default_rng(0)


def rates(design, studies=400):
    return measure_design(design, studies, CRITERIA, rng()).rates


@pytest.mark.parametrize("shape", ["normal", "skewed", "t3", "uniform", "outlying"])
def test_effects_have_mean_zero_and_spread_one(shape):
    x = draw(rng(), shape, (400_000,))
    assert x.mean() == pytest.approx(0, abs=0.01)
    assert x.std() == pytest.approx(1, abs=0.1 if shape == "t3" else 0.01)


def test_an_effect_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="no effect"):
        draw(rng(), "cauchy", (3,))


def test_intervals_cover_on_a_plain_cell():
    cell = Cell(5, 60, "normal", 0.03, "normal", 0.01, 0.04)
    assert coverage(cell, 2000, 0.95, rng()) == pytest.approx(0.95, abs=0.02)


def test_a_lower_level_covers_less():
    cell = Cell(10, 60, "normal", 0.03, "normal", 0.01, 0.04)
    assert coverage(cell, 1000, 0.80, rng()) == pytest.approx(0.80, abs=0.05)


def test_a_cell_just_outside_is_rerun_with_more_tables():
    cells = [measure_cell(cell, replace(FAST, tables=100, rerun=300), 0.95, rng()) for cell in first_grid(FAST)]
    assert {cell.tables for cell in cells} == {100, 300}


def test_the_full_grids_are_those_of_the_protocol():
    cells = list(first_grid(FULL))
    assert {cell.seed_sd for cell in cells} == {0, 0.002, 0.005, 0.01, 0.02}
    assert {(cell.n_seeds, cell.n_groups) for cell in cells} == {(s, d) for s in (3, 5, 10) for d in (60, 200)}
    assert {(cell.groups, cell.group_sd) for cell in cells} == {
        (g, sd) for g in ("normal", "skewed") for sd in (0.03, 0.1)
    }
    assert {cell.groups for cell in second_grid(FULL)} == {"t3", "normal"}
    assert {cell.seeds for cell in second_grid(FULL)} == {"normal", "uniform", "outlying"}
    assert (FULL.tables, FULL.rerun) == (4000, 20000)


def test_simulated_gap_has_the_standard_error_it_claims():
    design = Design("home", 8.0, n_groups=20)
    tables = simulate(design, 1500, rng())
    gaps = (tables[JS]["home"] - tables[JS]["random"]).mean((-2, -1))
    assert gaps.std() == pytest.approx(design.standard_error(), rel=0.06)
    assert gaps.mean() == pytest.approx(8 * design.standard_error(), rel=0.02)


def test_simulated_metrics_are_correlated():
    tables = simulate(Design("home", 8.0, n_groups=20), 1500, rng())
    means = [tables[Measure(metric, "domain")]["home"].mean((-2, -1)) for metric in AGREEMENT]
    means.append(tables[BPB]["home"].mean((-2, -1)))
    off_diagonal = np.corrcoef(means)[np.triu_indices(5, 1)]
    assert off_diagonal == pytest.approx(0.7, abs=0.06)


def test_every_kind_of_candidate_is_asked():
    assert {design.kind for design in designs(FULL)} == set(LIMITS)
    assert {design.kind for design in power_designs(FULL)} == {"home"}


def test_a_random_candidate_is_refuted_and_never_supported():
    found = rates(Design("random", 8.0))
    assert found["SUPPORTED"] <= 0.01
    assert found["REFUTED"] > 0.8


def test_a_candidate_at_half_of_the_gap_is_rarely_judged():
    found = rates(Design("half", 8.0))
    assert found["SUPPORTED"] <= 0.045
    assert found["a"] <= 0.07


@pytest.mark.parametrize(("n_seeds", "gap"), [(3, 12.0), (5, 8.0), (10, 6.0)])
def test_the_right_net_is_supported_and_not_refuted(n_seeds, gap):
    found = rates(Design("home", gap, n_seeds))
    assert found["SUPPORTED"] >= 0.8
    assert found["a or c"] <= 0.02


def test_where_no_net_matters_it_is_refuted_and_never_supported():
    found = rates(Design("no net", 3.5))
    assert found["SUPPORTED"] == 0
    assert found["REFUTED"] >= 0.75


def test_verdict_rates_add_up_to_one():
    found = rates(Design("home", 4.0), 100)
    assert sum(found[name] for name in ("SUPPORTED", "REFUTED", "INCONCLUSIVE", "VACUOUS")) == pytest.approx(1)


def test_power_grows_with_the_gap():
    found = [rates(Design("home", gap), 150)["SUPPORTED"] for gap in (2.0, 5.0, 10.0)]
    assert found == sorted(found)
    assert found[0] < 0.2 < 0.8 < found[-1]


def test_a_broken_limit_is_reported_as_a_fault():
    record = measure_design(Design("home", 2.0), 100, CRITERIA, rng())
    assert record.faults[0].startswith("SUPPORTED")


def test_a_run_is_plain_repeatable_data_and_renders(tmp_path):
    small = replace(FAST, tables=50, rerun=50, studies=20, power=10, n_seeds=(5,))
    results = run(CRITERIA, small, seed=1)
    assert results == run(CRITERIA, small, seed=1)
    made = Job("instrument", {}, "c", [], 1).provenance()
    InstrumentManifest.model_validate({"figures": results, "provenance": made}).write(tmp_path / "i.json")
    assert InstrumentManifest.read(tmp_path / "i.json").figures.plain() == results.plain()
    text = render(results)
    assert "800 tables of 16 kinds" in text
    for section in text.split("## ")[1:]:
        assert len({line.count("|") for line in section.strip().splitlines()[2:]}) == 1, section


def test_unfriendly_cells_stay_above_their_limit():
    found = [coverage(cell, 2000, 0.95, rng()) for cell in second_grid(replace(FAST, n_seeds=(3, 5, 10)))]
    assert min(found) > 0.90
