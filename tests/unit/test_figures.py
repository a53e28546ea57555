import re

import pytest
from report_facts import results, unknown

from abi.report.figures import curves, dots, graph
from abi.report.figures.canvas import COLOURS, ROLES, Drawing, name_of, svg_of, write
from abi.report.tables import ORDER


def draw(panel):
    panel.add_subplot().plot([1, 2], [3, 4])


@pytest.fixture
def plain():
    return Drawing("plain", "A < B", "one & two", ("a",), ((1.5,), (None,)), draw, (3, 2))


def test_the_same_figure_is_the_same_file_without_a_date(plain, tmp_path):
    first, second = (write(plain, tmp_path / name) for name in ("a", "b"))
    assert first == second == (tmp_path / "a/plain.svg").read_text()
    assert (tmp_path / "a/plain.csv").read_text() == 'a\n1.5\n""\n'
    assert not re.search(r"\d{4}-\d\d-\d\d", first)


def test_ids_are_those_of_the_figure_and_its_words_are_escaped(plain):
    svg = svg_of(plain)
    assert all(found.startswith("plain-") for found in re.findall(r'\bid="([^"]+)"', svg))
    assert all(found.startswith("plain-") for found in re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert "<title>A &lt; B</title>" in svg
    assert "<desc>one &amp; two</desc>" in svg


def test_every_known_arm_has_one_colour():
    arms = [arm for _, _, names in ROLES for arm in names]
    assert sorted(arms) == sorted(ORDER)
    assert len(COLOURS) == len(arms)


def test_every_seed_is_a_dot_and_the_threshold_a_line():
    [result] = [r for r in results() if r["claim"]["id"] == "t5_to_gpt2"]
    drawings = {d.name: d for d in dots.drawings("t5_to_gpt2", "kd", result["fits"]["kd"])}
    js, text = (svg_of(drawings[f"arms-t5_to_gpt2-kd-{metric}"]) for metric in ("js_nats", "bits_per_byte"))
    n_arms = len(drawings["arms-t5_to_gpt2-kd-js_nats"].rows)
    assert js.count("<use ") >= n_arms * (5 + 1)
    assert "stroke-dasharray" in js
    assert "stroke-dasharray" not in text
    assert "Dashed: published threshold 0.1." in js


def test_a_ladder_of_budgets_is_named_in_the_caption():
    [result] = [r for r in results() if r["claim"]["id"] == "gpt2_to_qwen_few_shot"]
    assert "mean over 3 draws or budgets" in dots.drawings("x", "ce", result["fits"]["ce"])[0].caption


def test_metrics_that_are_not_known_are_drawn_all_the_same():
    entry = {"mean": 1.5, "lower": None, "upper": None, "per_seed": {"1": 1.5}}
    [drawing] = dots.drawings("x", "y", {"arms": {"new": {"draws": 1, "later": {"efficacy": entry}}}})
    assert (drawing.name, drawing.rows) == ("arms-x-y-efficacy", (("new", 1.5, None, None, 1.5),))
    assert ">new</text>" in svg_of(drawing)


def test_a_study_without_arms_has_no_figure():
    assert dots.drawings("x", "y", {}) == []


def test_a_single_cell_and_a_single_point_are_drawn():
    found = unknown()
    matrix = {**found["matrices"][0], "rows": ["a"], "columns": ["b"], "values": [[0.5]]}
    curve = {**found["curves"][0], "series": [{"name": "s", "x": [1], "y": [2]}]}
    assert ">0.5</text>" in svg_of(curves.matrix("x", matrix))
    assert "<svg" in svg_of(curves.curve("x", curve))
    assert "<svg" in svg_of(curves.curve("x", {**curve, "series": [{"name": "s", "x": [1], "y": [None]}]}))


def test_rules_lie_below_what_they_need_and_implied_edges_are_left_out():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c")]
    places = graph.layout(edges)
    assert all(places[start][1] < places[end][1] for start, end in edges)
    assert len(set(places.values())) == len(places)
    assert set(graph.reduced(edges)) == {("a", "b"), ("b", "c"), ("a", "d"), ("d", "c")}
    assert ">a</text>" in svg_of(graph.drawing(edges))


def test_names_of_figures_are_names_of_files():
    assert name_of("Arms", "a_b", "round 1/python") == "arms-a_b-round-1-python"
