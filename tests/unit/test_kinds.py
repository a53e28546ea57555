"""How kinds of claims are found and judged, and a stored fit that is judged again from its own figures."""

import functools

import numpy as np
import pytest
from evidence_rows import CRITERIA, RECONSTRUCTION, TRANSFER, rows

from abi.audit.record.arithmetic import lookup
from abi.base.errors import EvidenceError
from abi.base.manifests.arms import ArmEntry
from abi.base.manifests.modules import ModuleEntry
from abi.base.regimes import KINDS, REGIMES
from abi.judge import kinds
from abi.judge.fits import Fit
from abi.judge.kinds import OfClaims, OfFits, OfStudies
from abi.judge.results import ClaimFacts
from abi.judge.rows import validate
from abi.judge.tables import fit_tables
from abi.judge.verdict import judge, mean_of_arms, means_of_seeds, rejudged

FORMS = {"claim": OfFits, "studies": OfStudies, "ladder": OfClaims}
SHA = "a" * 64
ATLAS = {"raw": 0.0, "oracle": 1.0, "chart": 0.9, "random": 0.4, "permuted": 0.3, "linear": 0.5,
         "linear-narrow": 0.45, "chart-of-b": 0.2}  # fmt: skip
UPDATE = {
    "raw": 0.0,
    "oracle": 1.0,
    "zero-shot": 0.95,
    "zero-shot-free": 0.5,
    "random": 0.1,
    "zero-shot-off": 0.4,
    "random-net": 0.45,
    "before": 0.9,
}


def claim(kind, regime=None, **facts):
    about = {"id": "c", "title": "t", "statement": "s", "record": {"result_file": "c.json"}}
    return ClaimFacts.model_validate({**about, "kind": kind, "regime": regime, **facts})


ASKED = {
    **{
        regime: (claim("transfer", regime), {**dict.fromkeys(entry.roles.controls, 0.35), **TRANSFER})
        for regime, entry in REGIMES.items()
        if entry.roles.candidate == KINDS["transfer"].claimed
    },
    "reconstruction": (claim("reconstruction", "reconstruction"), RECONSTRUCTION),
    "update": (claim("update", texts=["kd"]), UPDATE),
    "atlas": (claim("atlas", texts=["kd", "b"]), ATLAS),
}


@functools.cache
def judged(name, levels=(), **options):
    about, base = ASKED[name]
    tables = fit_tables(validate(rows(base | dict(levels), **options)), fit="kd", criteria=CRITERIA)
    asked = kinds.plan_of(about, "kd", tables.arms, CRITERIA)
    return judge(tables, asked, CRITERIA), asked


# kinds


def test_every_kind_of_the_catalogue_is_judged_in_the_form_it_has():
    found = kinds.judged_kinds()
    assert {name: type(entry) for name, entry in found.items()} == {
        name: FORMS[kind.form] for name, kind in KINDS.items()
    }


def test_a_kind_that_is_not_judged_that_way_is_named():
    with pytest.raises(
        EvidenceError, match="no kind 'ladder' is judged this way; there are near_transfer, reconstruction, transfer"
    ):
        kinds.kind_of("ladder", OfFits)


@pytest.mark.parametrize("kind", ["ladder", "aggregate", "scaling_law", "poem"])
def test_a_kind_without_contrasts_has_no_plan(kind):
    with pytest.raises(EvidenceError, match=f"a {kind} is not judged by contrasts"):
        kinds.plan_of(claim(kind), "kd", (), CRITERIA)


def test_one_file_in_the_folder_is_a_new_kind(tmp_path, monkeypatch):
    (tmp_path / "poem.py").write_text(
        "from abi.judge.kinds import OfClaims\nJUDGED = (OfClaims('poem'),)\n", encoding="utf-8"
    )
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    kinds.judged_kinds.cache_clear()
    try:
        assert kinds.kind_of("poem", OfClaims).name == "poem"
    finally:
        kinds.judged_kinds.cache_clear()


# nets that are called frozen


def arm(name, sha=SHA, seed=1):
    sizes = {"fit": "kd", "draw": 0, "steps": 1, "n_trainable": 1, "frozen_sha256": SHA, "folder": "f"}
    return ArmEntry.model_validate({"arm": name, "seed": seed, "domain_sha256": sha, **sizes})


def module(sha, seed=1):
    sizes = {"folder": "m", "sha256": SHA, "steps": 1, "final_loss": 1.0, "elapsed_s": 1.0, "n_parameters": 1}
    return ModuleEntry.model_validate({"seed": seed, "domain_sha256": sha, **sizes})


@pytest.mark.parametrize(
    ("name", "role"),
    [("transferred", "source"), ("identity", "source"), ("native", "oracle"), ("wrong-domain", "wrong")],
)
def test_an_arm_must_hold_the_net_it_was_given(name, role):
    known = {role: [module(SHA), module("b" * 64, seed=2)]}
    unmoved = kinds.kind_of("transfer", OfFits).unmoved
    assert unmoved([arm(name), arm(name, "b" * 64, seed=2)], "oracle-kd", known)
    assert not unmoved([arm(name), arm(name, SHA, seed=2)], "oracle-kd", known)


@pytest.mark.parametrize("name", ["unfrozen", "published", "direct", "random", "lora"])
def test_an_arm_that_trains_its_net_or_has_one_of_its_own_is_not_asked(name):
    assert kinds.kind_of("transfer", OfFits).unmoved([arm(name)], "oracle-kd", {})


def test_both_fits_of_a_reconstruction_hold_the_placebos_net():
    unmoved = kinds.kind_of("reconstruction", OfFits).unmoved
    both = [arm("random"), arm("random"), arm("random", "b" * 64, seed=2), arm("candidate", "c" * 64)]
    assert unmoved(both, "reconstruction", {})
    assert not unmoved([*both, arm("random", "c" * 64)], "reconstruction", {})


# judged again from stored figures


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize(
    "options", [{}, {"noise": 0.05}, {"n_groups": 29}, {"levels": (("oracle", 0.0),), "noise": 0.005}]
)
def test_a_stored_fit_says_what_its_figures_give(name, options):
    fit, asked = judged(name, **options)
    stored = Fit.model_validate(fit.plain())
    assert rejudged(stored, asked, CRITERIA).plain() == {**stored.plain(), "published_criteria": None}


EDITS = [
    ("verdict", "INCONCLUSIVE"),
    ("reason", "because"),
    ("kind", "update"),
    ("level", 0.9),
    ("tests/0/passed", False),
    ("tests/2/contrast", "native - raw"),
    ("tests/3/interval/half", 0.5),
    ("tests/3/interval/msd", 1.0),
    ("tests/4/interval/lower", -1.0),
    ("tests/1/limit", 0.01),
    ("refutations/0/applies", False),
    ("refutations/0/holds", True),
    ("refutations/1/level", 0.95),
    ("refutations/1/contrasts/0/interval/upper", 0.0),
    ("vacuous/0/holds", True),
    ("secondary/top1/refuted", True),
    ("secondary/top5/tests/0/passed", False),
    ("resolvable_gap/gap", 0.1),
    ("resolvable_gap/standard_error", 0.1),
    ("gap_closure/estimate", 0.1),
]


@pytest.mark.parametrize(("leaf", "value"), EDITS)
def test_an_edited_leaf_is_not_what_the_figures_give(leaf, value):
    fit, asked = judged("oracle-kd")
    document = fit.plain()
    *parents, last = leaf.split("/")
    node = lookup(document, "/".join(parents)) if parents else document
    assert node[last] != value
    node[last] = value
    stored = Fit.model_validate(document)
    assert rejudged(stored, asked, CRITERIA).plain() != {**stored.plain(), "published_criteria": None}


def test_a_contrast_that_is_not_there_is_named():
    fit, asked = judged("oracle-kd")
    empty = fit.model_copy(update={"tests": [], "refutations": [], "vacuous": []})
    with pytest.raises(EvidenceError, match=r"fit kd: holds no figures of 0.room.js_nats \(oracle - raw\)"):
        rejudged(empty, asked, CRITERIA)


@pytest.mark.parametrize("name", ASKED)
def test_means_and_seeds_of_a_contrast_follow_from_the_arms(name):
    fit, asked = judged(name)
    by_id = {test.id: test for test in fit.tests}
    for contrast in asked.own.tests:
        test = by_id[contrast.id]
        assert mean_of_arms(fit, contrast) == pytest.approx(test.mean, abs=1e-12)
        mss = fit.counts.groups[contrast.measure.scope] * np.var(means_of_seeds(fit, contrast), ddof=1)
        assert test.interval.mss == pytest.approx(mss, rel=1e-6, abs=1e-12)
