"""Evidence of claims made of several studies, end to end on tiny real models: arms, what each reads, refusals, no false support."""

import gzip
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_arms import edited
from rescaled import rescaled
from study_world import World, job, small_workflow

from abi.arms import atlas, budgets
from abi.arms.forms import Mixture, corrections
from abi.arms.gradient import FitData
from abi.arms.metrics import margins
from abi.base.errors import TamperError
from abi.base.files import sha256_file, sha256_tensors
from abi.base.manifests.modules import ModuleFacts, ModulesManifest
from abi.base.names import AGREEMENT
from abi.judge.rows import read_evidence, read_promised
from abi.models.module import AbiModule, read_module, save_module, with_net
from abi.models.saved import having, member, module_of_seed, read_head, read_states, updated
from abi.plan.specs.studies import AtlasEvidence, LawEvidence
from abi.steps import evaluate_studies
from abi.steps.measure_overlap import overlaps
from abi.text.copies import passages, share_in
from abi.text.documents import read_assigned

AFTER = {"raw", "zero-shot", "zero-shot-off", "random", "random-off", "random-net", "oracle", "oracle-off"}
BEFORE = {"raw-before", "before", "before-off", "oracle-before"}
FREE = {"raw-free", "zero-shot-free"}
TEXTS = ("python", "general", "markdown", "sql")
CLAIMS = ("t5_update", "gpt2_update", "succession", "domain_atlas", "calibration_scaling")


def strong_study():
    """A study in which the module of the T5 update survives: what a run of SUPPORTED looks like.

    Each of its tests holds by about twice what three seeds need, so other starts or another machine change no verdict.
    """
    phase = {"warmup": 5, "decay": "cosine"}

    def change(scale):
        scale["modules"]["standard"]["training"] = {"batch": 8, "phases": [{"steps": 90, "lr": 3e-2, **phase}]}
        for update in scale["updates"].values():
            update |= {"text": "general", "training": {"batch": 8, "phases": [{"steps": 120, "lr": 7e-3, **phase}]}}

    return rescaled(small_workflow(stability=1000.0), change)


def weights():
    """Path -> content of every file of weights."""
    return {path: sha256_file(path) for path in Path("results").rglob("*.safetensors")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_backbone):
    """The evidence of every kind of claim, which leaves every module and backbone as it was; never edited."""
    world, folder = World(small_workflow(), make_backbone), tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for claim in CLAIMS:
            world.before_evidence(claim)
        before = weights()
        for claim in CLAIMS:
            world.evidence(claim)
            assert weights() == before, claim
    return world, folder


@pytest.fixture(scope="module")
def judged(whole):
    """Claim -> result from the evidence of `whole`."""
    world, folder = whole
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {claim: world.again().verdict(claim) for claim in CLAIMS}


@pytest.fixture(scope="module")
def strong(tmp_path_factory, make_backbone):
    """The evidence of a T5 update that its module survives."""
    world, folder = World(strong_study(), make_backbone), tmp_path_factory.mktemp("strong")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        world.evidence("t5_update")
    return world, folder


def copied(built, tmp_path, monkeypatch):
    world, folder = built
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return world.again()


@pytest.fixture
def world(whole, tmp_path, monkeypatch):
    """A private copy of `whole`, as the working directory."""
    return copied(whole, tmp_path, monkeypatch)


@pytest.fixture
def read(whole, monkeypatch):
    """`whole` itself, as the working directory: to read alone."""
    monkeypatch.chdir(whole[1])
    return whole[0]


def rows_of(world, claim):
    return pd.concat([read_evidence(path) for path in world.workflow.of(claim).verdict_input()["evidence"]])


def again(world, claim, inputs=None, **spec):
    """Evaluate a claim again with some inputs or parts of the spec changed."""
    [batch] = world.workflow.batches("updates", world.workflow.config.seeds(claim))
    given = {**world.workflow.of(claim).evidence_input(batch), **(inputs or {})}
    running = job("evaluate_studies", {**world.workflow.of(claim).evidence_spec(batch), **spec}, given)
    outputs = {"evidence": "again.csv.gz", "draws": "again.draws.csv.gz", "manifest": "again.json"}
    evaluate_studies.run(running, given, outputs)
    return read_evidence("again.csv.gz")


def arms(rows, study, metric=None):
    chosen = rows[(rows["fit"] == study) & (True if metric is None else rows["metric"] == metric)]
    return set(chosen["arm"])


def naive_bpb(states, head, correction, seed_rows):
    """Bits per byte of every document by hand: log-softmax in float64, sums over its windows."""
    found = {}
    for window in range(len(states)):
        part = slice(window, window + 1)
        final = states.final(part) if correction is None else states.final(part) + correction(part)
        logits = head.logits(final)[0, states.skip :].double()
        wanted = states.targets(part)[0, states.skip :].long()
        loss = -torch.log_softmax(logits, -1)[torch.arange(len(wanted)), wanted].sum().item()
        name = states.manifest.documents[int(states.document[window])]
        total, size = found.get(name, (0.0, 0))
        found[name] = total + loss, size + int(states.target_bytes[window, states.skip :].sum())
    return {name: loss / math.log(2) / size for name, (loss, size) in found.items()}


def evidence_bpb(rows, study, arm, seed):
    chosen = rows[(rows["fit"] == study) & (rows["arm"] == arm) & (rows["seed"] == seed)]
    chosen = chosen[chosen["metric"] == "bits_per_byte"]
    return dict(zip(chosen["document"], chosen["value"], strict=True))


def module_and_states(world, claim, way="held", text="python", seed=2, number=1):
    inputs = world.workflow.of(claim).evidence_input("1-3")
    update = world.workflow.of(claim).updates()[0]
    states, head = updated(inputs, f"/{update}/{way}.{number}/", text, seed)
    return module_of_seed(inputs[f"source_{text}"], seed), states, head


# updates


def test_every_round_and_text_has_its_arms(read):
    rows = rows_of(read, "succession")
    assert set(rows["fit"]) == {"round1-python", "round1-markdown", "round2-python", "round2-markdown"}
    assert all(arms(rows, study) == AFTER | BEFORE | FREE for study in set(rows["fit"]))
    doses = {f"{update}-python" for update in read.workflow.of("gpt2_update").updates()}
    assert set(rows_of(read, "gpt2_update")["fit"]) == doses
    assert set(rows["seed"]) == {1, 2, 3}
    assert set(rows["scope"]) == {"domain"}


@pytest.mark.parametrize("claim", ["gpt2_update", "t5_update", "succession"])
def test_agreement_is_measured_on_the_held_backbone_alone(read, claim):
    rows = rows_of(read, claim)
    for study in set(rows["fit"]):
        assert all(arms(rows, study, metric) == AFTER - {"oracle"} for metric in AGREEMENT)
        assert arms(rows, study, "bits_per_byte") == arms(rows, study, "loss_nats") == AFTER | BEFORE | FREE


@pytest.mark.parametrize("claim", ["gpt2_update", "t5_update"])
def test_arms_before_read_the_backbone_before_any_update(read, claim):
    rows, inputs = rows_of(read, claim), read.workflow.of(claim).evidence_input("1-3")
    states = read_states(inputs["before_python"], "test")
    head, module = read_head(inputs["head"], states), module_of_seed(inputs["source_python"], 2, states)
    oracle = module_of_seed(inputs["oracle_python"], 2, states)
    expected = {"raw-before": None, "before": module, "before-off": with_net(module, None), "oracle-before": oracle}
    for arm, model in expected.items():
        correction = None if model is None else lambda part, m=model: m.correction(states, part)
        by_hand = naive_bpb(states, head, correction, rows)
        for dose in read.workflow.of(claim).updates():
            assert evidence_bpb(rows, f"{dose}-python", arm, 2) == pytest.approx(by_hand, rel=1e-5)


def test_arms_before_are_the_same_in_every_round(read):
    rows = rows_of(read, "succession")
    for arm in BEFORE:
        one, two = (evidence_bpb(rows, f"round{n}-markdown", arm, 3) for n in (1, 2))
        assert one == two
    assert evidence_bpb(rows, "round1-markdown", "raw", 3) != evidence_bpb(rows, "round2-markdown", "raw", 3)


@pytest.mark.parametrize(("way", "suffix"), [("held", ""), ("free", "-free")])
@pytest.mark.parametrize("number", [1, 2])
def test_zero_shot_is_the_module_as_it_was_on_each_updated_backbone(read, way, suffix, number):
    module, states, head = module_and_states(read, "succession", way, "markdown", 2, number)
    rows, study = rows_of(read, "succession"), f"round{number}-markdown"
    raw = naive_bpb(states, head, None, rows)
    moved = naive_bpb(states, head, lambda part: module.correction(states, part), rows)
    assert evidence_bpb(rows, study, f"raw{suffix}", 2) == pytest.approx(raw, rel=1e-5)
    assert evidence_bpb(rows, study, f"zero-shot{suffix}", 2) == pytest.approx(moved, rel=1e-5)
    assert raw != pytest.approx(moved, rel=1e-3)


def test_off_arms_are_the_interface_alone_and_random_nets_sit_behind_the_same(read):
    module, states, _ = module_and_states(read, "gpt2_update")
    off, fresh = with_net(module, None), AbiModule(module.config, 5)
    taps = states.taps(module.config.taps, slice(0, 3))
    by_hand = module.interface_state(taps) @ module.proj_out.weight.T
    torch.testing.assert_close(off(taps), by_hand)
    assert not off.domain_parameters().keys() & {"domain.net.0.weight"}
    random_net = with_net(module, fresh)
    assert all(torch.equal(p, module.interface_parameters()[n]) for n, p in random_net.interface_parameters().items())
    assert (
        sha256_tensors(random_net.domain_parameters())
        == sha256_tensors(fresh.domain_parameters())
        != sha256_tensors(module.domain_parameters())
    )
    assert torch.equal(with_net(module, module)(taps), module(taps))


def test_every_seed_has_a_random_module_and_net_of_its_own(read):
    rows = rows_of(read, "gpt2_update")
    for arm in ("random", "random-net", "random-off"):
        found = [tuple(evidence_bpb(rows, "gpt2_medium_general-python", arm, seed).values()) for seed in (1, 2, 3)]
        assert len(set(found)) == 3


def test_draws_are_of_arms_with_agreement_and_never_of_the_judge(read):
    for claim, judge in (
        ("gpt2_update", "oracle"),
        ("domain_atlas", "reference"),
        ("calibration_scaling", "reference"),
    ):
        of = read.workflow.of(claim)
        (_, draws), spec = read_promised(of.verdict_input()["manifests"]), of.evidence_spec("1-1")
        assert judge not in set(draws["arm"])
        assert not {"raw-before", "zero-shot-free", "margin"} & set(draws["arm"])
        assert set(draws["rng_seed"]) == set(spec["rng_seeds"])
        sizes = draws.groupby(["fit", "arm", "draw", "seed", "metric"]).size()
        assert set(sizes) == {len(spec["rng_seeds"]) * spec["n_chunks"]}


def test_a_second_evaluation_is_byte_identical(world):
    again(world, "t5_update")
    [path] = world.workflow.of("t5_update").verdict_input()["evidence"]
    assert gzip.decompress(Path(path).read_bytes()) == gzip.decompress(Path("again.csv.gz").read_bytes())


# refusals


def replace_batch(path, other):
    """Put another batch, manifest and folder, in the place of one."""
    shutil.copy(other, path)
    shutil.rmtree(Path(path).with_suffix(""))
    shutil.copytree(Path(other).with_suffix(""), Path(path).with_suffix(""))


def test_an_oracle_of_another_round_is_refused(world, refuses):
    one, two = (
        world.workflow.updated_modules("gpt2_medium_general", f"held.{n}", "python", "oracle", "1-3") for n in (1, 2)
    )
    replace_batch(one, two)
    with refuses("belongs to another backbone"):
        again(world, "gpt2_update")


@pytest.mark.parametrize("role", ["source", "oracle"])
def test_a_module_of_another_backbone_is_refused(world, refuses, role):
    other = world.workflow.module_manifests(("t5_large", "python", "standard", role), "1-3")
    with refuses("belongs to another backbone"):
        again(world, "gpt2_update", {f"{role}_python": other})


def test_states_before_of_another_backbone_are_refused(world, refuses):
    with refuses("belongs to another backbone"):
        again(world, "gpt2_update", {"before_python": world.workflow.states("t5_large", "python", "test")})


def test_the_head_of_another_backbone_is_refused(world, refuses):
    world.backbone("gpt2_large")
    with refuses("is not the head of the backbone whose states"):
        again(world, "gpt2_update", {"head": world.workflow.head("gpt2_large")})


@pytest.mark.parametrize(
    ("claim", "update"), [("gpt2_update", "gpt2_medium_general"), ("t5_update", "t5_large_general")]
)
def test_states_of_the_other_way_of_updating_are_refused(world, refuses, claim, update):
    held, free = (world.workflow.updated_states(update, f"{way}.1", "python", "1-3") for way in ("held", "free"))
    replace_batch(free, held)
    with refuses("is not the head of the backbone whose states|are of another backbone than"):
        again(world, claim)


def test_train_states_are_not_taken_for_held_out_ones(world, refuses):
    with refuses("holds states of train documents where test is wanted"):
        again(world, "gpt2_update", {"before_python": world.workflow.states("gpt2_medium", "python", "train")})


def test_a_damaged_file_of_states_is_refused(world, refuses):
    path = world.workflow.updated_states("gpt2_medium_general", "held.1", "python", "1-3")
    tensors = member([path], 1, "seed1.test.json").with_suffix(".safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-4])
    with refuses("is not the file that its manifest promises", TamperError):
        again(world, "gpt2_update")


# no false support


def put_random_modules(world, of):
    """Put untrained modules in the place of trained ones, with honest hashes."""
    for path in world.workflow.module_manifests(of, "1-3"):
        told, entries = ModulesManifest.read(path), []
        for entry in told.modules:
            place = Path(path).with_suffix("") / entry.folder
            module, about = read_module(place)
            fresh = AbiModule(module.config, seed=1000 + entry.seed)
            facts = ModuleFacts(**{name: getattr(about, name) for name in ModuleFacts.model_fields})
            entries.append(
                edited(
                    entry,
                    sha256=save_module(fresh, place, facts),
                    domain_sha256=sha256_tensors(fresh.domain_parameters()),
                )
            )
        edited(told, modules=entries).write(path)


@pytest.mark.long
def test_a_module_that_survives_is_supported_and_a_random_one_in_its_place_is_not(strong, tmp_path, monkeypatch):
    world = copied(strong, tmp_path, monkeypatch)
    fit = world.verdict("t5_update").fits["t5_large_general-python"]
    assert fit.verdict == "SUPPORTED", fit.reason
    put_random_modules(world, ("t5_large", "python", "standard", "source"))
    world.done = {key for key in world.done if not key[0].startswith("update") and key[0] != "evidence"}
    fit = world.verdict("t5_update").fits["t5_large_general-python"]
    assert fit.verdict == "REFUTED"
    assert fit.reason.startswith("(u)")


def unsupported(result):
    return "SUPPORTED" not in {result.verdict, *(fit.verdict for fit in result.fits.values())}


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_claim_about_backbones_that_know_nothing_is_supported(judged, claim):
    assert unsupported(judged[claim])


@pytest.mark.long
@pytest.mark.parametrize("claim", CLAIMS)
def test_no_claim_about_random_modules_of_backbones_that_know_nothing_is_supported(world, claim):
    for text in TEXTS:
        of = ("gpt2_medium", text, "standard", "source")
        if Path(world.workflow.module_manifests(of, "1-3")[0]).exists():
            put_random_modules(world, of)
    world.done = {key for key in world.done if not key[0].startswith("update") and key[0] != "evidence"}
    assert unsupported(world.verdict(claim))


def test_a_result_says_what_the_updates_did_and_the_perplexities_of_its_rows(judged, read):
    result, rows = judged["gpt2_update"], rows_of(read, "gpt2_update")
    own = rows[(rows["fit"] == "gpt2_medium_general-python") & (rows["arm"] == "zero-shot-free")]
    loss = own[own["metric"] == "loss_nats"]["value"].mean()
    assert result.perplexity["gpt2_medium_general-python"]["zero-shot-free"] == pytest.approx(math.exp(loss))
    table, doses = next(table for table in result.tables if table.id == "updates"), result.claim.updates
    assert [row[:3] for row in table.rows] == [
        [update, stage, seed] for update in doses for stage in ("held.1", "free.1") for seed in (1, 2, 3)
    ]
    assert [row[5] is None for row in table.rows] == ([False] * 3 + [True] * 3) * len(doses)


# atlas


@pytest.fixture
def charts(read):
    inputs = read.workflow.of("domain_atlas").evidence_input("1-3")
    spec = AtlasEvidence.model_validate(read.workflow.of("domain_atlas").evidence_spec("1-3"))
    shared = module_of_seed(inputs["shared"], 2)
    return inputs, shared, atlas.charts_of(spec, inputs, 2, shared)


def by_ridge(x, y, penalty):
    """Ridge by hand: the penalty is a part of the mean of the Gram matrix's diagonal."""
    x, y = x.reshape(-1, x.shape[-1]).astype(np.float64), y.reshape(-1, y.shape[-1]).astype(np.float64)
    gram = x.T @ x
    return np.linalg.solve(gram + penalty * np.diag(gram).mean() * np.eye(len(gram)), x.T @ y)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["chart", "random", "permuted"])
def test_a_chart_is_the_ridge_solution_on_its_own_train_text(read, charts, text, name):
    inputs, _, found = charts
    states = read_states(inputs[f"train_{text}"], "train")
    oracle = module_of_seed(inputs[f"oracle_{text}"], 2, states)
    chart = found[text]["chart", 0] if name == "chart" else found[text][name, 1]
    with torch.no_grad():
        x = chart.abi_state(states.taps(chart.config.taps, slice(None))).numpy()
    y = corrections(oracle, states).numpy()
    wanted = by_ridge(x, y, read.workflow.scale.calibration["kd"].ridge_penalty)
    np.testing.assert_allclose(chart.proj_out.weight.numpy().T, wanted, rtol=1e-3, atol=1e-5)


def test_a_chart_differs_from_the_shared_module_in_the_last_map_alone(charts):
    _, shared, found = charts
    for text in TEXTS:
        chart = found[text]["chart", 0]
        differs = {n for n, t in chart.state_dict().items() if not torch.equal(t, shared.state_dict()[n])}
        assert differs == {"proj_out.weight"}
        for name in ("random", "permuted"):
            placebo = found[text][name, 0]
            assert sha256_tensors(placebo.domain_parameters()) != sha256_tensors(shared.domain_parameters())
            assert torch.equal(placebo.proj_in.weight, shared.proj_in.weight)


@pytest.mark.parametrize("name", ["random", "permuted"])
def test_a_placebo_has_three_nets_a_seed_and_the_same_for_every_domain(charts, name):
    found = charts[2]
    nets = [{sha256_tensors(found[text][name, draw].domain_parameters()) for text in TEXTS} for draw in range(3)]
    assert [len(own) for own in nets] == [1, 1, 1]
    assert len(set.union(*nets)) == 3


def test_a_permuted_net_has_the_shared_ones_weights_in_another_order(charts):
    _, shared, found = charts
    for name, given in shared.domain_parameters().items():
        own = found["sql"]["permuted", 2].domain_parameters()[name]
        assert torch.equal(own.flatten().sort().values, given.flatten().sort().values)


def test_an_atlas_has_every_chart_on_every_domain_and_a_mixture_on_two(read):
    rows = rows_of(read, "domain_atlas")
    plain = {"raw", "reference", "oracle", "shared", "chart", "random", "permuted", "linear", "linear-narrow"}
    mixes = {f"mix-{w}" for w in (0, 25, 50, 75, 100)}
    assert set(rows["fit"]) == set(TEXTS)
    for text in TEXTS:
        others = {f"{own}-of-{other}" for own in ("chart", "random") for other in TEXTS if other != text}
        assert arms(rows, text) == plain | others | (mixes if text in ("python", "general") else set())
        assert arms(rows, text, "js_nats") == arms(rows, text) - {"reference"}


@pytest.mark.parametrize(
    ("text", "mix", "arm"),
    [
        ("python", "mix-100", "chart"), ("python", "mix-0", "chart-of-general"),
        ("general", "mix-0", "chart"), ("general", "mix-100", "chart-of-python"),
    ],
)  # fmt: skip
def test_the_ends_of_a_mixture_are_its_charts(read, text, mix, arm):
    rows = rows_of(read, "domain_atlas")
    for seed in (1, 3):
        one, other = (evidence_bpb(rows, text, name, seed) for name in (mix, arm))
        assert one == pytest.approx(other, rel=1e-7)
    assert evidence_bpb(rows, text, "mix-50", 1) != pytest.approx(other, rel=1e-4)


def test_a_mixture_is_the_weighted_sum_of_corrections(charts):
    inputs, _, found = charts
    states = read_states(inputs["test_python"], "test")
    one, other = (found[text]["chart", 0] for text in ("python", "general"))
    taps = states.taps(one.config.taps, slice(0, 4))
    mixed = Mixture([(0.25, one), (0.75, other)]).correction(states, slice(0, 4))
    torch.testing.assert_close(mixed, 0.25 * one(taps) + 0.75 * other(taps))
    assert set(atlas.mixtures(one, other)) == {"mix-0", "mix-25", "mix-50", "mix-75", "mix-100"}


@pytest.mark.parametrize("role", ["shared", "oracle_sql", "reference_sql"])
def test_an_atlas_refuses_a_module_of_another_backbone(world, refuses, role):
    text, kind = ("python", "source") if role == "shared" else ("sql", role.split("_")[0])
    other = ("gpt2_large", text, "standard", kind)
    world.modules(other)
    paths = world.workflow.module_manifests(other, "1-1")
    with refuses("module of seed 1 belongs to another backbone"):
        again(world, "domain_atlas", {role: paths}, seeds=[1])


# budgets of a scaling law


@pytest.fixture
def point(read):
    """Module, data, oracle and held-out states of one point of the law."""
    inputs, place = read.workflow.of("calibration_scaling").evidence_input("1-1"), "/gpt2_large_general/held.1/"
    train, head = updated(inputs, place, "markdown", 1, "train")
    oracle = module_of_seed(having(inputs["oracles"], place, "markdown/oracle"), 1, train)
    module = module_of_seed(inputs["source_markdown_gpt2_large_general"], 1)
    spec = LawEvidence.model_validate(read.workflow.of("calibration_scaling").evidence_spec("1-1"))
    return (
        module,
        FitData(train, head, corrections(oracle, train)),
        oracle,
        updated(inputs, place, "markdown", 1)[0],
        spec,
    )


def test_a_law_has_a_study_per_update_and_text_with_every_budget(read):
    rows = rows_of(read, "calibration_scaling")
    spec = read.workflow.of("calibration_scaling").evidence_spec("1-1")
    assert set(rows["fit"]) == {f"{update}-{text}" for update in spec["updates"] for text in spec["texts"]}
    for study in set(rows["fit"]):
        assert arms(rows, study) == {"raw", "oracle", "reference", "margin", "budget-0", "budget-2", "budget-5"}
        assert arms(rows, study, "top5_margin") == {"margin"}
        assert arms(rows, study, "js_nats") == {"raw", "oracle", "budget-0", "budget-2", "budget-5"}


def test_no_budget_is_the_module_itself(point, read):
    module, data, _, test, spec = point
    found = budgets.calibrated(module, data, spec, 1)
    assert sha256_tensors(found[0].state_dict()) == sha256_tensors(module.state_dict())
    moved = naive_bpb(test, data.head, lambda part: module.correction(test, part), None)
    rows = rows_of(read, "calibration_scaling")
    assert evidence_bpb(rows, "gpt2_large_general-markdown", "budget-0", 1) == pytest.approx(moved, rel=1e-5)


def test_the_net_is_bit_identical_at_every_budget_and_the_interface_moves(point):
    module, data, _, _, spec = point
    before = sha256_tensors(module.state_dict())
    found = budgets.calibrated(module, data, spec, 1)
    assert list(found) == [0, 2, 5]
    assert {sha256_tensors(m.domain_parameters()) for m in found.values()} == {
        sha256_tensors(module.domain_parameters())
    }
    assert len({sha256_tensors(m.interface_parameters()) for m in found.values()}) == 3
    assert sha256_tensors(module.state_dict()) == before


def test_a_budget_does_not_depend_on_where_else_the_run_is_looked_at(point):
    module, data, _, _, spec = point
    looked = edited(spec.budget.budgets, steps=[2, 4, 7])
    longer = budgets.calibrated(module, data, edited(spec, budget=edited(spec.budget, budgets=looked)), 1)
    found = budgets.calibrated(module, data, spec, 1)
    assert sha256_tensors(found[2].state_dict()) == sha256_tensors(longer[2].state_dict())


def test_margins_are_those_of_a_naive_computation(point, read):
    _, data, oracle, test, _ = point
    found = []
    for window in range(len(test)):
        part = slice(window, window + 1)
        with torch.no_grad():
            final = test.final(part) + oracle(test.taps(oracle.config.taps, part))
        logits = (data.head.logits(final)[0, test.skip :]).numpy().astype(np.float64)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p = np.sort(p / p.sum(-1, keepdims=True), -1)[:, ::-1]
        gaps = np.sort(p[:, 4] - p[:, 5])
        found.append(gaps[(len(gaps) - 1) // 2])  # the lower of two middle ones, as torch has it
    np.testing.assert_allclose(margins(oracle, test, data.head).numpy(), found, rtol=1e-3, atol=1e-7)
    rows = rows_of(read, "calibration_scaling")
    chosen = rows[(rows["fit"] == "gpt2_large_general-markdown") & (rows["arm"] == "margin")]
    per_document = pd.Series(found).groupby(test.document.numpy()).mean()
    assert chosen["value"].to_numpy() == pytest.approx(per_document.to_numpy(), rel=1e-3, abs=1e-7)


def test_text_is_compared_with_train_as_far_as_it_is_scored(read):
    files, states = (
        read.workflow.text_files("python"),
        read_states(read.workflow.states("gpt2_medium", "python", "test"), "test"),
    )
    every = {one.document: one for one in read_assigned(files["documents"], files["record"])}
    train = {passage for one in every.values() if one.split == "train" for passage in passages(one.text)}
    found = overlaps(every.values(), states)
    assert list(found) == states.manifest.documents
    assert all(of.bytes < len(every[name].text.encode()) for name, of in found.items())
    for place, name in enumerate(states.manifest.documents[:5]):
        own = states.select((states.document == place).nonzero().flatten().tolist())
        head = every[name].text[: int(own.char_end.max())]
        assert found[name].in_train == share_in(train, head)
        read_too = int(own.target_bytes.sum() - own.target_bytes[-1, -1])  # the last token is scored and never read
        assert read_too <= found[name].bytes == len(head.encode())
