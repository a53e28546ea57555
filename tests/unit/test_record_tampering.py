"""An altered record is found and named, leaf by leaf: one digit of every number, with regenerated hashes or without."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from abi.audit.record import guard, judgement
from abi.audit.record.data import leaves
from abi.audit.record.guard import LIST_SHA256, alterations, changed_leaves, digest
from abi.audit.record.judgement import FILES, judge, judge_file, load
from abi.audit.record.page import to_text
from abi.audit.record.reconstruction import FILE
from abi.base.errors import DataError, TamperError
from abi.base.files import listed, listing
from abi.judge.published import FIGURES, parse

RECORD = Path(__file__).resolve().parents[2] / "config" / "record"
NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')


@pytest.fixture(scope="module")
def published():
    return load(RECORD)


def tokens(text):
    return [match.span(1) for match in NUMBER.finditer(text) if match.group(1)]


def one_digit(text, span, last):
    """Replace one digit of a number: its last one, or its first unless that would leave a leading zero."""
    digits = [i for i in range(*span) if text[i].isdigit() and "e" not in text[span[0] : i].lower()]
    i = digits[-1] if last else digits[0]
    leading = i == digits[0] and len(digits) > 1 and text[i + 1] != "."
    new = str(int(text[i]) % 9 + 1) if leading else str((int(text[i]) + 1) % 10)
    return text[:i] + new + text[i + 1 :]


def numeric_paths(text, name):
    return [
        path
        for path, value in leaves(parse(text, name, exact=True))
        if type(value) is not str and hasattr(value, "strip")
    ]


def altered(published, name, text):
    """Return what is found in a record with one changed file whose MANIFEST was regenerated."""
    texts = published.texts | {name: text}
    manifest = listing({key: digest(texts[key]) for key in texts})
    return alterations(replace(published, texts=texts, manifest=manifest))


@pytest.fixture
def without_history(monkeypatch):
    """A checkout that cannot say what was published: an installed package, or an archive without git."""
    monkeypatch.setattr(guard, "_versions", lambda name: iter(()))


def test_the_shipped_record_is_intact(published):
    assert alterations(published) == []


def test_the_list_holds_every_file_and_the_code_its_hash(published):
    assert listed(published.manifest) == {name: digest(text) for name, text in published.texts.items()}
    assert digest(published.manifest) == LIST_SHA256
    assert set(published.texts) == {FIGURES, *(f"published_results/{name}" for name in FILES)}


def altered_leaf(path):
    return f"leaf {path} is not what was published"


def sweep(published, step):
    tried, named = 0, 0
    for name, text in published.texts.items():
        paths, spans = numeric_paths(text, name), tokens(text)
        assert len(paths) == len(spans)
        for path, span in list(zip(paths, spans, strict=True))[::step]:
            for last in (True, False):
                tried += 1
                named += changed_leaves(one_digit(text, span, last), text, name) == [altered_leaf(path)]
    return tried, named


def test_a_changed_digit_is_found_and_named_in_a_sample(published):
    tried, named = sweep(published, 23)
    print(f"\none digit changed, every 23rd number: {tried} tried, {named} found and named")
    assert named == tried > 300


@pytest.mark.long
def test_a_changed_digit_of_every_number_is_found_and_named(published, capsys):
    tried, named = sweep(published, 1)
    with capsys.disabled():
        print(f"\none digit of every number changed, one at a time: {tried} tried, {named} found and named")
    assert named == tried == 2 * 3819


@pytest.mark.parametrize("name", [FIGURES, "published_results/abi_ablation_results.json", f"published_results/{FILE}"])
def test_regenerated_hashes_do_not_hide_a_change(published, name):
    text = published.texts[name]
    path, span = numeric_paths(text, name)[5], tokens(text)[5]
    found = altered(published, name, one_digit(text, span, True))
    assert f"{name}: {altered_leaf(path)}" in found
    assert any(line.startswith("MANIFEST.sha256") and name in line for line in found)


@pytest.mark.parametrize("regenerated", [True, False])
def test_without_a_version_history_the_file_is_named(published, without_history, regenerated):
    name = "published_results/cross_lineage_results.json"
    text = one_digit(published.texts[name], tokens(published.texts[name])[5], True)
    if regenerated:
        assert altered(published, name, text) == ["MANIFEST.sha256: is not the list that was published"]
    else:
        found = alterations(replace(published, texts=published.texts | {name: text}))
        assert [line.split(": ")[0] for line in found] == [name]


def test_a_committed_edit_is_named_by_the_history_before_it(published, tmp_path, monkeypatch):
    name, place = FIGURES, tmp_path / guard.PLACE
    shutil.copytree(RECORD, place)
    changed = one_digit(published.texts[name], tokens(published.texts[name])[5], True)
    manifest = listing({key: digest(published.texts[key] if key != name else changed) for key in published.texts})
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git(["git", "init", "-q"])
    for text in ("", changed):
        if text:
            (place / name).write_text(text, encoding="utf-8")
            (place / "MANIFEST.sha256").write_text(manifest, encoding="utf-8")
        git(["git", "add", "-A"])
        git(["git", *who, "commit", "-q", "-m", "m"])
    monkeypatch.setattr(guard, "ROOT", tmp_path)
    path = numeric_paths(published.texts[name], name)[5]
    found = alterations(load(place))
    assert f"{name}: {altered_leaf(path)}" in found
    assert f"MANIFEST.sha256: is not the list that was published: {name}" in found


def test_a_file_that_is_gone_from_the_list_too_is_named(published):
    name = "published_results/cross_lineage_results.json"
    texts = {key: text for key, text in published.texts.items() if key != name}
    manifest = listing({key: digest(text) for key, text in texts.items()})
    found = alterations(replace(published, texts=texts, manifest=manifest))
    assert f"{name} is missing; restore it" in found


@pytest.mark.parametrize("manifest", ["", "no list", "0" * 64 + "  published.json\n"])
def test_a_damaged_list_is_found(published, without_history, manifest):
    assert any(line.startswith("MANIFEST.sha256") for line in alterations(replace(published, manifest=manifest)))


def test_several_changes_are_all_named(published):
    name = f"published_results/{FILE}"
    text = (
        published.texts[name]
        .replace('"architecture_confirmed": false', '"architecture_confirmed": true')
        .replace("237.4", "23.4")
    )
    found = altered(published, name, text)
    assert [line for line in found if "leaf" in line] == [
        f"{name}: {altered_leaf(x)}" for x in ("architecture_confirmed", "elapsed_min")
    ]


def test_added_and_removed_leaves_are_named(published):
    name = "published_results/cross_lineage_results.json"
    text = published.texts[name]
    added = altered(published, name, text.replace('"d_abi": 256', '"d_abi": 256, "extra": 1'))
    assert any("leaf extra" in line for line in added)
    removed = altered(published, name, text.replace('"d_abi": 256,', ""))
    assert f"{name}: leaf d_abi is missing" in removed
    as_text = altered(published, name, text.replace('"d_abi": 256', '"d_abi": "256"'))
    assert f"{name}: {altered_leaf('d_abi')}" in as_text


def test_white_space_and_foreign_files_are_found(published):
    name = "published_results/cross_lineage_results.json"
    assert "no leaf did" in altered(published, name, published.texts[name] + "\n")[0]
    assert "not part of the record" in altered(published, "published_results/extra.json", "{}")[0]


def test_recomputation_alone_finds_part_of_the_changes(published, capsys):
    def outline(name, data):
        try:
            return [(item.id, item.state) for item in judge_file(name, data)]
        except DataError as error:
            return str(error)

    tried, found = 0, 0
    for name in FILES:
        text = published.texts[f"published_results/{name}"]
        before = outline(name, json.loads(text))
        for span in tokens(text)[::16]:
            tried += 1
            found += outline(name, json.loads(one_digit(text, span, False))) != before
    with capsys.disabled():
        print(f"\nfirst digit changed, all hashes regenerated: {tried} tried, {found} found by recomputation")
    assert found > tried / 2


def test_many_alterations_are_counted_in_text_and_named_in_data(published):
    name = "published_results/cross_lineage_results.json"
    texts = published.texts | {key: text.replace("0.", "1.") for key, text in published.texts.items() if key != FIGURES}
    judgement = judge(replace(published, texts=texts))
    assert judgement.items == ()
    assert f"and {len(judgement.altered) - 40} more" in to_text(judgement)
    assert any(name in line for line in judgement.as_dict()["altered"])


def test_no_page_quotes_a_record_that_was_altered(published, monkeypatch):
    texts = published.texts | {FIGURES: published.texts[FIGURES].replace("0.8725", "0.9725")}
    monkeypatch.setattr(judgement, "load", lambda: replace(published, texts=texts))
    with pytest.raises(TamperError, match=r"config/record: .*"):
        judgement.judged()
