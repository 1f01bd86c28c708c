"""The verb about what models are worth: evaluate."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli.shared import print_json, split_reader, to_map
from finsignal.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    import pandas as pd

    from finsignal.sentiment.evaluate import Classifier

SEED = 0
READERS_OWN = ("text_column", "label_column", "target_column")  # options that only a file of your own takes
AddVerb = Callable[..., argparse.ArgumentParser]


def add_verbs(verb: AddVerb) -> None:
    """Adds it to the command line, with examples."""
    sub = verb(
        "evaluate",
        evaluate_models,
        "measure one or several models on labelled text, side by side",
        "finsignal evaluate default --data labelled.csv --label-map bearish=negative --label-map bullish=positive\n"
        "  finsignal evaluate default ProsusAI/finbert --data tfns/sent_valid.csv --format tfns --floor train.jsonl "
        "--out evaluation",
    )
    sub.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="'default' (the model that ships), a model folder, or a published classifier by hub id or folder",
    )
    sub.add_argument(
        "--data",
        action="append",
        type=Path,
        required=True,
        metavar="FILE",
        help="labelled text, or READER=FILE; may be repeated",
    )
    sub.add_argument(
        "--format", metavar="NAME", help="reader of the --data files, such as tfns (default: by their columns)"
    )
    sub.add_argument("--text-column", metavar="NAME", help="column of the texts (default text)")
    sub.add_argument("--label-column", metavar="NAME", help="column of the labels (default label)")
    sub.add_argument("--target-column", metavar="NAME", help="column of the company that a label is about")
    sub.add_argument("--label-map", action="append", default=[], metavar="FROM=TO", help="label in the files=our label")
    sub.add_argument(
        "--model-label-map",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="what a published classifier's own labels mean, such as LABEL_0=negative",
    )
    sub.add_argument(
        "--untold",
        action="store_true",
        help="measure each target-aware model a second time, not told the target: what the target gains",
    )
    sub.add_argument(
        "--floor",
        type=Path,
        metavar="FILE",
        help="training rows of two floors, TF-IDF and the labels' shares; or READER=FILE",
    )
    sub.add_argument(
        "--run",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="a run folder made with one of the models, whose trading figures stand beside; may be repeated",
    )
    sub.add_argument(
        "--robustness",
        type=int,
        default=500,
        metavar="ROWS",
        help="rows, drawn at random, that are also read written otherwise (default 500; 0 none)",
    )
    sub.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples of the intervals (default 1000)"
    )
    sub.add_argument(
        "--generate",
        action="store_true",
        help="let models tuned to answer in words write their answers too: how many are no label, how many are right",
    )
    sub.add_argument("--name", help="what the rows are called (default: the names of the files)")
    sub.add_argument("--out", type=Path, metavar="DIR", help="where evaluation.json and evaluation.html go")


def evaluate_models(options: argparse.Namespace) -> None:
    """Figures of every model with their intervals, as text, as JSON, and as a page."""
    from finsignal.report.evaluation import JSON, write_evaluation
    from finsignal.report.findings import to_terminal
    from finsignal.sentiment.evaluate import run_evaluation
    from finsignal.writing import check_replaceable

    for name, least in (("robustness", 0), ("bootstrap", 1)):
        if getattr(options, name) < least:
            raise ConfigError(f"evaluate: --{name} is {getattr(options, name)}; expected {least} or more.")
    if options.out is not None:
        check_replaceable(options.out, mark=JSON)  # before the minutes that the rest takes
    labelled, files = read_data(options.data, options, reader=options.format)
    floor, floor_files = read_data([options.floor], options, reader=None) if options.floor else (None, [])
    runs = [read_run_folder(folder) for folder in options.run]
    label_map = to_map(options.model_label_map, "--model-label-map") or None
    models = [load(name, label_map=label_map) for name in options.models]
    evaluation = run_evaluation(
        models,
        labelled,
        name=options.name or ", ".join(split_reader(str(file))[1].stem for file in options.data),
        train=floor,
        untold=options.untold,
        bootstrap=options.bootstrap,
        changed_rows=options.robustness,
        generate=options.generate,
        seed=SEED,
        progress=True,
    )
    add_trading(evaluation, models, runs)
    evaluation |= {"files": files, "floor_files": floor_files, "floor_rows": None if floor is None else len(floor)}
    page = None if options.out is None else write_evaluation(options.out, evaluation)
    if options.json:
        print_json(evaluation)
        return
    print(to_terminal(evaluation))
    if page is not None:
        print(f"\n{page}")


def read_data(
    given: list[Path], options: argparse.Namespace, *, reader: str | None
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The rows of labelled files one after the other, and of each file its name, SHA-256 and counts."""
    import pandas as pd

    from finsignal.sentiment.labelled import read_any_labelled

    tables, files = [], []
    for file in given:
        own, path = split_reader(str(file))
        rows, counts = read_any_labelled(
            path,
            reader=own or reader,
            **{name: getattr(options, name) for name in READERS_OWN},
            label_map=to_map(options.label_map, "--label-map") or None,
        )
        tables.append(rows)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append({"path": path.name, "sha256": digest, "counts": counts})
    return pd.concat(tables, ignore_index=True), files


def load(name: str, *, label_map: dict[str, str] | None) -> Classifier:
    """The model of that name: 'default', a model folder, or a published classifier by hub id or folder."""
    from finsignal.sentiment.score import CARD, load_model

    if name == "default":
        return load_model(None)
    folder = Path(name)
    published = folder.is_dir() and not (folder / CARD).is_file() and any(folder.glob("*config.json"))
    repository = name.partition("@")[0]  # a hub id may name a revision, ORG/NAME@refs/pr/7
    hub_id = not folder.exists() and not folder.is_absolute() and name[0] not in ".~" and repository.count("/") == 1
    if published or hub_id:
        from finsignal.sentiment.classifiers import load_classifier

        return load_classifier(name, label_map=label_map)
    return load_model(folder)


def read_run_folder(folder: Path) -> dict[str, Any]:
    """Its folder, its summary, and name and digest of the model that it was made with.

    Raises ManifestError for a folder that no backtest wrote, or whose summary was altered since.
    """
    from finsignal.study.manifest import RUN_FOLDER_MARK, digest_of_file, read_manifest

    manifest = read_manifest(folder)
    path = folder / RUN_FOLDER_MARK
    if digest_of_file(path) != manifest["files"].get(RUN_FOLDER_MARK):
        raise ManifestError(f"{path}: was altered or is missing, so its figures prove nothing. Run the backtest again.")
    summary = json.loads(path.read_text(encoding="utf-8"))
    # In the run the model stands under whatever it was called there; the manifest says which that is.
    model = manifest["models"].get((summary.get("model") or {}).get("name")) or {"name": "no model", "digest": None}
    return {"folder": str(folder), "summary": summary, "model": model["name"], "digest": model["digest"]}


def add_trading(evaluation: dict[str, Any], models: list[Classifier], runs: list[dict[str, Any]]) -> None:
    """Puts the trading figures of each run beside the model it was made with.

    Raises ConfigError for a run of another model, or a second one of the same.
    """
    given = {model.name: getattr(model, "digest", "") for model in models}
    by_name = {row["name"]: row for row in evaluation["models"]}
    for run in runs:
        summary, name = run["summary"], run["model"]
        if name not in given or run["digest"] != given[name]:
            raise ConfigError(
                f"{run['folder']}: was made with {name} ({(run['digest'] or 'no digest')[:12]}); the models here are "
                f"{', '.join(given)}. Evaluate that model, or run the backtest with this one."
            )
        if "trading" in by_name[name]:
            raise ConfigError(f"{run['folder']}: a second run of {name}; expected one for each model.")
        held = (row for row in summary["comparison"] if "buy and hold" in row["name"])
        by_name[name]["trading"] = {
            "folder": run["folder"],
            "name": summary["name"],
            "start": summary["period"]["start"],
            "end": summary["period"]["end"],
            "market": summary["period"]["market"],
            "verdict": summary["verdict"]["word"],
            "notes": summary["notes"],
            "performance": summary["performance"],
            "buy_and_hold": next(held, None),
        }
