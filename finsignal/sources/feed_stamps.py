"""The stamps of feeds, by RFC 822 and ISO 8601, with the zone and the precision that they state and no other."""

from __future__ import annotations

import datetime
import re

import pandas as pd

from finsignal.clock import end_of_precision, to_instant
from finsignal.errors import SourceError
from finsignal.tables import INSTANT

# feedparser reads an unknown zone as UTC (CEST, JST, and none at all) and "ET" as -4 all the year, so that a text
# could count hours before it was published. Only what RFC 822 defines without doubt stands here.
_ZONES = {"Z": 0, "UT": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5}
_ZONES |= {"MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
_MONTHS = {m: n for n, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)?\s*(?P<zone>[A-Za-z0-9:+/_-]{0,40})"
_ISO = re.compile(rf"(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)(?:(?:[Tt]|\s+){_CLOCK})?")
_MAIL = re.compile(
    rf"(?:[A-Za-z]{{3,9}}\.?,?\s+)?(?P<day>\d{{1,2}})[\s-](?P<month>[A-Za-z]{{3}})[a-z]*\.?[\s-](?P<year>\d{{4}}|\d\d)"
    rf"(?:,?\s+{_CLOCK})?"
)
_OFFSET = re.compile(r"(?:GMT|UTC|UT)?([+-])(\d\d):?(\d\d)?")


def read_stamp(
    text: str, *, where: str, tz: str | None, precision: str
) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    """The instant of a stamp, and the instant at which what it says ends, None where it is exact to the second.

    "2026-11-20" is over at the next midnight, "Fri, 20 Nov 2026 15:30 GMT" a minute later. `precision` says what
    stamps with seconds are exact to. `tz` is the zone of dates and of stamps that state none, or one without a clear
    meaning (such as CET). (None, None) for text that is no stamp. Raises SourceError where a zone is needed and `tz`
    is None, ConfigError for an unknown `tz` or `precision`.
    """
    clean = re.sub(r"\s*\([^()]*\)$", "", " ".join(text.split()))
    found = _ISO.fullmatch(clean) or _MAIL.fullmatch(clean)
    if found is None:
        return None, None
    part = found.groupdict()
    year = (
        int(part["year"]) if len(part["year"]) == 4 else int(part["year"]) + (2000 if int(part["year"]) < 70 else 1900)
    )
    month = int(part["month"]) if part["month"].isdigit() else _MONTHS.get(part["month"].lower(), 0)
    hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
    try:
        local = datetime.datetime(year, month, int(part["day"]), hour, minute, second)  # noqa: DTZ001 its zone follows
    except ValueError:
        return None, None
    exact = "date" if part["hour"] is None else "minute" if part["second"] is None else precision
    zone = _to_zone(part["zone"] or "")
    if zone is None and tz is None:
        raise SourceError(
            f"{where}: time {clean[:60]!r} has no zone that is clear. Set tz, for example tz = 'America/New_York'."
        )
    at = to_instant(local if zone is None else local.replace(tzinfo=zone), where=where, tz=tz)
    if exact == "second":
        return at, None
    return at, end_of_precision(pd.Series([at], dtype=INSTANT), precision=exact, tz=tz or "UTC").iloc[0]


def _to_zone(text: str) -> datetime.tzinfo | None:
    if text.upper() in _ZONES:
        return datetime.timezone(datetime.timedelta(hours=_ZONES[text.upper()]))
    offset = _OFFSET.fullmatch(text.upper())
    if offset is None or int(offset[2]) > 14:
        return None
    length = datetime.timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
    return datetime.timezone(length if offset[1] == "+" else -length)
