"""What test text shares with train, and verdicts without close text and without packages."""

import copy
import functools
import json
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from evidence_rows import CRITERIA, TRANSFER, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arms import PROVENANCE, SHARES
from made_results import CLAIM, FILE, WORKFLOW, build, edit, put, regenerate_summary, run, spine
from report_facts import facts as facts_of_report

from abi.audit.results import relations
from abi.audit.results.findings import Checks
from abi.audit.results.reading import ResultFile
from abi.audit.results.robustness import check_robustness
from abi.audit.results.verify import verify
from abi.base.errors import DataError, EvidenceError
from abi.base.files import ROOT, sha256_json
from abi.base.manifests.overlaps import OverlapManifest
from abi.base.manifests.texts import HeldOutDocument, TextManifest
from abi.base.typed import seal_of
from abi.judge.left_out import MOST_UNITS, folds_of, robustness, robustness_of, scored, text_of
from abi.judge.protocol import transfer_plan
from abi.judge.published import figures_of
from abi.judge.results import ClaimFacts, read_result, result_of
from abi.judge.rows import validate
from abi.judge.tables import fit_tables
from abi.judge.verdict import judge
from abi.report.blocks import markdown
from abi.report.page import page
from abi.report.study_words import robustness_words
from abi.text.corpus import Chosen, held_out, summary
from abi.text.documents import Document, split_of

CODE = "generation_equivalence_results.json"
"""A committed result with a contrast on tasks."""

# how much of a document train holds

LINE = st.sampled_from(
    ["a b c", "a b c d e f g h i", "  b c d ", "c = d(e)", "> a b c d", "e\u0301 a", "\xe9 a", "", "x"]
)
TEXTS = st.lists(st.tuples(st.sampled_from(["train", "calibration", "test"]), st.lists(LINE, max_size=6)), max_size=8)


def document(name, split, lines, source="p"):
    text = "\n".join(lines)
    return Document(name, f"{source}/{name}", source, "1", "a" * 64, split, len(text.encode()), text)


def naive_share(text, train):
    """The share by a loop over documents, nothing hashed: eight words in a row, whatever the layout."""

    def runs(text):
        lines = [line.lstrip().removeprefix("> ") for line in unicodedata.normalize("NFC", text).split("\n")]
        words = re.sub(r"([=()])", r" \1 ", "\n".join(lines)).split()
        return {tuple(words[i : i + 8]) for i in range(max(1, len(words) - 7))} - {()}

    found = [run for run in runs(text) if any(run in runs(other) for other in train)]
    return len(found) / len(runs(text)) if runs(text) else 0.0


@settings(max_examples=200)
@given(TEXTS)
def test_the_share_is_that_of_a_loop_over_words(texts):
    documents = [document(f"d{i}", split, lines) for i, (split, lines) in enumerate(texts)]
    train = [d.text for d in documents if d.split == "train"]
    wanted = {d.document: (d.split, naive_share(d.text, train)) for d in documents if d.split != "train"}
    assert {name: (of.split, of.in_train) for name, of in held_out(documents).items()} == wanted


def grouped(texts=40):
    names = [f"d{i}" for i in range(texts)]
    return [document(name, split_of(f"p/{name}", SHARES, "s"), ["same long line in all of them"]) for name in names]


def test_the_record_tells_of_every_held_out_document_and_leaves_assignment_and_splits_as_they_are():
    documents = grouped()
    found = summary(Chosen(documents), PROVENANCE)
    assert found.assignment_sha256 == sha256_json(sorted([d.document, d.group, d.split, d.sha256] for d in documents))
    assert set(found.held_out) == {d.document for d in documents if d.split != "train"}
    assert found.splits["test"].documents == sum(d.split == "test" for d in documents)


def test_a_package_is_the_source_or_the_group_where_all_have_one_source():
    one = [document("a", "test", []), document("b", "test", []), document("c", "train", [])]
    assert {of.package for of in held_out(one).values()} == {"p/a", "p/b"}
    assert {of.package for of in held_out([*one, document("d", "test", [], "q")]).values()} == {"p", "q"}


def test_two_documents_of_one_name_are_refused(refuses):
    with refuses("two documents are named a; give their sources different labels"):
        held_out([document("a", "test", []), document("a", "train", [], "q")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.popitem(), "held_out tells of .* documents"),
        (lambda told: next(iter(told.values())).update(in_train=1.2), "in_train"),
        (lambda told: next(iter(told.values())).update(in_train=-0.1), "in_train"),
        (lambda told: next(iter(told.values())).update(split="train"), "split"),
    ],
)
def test_a_record_that_lacks_a_document_or_holds_no_share_is_refused(tmp_path, change, words, refuses):
    path = tmp_path / "t.json"
    summary(Chosen(grouped()), PROVENANCE).write(path)
    content = json.loads(path.read_text())
    change(content["held_out"])
    path.write_text(json.dumps(content | {"seal": seal_of(content)}))
    with refuses(words):
        TextManifest.read(path)


# verdicts without some documents

LEVELS = {**TRANSFER, "home": 0.97}
PLAN = transfer_plan("oracle-kd", CRITERIA)


@functools.cache
def evidence(n_close=45, n_far=30, close=1.15, far=0.6):
    """Rows in which the moved net has one level in the first groups and another in the others."""
    levels = {True: close, False: far}
    parts = {first: rows(LEVELS | {"transferred": level}, n_groups=n_close + n_far) for first, level in levels.items()}
    kept = [frame[(frame["group"] < f"g{n_close:03d}") == first] for first, frame in parts.items()]
    frame = pd.concat(kept, ignore_index=True)
    share = frame["metric"].isin(("top1", "top5"))
    return validate(frame.assign(value=frame["value"].where(~share, frame["value"].clip(upper=1.0))))


def told(frame, n_close, package):
    """What records say of the documents of some rows: the first groups are close."""
    scopes = frame[frame["scope"] != "on_training_text"].groupby("scope")
    close = f"g{n_close:03d}"
    return {
        scope: {
            name: HeldOutDocument(split="test", package=package(group), in_train=0.5 if group < close else 0.3)
            for name, group in set(zip(part["document"], part["group"], strict=True))
        }
        for scope, part in scopes
    }


def judged(frame, package=lambda group: f"p{int(group[1:]) % 5}", n_close=45):
    fit = judge(fit_tables(frame, fit="kd", criteria=CRITERIA), PLAN, CRITERIA)
    return fit, robustness(frame, fit, PLAN, told(frame, n_close, package), CRITERIA)


def test_a_verdict_that_rests_on_close_text_is_said_to():
    frame = evidence()
    fit, found = judged(frame)
    assert (fit.verdict, found.without_close.verdict) == ("SUPPORTED", "REFUTED")
    assert found.close == {"domain": 90, "general": 90}
    assert found.in_train["domain"] == pytest.approx((90 * 0.5 + 60 * 0.3) / 150)
    assert (found.without_close.documents, found.without_close.groups) == (60, 30)
    alone = frame[frame["group"] >= "g045"]
    again = judge(fit_tables(alone, fit="kd", criteria=CRITERIA), PLAN, CRITERIA)
    assert (found.without_close.reason, found.without_close.share) == (again.reason, again.share.estimate)
    same = next(of for _, of in again.contrasts() if of.id == found.contrast)
    assert found.without_close.interval == same.interval
    assert found.contrast == fit.decided_by
    assert f" {fit.decided_by}: " in fit.reason
    assert "Without close documents: REFUTED on 60 documents in 30 groups" in robustness_words(found, fit)[2]


def test_every_package_is_left_out_once_and_the_one_that_changes_most_is_named():
    fit, found = judged(evidence(), lambda group: "good" if group < "g045" else f"rest{int(group[1:]) % 2}")
    assert found.unit == "package"
    assert [left.left_out for left in found.without] == ["good", "rest0", "rest1"]
    assert [left.groups for left in found.without] == [30, 60, 60]
    assert [left.verdict for left in found.without] == ["REFUTED", "SUPPORTED", "SUPPORTED"]
    assert found.most_changed(fit.verdict).left_out == "good"
    assert "the same in 2 of 3; it changes most without good" in robustness_words(found, fit)[3]


def test_what_decides_is_shown_again_at_the_level_at_which_it_decided():
    fit, found = judged(evidence(close=0.6))
    decided = next(of for _, of in fit.contrasts() if of.id == fit.decided_by)
    assert fit.verdict == "REFUTED"
    assert found.without_close.interval.level == decided.interval.level > fit.level


def test_too_few_groups_say_so_and_nothing_left_does_too():
    fit, found = judged(evidence(20, 20, 0.95, 0.95), lambda group: "all", n_close=20)
    assert fit.verdict == "SUPPORTED"
    small, none = found.without_close, found.without[0]
    assert (small.verdict, small.interval, small.share, small.groups) == ("INCONCLUSIVE", None, None, 20)
    assert small.reason.startswith("20 groups and 5 seeds are too few")
    assert small.mean == pytest.approx(found.mean, rel=0.5)
    assert (none.verdict, none.mean, none.documents) == ("INCONCLUSIVE", None, 0)
    assert none.reason == "too few: no document of domain text is left"
    assert all("too few" in words for words in robustness_words(found, fit)[2:])


def test_a_document_that_was_not_judged_is_not_counted():
    frame = evidence()
    short = frame.assign(n_positions=frame["n_positions"].where(frame["group"] != "g000", CRITERIA.min_positions - 1))
    _, found = judged(short)
    assert found.close == {"domain": 88, "general": 88}


def test_a_document_that_no_record_knows_is_refused(refuses):
    frame = evidence()
    fit = judge(fit_tables(frame, fit="kd", criteria=CRITERIA), PLAN, CRITERIA)
    known = told(frame, 45, str)
    known["domain"].pop("domain003.1")
    with refuses("'domain003.1' on domain is no test document", EvidenceError):
        robustness(frame, fit, PLAN, known, CRITERIA)


@given(st.sets(st.text("abc", min_size=1, max_size=4), min_size=1), st.randoms())
def test_packages_are_folded_by_name_alone(packages, random):
    mixed = list(packages)
    random.shuffle(mixed)
    found = folds_of(mixed)
    assert found == folds_of(sorted(packages))
    assert sorted(name for fold in found for name in fold) == sorted(packages)
    assert len(found) == len(packages) if len(packages) <= MOST_UNITS else len(found) <= MOST_UNITS


ENDS = (".json", ".overlap.json")
SPLIT_OF = {"one": "test", "two": "test", "learned": "calibration"}


def overlap(shares, text, backbone="a"):
    documents = {name: {"bytes": 9, "in_train": share} for name, share in shares.items()}
    return OverlapManifest(text=text, base_model=backbone, documents=documents, provenance=PROVENANCE)


def facts(**given_):
    about = {"id": "c", "title": "t", "statement": "s", "kind": "update", "record": {"result_file": "c.json"}}
    return ClaimFacts.model_validate({**about, **given_})


def test_the_text_of_a_fit_or_study_is_found():
    assert text_of(facts(text="python"), "kd") == "python"
    assert text_of(facts(texts=["doc", "my-doc"]), "round2-my-doc") == "my-doc"
    assert text_of(facts(texts=["python", "sql"]), "sql") == "sql"
    with pytest.raises(EvidenceError, match="ends with none of its texts"):
        text_of(facts(texts=["python"]), "round1-sql")
    with pytest.raises(EvidenceError, match="ends with none of its texts"):
        text_of(facts(texts=["thon"]), "python")


def test_a_record_that_is_no_input_is_named():
    fit, _ = judged(evidence())
    with pytest.raises(EvidenceError, match="the record of text python is no input"):
        robustness_of(facts(text="python"), [fit], evidence(), [], [], CRITERIA)


def test_close_general_text_is_left_out_where_it_is_one_of_the_texts_of_the_claim(tmp_path):
    """The claim is about both texts, so that the records alone do not say which of them is the general one."""
    frame = evidence()
    fit = judge(fit_tables(frame, fit="kd", criteria=CRITERIA), PLAN, CRITERIA)
    for text, scope in {"python": "domain", "general": "general"}.items():
        groups = dict(
            frame.loc[frame["scope"] == scope, ["document", "group"]].drop_duplicates().itertuples(index=False)
        )
        lines = {name: [f"same long line in {name} and in train too"] for name in groups}
        made = [document(name, "test", lines[name], group) for name, group in groups.items()]
        made.append(document("train", "train", [" ".join(lines[name][0] for name in groups if groups[name] < "g045")]))
        summary(Chosen(made), PROVENANCE).write(tmp_path / f"{text}.json")
        shares = {name: float(group < "g045") for name, group in groups.items()}
        overlap(shares, text).write(tmp_path / f"{text}.overlap.json")
    records, overlaps = ([str(tmp_path / f"{text}{end}") for text in ("python", "general")] for end in ENDS)
    claim = facts(kind="transfer", regime="oracle-kd", text="python", texts=["python", "general"])
    [found] = robustness_of(claim, [fit], frame, records, overlaps, CRITERIA, general="general").values()
    assert found.close == {"domain": 90, "general": 90}


def test_the_share_in_train_is_that_of_what_is_scored(tmp_path):
    """The record speaks of whole documents; of several backbones, the one whose windows repeat train most."""
    told = {name: HeldOutDocument(split=split, package="p", in_train=0.9) for name, split in SPLIT_OF.items()}
    for backbone, shares in {"a": {"one": 0.1, "two": 0.2}, "b": {"one": 0.3, "two": 0.0}}.items():
        overlap(shares, "python", backbone).write(tmp_path / f"{backbone}.json")
    found = scored({"python": told}, [str(tmp_path / f"{name}.json") for name in "ab"])
    assert {name: (of.package, of.in_train) for name, of in found["python"].items()} == {
        "one": ("p", 0.3),
        "two": ("p", 0.2),
    }
    for unknown, text in (("three", "python"), ("learned", "python"), ("one", "sql")):
        overlap({unknown: 0.1}, text).write(tmp_path / "c.json")
        with pytest.raises(EvidenceError, match=f"'{unknown}' on {text} is no test document of the text's record"):
            scored({"python": told}, [str(tmp_path / "c.json")])


def test_what_no_record_tells_of_is_said_to_be_kept():
    """Tasks of generated code stand in no text: a contrast on them is the same without close documents."""
    result = read_result(ROOT / "results/reference/tiny" / CODE)
    told, fit = result.robustness["keywords-python"], result.fits["keywords-python"]
    assert robustness_words(told, fit)[0].endswith("; none of 60 tasks is left out, since no record tells of them")
    fit, found = judged(evidence())
    assert "is left out" not in robustness_words(found, fit)[0]


def faults(fit, found):
    checks = Checks("made.json")
    check_robustness(checks, "r", found, fit, PLAN, CRITERIA)
    return [of.leaf for of in checks.found]


@pytest.mark.parametrize("groups", [(45, 30, 1.15, 0.6), (20, 20, 0.95, 0.95)])
def test_a_word_that_its_own_figures_do_not_bear_is_found(groups):
    """The contrast of the first has its upper bound below 0 without close text, the second has too few groups left."""
    fit, found = judged(evidence(*groups), n_close=groups[0])
    assert faults(fit, found) == []
    forged = found.without_close.model_copy(update={"verdict": "SUPPORTED"})
    assert set(faults(fit, found.model_copy(update={"without_close": forged}))) == {"r/without_close/verdict"}


# in a result file

EDITS = {
    "fits/kd/decided_by": "5.benefit.bits_per_byte",
    "robustness/kd/close/domain": 40,
    "robustness/kd/in_train/domain": 0.001,
    "robustness/kd/contrast": "5.benefit.bits_per_byte",
    "robustness/kd/mean": 0.5,
    "robustness/kd/without_close/documents": 3,
    "robustness/kd/without_close/groups": 33,
    "robustness/kd/without/1/documents": 1,
    "robustness/kd/without/0/interval/lower": 0.9,
    "robustness/kd/without/0/interval/mse": 0.9,
    "robustness/kd/without/0/mean": 0.5,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty groups in five packages: without one of them there are enough, without close text as well."""
    return build(tmp_path_factory.mktemp("made"), [CLAIM], groups=40)


def found_in(content, folder, name=FILE):
    """What the checks of a result find in its JSON after an edit and a new seal."""
    content = content | {"seal": seal_of(content)}
    checks = Checks(name)
    try:
        file = ResultFile(folder / name, content, result_of(content, name))
    except DataError as error:
        return [str(error)]
    relations.check_result(checks, file, {}, figures_of)
    return checks.found


@pytest.fixture(scope="module")
def stored(folder):
    return json.loads(Path(folder, FILE).read_text(encoding="utf-8"))


def test_an_honest_result_states_it_for_the_fit_that_decides(stored, folder):
    assert found_in(stored, folder) == []
    [(fit, of)] = stored["robustness"].items()
    assert (fit, of["unit"], len(of["without"])) == (stored["claim"]["fit"], "package", 5)
    assert of["close"]["domain"] == 6
    assert of["without_close"]["groups"] == 34


@pytest.mark.parametrize("leaf", EDITS)
def test_an_edit_is_found_without_the_evidence(stored, folder, leaf):
    changed = copy.copy(stored)
    spine(changed, leaf, EDITS[leaf])
    assert found_in(changed, folder)


def test_a_file_of_older_code_names_no_deciding_contrast_and_is_checked_by_its_figures(stored, folder):
    older = copy.deepcopy(stored)
    assert older["fits"]["kd"].pop("decided_by") == older["robustness"]["kd"]["contrast"]
    assert found_in(older, folder) == []
    spine(older, "robustness/kd/contrast", "5.benefit.bits_per_byte")
    assert "robustness/kd/contrast" in [of.leaf for of in found_in(older, folder)]


def test_a_part_that_was_taken_away_is_missed(stored, folder):
    assert [of.leaf for of in found_in({**stored, "robustness": {}}, folder)] == ["robustness"]
    one = copy.deepcopy(stored)
    one["robustness"]["kd"]["without"].pop()
    assert found_in(one, folder)


def test_an_interval_over_tasks_is_asked_for_its_own_groups():
    """Without one package domain text has 17 groups left; the tasks, on which the contrast lies, are all there."""
    folder = ROOT / "results/reference/tiny"
    stored = json.loads((folder / CODE).read_text(encoding="utf-8"))
    fit = "keywords-python"
    without = enumerate(stored["robustness"][fit]["without"])
    [(i, left)] = [(i, of) for i, of in without if of["groups"] < CRITERIA.min_groups]
    assert left["interval"] is not None
    assert left["share"] is None
    checked = functools.partial(found_in, folder=folder, name=CODE)
    assert checked(stored) == []
    for leaf, value in {"interval/n_groups": 999, "interval/lower": 0.9, "share": 0.5}.items():
        changed = copy.deepcopy(stored)
        spine(changed, f"robustness/{fit}/without/{i}/{leaf}", value)
        assert checked(changed), leaf


def test_the_report_has_a_block_per_claim(folder):
    result = read_result(folder / FILE)
    text = " ".join(markdown(page(facts_of_report([result]))).split())
    assert text.count("**Text shared with train.**") == 1
    words = robustness_words(result.robustness["kd"], result.deciding)
    assert all(" ".join(sentence.split()) in text for sentence in words)


RECONSTRUCTION = "t5_same_backbone"


def test_an_edit_that_nothing_else_contradicts_is_found_with_the_evidence(tmp_path, monkeypatch):
    monkeypatch.chdir(build(tmp_path, [RECONSTRUCTION], groups=40))
    path = WORKFLOW.result_file(RECONSTRUCTION)
    [fit] = json.loads(Path(path).read_text(encoding="utf-8"))["robustness"]
    leaf = f"robustness/{fit}/without_close/share"
    edit(path, put(leaf, 0.9))
    regenerate_summary(path)
    assert verify().code() == 0
    assert leaf in [of.leaf for of in verify(recompute=True).findings]


def test_it_is_shown(folder):
    shown = run("show", CLAIM, cwd=folder).stdout
    assert "Text shared with train (kd); reported, it decides nothing" in shown
    assert "6 of 40 test documents of domain text have more than 30 %" in " ".join(shown.split())
