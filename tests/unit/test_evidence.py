import gzip

import numpy as np
import pandas as pd
import pytest
from evidence_rows import CRITERIA, rows, source_alone

from abi.base.errors import EvidenceError
from abi.judge.contrasts import Contrast, Measure
from abi.judge.evidence_files import COLUMNS, DRAW_COLUMNS, read_rows
from abi.judge.rows import DRAWS, formed, read_evidence, validate
from abi.judge.tables import fit_tables

JS = Measure("js_nats", "domain")


@pytest.fixture(scope="module")
def good():
    return rows(n_groups=6, n_seeds=3, per_group=2, draws={"random": 3})


def load(frame):
    return fit_tables(validate(frame), fit="kd", criteria=CRITERIA)


def test_a_file_is_read_as_it_was_written(good, tmp_path):
    path = tmp_path / "evidence.csv.gz"
    good.sample(frac=1, random_state=0)[list(reversed(COLUMNS))].to_csv(path, index=False)
    read = read_evidence(path).sort_values(list(COLUMNS[:9]), ignore_index=True)
    pd.testing.assert_frame_equal(read, good.sort_values(list(COLUMNS[:9]), ignore_index=True), check_dtype=False)


def test_names_that_look_like_missing_values_stay_names(good, tmp_path):
    path = tmp_path / "evidence.csv"
    good.replace({"group": {"g000": "NA"}, "document": {"domain000.0": "null"}}).to_csv(path, index=False)
    assert {"NA", "null"} <= set(read_evidence(path)[["group", "document"]].to_numpy().ravel())


@pytest.mark.parametrize("content", [b"", b"not gzip", None])
def test_a_file_that_cannot_be_read_is_one_sentence(content, tmp_path):
    path = tmp_path / "evidence.csv.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EvidenceError, match="cannot be read") as error:
        read_evidence(path)
    assert "\n" not in str(error.value)


def test_a_truncated_gzip_file_is_refused(good, tmp_path):
    path = tmp_path / "evidence.csv.gz"
    path.write_bytes(gzip.compress(good.to_csv(index=False).encode())[:-100])
    with pytest.raises(EvidenceError):
        read_evidence(path)


def test_a_gzip_file_with_a_wrong_byte_is_one_sentence(good, tmp_path):
    path = tmp_path / "evidence.csv.gz"
    content = bytearray(gzip.compress(good.to_csv(index=False).encode(), mtime=0))
    for place in range(20, len(content), 397):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with pytest.raises(EvidenceError, match="cannot be read") as error:
            read_evidence(path)
        assert "\n" not in str(error.value)


def spoiled(frame, column, value, row=7):
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("value", "nan", "column 'value' row 9 holds 'nan'; expected a finite number"),
        ("value", "inf", "expected a finite number"),
        ("value", "", "expected a finite number"),
        ("value", -0.2, "js_nats is -0.2 and cannot lie outside"),
        ("value", 0.8, "js_nats is 0.8 and cannot lie outside"),
        ("seed", 1.5, "column 'seed' row 9 holds 1.5; expected a whole number"),
        ("draw", "x", "expected a whole number"),
        ("scope", "train", "scope 'train' is none of domain, general, on_training_text"),
        ("metric", "perplexity", "metric 'perplexity' is none of js_nats"),
        ("group", "", "column 'group' row 9 is empty"),
        ("group", "other", "more than one group"),
        ("n_positions", 99, "more than one n_positions"),
    ],
)
def test_a_bad_value_is_one_sentence(good, column, value, sentence):
    with pytest.raises(EvidenceError) as error:
        validate(spoiled(good, column, value))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_unknown_column_is_named(good):
    with pytest.raises(EvidenceError, match="missing or unknown column draw, epoch"):
        validate(good.rename(columns={"draw": "epoch"}))


def test_no_rows_is_an_error(good):
    with pytest.raises(EvidenceError, match="no rows"):
        validate(good.iloc[:0])


def test_a_row_twice_is_an_error(good):
    with pytest.raises(EvidenceError, match="is there twice"):
        validate(pd.concat([good, good.iloc[[5]]]))


def test_validation_leaves_the_frame_alone(good):
    before = good.copy(deep=True)
    validate(good)
    pd.testing.assert_frame_equal(good, before)


def test_tables_are_means_over_documents_then_draws(good):
    table = load(good).tables[JS]["random"]
    part = good[(good.arm == "random") & (good.metric == "js_nats") & (good.scope == "domain")]
    for d, group in enumerate(sorted(part.group.unique())):
        for seed in range(3):
            cell = part[(part.group == group) & (part.seed == seed)]
            assert table[d, seed] == pytest.approx(cell.value.mean())


def test_groups_count_alike_however_many_documents_they_have(good):
    many = good[~((good.group == "g000") & good.document.str.endswith(".1"))]
    found = load(many)
    assert found.counts.documents["domain"] == 11
    assert found.tables[JS]["raw"].shape == (6, 3)
    first = many[(many.arm == "raw") & (many.metric == "js_nats") & (many.document == "domain000.0")]
    assert found.tables[JS]["raw"][0] == pytest.approx(first.sort_values("seed").value.to_numpy())


def test_more_is_better_once_turned(good):
    turned = load(good).turned()
    for measure in (JS, Measure("top1", "domain"), Measure("bits_per_byte", "domain")):
        assert turned[measure]["oracle"].mean() > turned[measure]["raw"].mean()


def test_a_document_missing_in_one_arm_is_dropped_in_all(good):
    gone = (good.arm == "bias") & (good.document == "domain001.0") & (good.seed == 2) & (good.metric == "top5")
    found = load(good[~gone])
    assert (found.counts.documents["domain"], found.counts.dropped.documents["domain"]) == (11, 1)
    assert found.counts.dropped.documents["general"] == 0
    whole = good[(good.arm == "raw") & (good.metric == "js_nats") & (good.document == "domain001.1")]
    assert found.tables[JS]["raw"][1] == pytest.approx(whole.sort_values("seed").value.to_numpy())


def test_a_seed_missing_in_one_arm_is_dropped_in_all(good):
    found = load(good[~((good.arm == "linear") & (good.seed == 1))])
    assert (found.counts.seeds, found.counts.dropped.seeds) == ([0, 2], [1])
    assert {table.shape for arms in found.tables.values() for table in arms.values()} == {(6, 2)}


def test_a_short_document_is_dropped_and_counted(good):
    found = load(good.assign(n_positions=np.where(good.document == "domain002.1", 63, 64)))
    assert (found.counts.dropped.documents_too_short["domain"], found.counts.documents["domain"]) == (1, 11)


def test_nothing_complete_is_an_error(good):
    with pytest.raises(EvidenceError, match="no seed is present"):
        load(good[~((good.arm == "linear") & (good.seed != 1)) & ~((good.arm == "bias") & (good.seed == 1))])
    with pytest.raises(EvidenceError, match="no domain document is complete"):
        load(good.assign(n_positions=10))


def test_equal_columns_are_an_error(good):
    copied = good.copy()
    where = (good.arm == "home") & (good.metric == "js_nats") & (good.scope == "domain")
    copied.loc[where & (good.seed == 2), "value"] = good.loc[where & (good.seed == 0), "value"].to_numpy()
    with pytest.raises(EvidenceError, match="'home' has equal js_nats on domain for the seeds 0 and 2"):
        load(copied)


def of_equal_seeds(frame, arm):
    """The rows with one figure of bits per byte for all seeds of an arm, another one per document."""
    where = (frame.arm == arm) & (frame.metric == "bits_per_byte")
    first = frame[where].groupby(["scope", "document"]).value.transform("first")
    return frame.assign(value=first.reindex(frame.index).fillna(frame.value))


def test_only_arms_without_a_seed_may_have_equal_bits_per_byte(good):
    """A linear map and a bias are fitted to the seed's own teacher or order of windows; counted n-grams are not."""
    for arm in ("linear", "bias", "before", "linear-narrow", "raw-before", "n-gram"):
        frame = of_equal_seeds(good[good.arm != arm].replace({"arm": {"no-domain": arm}}), arm)
        if arm in ("raw-before", "n-gram"):
            load(frame)
            continue
        with pytest.raises(EvidenceError, match=f"'{arm}' has equal bits_per_byte on domain"):
            load(frame)


def test_the_plain_backbone_may_have_equal_columns_in_bits_per_byte(good):
    same = good.copy()
    where = (good.arm == "raw") & (good.metric == "bits_per_byte")
    same.loc[where, "value"] = same[where].groupby("document").value.transform("first")
    assert np.ptp(load(same).tables[Measure("bits_per_byte", "domain")]["raw"], axis=1).max() == pytest.approx(0)


def test_an_unknown_fit_lists_the_fits_there_are(good):
    with pytest.raises(EvidenceError, match="fit 'ce' has no rows; fits there: kd"):
        fit_tables(validate(good), fit="ce", criteria=CRITERIA)


def test_an_arm_under_two_fits_is_an_error(good):
    both = good.copy()
    both.loc[(both.arm == "raw") & (both.seed == 1), "fit"] = "kd"
    with pytest.raises(EvidenceError, match="'raw' has rows of fit 'kd' and of '-'"):
        load(both)


def test_a_missing_arm_is_named_with_those_there_are(good):
    with pytest.raises(
        EvidenceError, match="'home' has no rows of js_nats on domain; arms that have: bias, home-identity"
    ):
        load(good[good.arm != "home"]).require(Contrast("c", JS, {"home": 1, "raw": -1}))


# an arm that reads other windows

BPB = Measure("bits_per_byte", "domain")


def beside(good, **options):
    return pd.concat([good, source_alone(good, **options)], ignore_index=True)


def test_an_arm_apart_scores_other_positions_and_drops_no_document_of_another(good):
    one_of_two = good.loc[good["document"] == "domain001.0", "document"].unique()
    alone, both = load(good), load(beside(good, without=[*one_of_two, "domain002.0", "domain002.1"]))
    assert both.counts == alone.counts
    for measure, arms in alone.tables.items():
        for arm, table in arms.items():
            np.testing.assert_array_equal(both.tables[measure][arm], table)
    table = both.tables[BPB]["source-alone"]
    assert table.shape == (5, 3)  # one group has no document there
    plain = good[(good.arm == "raw") & (good.metric == "bits_per_byte") & (good.document == "domain001.1")]
    assert table[1] == pytest.approx(0.9 * plain.sort_values("seed").value.to_numpy())
    assert set(both.tables) == set(alone.tables)


def test_a_document_that_only_an_arm_apart_has_is_none_of_the_study(good):
    gone = (good.document == "domain003.1") & (good.scope == "domain")
    without = good[~gone]
    both = load(pd.concat([without, source_alone(good)], ignore_index=True))
    assert both.counts == load(without).counts
    plain = without[(without.arm == "raw") & (without.metric == "bits_per_byte") & (without.document == "domain003.0")]
    assert both.tables[BPB]["source-alone"][3] == pytest.approx(0.9 * plain.sort_values("seed").value.to_numpy())


def test_a_document_that_is_too_short_for_an_arm_apart_stays_in_the_others(good):
    both = load(beside(good, n_positions=63))
    assert both.counts == load(good).counts
    assert "source-alone" not in both.tables[BPB]


def test_other_positions_are_refused_of_every_arm_that_reads_the_targets_windows(good):
    other = good.assign(n_positions=np.where(good.arm == "home", 80, good.n_positions))
    with pytest.raises(EvidenceError, match="more than one n_positions"):
        validate(other)
    moved = beside(good).assign(group=lambda f: np.where(f.arm == "source-alone", "other", f.group))
    with pytest.raises(EvidenceError, match="more than one group"):
        validate(moved)


def test_a_seed_that_an_arm_apart_lacks_is_dropped_in_all(good):
    frame = beside(good)
    found = load(frame[~((frame.arm == "source-alone") & (frame.seed == 1))])
    assert (found.counts.seeds, found.counts.dropped.seeds) == ([0, 2], [1])


# the record's random draws


@pytest.fixture
def drawn():
    keys = [(7777, chunk, metric) for chunk in range(3) for metric in ("js_nats", "top1")]
    frame = pd.DataFrame(keys, columns=["rng_seed", "chunk", "metric"])
    return frame.assign(fit="kd", arm="transferred", draw=0, seed=1, value=0.25)[list(DRAW_COLUMNS)]


def read(frame, tmp_path):
    path = tmp_path / "d.csv.gz"
    frame.to_csv(path, index=False)
    return formed(read_rows(path), DRAWS, str(path))


def test_draws_are_read_as_they_were_written(drawn, tmp_path):
    pd.testing.assert_frame_equal(read(drawn, tmp_path), drawn, check_dtype=False)


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("value", "nan", "column 'value' row 3 holds 'nan'; expected a finite number"),
        ("value", 1.5, "top1 is 1.5 and cannot lie outside"),
        ("chunk", 0.5, "column 'chunk' row 3 holds '0.5'; expected a whole number"),
        ("rng_seed", -1, "expected a whole number from 0 on"),
        ("metric", "loss_nats", "metric 'loss_nats' is none of js_nats"),
        ("arm", "", "column 'arm' row 3 is empty"),
    ],
)
def test_a_bad_value_of_the_draws_is_one_sentence(drawn, tmp_path, column, value, sentence):
    with pytest.raises(EvidenceError) as error:
        read(spoiled(drawn, column, value, row=1), tmp_path)
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"draws {tmp_path}")


def test_draws_that_are_there_twice_lack_a_column_or_rows_are_refused(drawn, tmp_path):
    for frame, words in (
        (pd.concat([drawn, drawn[:1]]), "row 8 is there twice"),
        (drawn.drop(columns="chunk"), "missing or unknown column chunk"),
        (drawn[:0], "no rows"),
    ):
        with pytest.raises(EvidenceError, match=words):
            read(frame, tmp_path)


@pytest.mark.parametrize("copied", [False, True])
def test_an_arm_scaled_to_nothing_is_the_plain_backbone_in_every_seed(good, copied):
    """A gain of 0 is an honest outcome; equal figures that are not the plain backbone's are not."""
    same = good.copy()
    key = ["scope", "group", "document", "seed"]
    plain = (good.arm == "raw") & (good.metric == "bits_per_byte")
    once = same[plain].groupby(["scope", "document"]).value.transform("first")
    same.loc[plain, "value"] = once
    where = (good.arm == "permuted") & (good.metric == "bits_per_byte")
    raw = same[plain].set_index(key).value
    same.loc[where, "value"] = raw.loc[pd.MultiIndex.from_frame(good.loc[where, key])].to_numpy() + 0.125 * copied
    if copied:
        with pytest.raises(EvidenceError, match="'permuted' has equal bits_per_byte on domain"):
            load(same)
    else:
        load(same)


def test_two_studies_may_hold_documents_of_one_name_but_one_study_may_not():
    one, other = (rows(fit=name, n_groups=3, n_seeds=3) for name in ("python", "general"))
    for frame, fit in ((one, "python"), (other, "general")):
        frame["fit"] = fit
    other["n_positions"] = 90
    assert len(validate(pd.concat([one, other], ignore_index=True))) == len(one) + len(other)
    one.loc[one["arm"] == "raw", "n_positions"] = 80
    with pytest.raises(EvidenceError, match="more than one n_positions"):
        validate(one)


def test_an_arm_that_lacks_a_draw_of_the_others_is_refused():
    every = rows(n_groups=6, n_seeds=3, draws=dict.fromkeys(("transferred", "random", "permuted"), 3))
    assert load(every).draws["random"] == 3
    short = every[(every["arm"] != "random") | (every["draw"] != 1)]
    with pytest.raises(EvidenceError, match=r"fit kd: arm 'random' has no .* of draw 1, which others have"):
        load(short)


def test_draws_of_placebos_stand_beside_the_rungs_of_a_ladder():
    drawn = rows(n_groups=6, n_seeds=3, draws={"random": 3})
    ladder = [drawn[drawn["arm"] == "transferred"].assign(arm=arm, draw=rung) for arm in "ab" for rung in (8, 32)]
    both = pd.concat([drawn, *ladder], ignore_index=True)
    draws = load(both).draws
    assert (draws["a"], draws["b"], draws["random"]) == (2, 2, 3)
    with pytest.raises(EvidenceError, match=r"arm 'b' has no .* of draw 8, which others have"):
        load(both[(both["arm"] != "b") | (both["draw"] != 8)])
