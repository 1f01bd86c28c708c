"""The page of a training: what its curves show, what it says of them, and that it asks nothing of anybody."""

import copy
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finsignal.errors import ModelError, SourceError
from finsignal.report.curves import MOST, Line, Rule, draw_curve, smooth, thin, to_powers, to_ticks
from finsignal.report.training import list_findings, to_training_page, write_training_page

EVIL = "<script>document.title='owned'</script>\" onload=x {{plan}} & <b>"

BASE, TUNED = [[10, 8, 2], [5, 34, 21], [1, 3, 16]], [[15, 4, 1], [4, 53, 3], [1, 7, 12]]


def make_log(*, steps: int = 90, epochs: int = 3, chosen: int = 2) -> dict[str, Any]:
    """A training whose gradient is clipped in the first tenth of its steps."""
    each = math.ceil(steps / epochs)
    figures = {"macro_f1": 0.5, "log_loss": 0.9, "calibration_error": 0.031}
    return {
        "recipe": "small",
        "plan": {
            "base": "a/base",
            "method": "lora",
            "head": "own",
            "rows": 1440,
            "trainable": 297219,
            "total": 109781766,
            "share": 297219 / 109781766,
            "warnings": ["rank 64 is high for 1,440 rows."],
            "advice": {"rank": 8, "alpha": 32, "learning_rate": 0.0004, "epochs": 5, "because": "A rule of thumb."},
            "memory": {"weights": 438_000_000, "total": 1_253_000_000},
        },
        "settings": {
            "epochs": epochs,
            "learning_rate": 0.001,
            "rank": 64,
            "alpha": 16,
            "clip": 1.0,
            "method": "lora",
            "target_modules": ["query", "value"],
        },
        "steps": [
            {
                "step": step,
                "epoch": 1 + (step - 1) // each,
                "loss": 1 / step,
                "learning_rate": 0.001 * (1 - step / (steps + 1)),
                "gradient_norm": 3.0 if step <= steps // 10 else 0.5,
            }
            for step in range(1, steps + 1)
        ],
        "epochs": [
            {
                "epoch": epoch,
                "train_loss": 1 / epoch,
                "held_out_log_loss": 0.41 + abs(epoch - chosen) / 100,
                "held_out_accuracy": 0.8 + epoch / 100,
            }
            for epoch in range(1, epochs + 1)
        ],
        "chosen_epoch": chosen,
        "before": {
            "rows": 100,
            "base": {**figures, "accuracy": 0.6, "positive_of_neutral": 0.35, "confusion": BASE},
            "tuned": {**figures, "accuracy": 0.8, "positive_of_neutral": 0.05, "confusion": TUNED},
        },
        "forgetting": {"base": 20.0, "tuned": 25.0, "tokens": 3391},
    }


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

    def curves(self) -> dict[str, list[list[tuple[float, float]]]]:
        """The points of each line of each chart, in pixels, by what the chart is of."""
        found: dict[str, list[list[tuple[float, float]]]] = {}
        name = ""
        for tag, attributes in self.elements:
            if tag == "svg":
                name = attributes.get("aria-label") or ""
            if tag == "polyline":
                pairs = [pair.split(",") for pair in (attributes["points"] or "").split()]
                found.setdefault(name, []).append([(float(a), float(b)) for a, b in pairs])
        return found


# --- the page --------------------------------------------------------------------------------------------


def test_the_page_draws_the_four_curves_of_a_training() -> None:
    page = Page(to_training_page(make_log()))
    assert page.open == []
    curves = page.curves()
    assert set(curves) == {
        "Training loss by step",
        "Held-out log-loss by epoch",
        "Learning rate by step",
        "Gradient norm by step",
    }
    raw, mean = curves["Training loss by step"]
    assert len(raw) == len(mean) == 90
    assert [y for _, y in raw] == sorted(y for _, y in raw)  # pixels count downwards: the loss falls
    (held,) = curves["Held-out log-loss by epoch"]
    assert held[1][1] > held[0][1] == held[2][1]  # the second epoch is the lowest
    (rate,) = curves["Learning rate by step"]
    slopes = np.diff(np.array(rate), axis=0)
    assert np.ptp(slopes[:, 1]) < 0.11  # linear, but for the rounding of the pixels


def test_the_chosen_epoch_and_the_clip_are_marked() -> None:
    page = to_training_page(make_log())
    assert [text for text in ("end of epoch 2", ">chosen<", ">clip<") if text not in page] == []
    marks = re.findall(
        r'<line x1="([\d.]+)" x2="\1" y1="[\d.]+" y2="[\d.]+" stroke="#[0-9a-f]+" stroke-width="1.3"', page
    )
    (held,) = Page(page).curves()["Held-out log-loss by epoch"]
    raw, _ = Page(page).curves()["Training loss by step"]
    assert [float(mark) for mark in marks] == [raw[59][0], held[1][0]]  # after 60 of 90 steps; the second of three


def test_every_figure_of_the_log_stands_on_the_page() -> None:
    text = Page(to_training_page(make_log())).text
    for said in (
        "How small was trained",
        "lora on a/base, head own · 1,440 rows · 3 epochs · 90 steps",
        "rank 64 is high for 1,440 rows.",
        "10.0 % of the steps were clipped to 1.",
        "2, chosen 0.5 0.41 82.0 %",
        "3 0.3333 0.42 83.0 %",
        "297,219 of 109,781,766 numbers",
        "Accuracy 60.0 % 80.0 %",
        "Macro F1 0.5 0.5",
        "Calibration error 3.10 % 3.10 %",
        "Neutral called positive 35.0 % 5.00 %",
        "Perplexity 20 25",
        "Over 3,391 tokens",
        "rank 64 8",
        "learning rate 0.001 0.0004",
        "weights 438 MB",
        "total 1.25 GB",
        "target modules query, value",
    ):
        assert said in text, said
    drawn = [
        attributes["aria-label"] for tag, attributes in Page(to_training_page(make_log())).elements if tag == "svg"
    ]
    assert drawn.count("Confusion") == 2


def test_what_is_not_known_is_left_out() -> None:
    log = make_log(steps=3, epochs=1, chosen=1)
    bare = {key: log[key] for key in ("settings", "steps", "epochs", "chosen_epoch")}
    page = Page(to_training_page(bare))
    assert page.open == []
    assert "How the model was trained" in page.text
    sections = [attributes.get("id") for tag, attributes in page.elements if tag == "section"]
    assert sections == ["short", "curves", "epochs", "plan"]
    assert "Memory" not in page.text
    none = Page(to_training_page({**bare, "steps": []}))
    assert list(none.curves()) == ["Held-out log-loss by epoch"]


def test_why_nothing_was_measured_is_said() -> None:
    page = Page(to_training_page({**make_log(), "forgetting": {"reason": "an encoder predicts no next word"}}))
    assert "Not measured: an encoder predicts no next word." in page.text
    ruined = Page(to_training_page({**make_log(), "forgetting": {"base": 20.0, "tuned": None, "tokens": 9}}))
    assert "Perplexity 20 –" in ruined.text


def test_a_page_runs_nothing_and_asks_the_network_for_nothing() -> None:
    log = make_log()
    for key in ("recipe",):
        log[key] = EVIL
    log["plan"] |= {"base": EVIL, "head": EVIL, "warnings": [EVIL]}
    log["plan"]["advice"]["because"] = EVIL
    log["settings"] |= {EVIL: EVIL, "target_modules": [EVIL]}
    log["forgetting"] = {"reason": EVIL}
    page = to_training_page(log, source=EVIL)
    read = Page(page)
    assert read.open == []
    assert {tag for tag, _ in read.elements} & {"script", "link", "img", "iframe", "base", "a"} == set()
    assert [key for _, attributes in read.elements for key in attributes if key.startswith("on")] == []
    assert "http" not in re.sub(r'http-equiv="', "", page)
    (policy,) = [a["content"] for tag, a in read.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert (policy or "").startswith("default-src 'none';")
    assert "{{plan}} & <b>" in read.text  # shown as it was written


# --- what it says of the curves --------------------------------------------------------------------------


def says(log: dict[str, Any], words: str) -> bool:
    return any(words in finding.replace("\xa0", " ") for finding in list_findings(log))


def test_the_findings_of_a_training() -> None:
    log = make_log()
    assert says(log, "Epoch 2 of 3 became the model, with a held-out log-loss of 0.41 and 82.0 % right.")
    assert says(log, "Later epochs were no better there (0.42 in the last)")
    assert says(log, "clipped to a norm of 1 in 10.0 % of the steps.")
    assert says(log, "On 100 held-out rows the base was right in 60.0 %, the tuned model in 80.0 %.")
    assert says(log, "Of the neutral rows the base called 35.0 % positive, the tuned model 5.00 %.")
    assert says(log, "went from 20 to 25 (+25.0 %)")
    assert not says(log, "stopped early")


def test_a_training_that_could_go_on_says_so() -> None:
    assert says(make_log(chosen=3), "more epochs may bring more")
    assert not says(make_log(chosen=3), "Later epochs")
    assert not says(make_log(epochs=1, chosen=1), "more epochs may bring more")


def test_an_early_stop_is_named() -> None:
    log = make_log()
    log["settings"]["epochs"] = 10
    assert says(log, "It stopped early, after 3 of 10 epochs.")


def test_a_gradient_that_is_clipped_at_most_steps_is_a_warning() -> None:
    log = make_log()
    log["settings"]["clip"] = 0.1
    assert says(log, "in 100 % of the steps; a lower learning rate may serve better")


def test_steps_that_float16_left_out_are_counted() -> None:
    log = make_log()
    for row in log["steps"][20:24]:
        del row["gradient_norm"]
    assert says(log, "4 steps had no finite gradient")
    assert says(log, "in 10.5 % of the steps")  # 9 of 86
    for row in log["steps"]:
        row.pop("gradient_norm", None)
    assert "No step had a finite gradient." in Page(to_training_page(log)).text


# --- charts ----------------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.just(0.5), min_size=1, max_size=50),
    zero=st.booleans(),
    clip=st.floats(1e-3, 1e3),
)
@example(values=[2.0, 1.1125369292536007e-308], zero=False, clip=1.0)
def test_a_chart_stays_within_its_frame(values: list[float], zero: bool, clip: float) -> None:
    zero = zero and min(values) >= 0
    lines = [Line(list(enumerate(values, start=1)), "#000")]
    powers = min(values) > 0
    page = draw_curve(lines, across="step", up="a", said="b", rules=[Rule(clip, "clip")], zero=zero, powers=powers)
    numbers = re.findall(r' points="([^"]*)"', page)[0].replace(",", " ").split()
    places = np.array(numbers, dtype=float).reshape(-1, 2)
    assert ((places[:, 0] >= 52) & (places[:, 0] <= 406)).all()
    assert ((places[:, 1] >= 20) & (places[:, 1] <= 232)).all()
    assert "nan" not in page
    assert page.count("<text") >= 5  # both axes have numbers and a name


@given(low=st.floats(-1e5, 1e5), width=st.floats(1e-4, 1e6), whole=st.booleans())
def test_ticks_are_round_few_and_within(low: float, width: float, whole: bool) -> None:
    ticks = to_ticks(low, low + width, most=6, whole=whole)
    assert len(ticks) <= 6
    assert all(low - 1e-6 * width - 1e-9 <= tick <= low + width + 1e-6 * width + 1e-9 for tick in ticks)
    if whole:
        assert all(tick == round(tick) for tick in ticks)
    elif len(ticks) > 2:
        steps = np.diff(ticks)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
        assert round(float(f"{steps[0]:.3e}"[:5]), 1) in (1.0, 2.0, 5.0, 10.0)


def test_powers_are_round_and_few() -> None:
    assert to_powers(0.09, 3) == [0.1, 0.2, 0.5, 1.0, 2.0]
    assert to_powers(1e-4, 1e4) == [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4]


def test_no_spike_is_lost_where_a_line_is_thinned() -> None:
    points = [(step, 1.0 + step % 7) for step in range(20_000)]
    points[12_345] = (12_345, 99.0)
    points[777] = (777, -5.0)
    kept = thin(points)
    assert len(kept) <= MOST
    assert {points[0], points[-1], points[777], points[12_345]} <= set(kept)
    assert kept == sorted(kept)


def test_the_running_mean_keeps_a_level_and_takes_out_the_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 1000)
    found = smooth([(step, 3 + value) for step, value in enumerate(noise)])
    assert [step for step, _ in found] == list(range(1000))
    values = np.array([value for _, value in found])
    assert values.std() < 0.25
    assert values[500] == pytest.approx(3 + noise[475:526].mean())
    assert values[0] == pytest.approx(3 + noise[:26].mean())


# --- files -----------------------------------------------------------------------------------------------


def test_the_page_stands_beside_its_log(tmp_path: Path) -> None:
    (tmp_path / "training-two.json").write_text(json.dumps(make_log()), encoding="utf-8")
    written = write_training_page(tmp_path, "training-two.json")
    assert written == tmp_path / "training-two.html"
    page = written.read_text(encoding="utf-8")
    assert page == to_training_page(make_log(), source="training-two.json")
    assert "drawn from training-two.json" in Page(page).text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training-two.html", "training-two.json"]


def test_a_folder_without_a_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"training\.json: no such file; only a model that was tuned here"):
        write_training_page(tmp_path)


def drop(key: str) -> str:
    return json.dumps({name: value for name, value in make_log().items() if name != key})


def without(key: str) -> str:
    log = copy.deepcopy(make_log())
    for row in log["steps"]:
        del row[key]
    return json.dumps(log)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as the log of a training"),
        ("\udcff", "cannot be read as the log of a training"),
        ("[]", "is not the log of a training"),
        ("{}", "is not the log of a training .KeyError: 'epochs'"),
        (drop("chosen_epoch"), "KeyError: 'chosen_epoch'"),
        (drop("settings"), "KeyError: 'settings'"),
        (without("learning_rate"), "KeyError: 'learning_rate'"),
        (json.dumps({**make_log(), "epochs": []}), "is not the log of a training"),
        (json.dumps({**make_log(), "chosen_epoch": 9}), "is not the log of a training"),
        (json.dumps({**make_log(), "epochs": "many"}), "is not the log of a training"),
    ],
)
def test_a_log_that_is_none_is_refused_and_leaves_no_page(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=said):
        write_training_page(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training.json"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps(make_log()), encoding="utf-8")
    (tmp_path / "training.html").mkdir()
    with pytest.raises(SourceError, match="cannot be written"):
        write_training_page(tmp_path)
