"""Verbs that carry out a run file: demo, backtest, evidence, verify-run, signal."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli import shared
from finsignal.cli.shared import nest, number, print_json, printable, to_map
from finsignal.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from finsignal.sentiment.score import Model

AddVerb = Callable[..., argparse.ArgumentParser]


def add_verbs(verb: AddVerb) -> None:
    """Adds them to the command line, each with an example."""
    sub = verb(
        "demo",
        run_demo,
        "judge the bundled strategy on the bundled simulated news and prices",
        "finsignal demo --out runs/demo",
    )
    sub.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default runs/demo)")

    sub = verb(
        "backtest",
        judge_run,
        "judge a run file on news and prices, and write a run folder",
        "finsignal backtest strategies/apple_hourly.toml --news news.csv --prices AAPL=aapl.csv --out runs/apple",
    )
    add_inputs(sub)
    add_outputs(sub)

    sub = verb(
        "evidence",
        judge_with_evidence,
        "find out whether the signal of a run file is real: luck, the news, the search, costs, prediction, time",
        "finsignal evidence strategies/apple_hourly.toml --news news.csv --prices AAPL=aapl.csv --out runs/apple",
    )
    add_inputs(sub)
    add_outputs(sub)

    sub = verb(
        "verify-run",
        repeat_run,
        "repeat the run of a run folder and compare it bit by bit, or name what changed since",
        "finsignal verify-run runs/apple",
    )
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="a run folder that backtest or demo wrote")
    sub.add_argument("--anyway", action="store_true", help="repeat and compare although something changed")

    sub = verb(
        "signal",
        show_signal,
        "BUY, HOLD or SELL per symbol at an instant, with the texts behind it",
        "finsignal signal strategies/news_sentiment.toml --now 2024-03-04T14:25Z",
    )
    add_inputs(sub)
    sub.add_argument("--now", metavar="TIME", help="the instant, such as 2025-03-03T14:25Z (default: now)")
    sub.add_argument(
        "--parameters", type=Path, metavar="FILE", help="fitted parameters: the parameters.parquet of a run folder"
    )


def add_inputs(sub: argparse.ArgumentParser) -> None:
    """The options of the verbs that carry out a run file."""
    sub.add_argument("run", type=Path, metavar="RUN.toml")
    sub.add_argument("--news", metavar="FILE", help="news file, read by the run file's [news]")
    sub.add_argument(
        "--prices",
        action="append",
        metavar="FILE",
        help="price file, read by [prices]; SYMBOL=FILE for one symbol each",
    )
    sub.add_argument("--model", type=Path, metavar="DIR", help="a model folder (default: the model that ships)")
    sub.add_argument(
        "--sentiment", type=Path, metavar="FILE", help="scores of your own in place of the model, read by [sentiment]"
    )
    sub.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of [sentiment], such as by=text, time=published or label_map.bullish=positive; may be repeated",
    )


def add_outputs(sub: argparse.ArgumentParser) -> None:
    """The options of the verbs that write a run folder."""
    sub.add_argument("--out", type=Path, help="run folder (default runs/NAME of the run file)")
    sub.add_argument(
        "--study",
        type=Path,
        metavar="DIR",
        help="where the trials of the study are counted (default NAME.study beside the run folder)",
    )


def run_demo(options: argparse.Namespace) -> None:
    """The run file of the repository on its simulated sample."""
    run_file = Path(__file__).resolve().parents[2] / "strategies" / "news_sentiment.toml"
    if not run_file.is_file():
        raise ConfigError(f"demo: {run_file} is not there; the demo runs from a clone of the repository.")
    for name in ("news", "prices", "model", "sentiment"):
        setattr(options, name, None)
    options.run, options.map, options.study = run_file, [], None
    judge_run(options, evidence=True)


def judge_with_evidence(options: argparse.Namespace) -> None:
    """A study of the run file with the questions of evidence: printed, and written as a run folder."""
    judge_run(options, evidence=True)


def judge_run(options: argparse.Namespace, *, evidence: bool = False) -> None:
    """A study of the run file: printed, and written as a run folder. What it tried is counted beside it."""
    from finsignal.errors import require

    require("vectorbt", extra="backtest", work="a backtest")  # before anything is read or scored
    from finsignal.report.terminal import to_text
    from finsignal.study import RUN_FOLDER_MARK, Request, write_study
    from finsignal.study.request import read_request, run_read
    from finsignal.study.trials import count_trials, list_trials, read_trials
    from finsignal.writing import check_replaceable

    run = read_options(options)
    folder = options.out or Path("runs") / run.name
    registry = options.study or folder.parent / f"{run.name}.study"
    check_replaceable(folder, mark=RUN_FOLDER_MARK)
    read_trials(registry, run.name)  # before hours of work, whether they can be counted
    request = Request(run, now=shared.read_clock(), model=options.model, sentiment=options.sentiment, evidence=evidence)
    read = read_request(request, progress=True)
    study = run_read(read, progress=True)
    trials = count_trials(registry, run.name, list_trials(study, now=request.now))
    if evidence:
        from finsignal.study.questions import add_evidence

        study = add_evidence(study, trials=trials, read=read, progress=True)
    write_study(study, folder)
    if options.json:
        print_json({**study.summary, "folder": str(folder), "report": str(folder / "report.html")})
    else:
        print(to_text(study.summary))
        print(f"\n{folder / 'report.html'}")


def show_signal(options: argparse.Namespace) -> None:
    """The signal of each symbol at the latest decision at or before --now."""
    from finsignal.clock import to_instant
    from finsignal.study import make_signal_rows, read_inputs

    run = read_options(options)
    clock = shared.read_clock()
    now = to_instant(options.now, where="--now", tz=None) if options.now else clock
    # A file may hold rows after --now, which the decision does not see.
    inputs = read_inputs(run, now=clock, ahead=True)
    given, read_notes = read_scores(options, run, inputs.news)
    rows = make_signal_rows(
        run,
        inputs,
        lambda news: (given, {}) if given else make_scores(options, run, news),
        now=now,
        parameters=options.parameters,
    )
    if options.json:
        print_json(rows)
        return
    for note in [*rows[0]["notes"], *read_notes]:
        print(f"! {note}")
    for row in rows:
        mix = row["breakdown"]
        print(
            f"{row['symbol']}  {row['signal']}  decided {row['decided']} for the bar of {row['bar']}\n"
            f"  score {number(row['score'])}  confidence {number(row['confidence'])}  "
            f"{'  '.join(f'{label} {number(share)}' for label, share in mix.items())}\n"
            f"  {row['texts']} texts from {row['sources']} sources"
        )
        for text in row["news"]:
            print(
                f"    {text['published']}  {text['share']:4.0%}  -{text['p_negative']:.2f} ={text['p_neutral']:.2f} "
                f"+{text['p_positive']:.2f}  {printable(text['title'])[:80]}"
            )


def read_options(options: argparse.Namespace) -> Any:
    """The run file with the paths of the command line in place of its own."""
    from finsignal.config import read_run

    prices = None
    if options.prices:
        parts = [p.partition("=") if "=" in p else ("", "", p) for p in options.prices]
        prices = [f"{name}{equals}{Path(file).absolute()}" for name, equals, file in parts]
    news = str(Path(options.news).absolute()) if options.news else None
    sentiment = nest(to_map(options.map, "--map")) if options.map else None
    return read_run(options.run, news_path=news, prices_path=prices, sentiment=sentiment)


def read_scores(options: argparse.Namespace, run: Any, news: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The sentiment table of --sentiment by its name, and what its reader notes; nothing where it is not given."""
    from finsignal.study.request import read_given_scores

    return read_given_scores(run, options.sentiment, news)


def make_scores(
    options: argparse.Namespace, run: Any, news: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], dict[str, Model]]:
    """The model's sentiment table by its name, and the model by the same name."""
    from finsignal.study.request import score_by_model

    return score_by_model(run, options.model, news, now=shared.read_clock(), progress=True)


def repeat_run(options: argparse.Namespace) -> None:
    """A run folder made again and compared; what changed meanwhile, or differs, is the one sentence of the error."""
    from finsignal.errors import require

    require("vectorbt", extra="backtest", work="repeating a backtest")
    from finsignal.study import verify_run

    found = verify_run(options.folder, anyway=options.anyway, progress=True)
    if options.json:
        print_json({"folder": str(found.folder), "identical": list(found.files), "changed": list(found.changed)})
        return
    for change in found.changed:
        print(f"! {printable(change)}")
    print(f"identical: {len(found.files)} files")
