"""The honest summary as text for a terminal: the notes first, then the verdict, then the figures that decide it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from finsignal.report.text import MINUS, NONE, in_unit, noun_for

WIDTH = 100
NAME = 39  # letters of a figure's name on a line
WINDOWS = 12  # of those that walk forward, so many of the newest are shown
SYMBOLS = 8  # of many symbols so many are named, as in the report


def to_text(summary: Mapping[str, Any]) -> str:
    """The summary on lines of at most a hundred characters, a dash where a figure is not defined.

    Where evidence was asked, its verdict and tests come first and its questions last.
    """
    period, texts, figures, model = (summary[k] for k in ("period", "texts", "performance", "model"))
    lines = [f"{summary['name']}: {summary['verdict']['word'].upper()}"]
    lines += [_wrap(note, "  ! ") for note in summary["notes"]]
    lines += [_wrap(reason, "  ") for reason in summary["verdict"]["reasons"]]
    evidence = summary.get("evidence")
    if evidence:
        lines += ["", *_test_lines(evidence["verdict"])]
        lines += [_row("account" * (not at), reason) for at, reason in enumerate(summary["account"]["reasons"])]
    lines += [
        "",
        _row(
            "period",
            f"{period['start'][:10]} to {period['end'][:10]}, {period['bars']:,} bars of {period['bar']}, "
            f"{period['sessions']} sessions, {_some(period['symbols'])} ({period['market']})",
        ),
    ]
    lines += _split_lines(summary)
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in texts["dropped"].items())
    lines.append(
        _row(
            "texts",
            f"{texts['used']:,} used of {texts['read']:,} rows read, {texts['used_in_test']:,} of them in the period"
            + (f"; dropped: {dropped}" * bool(dropped)),
        )
    )
    lines += [_row("", note) for note in texts["notes"]]
    longest = {silence["symbol"]: silence for silence in sorted(texts["silences"], key=lambda s: float(s["days"]))}
    shown = sorted(longest.values(), key=lambda silence: -float(silence["days"]))[:SYMBOLS]
    for silence in sorted(shown, key=lambda silence: silence["symbol"]):
        lines.append(
            _row(
                "",
                f"silent {silence['days']} days: {silence['symbol']} {silence['start'][:10]} to {silence['end'][:10]}",
            )
        )
    if len(longest) > len(shown):
        lines.append(_row("", f"{len(longest) - len(shown)} more symbols: at most {shown[-1]['days']} days"))
    prices = summary["prices"]
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in prices["dropped"].items())
    lines.append(
        _row(
            "prices",
            f"{prices['used']:,} bars used of {prices['read']:,} rows read, {prices['bars_missing']:,} of the grid "
            "missing" + (f"; dropped: {dropped}" * bool(dropped)),
        )
    )
    lines += [_row("", note) for note in prices["notes"]]
    lines.append(_row("model", f"{model['name']}, trained on {', '.join(model['trained_on'])}"))
    if model["trained_until"]:
        lines.append(
            _row("", f"trained until {model['trained_until'][:10]}, base known until {model['base_cutoff'][:10]}")
        )
    funding = f"; ASSUMED funding {_percent(summary['costs']['funding_rate'], 4)} every 8 hours"
    lines += [
        _row("net return", f"{_percent(figures['net_return'])} (gross {_percent(figures['gross_return'])})"),
        _row(
            "Sharpe ratio",
            f"{_number(figures['sharpe'])} +- {_number(figures['sharpe_error'])} (standard error); smallest that "
            f"{figures['days']} days tell from zero four times in five: {_number(figures['sharpe_detectable'])}",
        ),
        *_origins(summary),
        _row(
            "risk",
            (f"RUINED {figures['ruined']}, " if figures.get("ruined") else "")
            + f"drawdown {_percent(figures['max_drawdown'])}, exposure {_percent(figures['exposure'])}, "
            f"volatility {_percent(figures['annual_volatility'])} a year, Sortino {_number(figures['sortino'])}, "
            f"Calmar {_number(figures['calmar'])}",
        ),
        _row(
            "trades",
            f"{figures['trades']} closed and {figures['open_at_end']} open at the end; won "
            f"{_percent(figures['win_rate'])}, profit factor {_number(figures['profit_factor'])}, turnover "
            f"{_number(figures['turnover'])} a year",
        ),
        _row(
            "costs",
            f"paid {figures['costs_paid']:,.0f}; break-even at {_percent(figures['break_even_cost'], 3)} of the value "
            f"a side, charged {_percent(summary['costs']['fee'] + summary['costs']['slippage'], 3)}"
            + funding
            * bool(summary["costs"]["funding_rate"]),
        ),
        "",
        f"  {'on the same bars':<34}{'net':>9}{'gross':>9}{'Sharpe':>9}{'+-':>7}{'drawdown':>10}{'trades':>8}",
    ]
    for row in summary["comparison"]:
        lines.append(
            f"  {row['name'][:33]:<34}{_percent(row['net_return']):>9}{_percent(row['gross_return']):>9}"
            f"{_number(row['sharpe']):>9}{_number(row['sharpe_error']):>7}{_percent(row['max_drawdown']):>10}{row['trades']:>8}"
        )
    if evidence:
        lines += _question_lines(evidence)
    lines += ["", "Not financial advice."]
    return "\n".join(lines)


def to_evidence_text(evidence: Mapping[str, Any]) -> str:
    """The evidence on lines of at most a hundred characters: verdict, three facts, tests, and a block a question.

    Of each figure its value, 95 % interval, p-value and number of observations, or what it needs to be one.
    """
    verdict = evidence["verdict"]
    lines = [f"IS IT REAL? {_clean(verdict['word']).upper()}"]
    lines += [_wrap(_clean(fact), f"  {at}. ") for at, fact in enumerate(verdict.get("facts") or (), start=1)]
    return "\n".join([*lines, *_test_lines(verdict), *_question_lines(evidence)])


def _test_lines(verdict: Mapping[str, Any]) -> list[str]:
    lines = []
    for passed, said in ((True, "passed"), (False, "failed"), (None, "not judged")):
        names = [_clean(test["name"]) for test in verdict.get("tests") or () if test["passed"] is passed]
        if names:
            lines.append(_row(said, ", ".join(names)))
    return lines


def _question_lines(evidence: Mapping[str, Any]) -> list[str]:
    lines = []
    for answer in evidence.get("answers") or ():
        lines += ["", _clean(answer["question"]).upper(), _wrap(_clean(answer["said"]), "  ")]
        for figure in answer.get("figures") or ():
            lines += _figure_lines(figure)
        lines += [_wrap(_clean(note), "  ! ") for note in answer.get("notes") or ()]
    return lines


def _figure_lines(figure: Mapping[str, Any]) -> list[str]:
    """The figure on a line, a long name on as many as it takes: above what it needs, below its value."""
    names = textwrap.wrap(_clean(figure["name"]), NAME) or [""]
    first, count = f"  {names[0]:<{NAME}}", f"{figure['n']:,} {noun_for(figure['n'], _clean(figure['of']))}"
    if figure.get("value") is None:
        needs = f"needs {_clean(figure['needs'])} (n = {count})"
        if len(names) == 1:
            return [_wrap(needs, f"{first} ")]
        return [*(f"  {name}" for name in names), _wrap(needs, " " * (len(first) + 1))]
    unit = figure["unit"]
    value, low, high = (_ascii(in_unit(figure.get(name), unit)) for name in ("value", "low", "high"))
    between = f"{low} to {high}" if figure.get("low") is not None and figure.get("high") is not None else ""
    p = "" if figure.get("p") is None else f"p {_ascii(in_unit(figure['p'], 'p'))}".replace("p < ", "p<")
    line = f"{first}{value:>11}  {between:<21}{p:<9}"
    shown = [line + count] if len(line + count) <= WIDTH else [line.rstrip(), f"{count:>{WIDTH}}"]
    return [*shown, *(f"  {name}" for name in names[1:])]


def _ascii(text: str) -> str:
    return _clean(text.replace("\xa0%", "%").replace(MINUS, "-").replace(NONE, "-"))


def _clean(text: Any) -> str:
    """The text without characters that would steer a terminal, such as line breaks and overrides."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def _split_lines(summary: Mapping[str, Any]) -> list[str]:
    """What was chosen on what: one line for a single cut, a line for each of the newest windows that walk forward."""
    split, tried = summary["period"]["split"], summary["settings_tried"]
    if not split:
        return [_row("settings tried", "1, as stated in the run file")]
    if split["validation"]:
        said = f"{_settings(summary['chosen'])}: " if summary["chosen"] else "as stated: "
        first, last = (day[:10] for day in split["validation"])
        return [_row("chosen", f"{said}{tried} tried on {first} to {last}, {split['purge_bars']} bars purged")]
    windows = split["windows"]
    embargo = f" and {split['embargo_bars']} of embargo" if split["embargo_bars"] else ""
    said = (
        f"{len(windows)} windows, {split['kind']}; {tried} settings tried, {split['purge_bars']} bars purged{embargo}"
    )
    lines = [_row("chosen", said if summary["chosen"] else f"as stated: {said}")]
    lines += [f"  {'tested from':<17}{'to':<12}{'Sharpe':>8}{'train':>8}{'valid.':>8}  chosen before"]
    older = len(windows) - WINDOWS
    if older > 0:
        lines.append(f"  ({older} earlier windows are in the report)")
    for window in windows[max(older, 0) :]:
        ratios = (window[f"sharpe_{name}"] for name in ("test", "train", "validation"))
        test = "".join(f"{day[:10]:<{width}}" for day, width in zip(window["test"], (17, 12), strict=True))
        lines.append(_wrap(_settings(window["chosen"]), f"  {test}{''.join(f'{_number(r):>8}' for r in ratios)}  "))
    return lines


def _origins(summary: Mapping[str, Any]) -> list[str]:
    """Alpha with its error, and the largest gains and losses by symbol, with what was earned overnight."""
    alpha, origins = summary["alpha"], summary["attribution"]
    line = f"{_percent(alpha['alpha'])} +- {_percent(alpha['alpha_error'])} a year (standard error), "
    line += f"beta {_number(alpha['beta'])} +- {_number(alpha['beta_error'])} to {alpha['market']}"
    lines = [_row("alpha", line), *(_row("", note) for note in alpha["notes"])]
    alone = [row for row in origins["tables"]["symbol"] if not row["name"].endswith(" others")]
    largest = sorted(alone, key=lambda row: -abs(row["profit"]))[:3]
    if largest:
        parts = ", ".join(f"{row['name']} {row['profit']:+,.0f}" for row in largest)
        night = next(row["profit"] for row in origins["tables"]["session"] if row["name"] == "overnight")
        parts += "" if origins["always_open"] else f"; overnight {night:+,.0f} before costs"
        lines.append(_row("profit", f"{origins['profit']:+,.0f} after costs; largest by symbol {parts}"))
    return lines


def _row(name: str, text: str) -> str:
    return _wrap(text, f"  {name:<16}")


def _wrap(text: str, head: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


def _settings(chosen: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in chosen.items())


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _some(symbols: Sequence[str]) -> str:
    more = len(symbols) - SYMBOLS
    return ", ".join(symbols[:SYMBOLS]) + (f" and {more} more" if more > 0 else "")
