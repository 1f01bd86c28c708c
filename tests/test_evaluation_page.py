"""The page and the text of an evaluation: what a reader finds there, whatever names and texts try to be."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finsignal.errors import SourceError
from finsignal.report.evaluation import make_evaluation_page, write_evaluation
from finsignal.report.findings import list_findings, to_terminal
from finsignal.sentiment.evaluate import run_evaluation
from finsignal.sentiment.evaluate.floors import Floor
from finsignal.tables import INSTANT, LABELLED

EVIL = "<script>document.title='owned'</script>\" onload=x {{method}} & <b>"


def make_rows(count: int, *, source: str = "wire", text: str = "") -> pd.DataFrame:
    """Rows in turn positive, negative and neutral; the text says which, but for every fifth."""
    names = np.array(["positive", "negative", "neutral"])[np.arange(count) % 3]
    said = np.where(np.arange(count) % 5 == 0, "nothing", names)
    frame = pd.DataFrame({"text": [f"$ACME {word} {'so ' * (at % 7)}{at}. {text}" for at, word in enumerate(said)]})
    when = pd.Series([pd.Timestamp("2022-12-31", tz="UTC")] * count, dtype=INSTANT)
    return LABELLED.to_table(frame.assign(label=names, time=when, source=source, target=""))


def reader(name: str, sure: float) -> Floor:
    """A model that takes the label out of the text; `sure` of itself either way."""
    codes = {"negative": 0, "neutral": 1, "positive": 2}

    def run(texts: Any) -> np.ndarray:
        found = [next((code for word, code in codes.items() if word in text), 1) for text in texts]
        return (1 - sure) / 3 + sure * np.eye(3)[found]

    return Floor(name, run)


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    rows = pd.concat([make_rows(60), make_rows(40, source="blog")], ignore_index=True)
    models = [reader("first@123456789abc", 0.7), reader("second@cba987654321", 0.2)]
    return run_evaluation(models, rows, name="made rows", train=make_rows(30), bootstrap=50, changed_rows=40, seed=1)


class Page(HTMLParser):
    """Every element with its attributes, and the text outside styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.words).replace("\xa0", " "))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def test_the_page_shows_each_figure_of_each_model(evaluation: dict[str, Any]) -> None:
    page = Page(make_evaluation_page(evaluation))
    assert page.open == []
    for model in evaluation["models"]:
        assert f"{100 * model['accuracy']['value']:.1f} %" in page.text
        assert f"{model['log_loss']['value']:.3f}" in page.text
        assert f"{model['brier']['low']:.3f} to {model['brier']['high']:.3f}" in page.text
    for said in ("first", "second", "TF-IDF + LR", "majority", "wire", "blog", "names masked", "in short"):
        assert said.lower() in page.text.lower()
    ids = {had["id"] for _, had in page.elements if "id" in had}
    links = {str(had["href"])[1:] for tag, had in page.elements if tag == "a"}
    assert links <= ids
    assert {"models", "confidence", "labels", "slices", "robustness", "method"} <= links
    counts = sum(1 for tag, had in page.elements if tag == "svg" and had.get("class") == "confusion")
    assert counts == 4


def test_the_page_runs_nothing_and_asks_for_nothing(evaluation: dict[str, Any]) -> None:
    text = make_evaluation_page(evaluation)
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "form"}
    assert "default-src 'none'" in text
    assert "http" not in re.sub("http-equiv", "", text)


def test_names_sources_and_texts_that_would_be_markup_stay_text() -> None:
    rows = make_rows(40, source=EVIL, text=EVIL)
    rows = pd.concat([rows, make_rows(20)], ignore_index=True)
    found = run_evaluation([reader(EVIL, 0.6)], rows, name=EVIL, bootstrap=10, changed_rows=20, seed=1)
    found["models"][0]["trading"] = TRADING | {"name": EVIL, "folder": EVIL, "notes": [EVIL], "verdict": EVIL}
    found["files"] = [{"path": EVIL, "sha256": EVIL}]
    page = Page(make_evaluation_page(found))
    plain = Page(make_evaluation_page(found | {"name": "x"}))
    assert not {"script", "b onload"} & {tag for tag, _ in page.elements}
    assert len(page.elements) == len(plain.elements)
    assert "document.title='owned'" in page.text
    assert "{{method}}" in page.text
    assert not any(key.startswith("on") for _, had in page.elements for key in had)


TRADING = {
    "folder": "runs/one",
    "name": "one",
    "start": "2024-01-02T00:00:00+00:00",
    "end": "2024-06-01T00:00:00+00:00",
    "market": "XNYS",
    "verdict": "cannot tell",
    "notes": ["Simulated data."],
    "performance": {
        "net_return": -0.123,
        "sharpe": None,
        "sharpe_error": None,
        "max_drawdown": -0.2,
        "trades": 7,
    },
    "buy_and_hold": {"net_return": 0.171},
}


def test_trading_figures_stand_beside_and_what_is_not_defined_is_a_dash(evaluation: dict[str, Any]) -> None:
    given = copy.deepcopy(evaluation)
    given["models"][0]["trading"] = TRADING
    page = Page(make_evaluation_page(given))
    for said in ("−12.3 %", "17.1 %", "cannot tell", "Simulated data.", "2024-01-02 to 2024-06-01", "– not defined"):
        assert said in page.text
    assert "net return -12.3%, Sharpe - +- -" in to_terminal(given)
    assert "What it earned" not in Page(make_evaluation_page(evaluation)).text


@pytest.mark.parametrize("label", ["positive", "neutral"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_file_of_one_label_and_few_rows_makes_a_page_of_dashes_with_reasons(label: str, count: int) -> None:
    rows = make_rows(3 * count)
    rows = rows[(rows["label"] == label)].reset_index(drop=True)
    found = run_evaluation([reader("one", 0.5)], rows, name="few", bootstrap=20, seed=1)
    page = Page(make_evaluation_page(found))
    assert f"{count} row" in page.text
    assert any("no row has this label" in str(had.get("title")) for _, had in page.elements)
    assert "nan" not in re.findall(r"\w+", page.text.lower())
    assert "negative recall           -" in to_terminal(found)


def test_findings_say_more_less_or_luck(evaluation: dict[str, Any]) -> None:
    found = " ".join(list_findings(evaluation)).replace("\xa0", " ")
    model, majority = evaluation["models"][0], evaluation["models"][3]
    assert f"gives the right label to {100 * model['accuracy']['value']:.1f} % of 100 rows" in found
    assert "calling all of them positive would be right for 34.0 %" in found
    # The second reads as the first does, and is merely less sure: no row parts them.
    assert "From second it differs by +0.0 points of accuracy" in found
    assert "which may be luck (McNemar p = 1)" in found
    gain = 100 * (model["accuracy"]["value"] - majority["accuracy"]["value"])
    assert f"It has {gain:.1f} points of accuracy more than majority" in found
    turned = copy.deepcopy(evaluation)
    turned["models"] = [turned["models"][at] for at in (3, 0, 1, 2)]
    pair = next(p for p in turned["pairs"] if p["second"] == "majority" and p["first"] == model["name"])
    pair["first"], pair["second"] = pair["second"], pair["first"]
    for figure in (pair["accuracy"], pair["log_loss"]):
        figure["value"], figure["low"], figure["high"] = -figure["value"], -figure["high"], -figure["low"]
    assert "points of accuracy less than first" in " ".join(list_findings(turned))


def test_terminal_lines_are_short_and_end_without_spaces(evaluation: dict[str, Any]) -> None:
    lines = to_terminal(evaluation).splitlines()
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line != line.rstrip()] == []


def test_the_folder_is_written_whole_or_not_at_all(
    evaluation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_evaluation(tmp_path / "out", evaluation)
    assert page == tmp_path / "out" / "evaluation.html"
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8")) == evaluation
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert set(before) == {"evaluation.html", "evaluation.json"}
    broken = evaluation | {"settings": evaluation["settings"] | {"seed": float("nan")}}
    with pytest.raises(ValueError, match="JSON"):
        write_evaluation(page.parent, broken)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before
    write_evaluation(page.parent, evaluation)  # one of its own is replaced
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(SourceError, match="not written by this command"):
        write_evaluation(tmp_path / "mine", evaluation)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["mine", "out"]
