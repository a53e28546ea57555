"""The errors a user can cause: each is one sentence that says what, where and how to mend it."""


class AbiError(Exception):
    """Base of every error that bad input can cause; commands exit with code 2 on it."""


class ConfigError(AbiError):
    """A key, name or value in `config/` that cannot be used."""


class DataError(AbiError):
    """Text, tokens, states or weights that are missing, damaged or belong to something else."""


class NoAnswer(DataError):
    """A server that was not reached."""


class AlignmentError(AbiError):
    """Rows or spaces that cannot be aligned."""


class EvidenceError(AbiError):
    """Evidence rows from which no honest verdict can be computed."""


class TamperError(AbiError):
    """A frozen part that changed, or a file that no longer matches what recorded it."""


def first_line(error: BaseException, most: int = 200) -> str:
    """Return what an error says in one line, or its class where it says nothing."""
    said = str(error).strip().splitlines()
    return said[0][:most] if said else type(error).__name__
