"""Scoring with a hand-made graph whose logits are known: order of labels, neighbours, repeats, damaged folders."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from finsignal.clock import make_bars
from finsignal.errors import ModelError, TableError
from finsignal.features import aggregate_sentiment
from finsignal.lake import open_lake
from finsignal.sentiment.prompt import to_named
from finsignal.sentiment.score import digest_of, load_model, score_news, score_texts
from finsignal.study.scoring import score_known
from finsignal.tables import INSTANT, LABELS, NEWS, PROBABILITIES, SENTIMENT

# The logits of a text are the mean of its words' rows: columns are negative, neutral, positive.
WORDS = {
    "[UNK]": (0.0, 0.0, 0.0),
    "down": (4.0, 0.0, 0.0),
    "flat": (0.0, 4.0, 0.0),
    "up": (0.0, 0.0, 4.0),
}


def write_folder(folder: Path, *, names: tuple[str, ...] = LABELS, **changes: Any) -> Path:
    """A model folder whose graph's outputs stand in the order of `names`."""
    folder.mkdir()
    rows = np.array(list(WORDS.values()), dtype=np.float32)
    known = [LABELS.index(name) if name in LABELS else place for place, name in enumerate(names)]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["rows", "input_ids"], ["words"]),
            helper.make_node("ReduceMean", ["words"], ["logits"], axes=[1], keepdims=0),
        ],
        "words",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.ascontiguousarray(rows[:, known]), "rows")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(length=9)  # a tokenizer file may ask for padding; scoring must not follow it
    tokenizer.save(str(folder / "tokenizer.json"))
    card = {
        "name": "words",
        "labels": list(names),
        "max_tokens": 4,
        "temperature": 1.0,
        "trained_until": "2023-01-01T00:00:00+00:00",
        "data": [{"name": "none"}],
        "base": {"model": "none", "known_until": "2021-09-01T00:00:00+00:00"},
        "files": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "tokenizer.json")
        },
        **changes,
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def softmax(logits: list[float]) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def test_probabilities_are_those_worked_by_hand(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    found = model.predict_proba(["up", "down flat", "Nothing known"])
    assert found.dtype == np.float64
    expected = [softmax([0, 0, 4]), softmax([2, 2, 0]), softmax([0, 0, 0])]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_temperature_divides_the_logits(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m", temperature=2.0))
    np.testing.assert_allclose(model.predict_proba(["up"]), [softmax([0, 0, 2])], atol=1e-7)


@pytest.mark.parametrize("names", [("positive", "negative", "neutral"), ("neutral", "positive", "negative")])
def test_label_order_in_the_card_does_not_move_the_columns(tmp_path: Path, names: tuple[str, ...]) -> None:
    plain = load_model(write_folder(tmp_path / "plain"))
    shuffled = load_model(write_folder(tmp_path / "shuffled", names=names))
    texts = ["up", "down flat", "flat flat up"]
    np.testing.assert_array_equal(plain.predict_proba(texts), shuffled.predict_proba(texts))
    assert plain.name != shuffled.name


def test_other_label_names_need_a_map(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", names=("bearish", "neutral", "bullish"))
    with pytest.raises(ModelError, match="Pass a label map"):
        load_model(folder)
    model = load_model(folder, label_map={"bearish": "negative", "bullish": "positive"})
    np.testing.assert_allclose(model.predict_proba(["down"]), [softmax([4, 0, 0])], atol=1e-7)


def test_a_text_is_cut_at_max_tokens_and_never_padded(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    found = model.predict_proba(["up up up up down", "up up up up", "up"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])


def test_a_text_without_anything_is_neutral_for_certain(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    found = model.predict_proba(["", "  \n", "https://t.co/x", "\x00", "up"])
    np.testing.assert_array_equal(found[:4], [[0.0, 1.0, 0.0]] * 4)
    assert found[4, 2] > 0.9


def test_no_texts_give_no_rows_and_no_text_is_refused(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    assert model.predict_proba([]).shape == (0, 3)
    assert score_texts([], model).shape == (0, 3)
    with pytest.raises(TableError, match="row 1 is NoneType"):
        model.predict_proba(["up", None])  # type: ignore[list-item]
    with pytest.raises(TableError, match="row 1 is float"):
        score_texts(["up", float("nan")], model)  # type: ignore[list-item]


def test_equal_texts_are_run_once_and_any_iterable_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    seen: list[list[str]] = []
    real = type(model).predict_proba

    def spy(self: Any, texts: list[str], targets: list[str] | None = None, *, progress: bool = False) -> np.ndarray:
        seen.append(list(texts))
        return real(self, texts, targets, progress=progress)

    monkeypatch.setattr(type(model), "predict_proba", spy)
    found = score_texts((text for text in ["up", "down", "up", "up"]), model)
    assert seen == [["up", "down"]]
    assert list(found.columns) == list(PROBABILITIES)
    assert found["p_positive"].round(3).tolist() == [0.965, 0.018, 0.965, 0.965]


def make_news(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """(article_id, symbol, title, text), all published at one instant."""
    when = pd.Timestamp("2024-03-01 12:00", tz="UTC")
    frame = pd.DataFrame(rows, columns=["article_id", "symbol", "title", "text"])
    never = pd.Series([pd.NaT] * len(rows), dtype=INSTANT)
    frame = frame.assign(published=when, first_seen=never, recorded=never, time=when, source="s", url="", story="")
    return NEWS.to_table(frame.assign(relevance=1.0))


def test_a_target_is_the_second_of_a_pair_and_only_a_target_aware_model_reads_it(tmp_path: Path) -> None:
    aware, plain = load_model(write_folder(tmp_path / "a", target_aware=True)), load_model(write_folder(tmp_path / "p"))
    texts, targets = ["up", "up", "up"], ["", "down", " flat\n"]
    found = aware.predict_proba(texts, targets)
    np.testing.assert_allclose(found, [softmax([0, 0, 4]), softmax([2, 0, 2]), softmax([0, 2, 2])], atol=1e-7)
    np.testing.assert_array_equal(score_texts(texts, aware, targets=targets).to_numpy(), found)
    np.testing.assert_array_equal(plain.predict_proba(texts, targets), plain.predict_proba(texts))
    np.testing.assert_array_equal(score_texts(texts, plain, targets=targets), plain.predict_proba(texts))
    assert aware.target_aware
    assert not plain.target_aware
    with pytest.raises(TableError, match="2 for 3 texts"):
        aware.predict_proba(texts, ["", ""])
    with pytest.raises(TableError, match="targets: row 1 is float"):
        aware.predict_proba(texts, ["", float("nan"), ""])  # type: ignore[list-item]


def test_a_symbol_is_asked_about_by_the_name_that_stands_in_the_text(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m", target_aware=True))
    news = make_news(
        [("a1", "X", "up down", ""), ("a1", "Y", "up down", ""), ("a2", "X", "up", ""), ("a3", "Z", "up", "")]
    )
    names = {"X": ["Downing", "down"], "Y": ["flat", "up"]}
    found = score_news(news, model, names=names).set_index(["symbol", "article_id"])[list(PROBABILITIES)]
    for key, logits in {
        ("X", "a1"): [8 / 3, 0, 4 / 3],  # the words "up down" and the name "down"
        ("Y", "a1"): [4 / 3, 0, 8 / 3],
        ("X", "a2"): [0, 0, 4],  # neither "Downing" nor "down" stands in "up": the text as a whole
        ("Z", "a3"): [0, 0, 4],  # a symbol without names
    }.items():
        np.testing.assert_allclose(found.loc[key], softmax(logits), atol=1e-7, err_msg=str(key))
    whole = score_news(news, model)
    assert whole.loc[whole["article_id"] == "a1", "p_positive"].nunique() == 1


def test_a_single_name_in_place_of_a_list_of_names_is_refused(tmp_path: Path) -> None:
    """Its letters would be names, and "Company A gains" would be asked about A."""
    news = make_news([("APL", "a1", "Company A gains", "")])
    with pytest.raises(TableError, match=r"names: APL has 'Apple'; expected a list of names, such as \['Apple'\]"):
        score_news(news, load_model(write_folder(tmp_path / "m")), names={"APL": "Apple"})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("McDonald\N{RIGHT SINGLE QUOTATION MARK}s gains", "McDonald's"),
        ("Nestle\N{COMBINING ACUTE ACCENT} gains", "Nestl\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("$AT&T (Corp.) gains", "(Corp.)"),
        ("STRASSE AG gains", "Stra\N{LATIN SMALL LETTER SHARP S}e AG"),
    ],
)
def test_a_name_is_found_however_a_feed_writes_it(text: str, name: str) -> None:
    assert to_named(text, ["", "gain", name]) == name


def test_the_lake_never_answers_a_question_about_one_company_with_that_about_another(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m", target_aware=True))
    lake, now = open_lake(tmp_path / "lake", create=True), pd.Timestamp("2024-03-02", tz="UTC")
    news = make_news([("a1", "X", "up down", ""), ("a1", "Y", "up down", "")])
    names = {"X": ["down"], "Y": ["up"]}
    for asked, read in ((None, 1), (names, 2), (names, 0), (None, 0), ({"X": ["down"]}, 0)):
        found, scored = score_known(lake, news, model, now=now, names=asked)
        assert scored == read
        pd.testing.assert_frame_equal(found, score_news(news, model, names=asked), check_exact=True)


def test_news_of_two_symbols_gives_two_rows_and_each_input_is_run_once(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    news = make_news([("a1", "X", "up", ""), ("a1", "Y", "up", ""), ("a2", "X", "", "down"), ("a3", "X", "", "")])
    found = score_news(news, model)
    SENTIMENT.check(found)
    assert found[["symbol", "article_id"]].to_numpy().tolist() == [["X", "a1"], ["X", "a2"], ["Y", "a1"]]
    assert found["p_positive"].round(3).tolist() == [0.965, 0.018, 0.965]
    assert set(found["model"]) == {model.name}
    assert (found["time"] == pd.Timestamp("2024-03-01 12:00", tz="UTC")).all()
    assert len(score_news(NEWS.empty(), model)) == 0


def test_a_bare_link_gets_no_row_and_so_no_weight_in_a_decision(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    spoken = ("a1", "X", "", "up")
    links = [("a2", "X", "https://t.co/x", ""), ("a3", "X", " ", "https://t.co/y \x00"), ("a4", "Z", "", "www.a.b")]
    found = score_news(make_news([spoken, *links]), model)
    assert found["article_id"].tolist() == ["a1"]
    SENTIMENT.check(score_news(make_news(links), model))
    assert score_news(make_news(links), model).empty

    bars = make_bars("24x7", "1h", start="2024-03-01 11:00", end="2024-03-01 15:00", latency=pd.Timedelta("1min"))
    options = {"half_life": 5.0, "max_age": 10, "min_relevance": 0.0, "source_weights": {}}
    alone, beside = (
        aggregate_sentiment(news, score_news(news, model), bars, ["X", "Z"], **options)
        for news in (make_news([spoken]), make_news([spoken, *links]))
    )
    pd.testing.assert_frame_equal(beside, alone)
    assert alone.groupby("symbol")["sent_count"].max().tolist() == [1.0, 0.0]


def test_progress_goes_to_stderr_and_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    model.predict_proba(["up"])
    assert capsys.readouterr() == ("", "")
    model.predict_proba(["up"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "scoring" in err


# --- damaged and foreign folders --------------------------------------------------------------------------------------


def test_the_name_follows_all_that_decides_a_probability(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    model = load_model(folder)
    assert model.name == f"words@{digest_of(card)[:12]}"
    assert model.trained_until == pd.Timestamp("2023-01-01", tz="UTC")
    assert model.base_cutoff == pd.Timestamp("2021-09-01", tz="UTC")
    for change in ({"temperature": 1.5}, {"max_tokens": 5}, {"labels": list(reversed(LABELS))}, {"target_aware": True}):
        assert digest_of(card | change) != digest_of(card)
    assert digest_of(card | {"made": "some other day"}) == digest_of(card)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_or_altered_file_is_named_with_both_digests(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "m")
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole + b" ")
    with pytest.raises(ModelError, match=rf"{name} was altered: expected SHA-256 \w{{64}}, found \w{{64}}"):
        load_model(folder)
    path.unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing; expected SHA-256 \w{{64}}"):
        load_model(folder)


def test_a_folder_cut_short_or_not_listing_its_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "absent")
    folder = write_folder(tmp_path / "m", files={})
    with pytest.raises(ModelError, match=r"lists no file 'model\.onnx'"):
        load_model(folder)
    (folder / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not JSON"):
        load_model(folder)
    (folder / "card.json").unlink()
    with pytest.raises(ModelError, match="cut short"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"temperature": -1}, r"temperature is -1; expected a finite number above 0"),
        ({"temperature": 0}, "temperature is 0;"),
        ({"temperature": float("nan")}, "temperature is NaN;"),
        ({"temperature": float("inf")}, "temperature is Infinity;"),
        ({"temperature": True}, "temperature is true;"),
        ({"temperature": "x"}, 'temperature is "x";'),
        ({"max_tokens": 0}, "max_tokens is 0; expected a whole number above 0"),
        ({"max_tokens": 4.5}, "max_tokens is 4.5;"),
        ({"trained_until": "2023-01-01T00:00:00"}, 'trained_until is "2023-01-01T00:00:00"; expected .* with a zone'),
        ({"trained_until": "soon"}, "trained_until is"),
        ({"trained_until": None}, "trained_until is null"),
        ({"base": "MiniLM"}, 'base is "MiniLM"; expected an object'),
        ({"base": {}}, r"no key 'base\.known_until'"),
        ({"base": {"known_until": "2021-09-01"}}, r"base\.known_until is .* with a zone"),
        ({"data": {"name": "tfns"}}, "data is .*; expected a list of data sets"),
        ({"data": ["tfns"]}, "each an object with a name"),
        ({"data": [{"path": "x"}]}, "each an object with a name"),
        ({"files": ["model.onnx", "tokenizer.json"]}, "files is .*; expected an object"),
        ({"labels": "negative"}, "labels is .*; expected a list of names"),
        ({"name": 3}, "name is 3; expected a name"),
    ],
)
def test_a_card_whose_values_cannot_be_meant_is_refused_with_key_expected_and_found(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    folder = write_folder(tmp_path / "m", **change)
    with pytest.raises(ModelError, match=rf"card\.json.*{match}"):
        load_model(folder)


def test_a_card_that_is_no_object_or_lacks_a_key_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"card\.json holds \[\]; expected an object"):
        load_model(folder)
    for key in card:
        (folder / "card.json").write_text(json.dumps({k: v for k, v in card.items() if k != key}), encoding="utf-8")
        with pytest.raises(ModelError, match=f"no key '{key}'"):
            load_model(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "sub/weights.PKL", "last.ckpt"])
def test_a_folder_with_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "m")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"never read")
    with pytest.raises(ModelError, match="never loaded"):
        load_model(folder)


def test_a_moved_folder_is_the_same_model(tmp_path: Path) -> None:
    first = load_model(write_folder(tmp_path / "m"))
    shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere") == first


# --- a folder that is swapped -----------------------------------------------------------------------------------------


def swap(folder: Path, other: Path) -> None:
    """Another model, whole and valid, in the place of a folder; its files are written over, not only renamed."""
    for path in other.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def test_a_folder_swapped_after_loading_changes_nothing(tmp_path: Path) -> None:
    model = load_model(write_folder(tmp_path / "m"))
    before = model.predict_proba(["up", "down flat"])
    other = write_folder(tmp_path / "other", names=("positive", "neutral", "negative"))
    swap(tmp_path / "m", other)
    np.testing.assert_array_equal(model.predict_proba(["up", "down flat"]), before)
    assert load_model(tmp_path / "m").name == load_model(other).name != model.name


def test_a_folder_swapped_between_check_and_use_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "m")
    expected = load_model(folder)
    other = write_folder(tmp_path / "other", names=("positive", "neutral", "negative"), max_tokens=1)
    real = onnxruntime.SessionOptions
    swapped = []

    def swap_first() -> Any:  # made after every file was read and verified, before graph and tokenizer are built
        swap(folder, other)
        (folder / "tokenizer.json").write_text("{}")
        swapped.append(folder)
        return real()

    monkeypatch.setattr(onnxruntime, "SessionOptions", swap_first)
    model = load_model(folder)
    assert swapped == [folder]
    texts = ["up", "down flat", "up up up down"]
    np.testing.assert_array_equal(model.predict_proba(texts), expected.predict_proba(texts))
    assert (model.name, model.digest) == (expected.name, expected.digest)
    assert model.card == expected.card


def test_a_folder_swapped_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "m")
    other = write_folder(tmp_path / "other", names=("positive", "neutral", "negative"))
    real = Path.read_text

    def read_then_swap(path: Path, **options: Any) -> str:
        text = real(path, **options)
        swap(folder, other)
        return text

    monkeypatch.setattr(Path, "read_text", read_then_swap)
    with pytest.raises(ModelError, match=r"file model\.onnx was altered"):
        load_model(folder)


def test_each_file_is_read_once_and_its_bytes_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "m")
    read: list[str] = []
    real = io.open

    def spy(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).startswith(str(folder)):
            read.append(Path(file).name)
        return real(file, *arguments, **options)

    monkeypatch.setattr(io, "open", spy)
    model = load_model(folder)
    assert sorted(read) == ["card.json", "model.onnx", "tokenizer.json"]
    assert [name for name, value in vars(model.session).items() if isinstance(value, bytes) and len(value) > 100] == []


def test_a_file_that_the_card_lists_is_verified_though_scoring_does_not_need_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    (folder / "adapter.safetensors").write_bytes(b"weights")
    card["files"]["adapter.safetensors"] = hashlib.sha256(b"weights").hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    load_model(folder)
    (folder / "adapter.safetensors").write_bytes(b"others")
    with pytest.raises(ModelError, match=r"file adapter\.safetensors was altered"):
        load_model(folder)


def test_weights_outside_the_graph_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # They would not be those verified: of a graph given as bytes, the runtime seeks them in the working folder.
    folder = write_folder(tmp_path / "m")
    graph = onnx.load(folder / "model.onnx")
    onnx.save(graph, folder / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    card = json.loads((folder / "card.json").read_text())
    card["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["files"]}
    (folder / "card.json").write_text(json.dumps(card))
    monkeypatch.chdir(folder)
    assert Path("weights").is_file()
    with pytest.raises(ModelError, match=r"model\.onnx cannot be loaded"):
        load_model(folder)
