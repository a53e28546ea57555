"""The errors a user can cause: each is one sentence that says what, where and how to mend it."""


class AbiError(Exception):
    """Base of every error that bad input can cause; commands exit with code 2 on it."""


class ConfigError(AbiError):
    """A key, name or value in `config/` that cannot be used."""


class DataError(AbiError):
    """Text, tokens, states or weights that are missing, damaged or belong to something else."""


class AlignmentError(AbiError):
    """Rows or spaces that cannot be aligned."""


class EvidenceError(AbiError):
    """Evidence rows from which no honest verdict can be computed."""


class TamperError(AbiError):
    """A frozen part that changed, or a file that no longer matches what recorded it."""
