"""The main question of the API: is moving better than retraining, here?"""

import api_world
import pytest

import abi
from abi.api import defaults
from abi.api.comparison import answered, chosen
from abi.api.modules import card
from abi.judge.protocol import transfer_plan
from abi.judge.verdict import judged_again


def many(n, words):
    """Texts of another domain than `prose`: none is the copy of another."""
    return api_world.prose(n, seed=7, words=words, sentences=12)


@pytest.fixture(scope="module")
def told(gpt2, qwen, portable):
    words = "whisk the butter with flour and fold it into warm milk until a smooth dough rises under the cloth".split()
    texts, general = many(130, words), api_world.prose(130, sentences=12)
    trained = abi.train(*gpt2, texts, "portable", general, steps=30)
    return abi.compare(trained, gpt2, qwen, texts, general, seeds=3, steps=5, train_steps=30)


@pytest.mark.long
def test_a_comparison_says_the_word_of_the_protocol_with_everything_it_rests_on(told):
    assert (told.regime, told.source, told.target) == ("zero-text", "small-gpt2", "small-qwen")
    assert told.fit.counts.seeds == [1, 2, 3]
    assert min(told.fit.counts.groups.values()) >= 30
    again = judged_again(told.fit, transfer_plan("zero-text", defaults.CRITERIA, told.fit.arms), defaults.CRITERIA)
    assert (again.verdict, again.reason) == (told.verdict, told.reason)
    options = {option.arm: option for option in told.options}
    assert {"transferred", "random", "permuted", "direct", "lora", "oracle", "raw", "source-alone"} <= {*options}
    reported = {test.id: test for test in told.fit.tests}
    for arm in ("direct", "lora"):  # the table's lead is the contrast that the protocol reports
        assert options[arm].lead.mean == pytest.approx(reported[f"r.instead.bits_per_byte.{arm}"].mean)
        assert options[arm].cost.seconds > 0
    assert options["lora"].cost.n_trained <= 1.1 * options["direct"].cost.n_trained
    assert options["raw"].cost is None
    assert options["oracle"].bits_per_byte.mean < options["raw"].bits_per_byte.mean


@pytest.mark.long
def test_a_comparison_is_a_table_and_json(told, portable):
    shown = str(told)
    assert f"regime zero-text: {told.verdict}" in shown
    assert "Is moving better than retraining with the same budget? " in shown
    assert all(f"  {option}" in shown for option in ("transferred", "direct", "lora", "source-alone"))
    assert type(told).model_validate_json(told.model_dump_json()) == told
    assert told.verdict in card(portable.with_verdict(told))


@pytest.mark.long
@pytest.mark.parametrize(
    ("leads", "verdict", "expected"),
    [
        ({"direct": (0.1, 0.3), "lora": (0.2, 0.4)}, "SUPPORTED", ("yes", "transferred")),
        ({"direct": (0.1, 0.3), "lora": (-0.1, 0.4)}, "SUPPORTED", ("not shown", "lora")),
        ({"direct": (-0.3, -0.1), "lora": (0.2, 0.4)}, "REFUTED", ("no", "direct")),
        ({"direct": (0.1, 0.3), "lora": (0.2, 0.4)}, "VACUOUS", ("yes", "raw")),
        ({}, "SUPPORTED", ("not shown", "transferred")),
    ],
)
def test_the_choice_follows_from_the_leads(told, leads, verdict, expected):
    """`leads`: intervals of moved less the arm; the lower end is also its mean, so that the arm with the least is the best."""
    kept = [option for option in told.options if option.arm not in ("direct", "lora", "raw", "source-alone")]
    [moved] = [option for option in kept if option.arm == "transferred"]
    [found] = [option.lead for option in told.options if option.arm == "raw"]
    for arm, (lower, upper) in {"raw": (0.5, 0.7), **leads}.items():
        lead = found.model_copy(update={"lower": lower, "upper": upper})
        own = moved.bits_per_byte.model_copy(update={"mean": moved.bits_per_byte.mean + lower})
        kept.append(moved.model_copy(update={"arm": arm, "lead": lead, "bits_per_byte": own}))
    answer = answered(kept)
    assert (answer, chosen(verdict, answer, kept)[0]) == expected


def test_what_cannot_be_compared_is_one_sentence(world, gpt2, qwen, portable, refuses):
    given = (gpt2, qwen, world / "queries", world / "prose")
    with refuses("'adapter' is neither a Module nor one of its kinds"):
        abi.compare("adapter", *given)
    with refuses("its regime is zero-text, not few-shot"):
        abi.compare(portable, *given, regime="few-shot")
    with refuses("regime 'zero-text' is none of oracle-kd, few-shot, general-only"):
        abi.compare("module", *given, regime="zero-text")
    with refuses("seeds is 0; give how many, 3 or more for a verdict"):
        abi.compare("module", *given, seeds=0)
