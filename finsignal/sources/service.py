"""Asking a service that may be busy or away, and what may be said of the address it was asked at."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import unquote_plus, urlsplit

from finsignal.errors import SourceError

TRIES = 5
LONGEST_WAIT = 60.0  # seconds before one further try, whatever the service asks for
BUSY = (500, 502, 503, 504)
STRUCK = "***"

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
_SECRET = re.compile(r"token|key|secret|pass|pwd|auth|sig|crumb|credential|session|login|user", re.IGNORECASE)

Result = TypeVar("Result")


class PassingFaultError(Exception):
    """A fault that may be gone at the next try; `retry` turns the last one into a SourceError.

    `wait` is how many seconds the service asks for, None where it says nothing.
    """

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def retry(
    call: Callable[[], Result],
    *,
    source: str,
    subject: str,
    tries: int = TRIES,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """What `call` returns; it is called again, at most `tries` times in all, while it raises PassingFaultError.

    Between two tries it waits as long as the service asked for, at most a minute, or 1, 2, 4 ... seconds. Any other
    error goes through at once. Raises SourceError, saying what failed after how many tries for which `subject`, such
    as "AAPL 1h from 2023-01-01".
    """
    for done in range(1, tries + 1):
        try:
            return call()
        except PassingFaultError as err:
            if done == tries:
                raise SourceError(
                    f"{source}: {redact(str(err))} after {tries} {'try' if tries == 1 else 'tries'} for {subject}. "
                    "Nothing was written."
                ) from err
            sleep(min(2.0 ** (done - 1) if err.wait is None else max(err.wait, 0.0), LONGEST_WAIT))
    raise SourceError(f"{source}: {subject} was to be asked for {tries} times; expected 1 or more.")


def check_status(status: int, headers: Mapping[str, str]) -> None:
    """Nothing where the HTTP status is no passing fault. Raises PassingFaultError for 429, 500, 502, 503 and 504."""
    if status == 429:
        raise PassingFaultError("rate limited (429)", wait=to_wait(headers))
    if status in BUSY:
        raise PassingFaultError(f"server error ({status})", wait=to_wait(headers))


def to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of an answer's Retry-After, a number or a date; None where there is none that can be read.

    A date is held against the answer's own Date, so that no clock but the service's is asked.

    >>> to_wait({"Retry-After": "7"})
    7.0
    """
    known = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    asked = known.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", asked):
        return float(asked)
    try:
        return (parsedate_to_datetime(asked) - parsedate_to_datetime(known.get("date", ""))).total_seconds()
    except (ValueError, TypeError):
        return None


def redact(text: str) -> str:
    """The text with the secrets struck out of every web or database address in it.

    Struck out are user and password, the fragment, and the values of parameters that are named like a secret.

    >>> redact("https://me:word@host.test/feed?token=abc&page=2 timed out")
    'https://***@host.test/feed?token=***&page=2 timed out'
    """
    return _ADDRESS.sub(lambda match: _redact_address(match[0]), text)


def _redact_address(address: str) -> str:
    scheme, _, rest = address.partition("://")
    try:
        parts = urlsplit(address)
        broken = "@" in rest and parts.port is None and ":" in parts.netloc.rpartition("@")[2].rpartition("]")[2]
    except ValueError:
        broken = "@" in rest
    rest = rest.partition("#")[0]
    before, mark, query = rest.partition("?")
    if broken and "@" in rest:  # a password with a slash or a question mark in it ends the host for every reader
        before, mark, query = STRUCK + "@" + rest.rpartition("@")[2], "", ""
    host, slash, path = before.partition("/")
    if "@" in host and not broken:
        host = f"{STRUCK}@{host.rpartition('@')[2]}"
    pairs = re.split(r"([&;])", query)
    return f"{scheme}://{host}{slash}{path}{mark}{''.join(_redact_pair(pair) for pair in pairs)}"


def _redact_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={STRUCK}" if equals and _SECRET.search(unquote_plus(name)) else pair
