"""Verbs of the unattended half: fetch, lake, run, status."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli import shared
from finsignal.cli.shared import number, print_json, printable
from finsignal.errors import ConfigError, LockedError, LookaheadError, RefusedError, SourceError

if TYPE_CHECKING:
    import pandas as pd

    from finsignal.fetching import Outcome
    from finsignal.lake import Lake

AddVerb = Callable[..., argparse.ArgumentParser]
DEFAULT_LAKE = Path("data/lake")
FLAT = ("decided", "bar", "symbol", "signal", "weight", "score", "confidence", "reason", "texts", "model")


def add_verbs(verb: AddVerb) -> None:
    """Adds them to the command line, each with an example."""
    sub = verb(
        "fetch yahoo",
        fetch_yahoo,
        "prices of shares with splits and dividends, and news, from Yahoo",
        "finsignal fetch yahoo AAPL MSFT --bar 1d --start 2024-01-01 --news",
    )
    add_window(sub, market="XNYS")
    sub.add_argument("--news", action="store_true", help="Yahoo's news of the symbols too")
    sub.add_argument("--no-prices", action="store_true", help="no prices, for news alone")

    sub = verb(
        "fetch bybit",
        fetch_bybit,
        "closed bars of crypto pairs, funding rates and open interest, from Bybit",
        "finsignal fetch bybit BTCUSDT ETHUSDT --bar 1h --start 2023-01-01 --funding --open-interest",
    )
    add_window(sub, market="bybit-linear")
    sub.add_argument("--funding", action="store_true", help="settled funding rates too")
    sub.add_argument("--open-interest", action="store_true", help="open interest too")

    sub = verb(
        "fetch feed",
        fetch_feed,
        "the items of an RSS or Atom feed",
        "finsignal fetch feed https://example.com/rss --name wire --run strategies/apple_hourly.toml",
    )
    sub.add_argument("url", metavar="URL")
    sub.add_argument("--name", required=True, help="a name for the feed, which its items carry as their source")
    sub.add_argument(
        "--about", default="", metavar="SYMBOL", help="a symbol that all items are about; * for the market"
    )
    sub.add_argument("--tz", metavar="ZONE", help="zone of stamps that carry none, such as America/New_York")
    sub.add_argument("--run", type=Path, metavar="RUN.toml", help="whose [names] tell which symbols the words name")
    sub.add_argument("--latency", default="1min", help="from publication until an item counts as known (default 1min)")
    add_lake(sub)

    sub = verb(
        "fetch files",
        fetch_given,
        "price and news files of your own, by the [prices] and [news] of a run file",
        "finsignal fetch files strategies/apple_hourly.toml --prices AAPL=aapl.csv --news news.csv",
    )
    sub.add_argument("run", type=Path, metavar="RUN.toml")
    sub.add_argument("--news", metavar="FILE", help="news file, read by the run file's [news]")
    sub.add_argument("--prices", action="append", metavar="FILE", help="price file; SYMBOL=FILE for one symbol each")
    add_lake(sub)

    sub = verb(
        "lake status",
        show_lake,
        "symbols, spans, gaps, silences and last fetches of a lake",
        "finsignal lake status --lake data/lake",
    )
    add_lake(sub)

    sub = verb(
        "run",
        run_job,
        "one pass of the scheduled job: fetch, score, decide, write, exit",
        "finsignal run job.toml --format jsonl\n"
        "  finsignal run strategies/news_sentiment.toml --replay 2024-06-03 2024-07-01\n"
        "exit codes: 0 decided or nothing to do, 1 error, 3 partly decided, 4 refused, 5 locked, 6 source down",
    )
    sub.add_argument("run", type=Path, metavar="RUN.toml")
    sub.add_argument("--now", metavar="TIME", help="the instant of the pass (default: now)")
    sub.add_argument("--no-fetch", action="store_true", help="decide from what the lake holds; something else fills it")
    sub.add_argument("--format", choices=["text", "jsonl", "csv"], default="text", help="of stdout (default text)")
    sub.add_argument("--out", type=Path, metavar="FILE", help="also a .jsonl or .csv file, replaced as a whole")
    sub.add_argument("--model", type=Path, metavar="DIR", help="a model folder (default: the model that ships)")
    sub.add_argument(
        "--replay",
        nargs=2,
        metavar=("FROM", "TO"),
        help="walk the past pass by pass, and hold its ledger against the backtest's decisions",
    )
    sub.add_argument("--news", metavar="FILE", help="with --replay: news file, read by the run file's [news]")
    sub.add_argument("--prices", action="append", metavar="FILE", help="with --replay: price file, or SYMBOL=FILE")
    sub.add_argument("--parameters", type=Path, metavar="FILE", help="parameters.parquet of a run folder")
    sub.add_argument("--folder", type=Path, metavar="DIR", help="with --replay: the run folder to be held against")
    sub.add_argument("--ledger", metavar="FILE", help="with --replay: keep its ledger here (default: forget it)")

    sub = verb(
        "status",
        show_status,
        "last passes of a job, coverage, latency, and drift of its scores",
        "finsignal status job.toml",
    )
    sub.add_argument("run", type=Path, metavar="RUN.toml")
    sub.add_argument("--last", type=int, default=10, metavar="N", help="passes to show (default 10)")
    sub.add_argument("--prove", action="store_true", help="decide every bar on record again, and compare")
    sub.add_argument("--model", type=Path, metavar="DIR", help="with --prove: the model folder of the job")


def add_lake(sub: argparse.ArgumentParser) -> None:
    """The option of the verbs that fill or show a lake."""
    sub.add_argument("--lake", type=Path, default=DEFAULT_LAKE, help=f"folder of the lake (default {DEFAULT_LAKE})")


def add_window(sub: argparse.ArgumentParser, *, market: str) -> None:
    """What a service is asked for."""
    sub.add_argument("symbols", nargs="+", metavar="SYMBOL")
    sub.add_argument("--bar", default="1d", help="length of a bar, such as 1d, 1h, 15min (default 1d)")
    sub.add_argument("--market", default=market, help=f"the market whose calendar the bars follow (default {market})")
    sub.add_argument("--start", metavar="TIME", help="bars that open at it or later (default: 30 days ago)")
    sub.add_argument("--end", metavar="TIME", help="bars that open before it (default: now)")
    sub.add_argument("--again", action="store_true", help="ask again for bars that the service did not have")
    sub.add_argument("--base-url", default="", metavar="URL", help="another address for the service, such as a mirror")
    sub.add_argument("--run", type=Path, metavar="RUN.toml", help="whose [names] tell which symbols a text names")
    add_lake(sub)


# --- fetch and lake ------------------------------------------------------------------------------------------------


def fetch_yahoo(options: argparse.Namespace) -> int:
    """Prices, actions and news of Yahoo into the lake."""
    from finsignal.fetching import fetch_prices, fetch_yahoo_news

    if options.no_prices and not options.news:
        raise ConfigError("fetch yahoo: --no-prices without --news asks for nothing; add --news.")
    now, lake, url = shared.read_clock(), open_named(options), options.base_url
    done = []
    if not options.no_prices:
        window = to_window(options, now)
        done += fetch_prices(lake, "yahoo", options.symbols, again=options.again, url=url, progress=True, **window)
    if options.news:
        names = read_names(options, options.symbols)
        done += fetch_yahoo_news(
            lake, options.symbols, names=names, latency=to_latency("1min"), now=now, url=url, progress=True
        )
    return tell(done, options)


def fetch_bybit(options: argparse.Namespace) -> int:
    """Bars, funding rates and open interest of Bybit into the lake."""
    from finsignal.fetching import fetch_derivatives, fetch_prices

    now, lake = shared.read_clock(), open_named(options)
    window: dict[str, Any] = {**to_window(options, now), "url": options.base_url, "progress": True}
    done = fetch_prices(lake, "bybit", options.symbols, again=options.again, **window)
    tables = [table for table in ("funding", "open_interest") if getattr(options, table)]
    return tell(done + fetch_derivatives(lake, options.symbols, tables, **window), options)


def fetch_feed(options: argparse.Namespace) -> int:
    """The items of one feed into the lake."""
    from finsignal.config import Feed, FetchRules
    from finsignal.fetching import fetch_feeds

    feeds = FetchRules(feeds={options.name: Feed(options.url, about=options.about, tz=options.tz)}).feeds
    named = [] if options.about in ("", "*") else [options.about]
    done = fetch_feeds(
        open_named(options),
        feeds,
        names=read_names(options, named),
        latency=to_latency(options.latency),
        now=shared.read_clock(),
    )
    return tell(done, options)


def fetch_given(options: argparse.Namespace) -> int:
    """Files of the user into the lake."""
    from finsignal.cli.study import read_options
    from finsignal.fetching import fetch_files

    options.map = []
    return tell(fetch_files(open_named(options), read_options(options), now=shared.read_clock()), options)


def open_named(options: argparse.Namespace) -> Lake:
    """The lake of --lake, made where there is none."""
    from finsignal.lake import open_lake

    return open_lake(options.lake, create=True)


def to_window(options: argparse.Namespace, now: pd.Timestamp) -> dict[str, Any]:
    """What fetch_prices is asked for."""
    from finsignal.clock import DAY, to_instant

    start = to_instant(options.start, where="--start") if options.start else now - 30 * DAY
    end = to_instant(options.end, where="--end") if options.end else now
    return {"market": options.market, "bar": options.bar, "start": start, "end": end, "now": now}


def to_latency(span: str) -> pd.Timedelta:
    """A length of time."""
    from finsignal.config import to_span

    return to_span(span, "--latency")


def read_names(options: argparse.Namespace, symbols: Sequence[str]) -> dict[str, Sequence[str]]:
    """The names of each symbol, from --run; a symbol without any is found by cashtag and ticker."""
    from finsignal.config import read_run

    run = read_run(options.run) if options.run else None
    known = {} if run is None else {symbol: run.names.get(symbol, ()) for symbol in run.symbols}
    return {**dict.fromkeys(symbols, ()), **known}


def tell(done: Sequence[Outcome], options: argparse.Namespace) -> int:
    """What was fetched, printed; 0, or 3 where some of it failed and 6 where all of it did."""
    if options.json:
        print_json([{**vars(outcome), "notes": list(outcome.notes)} for outcome in done])
    for outcome in done:
        name = f"{outcome.source} {outcome.symbol}".strip()
        if outcome.error:
            print(f"finsignal: {name}: {printable(outcome.error)}", file=sys.stderr)
        elif not options.json:
            missing = f", {outcome.missing:,} missing" if outcome.missing else ""
            print(f"{name}  {outcome.new:,} new{missing}" + "".join(f"\n  {printable(note)}" for note in outcome.notes))
    failed = sum(bool(outcome.error) for outcome in done)
    return 0 if not failed else 6 if failed == len(done) else 3


def show_lake(options: argparse.Namespace) -> None:
    """What the lake holds."""
    from finsignal.cli.lake_text import to_text
    from finsignal.lake import make_lake_status, open_lake

    status = make_lake_status(open_lake(options.lake), now=shared.read_clock())
    print_json(status) if options.json else print(to_text(status))


# --- the job -------------------------------------------------------------------------------------------------------


def run_job(options: argparse.Namespace) -> int:
    """One pass, or a replay of the past; the exit code of the job."""
    others = ("now", "out", "no_fetch") if options.replay else ("news", "prices", "ledger", "folder")
    for name in others:
        if getattr(options, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"run: --{flag} goes {'without' if options.replay else 'with'} --replay; leave one out.")
    try:
        return replay_past(options) if options.replay else decide_now(options)
    except (RefusedError, LookaheadError, LockedError) as err:
        if options.debug:
            raise
        print(f"finsignal: {err}", file=sys.stderr)
        return 5 if isinstance(err, LockedError) else 4


def decide_now(options: argparse.Namespace) -> int:
    """One pass of the job."""
    from finsignal.clock import to_instant
    from finsignal.config import read_run
    from finsignal.job.passing import run_pass
    from finsignal.sentiment.score import load_model
    from finsignal.writing import whole_file

    run = read_run(options.run)
    if options.parameters:
        run = replace(run, job=replace(run.job, parameters=str(options.parameters.absolute())))
    out = options.out or (run.path.parent / run.job.output if run.job.output else None)
    if out is not None and out.suffix not in (".jsonl", ".csv"):
        raise ConfigError(f"run: the output {out} ends in {out.suffix!r}; expected .jsonl or .csv.")
    fixed = to_instant(options.now, where="--now", tz=None) if options.now else None
    if fixed is not None and fixed > shared.read_clock():
        raise RefusedError(f"run: --now {fixed} lies ahead; every pass until then would be refused as going back.")
    clock = shared.read_clock if fixed is None else lambda: fixed
    made = run_pass(run, clock, lambda: load_model(options.model), fetch=not options.no_fetch)
    print(f"{run.name}: {made.outcome}: {printable(made.message)}", file=sys.stderr)
    kind = "jsonl" if options.json else options.format
    if made.rows:
        sys.stdout.write(to_lines(made.rows, kind))
    if made.rows and out is not None:
        try:
            with whole_file(out) as work:
                work.write_text(to_lines(made.rows, out.suffix[1:]), encoding="utf-8")
        except OSError as err:
            raise SourceError(
                f"{out}: cannot be written ({err.strerror}). The decisions are on record; repeat the pass."
            ) from err
    return made.code


def to_lines(rows: Sequence[dict[str, Any]], kind: str) -> str:
    """Decisions as JSON lines, as CSV of their plain columns, or for people to read."""
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    if kind == "csv":
        out = io.StringIO(newline="")
        columns = [*FLAT, *(["leave"] if rows and "leave" in rows[0] else [])]
        writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    lines = []
    for row in rows:
        why = f"  {row['reason']}" if row["reason"] else ""
        why += f"  leave: {row['leave']}" if row.get("leave") else ""
        lines.append(
            f"{row['symbol']:<10} {row['signal']:<4}  weight {row['weight']:+.3f}  score {number(row['score'])}  "
            f"{row['texts']} texts{why}\n"
        )
    return "".join(lines)


def replay_past(options: argparse.Namespace) -> int:
    """The past walked pass by pass; 0 where its ledger equals the backtest's decisions, else 1."""
    from contextlib import closing
    from tempfile import TemporaryDirectory

    from finsignal.cli.study import make_scores, read_options
    from finsignal.clock import to_instant
    from finsignal.job.replay import read_decided, run_replay
    from finsignal.ledger import open_ledger
    from finsignal.study.deciding import read_parameters
    from finsignal.study.inputs import check_seen, read_inputs

    options.map = []
    run = read_options(options)
    start, end = (to_instant(stamp, where="--replay") for stamp in options.replay)
    now = shared.read_clock()
    inputs = read_inputs(run, now=now)
    scores, models = make_scores(options, run, inputs.news)
    sentiment, model = next(iter(scores.values())), next(iter(models.values()))
    check_seen(run, model)
    fitted = options.parameters or (options.folder and options.folder / "parameters.parquet")
    parameters = read_parameters(run, fitted)
    against = read_decided(options.folder) if options.folder else None
    with TemporaryDirectory() as folder:
        path = options.ledger or Path(folder) / "replay.sqlite"
        with closing(open_ledger(path, durable=options.ledger is not None)) as ledger:
            done = run_replay(
                run,
                inputs,
                sentiment,
                ledger,
                parameters=parameters,
                model=model.name,
                start=start,
                end=end,
                now=now,
                against=against,
                progress=True,
            )
    if options.json:
        print_json(vars(done))
    else:
        print(
            f"{run.name}: {done.passes:,} passes, {done.decisions:,} decisions, {done.orders:,} changes of a target: "
            f"{done.differences:,} differ from the backtest"
        )
        if done.first:
            print(f"  {done.first}")
    return 1 if done.differences else 0


def show_status(options: argparse.Namespace) -> int:
    """How the job has been doing; 1 where --prove finds a decision that does not come out again."""
    from finsignal.config import read_run
    from finsignal.job.status import make_status, to_text

    if options.last < 0:
        raise ConfigError(f"status: --last is {options.last}; expected 0 or more passes.")
    run, now = read_run(options.run), shared.read_clock()
    status = make_status(run, now=now, last=options.last)
    if not options.prove:
        print_json(status) if options.json else print(to_text(status))
        return 0
    from finsignal.job.proof import prove
    from finsignal.sentiment.score import load_model

    proof = prove(run, lambda: load_model(options.model), now=now, progress=True)
    if options.json:
        print_json({**status, "proof": vars(proof)})
    else:
        print(to_text(status))
        other = f", {proof.other_model:,} of another model left out" if proof.other_model else ""
        print(f"  proof      {proof.decisions:,} decisions made again, {proof.differences:,} differ{other}")
        if proof.first:
            print(f"    {proof.first}")
    return 1 if proof.differences else 0
