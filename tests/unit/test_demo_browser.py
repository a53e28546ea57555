"""The page of `abi demo` in a headless browser (`make test-demo`): what it shows, by keyboard too, and that it asks nobody.

Screenshots lie in build/demo afterwards, to be looked at.
"""

from pathlib import Path

import pytest
from browsing import CHROMIUM, VIEWS, faults, opening, sync_api
from browsing import browser as browser  # a fixture
from test_demo import serving

import abi
from abi.api.inspecting import inspect_tokens
from abi.cli.demo_server import Demo

SHOTS = Path(__file__).parents[2] / "build" / "demo"
PROMPT = "SELECT state, number FROM window"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install it (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def models(world, gpt2, qwen, trained):
    """Two models: a module at home, and moved beside a native one and a placebo."""
    moved = abi.transfer(trained, gpt2, qwen, general_texts=world / "prose", steps=30)
    native = abi.train(*qwen, world / "queries", name="sql", steps=60, rates=[1e-2])
    placebo = abi.train(*qwen, world / "prose", name="prose", steps=5, seed=2)
    shown = {"moved": moved, "oracle": native, "placebo, of prose": placebo}
    with abi.attach(gpt2[0], {"sql": trained}, tokenizer=gpt2[1]) as first:
        with abi.attach(qwen[0], shown, tokenizer=qwen[1]) as second:
            yield {"small-qwen": second, "small-gpt2": first}


@pytest.fixture(scope="module")
def address(models):
    with serving(Demo(models)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def opened(browser, address):
    with opening(browser, address) as open_page:

        def open_demo(width=1280, scheme="light"):
            page = open_page(width, scheme)
            page.wait_for_selector("#tokens button")
            return page

        yield open_demo


def expect(page, selector):
    """Wait for what an element shows; the page's policy forbids to evaluate a condition in it."""
    return sync_api.expect(page.locator(selector))


def typed(page, prompt):
    """Give a prompt, and wait until its tokens are there."""
    with page.expect_response("**/api/inspect"):
        page.fill("#prompt", prompt)
    expect(page, "#status").to_be_empty()


def shown(page):
    """The figures under the tokens."""
    return page.locator("#tokens small").all_inner_texts()


def test_every_token_has_the_figure_of_the_library_and_a_slider_moves_it(opened, models):
    page = opened()
    typed(page, PROMPT)
    for weight in (1.0, 1.5):
        if weight != 1.0:
            page.focus("#weight-0")
            with page.expect_response("**/api/inspect"):
                for _ in range(10):
                    page.keyboard.press("ArrowRight")
            expect(page, "#status").to_be_empty()
        wanted = inspect_tokens(models["small-qwen"], {"moved": weight}, PROMPT)
        assert shown(page) == [f"{one.js_nats:.3f}" for one in wanted]
    with page.expect_response("**/api/inspect"):
        page.click("#none")
    expect(page, "#mean").to_contain_text("Moved by 0.000")


def test_one_reading_runs_at_a_time_and_the_last_state_is_shown(opened, models):
    page, held = opened(), []
    typed(page, PROMPT)
    page.route("**/api/inspect", lambda route: held.append(route))
    with page.expect_request("**/api/inspect"):
        page.click("#none")
    for name in ("only oracle", "only placebo, of prose", "only oracle"):
        page.click(f"button[aria-label='{name}']")
    page.wait_for_timeout(300)
    assert len(held) == 1
    with page.expect_request("**/api/inspect"):
        held[0].continue_()
    page.wait_for_timeout(300)
    assert len(held) == 2
    held[1].continue_()
    expect(page, "#status").to_be_empty()
    assert shown(page) == [
        f"{one.js_nats:.3f}" for one in inspect_tokens(models["small-qwen"], {"oracle": 1.0}, PROMPT)
    ]
    assert len(held) == 2


def test_the_keyboard_alone_goes_through_the_tokens(opened):
    page = opened()
    typed(page, PROMPT)
    page.keyboard.press("Home")
    page.focus("#tokens button[tabindex='0']")
    page.keyboard.press("Home")
    heads = []
    for _ in range(3):
        heads.append(page.locator("#detail-title").inner_text())
        assert page.locator("#tokens button[aria-current='true']").evaluate("one => one === document.activeElement")
        page.keyboard.press("ArrowRight")
    assert len(set(heads)) == 3
    page.keyboard.press("End")
    assert "after the end" in page.locator("#detail-title").inner_text()


def test_models_and_modules_are_swapped_and_written_with(opened):
    page = opened()
    typed(page, PROMPT)
    page.click("#writing button")
    expect(page, "#with").not_to_be_empty()
    assert page.locator("#without").inner_text().startswith(PROMPT)
    page.click("text=Compare")
    page.wait_for_selector("#compared td")
    rows = page.locator("#compared tbody tr")
    assert rows.locator("th").all_inner_texts() == ["moved", "oracle", "placebo, of prose"]
    assert rows.nth(1).locator("td").last.inner_text() == "0.000"  # the native one is the reference
    before = shown(page)
    with page.expect_response("**/api/inspect"):
        page.click("[aria-label='only oracle']")
    expect(page, "#status").to_be_empty()
    assert shown(page) != before
    with page.expect_response("**/api/inspect"):
        page.select_option("#model", "small-gpt2")
    assert page.locator(".module label").all_inner_texts() == ["sql"]


def test_a_prompt_is_text_in_the_page_and_never_part_of_it(opened):
    page = opened()
    typed(page, "<b id='x'>a</b>")
    page.click("#writing button")
    expect(page, "#with").to_contain_text("<b id='x'>a</b>")
    assert page.locator("#x").count() == 0


def test_what_cannot_be_read_is_said(opened):
    page = opened()
    typed(page, PROMPT)
    page.fill("#prompt", "")
    expect(page, "#status").to_have_text("Give a prompt.")
    assert page.locator("#tokens button").count() == 0  # nothing of the prompt before
    page.click("text=Compare")
    expect(page, "#compared-status").to_have_text("Give a prompt.")


def test_a_button_keeps_the_focus_and_what_was_made_before_a_change_says_so(opened):
    page = opened()
    typed(page, PROMPT)
    page.focus("#writing button")
    page.keyboard.press("Enter")
    expect(page, "#with").not_to_be_empty()
    expect(page, "#texts-status").to_be_empty()
    assert page.locator("#writing button").evaluate("one => one === document.activeElement")
    page.click("text=Compare")
    page.wait_for_selector("#compared td")
    with page.expect_response("**/api/inspect"):
        page.click("#none")
    expect(page, "#texts-status").to_contain_text("Made before the last change")
    expect(page, "#compared-status").to_be_empty()  # each module alone, at weight 1, whatever the sliders say
    typed(page, PROMPT + " ORDER")
    expect(page, "#compared-status").to_contain_text("Made before the last change")
    page.click("#writing button")
    expect(page, "#texts-status").to_be_empty()


def test_a_late_answer_is_of_the_prompt_that_was_asked_and_of_no_other_model(opened):
    page, held = opened(), []
    typed(page, PROMPT)
    page.route("**/api/write", lambda route: held.append(route))
    page.click("#writing button")
    expect(page, "#texts-status").to_have_text("Running …")
    typed(page, PROMPT + " ORDER")
    held.pop().continue_()
    expect(page, "#texts-status").to_contain_text("Made before the last change")
    assert page.locator("#without").inner_text().startswith(PROMPT)
    assert "ORDER" not in page.locator("#without b").inner_text()
    page.click("#writing button")
    expect(page, "#texts-status").to_have_text("Running …")
    with page.expect_response("**/api/inspect"):
        page.select_option("#model", "small-gpt2")
    held.pop().continue_()
    expect(page, "#texts-status").to_be_empty()
    expect(page, "#without").to_be_empty()


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_it_is_legible_and_without_a_serious_fault_in_every_view(opened, width, scheme):
    page = opened(width, scheme)
    typed(page, PROMPT)
    page.click("#writing button")
    expect(page, "#with").not_to_be_empty()
    page.click("text=Compare")
    page.wait_for_selector("#compared td")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults(page) == []
