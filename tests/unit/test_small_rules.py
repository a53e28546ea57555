"""Rules of a line or two that decide figures, each by the smallest case in which a slip would show."""

import hashlib
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch
from evidence_rows import CRITERIA

from abi.arms import portable_fit
from abi.arms.fitting import Budget
from abi.arms.metrics import margins
from abi.arms.portable_fit import coarser, portables
from abi.base.names import CLOSED_FORM, ORACLE, RANDOM, RAW, TRANSFERRED
from abi.base.regimes import MOVED
from abi.judge.contrasts import Contrast, outcome
from abi.judge.fits import Counts, Dropped
from abi.judge.kinds.experiment import alike, of_placebo
from abi.judge.kinds.scaling_law import Course, Point, _findings, arm_means, fit_law
from abi.judge.kinds.transfer import placebo_net_shared, steps_of, transfer_plan, windows_curve
from abi.judge.kinds.update import Dose, _succession_checks
from abi.judge.protocol import BPB
from abi.judge.verdict import _share, too_few
from abi.models.head import Head
from abi.models.loop import Phase, Schedule, Trained
from abi.models.module import AbiModule, ModuleConfig, permute_domain_net, with_net
from abi.models.portable import PortableConfig, PortableModule, Vocabulary, placebos_of
from abi.plan.config import load
from abi.plan.specs.experiments import ArmOfExperiment, Asked
from abi.plan.work import Work
from abi.plan.workflow import Workflow
from abi.text.copies import Copies
from abi.text.documents import split_of
from abi.text.extraction import extract
from abi.text.sources import _in_turn, sections

ROWS = ("fit", "arm", "draw", "seed", "scope", "group", "document", "n_positions", "metric", "value")


# verdicts


def test_the_figures_of_a_law_are_means_over_groups_of_documents_that_are_long_enough():
    rows = [("s", "oracle", 0, 0, "domain", group, f"{group}{i}", n, "js_nats", value)
            for group, i, n, value in [("a", 1, 99, 1.0), ("a", 2, 99, 1.0), ("a", 3, 99, 1.0), ("b", 1, 99, 3.0), ("b", 2, 9, 50.0)]]  # fmt: skip
    assert arm_means(pd.DataFrame(rows, columns=ROWS), "s", 99) == {"oracle": {"js_nats": 2.0}}
    assert arm_means(pd.DataFrame(rows, columns=ROWS), "s", 100 - 91)["oracle"]["js_nats"] == pytest.approx(13.75)


def test_the_strict_word_of_a_law_is_that_of_the_wider_interval():
    widths, noise = [128, 256, 512] * 3, np.random.default_rng(0).normal(0, 0.1, 9)
    points = [Point(f"p{i}", w, m, 10 ** (1 + 0.4 * np.log10(w) - 0.5 * np.log10(m) + e)) for i, (w, m, e) in
              enumerate(zip(widths, np.repeat([1e-3, 4e-3, 2e-2], 3), noise, strict=True))]  # fmt: skip
    courses = [Course((0, 1), (1.0, 0.1), 0.1, None)] * 9
    found = _findings(points, courses, (0.95, 1 - 1e-8))
    assert (found.verdict, found.verdict_at_strict_level) == ("SUPPORTED", "INCONCLUSIVE")
    errors = [
        fit_law(points[:n], 0.95).loo_mae_steps for n in (4, 5)
    ]  # one left out of four leaves three parameters no freedom
    assert [error is None for error in errors] == [True, False]


@pytest.mark.parametrize(("mean", "given"), [(-0.01, True), (-1.0, False)])
def test_a_share_is_withheld_only_where_it_is_shown_that_there_is_no_gain(mean, given):
    draws = np.random.default_rng(0).normal(0, 0.3, (40, 5))
    arms = {TRANSFERRED: mean + draws - draws.mean(), RAW: np.zeros((40, 5)), "random": np.zeros((40, 5)) - 1.0,
            "permuted": np.zeros((40, 5)) - 2.0}  # fmt: skip
    share = _share(arms, MOVED, 0.95)
    assert (share.placebo, bool(share.pieces)) == ("random", given)


@pytest.mark.parametrize("scope", ["domain", "general"])
def test_the_text_with_the_fewest_groups_is_the_one_that_is_too_small(scope):
    groups = {"domain": 60, "general": 60, scope: 5}
    counts = Counts(groups=groups, documents=groups, seeds=[1, 2, 3], dropped=Dropped(seeds=[], documents={}, documents_too_short={}))  # fmt: skip
    plan = transfer_plan("oracle-kd", CRITERIA, {ORACLE, RAW, TRANSFERRED, "home", "random", "permuted"})
    assert too_few(counts, plan, CRITERIA).startswith("5 groups" + (" of general text" if scope == "general" else ""))


def asked(**weights):
    return Asked(metric="js_nats", weights=weights, required=True)


def test_a_placebo_is_asked_instead_only_where_more_of_the_arm_is_better_and_it_was_made_alike():
    made = {"own": ArmOfExperiment(recipe="transferred"), "placebo": ArmOfExperiment(recipe="random"),
            "wide": ArmOfExperiment(recipe="random", width=9), "on": ArmOfExperiment(recipe="transferred", start="own"),
            "other": ArmOfExperiment(recipe="transferred", start="wide")}  # fmt: skip
    assert alike(made, "own", "placebo")
    assert not alike(made, "own", "wide")
    assert not alike(made, "on", "other")
    claim = SimpleNamespace(arms=made)

    def of(placebo="placebo", **weights):
        return of_placebo(claim, SimpleNamespace(tests={"t": asked(**weights)}, about="own", placebo=placebo))

    assert [contrast.weights for contrast in of(own=1.0, oracle=-1.0)] == [{"placebo": 1.0, "oracle": -1.0}]
    assert of(own=-1.0, oracle=1.0) == ()
    assert of("wide", own=1.0, oracle=-1.0) == ()
    assert of(own=1.0, wide=-1.0) == ()


def test_a_dose_is_all_its_steps_and_its_highest_rate():
    phases = [SimpleNamespace(steps=10, lr=1e-3), SimpleNamespace(steps=5, lr=2e-3)]
    update = SimpleNamespace(text="general", training=SimpleNamespace(phases=phases))
    assert Dose.of("s", update, 3, "python") == Dose("s", "general", 45, 2e-3, "python")


def test_a_succession_starts_from_the_domain_that_gains_least():
    arms = ("raw-before", "before", "before-off", "oracle-before", "raw", "zero-shot", "zero-shot-off", "oracle",
            "oracle-off", "random", "random-off", "raw-free", "zero-shot-free", "random-net")  # fmt: skip
    gain = {"python": 0.5, "markdown": 0.1}
    ppl = {
        f"round1-{text}": {arm: 10.0 * (1 - gain[text] if arm == "before" else 1.0) for arm in arms} for text in gain
    }
    ppl = {study: {**of, "zero-shot": 9.0, "oracle": 8.0} for study, of in ppl.items()}
    start, *_ = _succession_checks(SimpleNamespace(texts=["python", "markdown"]), list(ppl), ppl)
    assert (start.id, start.value) == ("start", pytest.approx(0.1))


@pytest.mark.parametrize(("arm", "draw", "shared"), [(RANDOM, 0, False), (RANDOM, 1, True), ("permuted", 0, True)])
def test_the_net_of_the_placebo_is_one_per_seed_in_its_first_draw(arm, draw, shared):
    first = SimpleNamespace(arm=RANDOM, draw=0, seed=1, domain_sha256="a")
    other = SimpleNamespace(arm=arm, draw=draw, seed=1, domain_sha256="b")
    assert placebo_net_shared([first, other], "oracle-kd", {}) is shared


def test_a_ladder_of_steps_goes_up_and_begins_with_the_closed_form():
    def change(**given):
        return SimpleNamespace(model_fields_set=set(given), steps=given.get("steps"))

    changes = {"long": change(steps=900), "short": change(steps=30), "quarter": change(share=0.25)}
    spec = SimpleNamespace(claim=SimpleNamespace(fit="matched"), calibration_steps=300, changes=changes)
    assert list(steps_of(spec).items()) == [(CLOSED_FORM, 0), ("short", 30), ("matched", 300), ("long", 900)]


def test_the_bounds_of_a_ladder_of_windows_are_those_of_its_last_rung():
    def rung(raw):
        return SimpleNamespace(tables={BPB: {RAW: np.array([[raw]]), ORACLE: np.array([[1.0]]), TRANSFERRED: np.array([[raw - 1]])}})  # fmt: skip

    lines = {line.name: line.y for line in windows_curve({8.0: rung(3.0), 64.0: rung(4.0)}).series}
    assert (lines[RAW], lines[TRANSFERRED]) == ([4.0, 4.0], [2.0, 3.0])


@pytest.mark.parametrize(("closed", "holds"), [(True, True), (False, False)])
def test_an_upper_end_on_the_limit_is_below_a_closed_one_alone(closed, holds):
    contrast = Contrast("x", BPB, {RAW: 1}, by=1.0, closed=closed)
    figures = SimpleNamespace(parts=lambda _: SimpleNamespace(mean=np.array(1.0), half=lambda level: 0.0))
    assert bool(outcome(figures, contrast, 0.95, below=True).holds) is holds


def test_the_work_of_a_job_counts_each_pass_through_what_it_runs():
    work = Work(Workflow(load("tiny")))
    held, free = (work.flop("update_backbone", f"gpt2_general.{way}.1.1-3") for way in ("held", "free"))
    assert held / free == pytest.approx(8 / 6)  # the term runs the backbone before the update, too
    assert work.module("gpt2", "standard") == 6 * work.numbers("gpt2", "standard")
    assert [work.by_gradient("gpt2_to_qwen", batch) for batch in ("1-5", "6-10", "1-10")] == [5, 1, 5]
    one, with_variants = (work.stored("train_lora", f"{claim}.1-3") for claim in ("t5_to_gpt2_few_shot", "t5_to_gpt2"))
    rungs = len(work.fit("t5_to_gpt2_few_shot").windows)
    assert one / rungs == with_variants / (1 + len(work.workflow.config.claims["t5_to_gpt2"].variants))


# text


def test_documents_of_a_group_stand_in_the_order_of_their_hashes():
    first, second = sorted(("one", "two"), key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    found = _in_turn({"a": second, "b": first}, "g", "s", "1")
    assert [(file.name, file.key[:4]) for file in found] == [("b", "0000"), ("a", "0001")]


def test_a_copy_is_of_the_document_that_showed_most_of_it_first_and_half_is_not_more_than_half():
    def passage(*numbers):
        return " ".join(f"w{n}x{i}" for n in numbers for i in range(40))

    seen = Copies(0.5)
    assert seen.copied("z", "g1", passage(1, 2)) is None
    assert seen.copied("a", "g2", passage(3)) is None
    assert seen.copied("mostly z", "g3", passage(1, 2, 3)) == "z"
    assert seen.copied("own group", "g1", passage(1, 2, 4)) is None
    owned = Copies(0.5)
    owned.copied("a", "g1", passage(1))
    assert owned.copied("b", "g2", passage(1, 5, 6)) is None
    assert owned.copied("c", "g2", passage(1) + " more") == "a"  # whose group showed it first, though its own did, too
    half = Copies(0.5)
    half.copied("a", "g1", "one two three four five six seven eight")
    twice = "one two three four five six seven eight nine"  # two passages of eight words, one of them seen
    assert half.copied("b", "g2", twice) is None


def test_splits_take_their_shares_of_the_line_one_after_the_other():
    shares = {"train": 0.5, "calibration": 0.1, "test": 0.4}
    found = [split_of(f"g{i}", shares, "salt") for i in range(4000)]
    assert {name: round(found.count(name) / 4000, 1) for name in shares} == shares


def test_code_keeps_two_empty_lines_and_sections_are_as_long_in_bytes():
    assert extract("x = 1\n\n\n\n\n\ny = 2\n", "code", "a.py") == "x = 1\n\n\ny = 2\n"
    assert len(sections("# é\n# b\n", 5)) == 2
    assert len(sections("# é\n# b\n", 6)) == 1


# modules and fits

CONFIG = ModuleConfig(width=8, d_abi=4, taps=(2,))


def test_a_net_is_permuted_along_both_sides_of_each_matrix():
    module = AbiModule(CONFIG, seed=1)
    before = module.domain.net[0].weight.detach().clone()
    permute_domain_net(module, 1)
    rows = [{tuple(sorted(row)) for row in matrix.tolist()} for matrix in (before, module.domain.net[0].weight)]
    assert rows[0] == rows[1]
    assert {tuple(row) for row in before.tolist()} != {tuple(row) for row in module.domain.net[0].weight.tolist()}


def test_a_copy_around_its_own_net_has_its_rotation():
    module = AbiModule(CONFIG, seed=1)
    module.set_rotation(torch.eye(4).flip(0))
    made = with_net(module, module)
    assert torch.equal(made.rotation, module.rotation)
    assert made._rotated


def test_portable_modules_of_a_seed_begin_alike_and_coarser_vocabularies_keep_half_of_the_strings_or_more():
    shape = SimpleNamespace(d_abi=4, expansion=2, context=2, byte_width=3)
    made = portables(shape, ("a", "b"), ["no-domain", "bias"], 3)
    assert len({tuple(module.bytes.weight.flatten().tolist()) for module in made.values()}) == 1
    assert [module.domain is None for module in made.values()] == [False, True, True]
    anchors = [f"x{i:03d}" for i in range(400)]
    kept = [len(set(row.tolist()) - {400}) for row in coarser(anchors, Vocabulary(anchors), 40, seed=1)[1:]]
    assert min(kept) > 0.4 * 400
    assert max(kept) < 400
    assert max(kept) - min(kept) > 0.2 * 400


def test_draws_of_a_portable_placebo_differ():
    module = PortableModule(PortableConfig(("a", "b"), 4, context=2, byte_width=3), 1)
    found = placebos_of(module, {"random": 2, "permuted": 2}, seed=5)
    for arm in ("random", "permuted"):
        one, two = (found[arm, draw].domain.net[0].weight for draw in (0, 1))
        assert not torch.equal(one, two)


def test_a_schedule_has_the_decay_it_is_given_and_as_many_steps_in_each_phase_as_are_asked():
    phases = [SimpleNamespace(steps=n, lr=0.1, warmup=0, decay="constant") for n in (10, 20)]
    assert [phase.steps for phase in Schedule.given(phases, 0.3).phases] == [10, 20]
    assert [phase.steps for phase in Schedule.given(phases, 0.3, 7).phases] == [7, 7]
    assert Schedule.given(phases, 0.3).weight_decay == 0.3


def test_a_budget_has_the_numbers_of_its_configuration():
    phases = [SimpleNamespace(steps=n, lr=1.0, warmup=0, decay="constant") for n in (3, 2)]
    given = SimpleNamespace(
        phases=phases, weight_decay=0.3, batch=4, batch_of="windows", temperature=1.5, kd_weight=0.4, ridge_penalty=7.0,
        windows=None, closed_form_rows=None, variants={"v": SimpleNamespace(steps=9, share=1.0, text="")},
    )  # fmt: skip
    made = Budget.of(SimpleNamespace(budget=given, fit="kd", variants=["v"]))
    assert (made.schedule.weight_decay, made.ridge_penalty) == (0.3, 7.0)
    assert (made.objective.temperature, made.objective.kd_weight) == (1.5, 0.4)
    assert [phase.steps for phase in made.variants["v"].schedule.phases] == [9, 9]


def test_a_step_of_a_portable_module_reads_a_quarter_as_much_general_text_and_draws_by_seed_and_step(monkeypatch):
    orders, drawn = [], []
    monkeypatch.setattr(portable_fit, "BatchOrder", lambda n, batch, seed, of: orders.append((batch, seed)) or [torch.arange(2)] * 9)  # fmt: skip
    monkeypatch.setattr(portable_fit, "losses_of", lambda *_, anchor_of: [])
    monkeypatch.setattr(portable_fit, "drawn", lambda maps, seed: drawn.append(seed))
    monkeypatch.setattr(portable_fit, "_in_step", lambda modules, parts, head, losses, *_: [losses(0), losses(1)])
    text = MagicMock(__len__=lambda _: 100)
    lesson = SimpleNamespace(domain=text, general=text, anchor_of=torch.zeros(1, 2), head=SimpleNamespace(weight=torch.zeros(1)))  # fmt: skip
    for seed in (1, 2):
        portable_fit.fit_portable({}, lesson, None, batch=32, seed=seed)
    assert [batch for batch, _ in orders] == [32, 8, 32, 8]
    assert len({seed for _, seed in orders}) == len(set(drawn)) == 4


def test_the_floor_of_a_phase_is_the_mean_of_its_last_steps():
    assert Trained([*range(300)], 0.0).floors(Schedule([Phase(300, 1.0)])) == [199.5]


def test_a_margin_is_the_median_over_positions(make_states):
    states = make_states(n=2)
    head = Head(torch.randn(12, states.manifest.width, generator=torch.Generator().manual_seed(0)), 1.0)
    top = torch.softmax(head.logits(states.final(slice(0, 1))[:, states.skip :].flatten(0, 1)), -1).topk(6).values
    assert float(margins(None, states, head)[0]) == pytest.approx(float((top[:, 4] - top[:, 5]).median()), rel=1e-5)
