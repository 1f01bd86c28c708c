"""What the tests of evidence say of markets in which there is nothing to find, and of markets in which there is.

    python benchmarks/null_markets.py --markets 1000 --workers 2 --out benchmarks/results/null_markets

Each market is judged by the functions that `finsignal evidence` calls: settings searched on validation, the account of
the test, its worlds, intervals, trials and verdict. Writes OUT.json, OUT.txt and the power curve OUT.svg. What a market
gave is kept in --work as soon as it is known, and not made again, so the command may be stopped and started.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from market_kinds import BASE, DRAWS, EFFECT_BARS, KINDS, PREDICTS, REPO, SYMBOLS, TESTS, VALIDATED, judge_market
from power_curve import to_svg
from tqdm import tqdm

LEVEL = 0.05
EFFECTS = (0.002, 0.004, 0.006, 0.008, 0.01, 0.012, 0.015)  # log return that a true story is worth
POWER_KIND = "no drift"
EXACT, AT_MOST, COVERS, SELDOM = (0.03, 0.07), (0.0, 0.07), (0.93, 0.97), (0.0, 0.05)  # bounds that are asked
STATED, POWER = 0.012, 0.8  # the planted effect that must be called real, and in what share of the markets


# --- many of them ----------------------------------------------------------------------------------------------------


def list_jobs(markets: int, power: int) -> list[tuple[str, float, int]]:
    """Kind, effect and seed of each market: null ones, of all kinds by turns, and `power` of each planted effect."""
    names = list(KINDS)
    null = [(names[n % len(names)], 0.0, n) for n in range(markets)]
    return null + [(POWER_KIND, effect, 1_000_000 + n) for n in range(power) for effect in EFFECTS]


def run_jobs(jobs: Sequence[tuple[str, float, int]], work: Path, *, workers: int) -> list[dict[str, Any]]:
    """The rows of all jobs, in their order: those that `work` has, and the others made and kept there one by one."""
    path = work / f"{to_digest()}.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    kept = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    rows = {_key(row): row for row in (json.loads(line) for line in kept if line.endswith("\n"))}
    left = [job for job in jobs if job not in rows]
    os.environ["OMP_NUM_THREADS"] = "1"  # before a worker imports numpy: two workers, two threads
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows.values())
        file.flush()
        bar = tqdm(total=len(jobs), initial=len(jobs) - len(left), unit="market", disable=not left, mininterval=5)
        with bar, multiprocessing.get_context("spawn").Pool(min(workers, max(len(left), 1))) as pool:
            for row in pool.imap_unordered(judge_market, left, chunksize=1):
                rows[_key(row)] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
                bar.update()
    return [rows[job] for job in jobs]


def to_digest() -> str:
    """Digest of the code that judges: rows that other code made are no part of the result."""
    digest = hashlib.sha256()
    for path in [Path(__file__).with_name("market_kinds.py"), *sorted((REPO / "finsignal").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _key(row: Mapping[str, Any]) -> tuple[str, float, int]:
    return row["kind"], row["effect"], row["seed"]


# --- what they say ---------------------------------------------------------------------------------------------------


def to_rate(name: str, hits: Iterable[bool | None], bounds: tuple[float, float]) -> dict[str, Any]:
    """A share of markets with its exact binomial 95 % interval; None counts as no market."""
    from scipy.stats import binomtest

    known = [bool(hit) for hit in hits if hit is not None]
    row = {"name": name, "bounds": list(bounds), "n": len(known), "rate": None, "low": None, "high": None}
    if not known:
        return row | {"within": False}
    found = binomtest(sum(known), len(known)).proportion_ci(method="exact")
    rate = sum(known) / len(known)
    row |= {"rate": rate, "low": float(found.low), "high": float(found.high)}
    return row | {"within": bounds[0] <= rate <= bounds[1]}


def _rejects(row: Mapping[str, Any], key: str) -> bool | None:
    p = row["p"][key]
    return None if p is None else p <= LEVEL


def _covers(interval: Sequence[float | None]) -> bool | None:
    low, high = interval
    return None if low is None or high is None else low <= 0 <= high


def _sure(value: float | None) -> bool | None:
    return None if value is None else value >= 1 - LEVEL


def list_rates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Over null markets: each test, interval and verdict with the bounds asked of it."""
    fair = [row for row in rows if KINDS[row["kind"]].fair]
    rates = [to_rate(f"{key}: p <= 5 %", (_rejects(row, key) for row in rows), EXACT) for key in TESTS]
    for key, name in (
        ("probabilistic_gross", "probabilistic Sharpe >= 95 %, before costs"),
        ("probabilistic", "probabilistic Sharpe >= 95 %"),
        ("deflated", "deflated Sharpe >= 95 %"),
    ):
        rates.append(to_rate(name, (_sure(row[key]) for row in fair), AT_MOST))
    long = (row["track_record"] is not None and row["track_record"] <= row["days"] for row in fair)
    rates.append(to_rate("minimum track record reached", long, AT_MOST))
    for key, name in (("net_return", "return"), ("sharpe", "Sharpe ratio")):
        rates.append(to_rate(f"interval of the {name} covers", (_covers(row["gross"][key]) for row in fair), COVERS))
    for key in PREDICTS:
        rates.append(to_rate(f"interval of {key} covers", (_covers(row["predicts"][key]) for row in rows), COVERS))
    rates.append(to_rate('verdict "real"', (row["word"] == "real" for row in rows), SELDOM))
    return rates


def list_power(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each planted effect, 0 among them: the share of markets that the verdict and each test find."""
    table = []
    for effect in sorted({row["effect"] for row in rows}):
        ours = [row for row in rows if row["effect"] == effect and row["kind"] == POWER_KIND]
        found: dict[str, Any] = {"effect": effect, "markets": len(ours)}
        found["sharpe"] = float(np.median([row["sharpe"] or 0.0 for row in ours])) if ours else None
        real = to_rate("", (row["word"] == "real" for row in ours), (POWER, 1.0))
        found |= {"real": real["rate"], "real_low": real["low"], "real_high": real["high"]}
        found |= {key: _share(_rejects(row, key) for row in ours) for key in (*TESTS, "ic")}
        found["interval above 0"] = _share(row["tests"]["luck"] for row in ours)
        found["deflated"] = _share(_sure(row["deflated"]) for row in ours)
        table.append(found)
    return table


def _share(hits: Iterable[bool | None]) -> float | None:
    known = [bool(hit) for hit in hits]
    return sum(known) / len(known) if known else None


def to_text(result: Mapping[str, Any]) -> str:
    """The tables in words."""
    lines = [
        f"{result['markets']} markets with nothing to find, of {len(KINDS)} kinds; {DRAWS} worlds of each kind drawn",
        f"{BASE.bar} bars of {len(SYMBOLS)} symbols: {BASE.start} to {VALIDATED} chooses, to {BASE.end} tests; costs "
        f"{BASE.costs.fee + BASE.costs.slippage:.2%} a side",
        "",
        f"{'':<46}{'rate':>7}  {'95 % interval':<16}{'asked':<14}{'markets':>8}",
    ]
    for row in result["rates"]:
        asked = f"{row['bounds'][0]:.0%} to {row['bounds'][1]:.0%}"
        if row["rate"] is None:
            lines.append(f"{row['name']:<46}{'none':>7}  {'':<16}{asked:<14}{0:>8}  not judged")
            continue
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        said = "within" if row["within"] else "OUT OF BOUNDS"
        lines.append(f"{row['name']:<46}{row['rate']:>7.1%}  {interval:<16}{asked:<14}{row['n']:>8}  {said}")
    lines += ["where fewer markets are counted: those whose account is worth on average what it was, before costs"]
    lines += ["", "by kind (p <= 5 %; the verdict)", f"{'':<26}" + "".join(f"{key:>16}" for key in (*TESTS, "real"))]
    for name, shares in result["kinds"].items():
        lines.append(f"{name:<26}" + "".join(f"{_percent(shares[key]):>16}" for key in (*TESTS, "real")))
    columns = ("real", *TESTS, "ic", "interval above 0", "deflated")
    lines += ["", f"power: markets of the kind {POWER_KIND!r}, each story worth its effect over {EFFECT_BARS} bars"]
    lines.append(f"{'effect':>7}{'markets':>9}{'Sharpe':>8}" + "".join(f"{key:>17}" for key in columns))
    for row in result["power"]:
        sharpe = "" if row["sharpe"] is None else f"{row['sharpe']:.2f}"
        shares = "".join(f"{_percent(row[key]):>17}" for key in columns)
        lines.append(f"{row['effect']:>7.2%}{row['markets']:>9}{sharpe:>8}{shares}")
    stated = result["stated_effect"]
    lines += [
        "",
        f"planted effect stated: {STATED:.1%} a story, called real in {_percent(stated)}; {POWER:.0%} is asked",
    ]
    lines.append(f"seconds that a worker took for a market: {result['seconds']:.2f} (median)")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rates over null markets, by kind, and the power at each effect."""
    null = [row for row in rows if row["effect"] == 0]
    kinds = {}
    for name in KINDS:
        ours = [row for row in null if row["kind"] == name]
        kinds[name] = {key: _share(_rejects(row, key) for row in ours) for key in TESTS}
        kinds[name]["real"] = _share(row["word"] == "real" for row in ours)
    power = list_power(rows)
    return {
        "markets": len(null),
        "rates": list_rates(null),
        "kinds": kinds,
        "power": power,
        "stated_effect": next((row["real"] for row in power if row["effect"] == STATED), None),
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Judges the markets and writes what came out; 1 where a rate is out of the bounds asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", type=int, default=1000, help="markets with nothing to find")
    parser.add_argument("--power", type=int, default=100, help="markets of each planted effect; 0 draws no curve")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=REPO / "runs" / "null_markets", help="folder of what is done")
    parser.add_argument("--out", type=Path, required=True, help="path of the results, without an ending")
    options = parser.parse_args(arguments)
    rows = run_jobs(list_jobs(options.markets, options.power), options.work, workers=options.workers)
    result = summarise(rows)
    out = options.out.with_suffix("")
    out.parent.mkdir(parents=True, exist_ok=True)
    text = to_text(result)
    out.with_suffix(".txt").write_text(text, encoding="utf-8")
    out.with_suffix(".json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.power:
        out.with_suffix(".svg").write_text(to_svg(result["power"], stated=STATED), encoding="utf-8")
    print(text, end="")
    good = all(row["within"] for row in result["rates"]) and (
        not options.power or (result["stated_effect"] or 0) >= 0.8
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
