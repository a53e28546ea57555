"""The picture and the table of the README's first screen: every claim once, with the words and figures of its result."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest
from report_facts import WORKFLOW, plain, typed, whole

from abi.report.known import Recipe, found, in_short, known, percent
from abi.report.ladder import PLACES, ZERO_TEXT, lead_of, picture
from abi.report.quoted import generated_files, plain_table, small_models
from abi.report.render import figure
from abi.report.words import deciding, grouped, plain_words, sentence_of

SVG = "{http://www.w3.org/2000/svg}"
CRITERIA = WORKFLOW.config.protocol.criteria


def lines(svg):
    """Return result -> (verdict, place of its dot, its words) of every line of a picture, each once."""
    drawn = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        if name := group.get("data-claim"):
            assert name not in drawn
            [word] = [text.text for text in group.iter(f"{SVG}text") if "word" in text.get("class")]
            dots = [float(dot.get("cx")) for dot in group.iter(f"{SVG}circle")]
            drawn[name] = (word, dots, group.find(f"{SVG}title").text)
    return drawn


def test_every_claim_stands_in_the_picture_once_with_its_verdict():
    heads = [head for head, _ in grouped(whole())]
    expected = {r.claim.id: r.verdict for r in whole() if r in heads or r.claim.regime == ZERO_TEXT}
    drawn = lines(picture(whole(), CRITERIA))
    assert {name: word for name, (word, _, _) in drawn.items()} == expected
    assert len(drawn) > len(heads)


def test_a_dot_stands_where_the_share_of_the_result_is():
    drawn = lines(picture(whole(), CRITERIA))
    shares = {r.claim.id: deciding(r).share for r in whole() if r.claim.id in drawn and deciding(r)}
    places = sorted((share.estimate, drawn[name][1][0]) for name, share in shares.items())
    assert [x for _, x in places] == sorted(x for _, x in places)
    assert places[0][1] < places[-1][1]
    assert all(f"share {figure(share.estimate)} [" in drawn[name][2] for name, share in shares.items())
    assert {name for name, (_, dots, _) in drawn.items() if dots} == set(shares)


def test_a_hollow_mark_stands_where_the_lead_over_an_interface_without_a_net_is():
    [one] = [result for result in whole() if result.claim.id == "t5_to_gpt2_zero_text"]
    fit = deciding(one)
    moved, bare = (fit.gap_closures[arm].estimate for arm in ("transferred", "no-domain"))
    assert lead_of(one) == pytest.approx((moved - bare) / moved)
    svg = ElementTree.fromstring(picture([one], CRITERIA))
    [mark], [dot] = ([*svg.iter(f"{SVG}{tag}")] for tag in ("path", "circle"))
    assert float(re.match(r"M([\d.]+)", mark.get("d"))[1]) + 4.5 < float(dot.get("cx"))
    harmful = {"transferred": fit.gap_closures["transferred"].model_copy(update={"estimate": -0.2})}
    changed = fit.model_copy(update={"gap_closures": {**fit.gap_closures, **harmful}})
    assert lead_of(one.model_copy(update={"fits": {one.claim.fit: changed}})) is None


@pytest.mark.parametrize(
    ("claim", "title"),
    [
        ("t5_to_gpt2", "Moved and calibrated"),
        ("t5_to_gpt2_general_only", "Moved and calibrated with less"),
        ("t5_to_gpt2_zero_text", "Placed as it is, as a portable module"),
        ("t5_same_backbone", "Fitted to another module"),
        ("t5_update", "Other claims"),
    ],
)
def test_a_result_stands_under_what_was_done_also_alone(claim, title):
    [one] = [result for result in whole() if result.claim.id == claim]
    heads = [text.text for text in ElementTree.fromstring(picture([one], CRITERIA)).iter(f"{SVG}text")]
    assert title in heads
    assert sum(head in {title for title, _ in PLACES.values()} for head in heads) == 1


def test_an_interval_that_leaves_the_axis_or_has_no_end_has_an_arrow():
    [one] = [result for result in whole() if result.claim.id == "t5_to_gpt2_zero_text"]
    fit = deciding(one)

    def ends(pieces):
        share = fit.share.model_copy(update={"pieces": pieces})
        drawn = one.model_copy(update={"fits": {one.claim.fit: fit.model_copy(update={"share": share})}})
        svg = ElementTree.fromstring(picture([drawn], CRITERIA))
        return len([path for path in svg.iter(f"{SVG}path") if "end" in path.get("class")])

    assert [ends(pieces) for pieces in ([[0.2, 0.9]], [[0.2, 1.3]], [[None, None]])] == [0, 1, 2]


def test_another_verdict_is_drawn_as_it_is():
    changed = [r.model_copy(update={"verdict": "VACUOUS"}) if r.claim.id == "t5_update" else r for r in whole()]
    assert lines(picture(changed, CRITERIA))["t5_update"][0] == "VACUOUS"


def test_a_picture_of_few_results_and_of_none_is_drawn():
    [one] = [result for result in whole() if result.claim.id == "t5_update"]
    assert list(lines(picture([one], CRITERIA))) == ["t5_update"]
    assert lines(picture([], CRITERIA)) == {}


def test_the_picture_follows_dark_mode_and_fetches_nothing():
    svg = generated_files()["docs/verdicts.svg"]
    assert "prefers-color-scheme: dark" in svg
    assert set(re.findall(r"https?://[^\s\"]+", svg)) == {"http://www.w3.org/2000/svg"}


def test_a_name_cannot_smuggle_markup_into_the_picture():
    document = plain()["t5_update"]
    odd = typed({**document, "claim": {**document["claim"], "id": "<script>"}})
    assert "<script" not in picture([odd], CRITERIA)


def test_the_table_has_a_row_per_claim_with_its_verdict_and_a_sentence_of_its_own():
    rows = [line.strip("| ").split(" | ") for line in plain_table(whole()).splitlines()[2:]]
    heads = [head for head, _ in grouped(whole())]

    def told(result):
        strict = result.verdict_at_strict_level
        return f"**{result.verdict}**" + (f" (strict level: {strict})" if strict != result.verdict else "")

    assert [(row[0], row[3]) for row in rows] == [(f"`{r.claim.id}`: {r.claim.title}", told(r)) for r in heads]
    assert any("strict level" in row[3] for row in rows)
    assert all(len(row) == 5 and row[4].endswith(".") for row in rows)
    counted = [row[0].split("`")[1] for row in rows if row[1] == "claim"]
    assert sorted(counted) == sorted(WORKFLOW.config.published())


@pytest.mark.parametrize("result", whole(), ids=lambda result: result.claim.id)
def test_a_sentence_is_short_and_names_no_test(result):
    told = plain_words(result)
    assert len(told) < 160
    assert told == sentence_of(told)
    assert not re.search(r"js_nats|bits_per_byte|\b[a-gu]\.\w|\{|\}", told.replace("(measured in `bits_per_byte`)", ""))


def test_what_was_found_has_five_points_of_this_runs_figures():
    told = found(whole())
    assert told.count("\n- ") == 4
    published = [r for r in whole() if r.claim.id in WORKFLOW.config.published()]
    words = Counter(result.verdict for result in published)
    assert f"Of the original's {words.total()} claims, " in told
    assert all(re.search(rf"\b{count} (are )?{word}\b", told) for word, count in words.items())
    shares = [r.deciding.share.estimate for r in whole() if (r.claim.kind, r.claim.regime) == ("transfer", "oracle-kd")]
    assert percent(shares) in told
    assert percent([-0.00545, 1.17]) == "-0.5 to 117 %"


def test_of_a_part_of_the_claims_it_is_said_how_many_were_built():
    some = [r for r in whole() if r.claim.id in ("t5_same_backbone", "t5_to_gpt2")]
    assert "Of the original's 11 claims, 2 of which were built here, 2 are REFUTED" in found(some)
    assert "Of the original's 11 claims, 1 of which was built here, 1 is REFUTED" in in_short(some[:1])


def test_where_no_interface_without_a_net_was_measured_nothing_is_said_of_it():
    [one] = [result for result in whole() if result.claim.id == "t5_to_gpt2_zero_text"]
    fit = deciding(one)
    closures = {arm: closure for arm, closure in fit.gap_closures.items() if arm != "no-domain"}
    bare = one.model_copy(update={"fits": {one.claim.fit: fit.model_copy(update={"gap_closures": closures})}})
    for told in (found([bare]), known([bare])):
        assert "A portable module moves as it is" in told
        assert "due to" not in told
        assert "Most of it" not in told
    assert "1 of 1 transfer is SUPPORTED" in known([bare])
    assert percent([-0.0002, -0.0001]) == "0.0 %"


def test_what_was_found_in_short_is_three_sentences_and_only_of_what_was_run():
    told = in_short(whole())
    assert len(re.findall(r"\.(?= [A-Z]|$)", told)) == 3
    assert told.partition(".")[0].removeprefix("**").partition("**")[0] in found(whole())
    one = [r for r in whole() if r.claim.regime == ZERO_TEXT]
    assert in_short(one).startswith("A module of another kind")
    assert in_short([]) == ""


@pytest.mark.parametrize(
    ("recipe", "shown", "by"),
    [
        (Recipe(0, 2, [-0.2, -0.1]), "not shown to be ", "worse by 0.1 to 0.2"),
        (Recipe(1, 2, [-0.006, 0.1]), "in some transfers ", "from 0.006 worse to 0.1 better"),
        (Recipe(2, 2, [0.1, 0.1]), "", "better by 0.1"),
    ],
)
def test_a_lead_of_both_signs_is_said_with_both(recipe, shown, by):
    assert (recipe.shown, recipe.by) == (shown, by)


def test_the_sizes_of_the_backbones_are_those_of_the_results():
    assert "0.4 to 1.9 million parameters" in small_models(whole())
