"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Let programs that tests start be interrupted: a shell starts what runs in its background with SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
