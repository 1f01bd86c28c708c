"""The page shows everything, keeps foreign text as text, asks the network for nothing, and is written whole."""

import dataclasses
import json
import re
import shutil
import socket
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finsignal.errors import LookaheadError, TableError
from finsignal.report import make_report, write_report
from finsignal.report.chance import chance_part
from finsignal.report.sections import FIGURES
from finsignal.report.text import escape, gap, number
from finsignal.report.trades import INSTANTS, NEWS_COLUMNS, link
from finsignal.tables import BacktestResult

pytest.importorskip("plotly", reason="needs plotly: pip install 'finsignal[backtest]'")

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "<!--<script>",
    "{{script}} {{plotly}}",
    "\u202eevil \x00 &amp; ]]>",
)
TRADE_COLUMNS = {
    "trade": "int64", "symbol": "str", "direction": "str", "entry_time": "datetime64[us, UTC]",
    "exit_time": "datetime64[us, UTC]", "quantity": "float64", "entry_price": "float64", "exit_price": "float64",
    "fees": "float64", "profit": "float64", "return": "float64", "bars": "int64", "closed": "bool",
}  # fmt: skip
NEWS_TYPES = {
    **dict.fromkeys(NEWS_COLUMNS, "float64"), "trade": "int64", "symbol": "str", "title": "str", "source": "str",
    "url": "str", **dict.fromkeys(INSTANTS, "datetime64[us, UTC]"),
}  # fmt: skip


def make_run(*, bars: int, symbols: list[str], trades: int, texts: int = 2, seed: int = 5) -> dict[str, Any]:
    """The arguments of make_report for a run that never happened: random numbers that keep the contract."""
    rng = np.random.default_rng(seed)
    times = pd.date_range("2023-01-03 14:30", periods=bars, freq="h", tz="UTC").as_unit("us")
    times.name = "open_time"
    gross = pd.Series(100_000 * np.cumprod(1 + rng.normal(3e-5, 2e-3, bars)), index=times)
    equity = gross * np.linspace(1, 0.97, bars)
    held = np.where(
        rng.random((bars, len(symbols))) < 0.01, rng.choice([0, 0.1, 0.2, -0.1], (bars, len(symbols))), np.nan
    )
    weights = pd.DataFrame(held, index=times, columns=symbols).ffill().fillna(0.0)
    rows, news = [], []
    for trade in range(trades):
        first = int(rng.integers(0, max(1, bars - 30)))
        last = min(bars - 1, first + int(rng.integers(1, 30)))
        symbol = symbols[trade % len(symbols)]
        price = float(rng.uniform(20, 400))
        gain = float(rng.normal(0.001, 0.02))
        rows.append(
            (
                trade,
                symbol,
                "long" if rng.random() < 0.8 else "short",
                times[first],
                times[last],
                10_000 / price,
                price,
                price * (1 + gain),
                10.0,
                10_000 * gain - 10,
                gain - 0.001,
                last - first,
                True,
            )
        )
        for item in range(texts if trade % 4 else 0):
            decided = times[first] - pd.Timedelta(minutes=1)
            known = decided - pd.Timedelta(minutes=int(rng.integers(0, 4000)))
            mix = rng.dirichlet((1, 1, 2))
            news.append(
                (
                    trade,
                    symbol,
                    known - pd.Timedelta(minutes=1),
                    known,
                    decided,
                    times[first],
                    f"{symbol} raises its full-year outlook after a strong quarter ({trade}.{item})",
                    "Example Wire",
                    f"https://news.example.com/{trade}/{item}?a=1&b=2",
                    *mix,
                    1 / texts,
                )
            )
    result = BacktestResult(
        equity=equity,
        gross=gross,
        returns=equity.pct_change().fillna(0.0),
        weights=weights,
        orders=pd.DataFrame({"open_time": times[:1], "symbol": symbols[:1]}),
        rejected=pd.DataFrame(
            {
                "open_time": times[:2],
                "symbol": symbols[0],
                "weight": 0.1,
                "reason": ["no open price", "gross limit"][: len(times[:2])],
            }
        ),
        trades=pd.DataFrame(rows, columns=list(TRADE_COLUMNS)).astype(TRADE_COLUMNS),
        settings={"fee": 0.0005, "seed": seed},
    )
    curves = pd.DataFrame(
        {
            "this run": equity,
            "news without relevance": gross * np.cumprod(1 + rng.normal(0, 1e-3, bars)),
            "price features alone": gross * np.cumprod(1 + rng.normal(0, 1e-3, bars)),
            "buy and hold": 100_000 * np.cumprod(1 + rng.normal(5e-5, 2.5e-3, bars)),
        }
    )
    trade_news = pd.DataFrame(news, columns=list(NEWS_COLUMNS)).astype(NEWS_TYPES)
    return {
        "summary": make_summary(times, symbols, trades),
        "result": result,
        "curves": curves,
        "trade_news": trade_news,
    }


def make_summary(times: pd.DatetimeIndex, symbols: list[str], trades: int) -> dict[str, Any]:
    middle = times[len(times) // 2].isoformat()
    third = times[len(times) // 3].isoformat()
    run = {"net_return": 0.0312, "gross_return": 0.0623, "sharpe": 0.41, "sharpe_error": 0.71, "max_drawdown": -0.1234,
           "trades": trades, "turnover": 14.2}  # fmt: skip
    return {
        "name": "good_news on simulated prices",
        "simulated": True,
        "notes": [
            "Simulated prices and news: nothing here says anything about a real market.",
            "allow_seen: the model may have read about this period while it was trained.",
        ],
        "verdict": {
            "word": "cannot tell",
            "reasons": [
                "Sharpe 0.41 ± 0.71; this much data tells only 1.39 or more from zero.",
                "A random order of the same news does as well in 31 of 100 draws.",
            ],
        },
        "period": {
            "start": times[0].isoformat(),
            "end": times[-1].isoformat(),
            "bars": len(times),
            "sessions": 260,
            "symbols": symbols,
            "market": "XNYS",
            "bar": "1h",
            "split": {"validation": [third, middle], "test": [middle, times[-1].isoformat()], "purge_bars": 35},
        },
        "texts": {
            "read": 5120,
            "used": 3921,
            "dropped": {"below relevance 0.3": 880, "repeat of a story": 319},
            "silences": [{"symbol": symbols[0], "start": times[0].isoformat(), "end": middle, "days": 12.5}],
        },
        "performance": {
            "ruined": None,
            "net_return": 0.0312,
            "gross_return": 0.0623,
            "annual_return": 0.0181,
            "annual_volatility": 0.0711,
            "sharpe": 0.41,
            "sharpe_error": 0.71,
            "sharpe_detectable": 1.39,
            "sortino": 0.57,
            "calmar": None,
            "max_drawdown": -0.1234,
            "exposure": 0.377,
            "turnover": 14.2,
            "trades": trades,
            "win_rate": 0.5432,
            "profit_factor": 1.07,
            "break_even_cost": 0.00102,
            "open_at_end": 1,
            "costs_paid": 4321.0,
            "rejected": 3,
            "days": 437,
        },
        "comparison": [
            {"name": "this run", **run},
            {"name": "news without relevance", **run, "sharpe": -0.22, "net_return": -0.0131},
            {"name": "price features alone", **run, "sharpe": 0.12, "net_return": 0.0045},
            {"name": "buy and hold", **run, "sharpe": 0.77, "gross_return": None, "net_return": 0.0981},
        ],
        "costs": {"fee": 0.0005, "slippage": 0.0005, "funding_rate": None},
        "attribution": make_attribution(symbols),
        "alpha": {
            "market": "SPY",
            "alpha": 0.0213,
            "alpha_error": 0.0345,
            "beta": 0.42,
            "beta_error": 0.05,
            "days": 260,
            "lags": 4,
            "notes": ["SPY has no price at first; days left out: 3."],
        },
        "model": {
            "name": "default 1a2b3c",
            "trained_until": "2022-06-30",
            "base_cutoff": "2021-09-30",
            "trained_on": ["phrasebank", "fiqa"],
        },
        "settings_tried": 48,
        "chosen": {"buy_threshold": 0.3, "half_life": 7},
        "assumptions": ["Fills at the open of the next bar.", "No market impact."],
    }


def make_attribution(symbols: list[str]) -> dict[str, Any]:
    """3,120 earned: 4,321 by the first symbol and -1,201 by the others."""

    def row(name: str, profit: float, *, waiting: int = 0) -> dict[str, Any]:
        return {"name": name, "trades": 5, "open": waiting, "profit": profit, "share": profit / 5522, "win_rate": 0.6}

    return {
        "cash": 100_000.0,
        "profit": 3120.0,
        "open_at_end": 1,
        "always_open": False,
        "tables": {
            "symbol": [row(symbols[0], 4321.0), row("13 others", -1201.0, waiting=1)],
            "direction": [row("long", 3120.0, waiting=1)],
            "source": [row("Example Wire", 4000.0), row("no text", -880.0, waiting=1)],
            "hour": [row("14:00 to 14:59", 3500.0), row("09:00 to 09:59", -380.0, waiting=1)],
            "session": [row("within sessions", 5521.0), row("overnight", -1234.0), row("costs", -1167.0)],
        },
        "costs": [
            {"name": "fees", "cash": -612.0, "of_traded": -0.0005},
            {"name": "slippage", "cash": -555.0, "of_traded": -0.00045},
            {"name": "funding", "cash": 0.0, "of_traded": 0.0},
            {"name": "dividends", "cash": 77.0, "of_traded": 0.00006},
        ],
        "rejected": {"no open price": 1, "gross limit": 1},
    }


class Reader(HTMLParser):
    """What a page is made of: every element with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.words).replace("\xa0", " "))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    return make_run(bars=400, symbols=["AAPL", "MSFT", "XOM"], trades=9)


@pytest.fixture(scope="module")
def page(run: dict[str, Any]) -> Reader:
    return Reader(make_report(**run))


def hostile_run() -> dict[str, Any]:
    """Every place that takes foreign text holds some that would like to be a script."""
    evil = " ".join(HOSTILE)
    run = make_run(bars=40, symbols=[evil, "B"], trades=4)
    news = run["trade_news"]
    for column in ("title", "source"):
        news[column] = evil
    news["url"] = (
        ["javascript:document.title='owned'", 'https://x.example/"><script>document.title=1</script>'] * len(news)
    )[: len(news)]
    summary = run["summary"]
    for key in ("notes", "assumptions"):
        summary[key] = [evil]
    summary["name"] = evil
    summary["verdict"] = {"word": evil, "reasons": [evil]}
    summary["texts"]["dropped"] = {evil: 1}
    summary["texts"]["silences"][0]["symbol"] = evil
    summary["model"]["trained_on"] = [evil]
    summary["chosen"] = {evil: evil}
    summary["costs"] = {evil: evil}
    summary["period"]["bar"] = evil
    for rows in summary["attribution"]["tables"].values():
        rows[0]["name"] = evil
    summary["alpha"] |= {"market": evil, "notes": [evil]}
    summary["comparison"][1]["name"] = evil
    run["curves"].columns = ["this run", evil, "c", "d"]
    run["result"].settings[evil] = evil
    run["result"].rejected["reason"] = evil
    return run


def test_every_performance_figure_is_on_the_page(run: dict[str, Any], page: Reader) -> None:
    assert {key for key, *_ in FIGURES} == set(run["summary"]["performance"])
    for _, label, *_ in FIGURES:
        assert label in page.text
    for shown in (
        "3.12 %",
        "6.23 %",
        "0.41 ± 0.71",
        "1.39",
        "\u221212.3 %",
        "37.7 %",
        "54.3 %",
        "1.07",
        "0.10 % (10.2 bp)",
        "14.20 \u00d7",
    ):
        assert shown in page.text


def test_what_was_said_first_stands_first(page: Reader) -> None:
    places = [
        page.text.index(words) for words in ("Simulated prices", "cannot tell", "Sharpe 0.41 ± 0.71;", "Net return")
    ]
    # The page's title names the verdict as well, before the body.
    assert places[0] < page.text.index("cannot tell", places[0]) < places[2] < places[3]


def test_texts_model_costs_and_settings_are_on_the_page(page: Reader) -> None:
    for words in (
        "5,120",
        "3,921",
        "below relevance 0.3",
        "880",
        "12.5",
        "0.050 % (5.0 bp)",
        "2022-06-30",
        "2021-09-30",
        "phrasebank, fiqa",
        "48",
        "half_life",
        "Fills at the open",
        "no open price",
        "buy and hold",
    ):
        assert words in page.text, words


def section(run: dict[str, Any], name: str) -> str:
    """One section of the page, as HTML."""
    found = re.search(f'<section id="{name}">(.*?)</section>', make_report(**run), re.DOTALL)
    assert found is not None
    return found[1]


def test_where_the_profit_came_from_is_drawn_and_adds_up(run: dict[str, Any]) -> None:
    html = section(run, "attribution")
    text = Reader(html).text
    for words in (
        "2.13\u00a0% ± 3.45\u00a0%", "0.42 ± 0.05", "against SPY, 260 days; errors by Newey-West, 4 lags",
        "SPY has no price at first; days left out: 3", "adds up to the whole profit after costs, 3,120.",
        "1 position open at the end: marked at the last close", "4,321", "13 others", "\u22121,201", "5 + 1 open",
    ):  # fmt: skip
        assert words.replace("\u00a0", " ") in text, words
    titles = [
        "By symbol",
        "By source of the texts",
        "Overnight and within sessions",
        "By direction",
        "By hour of entry",
    ]
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)
    assert text.index("09:00 to 09:59") < text.index("14:00 to 14:59")  # hours in their order
    # The largest of a table fills its side of 58; the loss beside it is drawn to the left, in proportion.
    bars = re.findall('<rect x="([0-9.]+)" y="2" width="([0-9.]+)" height="8" fill="(#[0-9a-f]+)"', html)
    assert len(bars) == 10
    assert bars[0] == ("60.0", "58.0", "#1f5fa8")
    assert bars[1] == (f"{60 - 58 * 1201 / 4321:.1f}", f"{58 * 1201 / 4321:.1f}", "#b4531b")


def test_costs_are_drawn_by_kind_and_what_was_not_charged_is_not(run: dict[str, Any]) -> None:
    text = Reader(section(run, "costs")).text
    for words in ("fees", "\u2212612.00", "slippage", "\u22125.0 bp", "dividends", "77.00"):
        assert words in text
    assert "funding" not in text  # neither paid nor stated
    assert Reader(section(run, "costs")).elements.count(("line", {"x1": "60", "x2": "60", "y1": "0", "y2": "12",
                                                                  "stroke": "#aab2ba"})) == 3  # fmt: skip


def test_stated_costs_are_in_their_own_units_and_those_that_are_off_are_not_said(run: dict[str, Any]) -> None:
    costs = {
        "fee": 0.0, "min_fee": 0.5, "impact": 0.25, "maker_fee": None, "borrow": 0.0, "loan_interest": 0.08,
        "borrow_by_symbol": {"AAPL": 0.03},
    }  # fmt: skip
    text = Reader(section({**run, "summary": {**run["summary"], "costs": costs}}, "costs")).text
    for words in ("fee 0.00 % (0.0 bp)", "min fee 0.5 ", "impact 0.25 ", "loan interest 8.00 %", "AAPL 3.00 %"):
        assert words in text, words
    assert "maker fee" not in text
    assert not re.search("borrow 0", text)


def test_reasons_of_orders_that_were_not_filled_are_drawn(run: dict[str, Any]) -> None:
    result = dataclasses.replace(
        run["result"], rejected=pd.concat([run["result"].rejected, run["result"].rejected.iloc[:1]])
    )
    html = section({**run, "result": result}, "trades")
    bars = re.findall('<rect x="1.0" y="2" width="([0-9.]+)"', html)
    assert bars == ["58.5", "117.0"]  # gross limit once, no open price twice


def test_an_alpha_that_is_not_defined_says_why(run: dict[str, Any]) -> None:
    note = "Alpha and beta are not defined: SPY moved alike on all 260 days."
    nothing = dict.fromkeys(("alpha", "alpha_error", "beta", "beta_error"))
    alpha = {**run["summary"]["alpha"], **nothing, "notes": [note]}
    text = Reader(section({**run, "summary": {**run["summary"], "alpha": alpha}}, "attribution")).text
    assert text.count("– not defined") == 2
    assert note in text


def test_a_market_that_never_closes_has_no_nights_on_the_page(run: dict[str, Any]) -> None:
    origins = {**run["summary"]["attribution"], "always_open": True, "open_at_end": 0}
    text = Reader(section({**run, "summary": {**run["summary"], "attribution": origins}}, "attribution")).text
    assert "This market never closes, so nothing is overnight" in text
    assert "Overnight and within sessions" not in text
    assert "open at the end" not in text


def test_a_profit_that_was_not_traced_says_so(run: dict[str, Any]) -> None:
    summary = {key: value for key, value in run["summary"].items() if key not in ("attribution", "alpha")}
    assert "The profit was not traced." in Reader(section({**run, "summary": summary}, "attribution")).text


def test_the_strategy_stands_among_its_random_entries(run: dict[str, Any]) -> None:
    entries = {"accounts": 3, "as_good": 1, "p_value": 0.5, "net_returns": [-0.1, 0.0, 0.2]}
    summary = {"performance": {"net_return": 0.05}, "random_entries": entries}
    drawn = chance_part(summary)
    # 640 wide with 8 at each edge: -10 % at 8.0, 20 % at 632.0, so 0 % at 8 + 624 / 3 and 5 % at 8 + 624 / 2.
    assert re.findall(r'<line x1="([\d.]+)"[^>]*stroke-opacity', drawn) == ["8.0", "216.0", "632.0"]
    assert 'cx="320.0"' in drawn
    assert "1 made as much as the strategy or more (p = 0.50)" in drawn
    assert "Against chance" in make_report(**{**run, "summary": run["summary"] | summary})
    assert chance_part(run["summary"]) == ""
    assert chance_part({"performance": {"net_return": 0.05}, "random_entries": None}) == ""


def test_every_trade_stands_with_its_news_and_its_four_instants(run: dict[str, Any], page: Reader) -> None:
    assert sum(1 for tag, had in page.elements if tag == "details" and had.get("class") == "trade") == 9
    for row in run["trade_news"].to_dict("records"):
        assert row["title"] in page.text
        for name in INSTANTS:
            assert f"{row[name]:%Y-%m-%d %H:%M:%S}" in page.text
    assert page.text.count("No text stands behind this entry.") == 3


def test_the_session_of_ruin_is_shown_as_a_date(run: dict[str, Any]) -> None:
    row = r"Ruined\s*{}\s*first session in which"
    assert re.search(row.format("no"), Reader(make_report(**run)).text)
    ruined = {**run["summary"], "performance": {**run["summary"]["performance"], "ruined": "2026-03-03"}}
    assert re.search(row.format("2026-03-03"), Reader(make_report(**{**run, "summary": ruined})).text)


def test_two_thousand_trades_are_all_there() -> None:
    page = make_report(**make_run(bars=3000, symbols=["A", "B"], trades=2000))
    assert page.count('<details class="trade"') == 2000


def test_a_missing_figure_reads_not_defined(run: dict[str, Any]) -> None:
    summary = {**run["summary"], "performance": dict.fromkeys(run["summary"]["performance"])}
    page = Reader(make_report(**{**run, "summary": summary}))
    assert page.text.count("not defined") > 5
    assert "None" not in page.text
    assert "nan" not in page.text


@pytest.mark.parametrize("evil", HOSTILE)
def test_foreign_text_stays_text(evil: str) -> None:
    hostile, harmless = (
        Reader(make_report(**hostile_run())),
        Reader(make_report(**make_run(bars=40, symbols=["A", "B"], trades=4))),
    )
    tags = {tag for tag, _ in hostile.elements}
    assert tags <= {tag for tag, _ in harmless.elements}
    assert sum(tag == "script" for tag, _ in hostile.elements) == 3
    assert not any(name.startswith("on") for _, had in hostile.elements for name in had)
    readable = re.sub(r"\s+", " ", evil.replace("\x00", "\ufffd"))
    assert hostile.text.count(readable) > 20


def test_drawings_hold_nothing_that_could_close_their_script() -> None:
    page = make_report(**hostile_run())
    drawings = re.search('<script type="application/json" id="drawings">(.*?)</script>', page, re.DOTALL)
    assert drawings is not None
    assert not set("<>&") & set(drawings[1])
    assert len(json.loads(drawings[1])) == 2


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "",
        "http://[",
        "https:\\\\x",
        "ftp://a/b",
        "https://a.example/\tx",
    ],
)
def test_only_web_addresses_become_links(url: str) -> None:
    assert "<a" not in link(url)


def test_a_web_address_becomes_a_link_that_tells_its_host_and_takes_nothing_along() -> None:
    shown = link("https://www.example.com/a?b=1&c='\"<x>")
    assert 'href="https://www.example.com/a?b=1&amp;c=&#x27;&quot;&lt;x&gt;"' in shown
    assert 'rel="noopener noreferrer nofollow"' in shown
    assert ">www.example.com<" in shown
    # What stands before the @ is a name, not the host that is visited.
    assert ">evil.example<" in link("https://bank.example@evil.example/")


def test_the_page_asks_the_network_for_nothing(run: dict[str, Any], page: Reader) -> None:
    articles = set(run["trade_news"]["url"])
    for tag, had in page.elements:
        assert not {"src", "srcset", "data", "action", "poster", "background", "xlink:href"} & set(had), tag
        if "href" in had:
            assert tag == "a"
            assert had["href"] in articles or str(had["href"]).startswith("#")
    policy = next(had["content"] for tag, had in page.elements if had.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize("bars", [1, 2, 10_000])
def test_drawings_are_figures_that_plotly_knows(bars: int) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    symbols = [f"S{n}" for n in range(60)]
    page = make_report(**make_run(bars=bars, symbols=symbols, trades=1))
    drawings = re.search('id="drawings">(.*?)</script>', page, re.DOTALL)
    assert drawings is not None
    for drawing in json.loads(drawings[1]):
        figure = go.Figure(data=drawing["data"], layout=drawing["layout"])
        assert all(len(trace.x) <= 4000 for trace in figure.data)
    assert "The 40 symbols with the largest mean weight of 60" in page
    assert ("Each point stands for 3 bars" in page) == (bars == 10_000)


def test_thinning_keeps_the_deepest_drawdown_and_the_last_value() -> None:
    run = make_run(bars=9001, symbols=["A"], trades=0)
    equity = run["result"].equity.copy()
    equity.iloc[4000] = equity.iloc[:4000].max() / 2
    page = make_report(**{**run, "result": dataclasses.replace(run["result"], equity=equity)})
    data = json.loads(re.search('id="drawings">(.*?)</script>', page, re.DOTALL)[1])[0]["data"]  # type: ignore[index]
    drawn = {trace["name"]: trace["y"] for trace in data}
    assert min(drawn["drawdown"]) == -0.5
    assert drawn["this run"][-1] == pytest.approx(equity.iloc[-1], rel=1e-6)


def test_a_run_without_a_trade_a_text_or_a_model_is_a_page_too() -> None:
    run = make_run(bars=1, symbols=["AAPL"], trades=0)
    summary = {
        **run["summary"],
        "model": None,
        "comparison": [],
        "notes": [],
        "texts": {"read": 0, "used": 0},
        "chosen": {},
    }
    result = dataclasses.replace(run["result"], rejected=run["result"].rejected.iloc[:0])
    page = Reader(
        make_report(summary=summary, result=result, curves=run["curves"].iloc[:, :1], trade_news=run["trade_news"])
    )
    for words in (
        "No trade was made.",
        "No model took part",
        "Nothing was compared.",
        "0 closed trades",
        "No position was taken.",
    ):
        assert words in page.text


def test_an_open_trade_is_shown_and_not_counted() -> None:
    run = make_run(bars=50, symbols=["AAPL"], trades=3)
    run["result"].trades.loc[2, ["exit_time", "closed"]] = [pd.NaT, False]
    page = Reader(make_report(**run))
    assert "2 closed trades" in page.text
    assert "1 still open at the end" in page.text
    assert page.text.count("still open") == 2


def test_a_text_known_after_its_decision_is_refused(run: dict[str, Any]) -> None:
    news = run["trade_news"].copy()
    news.loc[3, "known"] = news.loc[3, "decided"] + pd.Timedelta(microseconds=1)
    with pytest.raises(LookaheadError, match="only what was known at its decision"):
        make_report(**{**run, "trade_news": news})


def test_news_of_an_unknown_trade_or_without_a_column_is_refused(run: dict[str, Any]) -> None:
    with pytest.raises(TableError, match="trade 77 is not among the result's 9 trades"):
        make_report(**{**run, "trade_news": run["trade_news"].assign(trade=77)})
    with pytest.raises(TableError, match="no column 'share'"):
        make_report(**{**run, "trade_news": run["trade_news"].drop(columns="share")})


def test_a_failed_write_leaves_the_older_page(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(tmp_path / "report.html", **run)
    before = path.read_bytes()

    def fail(self: Path, text: str, **options: Any) -> int:
        with self.open("w") as file:
            file.write(text[:100])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, **{**run, "summary": {**run["summary"], "name": "another"}})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_page_appears_under_its_name_only_when_it_is_whole(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[bool] = []

    def replace(source: Path, target: Path) -> None:
        moved.append(source.read_text(encoding="utf-8").endswith("</html>\n") and not target.exists())

    monkeypatch.setattr("finsignal.report.os.replace", replace)
    write_report(tmp_path / "report.html", **run)
    assert moved == [True]


def test_numbers_are_written_for_people() -> None:
    assert number(-0.00001, "percent") == "\u22120.001\xa0%"
    assert number(-0.000001, "percent") == "0.000\xa0%"
    assert number(12.5, "percent") == "1,250\xa0%"
    assert number(float("inf"), "ratio") == "∞"
    assert escape("a\ud800b") == "a\ufffdb"
    assert number(float("nan")) == number(None) == "\u2013"
    first = pd.Timestamp("2024-01-01", tz="UTC")
    assert gap(first, first + pd.Timedelta(days=2, minutes=5)) == "+2 d 5 min"
    assert gap(first, first) == "+0 s"


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium (chromium or google-chrome on the path)")
    return [
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]


@pytest.mark.slow
def test_chromium_draws_the_page_runs_no_foreign_script_and_sends_no_request(
    chromium: list[str], tmp_path: Path
) -> None:
    visits: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def listen() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                visits.append(caller.recv(100))
                caller.close()

        threading.Thread(target=listen, daemon=True).start()
        run = hostile_run()
        run["trade_news"]["title"] += (
            f'<img src="{here}img"><script src="{here}js"></script><link rel=stylesheet href="{here}css">'
        )
        run["trade_news"].loc[0, "url"] = here
        path = write_report(tmp_path / "report.html", **run)
        seen = subprocess.run([*chromium, path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
        server.shutdown(socket.SHUT_RDWR)
    assert visits == []
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    dom = Reader(seen.stdout)
    drawn = [had for tag, had in dom.elements if tag == "svg" and "main-svg" in str(had.get("class"))]
    assert len(drawn) >= 4
    offered = [str(had["data-title"]) for _, had in dom.elements if "data-title" in had]
    assert "Reset axes" in offered
    assert not re.search("share|cloud|studio", " ".join(offered), re.IGNORECASE)
    title = re.search("<title>(.*?)</title>", seen.stdout, re.DOTALL)
    assert title is not None
    assert title[1] != "owned"
    assert "document.title=" in title[1]
