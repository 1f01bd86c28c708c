"""The manifest of a run folder names all that the run was made of; verify_run makes it again, or says why not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import NOW, REPO, TINY_RUN, make_tiny_news, write_tiny
from test_sentiment_score import write_folder

from finsignal.config import RunFile, read_run
from finsignal.errors import ManifestError, TableError
from finsignal.sources.files import Counts
from finsignal.study import Inputs, Request, Study, manifest, request, run_request, verify, verify_run, write_study
from finsignal.study.manifest import digest_of_file, digest_of_table, find_gaps, read_manifest, to_request

MAPPED = {"by": "text", "time": "when", "title": "headline", "label": "mood"}
WORD_TEXTS = {"soars": "up", "slumps": "down", "meets": "flat"}  # the words that the model folder knows


@dataclass(frozen=True)
class Made:
    """A run folder and the folder of what it was made of: run file, strategies, prices, news, scores and model."""

    inputs: Path
    run: Path


def write_inputs(folder: Path) -> Path:
    write_tiny(folder)
    text = TINY_RUN
    for name in ("news_sentiment.py", "price_features.py"):
        shutil.copy(REPO / "strategies" / name, folder / name)
        text = text.replace(str(REPO / "strategies" / name), name)
    (folder / "run.toml").write_text(text, encoding="utf-8")
    news = make_tiny_news()
    for word, known in WORD_TEXTS.items():
        news["title"] = news["title"].str.replace(word, known)
    news.to_csv(folder / "news.csv", index=False)
    mood = news["title"].str.extract("(up|down|flat)")[0].map({"up": "positive", "down": "negative", "flat": "neutral"})
    scores = pd.DataFrame({"when": news["published"], "headline": news["title"], "mood": mood})
    scores.to_csv(folder / "mine.csv", index=False)
    write_folder(folder / "model")
    return folder


def ask(inputs: Path) -> Request:
    run = read_run(inputs / "run.toml", sentiment=MAPPED)
    return Request(run, NOW, model=inputs / "model", sentiment=inputs / "mine.csv")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    base = tmp_path_factory.mktemp("made")
    (base / "inputs").mkdir()
    inputs = write_inputs(base / "inputs")
    return Made(inputs, write_study(run_request(ask(inputs)), base / "run"))


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Iterator[Made]:
    """The run folder and its inputs, which a test may change: they are put back at its end."""
    base = original.inputs.parent
    shutil.copytree(base, tmp_path / "kept")
    yield original
    for name in ("inputs", "run"):
        shutil.rmtree(base / name, ignore_errors=True)
        shutil.copytree(tmp_path / "kept" / name, base / name)


# --- made again ------------------------------------------------------------------------------------------------------


def test_a_run_is_made_again_bit_by_bit(original: Made) -> None:
    found = verify_run(original.run)
    assert found.changed == ()
    assert set(found.files) == {path.name for path in original.run.iterdir()} - {"manifest.json"}
    assert {"summary.json", "report.html", "trades.parquet"} <= set(found.files)
    assert len(pd.read_parquet(original.run / "trades.parquet")) > 5  # there is something to differ


@pytest.mark.slow
def test_neither_the_working_folder_nor_where_the_run_folder_lies_matters(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.inputs)
    near = Request(
        read_run("run.toml", sentiment=MAPPED), NOW, model=Path("model"), sentiment=Path("../inputs/mine.csv")
    )
    write_study(run_request(near), Path("../near"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.move(made.inputs.parent / "near", tmp_path / "elsewhere" / "moved")
    assert verify_run(Path("moved")).changed == ()


def test_it_is_repeated_at_its_own_instant(made: Made) -> None:
    late = replace(ask(made.inputs), now=NOW + pd.Timedelta("1h"))
    again = write_study(run_request(late), made.inputs.parent / "run")
    assert pd.read_parquet(again / "news.parquet")["recorded"].eq(late.now).all()
    assert verify_run(again).changed == ()


@pytest.mark.parametrize("path", sorted((REPO / "strategies").glob("*.toml")), ids=lambda path: path.stem)
def test_settings_give_the_request_again(path: Path) -> None:
    run = read_run(path)
    if not run.lake:
        run = replace(run, news_path="/elsewhere/news.csv", prices_path=("AAPL=/elsewhere/a=b.csv",))
    for asked in (Request(run, NOW), Request(run, NOW, model=Path("/m"), sentiment=Path("/s.csv"))):
        assert to_request(json.loads(json.dumps(asked.to_settings()))) == asked
    assert (Path("/elsewhere/a=b.csv") in asked.find_files()) is not bool(run.lake)


# --- what changed is named -------------------------------------------------------------------------------------------

Change = Callable[[Made], None]


def edit(name: str, old: str, new: str) -> Change:
    """One edit of an input file or, as run/NAME, of a file in the run folder."""

    def apply(made: Made) -> None:
        path = made.run / name[4:] if name.startswith("run/") else made.inputs / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return apply


def drop(name: str) -> Change:
    return lambda made: (made.run / name[4:] if name.startswith("run/") else made.inputs / name).unlink()


def in_trades(made: Made) -> None:
    path = made.run / "trades.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "symbol"] = "ZZZ"
    table.to_parquet(path, index=False)


def other_model(made: Made) -> None:
    shutil.rmtree(made.inputs / "model")
    write_folder(made.inputs / "model", names=("positive", "neutral", "negative"))


def other_card(made: Made) -> None:
    path = made.inputs / "model" / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**card, "trained_until": "2024-01-01T00:00:00+00:00"}), encoding="utf-8")


DIGESTS = r"its SHA-256 was [0-9a-f]{12}, is [0-9a-f]{12}"

CHANGES: dict[str, tuple[Change, str]] = {
    "news edited": (edit("news.csv", "Alder", "Adler"), rf"/news\.csv changed: {DIGESTS}"),
    "prices edited": (edit("prices.csv", "AAA,", "AAA,9"), rf"/prices\.csv changed: {DIGESTS}"),
    "scores edited": (edit("mine.csv", "positive", "negative"), rf"/mine\.csv changed: {DIGESTS}"),
    "run file edited": (edit("run.toml", "slots = 2", "slots = 1"), rf"/run\.toml changed: {DIGESTS}"),
    "strategy edited": (edit("news_sentiment.py", "0.3", "0.4"), rf"/news_sentiment\.py changed: {DIGESTS}"),
    "baseline edited": (edit("price_features.py", '"""', '""" '), rf"/price_features\.py changed: {DIGESTS}"),
    "news gone": (drop("news.csv"), r"/news\.csv is missing or cannot be read"),
    "strategy gone": (drop("news_sentiment.py"), r"/news_sentiment\.py is missing or cannot be read"),
    "model altered": (
        lambda made: (made.inputs / "model" / "tokenizer.json").write_text("{}") and None,
        r"model \S+/model changed: \S+: file tokenizer\.json was altered",
    ),
    "model gone": (lambda made: shutil.rmtree(made.inputs / "model"), r"model \S+ changed: \S+: no such model folder"),
    "another model": (other_model, r"model \S+ changed: model\.onnx \(it was words@\w{12}, is words@\w{12}\)"),
    "another card": (other_card, r"model \S+ changed: its card"),
    "table altered": (in_trades, r"trades\.parquet of the folder was altered"),
    "table torn": (
        lambda made: (made.run / "equity.parquet").write_bytes(b"PAR1") and None,
        r"equity\.parquet of the folder was altered",
    ),
    "table gone": (drop("run/orders.parquet"), r"orders\.parquet of the folder is missing"),
    "summary altered": (edit("run/summary.json", "Simulated", "Real"), r"summary\.json of the folder was altered"),
    "report altered": (edit("run/report.html", "Simulated", "Real"), r"report\.html of the folder was altered"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_is_named_and_nothing_is_repeated(made: Made, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, named = CHANGES[case]
    change(made)
    monkeypatch.setattr(verify, "run_read", lambda read: pytest.fail("repeated in spite of the change"))
    with pytest.raises(ManifestError, match=named) as told:
        verify_run(made.run)
    assert ";" not in str(told.value)  # that alone
    assert "--anyway" in str(told.value)


def test_everything_that_changed_is_named_at_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    edit("news.csv", "Alder", "Adler")(made)
    in_trades(made)
    packages, place, code = manifest.find_packages(), manifest.find_platform(), manifest.digest_code()
    monkeypatch.setattr(verify, "find_packages", lambda: {**packages, "numpy": "9.9.9", "numba": None})
    monkeypatch.setattr(verify, "find_platform", lambda: {**place, "machine": "vax"})
    files = {name: digest for name, digest in code["files"].items() if name != "clock.py"}
    monkeypatch.setattr(verify, "digest_code", lambda: {"files": {**files, "signals.py": "0", "new.py": "1"}})
    with pytest.raises(ManifestError) as told:
        verify_run(made.run)
    for words in (
        "trades.parquet of the folder was altered; ",
        "news.csv changed: ",
        f"package numpy was {packages['numpy']}, is 9.9.9; ",
        f"package numba was {packages['numba']}, is missing; ",
        f"machine was {place['machine']}, is vax; ",
        "finsignal's code changed: clock.py, new.py, signals.py. ",
    ):
        assert words in str(told.value)


def test_another_processor_alone_is_no_change(original: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {**manifest.find_platform(), "processor": "another"}
    monkeypatch.setattr(verify, "find_platform", lambda: place)
    assert verify.find_changes(original.run, read_manifest(original.run)) == []


def test_inputs_that_are_read_otherwise_are_named_though_no_file_changed(
    original: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = request.read_inputs

    def fewer(run: RunFile, *, now: pd.Timestamp) -> Inputs:
        inputs = real(run, now=now)
        return replace(inputs, prices=inputs.prices[:-1])

    monkeypatch.setattr(request, "read_inputs", fewer)
    with pytest.raises(ManifestError, match=r"the prices read from the files changed: the digest was \w{12}, is"):
        verify_run(original.run)


# --- repeated anyway -------------------------------------------------------------------------------------------------


def test_anyway_repeats_and_lists_what_changed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    in_trades(made)  # the repeat is held against what is on record, not against what lies there now
    monkeypatch.setattr(verify, "find_packages", lambda: {**manifest.find_packages(), "tzdata": "1900a"})
    found = verify_run(made.run, anyway=True)
    assert found.changed[0] == "trades.parquet of the folder was altered"
    assert found.changed[1].startswith("package tzdata was ")
    assert "trades.parquet" in found.files


def test_anyway_names_the_first_difference_and_what_changed(made: Made) -> None:
    path = made.inputs / "mine.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("positive", "negative"), encoding="utf-8")
    named = (
        r"repeat differs: sentiment\.parquet row \d+, column p_negative: was 0\.0, is 1\.0\. Changed since: .*mine\.csv"
    )
    with pytest.raises(ManifestError, match=named):
        verify_run(made.run, anyway=True)


@pytest.mark.slow
def test_a_run_that_does_not_repeat_itself_is_told_with_row_and_column(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.inputs / "news_sentiment.py"
    text = path.read_text(encoding="utf-8").replace("import pandas as pd", "import os\n\nimport pandas as pd")
    path.write_text(
        text.replace("    enough = ", '    buy_threshold += float(os.environ.get("MOOD", "0"))\n    enough = '),
        encoding="utf-8",
    )
    folder = write_study(run_request(ask(made.inputs)), made.run)
    assert verify_run(folder).changed == ()
    monkeypatch.setenv("MOOD", "2")
    with pytest.raises(
        ManifestError, match=r"differs: parameters\.parquet row \d+, column value: was 0\.2, is 0\.99\."
    ) as told:
        verify_run(folder)
    assert "Changed since" not in str(told.value)


# --- folders that cannot be verified ---------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_folder_or_an_older_one_is_one_sentence(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such run folder"):
        verify_run(tmp_path / "absent")
    with pytest.raises(ManifestError, match=r"is no run folder; it holds no summary\.json"):
        verify_run(tmp_path)
    (made.run / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"has no manifest\.json; finsignal wrote none when this run was made"):
        verify_run(made.run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "was altered"),
        (b"{}", "was altered"),
    ],
)
def test_a_manifest_that_is_none_is_one_sentence(made: Made, content: bytes, message: str) -> None:
    (made.run / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        verify_run(made.run)


def test_a_manifest_that_was_edited_proves_nothing(made: Made) -> None:
    edit("run/manifest.json", '"slots": 2', '"slots": 3')(made)
    for anyway in (False, True):
        with pytest.raises(ManifestError, match=r"manifest\.json of the folder was altered, so it proves nothing"):
            verify_run(made.run, anyway=anyway)


def test_a_study_of_tables_from_python_is_checked_but_not_repeated(tiny_study: Study, tmp_path: Path) -> None:
    folder = write_study(tiny_study, tmp_path / "run")
    with pytest.raises(ManifestError, match="is as its manifest says, but was made from tables in Python"):
        verify_run(folder)
    content = read_manifest(folder)
    assert content["data"]["tables"]["news"] == digest_of_table(tiny_study.news)
    assert set(content["data"]["sentiment"]) == {"words", "opposite"}
    (folder / "summary.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"summary\.json of the folder was altered"):
        verify_run(folder)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_it_says_all_that_decided_the_run(original: Made) -> None:
    content = read_manifest(original.run)
    inputs = original.inputs
    names = {"run.toml", "news_sentiment.py", "price_features.py", "prices.csv", "news.csv", "mine.csv"}
    assert set(content["data"]["files"]) == {str(inputs / name) for name in names}
    assert content["settings"]["now"] == NOW.isoformat()
    assert content["settings"]["model"] == str(inputs / "model")
    assert content["settings"]["run"]["path"] == str(inputs / "run.toml")
    assert content["settings"]["run"]["latency"] == "1min"
    assert content["packages"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert content["packages"]["numpy"] == np.__version__
    assert {"pandas", "pyarrow", "vectorbt", "onnxruntime", "tokenizers", "exchange-calendars"} <= {
        name for name, version in content["packages"].items() if version
    }
    assert {"features.py", "features/texts.py"} & set(content["code"]["files"])
    assert {"study/manifest.py", "report/page.html"} <= set(content["code"]["files"])
    assert not any("default/" in name or name.endswith(".pyc") for name in content["code"]["files"])
    assert content["seeds"] == {}
    assert content["random"].startswith("Every draw of the study has a fixed seed")
    (model,) = content["models"].values()
    assert model["name"] == f"words@{model['digest'][:12]}"
    assert set(model["files"]) == {"model.onnx", "tokenizer.json"}
    assert list(content["data"]["sentiment"]) == ["scores of mine.csv", f"model {model['name']}"]
    assert content["gaps"]["bars"]["AAA"] == {"missing": 0, "longest": []}
    assert [row["symbol"] for row in content["gaps"]["silences"]] == ["AAA"] * 3 + ["BBB"] * 3


def test_it_holds_nothing_of_the_environment(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "the-secret-of-this-test")
    folder = write_study(run_request(ask(made.inputs)), made.run)
    assert not [path for path in folder.iterdir() if b"the-secret-of-this-test" in path.read_bytes()]


def test_missing_bars_are_counted_and_the_longest_runs_named(tiny_run: RunFile, tiny_inputs: Inputs) -> None:
    prices = tiny_inputs.prices
    own = prices.index[prices["symbol"] == "AAA"]
    lost = [0, 10, 11, 30, 31, 32, 50, 118, 119]  # runs of 1, 2, 3, 1 and, at the end, 2
    found = find_gaps(tiny_run, replace(tiny_inputs, prices=prices.drop(own[lost])))["bars"]
    assert found["AAA"]["missing"] == 9
    assert found["AAA"]["longest"] == [
        {"start": "2026-03-03T06:00:00+00:00", "end": "2026-03-03T09:00:00+00:00", "bars": 3},
        {"start": "2026-03-02T10:00:00+00:00", "end": "2026-03-02T12:00:00+00:00", "bars": 2},
        {"start": "2026-03-06T22:00:00+00:00", "end": "2026-03-07T00:00:00+00:00", "bars": 2},
    ]
    assert found["BBB"] == {"missing": 0, "longest": []}
    nothing = Inputs(tiny_inputs.bars, prices[:0], tiny_inputs.news, Counts(), Counts())
    assert find_gaps(tiny_run, nothing)["bars"]["BBB"]["missing"] == 120


# --- digests of tables -----------------------------------------------------------------------------------------------

STAMPS = pd.to_datetime(["2026-01-01T00:00:00.000001Z", None, "2026-01-03T00:00:00Z"], format="ISO8601")
TABLE = {
    "time": pd.Series(STAMPS.as_unit("us")),
    "text": pd.Series(["ab", "c", None], dtype="str"),
    "value": pd.Series([1.0, 0.0, np.nan]),
    "count": pd.Series([1, 2, 3]),
    "held": pd.Series([True, False, True]),
}


def test_a_digest_is_the_same_in_every_process_and_whatever_the_packing(tmp_path: Path) -> None:
    table = pd.DataFrame(TABLE)
    expected = digest_of_table(table)
    code = (
        "import sys, pandas as pd; from finsignal.study.manifest import digest_of_table;"
        "print(digest_of_table(pd.read_parquet(sys.argv[1])))"
    )
    for number, packing in enumerate(({"compression": "gzip"}, {"row_group_size": 1, "use_dictionary": False})):
        path = tmp_path / f"{number}.parquet"
        table.to_parquet(path, index=False, **packing)
        assert digest_of_file(path) == expected
        environment = {**os.environ, "PYTHONHASHSEED": str(number + 1)}
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == expected, done.stderr
    assert (tmp_path / "0.parquet").read_bytes() != (tmp_path / "1.parquet").read_bytes()
    assert digest_of_table(pd.concat([table[:1], table[1:]])[::1]) == expected
    assert digest_of_table(table.set_index(pd.Index([7, 8, 9]))) == expected
    assert digest_of_table(pd.concat([table, table])[3:]) == expected  # a part of larger buffers


def change(column: str, values: list[Any], dtype: str | None = None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: pd.Series(values, dtype=dtype or table[column].dtype)})


@pytest.mark.parametrize(
    "other",
    [
        lambda table: table[::-1],
        lambda table: table[:2],
        lambda table: table[list(table)[::-1]],
        lambda table: table.rename(columns={"value": "values"}),
        lambda table: table.drop(columns="held"),
        change("text", ["a", "bc", None]),
        change("text", ["ab", "c", ""]),
        change("text", ["ab", None, "c"]),
        change("value", [1.0, -0.0, np.nan]),
        change("value", [1.0, np.nan, 0.0]),
        change("value", [np.nextafter(1.0, 2.0), 0.0, np.nan]),
        change("count", [1, 2, 4]),
        change("count", [1, 2, 3], "float64"),
        change("held", [True, True, True]),
        lambda table: table.assign(time=table["time"] + pd.Timedelta(microseconds=1)),
        lambda table: table.assign(time=table["time"].dt.as_unit("ns")),
        lambda table: table.assign(time=table["time"].dt.tz_localize(None)),
    ],
)
def test_whatever_differs_has_another_digest(other: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = pd.DataFrame(TABLE)
    assert digest_of_table(other(table)) != digest_of_table(table)


def test_what_no_table_of_ours_holds_has_no_digest() -> None:
    for values in ([[1], [2]], [{"a": 1}, {"a": 2}], [1, "a"]):
        with pytest.raises(TableError, match="digest: "):
            digest_of_table(pd.DataFrame({"x": values}))


def test_the_first_difference_is_named_in_every_kind_of_file(tmp_path: Path) -> None:
    def tell(name: str, before: object, now: object) -> str:
        paths = []
        for side, content in (("a", before), ("b", now)):
            path = tmp_path / side / name
            path.parent.mkdir(exist_ok=True)
            if isinstance(content, pd.DataFrame):
                content.to_parquet(path, index=False)
            else:
                path.write_text(str(content), encoding="utf-8")
            paths.append(path)
        return verify.find_difference(paths[0], paths[1])

    table = pd.DataFrame(TABLE)
    assert tell("t.parquet", table, change("text", ["ab", "d", None])(table)) == (
        "t.parquet row 1, column text: was 'c', is 'd'"
    )
    assert tell("t.parquet", table, change("text", ["ab", "c", ""])(table)) == (
        "t.parquet row 2, column text: was nan, is ''"
    )
    assert tell("t.parquet", table, change("value", [1.0, -0.0, 5.0])(table)) == (
        "t.parquet row 1, column value: was 0.0, is -0.0"
    )
    assert tell("t.parquet", table, table[:2]) == "t.parquet: 3 rows, now 2"
    assert tell("t.parquet", table, table[["time"]]).startswith("t.parquet: columns were ['time', 'text'")
    assert tell("t.parquet", table, table.astype({"count": "float64"})) == (
        "t.parquet, column count: was int64, is float64"
    )
    before, now = {"a": [{"b": 1}, 2]}, {"a": [{"b": 3}, 2]}
    assert tell("s.json", json.dumps(before), json.dumps(now)) == "s.json, a[0].b: was 1, is 3"
    assert tell("s.json", '{"a": 1}', '{"a":  1}') == "s.json, line 1"
    assert tell("r.html", "a\nb\nc", "a\nx\nc") == "r.html, line 2"
    assert tell("r.html", "a\nb", "a") == "r.html: 2 lines, now 1"
