"""Answers by heart, asked of strategies alone; and what the text of a strategy file gives away."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finsignal import to_signal
from finsignal.checking.by_heart import ENDS, NUMBERS, VALUES, Ask, check_by_heart
from finsignal.checking.findings import Part
from finsignal.checking.source_text import END, check_text
from finsignal.clock import make_bars
from finsignal.config import ALWAYS, to_parameters
from finsignal.errors import TableError
from finsignal.signals import make_signals
from finsignal.tables import FEATURES

Score = Callable[[pd.DataFrame], pd.Series]


def make_features(bars: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    start = pd.Timestamp("2026-03-02", tz="UTC")
    grid = make_bars("24x7", "1h", start=start, end=start + bars * pd.Timedelta(hours=1), latency=pd.Timedelta("1min"))
    parts = []
    for symbol in ("AAA", "BBB"):
        part = grid[["open_time", "time"]].assign(symbol=symbol, ret_1=rng.normal(0, 0.01, bars))
        part["sent_count"] = rng.integers(0, 3, bars).astype(float)
        part["sent_score"] = np.where(part["sent_count"] > 0, rng.choice([-0.8, 0.1, 0.8], bars), np.nan)
        part.loc[0, "ret_1"] = np.nan
        parts.append(part)
    return FEATURES.to_table(pd.concat(parts, ignore_index=True))


def to_ask(score: Score) -> Ask:
    def strategy(features: pd.DataFrame) -> pd.DataFrame:
        value = score(features).clip(-1, 1)
        return to_signal(value, value.abs(), buy_threshold=0.1, sell_threshold=0.1, confidence_threshold=0.0)

    return lambda rows: make_signals(rows, strategy=strategy, parameters=to_parameters({}, known=ALWAYS))


def check(score: Score, bars: int = 240) -> dict[str, Part]:
    return {part.name: part for part in check_by_heart(make_features(bars), to_ask(score))}


def count(features: pd.DataFrame) -> pd.Series:
    return features.groupby("symbol").cumcount()


@pytest.mark.parametrize(
    ("part", "score"),
    [
        (ENDS, lambda f: f.groupby("symbol")["ret_1"].shift(-1) * 50),
        (ENDS, lambda f: f["ret_1"] / f["ret_1"].abs().max()),
        (ENDS, lambda f: f["ret_1"] * 50 * (len(f) > 300)),
        (ENDS, lambda f: f["ret_1"].where(f.groupby("symbol").cumcount(ascending=False) > 99) * 50),
        (NUMBERS, lambda f: f["ret_1"].where(~count(f).isin([31, 97, 171, 200, 233]), -1.0) * 50),
        (NUMBERS, lambda f: count(f).map(dict(enumerate(np.random.default_rng(2).uniform(-1, 1, 999))))),
        (VALUES, lambda f: ((f["ret_1"] * 1e9).round() % 5 / 2 - 1).fillna(0.0)),
    ],
)
def test_what_is_known_by_heart_is_found_with_its_place(part: str, score: Score) -> None:
    found = check(score)[part]
    assert found.state == "failed"
    (finding,) = found.findings
    assert finding.column in ("signal", "score", "confidence")
    assert finding.symbol in ("AAA", "BBB")
    assert finding.instant is not None
    assert finding.said == found.said


@pytest.mark.parametrize(
    "score",
    [
        lambda f: f["sent_score"],
        lambda f: f["sent_score"].where(f["sent_score"].abs() >= 0.8),  # the threshold is a value that texts have
        lambda f: f["ret_1"].where(f["sent_count"].astype(int) > 0) * 50,  # no count is ever missing
        lambda f: f["sent_score"].where(count(f) % 5 == 0),
        lambda f: f["sent_score"].where(count(f) % 24 == 3),
        lambda f: f["sent_score"].where(f["open_time"].dt.day_of_week == 3),
        lambda f: f["sent_score"].where(
            f.groupby("symbol")["open_time"].shift(-1) - f["open_time"] < pd.Timedelta("2h")
        ),
        lambda f: pd.Series(1.0, index=f.index),
    ],
)
def test_honest_answers_pass(score: Score) -> None:
    assert {part.state for part in check(score, bars=500).values()} == {"passed"}
    assert [part.findings for part in check(score, bars=240).values()] == [(), (), ()]


def test_a_window_without_an_end_is_told_and_not_accused() -> None:
    def expanding(features: pd.DataFrame) -> pd.Series:
        mean = features.groupby("symbol")["ret_1"].transform(lambda r: r.expanding().mean())
        return (features["ret_1"] - mean) * 50

    parts = check(expanding)
    assert parts[NUMBERS].state == "told"
    assert "where a job's data begins" in parts[NUMBERS].said
    assert parts[ENDS].state == parts[VALUES].state == "passed"


@pytest.mark.parametrize("every", [11, 22, 50])
def test_who_counts_bars_is_told_and_not_accused(every: int) -> None:
    def rebalance(features: pd.DataFrame) -> pd.Series:
        score = features["ret_1"].where(count(features) % every == 0) * 30
        return score.groupby(features["symbol"]).ffill()

    part = check(rebalance)[NUMBERS]
    assert (part.state, part.findings) == ("told", ())
    assert f"answers count to {every} from the first bar" in part.said


def test_a_strategy_that_answers_only_for_all_rows_is_found() -> None:
    def whole(features: pd.DataFrame) -> pd.Series:
        if features["ret_1"].isna().sum() > 2:  # its first rows have none
            raise TableError("strategy: not my table")
        return features["ret_1"] * 50

    part = check(whole)[ENDS]
    assert part.state == "failed"
    assert "it does not answer at all" in part.findings[0].said


def test_too_little_says_what_it_needs() -> None:
    parts = check(lambda f: f["ret_1"].where(count(f) == 5) * 50, bars=100)
    assert parts[NUMBERS].said == "Needs 120 bars; there are 100."
    assert parts[VALUES].state == "could not be checked"
    (only,) = check_by_heart(make_features(), lambda rows: (_ for _ in ()).throw(TableError("strategy: no")))
    assert (only.state, only.said) == ("could not be checked", "strategy: no")


# --- the text --------------------------------------------------------------------------------------------------------


def read(tmp_path: Path, text: str) -> Part:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    return check_text(path, [f"Name {n}" for n in range(150)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import gc\n", "imports gc"),
        ("from inspect import stack\n", "imports inspect"),
        ("import urllib.request\n", "reaches the net"),
        ("import sys\nsys.argv\n", "uses sys.argv"),
        ("from sys import modules\n", "imports sys.modules"),
        ("import sys as s\ns._getframe()\n", "_getframe"),
        ("eval('1')\n", "uses eval"),
        ("getattr(x, 'f_' + 'back')\n", "with a name that it makes up"),
        ("getattr(x, 'f_back')\n", "names f_back"),
        ("def f():\n    '''x'''\nf.__doc__\n", "__doc__"),
        ("__name__ = '__main__'\nif __name__ == '__main__':\n    open('prices.csv')\n", "reads data by open()"),
        ("open('prices.py')\n", "reads data by open()"),
        ("import pandas as pd\npd.read_csv('a.csv')\n", "reads data by pd.read_csv()"),
        ("from pyarrow import csv\ncsv.read_csv('a.csv')\n", "reads data by csv.read_csv()"),
        ("import pandas as pd\npd.Timestamp.now()\n", "reads the clock by pd.Timestamp.now()"),
        ("import time as t\nt.time()\n", "reads the clock"),
        ("from time import time\ntime()\n", "reads the clock by time()"),
        (f"A = {list(range(150))}\n", "holds a table of 150 values"),
        (f"A = {'x' * 600!r}\n", "holds a block of 600 characters"),
        (f"A = {10**30}\n", "a number so long that it is data"),
        ("\n".join(f"a{n} = {n}" for n in range(250)), "holds 250 numbers"),
        ("from finsignal.checking import asker\nasker.x\n", "imports finsignal.checking.asker"),
        ("import finsignal.checking.asker\n", "imports finsignal.checking.asker"),
        ("from finsignal import study\n", "imports finsignal.study"),
        ("import finsignal as fs\nfs.checking\n", "uses finsignal.checking"),
        ("from operator import attrgetter as get\nget('__trace' + 'back__.tb_fr' + 'ame')\n", "that it makes up"),
        ("import operator\noperator.attrgetter('a.f_locals')\n", "names f_locals"),
        ("x.__getattribute__('f_' + 'back')\n", "uses __getattribute__"),
        ("import os\nvars(os)['env' + 'iron']\n", "by a name that it makes up"),
        ("read = open\nread('a.txt')\n", "reads data by open()"),
        ("from io import open as o\no('a.txt')\n", "imports open, which reads data"),
        ("from pandas import read_csv as r\nr('a.csv')\n", "imports read_csv, which reads data"),
        ("from os import environ\n", "imports environ"),
        ("from os import getenv as g\n", "imports getenv"),
        ("import numpy as np\nclass M:\n    def load(self): ...\nnp.load('a.npy')\n", "reads data by np.load()"),
        (f"class {'a' * 300}:\n    pass\n", "holds a name of 300 characters"),
        (f"A = {dict.fromkeys([f'2026-03-{n}' for n in range(101)], 'up')}\n", "holds a table of 202 values"),
        (f"A = { {f'S{n}': f'x{n}' for n in range(150)} }\n", "holds a table of 150 values"),
        ("\n".join(f"a{n} = {'y' * 400!r}" for n in range(20)), "holds 8,000 characters"),
    ],
)
def test_what_a_strategy_needs_not_say_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    part = read(tmp_path, text)
    assert part.state == "failed"
    assert any(words in finding.said for finding in part.findings)
    assert all(finding.said.startswith("mine.py line ") for finding in part.findings)


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos._exit(0)\n",
        "from os import abort\n",
        "import os\nos.kill(1, 9)\n",
        "import os\ngetattr(os, 'abort')()\n",
        "import os\nvars(os)['kill'](1, 9)\n",
    ],
)
def test_what_ends_the_process_is_named_before_it_is_asked(tmp_path: Path, text: str) -> None:
    assert END in {finding.kind for finding in read(tmp_path, text).findings}


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nTINY = sys.float_info.epsilon\n",
        "import re\nNAME = re.compile('a')\n",
        "import datetime\nOPEN = datetime.time(9, 30)\n",
        "from datetime import time\nOPEN = time(9, 30)\n",
        "def f(features):\n    return features['open_time'].dt.time\n",
        f'"""{"A long story. " * 80}"""\n',
        "import pandas as pd\nif __name__ == '__main__':\n    pd.read_csv('sample.csv')\n    raise SystemExit(0)\n",
        "import logging\nlogging.getLogger('mine')\n",
        f"SECTORS = {dict.fromkeys([f'S{n}' for n in range(45)], 'energy')}\n",
        f"SECTORS = { {f'S{n:03d}': f'sector {n % 11}' for n in range(500)} }\n",
        f"UNIVERSE = {[f'Name {n}' for n in range(150)]}\n",  # the run's own symbols
        "class Model:\n    def load(self):\n        return 1\nMODEL = Model().load()\n",
        "mode = 'abort'\nwords = {'kill': -1, 'abort': -1}\n",
        "class Switch:\n    kill = False\ns = Switch()\ns.kill = True\nif s.kill:\n    pass\n",
        "def f(features):\n    open = features['gap']\n    return open * 2\n",
        "import finsignal as fs\nfs.to_signal\nfs.__version__\n",
        "from finsignal import to_signal, make_bars\nfrom finsignal.errors import TableError\n",
        "from operator import attrgetter\nF = attrgetter('dt.hour')\n",
    ],
)
def test_honest_text_is_not_accused(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).state == "passed"


def test_text_that_is_no_python_is_left_to_the_loader(tmp_path: Path) -> None:
    assert read(tmp_path, "def (\n").state == "could not be checked"
    assert check_text(tmp_path / "none.py").state == "could not be checked"
