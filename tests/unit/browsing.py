"""A headless chromium, and axe, for the tests of pages (`make test-demo`)."""

import shutil

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


def faults(page):
    """Return what axe finds that keeps somebody from reading a page: its rule, and the first element."""
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
