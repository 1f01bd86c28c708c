"""finsignal train: a model folder with its curves, what it would take, and the recipes that ship."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from conftest import Cli

from finsignal.sentiment import train

pytest.importorskip("peft", reason="needs peft, of the extra finsignal[train]")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

RECIPE = """
name = "tiny"
[base]
model = "{base}"
cutoff = 2021-08-31
licence = "none"
max_tokens = 16
[tuning]
method = "{method}"
rank = 64
learning_rate = 1e-3
epochs = 2
batch_size = 8
held_out = 0.2
seed = 3
[[data]]
name = "made"
reader = "file"
path = "made.csv"
licence = "none"
cutoff = 2022-12-31
label_map = {{ up = "positive", down = "negative", flat = "neutral" }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of each method beside its data and its base."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.write_bert(folder / "bert")
    for method in ("lora", "prefix", "tfidf"):
        (folder / f"{method}.toml").write_text(RECIPE.format(base=folder / "bert", method=method))
    return tiny_models.write_rows(folder)


@pytest.mark.slow
def test_a_model_folder_and_the_page_of_its_curves(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    code, out, err = run_cli(
        "train", folder / "prefix.toml", "--data", folder, "--out", tmp_path / "m", "--device", "cpu"
    )
    assert (code, out) == (0, f"{tmp_path / 'm'}\n")
    page = tmp_path / "m" / "training.html"
    assert f"curves: {page}" in err
    assert "tiny: prefix on" in err  # the plan, before it begins
    assert "<svg" in page.read_text(encoding="utf-8")


def test_the_same_as_json(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    code, out, _ = run_cli("train", folder / "tfidf.toml", "--data", folder, "--out", tmp_path / "m", "--json")
    assert code == 0
    assert json.loads(out) == {"model": str(tmp_path / "m"), "pages": []}


def test_device_and_services_reach_the_training(run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def note(recipe: str, **options: Any) -> Path:
        asked.update(options, recipe=recipe)
        return tmp_path

    monkeypatch.setattr(train, "fine_tune", note)
    given = ["--device", "cpu", "--report-to", "wandb", "--report-to", "mlflow", "--data", "a", "--data", "b"]
    assert run_cli("train", "qlora", *given, "--out", "m")[0] == 0
    assert asked["recipe"] == "qlora"
    assert (asked["device"], asked["report_to"]) == ("cpu", ["wandb", "mlflow"])
    assert (asked["data"], asked["out"], asked["progress"]) == ([Path("a"), Path("b")], Path("m"), True)


def test_a_plan_trains_nothing_and_tells_it_all(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    code, out, _ = run_cli("train", folder / "lora.toml", "--data", folder, "--plan", "--device", "cpu")
    assert code == 0
    assert out.startswith("tiny: lora on ")
    assert "\n48 rows to learn from, 8 a step (4 at once): 12 steps, 1 of them warm-up\n" in out
    assert "rank 64 (advised 4)" in out
    assert "\nwarning: rank 64 is high for 48 rows" in out
    assert "memory of a step at 16 tokens: about " in out
    assert sorted(folder.rglob("*")) == before


def test_a_plan_as_json(run_cli: Cli, folder: Path) -> None:
    code, out, _ = run_cli("train", folder / "lora.toml", "--data", folder, "--plan", "--json", "--device", "cpu")
    found = json.loads(out)
    assert code == 0
    assert (found["rows"], found["steps"], found["advice"]["rank"]) == (48, 12, 4)
    assert found["memory"]["total"] > 0


def test_a_plan_of_a_mean_is_one_of_each_of_its_runs(run_cli: Cli, folder: Path, tmp_path: Path) -> None:
    for number, learning_rate in enumerate((1e-3, 2e-3)):
        text = RECIPE.format(base=folder / "bert", method="full").replace("1e-3", str(learning_rate))
        (tmp_path / f"run{number}.toml").write_text(text.replace('"tiny"', f'"run{number}"'))
    mean = RECIPE.format(base=folder / "bert", method="full")
    (tmp_path / "mean.toml").write_text('mean_of = ["run0.toml", "run1.toml"]\n' + mean)
    code, out, _ = run_cli("train", tmp_path / "mean.toml", "--data", folder, "--plan", "--json", "--device", "cpu")
    assert code == 0
    assert [(told["name"], told["settings"]["learning_rate"]) for told in json.loads(out)] == [
        ("run0", 1e-3),
        ("run1", 2e-3),
    ]


def test_a_plan_without_a_base_needs_no_torch(run_cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run_cli("train", folder / "tfidf.toml", "--data", folder, "--plan")
    assert (code, out) == (0, "tiny: tfidf, without a base, 48 rows\n")


def test_the_recipes_are_listed_with_what_was_put_right(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch", "transformers", "peft"):
        monkeypatch.setitem(sys.modules, module, None)  # listing needs none of them
    code, out, _ = run_cli("train", "--recipes")
    assert code == 0
    assert "llama-3.2-3b: qlora on meta-llama/Llama-3.2-3B-Instruct, head words\n  after github.com/" in out
    assert "\n  - 514 sentences of the set stand in it as negative and again as neutral;" in out
    found = {entry["name"]: entry for entry in json.loads(run_cli("train", "--recipes", "--json")[1])}
    assert found["finbert-lora"]["head"] == "own"
    assert len(found["llama-3.1-8b"]["corrected"]) >= 5
    assert found["default"]["source"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "."], "expected RECIPE and --data DIR"),
        (["qlora"], "expected RECIPE and --data DIR"),
        (["qlora", "--data", "."], "expected --out DIR, or --plan"),
    ],
)
def test_what_is_missing_is_wrong_usage(run_cli: Cli, arguments: list[str], message: str) -> None:
    code, out, err = run_cli("train", *arguments)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["qlroa", "--data", ".", "--plan"], "Did you mean 'qlora'?"),
        (["lora.toml", "--data", ".", "--plan", "--device", "cuda:9"], "finds no CUDA here"),
        (["lora.toml", "--data", ".", "--out", "m", "--report-to", "wandbb"], "Did you mean 'wandb'?"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    run_cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    code, out, err = run_cli("train", *arguments)
    assert (code, out) == (1, "")
    assert message in err
