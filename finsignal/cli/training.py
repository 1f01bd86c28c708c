"""The verb train: a recipe to a model folder; what it would do, without doing it; the recipes that ship."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finsignal.cli import shared
from finsignal.cli.shared import print_json

if TYPE_CHECKING:
    from finsignal.sentiment.recipe import Recipe

AddVerb = Callable[..., argparse.ArgumentParser]


def add_verbs(verb: AddVerb) -> None:
    """Adds it to the command line, with examples."""
    sub = verb(
        "train",
        train_given,
        "tune a model on labelled text by a recipe, and write a model folder",
        "finsignal train qlora --data labelled/ --out data/models/mine\n"
        "  finsignal train my_recipe.toml --data labelled/ --plan\n"
        "  finsignal train --recipes",
    )
    sub.add_argument("recipe", nargs="?", metavar="RECIPE", help="a recipe file, or the name of one that ships")
    sub.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder its data sets stand in; may be given more than once, the first that has a file counts",
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="model folder; a stopped run goes on here")
    sub.add_argument("--device", default="", metavar="NAME", help="cpu or cuda (default: a GPU where there is one)")
    sub.add_argument(
        "--report-to",
        action="append",
        default=[],
        metavar="SERVICE",
        help="wandb, mlflow or tensorboard gets every step as well; may be given more than once",
    )
    sub.add_argument(
        "--plan", action="store_true", help="train nothing: rows, steps, advice, warnings, trainable share and memory"
    )
    sub.add_argument("--recipes", action="store_true", help="list the recipes that ship, and what each puts right")
    sub.set_defaults(refuse=sub.error)


def train_given(options: argparse.Namespace) -> None:
    """A model folder from a recipe, or with --plan what that would take, or with --recipes what there is."""
    if options.recipes:
        return list_recipes(options)
    if options.recipe is None or not options.data:
        options.refuse("expected RECIPE and --data DIR, or --recipes")
    if options.plan:
        return show_plan(options)
    if options.out is None:
        options.refuse("expected --out DIR, or --plan to train nothing")
    from finsignal.report.training import write_training_page
    from finsignal.sentiment.train import fine_tune

    folder = fine_tune(
        options.recipe,
        data=options.data,
        out=options.out,
        now=shared.read_clock(),
        device=options.device,
        report_to=options.report_to,
        progress=True,
    )
    pages = [str(write_training_page(folder, log.name)) for log in sorted(folder.glob("training*.json"))]
    if options.json:
        return print_json({"model": str(folder), "pages": pages})
    print(folder)
    for page in pages:
        print(f"curves: {page}", file=sys.stderr)
    return None


def list_recipes(options: argparse.Namespace) -> None:
    """The recipes that ship: base, method, head, the document each follows, and what was put right of it."""
    from finsignal.sentiment.recipe import read_recipe, recipe_names

    found = []
    for name in recipe_names():
        recipe = read_recipe(name)
        settings = {"base": recipe.base.model, "method": recipe.tuning.method, "head": recipe.head.kind}
        found.append({"name": name, **settings, "source": recipe.source, "corrected": list(recipe.corrected)})
    if options.json:
        return print_json(found)
    for entry in found:
        print(f"{entry['name']}: {entry['method']} on {entry['base']}, head {entry['head']}")
        if entry["source"]:
            print(f"  after {entry['source']}; put right:")
        for line in entry["corrected"]:
            print(f"  - {line}")
    return None


def show_plan(options: argparse.Namespace) -> None:
    """What a training would do and take, from its rows and its base's config alone."""
    from finsignal.sentiment.recipe import read_recipe

    recipe = read_recipe(options.recipe)
    found = [describe_recipe(part, options.data, options.device) for part in recipe.mean_of or [recipe]]
    if options.json:
        return print_json(found[0] if len(found) == 1 else found)
    from finsignal.sentiment.tuning.advice import plan_text

    for told in found:
        print(*plan_text(told), sep="\n")
    return None


def describe_recipe(recipe: Recipe, folders: Sequence[Path], device: str) -> dict[str, Any]:
    """What `advice.describe` tells of a recipe and the rows in the folders; without a base, rows and method alone."""
    from finsignal.sentiment.tuning.lessons import read_parts

    rows = read_parts(recipe, folders)[0]
    if recipe.tuning.method == "tfidf":
        return {"name": recipe.name, "method": "tfidf", "rows": len(rows)}
    from finsignal.sentiment.train import count_drawn
    from finsignal.sentiment.tuning import advice, bases

    drawn = count_drawn(rows, recipe.tuning)
    return advice.describe(recipe, drawn, advice.find_settings(recipe.base), device=bases.to_device(device))
