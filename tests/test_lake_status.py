"""What the status of a lake says of rows, gaps, silences and fetches."""

import json
from pathlib import Path

import pandas as pd
import pytest
from lake_tables import (
    BARS_HERE,
    hours,
    make_actions,
    make_articles,
    make_fetch,
    make_links,
    make_prices,
    make_scores,
    ts,
)

from finsignal.errors import ConfigError
from finsignal.lake import Lake, append, make_lake_status, open_lake

NOW = ts("2026-11-21T12:00")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake", create=True)


def test_an_empty_lake_says_so(lake: Lake) -> None:
    status = make_lake_status(lake, now=NOW)
    lists = ("prices", "actions", "funding", "open_interest", "articles", "scores", "fetches")
    assert {name: status[name] for name in lists} == {name: [] for name in lists}
    assert status["links"] == {"rows": 0, "articles": 0, "symbols": 0}
    assert status["size"]["files"] == 1  # its mark
    assert json.loads(json.dumps(status)) == status


def test_gaps_are_runs_of_bars_that_the_calendar_expects(lake: Lake) -> None:
    opens = hours("2026-11-01", 24).delete([3, 10, 11, 12])
    append(lake, "prices", make_prices("A", opens, range(1, 21)), recorded=ts("2026-11-02"), **BARS_HERE)
    append(lake, "prices", make_prices("B", opens[:3], [1, 2, 3]), recorded=ts("2026-11-02"), **BARS_HERE)
    # A version more of a bar is not a row more.
    append(lake, "prices", make_prices("B", opens[:1], [9]), recorded=ts("2026-11-03"), **BARS_HERE)
    first, second = make_lake_status(lake, now=NOW)["prices"]
    assert first == {
        **BARS_HERE,
        "symbol": "A",
        "rows": 20,
        "first": "2026-11-01T01:00:00+00:00",
        "last": "2026-11-02T00:00:00+00:00",
        "missing": 4,
        "gaps": [
            {"start": "2026-11-01T10:00:00+00:00", "end": "2026-11-01T13:00:00+00:00", "bars": 3},
            {"start": "2026-11-01T03:00:00+00:00", "end": "2026-11-01T04:00:00+00:00", "bars": 1},
        ],
        "coverage": [float(hour not in (3, 10, 11, 12)) for hour in range(24)],
    }
    assert (second["rows"], second["missing"]) == (3, 0)


def test_a_weekend_is_no_gap_and_thanksgiving_neither(lake: Lake) -> None:
    days = pd.to_datetime(["2026-11-24T14:30Z", "2026-11-25T14:30Z", "2026-11-27T14:30Z", "2026-12-01T14:30Z"])
    append(lake, "prices", make_prices("A", days, [1, 2, 3, 4]), recorded=ts("2026-12-02"), market="XNYS", bar="1d")
    status = make_lake_status(lake, now=ts("2026-12-02"))["prices"][0]
    assert status["missing"] == 1
    assert status["gaps"][0]["start"] == "2026-11-30T14:30:00+00:00"  # a Monday


def test_a_market_without_calendar_is_listed_and_not_judged(lake: Lake) -> None:
    rows = make_prices("A", hours("2026-11-01", 2), [1, 2])
    append(lake, "prices", rows, recorded=ts("2026-11-02"), market="moon/lunar", bar="1h")
    status = make_lake_status(lake, now=NOW)["prices"][0]
    assert (status["market"], status["rows"], status["missing"]) == ("moon/lunar", 2, None)
    assert status["coverage"] == []


def test_coverage_is_the_share_of_bars_in_forty_equal_stretches(lake: Lake) -> None:
    opens = hours("2026-11-01", 80).delete([2, 40, 41])
    append(lake, "prices", make_prices("A", opens, range(1, 78)), recorded=ts("2026-11-05"), **BARS_HERE)
    coverage = make_lake_status(lake, now=NOW)["prices"][0]["coverage"]
    assert coverage == [0.5 if cell == 1 else 0.0 if cell == 20 else 1.0 for cell in range(40)]


def test_silences_of_each_source_and_since_its_last_article(lake: Lake) -> None:
    times = ["2026-11-20T00:00", "2026-11-20T01:00", "2026-11-20T09:00", "2026-11-20T09:30"]
    append(lake, "articles", make_articles(list("abcd"), times), recorded=ts("2026-11-20T10:00"))
    (source,) = make_lake_status(lake, now=NOW)["articles"]
    assert (source["rows"], source["silent_hours"]) == (4, 26.5)
    assert [s["hours"] for s in source["silences"]] == [8, 1, 0.5]
    assert source["silences"][0]["start"] == "2026-11-20T01:00:00+00:00"
    assert make_lake_status(lake, now=ts("2026-11-20T09:59"))["articles"] == []  # not recorded by then


def test_the_last_fetch_of_each_symbol(lake: Lake) -> None:
    for day, rows in (("2026-11-02", 24), ("2026-11-03", 20)):
        fetch = make_fetch("bybit", "BTCUSDT", "2026-11-01", "2026-11-02", rows=rows, missing=24 - rows)
        append(lake, "fetches", fetch, recorded=ts(day))
    append(lake, "fetches", make_fetch("feed", "*", "2026-11-01", "2026-11-02", rows=3), recorded=ts("2026-11-02"))
    bybit, feed = json.loads(json.dumps(make_lake_status(lake, now=NOW)))["fetches"]
    assert (bybit["recorded"], bybit["rows"], bybit["missing"]) == ("2026-11-03T00:00:00+00:00", 20, 4)
    assert feed["source"] == "feed"


def test_actions_links_and_scores_are_counted(lake: Lake) -> None:
    at = ts("2026-11-02")
    append(lake, "actions", make_actions([("A", "2026-11-01", "split", 2.0)]), recorded=at, market="XNYS")
    append(lake, "links", make_links([("a", "A", 0.5), ("a", "B", 0.5), ("b", "A", 0.5)]), recorded=at)
    append(lake, "scores", make_scores(["1", "2"], "m", 0.5), recorded=at)
    status = make_lake_status(lake, now=NOW)
    assert [(row["market"], row["symbol"], row["rows"]) for row in status["actions"]] == [("XNYS", "A", 1)]
    assert status["links"] == {"rows": 3, "articles": 2, "symbols": 2}
    assert status["scores"] == [{"model": "m", "rows": 2}]
    assert json.loads(json.dumps(status)) == status


def test_now_needs_a_zone(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="has no zone"):
        make_lake_status(lake, now=pd.Timestamp("2026-11-21"))
