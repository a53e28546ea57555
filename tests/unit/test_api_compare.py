"""The main question of the API: is moving better than retraining, here?"""

import json
import re

import api_world
import pytest
import torch

import abi
from abi.api import defaults
from abi.api.comparison import Option, _cells, answered, chosen
from abi.api.evidence import Study
from abi.api.modules import card
from abi.judge.fits import Figure, IntervalFound
from abi.judge.protocol import transfer_plan
from abi.judge.verdict import rejudged


def many(n, words):
    """Texts of another domain than `prose`: none is the copy of another."""
    return api_world.prose(n, seed=7, words=words, sentences=12)


def option(arm, lead=None):
    """An option that is as far from 2 bits per byte as the lower end of its lead; no other figure of it is read."""
    no = dict.fromkeys(("msd", "mss", "mse"), 0.0)
    lower, upper = lead or (0.0, 0.0)
    figure = Figure(mean=2 + lower, per_seed={}, lower=None, upper=None, **no)
    size = {"half": (upper - lower) / 2, "n_groups": 32, "n_seeds": 3, "level": 0.95}
    found = lead and IntervalFound(mean=(lower + upper) / 2, lower=lower, upper=upper, **size, **no)
    return Option(arm=arm, bits_per_byte=figure, general=None, lead=found, mean_lead=lower, cost=None)


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
    again = rejudged(told.fit, transfer_plan("zero-text", defaults.CRITERIA, told.fit.arms), defaults.CRITERIA)
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


@pytest.mark.parametrize(
    ("leads", "verdict", "expected"),
    [
        ({"direct": (0.1, 0.3), "lora": (0.2, 0.4)}, "SUPPORTED", ("yes", "transferred")),
        ({"direct": (0.1, 0.3), "lora": (-0.1, 0.4)}, "SUPPORTED", ("not shown", "lora")),
        ({"direct": (-0.3, -0.1), "lora": (0.2, 0.4)}, "REFUTED", ("no", "direct")),
        ({"direct": (-0.3, 0.1), "lora": (-0.2, -0.1)}, "REFUTED", ("no", "lora")),  # the best is not shown to be it
        ({"direct": (0.1, 0.3), "raw": (-0.1, 0.1)}, "REFUTED", ("yes", "raw")),
        ({"direct": (0.1, 0.3), "lora": (-0.1, 0.1), "raw": (-0.2, 0.1)}, "REFUTED", ("not shown", "raw")),
        ({"direct": (0.1, 0.3), "lora": (0.2, 0.4)}, "VACUOUS", ("yes", "raw")),
        ({}, "SUPPORTED", ("not shown", "transferred")),
    ],
)
def test_the_choice_follows_from_the_leads(leads, verdict, expected):
    """`leads`: intervals of moved less the arm; the lower end is also its mean, so that the arm with the least is the best."""
    kept = [option("transferred"), *(option(arm, ends) for arm, ends in {"raw": (0.5, 0.7), **leads}.items())]
    answer = answered(kept)
    assert (answer, chosen(verdict, answer, kept)[0]) == expected


def test_harm_to_general_text_is_told_where_it_counts_beside_the_gain():
    def of(arm, general, ends=None):
        found = option(arm, ends)
        return found.model_copy(update={"general": found.bits_per_byte.model_copy(update={"mean": general})})

    for harm, told in ((0.3, True), (0.01, False)):
        kept = [of("transferred", 2.0 + harm), of("raw", 2.0, (0.5, 0.7)), option("direct", (0.1, 0.3))]
        why = chosen("SUPPORTED", "yes", kept)[1]
        assert ("General text gets worse by 0.3 bits per byte." in why) is told


def test_a_module_trained_on_the_target_is_named_where_it_is_better_still():
    kept = [option("transferred"), option("direct", (0.1, 0.3)), option("lora", (0.1, 0.3)), option("raw", (0.5, 0.7))]
    words = "A module trained on all of `texts` on the target itself is better still"
    assert words not in chosen("SUPPORTED", "yes", [*kept, option("oracle", (0.1, 0.3))])[1]
    assert words in chosen("SUPPORTED", "yes", [*kept, option("oracle", (-0.2, -0.1))])[1]


@pytest.mark.parametrize(
    ("raw", "verdict", "expected", "words"),
    [
        (
            (0.05, 0.15),
            "SUPPORTED",
            "transferred",
            "the plain target; retraining with the same budget is not, on average.",
        ),
        ((-0.05, 0.15), "INCONCLUSIVE", "raw", "The moved module is not shown to be better than the plain target."),
    ],
)
def test_what_did_worse_than_the_plain_target_is_not_chosen(raw, verdict, expected, words):
    """The moved module is better than both, on average; over `direct` that is not shown."""

    def of_mean(arm, mean, lead):
        found = option(arm, lead)
        return found.model_copy(update={"bits_per_byte": found.bits_per_byte.model_copy(update={"mean": mean})})

    kept = [option("transferred"), of_mean("raw", 2.05, raw), of_mean("direct", 2.3, (-0.1, 0.7))]
    choice, why = chosen(verdict, answered(kept), kept)
    assert (choice, words in why) == (expected, True)


def test_a_source_that_was_scored_on_other_documents_is_not_compared(gpt2):
    kept = [option("transferred"), option("raw", (0.1, 0.3)), option("source-alone", (-0.3, -0.1))]
    assert "keep the source model, it is better still" in chosen("SUPPORTED", "not shown", kept)[1]
    kept[-1] = kept[-1].model_copy(update={"mean_lead": None, "lead": None})
    assert "keep the source model" not in chosen("SUPPORTED", "not shown", kept)[1]
    assert _cells(kept[-1])[1] == "-"


def test_one_seed_on_a_few_texts_is_a_table_without_a_verdict(gpt2, qwen, portable, caplog):
    given = api_world.queries(24), api_world.prose(24)
    told = abi.compare(portable, gpt2, qwen, *given, seeds=1, steps=2, train_steps=2, lora=False)
    assert (told.verdict, told.fit.counts.seeds) == ("INCONCLUSIVE", [1])
    assert "30 groups and 3 seeds are needed" in told.reason
    assert re.search(r"enough text: \d of texts, \d of general_texts\)", told.reason)
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [re.sub(r"\d+", "n", message) for message in warned] == [
        f"compare: {what} gives n held-out documents and a verdict needs n, so it will be INCONCLUSIVE; give n "
        "documents or more"
        for what in ("texts", "general_texts")
    ] + ["compare: a verdict needs n seeds, so with n it will be INCONCLUSIVE"]
    assert {"transferred", "random", "permuted", "direct", "oracle", "raw"} <= {o.arm for o in told.options}
    assert all(option.lead is None for option in told.options)
    assert "regime zero-text: INCONCLUSIVE" in str(told)
    assert type(told).model_validate_json(told.model_dump_json()) == told


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_comparison_that_goes_on_counts_the_seconds_of_the_seeds_it_goes_on_from(
    gpt2, qwen, portable, tmp_path, monkeypatch
):
    given = (portable, gpt2, qwen, api_world.queries(24), api_world.prose(24))
    asked = {"seeds": 2, "steps": 2, "train_steps": 2, "lora": False, "keep": tmp_path / "parts"}
    of_seed = Study.of_seed
    monkeypatch.setattr(Study, "of_seed", lambda self, seed: of_seed(self, seed) if seed == 1 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        abi.compare(*given, **asked)
    [kept] = (tmp_path / "parts").glob("seed-*.json")
    made = json.loads(kept.read_text())
    assert made["seconds"] > 0
    kept.write_text(json.dumps(made | {"seconds": 5000.0}))
    monkeypatch.setattr(Study, "of_seed", of_seed)
    assert 5000 < abi.compare(*given, **asked).seconds < 5000 + 600


def test_models_in_bf16_are_compared_adapters_too(world):
    half = [api_world.loaded(world / name, dtype=torch.bfloat16) for name in ("small-gpt2", "small-qwen")]
    given = api_world.queries(24), api_world.prose(24)
    told = abi.compare("module", *half, *given, seeds=1, steps=2, train_steps=2)
    assert {"transferred", "lora"} <= {option.arm for option in told.options}


def test_text_of_another_domain_that_is_the_domain_is_refused(gpt2, qwen, portable, refuses, caplog):
    queries, prose = api_world.queries(24), api_world.prose(24)
    with refuses("compare: 24 of 24 documents of other_texts are text of the domain; give text of anything else"):
        abi.compare(portable, gpt2, qwen, queries, prose, other_texts=queries)


def test_a_text_of_fewer_windows_than_a_ladder_needs_is_one_fit_of_all(gpt2, qwen, portable):
    """A rung of one or two windows took the place of a placebo's draw, and the comparison failed at its end."""
    queries = api_world.queries(4)
    told = abi.compare(portable, gpt2, qwen, queries, api_world.prose(24), seeds=1, steps=2, train_steps=2, window=60)
    assert {"transferred", "direct", "lora"} <= {option.arm for option in told.options}


def test_what_cannot_be_compared_is_one_sentence(world, gpt2, qwen, portable, refuses):
    given = (gpt2, qwen, world / "queries", world / "prose")
    with refuses("'adapter' is neither a Module nor one of its kinds"):
        abi.compare("adapter", *given)
    with refuses("its regime is zero-text, not few-shot"):
        abi.compare(portable, *given, regime="few-shot")
    with refuses("regime 'no-text' is none of oracle-kd, few-shot, general-only"):
        abi.compare("module", *given, regime="no-text")
    with refuses("compare: zero-text moves a portable module; give 'portable' .`--kind portable`., or one"):
        abi.compare("module", *given, regime="zero-text")
    with refuses("compare: seeds is 0; give 1 or more"):
        abi.compare("module", *given, seeds=0)
