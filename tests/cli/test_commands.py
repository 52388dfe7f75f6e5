"""Commands: those of nanotx, and those that installed packages bring."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, text, tiny

from nanotx.cli.command import PACKAGE, builtin_commands, listed_commands
from nanotx.cli.main import run
from nanotx.config.source import find_spec
from nanotx.errors import ConfigError, DataError

COUNT = '''
"""Count the files of a run."""

import sys
from pathlib import Path

USAGE = "RUN"
GROUP = "Use a run"


def run(argv):
    """Count."""
    print(sum(path.is_file() for path in Path(argv[0]).rglob("*")))
    return 0
'''


def install(folder: Path, name: str, module: str, source: str, package: str = "") -> Path:
    """Install a package of one module in a folder, as pip does: the module and its entry point."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    package = package or f"nanotx_{module}"
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[nanotx.commands]\n{name} = {module}\n", encoding="utf-8")
    return folder / f"{module}.py"


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Path:
    """A folder of installed packages, whose modules are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def helped(capsys) -> str:
    """The page of all commands."""
    assert run(["--help"]) == 0
    return capsys.readouterr().out


# The page of all commands.


def test_help_lists_every_command_once_with_its_summary(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = helped(capsys)
    for command in builtin_commands().values():
        (line,) = re.findall(rf"^  {command.name}\b.*$", page, re.MULTILINE)
        assert line.split()[1] and command.summary in page and command.usage in line, command.name


@pytest.mark.parametrize("name", builtin_commands())
def test_command_states_summary_usage_group_and_order(name):
    command = builtin_commands()[name]
    assert re.fullmatch(r"[A-Z][^\n]{10,54}\.", command.summary)
    assert {"USAGE", "GROUP", "ORDER"} <= command.page.keys() and command.order < 1000


def test_order_of_the_commands_is_unambiguous():
    orders = [command.order for command in builtin_commands().values()]
    assert len(set(orders)) == len(orders)
    groups = [command.group for command in listed_commands()]
    assert len(set(groups)) == sum(a != b for a, b in zip(["", *groups], groups, strict=False))


@pytest.mark.parametrize("columns", ["30", "40", "80", "120"])
def test_no_line_of_the_help_is_wider_than_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert all(len(line) < int(columns) or " " not in line.strip() for line in helped(capsys).splitlines())


def test_help_is_plain_in_a_pipe_and_coloured_on_a_terminal(capsys, monkeypatch):
    plain = helped(capsys)
    assert "\x1b" not in plain
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = helped(capsys)
    assert "\x1b[36mtrain" in coloured and "\x1b[1mTrain" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert helped(capsys) == plain


def test_unknown_command_is_answered_with_the_one_that_was_meant():
    with pytest.raises(ConfigError, match=r"^nanotx trian: no such command\. Did you mean 'train'\? Known: .*sample"):
        run(["trian"])
    with pytest.raises(ConfigError, match=r"^nanotx tokenizer encod: no such command\. Did you mean 'encode'\?"):
        run(["tokenizer", "encod"])


def test_help_takes_under_a_third_of_a_second():
    code = "import time; t = time.process_time(); from nanotx.cli.main import run; run(['--help']); "
    code += "import sys; sys.stderr.write(str(time.process_time() - t)); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stderr) < 0.3


# Commands of installed packages.


def test_command_of_a_package_is_listed_and_runs(site: Path, capsys):
    install(site, "count", "my_count", COUNT)
    page = helped(capsys)
    assert "my_count" not in sys.modules, "the page is read from the source"
    assert re.search(r"Use a run:\n(  .*\n)*  count RUN +Count the files of a run\.", page)
    assert run(["count", str(site)]) == 0
    assert int(capsys.readouterr().out) >= 3


def test_command_without_a_group_is_listed_last(site: Path, capsys):
    install(site, "count", "my_count", COUNT.replace('GROUP = "Use a run"\n', ""))
    assert re.search(r"Plug-ins:\n  count RUN +Count the files of a run\.\n\nnanotx COMMAND", helped(capsys))


def test_command_in_a_process_of_its_own(site: Path):
    install(site, "count", "my_count", COUNT)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    command = [sys.executable, "-m", "nanotx", "count", str(ROOT / "recipes")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and int(done.stdout) > 0


def test_command_of_the_extending_page_counts_the_parameters_of_a_run(site: Path, tmp_path: Path, capsys):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("## Add a command")[2]
    (source,) = re.findall(r"```python\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    install(site, "count", "count_layers", source)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "t.txt"))]
    assert run(["train", "macbook", *tiny(train_steps=1), *corpus, "--run", str(tmp_path / "r")]) == 0
    capsys.readouterr()
    assert run(["count", str(tmp_path / "r"), "--most", "2"]) == 0
    assert re.fullmatch(r"( +[\d,]+  [\w.]+\n){2}", capsys.readouterr().out)
    with pytest.raises(ConfigError, match=r"^nanotx count: --must: no such flag\. Did you mean '--most'\?"):
        run(["count", "r", "--must", "2"])
    with pytest.raises(SystemExit) as end:
        run(["count", "--help"])
    assert end.value.code == 0 and "--most INT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module\n\ndef run(argv): return 0\n", r"line 1 raises ModuleNotFoundError: .*no_such_module"),
        ("def run(argv)\n", r"raises SyntaxError|using it raises SyntaxError"),
        ("raise RuntimeError('not here')\n", r"line 1 raises RuntimeError: not here"),
        (
            "def main(argv): return 0\n",
            r"expected a function run\(argv\) that returns the exit code, and there is none",
        ),
        ("run = 3\n", r"expected a function run\(argv\)"),
        ("def run(argv): pass\n", r"run\(argv\) returned None; expected the exit code"),
        ("def run(argv): return 'done'\n", r"run\(argv\) returned 'done'; expected the exit code"),
        ("def run(argv): return True\n", r"run\(argv\) returned True; expected the exit code"),
        ("def run(argv):\n    return argv[7]\n", r"line 2 raises IndexError: list index out of range"),
        ("def run(): return 0\n", r"TypeError: .*takes 0 positional arguments"),
        ("import sys\n\ndef run(argv): sys.exit('no luck')\n", r"no luck"),
    ],
)
def test_command_that_fails_is_one_message_that_names_it(site: Path, source: str, message: str, capsys):
    file = install(site, "count", "my_count", source)
    assert "count" in helped(capsys), "a broken command breaks no page"
    with pytest.raises(ConfigError, match=rf"command 'count' of nanotx_my_count \({re.escape(str(file))}\).*{message}"):
        run(["count", "x"])


def test_errors_and_exit_codes_of_a_command_pass_through(site: Path):
    install(
        site, "count", "my_count", "from nanotx.errors import DataError\ndef run(argv): raise DataError('no text')\n"
    )
    install(site, "three", "my_three", "def run(argv): return 3\n")
    install(site, "leave", "my_leave", "import sys\ndef run(argv): sys.exit(int(argv[0]))\n")
    with pytest.raises(DataError, match=r"^no text$"):
        run(["count"])
    assert run(["three"]) == 3
    with pytest.raises(SystemExit) as end:
        run(["leave", "5"])
    assert end.value.code == 5


def test_command_whose_module_is_missing_is_named(site: Path, capsys):
    install(site, "count", "my_count", COUNT).unlink()
    assert "count" in helped(capsys)
    with pytest.raises(ConfigError, match=r"command 'count' of nanotx_my_count \(my_count\).*ModuleNotFoundError"):
        run(["count"])


def test_command_does_not_replace_one_of_nanotx(site: Path, capsys):
    install(site, "doctor", "my_doctor", "def run(argv): return 9\n")
    page = " ".join(helped(capsys).split())
    assert "doctor of nanotx_my_doctor (my_doctor) is not used: nanotx has a command of that name." in page
    assert page.count(" doctor Report") == 1 and "Plug-ins:" not in page
    with pytest.raises(ConfigError, match="threads"):
        run(["doctor", "--threads", "-1"])


def test_two_commands_of_one_name_are_both_refused(site: Path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    install(site, "count", "my_count", COUNT)
    install(site, "count", "their_count", COUNT)
    page = " ".join(helped(capsys).split())
    assert "count is not used: " in page and "nanotx_my_count (my_count)" in page
    with pytest.raises(
        ConfigError, match=r"^nanotx count: 2 packages bring this command: .*their_count.*uninstall one"
    ):
        run(["count"])


def test_source_of_a_module_is_found_without_importing_the_packages_around_it(site: Path):
    (site / "around").mkdir()
    (site / "around" / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    (site / "around" / "inner.py").write_text(COUNT, encoding="utf-8")
    spec = find_spec("around.inner")
    assert spec is not None and str(spec.origin).endswith("inner.py") and "around" not in sys.modules
    assert find_spec("around.nothing") is None and find_spec("nothing.at.all") is None


@pytest.mark.parametrize("package", [PACKAGE, f"{PACKAGE}.tokenizer"])
def test_help_of_every_command_has_an_example(package):
    prog = "nanotx tokenizer" if package.endswith("tokenizer") else "nanotx"
    for name, command in builtin_commands(package).items():
        if name in ("train", "tokenizer"):  # pages of their own: of all recipes, and of the tokenizers' commands
            continue
        source = Path(command.file).read_text(encoding="utf-8")
        assert re.search(rf"^ {{4,8}}{prog} {name}\b", source, re.MULTILINE), name
