"""Errors: their classes, the one-line grammar, and the two sentences they share."""

import ast
import sys
from pathlib import Path

import pytest

from finsignal import errors
from finsignal.errors import ConfigError, FinsignalError, MissingExtraError, TableError, did_you_mean, require

PACKAGE = Path(errors.__file__).parent
CLASSES = {name: c for name, c in vars(errors).items() if isinstance(c, type) and issubclass(c, FinsignalError)}
RAISED = [
    (path, node)
    for path in sorted(PACKAGE.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_is_a_finsignal_error_in_one_line(name: str) -> None:
    err = CLASSES[name]("prices: symbol 'A\nB' is odd.\nRename it.")
    assert isinstance(err, FinsignalError)
    assert str(err) == "prices: symbol 'A B' is odd. Rename it."
    assert CLASSES[name].__doc__


def test_a_refused_value_is_a_value_error_and_a_missing_extra_an_import_error() -> None:
    for name in ("TableError", "ConfigError", "LookaheadError"):
        assert issubclass(CLASSES[name], ValueError)
    assert issubclass(MissingExtraError, ImportError)


def literal_text(message: ast.expr) -> str:
    """The words of a message as written in the source, with {} for each value."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(literal_text(v) if isinstance(v, ast.Constant) else "{}" for v in message.values)
    return "{}"


def test_every_message_of_the_package_is_one_line_and_a_sentence() -> None:
    wrong = []
    for path, node in RAISED:
        if node.exc.func.id in CLASSES and node.exc.args:
            words = literal_text(node.exc.args[0])
            if "\n" in words or not words.endswith((".", "{}", "?")):
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {words}")
    assert wrong == []


def test_the_package_raises_its_own_errors_only() -> None:
    # A user catches FinsignalError, and the terminal shows it in one line; a bare ValueError would be a traceback.
    # AttributeError belongs to module __getattr__, SystemExit and KeyboardInterrupt to the shell.
    builtin = {n for n, c in vars(__import__("builtins")).items() if isinstance(c, type) and issubclass(c, Exception)}
    caught_at_once = {("clock.py", "ValueError"), ("__init__.py", "AttributeError")}
    wrong = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.exc.func.id}"
        for path, node in RAISED
        if node.exc.func.id in builtin and (str(path.relative_to(PACKAGE)), node.exc.func.id) not in caught_at_once
    ]
    assert wrong == []


def test_a_name_close_to_a_known_one_is_asked_about() -> None:
    assert did_you_mean("Close", ["close", "open"]) == " Did you mean 'close'?"
    assert did_you_mean("close", ["Close"]) == " Did you mean 'Close'?"
    assert did_you_mean("volume", ["open", "close"]) == ""
    assert did_you_mean("x", []) == ""


def test_a_module_that_is_there_is_imported() -> None:
    assert require("json", extra="train", work="reading").loads("1") == 1


def test_a_missing_module_names_the_work_and_the_extra() -> None:
    message = r"^scoring needs no_such_package, which is not installed: pip install 'finsignal\[train\]'\.$"
    with pytest.raises(MissingExtraError, match=message) as raised:
        require("no_such_package.part", extra="train", work="scoring")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_a_package_that_breaks_on_its_own_dependency_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halfway_installed.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as raised:
        require("halfway_installed", extra="train", work="scoring")
    assert not isinstance(raised.value, FinsignalError)
    sys.modules.pop("halfway_installed", None)


def test_an_error_can_be_caught_by_its_family() -> None:
    for error in (TableError, ConfigError):
        with pytest.raises(FinsignalError, match="x"):
            raise error("x")
