"""The original's loop as an oracle: on the same windows the engine takes the same steps; and what benchmarks say of themselves."""

import ast
from dataclasses import replace

import pytest
import torch
from made_arms import PROVENANCE

from abi.arms import metrics
from abi.audit.results import adopted
from abi.audit.results.places import folders
from abi.base import machine
from abi.base.errors import DataError
from abi.base.files import ROOT
from abi.base.job import hardware
from abi.base.manifests.speed import Benchmark, Growth, Point, SpeedManifest, Target, Targets
from abi.plan.yaml_files import read_yaml
from abi.report import speed
from benchmarks import growth, reference, rows, timing
from benchmarks.sides import Shape, Sides

SMALL = Shape("kd", 61, width=16, layers=2, positions=12, taps=(2,), d_abi=8, batch=4, rate=3e-3)
SHAPES = {
    "correction-mse on T5": replace(SMALL, kind="correction-mse", prefix=6, taps=(1, 2), tap_norms=True, micro=4, weight_decay=0.0),
    "kd on GPT-2": SMALL,
    "kd on GPT-2 in two parts": replace(SMALL, micro=2),
    "kd on T5": replace(SMALL, prefix=6),
    "ce on GPT-2": replace(SMALL, kind="ce"),
    "ce on T5": replace(SMALL, kind="ce", prefix=6, taps=(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_engine_takes_the_steps_of_the_originals_loop(name, tmp_path):
    sides, steps = Sides.of(SHAPES[name], 20, tmp_path), 12
    [student], [trained] = sides.fit(steps)
    loop = sides.training(dropout=False)
    losses = [loop.step(sides.micro_batches(step)) for step in range(steps)]
    assert trained.losses == pytest.approx(losses, rel=2e-5)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3), "nothing was learned, so nothing was compared"
    start = sides.shape.modules()[0].state_dict()
    for key, value in loop.student.state_dict().items():
        assert torch.allclose(student.state_dict()[key], value, atol=2e-4), key
        assert not torch.equal(value, start[key]), f"{key} did not train"


def test_the_originals_student_has_dropout_and_its_teacher_has_none(tmp_path):
    sides = Sides.of(SMALL, 8, tmp_path)
    same, [tokens] = reference.Module(16, (2,), 8).requires_grad_(False), sides.micro_batches(0)
    given = [sides.model, same, same, tokens, "correction-mse"]
    assert float(reference.loss(*given, dropout=False)) == 0
    assert float(reference.loss(*given, dropout=True)) > 0


def test_agreement_of_a_window_is_that_of_the_published_formulas():
    torch.manual_seed(0)
    one = 3 * torch.randn(40, 300)
    other = one + 0.3 * torch.randn(40, 300)
    found = metrics.agreement(metrics.distribution(one), metrics.distribution(other))
    for name, values in reference.nib(one, other).items():
        assert torch.allclose(found[name], values, atol=2e-6), name


def test_turns_are_timed_without_the_first_and_count_the_work_of_a_step(tmp_path):
    sides = Sides.of(SMALL, 8, tmp_path)
    found = sides.turns(3)
    assert len(found.engine) == len(found.reference) == len(found.without_dropout) == len(found.product) == 3
    positions, head = 4 * 12, 16 * 61
    module = 16 * 8 + 2 * 8 * 32 + 8 * 16
    least = 2 * positions * (3 * head + 2 * module)
    assert least <= found.flop <= 2 * positions * (3 * head + 3 * module)


def test_peak_memory_is_what_something_takes_above_what_is_there():
    kept = torch.ones(8 * timing.MIB)
    found = timing.peak_mib(lambda: torch.ones(16 * timing.MIB).sum())
    assert found is None or found == pytest.approx(64, abs=6)
    assert float(kept[0]) == 1


MORE, LESS = Target(better="more", gate=2.0, goal=3.0), Target(better="less", gate=40.0)


@pytest.mark.parametrize(
    ("target", "value", "words"),
    [
        (MORE, 3.0, "gate and goal met"),
        (MORE, 2.5, "gate met, goal not"),
        (MORE, 1.0, "gate missed by a factor of 2.00"),
        (LESS, 40.0, "gate met"),
        (LESS, 60.0, "gate missed by a factor of 1.50"),
    ],
)
def test_a_target_says_in_words_whether_it_is_met(target, value, words):
    assert target.words(value) == words


@pytest.fixture
def made():
    here = machine.Machine(hardware=hardware(), threads=1, load=3.0, gflops=50.0)
    own = {"targets": {"ratio": MORE}, "rounds": 5}
    lines = [
        Benchmark(name="a", title="A step", seconds=0.5, reference_s=1.25, ratio=2.5, share=0.6, **own),
        Benchmark(name="b", title="B step", seconds=1.0, reference_s=1.0, ratio=1.0, **own),
        Benchmark(name="c", title="C", rounds=1, targets={"memory_mib": LESS}),
    ]
    points = [Point(size=size, seconds=0.1 * size, flop=100 * size) for size in (1, 2, 4)]
    curve = Growth(name="arms", title="Arms", points=points, slope=1.0, theory=1.0)
    return SpeedManifest(
        machine=here, load_after=4.0, elapsed_s=120.0, benchmarks=lines, growth=[curve], provenance=PROVENANCE
    )  # fmt: skip


def test_the_page_says_what_is_missed_and_on_what_machine(made, tmp_path):
    made.write(tmp_path / "benchmarks.json")
    text = speed.page(SpeedManifest.read(tmp_path / "benchmarks.json"))
    for told in ("load of 3.0 before and 4.0 after. The machine was shared.", "50 GFLOP", "1 of 3 gates are missed.",
                 "| A step | times faster | 2.5 | >= 2 | >= 3 | gate met, goal not |", "not measured on this system",
                 "| Arms | 1, 2, 4 | 100, 200, 400 | 1 | 1 |"):  # fmt: skip
        assert told in text
    assert "The machine was shared" not in speed.page(made.model_copy(update={"load_after": 1.0, "machine":
        made.machine.model_copy(update={"load": 0.9})}))  # fmt: skip


def test_the_figure_has_a_panel_and_the_slopes_of_every_curve(made):
    found = speed.drawing(made)
    assert "Arms: slope 1.00, of the operations 1.00" in found
    assert found == speed.drawing(made)


def test_a_slope_is_that_of_the_power_of_a_cost():
    assert growth.slope([2, 4, 8], [3 * size**1.5 for size in (2, 4, 8)]) == pytest.approx(1.5)


def test_every_target_belongs_to_a_benchmark_that_is_measured():
    tree = ast.parse((ROOT / "benchmarks/rows.py").read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert {*read_yaml(ROOT / "benchmarks/targets.yaml", Targets).benchmarks} <= texts


def test_benchmarks_are_adopted_only_if_they_are_some_and_are_no_results(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "results" / "reference" / "benchmarks.json"
    monkeypatch.setattr(adopted, "TIMED", place)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "benchmarks.json").write_text("{}")
    with pytest.raises(DataError):
        adopted.adopt("benchmarks")
    assert not place.exists()
    made.write("results/benchmarks.json")
    adopted.adopt("benchmarks")
    assert SpeedManifest.read(place) == SpeedManifest.read("results/benchmarks.json")
    assert folders() == []


@pytest.mark.long
def test_kd_at_the_largest_vocabulary_stays_below_its_gate():
    """Gemma's: what a step takes above head, states and targets, which the committed benchmark measured once."""
    target = read_yaml(ROOT / "benchmarks/targets.yaml", Targets).benchmarks["kd-memory"]["memory_mib"]
    assert 0 < rows.memory_of_kd().memory_mib <= target.gate


def test_ways_take_turns_and_what_comes_before_one_is_not_counted():
    called = []
    ways = {"one": lambda: called.append("one"), "other": lambda: called.append("other")}

    def prepared():
        called.append("before")
        sum(range(10_000_000))

    spent = timing.in_turns(ways, 2, before={"other": prepared})
    assert called == ["one", "before", "other"] * 3
    assert max(spent["other"]) < timing.seconds_of(lambda: sum(range(10_000_000)))
