"""Verbs about labelled text: data prepare, data audit."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli.shared import print_json, printable, split_reader, to_map
from finsignal.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

AddVerb = Callable[..., argparse.ArgumentParser]


def add_verbs(verb: AddVerb) -> None:
    """Adds them to the command line, each with an example."""
    sub = verb(
        "data prepare",
        prepare_files,
        "clean labelled files and split them into train and validation without shared texts",
        "finsignal data prepare posts.csv --label-map bullish=positive --label-map bearish=negative --out labelled/\n"
        "  finsignal data prepare tfns=sent_train.csv sentfin=SEntFiN.csv --share 0.1 --seed 7 --out labelled/\n"
        "  finsignal data prepare posts.csv --time-column posted --at 2024-01-01T00:00Z --out labelled/",
    )
    _add_files(sub)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for train.jsonl, validation.jsonl")
    sub.add_argument("--share", type=float, metavar="SHARE", help="share of the texts for validation (default 0.1)")
    sub.add_argument("--seed", type=int, metavar="N", help="of the random split (default 0)")
    sub.add_argument("--at", metavar="TIME", help="split by time instead: validation is what was known from then on")
    sub.add_argument("--time-column", metavar="NAME", help="column of the times, with their zone")
    sub.add_argument("--cutoff", metavar="DAY", help="the last day the rows can know, where there is no time column")
    sub.add_argument("--instruction", action="store_true", help="write the form instruction, input, output beside them")

    sub = verb(
        "data audit",
        audit_files,
        "repeats, contradicting labels and texts shared between labelled files",
        "finsignal data audit labelled/train.jsonl labelled/validation.jsonl phrasebank=Sentences_50Agree.txt",
    )
    _add_files(sub)
    sub.add_argument(
        "--near",
        type=float,
        default=0.8,
        metavar="SHARE",
        help="share of common words from which two texts are near repeats (default 0.8)",
    )


def _add_files(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="CSV, JSONL or Parquet; of a published set READER=FILE, such as tfns=sent_train.csv",
    )
    sub.add_argument("--text-column", metavar="NAME", help="column of the texts (default text)")
    sub.add_argument("--label-column", metavar="NAME", help="column of the labels (default label)")
    sub.add_argument(
        "--target-column", metavar="NAME", help="column of what a label is about, where it is not the text"
    )
    sub.add_argument("--label-map", action="append", default=[], metavar="FROM=TO", help="label in the file=our label")


def read_files(options: argparse.Namespace, **more: str | None) -> dict[str, tuple[pd.DataFrame, dict[str, int], Path]]:
    """Table, counts and path of every FILE or READER=FILE, by the name it was given under."""
    from finsignal.sentiment.labelled import read_any_labelled

    out = {}
    for given in options.files:
        reader, path = split_reader(given)
        if given in out:
            raise ConfigError(f"data: {given} is given twice.")
        table, counts = read_any_labelled(
            path,
            reader=reader,
            text_column=options.text_column,
            label_column=options.label_column,
            target_column=options.target_column,
            label_map=to_map(options.label_map, "--label-map") or None,
            **more,
        )
        out[given] = table, counts, path
    return out


def prepare_files(options: argparse.Namespace) -> None:
    """A folder with train.jsonl and validation.jsonl, and the counts of what was left out, and why."""
    import pandas as pd

    from finsignal.clock import to_instant
    from finsignal.sentiment.labelled import prepare, write_prepared

    if options.at is not None and (options.share, options.seed) != (None, None):
        raise ConfigError(
            "data prepare: --at splits by time; --share and --seed split at random. Give one or the other."
        )
    share = 0.1 if options.share is None else options.share
    seed = options.seed or 0
    at = to_instant(options.at, where="--at", tz=None) if options.at is not None else None
    if options.cutoff is not None:
        to_instant(options.cutoff, where="--cutoff")
    files = read_files(options, time_column=options.time_column, cutoff=options.cutoff)
    rows = pd.concat([table for table, _, _ in files.values()], ignore_index=True)
    done = prepare(rows, share=share, seed=seed, at=at)
    record: dict[str, Any] = {
        "files": [
            {"file": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "counts": counts}
            for name, (_, counts, path) in files.items()
        ],
        "split": {"share": share, "seed": seed} if at is None else {"at": at.isoformat()},
    }
    written = write_prepared(done, options.out, record=record, instruction=options.instruction)
    sides = {"train": done.train, "validation": done.validation}
    labels = {side: table["label"].value_counts().sort_index().to_dict() for side, table in sides.items()}
    if options.json:
        print_json({**record, "counts": done.counts, "labels": labels, "written": [str(path) for path in written]})
        return
    for name, (_, counts, _) in files.items():
        print(f"{printable(name)}: {_tell(_to_words(counts))}")
    print(_tell(_to_words(done.counts)))
    for side, counts in labels.items():
        print(f"{side}: {_tell(counts)}")
    for path in written:
        print(path)


def audit_files(options: argparse.Namespace) -> None:
    """The findings in each file and between every two of them, and every two sources."""
    from finsignal.sentiment.labelled import audit

    findings = audit({name: table for name, (table, _, _) in read_files(options).items()}, near=options.near)
    if options.json:
        print_json(findings)
        return
    for line in to_page(findings):
        print(printable(line))


def to_page(findings: dict[str, Any]) -> Iterable[str]:
    """The lines of an audit to read: what each set holds, then what is shared."""
    for name, found in findings["sets"].items():
        words = found["words"]
        yield name
        yield f"  {found['rows']:,} rows: {_tell(found['labels'])}; {found['empty']:,} without a word"
        if found["with_target"]:
            yield f"  {found['with_target']:,} rows have a target"
        if len(found["sources"]) > 1:
            yield f"  sources: {_tell(found['sources'])}"
        if found["rows"]:
            spread = f"{words['min']} to {words['max']}, median {words['median']}, 95 % up to {words['p95']}"
            yield f"  words of a text: {spread}"
        yield f"  repeats: {found['repeated_rows']:,} rows; near repeats: {found['near_repeats']:,} texts"
        yield f"  contradictions: {found['contradicting_texts']:,} texts, {found['contradicting_rows']:,} rows"
        for entry in found["contradictions"]:
            yield f"    {_tell(entry['labels'])}: {_shown(entry)}"
    between = findings["between_sets"]
    sources = [set(found["sources"]) for found in findings["sets"].values()]
    if any(len(names) > 1 for names in sources) or len(set().union(*sources)) < len(sources):
        between = [*between, *findings["between_sources"]]  # else these are the sets once more
    for pair in between:
        yield f"{pair['first']} and {pair['second']}"
        yield (
            f"  {pair['shared_texts']:,} texts stand in both: {pair['first_rows']:,} rows of the first, "
            f"{pair['second_rows']:,} of the second, {pair['second_other_label']:,} of these with another label; "
            f"{pair['near_texts']:,} more texts are near repeats"
        )
        for entry in pair["other_label_examples"]:
            yield f"    {' and '.join(entry['first'])}, then {entry['second']}: {_shown(entry)}"


def _shown(entry: dict[str, Any]) -> str:
    return f"{entry['text']} [{entry['target']}]" if entry["target"] else str(entry["text"])


def _tell(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _to_words(counts: dict[str, int]) -> dict[str, int]:
    return {name.replace("_", " "): count for name, count in counts.items()}
