"""The command line: one function a verb. Results go to stdout, progress and logs to stderr."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.errors import ConfigError, FinsignalError, SourceError

if TYPE_CHECKING:
    import pandas as pd

    from finsignal.sentiment.score import Model

SIGNAL_OF = {"negative": "SELL", "neutral": "HOLD", "positive": "BUY"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 an error in one line on stderr, 2 wrong usage, 130 stopped from the keyboard."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        options.verb(options)
        sys.stdout.flush()
    except FinsignalError as err:
        if options.debug:
            raise
        print(f"finsignal: {err}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return 0
    except KeyboardInterrupt:
        print("finsignal: stopped.", file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of every verb, each with an example."""
    what = "Financial news to trading signals, and an honest answer whether they are worth anything."
    parser = argparse.ArgumentParser(prog="finsignal", description=what)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(name: str, run: Callable[[argparse.Namespace], None], what: str, example: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(verb=run)
        return sub

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
    sub.add_argument("--out", type=Path, help="run folder (default runs/NAME of the run file)")

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

    sub = verb(
        "score",
        score_given,
        "probabilities of negative, neutral and positive for texts",
        'finsignal score --text "Profit doubles on record orders" --json\n'
        "  finsignal score news.csv --text-column headline --out scored.csv",
    )
    sub.add_argument("file", nargs="?", metavar="NEWS", help="a CSV, JSONL or Parquet file; - reads lines from stdin")
    sub.add_argument("--text", action="append", default=[], metavar="TEXT", help="a text to score; may be repeated")
    sub.add_argument("--text-column", metavar="NAME", help="column of the texts (default: title and text together)")
    sub.add_argument("--out", type=Path, metavar="FILE", help="where to write the rows with their probabilities")
    sub.add_argument("--model", type=Path, metavar="DIR", help="a model folder (default: the model that ships)")
    sub.add_argument(
        "--threshold",
        type=float,
        default=0.7,
        help="confidence (largest probability) from which a text's signal is actionable (default 0.7)",
    )

    sub = verb(
        "train",
        train_model,
        "tune a model on labelled text by a recipe, and write a model folder",
        "finsignal train finsignal/sentiment/recipes/default.toml --data labelled/ --out data/models/mine",
    )
    sub.add_argument("recipe", type=Path, metavar="RECIPE.toml")
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder its data sets stand in")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="model folder; a stopped run goes on here")

    sub = verb(
        "evaluate",
        evaluate_folder,
        "measure a model folder on labelled text",
        "finsignal evaluate default --data labelled.csv --label-map bearish=negative --label-map bullish=positive",
    )
    sub.add_argument("model", type=Path, metavar="DIR", help="a model folder; 'default' is the model that ships")
    sub.add_argument("--data", type=Path, required=True, metavar="FILE", help="CSV, JSONL or Parquet")
    sub.add_argument("--text-column", default="text", metavar="NAME", help="column of the texts (default text)")
    sub.add_argument("--label-column", default="label", metavar="NAME", help="column of the labels (default label)")
    sub.add_argument("--label-map", action="append", default=[], metavar="FROM=TO", help="label in the file=our label")
    return parser


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


# --- verbs ---------------------------------------------------------------------------------------------------------


def run_demo(options: argparse.Namespace) -> None:
    """The run file of the repository on its simulated sample."""
    run_file = Path(__file__).resolve().parents[1] / "strategies" / "news_sentiment.toml"
    if not run_file.is_file():
        raise ConfigError(f"demo: {run_file} is not there; the demo runs from a clone of the repository.")
    for name in ("news", "prices", "model", "sentiment"):
        setattr(options, name, None)
    options.run, options.map = run_file, []
    judge_run(options)


def judge_run(options: argparse.Namespace) -> None:
    """A study of the run file: printed, and written as a run folder."""
    from finsignal.errors import require

    require("vectorbt", extra="backtest", work="a backtest")  # before anything is read or scored
    from finsignal.report.terminal import to_text
    from finsignal.study import RUN_FOLDER_MARK, read_inputs, run_study, write_study
    from finsignal.writing import check_replaceable

    run = read_options(options)
    folder = options.out or Path("runs") / run.name
    check_replaceable(folder, mark=RUN_FOLDER_MARK)
    inputs = read_inputs(run, now=read_clock())
    sentiments, notes = read_scores(options, run, inputs.news)
    by_model, models = make_scores(options, inputs.news)
    study = run_study(run, inputs, {**sentiments, **by_model}, models=models, notes=notes)
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
    clock = read_clock()
    now = to_instant(options.now, where="--now", tz=None) if options.now else clock
    inputs = read_inputs(run, now=clock)  # a file may hold rows after --now, which the decision does not see
    given, read_notes = read_scores(options, run, inputs.news)
    rows = make_signal_rows(
        run,
        inputs,
        lambda news: (given, {}) if given else make_scores(options, news),
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


def score_given(options: argparse.Namespace) -> None:
    """Probabilities of texts: of a file's rows to --out, of --text or stdin lines to stdout."""
    given = [bool(options.text), options.file is not None]
    if sum(given) != 1:
        raise ConfigError("score: expected a file, - for lines from stdin, or --text; one of them, once.")
    if not 0 <= options.threshold <= 1:
        raise ConfigError(f"score: --threshold is {options.threshold}; expected 0 to 1.")
    if options.file in (None, "-"):
        try:
            texts = options.text or [line.rstrip("\n") for line in sys.stdin]
        except UnicodeDecodeError as err:
            raise SourceError(f"stdin: the text is not {err.encoding}; write it as UTF-8.") from err
        # Bytes that are no text arrive as half a character, which nothing could print.
        score_lines([text.encode("utf-8", "replace").decode("utf-8") for text in texts], options)
    else:
        score_file(Path(options.file), options)


def score_lines(texts: list[str], options: argparse.Namespace) -> None:
    """Each text's probabilities and signal, to stdout or as JSON lines or a table to --out."""
    from finsignal.sentiment.score import load_model, score_texts

    scores = score_texts(texts, load_model(options.model), progress=len(texts) > 500)
    pairs = zip(texts, scores.to_dict("records"), strict=True)
    rows = [to_text_signal(text, row, options.threshold) for text, row in pairs]
    if options.out is not None:
        import pandas as pd

        from finsignal.sources.any_table import write_any

        write_any(pd.DataFrame(rows), options.out)
        print(options.out)
    elif options.json:
        print_json(rows)
    else:
        for row in rows:
            mix = "  ".join(f"{row[f'p_{name}']:.3f} {name}" for name in SIGNAL_OF)
            print(f"{row['prediction']:<4}  {mix}  {printable(row['text'])}")


def to_text_signal(text: str, scores: dict[str, float], threshold: float) -> dict[str, Any]:
    """A text's probabilities, and BUY, HOLD or SELL by the largest of them, actionable from the threshold on.

    A text with nothing to read is neutral by rule and never actionable.
    """
    from finsignal.sentiment.prompt import clean

    label = max(SIGNAL_OF, key=lambda name: scores[f"p_{name}"])
    confidence = scores[f"p_{label}"]
    return {
        "text": text,
        **scores,
        "prediction": SIGNAL_OF[label],
        "confidence": confidence,
        "actionable": confidence >= threshold and bool(clean(text)),
    }


def score_file(path: Path, options: argparse.Namespace) -> None:
    """The file's rows in their order, with three columns more."""
    from finsignal.sentiment.prompt import to_input
    from finsignal.sentiment.score import load_model, score_texts
    from finsignal.sources.any_table import read_any, write_any

    if options.out is None:
        raise ConfigError(f"score: {path} is a file, so say where its scored rows go with --out FILE.")
    columns = [options.text_column] if options.text_column else []
    rows = read_any(path, columns=columns)
    columns = columns or [name for name in ("title", "text") if name in rows.columns]
    if not columns:
        raise SourceError(
            f"{path}: neither a column 'title' nor 'text'; columns are {[str(name) for name in rows.columns]}. "
            "Name that of the texts with --text-column NAME."
        )
    taken = [f"p_{name}" for name in SIGNAL_OF if f"p_{name}" in rows.columns]
    if taken:
        raise SourceError(f"{path}: has a column {taken[0]!r} already; rename it, or the scores would replace it.")
    parts = [rows[name].fillna("").astype("str").tolist() for name in columns]
    texts = [to_input(*pair) for pair in zip(*parts, strict=True)] if len(parts) == 2 else parts[0]
    scores = score_texts(texts, load_model(options.model), progress=True)
    write_any(rows.assign(**{name: scores[name].to_numpy() for name in scores.columns}), options.out)
    if options.json:
        print_json({"rows": len(rows), "out": str(options.out)})
    else:
        print(f"{len(rows):,} rows scored\n{options.out}")


def train_model(options: argparse.Namespace) -> None:
    """A model folder from a recipe."""
    from finsignal.sentiment.train import fine_tune

    folder = fine_tune(options.recipe, data=options.data, out=options.out, now=read_clock(), progress=True)
    print_json({"model": str(folder)}) if options.json else print(folder)


def evaluate_folder(options: argparse.Namespace) -> None:
    """Figures of a model on labelled text, each with its bootstrap interval."""
    from finsignal.sentiment.evaluate import evaluate_model
    from finsignal.sentiment.labelled import read_labelled
    from finsignal.sentiment.score import load_model

    labelled, _ = read_labelled(
        options.data,
        text_column=options.text_column,
        label_column=options.label_column,
        label_map=to_map(options.label_map, "--label-map") or None,
    )
    model = load_model(None if str(options.model) == "default" else options.model)
    figures = evaluate_model(model, labelled, seed=0, progress=True)
    if options.json:
        print_json(figures)
        return
    print(f"{model.name} on {figures['n']:,} rows of {options.data}")
    for name, value in figures.items():
        if isinstance(value, dict) and "value" in value:
            print(f"  {name:<20}{value['value']:.4f}   95 % {value['low']:.4f} to {value['high']:.4f}")


# --- what the verbs share ------------------------------------------------------------------------------------------


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
    from finsignal.sources.files import read_sentiment

    if options.sentiment is None:
        return {}, []
    if run.sentiment is None:
        raise ConfigError(
            f"{run.path}: --sentiment needs to know the file's columns. Write a [sentiment] section, or pass "
            "--map by=text --map time=COLUMN --map text=COLUMN --map label=COLUMN."
        )
    table, counts = read_sentiment(options.sentiment, run.sentiment, news, limit=run.row_limit)
    dropped = [f"{options.sentiment.name}: {n} rows dropped: {reason}." for reason, n in counts.dropped.items()]
    return {f"scores of {options.sentiment.name}": table}, [*counts.notes, *dropped]


def make_scores(options: argparse.Namespace, news: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], dict[str, Model]]:
    """The model's sentiment table by its name, and the model by the same name."""
    from finsignal.sentiment.score import load_model, score_news

    model = load_model(options.model)
    name = f"model {model.name}"
    return {name: score_news(news, model, progress=True)}, {name: model}


def read_clock() -> pd.Timestamp:
    """The present instant, UTC. The only place where finsignal reads the clock."""
    import pandas as pd

    return pd.Timestamp.now("UTC").as_unit("us")


def to_map(pairs: Iterable[str], where: str) -> dict[str, str]:
    """KEY=VALUE options as a dictionary."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"{where}: expected KEY=VALUE, got {pair!r}.")
        out[key] = value
    return out


def nest(flat: dict[str, str]) -> dict[str, Any]:
    """Keys with a dot as a table of their own: label_map.bullish = positive."""
    out: dict[str, Any] = {}
    for key, value in flat.items():
        outer, dot, inner = key.partition(".")
        if dot:
            out.setdefault(outer, {})[inner] = value
        else:
            out[key] = value
    return out


def printable(text: str) -> str:
    """The text on one line without characters that would steer a terminal, such as line breaks and overrides."""
    return "".join(c if c.isprintable() else " " for c in text)


def print_json(value: Any) -> None:
    """JSON on stdout; a figure that is not defined is null, never NaN."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "-" if value is None else f"{value:.2f}"
