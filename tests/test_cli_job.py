"""fetch, lake status, run and status on the command line: exit codes, streams, files, and errors in one sentence."""

import csv
import io
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bybit_answers import Market, make_history
from conftest import NOW, REPO, Cli
from feed_answers import to_feed_answer, to_rss, to_stamp
from replay_server import Answer, Request, Server, serve
from world import SYMBOLS, World, open_world
from yahoo_answers import Yahoo, make_item, make_prices

from finsignal.cli import shared
from finsignal.clock import make_bars
from finsignal.tables import FUNDING, OPEN_INTEREST

VERBS = ("fetch yahoo", "fetch bybit", "fetch feed", "fetch files", "lake status", "run", "status")
MINUTE = pd.Timedelta(minutes=1)


def ts(stamp: str) -> pd.Timestamp:
    return pd.Timestamp(stamp, tz="UTC").as_unit("us")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    import ccxt

    monkeypatch.setattr(ccxt.Exchange, "sleep", lambda self, milliseconds: None)  # between tries


def is_one_sentence(err: str, *words: str) -> bool:
    """Whether stderr is one line of ours that holds these words; progress bars beside it are not counted."""
    lines = [line for line in err.replace("\r", "\n").split("\n") if line.strip() and "symbol/s" not in line]
    lines = [line for line in lines if "?symbol" not in line]
    return len(lines) == 1 and lines[0].startswith("finsignal: ") and all(word in lines[0] for word in words)


def holds(folder: Path, secret: str) -> list[Path]:
    """Files below the folder that hold the secret."""
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


# --- fetch -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def yahoo() -> Yahoo:
    days = make_bars("XNYS", "1d", start="2026-01-02", end="2026-06-01", latency=MINUTE)
    item = make_item(1, published=ts("2026-05-20T10:00"), title="Apple soars", symbols=["AAPL"])
    return Yahoo(prices={(s, "1d"): make_prices(days) for s in ("AAPL", "MSFT")}, news={"AAPL": [item]})


@pytest.fixture
def market() -> Market:
    count = 24 * 30
    bars = {"BTCUSDT": make_history("BTCUSDT", start="2026-05-02", count=count)}
    times = pd.Series(pd.date_range("2026-05-02T08:00", periods=60, freq="8h", tz="UTC").as_unit("us"))
    name = pd.Series(["BTCUSDT"] * len(times), dtype="str")
    funding = FUNDING.to_table(pd.DataFrame({"symbol": name, "time": times, "rate": 1e-4}))
    interest = OPEN_INTEREST.to_table(pd.DataFrame({"symbol": name, "time": times, "contracts": 5.0}))
    return Market(bars, NOW, funding=funding, open_interest=interest)


@pytest.fixture
def server(yahoo: Yahoo, market: Market) -> Iterator[Server]:
    """Both services and a feed at one address."""
    rows = [{"id": "1", "title": "Alder soars", "published": to_stamp("2026-05-30T10:00Z"), "url": "https://w.test/1"}]
    pause = [{"id": "2", "title": "Birch meets", "published": to_stamp("2026-05-31T22:00Z"), "url": "https://w.test/2"}]

    def answer(request: Request) -> Answer:
        if request.path.startswith("/feed/two"):
            return to_feed_answer(to_rss(rows + pause))
        if request.path.startswith("/feed"):
            return to_feed_answer(to_rss(rows))
        if request.path.startswith("/broken"):
            return Answer(b"<rss><channel><item>", 200)
        if request.path.startswith("/page"):
            return Answer(b"<html><body>hello</body></html>", 200)
        if request.path.startswith("/bomb"):
            bomb = '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss><channel>&b;</channel></rss>'
            return Answer(bomb.encode(), 200)
        return market(request) if request.path.startswith("/v5/") else yahoo(request)

    with serve(answer) as running:
        yield running


def test_fetch_yahoo_brings_prices_and_news_and_repeats_bring_nothing(
    run_cli: Cli, server: Server, tmp_path: Path
) -> None:
    arguments = ("fetch", "yahoo", "AAPL", "MSFT", "--news", "--base-url", server.url, "--lake", tmp_path / "lake")
    code, out, _ = run_cli(*arguments)
    assert code == 0
    assert [line.split("  ") for line in out.splitlines()[:2]] == [
        ["yahoo AAPL", "19 new"],
        ["yahoo MSFT", "19 new"],  # the sessions of May 2026 after the 2nd
    ]
    assert "yahoo news AAPL  1 new" in out
    code, out, _ = run_cli(*arguments, "--json")
    assert code == 0
    assert [(o["source"], o["symbol"], o["new"]) for o in json.loads(out) if o["symbol"]] == [
        ("yahoo", "AAPL", 0),
        ("yahoo", "MSFT", 0),
        ("yahoo news", "AAPL", 0),
        ("yahoo news", "MSFT", 0),
    ]


def test_fetch_bybit_brings_bars_funding_and_open_interest(run_cli: Cli, server: Server, tmp_path: Path) -> None:
    window = ("--bar", "1h", "--start", "2026-05-02", "--base-url", server.url, "--lake", tmp_path / "lake")
    code, out, _ = run_cli("fetch", "bybit", "BTCUSDT", "--funding", *window)
    assert (code, out) == (0, "bybit BTCUSDT  720 new\nbybit funding BTCUSDT  60 new\n")
    code, out, _ = run_cli("fetch", "bybit", "BTCUSDT", "--open-interest", *window)
    assert code == 0
    assert "bybit open interest BTCUSDT  60 new" in out


def test_fetch_feed_brings_items_under_the_name_it_is_given(run_cli: Cli, server: Server, tmp_path: Path) -> None:
    options = ("--name", "wire", "--about", "*", "--lake", tmp_path / "lake")
    assert run_cli("fetch", "feed", f"{server.url}/feed", *options)[:2] == (0, "feed wire  1 new\n")
    status = json.loads(run_cli("lake", "status", "--lake", tmp_path / "lake", "--json")[1])
    assert [(row["source"], row["rows"]) for row in status["articles"]] == [("wire", 1)]


def test_fetch_files_brings_the_files_of_a_run(run_cli: Cli, tiny_copy: Path) -> None:
    code, out, _ = run_cli("fetch", "files", tiny_copy / "run.toml", "--lake", tiny_copy / "lake")
    assert (code, out) == (0, "files: prices  240 new\nfiles: news  94 new\n")


def test_one_symbol_that_fails_is_exit_code_3_and_all_that_fail_6(run_cli: Cli, server: Server, tmp_path: Path) -> None:
    options = ("--base-url", server.url, "--lake", tmp_path / "lake")
    code, out, err = run_cli("fetch", "yahoo", "AAPL", "NOPE", *options)
    assert code == 3
    assert "yahoo AAPL  19 new" in out
    assert is_one_sentence(err, "finsignal: yahoo NOPE: yahoo:", "delisted")
    assert run_cli("fetch", "yahoo", "NOPE", *options)[0] == 6


BAD: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "a symbol that Yahoo has not": (("yahoo", "NOPE"), 6, ("NOPE", "delisted", "Nothing was written")),
    "what is no symbol of Yahoo's": (("yahoo", "A B"), 1, ("'A B' is no symbol", "Write for example")),
    "a symbol that Bybit has not": (
        ("bybit", "NOPEUSDT", "--bar", "1h"),
        6,
        ("no symbol 'NOPEUSDT'", "check its name"),
    ),
    "what is no symbol of Bybit's": (("bybit", "BTC/USDT", "--bar", "1h"), 1, ("BTC/USDT",)),
    "a bar length that Yahoo lacks": (("yahoo", "AAPL", "--bar", "2h"), 1, ("1d, 1h and 15min, not of '2h'", "Choose")),
    "a bar length that Bybit lacks": (("bybit", "BTCUSDT", "--bar", "45min"), 1, ("45min",)),
    "what is no bar length": (("bybit", "BTCUSDT", "--bar", "often"), 1, ("often",)),
    "open interest in a length without": (
        ("bybit", "BTCUSDT", "--bar", "2h", "--open-interest", "--start", "2026-05-31"),
        1,
        ("2h",),
    ),
    "funding of spot": (("bybit", "BTCUSDT", "--market", "bybit-spot", "--bar", "1h", "--funding"), 1, ("spot",)),
    "start after end": (("yahoo", "AAPL", "--start", "2026-05-02", "--end", "2026-05-01"), 1, ("2026-05-02",)),
    "a start that is no instant": (("yahoo", "AAPL", "--start", "yesterday"), 1, ("--start", "yesterday")),
    "a market that is none": (("yahoo", "AAPL", "--market", "XNYX"), 1, ("XNYX",)),
    "a market of another service": (("bybit", "BTCUSDT", "--market", "XNYS", "--bar", "1h"), 1, ("XNYS",)),
    "hours beyond Yahoo's reach": (("yahoo", "AAPL", "--bar", "1h", "--start", "2023-01-03"), 6, ("730 days", "later")),
    "an address that is none": (("yahoo", "AAPL", "--base-url", "nowhere"), 1, ("no web address", "Write for example")),
    "a feed cut in the middle": (("feed", "{url}/broken", "--name", "wire"), 6, ("feed wire", "not whole XML")),
    "a feed that is a page": (("feed", "{url}/page", "--name", "wire"), 6, ("feed wire", "expected RSS or Atom")),
    "an entity bomb": (("feed", "{url}/bomb", "--name", "wire"), 6, ("feed wire", "declares XML entities")),
    "a feed that is a file": (("feed", "file:///etc/passwd", "--name", "wire"), 1, ("wire", "http")),
    "a feed with a bad name": (("feed", "{url}/feed", "--name", "a:b"), 1, ("a:b", "colon")),
    "a latency that is none": (("feed", "{url}/feed", "--name", "w", "--latency", "soon"), 1, ("--latency", "soon")),
    "a run file that is not there": (("files", "nowhere.toml"), 1, ("nowhere.toml", "no such run file")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_fetch_that_cannot_be_is_one_sentence(run_cli: Cli, server: Server, tmp_path: Path, case: str) -> None:
    arguments, expected, words = BAD[case]
    address = () if arguments[0] in ("feed", "files") or "--base-url" in arguments else ("--base-url", server.url)
    given = [argument.format(url=server.url) for argument in arguments]
    code, _, err = run_cli("fetch", *given, *address, "--lake", tmp_path / "lake")
    assert code == expected
    assert is_one_sentence(err, *words), err
    assert not list(tmp_path.rglob("articles"))


def test_a_range_before_the_listing_is_told_and_no_error(
    run_cli: Cli, server: Server, yahoo: Yahoo, tmp_path: Path
) -> None:
    frame = yahoo.prices["AAPL", "1d"]
    yahoo.prices = {("AAPL", "1d"): frame[frame["open_time"] >= ts("2026-05-04")]}
    yahoo.options = {"AAPL": {"listed": ts("2026-05-04T13:30")}}
    window = ("--start", "2026-01-02", "--end", "2026-02-01", "--base-url", server.url, "--lake", tmp_path / "lake")
    code, out, err = run_cli("fetch", "yahoo", "AAPL", *window)
    assert (code, "finsignal:" in err) == (0, False)
    assert "yahoo AAPL  0 new" in out
    assert "nothing in this window" in out or "traded since 2026-05-04" in out


SECRET = "hunter2"


@pytest.mark.parametrize(
    "arguments",
    [
        ("feed", "{url}/gone?token=hunter2", "--name", "wire"),
        ("feed", "{auth}/feed", "--name", "wire", "--about", "*"),
        ("feed", "{auth}/broken", "--name", "wire"),
        ("feed", "ftp://me:hunter2@127.0.0.1/feed", "--name", "wire"),
        ("yahoo", "NOPE", "--news", "--base-url", "{auth}"),
        ("bybit", "NOPEUSDT", "--bar", "1h", "--base-url", "{auth}"),
        ("yahoo", "AAPL", "--base-url", "me:hunter2@127.0.0.1"),
        ("bybit", "BTCUSDT", "--bar", "1h", "--base-url", "me:hunter2@127.0.0.1"),
        ("feed", "me:hunter2@127.0.0.1/feed", "--name", "wire"),
    ],
    ids=[
        "a token",
        "a password",
        "broken feed",
        "ftp",
        "yahoo",
        "bybit",
        "no address",
        "none of bybit",
        "none of feed",
    ],
)
def test_a_secret_in_an_address_is_neither_printed_nor_kept(
    run_cli: Cli, server: Server, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    auth = server.url.replace("http://", f"http://me:{SECRET}@")
    given = [argument.format(url=server.url, auth=auth) for argument in arguments]
    code, out, err = run_cli("fetch", *given, "--lake", tmp_path / "lake")
    assert SECRET not in out + err
    assert holds(tmp_path, SECRET) == []
    assert code == (0 if arguments[1] == "{auth}/feed" else code)
    if code:
        assert "finsignal: " in err


# --- lake status -----------------------------------------------------------------------------------------------------


def test_lake_status_shows_spans_gaps_silences_and_last_fetches(
    run_cli: Cli, server: Server, market: Market, tmp_path: Path
) -> None:
    bars = market.bars["BTCUSDT"]  # type: ignore[index]
    market.bars = {"BTCUSDT": bars.drop(index=range(360, 400)).reset_index(drop=True)}
    lake = ("--lake", tmp_path / "lake")
    window = ("--bar", "1h", "--start", "2026-05-02", "--base-url", server.url)
    run_cli("fetch", "bybit", "BTCUSDT", "--funding", *window, *lake)
    run_cli("fetch", "feed", f"{server.url}/feed/two", "--name", "wire", "--about", "*", *lake)
    code, out, err = run_cli("lake", "status", *lake)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert "prices  bybit-linear  1h  BTCUSDT  680 rows  2026-05-02 01:00Z .. 2026-06-01 00:00Z  40 missing" in lines
    strip = next(line for line in lines if line.startswith("  |"))
    assert strip == "  |" + "█" * 20 + "  " + "▓" + "█" * 17 + "|"  # 18 bars a cell: two gone, and 4 of the third
    assert "  gap  2026-05-17 00:00Z .. 2026-05-18 16:00Z  40 bars" in lines
    assert "funding  bybit-linear  BTCUSDT  60 rows  2026-05-02 08:00Z .. 2026-05-22 00:00Z" in lines
    assert "articles  wire  2 rows  2026-05-30 10:01Z .. 2026-05-31 22:01Z; silent for 2.0 h" in lines
    assert "  longest silence  2026-05-30 10:01Z .. 2026-05-31 22:01Z  36.0 h" in lines
    assert "fetched  2026-06-01 00:00Z  bybit  bybit-linear  1h  BTCUSDT  680 new, 40 missing" in lines
    assert "fetched  2026-06-01 00:00Z  bybit funding  bybit-linear  BTCUSDT  60 new" in lines
    assert "fetched  2026-06-01 00:00Z  feed  wire  2 new" in lines
    status = json.loads(run_cli("lake", "status", *lake, "--json")[1])
    assert status["prices"][0]["missing"] == 40


def test_an_empty_lake_has_a_status_and_no_lake_has_none(run_cli: Cli, tmp_path: Path) -> None:
    code, out, err = run_cli("lake", "status", "--lake", tmp_path / "none")
    assert (code, out) == (1, "")
    assert is_one_sentence(err, "there is no lake", "Fetch into it first")
    assert not (tmp_path / "none").exists()
    from finsignal.lake import open_lake

    open_lake(tmp_path / "lake", create=True)
    assert run_cli("lake", "status", "--lake", tmp_path / "lake")[1].splitlines()[1:] == [
        "links  0 of 0 articles to 0 symbols"
    ]


def test_a_name_in_the_lake_does_not_steer_the_terminal(run_cli: Cli, server: Server, tmp_path: Path) -> None:
    run_cli("fetch", "feed", f"{server.url}/feed", "--name", "wi\x1b[31mre", "--about", "*", "--lake", tmp_path / "l")
    out = run_cli("lake", "status", "--lake", tmp_path / "l")[1]
    assert "\x1b" not in out
    assert "wi [31mre" in out


@pytest.mark.parametrize("verb", ["lake status", "fetch bybit", "fetch feed"])
def test_a_corrupt_lake_is_one_sentence_that_names_the_file(
    run_cli: Cli, server: Server, tmp_path: Path, verb: str
) -> None:
    lake = ("--lake", tmp_path / "lake")
    window = ("BTCUSDT", "--bar", "1h", "--base-url", server.url)
    feed = (f"{server.url}/feed", "--name", "wire", "--about", "*")
    run_cli("fetch", "bybit", *window, *lake)
    run_cli("fetch", "feed", *feed, *lake)
    table = "prices" if verb == "fetch bybit" else "fetches"
    part = sorted((tmp_path / "lake" / table).rglob("*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:-40])
    given = {"lake status": (), "fetch bybit": window, "fetch feed": feed}[verb]
    code, out, err = run_cli(*verb.split(), *given, *lake)
    assert (code, out) == (1, "")
    assert is_one_sentence(err, part.name)


@pytest.mark.parametrize("verb", ["fetch yahoo", "fetch bybit", "fetch feed"])
def test_a_read_only_lake_is_one_sentence_and_stays_as_it_was(
    run_cli: Cli, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    from finsignal.lake import appending, open_lake

    lake = open_lake(tmp_path / "lake", create=True)

    def read_only(path: Path, data: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(appending, "write_new", read_only)
    given = {
        "fetch yahoo": ("AAPL", "--base-url", server.url),
        "fetch bybit": ("BTCUSDT", "--bar", "1h", "--base-url", server.url),
        "fetch feed": (f"{server.url}/feed", "--name", "wire", "--about", "*"),
    }[verb]
    code, out, err = run_cli(*verb.split(), *given, "--lake", lake.folder)
    assert (code, out) == (1, "")
    assert is_one_sentence(err, "Read-only file system", "The lake is as it was")
    assert not list(lake.folder.rglob("*.parquet"))


def test_a_folder_with_other_files_becomes_no_lake(run_cli: Cli, server: Server, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    code, _, err = run_cli("fetch", "yahoo", "AAPL", "--base-url", server.url, "--lake", tmp_path)
    assert code == 1
    assert is_one_sentence(err, "holds other files and is no lake", "Choose another folder")


# --- run -------------------------------------------------------------------------------------------------------------

START = "2026-03-05T09:59:10Z"


@pytest.fixture
def world(tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(tmp_path, START) as world:
        monkeypatch.setattr(shared, "read_clock", lambda: world.now)
        yield world


def test_a_pass_prints_its_decisions_as_lines_of_json_with_the_news_behind_them(run_cli: Cli, world: World) -> None:
    code, out, err = run_cli("run", world.write_run().path, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert "world: decided: 2 symbols decided for the bar of 2026-03-05 10:00:00+00:00" in err
    assert [row["symbol"] for row in rows] == list(SYMBOLS)
    assert all(row["texts"] == len(row["news"]) for row in rows)
    assert rows[0]["notes"] == ["Simulated data: news and prices are made up."]


def test_the_formats_say_the_same(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    lines = [json.loads(line) for line in run_cli("run", path, "--json")[1].splitlines()]
    table = list(csv.DictReader(io.StringIO(run_cli("run", path, "--format", "csv")[1])))
    text = run_cli("run", path)[1].splitlines()
    assert [row["symbol"] for row in lines] == [row["symbol"] for row in table] == [t.split()[0] for t in text]
    assert [row["signal"] for row in lines] == [row["signal"] for row in table] == [t.split()[1] for t in text]
    assert [row["weight"] for row in lines] == [float(row["weight"]) for row in table]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_an_output_file_is_replaced_as_a_whole(
    run_cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path, out = world.write_run().path, world.folder / f"out.{suffix}"
    assert run_cli("run", path, "--out", out)[0] == 0
    first = out.read_text(encoding="utf-8")
    assert "2026-03-05T10:00:00+00:00" in first
    world.now += pd.Timedelta(hours=1)
    with monkeypatch.context() as patch:
        real = Path.write_text

        def full(path: Path, *text: Any, **options: Any) -> int:
            if path.name.startswith(".out"):
                raise OSError(28, "No space left on device")
            return real(path, *text, **options)

        patch.setattr(Path, "write_text", full)
        code, _, err = run_cli("run", path, "--out", out)
        assert code == 1
        assert "No space left on device" in err.splitlines()[-1]
    assert out.read_text(encoding="utf-8") == first  # the old one, whole
    code, _, err = run_cli("run", path, "--out", out)
    assert (code, "repeated" in err) == (0, True)  # the decision had been made, and the file is written now
    assert "2026-03-05T11:00:00+00:00" in out.read_text(encoding="utf-8")
    assert not list(world.folder.glob(".out*"))


def test_an_output_of_another_kind_is_refused_before_anything_is_asked(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    code, _, err = run_cli("run", path, "--out", world.folder / "out.txt")
    assert (code, world.server.requests) == (1, [])
    assert is_one_sentence(err, "'.txt'", "expected .jsonl or .csv")


def test_now_is_the_instant_of_the_pass(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    code, out, err = run_cli("run", path, "--now", "2026-03-05T09:30:00Z")
    assert (code, out) == (0, "")
    assert "nothing to decide" in err
    assert "the next decision is at 2026-03-05 09:59:00" in err
    code, out, _ = run_cli("run", path, "--now", "2026-03-05T09:59:05Z", "--json")
    assert json.loads(out.splitlines()[0])["bar"] == "2026-03-05T10:00:00+00:00"
    assert is_one_sentence(run_cli("run", path, "--now", "2026-03-05 09:59")[2], "--now", "zone")
    code, _, err = run_cli("run", path, "--now", "2026-03-05T09:59:11Z")  # it is 09:59:10
    assert code == 4
    assert is_one_sentence(err, "lies ahead")


def test_without_fetch_nothing_is_asked_for(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    code, out, _ = run_cli("run", path, "--no-fetch", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, world.server.requests) == (3, [])  # of an empty lake: every symbol is held, with the reason
    assert all(row["signal"] == "HOLD" and row["reason"] for row in rows)


def test_the_exit_code_says_how_the_pass_went(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    world.faults["/wire.rss"] = [Answer(b"<html></html>")]
    assert run_cli("run", path)[0] == 3
    world.now += pd.Timedelta(hours=1)
    world.down = SYMBOLS
    code, out, err = run_cli("run", path)
    assert (code, out) == (6, "")
    assert "no prices from bybit" in err
    world.down = ()
    assert run_cli("run", path)[0] == 0
    world.now -= pd.Timedelta(minutes=30)
    code, out, err = run_cli("run", path)
    assert (code, out) == (4, "")
    assert is_one_sentence(err, "The clock went back", "set it right")


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        ({'latency = "1min"\nsymbols': 'latency = "0min"\nsymbols'}, 4, ("zero latency", "no job can do that")),
        ({"stale_prices = 1": ""}, 1, ("stale_prices", "under [limits]")),
        ({'prices = "bybit"': 'prices = "bibit"'}, 1, ("'bibit'", "Did you mean 'bybit'")),
        ({"[limits]": '[job]\nledger = "oracle://x"\n\n[limits]'}, 1, ("ledger",)),
        ({"[limits]": '[job]\noutput = "out.xlsx"\n\n[limits]'}, 1, (".xlsx", ".jsonl or .csv")),
    ],
    ids=["zero latency", "no limits", "no such source", "no such database", "no such output"],
)
def test_a_run_file_that_is_no_job_is_one_sentence(
    run_cli: Cli, world: World, change: dict[str, str], expected: int, words: tuple[str, ...]
) -> None:
    path = world.write_run().path
    text = path.read_text(encoding="utf-8")
    for old, new in change.items():
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    code, out, err = run_cli("run", path)
    assert (code, out, world.server.requests) == (expected, "", [])
    assert is_one_sentence(err, *words), err


@pytest.mark.parametrize("option", ["--news", "--prices", "--ledger"])
def test_options_of_a_replay_are_refused_for_a_pass(run_cli: Cli, world: World, option: str) -> None:
    code, _, err = run_cli("run", world.write_run().path, option, "x.csv")
    assert code == 1
    assert is_one_sentence(err, option, "goes with --replay")


@pytest.mark.slow
def test_a_replay_of_the_lake_equals_the_backtest(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    run_cli("run", path)  # which fetches
    code, out, _ = run_cli("run", path, "--replay", "2026-03-03", "2026-03-05")
    assert code == 0
    assert out.startswith("world: 48 passes, 96 decisions")
    assert "0 differ from the backtest" in out


def test_status_is_text_or_json(run_cli: Cli, world: World) -> None:
    path = world.write_run().path
    assert is_one_sentence(run_cli("status", path)[2], "world.ledger.sqlite")
    run_cli("run", path)
    code, out, err = run_cli("status", path, "--last", "1")
    assert (code, err) == (0, "")
    assert "1 decided, 0 missed (100.0% decided)" in out
    assert json.loads(run_cli("status", path, "--json")[1])["passes"] == {"decided": 1}


PASS = """
import sys
sys.path.insert(0, "tests")
from conftest import make_model
from finsignal.cli import main
from finsignal.sentiment import score
score.load_model = lambda folder=None: make_model()
sys.exit(main(["run", sys.argv[1], "--now", "2026-03-05T09:59:10Z", "--json"]))
"""


@pytest.mark.slow
def test_of_ten_passes_started_at_once_one_decides_and_nine_are_locked_out(world: World) -> None:
    release = threading.Event()

    def slow(request: Request) -> Answer:
        release.wait(120)
        return world(request)

    with serve(slow) as server:
        path = world.write_run(**{world.server.url: server.url}).path
        command = [sys.executable, "-c", PASS, str(path)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        passes = [subprocess.Popen(command, cwd=REPO, **pipes) for _ in range(10)]  # type: ignore[call-overload]
        give_up = time.monotonic() + 100
        while sum(p.poll() is not None for p in passes) < 9 and time.monotonic() < give_up:
            time.sleep(0.05)
        release.set()
        told = [p.communicate(timeout=60) for p in passes]
    codes = sorted(p.returncode for p in passes)
    assert codes == [0] + [5] * 9, told
    for process, (out, err) in zip(passes, told, strict=True):
        assert len(out.splitlines()) == (2 if process.returncode == 0 else 0)
        assert process.returncode == 0 or is_one_sentence(err, "world")


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_json(run_cli: Cli, verb: str) -> None:
    code, out, err = run_cli(*verb.split(), "--help")
    assert (code, err) == (0, "")
    assert f"example:\n  finsignal {verb}" in out
    assert "--json" in out


HELP = f"""
import sys
from finsignal.cli import main
for verb in ((), ("fetch",), ("lake",), *(verb.split() for verb in {VERBS!r})):
    try:
        main([*verb, "--help"])
    except SystemExit:
        pass
heavy = {{"pandas", "numpy", "pyarrow", "torch", "yfinance", "ccxt", "curl_cffi", "feedparser", "sqlalchemy",
          "exchange_calendars", "onnxruntime", "finsignal.fetching", "finsignal.lake", "finsignal.ledger"}}
print("LOADED", sorted(heavy & set(sys.modules)))
"""


def test_help_loads_nothing_heavy_and_answers_in_under_half_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", HELP], cwd=REPO, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "LOADED []"
    # Of the processor, for ten helps together: what a busy machine takes beside it says nothing about the code.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
