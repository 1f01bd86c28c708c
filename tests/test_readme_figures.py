"""Every figure in the README stands in the committed output of a committed command."""

import json
import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")
RESULTS = REPO / "benchmarks" / "results"


def to_row(name: str, who: str, found: dict) -> str:
    """A line of the README's table of quality."""
    keys = ("accuracy", "macro_f1", "weighted_f1", "log_loss", "calibration_error")
    if who != "model":
        return f"|  | {who} | " + " | ".join(f"{found[key]['value']:.3f}" for key in keys) + " |"
    cells = [f"{found[key]['value']:.3f} ({found[key]['low']:.3f}-{found[key]['high']:.3f})" for key in keys]
    return f"| {name}, {found['n']} | **ours** | " + " | ".join(cells) + " |"


def test_the_table_of_quality_is_that_of_its_command() -> None:
    results = json.loads((RESULTS / "sentiment_quality.json").read_text(encoding="utf-8"))["results"]
    shown = [name for name in results if not name.startswith(("held out", "the same")) and "not told" not in name]
    assert len(shown) == 6
    for name in shown:
        for who in ("model", "TF-IDF + LR", "its own shares"):
            assert to_row(name, who, results[name][who]) in README, (name, who)


def test_the_tables_of_tuning_are_those_of_their_commands() -> None:
    for name in ("tuning_methods", "imbalance"):
        printed = (RESULTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        rows = [line for line in printed if line.startswith("|")]
        assert len(rows) > 6
        assert printed[0] in README
        assert [line for line in rows if line not in README] == [], name


def test_what_a_target_gains_is_told_as_it_was_printed() -> None:
    results = json.loads((RESULTS / "sentiment_quality.json").read_text(encoding="utf-8"))["results"]
    told = results["held out, targets of one text that disagree"]["model"]
    untold = results["the same, the model not told the target"]["model"]
    for found in (told, untold):
        assert f"{found['accuracy']['value']:.3f} and {found['log_loss']['value']:.3f}" in README
    assert f"{told['n']} held-out labels" in README


def test_the_model_measured_is_the_model_that_ships() -> None:
    from finsignal.sentiment.score import load_model

    name = load_model().name
    for file in ("sentiment_quality.json", "scoring_speed.txt", "demo.txt", "real_sets.txt"):
        # names are cut in the table of accounts, never in the line of the model
        assert name in (RESULTS / file).read_text(encoding="utf-8"), file


def test_speed_and_size_are_those_of_their_commands() -> None:
    speed = (RESULTS / "scoring_speed.txt").read_text(encoding="utf-8")
    found = {line.split(":")[0]: line.split(":")[1].split() for line in speed.splitlines() if ":  " in line}
    times, p50, p95 = found["times as fast"][0], found["one text, p50"][0], found["one text, p95"][0]
    assert f"| {times} times |" in README
    assert f"| {float(p50):.1f} ms and {float(p95):.1f} ms |" in README
    assert f"| {found['the first as a share of the second'][0]} |" in README
    megabytes = (RESULTS / "base_install.txt").read_text(encoding="utf-8").split()[3]
    assert f"A base install takes {megabytes} MB" in README


def find(pattern: str, printed: str) -> tuple[str, ...]:
    """What the groups of a pattern hold in what a command printed, percents with a space, as the README writes them."""
    found = re.search(pattern, printed)
    assert found is not None, pattern
    return tuple(group.replace("%", " %") for group in found.groups())


def tell_real_sets(apple: str, crypto: str, stocknet: str) -> list[str]:
    """The README's sentences on the real sets, from what was printed of each."""
    value, low, high = find(r"Net Sharpe ratio (\S+), 95 % interval (\S+) to (\S+) over", apple)
    (worlds,) = find(r"With the news dealt anew, (\S+) of worlds do as well", apple)
    ic, ic_low, ic_high, stories = find(r"Information coefficient +(\S+) +(\S+) to (\S+) +p \S+ +(\S+) stories", apple)
    (effective,) = find(r"Effective stories +(\S+)", apple)
    (agree,) = find(r"Stories that keep their label with +(\S+)", apple)
    net, gross = find(r"net return +(\S+) \(gross (\S+)\)", crypto)
    before, b_low, b_high = find(r"Move over the 5 bars before +(\S+) +(\S+) to (\S+)", stocknet)
    after, a_low, a_high = find(r"Drift over 5 bars in the direction of +(\S+) +(\S+) to (\S+)", stocknet)
    later, l_low, l_high = find(r"Return a year with 1 bar \(a day\) more +(\S+) +(\S+) to (\S+)", stocknet)
    even, charged = find(r"Break-even cost a side +(\S+)[^\n]*\n +Cost charged a side +(\S+)", stocknet)
    return [
        f"- **Apple**: net Sharpe ratio {value}, with an interval of {low} to {high}. With the news dealt anew, up "
        f"to {worlds} of worlds do as well. A score and the return of the 14 bars after it have a rank correlation of "
        f"{ic} ({ic_low} to {ic_high}) over {stories} stories, which are worth {effective}. With names hidden from the "
        f"model {agree} of the stories keep their label.",
        f"- **Bitcoin and Ether**: {gross} before any cost, {net} after; cheaper trading could save nothing.",
        f"- **StockNet**: tweets follow prices. In the 5 bars before a tweet the price had moved {before} its way "
        f"({b_low} to {b_high}), in the 5 bars after {after} ({a_low} to {a_high}). Known a day later, the news makes "
        f"{later} a year ({l_low} to {l_high}). It breaks even at {even} a side, and is charged {charged}.",
    ]


def read_real_sets() -> list[str]:
    printed = (RESULTS / "real_sets.txt").read_text(encoding="utf-8")
    return re.split(r"^(?:crypto_hourly|stocknet_daily): ", printed, flags=re.MULTILINE)


def test_the_real_sets_and_the_sample_are_told_as_they_were_printed() -> None:
    apple, crypto, stocknet = read_real_sets()
    told = " ".join(README.split())
    for text, start in ((apple, "| Apple, hourly"), (crypto, "| Bitcoin and Ether"), (stocknet, "| StockNet")):
        row = next(line for line in README.splitlines() if line.startswith(start))
        table = text[text.index("\n  on the same bars") + 1 :]
        accounts = [re.findall(r"-?\d+\.\d+%?|(?<= )\d+$", line) for line in table.splitlines()[1:6]]
        net = [account[0].replace("%", " %") for account in accounts]
        ours = accounts[0]
        as_good = re.search(r"enter at random, (\d+) made as much", " ".join(text.split()))[1]  # type: ignore[index]
        cells = [net[0], f"{ours[2]} +- {ours[3]}", ours[5], *net[1:], as_good, "cannot tell"]
        assert row.endswith(f"| {' | '.join(cells)} |")
        first, last = re.search(r"period +(\S+) to (\S+),", text).groups()  # type: ignore[union-attr]
        assert f"{first} to {last}" in row
        assert text.lstrip().startswith("apple_hourly: CANNOT TELL") or text.startswith("CANNOT TELL")
        assert "passed nothing looked ahead" in " ".join(text.split())
        assert 38 <= int(as_good) <= 60  # "38 to 60 of 100"
    for sentence in tell_real_sets(apple, crypto, stocknet):
        assert sentence in told
    flat = " ".join(apple.split())
    (items,) = find(r"(\d+) of them in the period", flat)
    assert f"on {items} items about Apple" in README
    made, held = find(r"It made (\S+) after costs, less than buy and hold on the same bars \((\S+)\)", flat)
    (detectable,) = find(r"true ratio of (\S+) or more", flat)
    assert f"made {made} after costs" in told
    assert f"buy and hold made {held}" in told
    assert f"only a true Sharpe ratio of {detectable} or more" in told
    seconds = [int(n) for n in re.findall(r"^\[apple: (\d+) seconds\]$", apple, flags=re.MULTILINE)]
    assert f"Apple took {seconds[0]} seconds" in told
    demo = (RESULTS / "demo.txt").read_text(encoding="utf-8")
    net, sharpe, error = re.search(r"net return\s+(\S+)%.*?Sharpe ratio\s+(\S+) \+- (\S+)", demo, re.DOTALL).groups()
    assert f"{net} % after costs, Sharpe {sharpe} +- {error}" in told
    (worlds,) = find(r"With the news dealt anew, (\S+) of worlds do as well", " ".join(demo.split()))
    assert f"dealt anew among the symbols of a day, {worlds} of worlds do as well" in told
    assert demo.startswith("news_sentiment: CANNOT TELL")


def test_the_thousand_markets_are_told_as_they_were_printed() -> None:
    printed = (RESULTS / "null_markets.txt").read_text(encoding="utf-8").splitlines()
    shown = README[README.index("**A thousand markets with nothing to find**") :]
    block = shown[shown.index("```\n") + 4 : shown.index("\n```\n\n")].splitlines()
    assert len(block) == 15
    assert [line for line in block if line not in printed] == []
    assert not any("OUT OF BOUNDS" in line for line in block)
    assert printed[0].startswith("1000 markets with nothing to find")
    effect, real = find(r"planted effect stated: (\S+) a story, called real in (\S+);", "\n".join(printed))
    assert f"An effect of {effect} a story is called real in {real} of such markets" in " ".join(README.split())


def test_the_unattended_half_is_told_as_it_was_printed() -> None:
    parity = (RESULTS / "parity.txt").read_text(encoding="utf-8")
    walks = re.findall(r"(\S+): [\d,]+ passes, ([\d,]+) decisions, .*: ([\d,]+) differ from the backtest", parity)
    assert [name for name, _, _ in walks] == ["news_sentiment", "apple_hourly", "crypto_hourly"]
    decisions, differences = (sum(int(walk[n].replace(",", "")) for walk in walks) for n in (1, 2))
    assert f"| {decisions:,}, {differences} |" in README
    lines = (RESULTS / "lake_kill.txt").read_text(encoding="utf-8").splitlines()
    kills, reported, lost, half_read = (int(line.split()[-1]) for line in lines[-6:-2])
    assert (kills, lost, half_read) == (200, 0, 0)
    assert f"| {reported}, 0 |" in README
    read = re.findall(r"(\S+)$", (RESULTS / "lake_read.txt").read_text(encoding="utf-8"), re.MULTILINE)
    ratios = [float(word) for word in read if re.fullmatch(r"\d\.\d\d", word)]
    assert len(ratios) == 4
    assert f"| {min(ratios)} to {max(ratios)} times |" in README
    speed = (RESULTS / "pass_speed.txt").read_text(encoding="utf-8")
    seconds, memory = re.search(r"finsignal run\s+(\S+) s median, .* (\S+) MB at most", speed).groups()  # type: ignore[union-attr]
    assert f"| {seconds} s, {memory} MB |" in README
    assert f"| {speed.split()[-5]} |" in README
    rows = (RESULTS / "mapping.txt").read_text(encoding="utf-8").splitlines()[-1].split()
    assert rows[0] == "10,000,000"
    assert f"| {float(rows[1]):.1f} s, {rows[5]} GiB |" in README


def test_the_speed_of_a_backtest_is_told_as_it_was_printed() -> None:
    printed = (RESULTS / "backtest_speed.txt").read_text(encoding="utf-8")
    assert printed.startswith("500 names x 2520 days")
    for book, start in (("daily", "| long and short"), ("news", "| a tenth of the names")):
        text = printed[printed.index(f"book '{book}'") :].split("\n\n")[0]
        row = next(line for line in README.splitlines() if line.startswith(start))
        orders = re.search(r": ([\d,]+) orders", text)[1]  # type: ignore[index]
        ratio = re.search(r"finsignal takes (\S+) times bare vectorbt", text)[1]  # type: ignore[index]
        others = {
            name: re.search(rf"{name} .* s, +(\S+) of finsignal", text)[1]  # type: ignore[index]
            for name in ("plain loop", r"backtesting\.py")
        }
        ours, theirs = re.findall(r", ([\d,]+) MB at most", text)
        loops = [f"{1 / float(of):.2f}" for of in others.values()]
        assert row.endswith(
            f"| {orders} | {ratio} times | {loops[0]} times | {loops[1]} times | {ours} and {theirs} MB |"
        )
