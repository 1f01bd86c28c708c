"""The status of a lake for people: spans, a strip of what is there, gaps, silences and last fetches."""

from __future__ import annotations

from typing import Any

from finsignal.cli.shared import printable

SHADES = " ░▒▓█"  # none, some, about half, most, all of the bars


def to_text(status: dict[str, Any]) -> str:
    """The status of `lake.make_lake_status` for people; each line is free of characters that steer a terminal."""
    size = status["size"]
    lines = [f"{status['folder']} at {to_minute(status['now'])}: {size['files']:,} files, {to_bytes(size['bytes'])}"]
    for row in status["prices"]:
        lines += _to_price_lines(row)
    for table in ("actions", "funding", "open_interest"):
        for row in status[table]:
            lines.append(f"{table.replace('_', ' ')}  {row['market']}  {row['symbol']}  {to_span(row)}")
    for row in status["articles"]:
        silent = "" if row["silent_hours"] is None else f"; silent for {row['silent_hours']:,.1f} h"
        lines.append(f"articles  {row['source'] or 'of no source'}  {to_span(row)}{silent}")
        # One is enough here: where items come evenly, the longest silences are all alike.
        lines += [f"  longest silence  {to_between(gap)}  {gap['hours']:,.1f} h" for gap in row["silences"][:1]]
    links = status["links"]
    lines.append(f"links  {links['rows']:,} of {links['articles']:,} articles to {links['symbols']:,} symbols")
    lines += [f"scores  {row['model']}  {row['rows']:,}" for row in status["scores"]]
    for row in status["fetches"]:
        name = "  ".join(filter(None, (row["source"], row["market"], row["bar"], row["symbol"])))
        missing = f", {row['missing']:,} missing" if row["missing"] else ""
        lines.append(f"fetched  {to_minute(row['recorded'])}  {name}  {row['rows']:,} new{missing}")
    return "\n".join(map(printable, lines))


def _to_price_lines(row: dict[str, Any]) -> list[str]:
    missing = "market without a calendar" if row["missing"] is None else f"{row['missing']:,} missing"
    lines = [f"prices  {row['market']}  {row['bar']}  {row['symbol']}  {to_span(row)}  {missing}"]
    if row["coverage"]:
        lines.append(f"  |{to_strip(row['coverage'])}|")
    return lines + [f"  gap  {to_between(gap)}  {gap['bars']:,} bars" for gap in row["gaps"]]


def to_strip(shares: list[float]) -> str:
    """One character a share: full only where nothing is missing, empty only where nothing is there.

    >>> to_strip([0.0, 0.01, 0.5, 0.99, 1.0])
    ' ░▒▓█'
    """
    return "".join(SHADES[4] if s >= 1 else SHADES[0] if s <= 0 else SHADES[1 + min(int(3 * s), 2)] for s in shares)


def to_span(row: dict[str, Any]) -> str:
    """Rows, first and last."""
    return f"{row['rows']:,} rows  {to_minute(row['first'])} .. {to_minute(row['last'])}"


def to_between(gap: dict[str, Any]) -> str:
    """From start to end."""
    return f"{to_minute(gap['start'])} .. {to_minute(gap['end'])}"


def to_minute(stamp: str) -> str:
    """An ISO instant in UTC to the minute.

    >>> to_minute("2026-03-05T09:59:10.123456+00:00")
    '2026-03-05 09:59Z'
    """
    return f"{stamp[:10]} {stamp[11:16]}Z"


def to_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> to_bytes(999), to_bytes(12_300), to_bytes(4_560_000)
    ('999 bytes', '12.3 kB', '4.6 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
