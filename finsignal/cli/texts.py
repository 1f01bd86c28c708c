"""The verb score: probabilities of texts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli.shared import print_json, printable
from finsignal.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from finsignal.sentiment.score import Model

SIGNAL_OF = {"negative": "SELL", "neutral": "HOLD", "positive": "BUY"}
AddVerb = Callable[..., argparse.ArgumentParser]


def add_verbs(verb: AddVerb) -> None:
    """Adds them to the command line, each with an example."""
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
    sub.add_argument(
        "--target", metavar="NAME", help="the company asked about where a text names it (default: whole texts)"
    )
    sub.add_argument("--target-column", metavar="NAME", help="a file's column of the companies asked about")
    sub.add_argument("--out", type=Path, metavar="FILE", help="where to write the rows with their probabilities")
    sub.add_argument("--model", type=Path, metavar="DIR", help="a model folder (default: the model that ships)")
    sub.add_argument(
        "--threshold",
        type=float,
        default=0.7,
        help="confidence (largest probability) from which a text's signal is actionable (default 0.7)",
    )


def score_given(options: argparse.Namespace) -> None:
    """Probabilities of texts: of a file's rows to --out, of --text or stdin lines to stdout."""
    given = [bool(options.text), options.file is not None]
    if sum(given) != 1:
        raise ConfigError("score: expected a file, - for lines from stdin, or --text; one of them, once.")
    if options.target is not None and options.target_column is not None:
        raise ConfigError("score: expected --target for all texts or --target-column for each; not both.")
    if options.target_column is not None and options.file in (None, "-"):
        raise ConfigError("score: --target-column names a column of a file; texts and lines take --target.")
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

    model = load_model(options.model)
    check_target_aware(model, options)
    scores = score_texts(
        texts, model, progress=len(texts) > 500, targets=to_named_only(texts, [options.target or ""] * len(texts))
    )
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


def check_target_aware(model: Model, options: argparse.Namespace) -> None:
    """Refuses a question about a company to a model that reads texts as wholes."""
    if (options.target or options.target_column) and not model.target_aware:
        raise ConfigError(f"score: {model.name} is not target-aware: it reads texts as wholes. Leave the target out.")


def to_named_only(texts: list[str], targets: list[str]) -> list[str]:
    """The target of each text that names it, "" for the others: of a text without it no model learned what to say."""
    from finsignal.sentiment.prompt import to_named

    return [to_named(text, [target]) for text, target in zip(texts, targets, strict=True)]


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
    asked = [options.target_column] if options.target_column else []
    rows = read_any(path, columns=[*columns, *asked])
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
    model = load_model(options.model)
    check_target_aware(model, options)
    targets = rows[asked[0]].fillna("").astype("str").tolist() if asked else [options.target or ""] * len(texts)
    scores = score_texts(texts, model, progress=True, targets=to_named_only(texts, targets))
    write_any(rows.assign(**{name: scores[name].to_numpy() for name in scores.columns}), options.out)
    if options.json:
        print_json({"rows": len(rows), "out": str(options.out)})
    else:
        print(f"{len(rows):,} rows scored\n{options.out}")
