"""The table by which `make quick` leaves tests out."""

import csv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest_plugins = ["pytester"]


def test_every_duration_is_of_a_test_or_fixture_that_there_is(pytestconfig):
    [own] = [
        p
        for p in pytestconfig.pluginmanager.get_plugins()
        if getattr(p, "__file__", "") == str(ROOT / "tests/conftest.py")
    ]
    found = own.durations()
    assert len(found) > 1000
    assert not [name for name in found if not own.is_there(name, ROOT)], "run `make durations`"


@pytest.fixture
def suite(pytester):
    """A suite of two files, in the second of which a fixture that both its tests share takes long."""
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        test_a="def test_long(): pass\ndef test_short(): pass\n",
        test_b="import pytest\n@pytest.fixture(scope='module')\ndef big(): return 1\n"
        "def test_with(big): pass\ndef test_without(): pass\n",
    )
    return pytester


def test_what_takes_long_by_itself_or_by_a_shared_fixture_is_slow(suite):
    (suite.path / "durations.csv").write_text("name,seconds\ntest_a.py::test_long,9\ntest_b.py::big,9\n")
    suite.inline_run("-m", "not slow", "-p", "no:cacheprovider").assertoutcome(passed=2)
    suite.inline_run("-m", "slow", "-p", "no:cacheprovider").assertoutcome(passed=2)


def test_a_shared_fixture_is_counted_apart_from_the_test_that_waits_for_it(suite):
    suite.makepyfile(
        test_b="import pytest, time\n@pytest.fixture(scope='module')\ndef big(): time.sleep(0.2)\n"
        "def test_with(big): pass\ndef test_also(big): pass\n"
    )
    table = suite.path / "measured.csv"
    suite.inline_run("--durations-to", str(table), "-p", "no:cacheprovider").assertoutcome(passed=4)
    with table.open(newline="") as file:
        found = {row["name"]: float(row["seconds"]) for row in csv.DictReader(file)}
    assert found["test_b.py::big"] >= 0.2
    assert found.get("test_b.py::test_with", 0) < 0.15


def test_what_is_gone_leaves_the_table_and_what_is_skipped_keeps_its_row(suite):
    suite.makepyfile(test_c="import pytest\n@pytest.mark.skip\ndef test_of_a_card(): pass\n")
    table = suite.path / "measured.csv"
    table.write_text("name,seconds\ntest_a.py::test_gone,5\ntest_c.py::test_of_a_card,7\n")
    suite.inline_run("--durations-to", str(table), "-p", "no:cacheprovider")
    assert "gone" not in table.read_text()
    assert "test_of_a_card,7" in table.read_text()


def test_a_worker_that_dies_is_told_and_the_others_go_on(suite):
    suite.makepyfile(test_c="import os\ndef test_dies(): os._exit(3)\ndef test_after(): pass\n")
    done = suite.runpytest_subprocess("-n", "1", "-p", "no:cacheprovider")
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
    done.assert_outcomes(passed=5, failed=1)
