"""One pass of the scheduled job, the whole process: 100 new headlines over 50 symbols, fetched, scored and decided.

    python benchmarks/pass_speed.py

Servers on 127.0.0.1 answer as Bybit and a feed do; a first pass fills the lake, and the ones that follow are measured.
Beside it, what importing torch and transformers alone costs: the job never imports them.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))

from bybit_answers import Market, make_history  # noqa: E402
from feed_answers import to_feed_answer, to_rss, to_stamp  # noqa: E402
from replay_server import Answer, Request, serve  # noqa: E402
from world import RUN  # noqa: E402

SYMBOLS = [f"SYM{n:02d}USDT" for n in range(50)]
VERBS = ("beats forecasts and lifts its outlook", "cuts its forecast after a weak quarter", "holds its annual meeting")
HEADLINES = 100  # new in each hour
PASSES = 7
FIRST = pd.Timestamp("2026-03-05T09:59:02Z").as_unit("us")


def make_headline(hour: int, number: int) -> dict[str, str]:
    """A headline of the hour before a pass, about one of the symbols."""
    at = FIRST + pd.Timedelta(hours=hour) - pd.Timedelta(minutes=55) + pd.Timedelta(seconds=30 * number)
    name = f"Venture {SYMBOLS[number % 50][3:5]}"
    title = f"{name} {VERBS[number % 3]}, item {hour}-{number}"
    return {"id": f"{hour}-{number}", "title": title, "published": to_stamp(at.isoformat())}


def write_run(folder: Path, url: str) -> Path:
    """The run file of the tests' world, with fifty symbols."""
    text = RUN.format(name="fifty", repo=REPO, url=url)
    text = text.replace('symbols = ["BTCUSDT", "ETHUSDT"]', f"symbols = {SYMBOLS}")
    names = "\n".join(f'{symbol} = ["Venture {symbol[3:5]}"]' for symbol in SYMBOLS)
    text = text.replace('BTCUSDT = ["Bitcoin"]\nETHUSDT = ["Ether"]', names).replace("slots = 2", "slots = 10")
    path = folder / "fifty.toml"
    path.write_text(text, encoding="utf-8")
    return path


def run_process(arguments: list[str]) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """Seconds, peak memory in MB, and what it printed."""
    code = (
        "import resource, subprocess, sys, time; t = time.perf_counter();"
        "done = subprocess.run(sys.argv[1:]); s = time.perf_counter() - t;"
        "print(s, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, file=sys.stderr);"
        "sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    seconds, memory = map(float, done.stderr.splitlines()[-1].split())
    return seconds, memory, done


def main() -> None:
    """Prints the figures of the passes and of the imports."""
    state = {"now": FIRST}
    history = {symbol: make_history(symbol, start="2026-02-20", count=24 * 20) for symbol in SYMBOLS}
    market = Market(history, FIRST)

    def answer(request: Request) -> Answer:
        if request.path == "/wire.rss":
            hour = int((state["now"] - FIRST) / pd.Timedelta(hours=1))
            return to_feed_answer(to_rss([make_headline(hour, number) for number in range(HEADLINES)]))
        market.now = state["now"]
        return market(request)

    finsignal = [sys.executable, "-c", "from finsignal.cli import main; import sys; sys.exit(main(sys.argv[1:]))"]
    with tempfile.TemporaryDirectory() as folder, serve(answer) as server:
        run_file = write_run(Path(folder), server.url)
        rows = []
        for hour in range(PASSES + 1):
            state["now"] = FIRST + pd.Timedelta(hours=hour)
            seconds, memory, done = run_process(
                [*finsignal, "run", str(run_file), "--now", state["now"].isoformat(), "--format", "csv"]
            )
            if done.returncode or len(done.stdout.splitlines()) != 51:
                raise SystemExit(f"the pass failed: {done.stderr}")
            if hour:
                rows.append((seconds, memory))
                texts = sum(int(line.split(",")[8]) for line in done.stdout.splitlines()[1:])
        imports = [run_process([sys.executable, "-c", "import torch, transformers.models.bert"])[:2] for _ in range(3)]
    print(f"# python benchmarks/pass_speed.py   {os.cpu_count()} cores")
    print(f"a pass: {HEADLINES} new headlines, {len(SYMBOLS)} symbols, {PASSES} passes after one that filled the lake")
    print(f"  {texts} texts behind the last decisions; prices by {len(SYMBOLS)} calls, headlines by one")
    for name, values in (("finsignal run", rows), ("import torch, transformers", imports)):
        times, memory = [v[0] for v in values], max(v[1] for v in values)
        print(
            f"  {name:<28} {statistics.median(times):5.2f} s median, {min(times):.2f} to {max(times):.2f} s, "
            f"{memory:,.0f} MB at most"
        )
    ratio = statistics.median(v[0] for v in rows) / statistics.median(v[0] for v in imports)
    print(f"  the whole pass takes {ratio:.2f} of those imports alone")


if __name__ == "__main__":
    main()
