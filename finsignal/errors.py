"""Every error that finsignal raises on purpose, and the two sentences they share."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class FinsignalError(Exception):
    """Something a user can put right. One sentence: where, what was expected, what was found, what to do."""

    def __str__(self) -> str:
        """The message in one line, whatever a quoted value or a foreign error brought with it."""
        return " ".join(super().__str__().splitlines())


class TableError(FinsignalError, ValueError):
    """A table breaks its contract: a column, a dtype, a key or a rule."""


class ConfigError(FinsignalError, ValueError):
    """A run file, recipe or option says something that cannot be meant."""


class LookaheadError(FinsignalError, ValueError):
    """A result would use what was not yet known."""


class SourceError(FinsignalError):
    """Data from outside could not be read: a file, a feed, a service."""


class ModelError(FinsignalError):
    """A model folder is incomplete, altered, or not what it says."""


class LedgerError(FinsignalError):
    """The ledger could not be opened, read or written."""


class LockedError(FinsignalError):
    """Another pass of the same strategy is at work."""


class RefusedError(FinsignalError):
    """A pass must not decide: it would change, or date back, what is on record."""


class ManifestError(FinsignalError):
    """A run folder is not what its manifest says, or does not come out again."""


class MissingExtraError(FinsignalError, ImportError):
    """The work needs a package of an install extra that is not installed."""


# What a strategy file of the user may raise while it is loaded or asked; told in one sentence, not as a traceback.
USER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError),
    *(SyntaxError, TypeError, ValueError),
)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question naming the closest known name with a space before it, or nothing.

    >>> did_you_mean("buy_treshold", ["buy_threshold", "half_life"])
    " Did you mean 'buy_threshold'?"
    """
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def require(module: str, *, extra: str, work: str) -> ModuleType:
    """The imported module.

    Raises MissingExtraError, saying which extra of finsignal `work` needs, where the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name is not None and err.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{work} needs {module.partition('.')[0]}, which is not installed: pip install 'finsignal[{extra}]'."
        ) from err
