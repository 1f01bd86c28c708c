"""What every reader of labelled text shares: the table it gives, and the instant its rows could be known."""

from __future__ import annotations

import pandas as pd

from finsignal.tables import INSTANT, LABELLED

Counted = tuple[pd.DataFrame, dict[str, int]]


def to_cutoff(day: str | pd.Timestamp) -> pd.Timestamp:
    """The end of a day as an instant in UTC: the next midnight. An instant with a zone stays as it is."""
    instant = pd.Timestamp(day)
    if instant.tzinfo is not None:
        return instant.tz_convert("UTC").as_unit("us")
    return (instant.normalize() + pd.Timedelta(days=1)).tz_localize("UTC").as_unit("us")


def to_rows(
    texts: list[str],
    labels: list[str],
    *,
    cutoff: str | pd.Timestamp,
    source: str,
    targets: list[str] | None = None,
) -> pd.DataFrame:
    """The table of tables.LABELLED, every row at the end of the day `cutoff`; without targets each is ''."""
    frame = pd.DataFrame(
        {
            "text": pd.Series(texts, dtype="str"),
            "label": pd.Series(labels, dtype="str"),
            "time": pd.Series([to_cutoff(cutoff)] * len(texts), dtype=INSTANT),
            "source": pd.Series([source] * len(texts), dtype="str"),
            "target": pd.Series([""] * len(texts) if targets is None else targets, dtype="str"),
        }
    )
    return LABELLED.check(frame)
