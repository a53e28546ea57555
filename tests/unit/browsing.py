"""A headless chromium, and axe, for the tests of pages (`make test-demo`)."""

import shutil
from contextlib import contextmanager

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; `make test-demo`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed; `make test-demo`")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as found:
            yield found


@contextmanager
def opening(browser, address):
    """Open a page in a view; nothing may be said on the console, and nobody else be asked, until the end."""
    said, asked, contexts = [], [], []

    def open_page(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if url != address and not url.startswith((f"{address}/", "data:"))} == set()


def faults(page):
    """Return what axe finds that keeps somebody from reading a page: its rule, and the first element."""
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
