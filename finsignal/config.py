"""One TOML run file to frozen dataclasses: every key known, every value of its type, every path resolved."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import math
import re
import sys
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.backtest import Costs, OrderRules
from finsignal.clock import check_zone, default_latency, make_bars, to_bar
from finsignal.errors import USER_ERRORS, ConfigError, did_you_mean
from finsignal.signals import ExitRules, Limits, NewsRules, Strategy, WeightRules
from finsignal.sources.files import NewsLayout, PriceLayout, SentimentLayout
from finsignal.sources.service import redact
from finsignal.splits import SplitRules
from finsignal.tables import INSTANT, PARAMETERS

PRICE_SOURCES = ("", "yahoo", "bybit")
ALWAYS = pd.Timestamp("1970-01-01", tz="UTC")  # from when the values stated in a run file count as known


@dataclass(frozen=True)
class Feed:
    """One RSS or Atom feed of a run."""

    url: str
    about: str = ""  # '' looks for the run's symbols by name; '*' is news of the whole market; or one symbol
    tz: str | None = None  # zone of stamps that carry none; without one they are refused
    precision: str = "second"  # what a stamp is exact to: "second", "minute", "hour" or "date"


@dataclass(frozen=True)
class FetchRules:
    """What a pass brings into the lake before it decides. Nothing named is nothing fetched."""

    prices: str = ""  # 'yahoo' or 'bybit'; '' where something else fills the lake, such as `finsignal fetch files`
    yahoo_news: bool = False  # Yahoo's news of each symbol
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    funding: bool = False  # settled funding rates (bybit)
    open_interest: bool = False  # open interest (bybit)
    back: str = "30d"  # how far the first fetch of a symbol reaches back
    latency: str = "1min"  # from an item's publication until it counts as known
    yahoo_url: str = ""  # another address for the service, such as a mirror
    bybit_url: str = ""

    def __post_init__(self) -> None:
        if self.prices not in PRICE_SOURCES:
            hint = did_you_mean(self.prices, PRICE_SOURCES)
            raise ConfigError(f"fetch: prices {self.prices!r} is not one of {list(PRICE_SOURCES)}.{hint}")
        if (self.funding or self.open_interest) and self.prices != "bybit":
            raise ConfigError("fetch: funding and open_interest come from bybit; set prices = 'bybit'.")
        for name, feed in self.feeds.items():
            if not feed.url.startswith(("http://", "https://")) or ":" in name or name == "yahoo":
                raise ConfigError(
                    f"fetch.feeds.{name}: needs a url of http or https, and a name other than 'yahoo' without a colon."
                )
            if feed.tz is not None:
                check_zone(feed.tz, where=f"fetch.feeds.{name}")
        to_span(self.back, "fetch: back")
        to_span(self.latency, "fetch: latency")


@dataclass(frozen=True)
class JobRules:
    """How the scheduled job keeps its decisions."""

    ledger: str = ""  # 'sqlite:///…', 'postgresql://…' or a file beside the run file; '' is NAME.ledger.sqlite there
    parameters: str = ""  # parameters.parquet of a run folder, for a strategy whose settings were searched
    output: str = ""  # a .jsonl or .csv file that each pass replaces


@dataclass(frozen=True)
class RunFile:
    """A run as its file states it. `read_run` makes it; library functions receive its parts, never the whole."""

    path: Path
    name: str
    market: str  # 'XNYS' or another exchange code, 'bybit-linear', '24x7'
    bar: str  # '1h', '30min', '1d'
    symbols: tuple[str, ...]
    start: str  # a date or instant, UTC; bars that open at it or later
    end: str  # a date or instant, UTC; bars that open before it. It may lie ahead: what has not closed is left out
    strategy: str  # the .py file, beside the run file
    cash: float  # what the account starts with
    features: NewsRules
    weights: WeightRules
    costs: Costs
    prices: PriceLayout | None = None  # how the price files are to be read; not needed with a lake
    news: NewsLayout | None = None  # how the news file is to be read; not needed with a lake
    lake: str = ""  # a folder of fetched facts, relative to the run file, in place of files
    market_news: str = ""  # where a lake's market-wide news goes: 'every' symbol, one of them, or '' nowhere
    latency: str = ""  # decision latency; '' is 5min for daily bars, 1min for others
    baseline: str = ""  # the .py file of a strategy on price features alone, to compare with
    simulated: bool = False  # the data is made up; said wherever a result appears
    allow_seen: bool = (
        False  # whether the run may begin before the model's training data ends; the report says so first
    )
    scores_until: str = ""  # until when what made the scores of --sentiment has learned: a date or instant; '' unknown
    row_limit: float = 0.01  # share of rows that may be unusable before a file is refused
    prices_path: tuple[str, ...] = ()  # files, or SYMBOL=file, relative to the run file
    news_path: str = ""
    sentiment: SentimentLayout | None = None
    split: SplitRules | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)  # keyword arguments of the strategy
    search: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # values to choose from on validation
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # names and aliases of each symbol
    exits: ExitRules = field(default_factory=ExitRules)  # beside the holding period and an opposite signal
    orders: OrderRules = field(default_factory=OrderRules)  # lots, smallest orders, share of the volume
    random_entries: int = 100  # accounts that enter at random, to compare with; 0 is none
    index: str = ""  # the symbol that stands for the market in betas and alphas; '' is none
    limits: Limits = field(default_factory=Limits)  # beyond which a symbol is held; the job needs both stated
    fetch: FetchRules = field(default_factory=FetchRules)
    job: JobRules = field(default_factory=JobRules)

    def __post_init__(self) -> None:
        to_bar(self.bar)
        if not re.fullmatch(r"\w[\w .-]*", self.name):
            raise ConfigError(f"{self.path}: name {self.name!r} names files; use letters, digits, '_', '-' and '.'.")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ConfigError(f"{self.path}: symbols must name each symbol once, got {list(self.symbols)}.")
        for table, named in {
            "names": self.names,
            "orders.lots": self.orders.lots,
            "costs.borrow_by_symbol": self.costs.borrow_by_symbol,
        }.items():
            for symbol in named:
                if symbol not in self.symbols:
                    hint = did_you_mean(symbol, self.symbols)
                    raise ConfigError(f"{self.path}: [{table}] has {symbol!r}, which symbols does not.{hint}")
        if self.search and self.split is None:
            raise ConfigError(f"{self.path}: [search] chooses on validation, so a [split] is needed too.")
        if self.market_news not in ("", "every", *self.symbols):
            raise ConfigError(
                f"{self.path}: market_news {self.market_news!r} is neither 'every' nor one of symbols."
                f"{did_you_mean(self.market_news, ['every', *self.symbols])}"
            )
        if self.lake and (self.prices_path or self.news_path):
            raise ConfigError(f"{self.path}: lake and files (prices_path, news_path) exclude each other; keep one.")
        if self.random_entries < 0:
            raise ConfigError(f"{self.path}: random_entries is {self.random_entries}; expected 0 or more.")
        if not self.cash > 0:
            raise ConfigError(f"{self.path}: cash is {self.cash}; expected more than 0.")

    @property
    def decision_latency(self) -> pd.Timedelta:
        """Time between decision and open. Zero is allowed in research, and named first in the report."""
        return to_span(self.latency, f"{self.path}: latency") if self.latency else default_latency(self.bar)

    def make_bars(self) -> pd.DataFrame:
        """The grid of the run, as `tables.BARS`."""
        return make_bars(self.market, self.bar, start=self.start, end=self.end, latency=self.decision_latency)

    def load_strategy(self) -> Strategy:
        """The function `strategy` of the run's file, after a check that it takes the parameters stated."""
        function = load_strategy(self.path.parent / self.strategy)
        check_parameters(function, [*self.parameters, *self.search], where=str(self.path))
        return function

    def load_baseline(self) -> Strategy | None:
        """The strategy on price features alone, or None where the run names none."""
        if not self.baseline:
            return None
        function = load_strategy(self.path.parent / self.baseline)
        check_parameters(function, [], where=f"{self.path}: baseline")
        return function

    def make_parameters(self) -> pd.DataFrame:
        """The stated parameters as a table, known always."""
        return to_parameters(self.parameters, known=ALWAYS)

    def to_settings(self) -> dict[str, Any]:
        """Everything stated or defaulted, as plain values for JSON; secrets in addresses are struck out."""
        plain = _to_plain(dataclasses.asdict(self))
        return {**plain, "path": self.path.name, "latency": str(self.decision_latency)}


def to_parameters(values: Mapping[str, float], *, known: pd.Timestamp) -> pd.DataFrame:
    """A parameters table: each value known from one instant on."""
    times = pd.Series([known] * len(values), dtype=INSTANT)
    names = pd.Series(list(values), dtype="str")
    return PARAMETERS.to_table(
        pd.DataFrame({"time": times, "name": names, "value": pd.Series(list(values.values()), dtype="float64")})
    )


def read_run(path: Path | str, **changes: Any) -> RunFile:
    """The run file at `path`; `changes` replace top-level values, as the command line's flags do.

    Raises ConfigError for a file that is missing or no TOML, an unknown or missing key, and a value of the wrong type.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such run file.") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read as text ({err}).") from err
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: is not TOML: {err}.") from err
    if "path" in content:
        raise ConfigError(f"{path}: unknown key 'path'. Files are named by prices_path and news_path.")
    content.update({name: value for name, value in changes.items() if value is not None})
    return to_dataclass(RunFile, {"path": path, **content}, where=str(path))


def to_dataclass(kind: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """An instance of a frozen dataclass from a TOML table, nested tables included.

    Raises ConfigError naming the key: unknown (with the closest known one), missing, or of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in fields:
            raise ConfigError(f"{where}: unknown key {name!r}.{did_you_mean(name, fields)} Keys are {sorted(fields)}.")
    ready = {name: _to_type(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    for name, f in fields.items():
        needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if needed and name not in ready:
            raise ConfigError(f"{where}: no key {name!r}, which has no default.")
    return kind(**ready)


def _to_type(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        real = [a for a in arguments if a is not type(None)]
        for option in real[:-1]:
            try:
                return _to_type(option, value, where)
            except ConfigError:
                continue
        return _to_type(real[-1], value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table [{where.rpartition(' ')[2]}], got {value!r}.")
        return to_dataclass(typing.cast(type, hint), value, where=where)
    if origin in (tuple, Sequence):
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}.")
        return tuple(_to_type(arguments[0], item, where) for item in value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table of values, got {value!r}.")
        return {str(k): _to_type(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is pd.Timedelta:
        return value if isinstance(value, pd.Timedelta) else to_span(value, where)
    if hint is Path:
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value!r}. To lift a limit, write a large one.")
    if hint is str and not isinstance(value, str) and hasattr(value, "isoformat"):
        return value.isoformat()  # TOML has dates of its own
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}.")
    return value


def to_span(value: Any, where: str) -> pd.Timedelta:
    """A length of time such as '1min' or '30d'. Raises ConfigError for anything else, and for one below 0."""
    if isinstance(value, str):
        try:
            span = pd.Timedelta(f"{value[:-1]}D" if value.endswith("d") else value)  # pandas 3 wants days in capitals
        except ValueError:
            span = pd.NaT
        if span is not pd.NaT and span >= pd.Timedelta(0):
            return span
    raise ConfigError(f"{where}: {value!r} is not a length of time of 0 or more. Write for example '1min' or '90s'.")


def load_strategy(path: Path) -> Strategy:
    """The function named `strategy` in a Python file. Running the file is running its code: load only what you trust.

    Raises ConfigError for a file that is missing, fails to import, or has no such function.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such strategy file.")
    spec = importlib.util.spec_from_file_location(f"finsignal_strategy_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: expected a Python file ending in .py.")
    module = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except USER_ERRORS as err:
        raise ConfigError(f"{path}: does not import: {type(err).__name__} {err}.") from err
    finally:
        sys.dont_write_bytecode = written
    function = getattr(module, "strategy", None)
    if not callable(function):
        raise ConfigError(f"{path}: expected a function named 'strategy'.")
    return function


def check_parameters(strategy: Strategy, names: list[str], *, where: str) -> None:
    """Refuses parameters that the strategy does not take, and missing ones that have no default."""
    taken = {
        name: p
        for name, p in inspect.signature(strategy).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name in names:
        if name not in taken:
            raise ConfigError(
                f"{where}: the strategy has no parameter {name!r}.{did_you_mean(name, taken)} "
                f"Parameters are {sorted(taken)}."
            )
    for name, parameter in taken.items():
        if parameter.default is inspect.Parameter.empty and name not in names:
            raise ConfigError(f"{where}: the strategy needs {name!r}; state it under [parameters].")


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(v) for v in value]
    if isinstance(value, Path | pd.Timedelta | pd.Timestamp):
        return str(value)
    return redact(value) if isinstance(value, str) and "://" in value else value
