"""Flags: their values, their errors, their help."""

import importlib
import pkgutil
import re
from dataclasses import MISSING, dataclass, fields, make_dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nanotx.cli.commands
from nanotx.config.flags import argument, flags_of, option, parse, repeated
from nanotx.config.help import page_width
from nanotx.config.help_page import Flag
from nanotx.config.registry import Slot
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.recipe_flags import MOST_USED, Options, read_recipe, recipe_page

PROG = "nanotx try"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Try all kinds of flags.

    A second paragraph.

        nanotx try here --size 3
    """

    folder: str = argument("RUN")  # folder of the run
    files: tuple[str, ...] = argument("FILE ...", ())  # more files
    size: int = 2  # number of things
    rate: float = 0.5  # speed of things
    most: int | None = None  # largest number; without it, no limit
    batch: int | Literal["auto"] = "auto"  # things at once; auto for as many as fit
    compile: bool | Literal["auto"] = "auto"  # compile it; auto where it pays
    betas: tuple[float, float] = (0.9, 0.99)  # two rates
    names: tuple[str, ...] = ()  # any names
    kind: Literal["one", "two"] = "one"  # kind of thing
    text: str = ""  # any text
    json: str = option("FILE")  # write figures to this file
    stop: tuple[str, ...] = repeated("TEXT")  # stop at this text
    tied: bool = True  # share the weights
    quick: bool = False  # do less

    def __post_init__(self) -> None:
        check_min(self, 0, "size")


def read(*argv: str) -> dict[str, Any]:
    """The values that differ from the defaults."""
    flags = parse(Flags, argv, PROG)
    return {field.name: value for field in fields(Flags) if (value := getattr(flags, field.name)) != field.default}


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("r", {}),
        ("r a b", {"files": ("a", "b")}),
        ("--size 3 r a --rate 1e-3 b", {"size": 3, "rate": 1e-3, "files": ("a", "b")}),
        ("r --size=3", {"size": 3}),
        ("r --rate -1", {"rate": -1.0}),
        ("r --rate=-1e5", {"rate": -1e5}),
        ("r --size 1_0", {"size": 10}),
        ("r --most 5", {"most": 5}),
        ("r --most none", {}),
        ("r --most None", {}),
        ("r --batch 5", {"batch": 5}),
        ("r --compile", {"compile": True}),
        ("r --compile --quick", {"compile": True, "quick": True}),
        ("r --no-compile", {"compile": False}),
        ("r --compile False", {"compile": False}),
        ("r --compile=true", {"compile": True}),
        ("--compile auto r", {}),
        ("r --betas 0.1 0.2", {"betas": (0.1, 0.2)}),
        ("r --names a b --names c", {"names": ("a", "b", "c")}),
        ("--stop a r --stop --x", {"stop": ("a", "--x")}),
        ("r --kind two", {"kind": "two"}),
        ("r --text -x", {"text": "-x"}),
        ("r --text --xyz", {"text": "--xyz"}),
        ("r --text --", {"text": "--"}),
        ("r --text=--size", {"text": "--size"}),
        ("r --text=a=b", {"text": "a=b"}),
        ("r --no-tied", {"tied": False}),
        ("r --tied=false --quick=True", {"tied": False, "quick": True}),
        ("-- -r --size", {"folder": "-r", "files": ("--size",)}),
        ("- -- r", {"folder": "-", "files": ("r",)}),
    ],
)
def test_flags_are_read(words, values):
    folder = values.pop("folder", "-" if words.startswith("- ") else "r")
    assert read(*words.split()) == {"folder": folder, **values}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", r"RUN: missing \(folder of the run\)"),
        ("--size 3", r"RUN: missing"),
        ("r --sizes 3", r"--sizes: no such flag\. Did you mean '--size'\?"),
        ("r -size 3", r"-size: no such flag\. Did you mean '--size'\?"),
        ("r -5", r"-5: no such flag"),
        ("r --=3", r"--: no such flag"),
        ("r --no-size", r"--no-size: no such flag"),
        ("r --size", r"--size: expected a whole number such as 2, got nothing \(number of things\)"),
        ("r --size=", r"--size: expected a whole number such as 2, got ''"),
        ("r --size --rate 3", r"--size: expected a whole number such as 2, got nothing"),
        ("r --size 1.5", r"--size: expected a whole number such as 2, got '1\.5'"),
        ("r --size many", r"--size: expected a whole number such as 2, got 'many'"),
        ("r --rate fast", r"--rate: expected a number such as 0\.5, got 'fast' \(speed of things\)"),
        ("r --most some", r"--most: expected a whole number or none, got 'some'"),
        ("r --batch all", r"--batch: expected a whole number or auto, got 'all'"),
        ("r --compile perhaps", r"--compile: expected one of true, false, auto, got 'perhaps'"),
        ("r --betas 0.9", r"--betas: expected 2 values such as 0\.9 0\.99, got 0\.9"),
        ("r --betas 0.9 x", r"--betas: expected 2 values such as 0\.9 0\.99, got 0\.9 x"),
        ("r --kind three", r"--kind: expected one or two, got 'three'"),
        ("r --text", r"--text: expected a text, got nothing"),
        ("r --text --size 3", r"--text: expected a text, got nothing"),
        ("r --json=", r"--json: expected a file, got nothing"),
        ("r --names", r"--names: expected a text, got nothing"),
        ("r --quick=perhaps", r"--quick: expected true or false, got 'perhaps'"),
        ("r --no-tied=1", r"--no-tied: takes no value, got '1'"),
        ("r --size 1 --size 2", r"--size: given 2 times, with 1 and 2; give it once"),
        ("r --size=1 --size 2 --size 3", r"--size: given 3 times, with 1 and 2 and 3; give it once"),
        ("r --tied --no-tied", r"--tied: given 2 times, with nothing and false; give it once"),
    ],
)
def test_mistake_is_one_message_of_one_shape(words, message):
    with pytest.raises(ConfigError, match=rf"^nanotx try: {message}.* See nanotx try --help\.$"):
        read(*words.split())


def test_value_out_of_range_names_its_flag():
    with pytest.raises(ConfigError, match=r"^nanotx try: --size: expected a number of at least 0, got -1\.$"):
        read("r", "--size", "-1")


def test_extra_argument_is_refused():
    kind = make_dataclass("One", [("folder", str, argument("RUN"))], frozen=True, kw_only=True)
    with pytest.raises(ConfigError, match=r"'b': unexpected argument; usage: nanotx try RUN \[options\]\."):
        parse(kind, ["a", "b"], PROG)
    with pytest.raises(ConfigError, match=r"'b': unexpected argument; usage: nanotx try \[options\]\."):
        parse(make_dataclass("None_", [], frozen=True), ["b"], PROG)


def test_pair_of_arguments_needs_both():
    kind = make_dataclass("Two", [("runs", tuple[str, str], argument("RUN RUN"))], frozen=True, kw_only=True)
    assert parse(kind, ["a", "b"], PROG).runs == ("a", "b")
    with pytest.raises(ConfigError, match=r"RUN RUN: missing"):
        parse(kind, ["a"], PROG)


def test_required_flag_is_asked_for():
    kind = make_dataclass("To", [("to", str, option("FORMAT", MISSING))], frozen=True, kw_only=True)
    with pytest.raises(ConfigError, match=r"^nanotx try: --to: missing; expected FORMAT\."):
        parse(kind, [], PROG)


@given(size=st.integers(0, 2**62), rate=st.floats(allow_nan=False), text=st.text().filter(lambda text: text != "-h"))
def test_values_are_read_back_as_they_were_written(size, rate, text):
    values = {"size": size, "rate": rate, "text": text}
    flags = parse(Flags, ["r", *(f"--{name}={value}" for name, value in values.items())], PROG)
    assert {name: getattr(flags, name) for name in values} == values


# The help.


def helped(kind: type, capsys) -> str:
    """The page of a command."""
    with pytest.raises(SystemExit) as end:
        parse(kind, ["-h"], PROG)
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_has_usage_text_arguments_options_and_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert helped(Flags, capsys) == (
        """\
Usage: nanotx try RUN [FILE ...] [options]

Try all kinds of flags.

A second paragraph.

Arguments:
  RUN                  folder of the run
  FILE ...             more files

Options:
  --size INT           number of things (default: 2)
  --rate FLOAT         speed of things (default: 0.5)
  --most INT|none      largest number; without it, no limit
  --batch INT|auto     things at once; auto for as many as fit (default: auto)
  --compile true|false|auto
                       compile it; auto where it pays (default: auto)
  --betas FLOAT FLOAT  two rates (default: 0.9 0.99)
  --names TEXT ...     any names
  --kind one|two       kind of thing (default: one)
  --text TEXT          any text
  --json FILE          write figures to this file
  --stop TEXT          stop at this text (repeatable)
  --[no-]tied          share the weights (default: on)
  --quick              do less
  -h, --help           show this page and exit

Examples:
  nanotx try here --size 3
"""
    )


@pytest.mark.parametrize("columns", ["30", "40", "60", "80", "200"])
def test_page_is_no_wider_than_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    lines = recipe_page(Recipe(), "nanotx train x").render(page_width()).splitlines()
    wide = [line for line in lines if len(line) >= int(columns)]
    assert all(re.fullmatch(r" *--\S+( \S+)*| +\(default: \S+\)|  nanotx train x .*", line) for line in wide), (
        "a label, or an example to copy"
    )


def test_help_of_a_recipe_begins_with_the_flags_used_most():
    page = recipe_page(Recipe(), "nanotx train x")
    title, flags = page.sections[0]
    assert title == "Most used" and [flag.name for flag in flags] == [*MOST_USED, "help"]
    names = [flag.name for _, flags in page.sections for flag in flags]
    assert len(names) == len(set(names)) and {"attention", "attention.heads", "train.z_loss"} - set(names) <= {
        "train.z_loss"
    }


def all_flags() -> list[tuple[str, Flag]]:
    """Every flag of every part and every command, with where it is."""
    kinds = [(f"{slot.slot} {name}", slot.find(name)) for slot in Slot.__subclasses__() for name in slot.names()]
    kinds += [(kind.__name__, kind) for kind in (Model, Options, Recipe, Train)]
    for module in pkgutil.walk_packages(nanotx.cli.commands.__path__, "nanotx.cli.commands."):
        loaded = importlib.import_module(module.name)
        kinds += [(module.name, loaded.Flags)] if "Flags" in vars(loaded) else []
    return [(where, flag) for where, kind in kinds for flag in flags_of(kind)]


ALL_FLAGS = all_flags()
TERSE = r"(of|in|on|or|and|with|before|after|between|likewise|as|at|by|the|a|its|how|what|where|which|whether)\b"
"""Words that no help begins with: it names the thing, as in "number of heads"."""
PRIVATE = r"(told|tell|said|say|nobody|letters|learned from|lies|stands|kept|mathematics|goes on|behind|beside|mend)\b"
"""Words of this codebase's own that no reader expects."""


def faults(about: str) -> list[str]:
    """What is wrong with the help of a flag."""
    results = []
    if len(about.split()) < 3 or len(about) > 140:
        results.append("expected 3 words to 140 characters")
    if re.match(TERSE, about) or about.endswith(".") or about.startswith(('"', "`")):
        results.append("expected a fragment that names the thing")
    if private := re.findall(rf"\b{PRIVATE}", about):
        results.append(f"expected the field's words, got {private}")
    return results


def test_every_flag_has_a_help_that_explains_it():
    assert len(ALL_FLAGS) > 150
    assert {f"{where}: {flag.name}": flag.help for where, flag in ALL_FLAGS if faults(flag.help)} == {}


@pytest.mark.parametrize("about", ["", "steps", "of matrices, at first", "whether it is quick", "what is told of it"])
def test_help_that_explains_nothing_is_caught(about):
    assert faults(about)


def test_every_part_has_a_line_that_explains_it():
    for slot in Slot.__subclasses__():
        for name in slot.names():
            about = (slot.find(name).__doc__ or "").partition("\n")[0]
            assert about.endswith((".", "...")) and not about.startswith(f"{slot.find(name).__name__}("), (slot, name)


@pytest.mark.parametrize("flag", ["optimizer.groups", "model.init", "loss.loss"])
def test_flag_of_a_field_that_only_a_file_can_set_is_refused(flag):
    words = ["--loss", "multi_token"] if flag == "loss.loss" else []
    with pytest.raises(ConfigError, match=rf"--{flag}: .* from a TOML file"):
        read_recipe(Recipe(), [*words, f"--{flag}", "[1]"], "nanotx train mine")
