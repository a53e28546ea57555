import re
from xml.etree import ElementTree

import pytest
from matplotlib import pyplot
from report_facts import results, unknown

from abi.base.catalogue import ARMS, PURPOSES
from abi.judge.fits import ArmFigures, Curve, Figure, Series
from abi.report.dots import arms
from abi.report.figures import (
    CYCLE,
    STYLE,
    Drawing,
    colour_of,
    curve,
    layout,
    matrix,
    name_of,
    reduced,
    rules,
    svg_of,
    write,
)


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


def test_a_figure_is_written_shorter_and_nothing_of_it_is_lost():
    def draw(panel):
        axes = panel.add_subplot()
        axes.plot([0.0, 1.0], [2.0, 3.0], label="a 1.00 b")
        axes.text(0.5, 2.5, "10.0 and 0.123456")
        axes.legend()

    svg = svg_of(Drawing("one", "c", "w", (), (), draw, (3, 2)))
    tree = ElementTree.fromstring(svg)
    texts = {text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"a 1.00 b", "10.0 and 0.123456"} <= texts
    assert svg.count("font-family") == 1
    assert "<g>" not in svg
    assert not re.search(r'="[^"]*\d\.\d\d\d', svg)


def test_ids_are_those_of_the_figure_and_its_words_are_escaped(plain):
    svg = svg_of(plain)
    assert all(found.startswith("plain-") for found in re.findall(r'\bid="([^"]+)"', svg))
    assert all(found.startswith("plain-") for found in re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert "<title>A &lt; B</title>" in svg
    assert "<desc>one &amp; two</desc>" in svg


def test_every_known_arm_has_the_colour_of_its_purpose_and_no_two_share_one():
    assert len({purpose.colour for purpose in PURPOSES}) == len(PURPOSES)
    assert {arm: colour_of(arm, 3) for arm in ARMS} == {arm.name: arm.purpose.colour for arm in ARMS.values()}
    assert colour_of("somebody", 1) == CYCLE[1]


def test_every_seed_is_a_dot_and_the_threshold_a_line():
    [result] = [r for r in results() if r.claim.id == "t5_to_gpt2"]
    drawings = {d.name: d for d in arms("t5_to_gpt2", "kd", result.fits["kd"])}
    js, text = (svg_of(drawings[f"arms-t5_to_gpt2-kd-{metric}"]) for metric in ("js_nats", "bits_per_byte"))
    asked = [found.domain["js_nats"] for found in result.fits["kd"].arms.values() if "js_nats" in found.domain]
    assert js.count("h0") == sum(len(found.per_seed) for found in asked)
    assert js.count('class="mean"') == len(drawings["arms-t5_to_gpt2-kd-js_nats"].rows)
    assert js.count('class="at"') == 1
    assert 'class="at"' not in text
    assert "Dashed: published threshold 0.1." in js


def test_a_ladder_of_budgets_is_named_in_the_caption():
    [result] = [r for r in results() if r.claim.id == "gpt2_to_gpt2_medium_few_shot"]
    assert "mean over 3 draws or budgets" in arms("x", "ce", result.fits["ce"])[0].caption


def test_metrics_that_are_not_known_are_drawn_all_the_same():
    entry = Figure(mean=1.5, lower=None, upper=None, per_seed={"1": 1.5}, msd=None, mss=None, mse=None)
    figures = {"new": ArmFigures(draws=1, general={"efficacy": entry})}
    [drawing] = arms("x", "y", study().model_copy(update={"arms": figures}))
    assert (drawing.name, drawing.rows) == ("arms-x-y-efficacy", [("new", 1.5, None, None, 1.5)])
    assert "efficacy (general)" in drawing.caption
    assert ">new</text>" in svg_of(drawing)


def study():
    return unknown().fits["round1-python"]


def test_a_study_without_arms_has_no_figure():
    assert arms("x", "y", study().model_copy(update={"arms": {}})) == []


def test_a_single_cell_and_a_single_point_are_drawn():
    found = unknown()
    cell = found.matrices[0].model_copy(update={"rows": ["a"], "columns": ["b"], "values": [[0.5]]})
    assert ">0.5</text>" in svg_of(matrix("x", cell))
    for y in (2.0, None):
        series = found.curves[0].series[0].model_copy(update={"x": [1.0], "y": [y], "lower": None, "upper": None})
        assert "<svg" in svg_of(curve("x", found.curves[0].model_copy(update={"series": [series]})))


def test_rules_lie_below_what_they_need_and_implied_edges_are_left_out():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c")]
    places = layout(edges)
    assert all(places[start][1] < places[end][1] for start, end in edges)
    assert len(set(places.values())) == len(places)
    assert set(reduced(edges)) == {("a", "b"), ("b", "c"), ("a", "d"), ("d", "c")}
    assert ">a</text>" in svg_of(rules([*edges, ("d", "d")]))


@pytest.mark.parametrize("longest", [4, 18, 60])
def test_a_legend_lies_inside_its_figure(longest):
    """Of twelve names of a scaling law's curves eight were cut."""
    series = [Series(name=f"{i}".ljust(longest, "m"), x=[1, 2], y=[1, 2]) for i in range(12)]
    shown = curve("x", Curve(id="c", title="t", x_label="x", y_label="y", caption="", log_x=False, series=series))
    figure = pyplot.figure(figsize=shown.size, layout="constrained")
    with pyplot.rc_context(STYLE):
        shown.draw(figure)
        figure.canvas.draw()
        [legend] = figure.legends
        box, room = legend.get_window_extent(), figure.bbox
    pyplot.close(figure)
    assert longest == 60 or (box.x0 >= 0 and box.x1 <= room.x1)  # of sixty letters one column is cut, but not two
    assert legend._ncols == {4: 3, 18: 2, 60: 1}[longest]


def test_points_that_go_back_and_forth_are_not_joined_and_ticks_are_what_was_measured():
    series = [Series(name="a", x=[8, 32, 128], y=[1, 2, 3]), Series(name="b", x=[128, 8, 32], y=[1, 2, 3])]
    shown = curve("x", Curve(id="c", title="t", x_label="x", y_label="y", caption="", log_x=True, series=series))
    figure = pyplot.figure(figsize=shown.size)
    shown.draw(figure)
    [axes] = figure.axes
    assert [line.get_linestyle() for line in axes.lines] == ["-", "None"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "32", "128"]
    pyplot.close(figure)


def test_names_of_figures_are_names_of_files():
    assert name_of("Arms", "a_b", "round 1/python") == "arms-a_b-round-1-python"
