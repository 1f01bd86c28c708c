"""What was known: tables of the lake as of an instant, and links and scores by their keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from finsignal.clock import to_instant
from finsignal.errors import ConfigError
from finsignal.lake.adjusting import to_basis
from finsignal.lake.contracts import Kept, to_kept
from finsignal.lake.ordering import newest, order_once, take, to_codes, to_frame
from finsignal.lake.reading import INSTANT_BEFORE, Wanted, read_rows, to_root
from finsignal.lake.store import Lake
from finsignal.tables import INSTANT, to_integers


def as_of(
    lake: Lake,
    table: str,
    t: pd.Timestamp,
    *,
    recorded_by: pd.Timestamp,
    market: str = "",
    bar: str = "",
    symbols: Sequence[str] | None = None,
    since: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """The contract's table as it was known at `t` (`time` <= t), from what the lake had recorded by `recorded_by`.

    Of each key the newest version recorded by then, sorted by key. `since` keeps the rows with time > since, `symbols`
    those of these symbols. Research fixes recorded_by and varies t; proof of a job's past takes recorded_by = t. Prices
    are on the basis of `t`: those fetched before a split that came into force by `t` are divided by it, those fetched
    after one that had not yet are multiplied back, among the splits recorded by `recorded_by`; volumes inversely.
    Optional columns of prices are there where a row has them. `fetches` are those recorded by `t`.

    Raises ConfigError for a table, market or bar length that cannot be meant, or an instant without zone; SourceError
    for a part that cannot be read. No rows means that the lake has none.
    """
    kept = to_kept(table)
    if "time" not in kept.contract.columns and table != "fetches":
        raise ConfigError(f"lake: {table} have no time of their own; use read_{table}.")
    if symbols is not None and "symbol" not in kept.contract.columns:
        raise ConfigError(f"lake: {table} have no symbol; link them first (read_links).")
    root = to_root(lake, table, kept, market=market, bar=bar)
    until = to_instant(t, where="lake: t", tz=None)
    by = to_instant(recorded_by, where="lake: recorded_by", tz=None)
    after = None if since is None else to_instant(since, where="lake: since", tz=None)
    if table == "fetches":
        by = min(by, until)
    among = None if symbols is None else ("symbol", list(symbols))
    rows = read_rows(root, kept, Wanted(after, until, by, among), bar=bar, lean=True)
    if table == "fetches" and after is not None:
        rows = rows.filter(pc.field("recorded") > pa.scalar(after))
    if kept.first_wins:
        return to_frame(rows, order_once(rows, *kept.contract.order), kept)
    key = kept.contract.key
    positions = newest(rows, key)
    frame = to_frame(rows, positions, kept)
    if table == "prices" and len(frame):
        # After the prices: whoever writes appends a split before the prices that it concerns.
        splits = read_splits_by(lake, market=market, recorded_by=by, symbols=symbols)
        if len(splits):
            places, times, fetched = (to_codes(rows[c])[positions] for c in (*key, "recorded"))
            frame = to_basis(frame, (places, times), fetched, splits, until)
    return frame


def read_splits_by(
    lake: Lake, *, market: str, recorded_by: pd.Timestamp, symbols: Sequence[str] | None
) -> pd.DataFrame:
    """The splits of a market that the lake had recorded by then, past and announced, as ACTIONS."""
    kept = to_kept("actions")
    among = None if symbols is None else ("symbol", list(symbols))
    found = read_rows(
        to_root(lake, "actions", kept, market=market, bar=""), kept, Wanted(None, None, recorded_by, among)
    )
    actions = to_frame(found, newest(found, kept.contract.key), kept)
    return actions[actions["kind"] == "split"]


def read_dividends(
    lake: Lake,
    t: pd.Timestamp,
    *,
    recorded_by: pd.Timestamp,
    market: str,
    symbols: Sequence[str] | None = None,
    since: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """ACTIONS of kind dividend with since < time <= t, as recorded by then, in cash a unit on the basis of `t`.

    The basis is that of the prices which `as_of` gives for the same `t`: a dividend stored before a split that came
    into force by `t` is divided by it, one stored after a split that had not yet is multiplied back. One that goes ex
    at the open of a split is for the new units.
    """
    kept = to_kept("actions")
    until, by = to_instant(t, where="lake: t", tz=None), to_instant(recorded_by, where="lake: recorded_by", tz=None)
    after = None if since is None else to_instant(since, where="lake: since", tz=None)
    among = None if symbols is None else ("symbol", list(symbols))
    root = to_root(lake, "actions", kept, market=market, bar="")
    rows = read_rows(root, kept, Wanted(after, until, by, among))
    rows = rows.filter(pc.equal(rows["kind"], "dividend"))
    positions = newest(rows, kept.contract.key)
    frame = to_frame(rows, positions, kept)
    splits = read_splits_by(lake, market=market, recorded_by=by, symbols=symbols)
    if frame.empty or splits.empty:
        return frame
    places, fetched = to_codes(rows["symbol"])[positions], to_codes(rows["recorded"])[positions]
    # A bar that opens at a split ends after it, and so must what is paid at that open.
    before = to_integers(frame["time"]) + 1
    values = frame.rename(columns={"value": "dividend"}).assign(volume=0.0)
    values = to_basis(values, (places, before), fetched, splits, until)
    return kept.contract.check(frame.assign(value=values["dividend"]))


def read_links(
    lake: Lake,
    articles: pd.DataFrame | Sequence[str] | None = None,
    *,
    recorded_by: pd.Timestamp,
    stamped: bool = False,
) -> pd.DataFrame:
    """LINKS of these articles (a table with article_id, or ids; None: of all), the newest recorded by then of each.

    Where `stamped`, with a column `recorded`: when the lake had the first version of the link, whatever its relevance.
    """
    ids = None if articles is None else articles["article_id"] if isinstance(articles, pd.DataFrame) else articles
    by = to_instant(recorded_by, where="lake: recorded_by", tz=None)
    wanted = Wanted(recorded_by=by, among=None if ids is None else ("article_id", list(ids)))
    if not stamped:
        return _look_up(lake, "links", wanted)
    kept = to_kept("links")
    rows = read_rows(to_root(lake, "links", kept, market="", bar=""), kept, wanted)
    positions = newest(rows, kept.contract.key)
    links = to_frame(rows, positions, kept)
    links["recorded"] = take(rows, positions)["recorded"].to_pandas().astype(INSTANT).array
    if len(positions) < len(rows):
        key = list(kept.contract.key)
        first = rows.select([*key, "recorded"]).to_pandas().groupby(key)["recorded"].min()
        links["recorded"] = first.reindex(pd.MultiIndex.from_frame(links[key])).astype(INSTANT).array
    return links


def read_scores(lake: Lake, inputs: Sequence[str], *, model: str) -> pd.DataFrame:
    """SCORES of this model for those of the inputs (digests, see `to_digest`) that it was asked for before."""
    found = _look_up(lake, "scores", Wanted(among=("input", list(inputs))))
    return found[found["model"] == model].reset_index(drop=True)


def read_articles(lake: Lake, ids: Sequence[str], *, recorded_by: pd.Timestamp) -> pd.DataFrame:
    """ARTICLES with these ids and their edits ('<id>#<digest>'), whenever they became known, recorded by then."""
    kept = to_kept("articles")
    by = to_instant(recorded_by, where="lake: recorded_by", tz=None)
    root = to_root(lake, "articles", kept, market="", bar="")
    asked = pa.array(list(ids), pa.large_string())
    known = read_rows(root, kept, Wanted(recorded_by=by), columns=["article_id", "time", "recorded"])
    edit = pc.match_substring(known["article_id"], "#")
    whole = pc.replace_substring_regex(known["article_id"].filter(edit), pattern="#[^#]*$", replacement="")
    edited = known.filter(edit).filter(pc.is_in(whole, asked))
    meant = pa.concat_tables([known.filter(pc.is_in(known["article_id"], asked)), edited]).to_pandas()
    found = [kept.schema.empty_table()]
    for _, those in meant.groupby(meant["time"].dt.strftime("%Y-%m")):  # only now the texts, where there are any
        among = ("article_id", those["article_id"].tolist())
        since, until = those["time"].min() - INSTANT_BEFORE, those["time"].max()
        found.append(read_rows(root, kept, Wanted(since, until, by, among)))
    rows = pa.concat_tables(found)
    return to_frame(rows, order_once(rows, *kept.contract.order), kept)


def _look_up(lake: Lake, table: str, wanted: Wanted) -> pd.DataFrame:
    kept: Kept = to_kept(table)
    rows = read_rows(to_root(lake, table, kept, market="", bar=""), kept, wanted, lean=True)
    return to_frame(rows, newest(rows, kept.contract.key), kept)


def to_digest(text: str) -> str:
    """The first 32 hex digits of the SHA-256 of a model input, under which its score is kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
