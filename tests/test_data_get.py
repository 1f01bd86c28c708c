"""Published sets come whole and with the recorded digest, or not at all, and nothing that another wrote is touched."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO, Cli
from replay_server import Answer, Request, Server, serve

from finsignal.errors import ConfigError, SourceError
from finsignal.sentiment.labelled.getting import (
    PUBLISHED,
    TRIES,
    Member,
    PublishedFile,
    PublishedSet,
    get_data_set,
)
from finsignal.sentiment.labelled.published import read_phrasebank

TRAIN = "".join(f"text number {n},{n % 3}\n" for n in range(4000)).encode()
VALID = b"a text,0\nanother,2\n"
SENTENCES = "Tikkurila said Pentik\u00e4inen sold .@neutral\n".encode("latin-1")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def to_zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"Bank/{name}", content)
    return out.getvalue()


ZIP = to_zip(**{"all.txt": SENTENCES, "Licence.txt": b"not for sale"})
HELD = {"/tiny/train.csv": TRAIN, "/tiny/valid.csv": VALID, "/bank/Bank.zip": ZIP}


def to_set(name: str, *files: PublishedFile) -> PublishedSet:
    words = {"about": "a set", "licence": "CC BY 4.0", "page": "https://sets.invalid/tiny", "use": "research"}
    return PublishedSet(name=name, **words, citation="Somebody, 2020", verified="by hand", files=files)


def to_file(path: str, content: bytes, **changes: Any) -> PublishedFile:
    return PublishedFile(f"https://sets.invalid/{path}", path, len(content), digest(content), **changes)


TINY = to_set("tiny", to_file("tiny/train.csv", TRAIN), to_file("tiny/valid.csv", VALID))
MEMBERS = (
    Member("Bank/all.txt", "bank/all.txt", (digest(b"a copy with other line ends"),)),
    Member("Bank/Licence.txt", "bank/Licence.txt", (digest(b"not for sale"),)),
)
BANK = to_set("bank", to_file("bank/Bank.zip", ZIP, members=MEMBERS))


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "tiny", TINY)
    monkeypatch.setitem(PUBLISHED, "bank", BANK)


def give(request: Request) -> Answer:
    """Each file whole, or from where it is asked for."""
    content = HELD.get(request.path)
    if content is None:
        return Answer(b"Not here", 404)
    asked = request.headers.get("Range")
    if asked is None:
        return Answer(content)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        return Answer(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
    return Answer(content[start:], 206, {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})


def get(
    server: Server | str, to: Path, name: str = "tiny", waits: list[float] | None = None, **options: Any
) -> dict[str, bool]:
    url = server if isinstance(server, str) else server.url
    waited: list[float] = [] if waits is None else waits
    got = get_data_set(name, to=to, base_url=url, sleep=waited.append, **{"accept_licence": True, **options})
    return {path.relative_to(to).as_posix(): came for path, came in got.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_turn(*answers: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """The first answer to the first request, and so on; the last to every further one."""
    rest = list(answers)
    return lambda request: (rest.pop(0) if len(rest) > 1 else rest[0])(request)


def cut(length: int) -> Callable[[Request], Answer]:
    return lambda request: replace(give(request), cut=length)


# --- what comes ------------------------------------------------------------------------------------------------------


def test_a_set_comes_whole_to_where_recipes_look_for_it(tmp_path: Path) -> None:
    with serve(give) as server:
        assert get(server, tmp_path / "new") == {"tiny/train.csv": True, "tiny/valid.csv": True}
    assert contents(tmp_path / "new") == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_a_second_call_asks_for_nothing(tmp_path: Path) -> None:
    with serve(give) as server:
        get(server, tmp_path)
        asked = len(server.requests)
        assert get(server, tmp_path) == {"tiny/train.csv": False, "tiny/valid.csv": False}
        assert len(server.requests) == asked == 2


def test_only_the_file_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    with serve(give) as server:
        get(server, tmp_path)
        (tmp_path / "tiny" / "valid.csv").unlink()
        assert get(server, tmp_path) == {"tiny/train.csv": False, "tiny/valid.csv": True}
        assert [r.path for r in server.requests[2:]] == ["/tiny/valid.csv"]


def test_an_archive_is_kept_and_its_members_stand_beside_it(tmp_path: Path) -> None:
    with serve(give) as server:
        got = get(server, tmp_path, "bank")
        assert got == {"bank/Bank.zip": True, "bank/all.txt": True, "bank/Licence.txt": True}
        assert contents(tmp_path / "bank") == {"Bank.zip": ZIP, "all.txt": SENTENCES, "Licence.txt": b"not for sale"}
        assert set(get(server, tmp_path, "bank").values()) == {False}
        (tmp_path / "bank" / "all.txt").unlink()
        assert get(server, tmp_path, "bank")["bank/all.txt"]
        assert len(server.requests) == 1


def test_members_that_are_known_by_their_digests_need_no_archive(tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "all.txt").write_bytes(b"a copy with other line ends")
    (tmp_path / "bank" / "Licence.txt").write_bytes(b"not for sale")
    with serve(give) as server:
        assert get(server, tmp_path, "bank") == {"bank/all.txt": False, "bank/Licence.txt": False}
        assert server.requests == []


# --- the licence -----------------------------------------------------------------------------------------------------


def test_nothing_is_asked_for_or_written_before_the_licence_is_accepted(tmp_path: Path) -> None:
    with serve(give) as server:
        with pytest.raises(ConfigError, match=r"CC BY 4\.0; for research; see https://sets.invalid/tiny.*--accept-lic"):
            get(server, tmp_path / "new", accept_licence=False)
        assert server.requests == []
    assert not (tmp_path / "new").exists()


def test_an_unknown_set_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no published set 'phrasebanc'\. Did you mean 'phrasebank'"):
        get_data_set("phrasebanc", to=tmp_path, accept_licence=True)


# --- what breaks -----------------------------------------------------------------------------------------------------


def test_a_line_that_breaks_is_gone_on_with_from_there(tmp_path: Path) -> None:
    waits: list[float] = []
    with serve(in_turn(cut(30_000), give)) as server:
        get(server, tmp_path, waits=waits)
        asked = [r.headers.get("Range") for r in server.requests]
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}
    assert (asked, waits) == ([None, "bytes=30000-", None], [1.0])


def test_a_service_that_gives_no_parts_is_read_from_the_beginning(tmp_path: Path) -> None:
    def whole(request: Request) -> Answer:
        return Answer(HELD[request.path])

    with serve(in_turn(cut(30_000), whole)) as server:
        get(server, tmp_path)
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_what_came_before_the_last_try_failed_is_gone_on_with_the_next_time(tmp_path: Path) -> None:
    waits: list[float] = []
    with serve(cut(10_000)) as server:
        with pytest.raises(SourceError, match=r"broke off after 50,000 of 74,890 bytes, in 5 tries.*kept"):
            get(server, tmp_path, waits=waits)
        assert len(server.requests) == TRIES
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert contents(tmp_path) == {"tiny/.train.csv.unfinished": TRAIN[:50_000]}
    with serve(give) as server:
        get(server, tmp_path)
        assert server.requests[0].headers["Range"] == "bytes=50000-"
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


@pytest.mark.parametrize(
    ("status", "asked", "waited"),
    [(429, "7", 7.0), (500, "", 1.0), (502, "0", 0.0), (503, "86400", 60.0), (504, "Sat, 21 Nov 2026 08:00 GMT", 1.0)],
)
def test_a_busy_service_is_asked_again(tmp_path: Path, status: int, asked: str, waited: float) -> None:
    waits: list[float] = []
    busy = in_turn(lambda request: Answer(b"later", status, {"Retry-After": asked} if asked else {}), give)
    with serve(busy) as server:
        get(server, tmp_path, waits=waits)
    assert waits == [waited]
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_the_place_may_send_on_to_another(tmp_path: Path) -> None:
    def send_on(request: Request) -> Answer:
        if request.path.startswith("/store"):
            return give(replace(request, path=request.path.removeprefix("/store")))
        return Answer(b"", 302, {"Location": f"/store{request.path}"})

    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".train.csv.unfinished").write_bytes(TRAIN[:100])
    with serve(send_on) as server:
        get(server, tmp_path)
        assert server.requests[1].headers["Range"] == "bytes=100-"
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_a_service_that_stays_busy_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with serve(lambda request: Answer(b"", 500)) as server:
        with pytest.raises(SourceError, match=r"server error \(500\), in 5 tries\.$"):
            get(server, tmp_path)
        assert len(server.requests) == TRIES
    assert contents(tmp_path) == {}


def test_a_file_that_is_gone_is_told_at_once(tmp_path: Path) -> None:
    with serve(lambda request: Answer(b"<html>Not here</html>", 404)) as server:
        with pytest.raises(SourceError, match=r"/tiny/train.csv answered 404 \(Not Found\); nothing was written"):
            get(server, tmp_path)
        assert len(server.requests) == 1
    assert contents(tmp_path) == {}


def test_a_service_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    with serve(give) as server:
        url = server.url
    with pytest.raises(SourceError, match=r"no answer .*refused.*, in 5 tries"):
        get(url, tmp_path)
    assert contents(tmp_path) == {}


# --- what is not the published file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(TRAIN.replace(b"number 7,", b"number 8,"), id="as long"),
        pytest.param(b"<html>Please log in</html>", id="a page in its place"),
        pytest.param(TRAIN + b"one text more,0\n", id="longer"),
        pytest.param(b"", id="empty"),
    ],
)
def test_another_file_is_refused_and_nothing_of_it_kept(tmp_path: Path, other: bytes) -> None:
    with serve(lambda request: Answer(other)) as server:
        with pytest.raises(SourceError, match=f"is not the published file.*expected {digest(TRAIN)[:12]} and 74,890"):
            get(server, tmp_path)
        assert len(server.requests) == 1
    assert contents(tmp_path) == {}


def test_no_more_is_read_than_the_file_is_long(tmp_path: Path) -> None:
    with (
        serve(lambda request: Answer(bytes(5_000_000))) as server,
        pytest.raises(SourceError, match="after 74,891 byt"),
    ):
        get(server, tmp_path)


def test_a_part_of_another_version_does_not_spoil_the_file(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    for left in (b"of last year", b"x" * len(TRAIN), b"x" * 100_000):
        (tmp_path / "tiny" / ".train.csv.unfinished").write_bytes(left)
        with serve(give) as server:
            get(server, tmp_path)
        assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}
        (tmp_path / "tiny" / "train.csv").unlink()


def test_a_file_that_came_whole_before_the_stop_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".train.csv.unfinished").write_bytes(TRAIN)
    with serve(give) as server:
        get(server, tmp_path)
        assert [r.path for r in server.requests] == ["/tiny/valid.csv"]
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_a_place_that_has_nothing_after_the_part_gives_the_file_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".train.csv.unfinished").write_bytes(TRAIN[:100])
    with serve(in_turn(lambda request: Answer(b"", 416), give)) as server:
        get(server, tmp_path)
        assert [r.headers.get("Range") for r in server.requests] == ["bytes=100-", None, None]
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_a_file_that_another_put_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "valid.csv").write_bytes(b"my own rows")
    with serve(give) as server:
        with pytest.raises(SourceError, match=r"valid.csv: is not the published file .* is not replaced"):
            get(server, tmp_path)
        assert server.requests == []  # not even for the other file of the set
    assert contents(tmp_path) == {"tiny/valid.csv": b"my own rows"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (to_zip(**{"all.txt": SENTENCES}), "There is no item named 'Bank/Licence.txt' in the archive"),
        (b"PK no zip at all", "could not be read as a zip"),
    ],
)
def test_an_archive_without_what_it_should_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str
) -> None:
    monkeypatch.setitem(PUBLISHED, "bank", to_set("bank", to_file("bank/Bank.zip", content, members=MEMBERS)))
    with serve(lambda request: Answer(content)) as server, pytest.raises(SourceError, match=told):
        get(server, tmp_path, "bank")
    assert contents(tmp_path) == {}


# --- the disk, and what stops it -------------------------------------------------------------------------------------


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with serve(give) as server, pytest.raises(SourceError, match=r"data: cannot be written"):
        get(server, tmp_path / "data")
    (tmp_path / "tiny").write_text("a file")
    with serve(give) as server, pytest.raises(SourceError, match=r"train.csv: cannot be written|could not be read"):
        get(server, tmp_path)


def test_a_second_call_at_the_same_time_is_refused(tmp_path: Path) -> None:
    told: list[str] = []

    def meanwhile(request: Request) -> Answer:
        if len(server.requests) == 1:
            try:
                get(server, tmp_path)
            except SourceError as err:
                told.append(str(err))
        return give(request)

    with serve(meanwhile) as server:
        get(server, tmp_path)
    assert told == [f"{tmp_path}: another finsignal is getting data into it; wait for it, then try again."]
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_a_kill_in_between_leaves_no_half_file_and_is_gone_on_with(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); import test_data_get as t\n"
        "t.PUBLISHED['tiny'] = t.TINY\n"
        "t.get_data_set('tiny', to=Path(sys.argv[1]), accept_licence=True, base_url=sys.argv[2])"
    )
    part = tmp_path / "tiny" / ".train.csv.unfinished"
    with serve(cut(30_000)) as server:  # then it waits a second before the next try: time to be killed
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path, server.url, str(REPO / "tests")])
        until = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size >= 30_000) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    left = contents(tmp_path)
    assert list(left) == ["tiny/.train.csv.unfinished"]
    came = len(left["tiny/.train.csv.unfinished"])
    with serve(give) as server:
        get(server, tmp_path)
        assert server.requests[0].headers["Range"] == f"bytes={came}-"
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


# --- the record ------------------------------------------------------------------------------------------------------


def test_the_record_is_complete() -> None:
    real = [published for name, published in PUBLISHED.items() if name not in ("tiny", "bank")]
    assert [published.name for published in real] == ["tfns", "sentfin", "phrasebank", "fiqa", "surge"]
    for published in real:
        assert PUBLISHED[published.name] is published
        assert published.use in ("ship", "research")
        assert all((published.about, published.licence, published.page, published.citation, published.verified))
        paths = [path for file in published.files for path in (file.path, *(m.path for m in file.members))]
        assert len(paths) == len(set(paths))
        for file in published.files:
            assert file.url.startswith("https://")
            for known in (file.sha256, *(d for member in file.members for d in member.sha256)):
                assert (len(known), set(known) - set("0123456789abcdef")) == (64, set())


def test_every_path_of_the_recipe_that_ships_comes_from_a_set_that_may_be_used_so() -> None:
    recipe = tomllib.loads((REPO / "finsignal" / "sentiment" / "recipes" / "default.toml").read_text("utf-8"))
    use = {
        path: published.use
        for published in PUBLISHED.values()
        for file in published.files
        for path in (file.path, *(member.path for member in file.members))
    }
    trained = [part["path"] for part in recipe["data"] if part["path"] in use]
    assert trained
    assert {use[path] for path in trained} == {"ship"}


@pytest.mark.parametrize("name", ["tfns", "sentfin", "phrasebank", "fiqa", "surge"])
def test_the_real_files_are_known_by_their_digests(shared: Path, name: str) -> None:
    with serve(lambda request: Answer(b"", 404)) as server:
        got = get(server, shared, name)
        assert server.requests == []
    files = [member for file in PUBLISHED[name].files for member in (file.members or (file,))]
    assert got == {file.path: False for file in files}
    sizes = {file.path: file.size for file in PUBLISHED[name].files if not file.members}
    assert {path: (shared / path).stat().st_size for path in sizes} == sizes


def test_the_all_agree_level_reads_alike_in_either_encoding(shared: Path, tmp_path: Path) -> None:
    copy = shared / "phrasebank" / "Sentences_AllAgree.txt"
    published = tmp_path / "Sentences_AllAgree.txt"
    published.write_bytes(copy.read_text("utf-8").encode("latin-1"))
    (member,) = (m for m in PUBLISHED["phrasebank"].files[0].members if m.path.endswith("AllAgree.txt"))
    assert digest(published.read_bytes()) in member.sha256
    assert read_phrasebank(published)[0].equals(read_phrasebank(copy)[0])


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_server(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], None]:
    """Has the tiny set published at a server."""

    def publish(server: Server) -> None:
        files = [replace(file, url=f"{server.url}/{file.path}") for file in TINY.files]
        monkeypatch.setitem(PUBLISHED, "tiny", to_set("tiny", *files))

    return publish


def test_the_verb_lists_the_sets(run_cli: Cli) -> None:
    code, out, _ = run_cli("data", "get")
    assert code == 0
    for name in ("tfns", "sentfin", "phrasebank", "fiqa", "surge"):
        assert f"\n{name} " in f"\n{out}"
    code, out, _ = run_cli("data", "get", "--json")
    listed = {row["name"]: row for row in json.loads(out)}
    assert (listed["phrasebank"]["use"], listed["tfns"]["licence"][:3]) == ("research", "MIT")


def test_the_verb_shows_the_licence_and_how_to_accept_it(run_cli: Cli, tmp_path: Path) -> None:
    code, out, err = run_cli("data", "get", "tiny", "--to", tmp_path / "data")
    assert code == 1
    assert "CC BY 4.0" in out
    assert "https://sets.invalid/tiny" in out
    assert "--accept-licence" in err
    assert not (tmp_path / "data").exists()


def test_the_verb_gets_a_set(run_cli: Cli, tmp_path: Path, at_server: Callable[[Server], None]) -> None:
    with serve(give) as server:
        at_server(server)
        code, out, _ = run_cli("data", "get", "tiny", "--to", tmp_path, "--accept-licence")
        assert (code, out.splitlines()[-2:]) == (
            0,
            [f"fetched  {tmp_path / 'tiny' / 'train.csv'}", f"fetched  {tmp_path / 'tiny' / 'valid.csv'}"],
        )
        code, out, _ = run_cli("data", "get", "tiny", "--to", tmp_path, "--accept-licence", "--json")
        assert code == 0
        assert json.loads(out)["files"] == [
            {"path": str(tmp_path / "tiny" / name), "fetched": False} for name in ("train.csv", "valid.csv")
        ]
    assert contents(tmp_path) == {"tiny/train.csv": TRAIN, "tiny/valid.csv": VALID}


def test_the_verb_tells_a_fault_in_one_line(run_cli: Cli, tmp_path: Path, at_server: Callable[[Server], None]) -> None:
    with serve(lambda request: Answer(b"", 404)) as server:
        at_server(server)
        code, _, err = run_cli("data", "get", "tiny", "--to", tmp_path, "--accept-licence")
    assert code == 1
    assert err.splitlines()[-1].startswith("finsignal: data: ")
    assert "404" in err
