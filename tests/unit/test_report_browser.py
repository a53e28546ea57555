"""The report of the committed run in a headless browser (`make test-demo`), wide and narrow, light, dark and printed.

Screenshots lie in build/report afterwards, to be looked at.
"""

from pathlib import Path

import pytest
from browsing import CHROMIUM, VIEWS, faults, opening
from browsing import browser as browser  # a fixture
from test_report_job import folder as folder  # a fixture: the report of the committed run

SHOTS = Path(__file__).parents[2] / "build" / "report"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install it (Debian: apt install chromium)")


@pytest.fixture
def opened(browser, folder):
    with opening(browser, (folder / "report.html").as_uri()) as open_page:
        yield open_page


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_it_is_legible_and_without_a_serious_fault_in_every_view(opened, width, scheme):
    page = opened(width, scheme)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{width}-{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults(page) == []
    page.locator("#claims details summary").first.click()  # details are folded
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults(page) == []


def test_the_keyboard_begins_with_a_link_to_the_text(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_the_printed_page_says_that_the_details_of_claims_are_left_out(opened):
    page = opened()
    page.emulate_media(media="print")
    told = page.evaluate("getComputedStyle(document.querySelector('#claims'), '::before').content")
    assert "are not printed; the page has them" in told
    assert page.locator("#claims details").first.is_hidden()
    assert page.locator("#figure-ladder svg").first.is_visible()
