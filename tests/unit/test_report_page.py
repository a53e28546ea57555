"""The report: every word and figure of it follows from result files, and a browser needs nothing else to show it."""

import csv
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser

import pytest
from report_facts import facts, plain, results, typed, unknown, unknown_document, whole

from abi.base.names import VERDICTS
from abi.base.tables import csv_text
from abi.report.blocks import Bullets, Fold, Para, Section, html, markdown, parsed
from abi.report.figures import svg_of
from abi.report.known import percent
from abi.report.page import card_plots, page, rule_edges, table_rows
from abi.report.render import Table, figure
from abi.report.statements import deciding_statements
from abi.report.words import deciding, in_order, in_words, plain_words


def built(found=None, **changes):
    """Return the page, its HTML and the SVG of every figure."""
    made = page(facts(found, **changes))
    figures = {drawing.name: svg_of(drawing) for drawing in made.drawings()}
    return made, html(made, figures), figures


@pytest.fixture(scope="module")
def reference():
    return built()


@pytest.fixture(scope="module")
def with_unknown():
    return built([*results(), unknown()])


def as_csv(drawing):
    return csv_text(drawing.columns, drawing.rows)


class Reader(HTMLParser):
    """Collects tags, attributes, anchors, and the tags left open."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link", "wbr"})

    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.links, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_page_is_well_formed_and_every_anchor_is_there_once(with_unknown):
    found = read(with_unknown[1])
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links if link.startswith("#")} <= set(found.ids)


def test_nothing_is_fetched_and_nothing_runs(with_unknown):
    text = with_unknown[1]
    assert {link for link in read(text).links if not link.startswith("#")} == {"https://github.com/Yoder23/abi"}
    assert not re.search(r"<script|<iframe|<object|<embed|@import|url\((?!#)|\son\w+=", text)
    assert "default-src 'none'" in text


def test_no_markdown_is_left_in_what_is_read():
    """Links to documents and emphasis of quoted findings stood there as they are written."""
    made = page(facts(whole()))
    text = html(made, dict.fromkeys([drawing.name for drawing in made.drawings()], ""))
    text = unescape(re.sub(r"<(style|svg|pre|code)\b.*?</\1>|<[^>]+>", "", text, flags=re.DOTALL))
    assert not re.search(r"\]\(|\*\*|(?<!\w)\*\w[^*\n]*\w\*(?!\w)", text)
    assert "n-gram model that counts" in " ".join(text.split())


def test_a_scale_that_means_nothing_gives_no_findings_and_no_advice():
    _, text, _ = built(meaningless=True)
    assert "What was found" not in text
    assert "What a user should do" not in text
    assert "What was found" in built()[1]


def test_an_experiment_shows_the_metric_that_decides_it():
    for result in whole():
        if result.claim.kind == "experiment":
            said = deciding_statements(result)[0]
            assert [d.name.endswith(f"-{said.metric}") for d in card_plots(result)] == [True], result.claim.id


def test_the_page_names_its_language_title_and_viewport(reference):
    tags = read(reference[1]).tags
    assert ("html", {"lang": "en"}) in tags
    assert "title" in [tag for tag, _ in tags]
    assert any(attrs.get("name") == "viewport" for tag, attrs in tags if tag == "meta")


def test_every_result_has_an_anchor_and_a_line_in_the_contents_or_its_claim(with_unknown):
    ids = read(with_unknown[1]).ids
    assert {f"claim-{result.claim.id}" for result in [*results(), unknown()]} <= set(ids)


def test_every_figure_says_in_words_what_it_shows(with_unknown):
    _, text, figures = with_unknown
    drawn = [attrs for tag, attrs in read(text).tags if tag == "svg"]
    assert len(drawn) == len(figures) > 0
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)


def heads(shown):
    """Return the results that stand alone: claims, and regimes of a claim that is not shown."""
    return [result for result in shown if result.claim.of not in {other.claim.id for other in shown}]


def rows_of_ladder(text):
    part = text.partition('<section id="ladder">')[2].partition("</section>")[0]
    return {
        re.search(r">(\w+)</a>", row.replace("<wbr>", ""))[1]: re.findall(r'class="word [\w-]+">([A-Z]+)<', row)
        for row in re.findall(r"<tr><th scope=\"row\".*?</tr>", part, re.DOTALL)
    }


def test_verdicts_are_those_of_the_results(with_unknown):
    found = rows_of_ladder(with_unknown[1])
    verdicts = {r.claim.id: r.verdict for r in heads([*results(), unknown()])}
    assert {claim: words[0] for claim, words in found.items()} == verdicts


def test_a_changed_verdict_changes_picture_table_card_and_summary(reference):
    changed = results()
    changed[0] = changed[0].model_copy(update={"verdict": "SUPPORTED"})
    text = built(changed)[1]
    claim = changed[0].claim.id
    assert rows_of_ladder(text)[claim] == ["SUPPORTED"]
    assert text.count(">SUPPORTED<") == reference[1].count(">SUPPORTED<") + 4  # picture, table, card, summary


def test_identical_results_give_identical_bytes(reference):
    made, text, _ = built()
    assert text == reference[1]
    assert markdown(made) == markdown(reference[0])


@pytest.mark.parametrize("metric", ["js_nats", "top5", "bits_per_byte"])
def test_the_numbers_of_a_figure_are_those_of_its_result(reference, metric):
    made, _, figures = reference
    drawings = {drawing.name: drawing for drawing in made.drawings()}
    for result in results():
        arms = {a: found.domain[metric] for a, found in deciding(result).arms.items() if metric in found.domain}
        name = f"arms-{result.claim.id}-{result.claim.fit}-{metric}"
        rows = list(csv.DictReader(as_csv(drawings[name]).splitlines()))
        assert [row["arm"] for row in rows] == in_order(arms)
        for row in rows:
            entry = arms[row["arm"]]
            assert [float(row[key]) for key in ("mean", "lower", "upper")] == [entry.mean, entry.lower, entry.upper]
            assert [float(row[f"seed {seed}"]) for seed in entry.per_seed] == list(entry.per_seed.values())
            assert f"{row['arm']} {figure(entry.mean)}" in figures[name]
            assert f">{row['arm']}</text>" in figures[name]


def test_controls_stand_in_every_figure_and_table_of_a_claimed_arm(reference):
    for drawing in reference[0].drawings():
        if drawing.name.startswith("arms-"):
            arms = {row[0] for row in drawing.rows}
            assert {"random", "linear"} <= arms
            assert arms & {"transferred", "candidate"}


def test_a_study_of_its_own_has_its_verdict_figures_and_tables(with_unknown):
    _, text, figures = with_unknown
    section = text.partition('<section id="claim-atlas">')[2].partition('<section id="transfers">')[0]
    assert "Modules &lt;stay&gt; local." in section
    for study in ("round1-python", "round2-python"):
        assert f"<code>{study}</code>: <strong" in section
    assert "arms-atlas-round1-python-js_nats" in figures
    assert "Its arms have the figures of study <code>round1-python</code>." in section  # so they are shown once
    assert "arms-atlas-round2-python-js_nats" not in figures
    assert "0.123" in section
    assert "gain above 70 %" in section
    assert ">failed<" in section


def test_curves_and_matrices_of_a_result_are_drawn_with_their_numbers(with_unknown):
    drawings = {drawing.name: drawing for drawing in with_unknown[0].drawings()}
    assert as_csv(drawings["curve-atlas-law"]).splitlines()[1:] == [
        "transferred,8.0,1.25,1.0,2.0",
        "transferred,32.0,,,",
        "transferred,128.0,3.5,3.0,4.0",
    ]
    assert as_csv(drawings["matrix-atlas-js"]).splitlines() == [
        "module of,python,prose",
        "python,0.0123,0.5",
        "prose,0.75,",
    ]
    assert ">0.0123</text>" in with_unknown[2]["matrix-atlas-js"]
    assert "<image" not in with_unknown[1]


def test_the_least_that_a_result_can_hold_is_rendered():
    claim = {"id": "bare", "title": "t", "statement": "s", "kind": "something-new", "record": {"result_file": "x.json"}}
    parts = {"fits": {}, "tables": [], "checks": [], "curves": [], "matrices": []}
    bare = unknown(claim=claim, **parts)
    text = built([bare])[1]
    assert "claim-bare" in text
    assert ">INCONCLUSIVE<" in text


def test_the_summary_counts_verdicts_and_says_what_the_scale_is_worth(reference):
    part = reference[1].partition('<section id="summary">')[2].partition("</section>")[0]
    words = unescape(re.sub(r"<[^>]+>", "", part))
    counts = Counter(result.verdict for result in heads(results()))
    assert all(f"{count} {verdict}" in words for verdict, count in counts.items())
    marks = [plain()[r.claim.id]["fits"][r.claim.fit]["published_criteria"] for r in heads(results())]
    own = [met["arms"][name]["passed"] for met in marks for name in {"transferred", "candidate"} & met["arms"].keys()]
    controls = [met["arms"][name]["passed"] for met in marks for name in met["controls"]]
    assert f"{sum(own)} of {len(own)} claimed arms and by {sum(controls)} of {len(controls)} control arms" in words
    moved = [r.fits["kd"].share.estimate for r in results() if r.claim.id in {"gpt2_to_qwen", "t5_to_gpt2"}]
    assert f"{percent(moved)} of its gain in JS is its own" in " ".join(words.split())
    assert "verdicts are no evidence" in built(meaningless=True)[1]


def test_a_reason_is_said_in_plain_words():
    found = {r.claim.id: in_words(r) for r in results()}
    assert found["t5_to_gpt2"] == (
        "Refuted: the moved module keeps less than 0.5 of what the right net adds over the placebo `random`; and less than "
        "0.1 of the gain is the moved net's own: the placebo `random`, which moves no knowledge, gains nearly as much or "
        "more (measured in `js_nats`)."
    )
    [undecided] = [in_words(r) for r in whole() if r.claim.id == "t5_to_gpt2_general_only"]
    assert undecided.startswith("Undecided: it is not shown that at least 0.1 of the gain is the moved net's own")
    assert "; and " not in undecided
    assert found["t5_same_backbone"].startswith("Refuted: less than 0.1 of the gain is the moved net's own")
    ladder = next(r for r in whole() if r.claim.id == "cross_size")
    assert in_words(ladder) == (
        "Of the claims that it combines, gpt2_to_gpt2_medium, gpt2_to_gpt2_large and gpt2_medium_to_gpt2_large are REFUTED; "
        "each says why."
    )
    rungs = [ladder.rungs[0].model_copy(update={"verdict": "SUPPORTED"}), *ladder.rungs[1:]]
    mixed = in_words(ladder.model_copy(update={"rungs": rungs}))
    assert "gpt2_to_gpt2_medium is SUPPORTED, and gpt2_to_gpt2_large and gpt2_medium_to_gpt2_large are REFUTED" in mixed
    unnamed = unknown(verdict="REFUTED", reason="no test is named")
    assert in_words(unnamed) == ""


def test_markdown_holds_the_same_claims_verdicts_and_figures(with_unknown):
    made, _, figures = with_unknown
    text = markdown(made)
    assert all(f"figures/{name}.svg" in text for name in figures)
    assert all(f'<a id="claim-{result.claim.id}"></a>' in text for result in results())
    assert "Modules &lt;stay> local." in text
    assert any(f"**{word}**" in text for word in VERDICTS)


def test_the_graph_and_the_deviations_are_those_of_the_documents(reference):
    text = reference[1]
    assert "figure-rules" in text
    assert "Deviations from the original" in text
    assert rule_edges("<!-- dag:begin -->\n    a --> b\n<!-- dag:end -->\n    c --> d\n") == [("a", "b")]
    assert table_rows("x\n| a | b |\n| --- | --- |\n| 1 | 2 |\n") == [["a", "b"], ["1", "2"]]


def test_each_result_is_cited_with_claim_scale_protocol_and_code(reference):
    for result in results():
        entry = reference[1].partition(f"@misc{{abi_tiny_{result.claim.id},")[2].partition("</pre>")[0]
        assert result.provenance.code in entry
        assert f"verdict {result.verdict}" in entry


def test_a_result_cannot_smuggle_markup_into_the_page():
    found = unknown_document()
    found["claim"]["title"] = "<script>alert(1)</script>"
    found["checks"][0]["words"] = '"><img src=x onerror=alert(1)>'
    found["matrices"][0]["title"] = "</svg><script>1</script>"
    reader = read(built([typed(found)])[1])
    assert not {"script", "img"} & {tag for tag, _ in reader.tags}
    assert reader.open == []


def test_blocks_are_written_much_as_markdown():
    table = Table(["x"], [[1]])
    text = (
        "## a: A\nfirst\n line\n\n{.note} second\n- no item\n\n\0"
        + "0\n### b: B: C\nsaid\n<details> More\n\n- one\n  two\n- three\n</details>\n###\nlast\n"
    )
    [section] = parsed(text, [table])
    assert (section.anchor, section.title) == ("a", "A")
    assert section.blocks == [
        Para("first line"),
        Para("second - no item", "note"),
        table,
        Section("b", "B: C", [Para("said"), Fold("More", [Bullets(["one two", "three"])])]),
        Para("last"),
    ]


def part_of(text, claim):
    """Return the card of a claim, before what its reader opens."""
    return text.partition(f'<section id="claim-{claim}">')[2].partition("<details>")[0]


def test_a_card_shows_statement_figure_verdict_sentence_and_one_plot(with_unknown):
    for result in heads([*results(), unknown()]):
        card = re.sub(r"<svg.*?</svg>", "", part_of(with_unknown[1], result.claim.id), flags=re.DOTALL)
        words = unescape(re.sub(r"<[^>]+>", "", card))
        assert f">{result.verdict}</strong>" in card
        assert plain_words(result).replace("`", "") in " ".join(words.split())
        assert result.claim.statement in " ".join(words.split())
        assert "Published: " in words
        assert card.count("<figure ") == 1


def test_the_summary_comes_first_and_a_link_skips_to_it(reference):
    reader = read(reference[1])
    assert reader.links[0] == "#main"
    sections = [attrs["id"] for tag, attrs in reader.tags if tag == "section"]
    assert sections[:3] == ["summary", "ladder", "claims"]


def test_few_things_stop_the_tab_key_before_anything_is_opened(reference):
    """Links in closed parts are no stops: what is left are the table of claims and what can be opened."""
    shown = reference[1]
    while (
        closed := re.sub(r"<details>\s*<summary>(?:(?!<details>).)*?</details>", "<i>", shown, flags=re.DOTALL)
    ) != shown:
        shown = closed
    stops = shown.count("<i>") + len(re.findall(r"<a |tabindex", shown))
    assert stops < 15 * len(heads(results()))


def test_the_style_of_a_kind_of_figure_is_written_once(reference):
    _, text, figures = reference
    assert len(figures) > 10
    assert text.count("<style") == 1
    assert text.count(".dots text{") == 1
    assert all("<style" in svg for svg in figures.values())
    assert "@media print" in text


def test_a_published_figure_says_whether_it_passes_its_own_mark(reference):
    """A failing figure that its file agrees with is a MATCH of document and file, and no pass."""
    part = reference[1].replace("<wbr>", "").partition('<section id="claim-t5_same_backbone">')[2]
    row = re.search(r"<tr><th[^>]*><code>extended.mean_top5</code></th>(.*?)</tr>", part)[1]
    assert re.findall(r">([^<>]+)</(?:td|strong)>", row) == ["0.8549", "&gt;= 0.86", "no", "MATCH"]
