"""The package: one version, presets where the wheel has them, extras that something uses, public names that exist."""

import ast
import re
import sys
import tomllib
from importlib.util import find_spec

import pytest
from helpers import ROOT

import nanotx
from nanotx.config import presets

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CLASSIFIERS = PROJECT["project"]["classifiers"]


def test_version_has_one_source_and_the_citation_repeats_it():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "nanotx/__init__.py"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [nanotx.__version__]


def test_changelog_is_in_the_form_it_names():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for section in re.split(r"^## .+$", changelog, flags=re.MULTILINE)[1:]:
        result = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert set(result) <= kinds and len(set(result)) == len(result)


def test_pythons_of_the_classifiers_are_those_that_pip_admits():
    minors = [int(match[1]) for line in CLASSIFIERS if (match := re.fullmatch(r".* :: 3\.(\d+)", line))]
    assert PROJECT["project"]["requires-python"] == f">=3.{min(minors)}"
    assert minors == list(range(min(minors), max(minors) + 1))


@pytest.mark.parametrize("kind", ["recipes", "tokenizers"])
def test_presets_are_found_in_a_checkout_and_in_a_wheel(kind, tmp_path, monkeypatch):
    assert presets.presets(kind) == ROOT / kind
    inside = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"][kind]
    (tmp_path / inside).mkdir(parents=True)
    monkeypatch.setattr(presets, "__file__", str(tmp_path / "nanotx" / "config" / "presets.py"))
    assert presets.presets(kind) == (tmp_path / inside).resolve()


def test_every_public_name_is_there_and_no_other():
    assert dir(nanotx) == sorted(nanotx.__all__)
    for name in nanotx.FROM:
        assert callable(getattr(nanotx, name))
    for name in nanotx.PACKAGES:
        assert find_spec(f"nanotx.{name}") is not None
    with pytest.raises(AttributeError, match="nanotx has no attribute 'tran'; it has: "):
        nanotx.tran  # noqa: B018


INIT = (ROOT / "nanotx" / "__init__.py").read_text(encoding="utf-8")
OLD = (
    r"nanotx needs Python 3\.11 or later, and .* is Python .*; "
    r"create an environment with a newer one: python3\.11 -m venv \.venv"
)


def test_older_python_is_refused_in_one_sentence(monkeypatch, capsys):
    ast.parse(INIT, feature_version=(3, 7))  # it gets as far as the check
    code = compile(INIT, "nanotx/__init__.py", "exec")
    exec(code, {"__name__": "nanotx"})  # not refused here
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    with pytest.raises(ImportError, match=OLD):
        exec(code, {"__name__": "nanotx"})
    monkeypatch.setattr(sys, "argv", ["-m"])  # as it is while `python -m nanotx` imports the package
    with pytest.raises(SystemExit) as end:
        exec(code, {"__name__": "nanotx"})
    assert end.value.code == 2
    assert re.fullmatch(OLD + "\n", capsys.readouterr().err)


# Nothing that only POSIX has is needed to import nanotx.

POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    *("fork", "forkpty", "getuid", "geteuid", "getpgid", "killpg", "mkfifo", "sched_getaffinity", "sysconf", "uname"),
    *("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WNOHANG", "SIGALRM", "SIGCONT", "SIGHUP", "SIGKILL", "SIGQUIT"),
    *("SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "setitimer", "pthread_sigmask"),
}


def at_import(node):
    """The nodes that run when a module is imported: not the bodies of functions, nor what an `except` waits for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try) and any("ImportError" in ast.unparse(handler) for handler in child.handlers):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            outside = [*child.decorator_list, *child.args.defaults] if not isinstance(child, ast.Lambda) else []
            for item in outside:
                yield item
                yield from at_import(item)
            continue
        yield child
        yield from at_import(child)


def posix_only(tree):
    """What a module needs of POSIX when it is imported."""
    for node in at_import(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        yield from (name for name in names if name in POSIX_MODULES | POSIX_NAMES)
        if isinstance(node, ast.Attribute) and node.attr in POSIX_NAMES and ast.unparse(node.value) in ("os", "signal"):
            yield ast.unparse(node)


def test_no_module_needs_posix_to_be_imported():
    files = sorted((ROOT / "nanotx").rglob("*.py"))
    trees = {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in files}
    assert {str(file): results for file, tree in trees.items() if (results := list(posix_only(tree)))} == {}


@pytest.mark.parametrize(
    ("source", "actual"),
    [
        ("import fcntl", ["fcntl"]),
        ("from signal import SIGHUP", ["SIGHUP"]),
        ("import os\nclass A:\n    size = os.sysconf('SC_PAGE_SIZE')", ["os.sysconf"]),
        ("import signal\ndef f(number=signal.SIGKILL): ...", ["signal.SIGKILL"]),
        ("import os\ndef f():\n    import fcntl\n    os.fork()", []),
        ("try:\n    import resource\nexcept ImportError:\n    resource = None", []),
        ("import signal\nstop = getattr(signal, 'SIGHUP', None)", []),
    ],
)
def test_what_needs_posix_is_named(source, actual):
    assert list(posix_only(ast.parse(source))) == actual
