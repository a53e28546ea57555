"""What holds for all tests: how they are interrupted, and which of them are slow, as was measured."""

import csv
import re
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from abi.base.quiet import quiet

quiet()  # as a command does before it loads transformers: tests call commands where transformers is loaded already

DURATIONS = Path(__file__).parent / "durations.csv"
"""Seconds of every test function, all its parameters together, and of every fixture that tests share."""
SLOW_TEST, SLOW_FIXTURE = 0.2, 1.0
"""Seconds from which a test function is `slow`, by itself or by a fixture that it shares with others."""


def pytest_addoption(parser) -> None:
    parser.addoption("--durations-to", metavar="CSV", help="write into this table what tests and shared fixtures take")


def pytest_configure(config) -> None:
    """Let programs that tests start be interrupted: a shell starts what runs in its background with SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Watch())


def pytest_collection_modifyitems(config, items) -> None:
    """Mark what is slow, and let files that take longest come first: a long one begun last is waited for alone."""
    seconds, of_file = durations(), defaultdict(float)
    for name, took in seconds.items():
        of_file[name.partition("::")[0]] += took
    for item in items:
        shared = [_of_fixture(found[-1]) for found in item._fixtureinfo.name2fixturedefs.values()]
        if seconds.get(_of_test(item.nodeid), 0) >= SLOW_TEST or any(
            seconds.get(name, 0) >= SLOW_FIXTURE for name in shared
        ):
            item.add_marker(pytest.mark.slow)
    if config.getoption("dist", "no") == "loadfile" or hasattr(config, "workerinput"):
        items.sort(key=lambda item: -of_file[item.nodeid.partition("::")[0]])  # stable: a file's own order stays


class Watch:
    """Counts what tests take and, apart from them, the fixtures that they share, which the first one waits for."""

    def __init__(self) -> None:
        self.spent, self.shared = defaultdict(float), {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        start = time.perf_counter()
        value = yield
        if fixturedef.scope != "function":
            self.shared[_of_fixture(fixturedef)] = time.perf_counter() - start
        return value

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        report = yield
        report.shared, self.shared = self.shared, {}  # goes with the report from a worker to where reports are read
        return report

    def pytest_runtest_logreport(self, report):
        shared = getattr(report, "shared", {})  # the report of a worker that died has none
        for name, took in shared.items():
            self.spent[name] = max(self.spent[name], took)  # every worker makes its own
        name = _of_test(report.nodeid)
        if not report.skipped and (
            report.when != "teardown" or name in self.spent
        ):  # one that is skipped has that alone
            awaited = sum(shared.values()) if report.when == "setup" else 0.0  # what a test asks for itself is its own
            self.spent[name] += max(0.0, report.duration - awaited)

    def pytest_sessionfinish(self, session, exitstatus):
        table = session.config.getoption("--durations-to")
        if table and not hasattr(session.config, "workerinput") and exitstatus in (0, 1):  # it came to its end
            kept = {
                name: took for name, took in durations(Path(table)).items() if is_there(name, session.config.rootpath)
            }
            write_durations(kept | self.spent, Path(table))


def _of_fixture(fixturedef) -> str:
    return f"{fixturedef.baseid}::{fixturedef.argname}"


def _of_test(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def is_there(name: str, root: Path) -> bool:
    """Return whether a test or fixture of the table is still defined."""
    place, _, name = name.partition("::")
    files = [root / place] if place.endswith(".py") else [*(root / place).glob("*.py")]
    defined = re.compile(rf"(def |name=.){name.rpartition('::')[2]}\b")
    return any(file.is_file() and defined.search(file.read_text(encoding="utf-8")) for file in files)


def durations(table: Path = DURATIONS) -> dict[str, float]:
    """Return the seconds of a table by `file::test` and, of fixtures, `folder or file::fixture`."""
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        return {row["name"]: float(row["seconds"]) for row in csv.DictReader(file)}


def write_durations(seconds: dict[str, float], table: Path) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "seconds"])
        writer.writerows([name, f"{took:.2f}"] for name, took in sorted(seconds.items()) if took >= 0.005)
