"""What the README shows is true: its commands exist, its Python runs, its worked example adds up."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from finsignal.cli import make_parser
from finsignal.clock import bar_to_serve, make_bars
from finsignal.config import read_run
from finsignal.features import aggregate_sentiment
from finsignal.job.passing import check_job
from finsignal.tables import INSTANT, NEWS, SENTIMENT

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")


def test_every_verb_is_in_the_readme() -> None:
    actions = [a for a in make_parser()._actions if a.choices]
    verbs = list(actions[0].choices)
    assert {"demo", "backtest", "signal", "score", "train", "evaluate"} <= set(verbs)
    assert all(f"finsignal {verb}" in README for verb in verbs)


def test_every_module_of_the_tree_exists_and_every_module_is_in_it() -> None:
    tree = README[README.index("finsignal/\n") : README.index("strategies/         #")]
    named = set(re.findall(r"[\w]+\.py|[\w]+(?=/ )", tree))
    package = REPO / "finsignal"
    top = {p.name for p in package.glob("*.py")} - {"__init__.py", "simulated_texts.py"}
    folders = {p.name for p in package.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert top | folders <= named
    for name in named - {"default"}:
        assert (package / name).exists() or (package / "sentiment" / name).exists(), name


@pytest.mark.slow
def test_the_dozen_lines_of_python_run(capsys) -> None:
    code = re.search(r"```python\n(import pandas.*?)```", README, re.DOTALL)
    assert code is not None
    here = Path.cwd()
    os.chdir(REPO)
    try:
        names: dict[str, object] = {}
        exec(code[1].replace("print(", "shown.append("), names | {"shown": (shown := [])})
    finally:
        os.chdir(here)
    assert "word" in shown[0]
    assert list(shown[1].columns) == ["symbol", "entry_time", "exit_time", "profit"]


def test_the_strategy_of_the_readme_answers_every_row() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    names: dict = {}
    exec(code, names)
    features = pd.DataFrame({"ret_5": [-0.1, 0.1], "sent_score": [0.5, 0.5], "sent_confidence": [0.8, 0.8]})
    assert names["strategy"](features)["signal"].tolist() == ["BUY", "HOLD"]


def test_many_neutral_texts_drown_one_strong_negative_as_the_readme_says() -> None:
    # ten texts, each with largest probability 0.9, so equal weights: negative (0.9 + 9 * 0.05) / 10 = 0.135,
    # positive 9 * 0.05 / 10 = 0.045, neutral (0.1 + 9 * 0.9) / 10 = 0.82
    bars = make_bars("24x7", "1h", start="2024-03-04", end="2024-03-05", latency=pd.Timedelta("1min"))
    stamp = pd.Timestamp("2024-03-04T00:30Z").as_unit("us")
    rows = [
        {"article_id": f"a{n}", "title": f"text {n}", "text": "", "source": "", "url": "", "story": f"s{n}"}
        for n in range(10)
    ]
    news = pd.DataFrame(rows).assign(published=stamp, recorded=stamp, time=stamp, symbol="A", relevance=1.0)
    news["first_seen"] = pd.Series(pd.NaT, index=news.index, dtype=INSTANT)
    news = NEWS.to_table(news)
    negative = news["article_id"] == "a0"
    sentiment = news[["article_id", "time", "symbol"]].assign(
        p_negative=negative * 0.9 + ~negative * 0.05,
        p_neutral=negative * 0.1 + ~negative * 0.9,
        p_positive=~negative * 0.05,
        model="by hand",
    )
    out = aggregate_sentiment(
        news,
        SENTIMENT.to_table(sentiment),
        bars,
        ["A"],
        half_life=7,
        max_age=14,
        min_relevance=0,
        source_weights={},
    )
    fresh = out.iloc[1]  # decided 00:59, the first decision after the texts
    assert fresh["sent_score"] == pytest.approx(-0.09)
    assert fresh["sent_confidence"] == pytest.approx(0.82)


def test_the_crontab_starts_a_pass_for_every_bar_of_new_york() -> None:
    zone, times = re.search(r"```crontab\nCRON_TZ=(\S+)\n(\S+ \S+) \* \* 1-5 ", README).groups()  # type: ignore[union-attr]
    minute, hours = times.split()
    first, last = map(int, hours.split("-"))
    days = pd.bdate_range("2026-10-26", "2026-12-31", tz=zone)  # a change of clocks, and two half days
    starts = [day.replace(hour=hour, minute=int(minute)) for day in days for hour in range(first, last + 1)]
    bars = make_bars("XNYS", "1h", start="2026-10-26", end="2026-12-31", latency=pd.Timedelta(minutes=1))
    served = {position for start in starts if (position := bar_to_serve(bars, start.tz_convert("UTC"))) is not None}
    assert served == set(range(len(bars)))


def test_the_systemd_units_are_valid_and_start_in_the_minute_before_a_bar(tmp_path: Path) -> None:
    units = dict(re.findall(r"```ini\n# ~/\.config/systemd/user/(\S+)\n(.*?)```", README, re.DOTALL))
    assert sorted(units) == ["finsignal.service", "finsignal.timer"]
    calendar = re.search(r"OnCalendar=(.*)", units["finsignal.timer"])[1]  # type: ignore[index]
    assert re.fullmatch(r"\*-\*-\* \*:59:\d\d", calendar)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze, which checks units, is not installed")
    for name, text in units.items():
        (tmp_path / name).write_text(text.replace("%h/finsignal/.venv/bin/finsignal", "/bin/true"), encoding="utf-8")
    paths = [str(tmp_path / name) for name in units]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if "finsignal" in line] == []


@pytest.mark.parametrize("name", ["shares_job", "crypto_job"])
def test_the_jobs_run_files_can_be_jobs(name: str) -> None:
    check_job(read_run(REPO / "strategies" / f"{name}.toml"))
