"""A slot finds its parts by name: declared here, in a file of its folder, imported by --load, or plugged in."""

import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import python

from nanotx.cli.run import run
from nanotx.config.registry import load_file
from nanotx.config.schema import from_table
from nanotx.config.toml import read_toml
from nanotx.data.corpus import Corpus
from nanotx.errors import ConfigError, UnknownPart
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.ffn import Ffn
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.optim import Optimizer
from nanotx.optim.schedules import Schedule
from nanotx.recipe import Recipe
from nanotx.tokenizers import Tokenizer
from nanotx.tokenizers.byte import Byte

SLOTS = [Attention, Block, Corpus, Ffn, Norm, Optimizer, Position, Schedule, Tokenizer]
SMALL = shlex.split("""
    --model.dim 16 --model.layers 1 --model.context 8 --train.steps 2 --train.batch-size 2 --train.sample-tokens 5
    --device cpu --dtype float32 --threads 1
""")
TINY = [*SMALL, *shlex.split("--corpus playhouse --corpus.size 4000 --tokenizer byte")]

PART = '''
"""An attention in which a position reads from itself alone."""

from dataclasses import dataclass

from torch import nn

from nanotx.nn.attention import Attention
from nanotx.nn.position import NO_POSITION


@Attention.register("{name}")
@dataclass(frozen=True, kw_only=True)
class Mirror(Attention):
    """Reads from itself."""

    heads: int = 2  # how many
    bias: bool = False  # in the map

    def build(self, dim):
        return MirrorAttention(self, dim)


class MirrorAttention(nn.Module):
    def __init__(self, config, dim):
        super().__init__()
        self.to_out = nn.Linear(dim, dim, bias=config.bias)

    def forward(self, x, position=NO_POSITION, cache=None):
        return self.to_out(x)
'''


@pytest.fixture(autouse=True)
def as_before():
    """A part that a test brings is forgotten after it; ours stay, because their files are imported once."""
    yield
    for slot in SLOTS:
        for name, part in list(slot.registered.items()):
            if part.__module__.split(".")[0] != "nanotx":
                del slot.registered[name]


# A slot of the tests' own, in a package on the disk.


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A slot whose folder holds the parts `red` and `blue`, and a file that is no part."""
    package = f"toys_{tmp_path.name}"
    folder = tmp_path / package
    folder.mkdir()
    face = f"from nanotx.config.registry import Slot\nclass Toy(Slot, slot='toy', package={package!r}): ...\n"
    (folder / "__init__.py").write_text(face, encoding="utf-8")
    for name in ("red", "blue", "_hidden"):
        text = f"from {package} import Toy\n@Toy.register({name!r})\nclass Part(Toy): ...\n"
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__(package).Toy
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[module]


def test_decorator_gives_a_part_its_name(toy):
    @toy.register("green")
    class Green(toy): ...

    assert toy.find("green") is Green
    assert Green.part == "green"


def test_file_is_a_part_and_is_imported_when_it_is_asked_for(toy):
    module = f"{toy.package}.red"
    assert module not in sys.modules
    assert "red" in toy.names()
    assert module not in sys.modules  # to be named is not to be imported
    assert toy.find("red").__module__ == module
    assert toy.find("red").part == "red"


def test_names_are_sorted_and_leave_out_what_is_hidden(toy):
    @toy.register("azure")
    class Azure(toy): ...

    assert toy.names() == ["azure", "blue", "red"]


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.slot)
def test_each_slot_of_ours_names_its_files_and_finds_each(slot):
    assert slot.shipped() <= set(slot.names())
    assert slot.names() == sorted(slot.names())
    for name in slot.shipped():
        part = slot.find(name)
        assert issubclass(part, slot) and part.part == name
        assert part() == part()  # a part stands without being told anything


def test_unknown_part_error_suggests_a_similar_name_the_known_ones_and_load():
    with pytest.raises(UnknownPart) as error:
        Attention.find("sdpaa")
    message = str(error.value)
    assert message.startswith("nanotx.attention: no part named 'sdpaa'. Did you mean 'sdpa'? Known: ")
    assert ", ".join(Attention.names()) in message
    assert "--load FILE.py" in message
    assert error.value.exit_code == 2


def test_nothing_is_proposed_where_nothing_is_near():
    with pytest.raises(UnknownPart, match=r"no part named 'zzzzzz'\. Known: "):
        Norm.find("zzzzzz")


def test_registry_rejects_a_duplicate_name(toy):
    red = toy.find("red")
    with pytest.raises(ConfigError, match=r"registers 'red', but .*\.red\.Part already has that name; choose another"):

        @toy.register("red")
        class Crimson(toy): ...

    assert toy.find("red") is red


def test_same_part_may_be_registered_again(toy):
    red = toy.find("red")
    assert toy.register("red")(red) is red


def test_part_is_never_subclassed(toy):
    red = toy.find("red")
    with pytest.raises(TypeError, match="Crimson: a part is never subclassed; wrap Part instead"):

        class Crimson(red): ...


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.slot)
def test_no_part_of_ours_can_be_subclassed(slot):
    with pytest.raises(TypeError, match="never subclassed"):
        type("Other", (slot.find(slot.names()[0]),), {})


def test_file_that_cannot_be_imported_is_named(toy, tmp_path):
    (tmp_path / toy.package / "grey.py").write_text("import no_such_package_anywhere\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'grey' cannot be imported: No module named 'no_such_package_anywhere'"):
        toy.find("grey")


# --load: a file of the user's own.


def test_users_file_is_loaded_and_trains(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(PART.format(name="mine"), encoding="utf-8")
    words = [
        *TINY,
        "--load",
        str(mine),
        "--attention",
        "mine",
        "--attention.heads",
        "4",
        "--run",
        str(tmp_path / "run"),
    ]
    assert run(Recipe(), words, "mine") == 0
    recipe = from_table(Recipe, read_toml(tmp_path / "run" / "recipe.toml"))
    assert recipe.model.block.attention == Attention.find("mine")(heads=4)
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["complete"]


def test_file_that_is_loaded_twice_is_loaded_once(tmp_path, monkeypatch):
    mine = tmp_path / "twice.py"
    mine.write_text(PART.format(name="twice"), encoding="utf-8")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    load_file(mine)
    part = Attention.find("twice")
    load_file("../twice.py")
    load_file(str(mine))
    assert Attention.find("twice") is part
    assert run(Recipe(), ["--load", str(mine), "--load", "../twice.py", "--print-config"], "twice") == 0


def test_two_files_of_one_name_are_two_files(tmp_path):
    for folder, name in (("a", "one"), ("b", "other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(PART.format(name=name), encoding="utf-8")
        load_file(tmp_path / folder / "mine.py")
    assert {"one", "other"} <= set(Attention.names())


def test_loaded_part_may_not_take_a_built_in_name(tmp_path):
    Attention.find("sdpa")
    mine = tmp_path / "mine.py"
    mine.write_text(PART.format(name="sdpa"), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"registers 'sdpa', but nanotx\.nn\.attention\.sdpa\.Sdpa already has that name"
    ):
        load_file(mine)


@pytest.mark.parametrize("name", ["absent.py", "text.txt", "folder"])
def test_what_is_no_file_of_python_is_not_loaded(tmp_path, name):
    (tmp_path / "text.txt").write_text("To be", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"--load .*: expected a Python file such as mine\.py"):
        load_file(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_package_anywhere", "No module named 'no_such_package_anywhere'"),
        ("def half(:", "invalid syntax"),
    ],
)
def test_file_that_fails_to_load_is_a_config_error_and_may_be_fixed_and_loaded_again(tmp_path, text, reason):
    mine = tmp_path / "mended.py"
    mine.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"--load .*mended.py: .*{reason}"):
        load_file(mine)
    mine.write_text(PART.format(name="mended"), encoding="utf-8")
    load_file(mine)
    assert "mended" in Attention.names()


def test_recipe_loads_no_file(tmp_path):
    (tmp_path / "mine.py").write_text("raise AssertionError('loaded')\n", encoding="utf-8")
    recipe = tmp_path / "mine.toml"
    recipe.write_text('load = ["mine.py"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="load: Recipe has no such field"):
        run(Recipe(), [str(recipe), "--print-config"], "mine")


# A plug-in: a distribution of its own, installed where Python finds it.

ENTRIES = """
[nanotx.attention]
mirror = nanotx_toys.mirror:Mirror
broken = nanotx_toys.broken:Broken
hollow = nanotx_toys.mirror:Absent

[nanotx.corpus]
two_books = nanotx_toys.two_books:TwoBooks

[nanotx.recipes]
toy = nanotx_toys.recipe:recipe
"""
TWO_BOOKS = """
from dataclasses import dataclass
from nanotx.data.corpus import Corpus, TokenFiles

@dataclass(frozen=True, kw_only=True)
class TwoBooks(Corpus):
    one: str = "a.tok"
    two: str = "b.tok"

    def token_files(self):
        return TokenFiles(train=[self.one, self.two])
"""
RECIPE = """
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx_toys.mirror import Mirror

recipe = Recipe(model=Model(block=PreNorm(attention=Mirror())))
"""


@pytest.fixture(scope="module")
def plugged(tmp_path_factory) -> Path:
    """A folder into which pip has installed a real distribution, from a wheel, without a network."""
    folder = tmp_path_factory.mktemp("plugged")
    info = "nanotx_toys-1.0.dist-info"
    files = {
        "nanotx_toys/__init__.py": "",
        "nanotx_toys/mirror.py": PART.format(name="mirror"),
        "nanotx_toys/broken.py": "import no_such_package_anywhere\n",
        "nanotx_toys/recipe.py": RECIPE,
        "nanotx_toys/two_books.py": TWO_BOOKS,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: nanotx-toys\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test_registry\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": ENTRIES,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel = folder / "nanotx_toys-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return site


@pytest.fixture
def installed(plugged, monkeypatch):
    monkeypatch.syspath_prepend(plugged)
    yield
    for module in [name for name in sys.modules if name.split(".")[0] == "nanotx_toys"]:
        del sys.modules[module]


def child(plugged: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m nanotx WORDS...` where the plug-in is installed."""
    return python("-m", "nanotx", *words, PYTHONPATH=str(plugged))


def test_plugged_in_part_trains_and_writes_by_its_name(plugged, tmp_path):
    folder = str(tmp_path / "run")
    done = child(plugged, "train", "macbook", *TINY, "--attention", "mirror", "--attention.heads", "2", "--run", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    table = read_toml(Path(folder) / "recipe.toml")
    assert table["model"]["block"]["attention"] == {"part": "mirror", "heads": 2, "bias": False}
    # Where it is not installed, the run says how it can be supplied.
    with pytest.raises(UnknownPart, match=r"no part named 'mirror'.*--load FILE\.py"):
        run(Recipe(), ["--run", folder, "--resume"], "macbook")


def test_plugged_in_corpus_of_two_token_files_trains_and_resumes(plugged, tmp_path):
    flags = ["--corpus", "two_books"]
    for field, name in (("one", "a"), ("two", "b")):
        (tmp_path / f"{name}.txt").write_text(f"the book {name}\n" * 60, encoding="utf-8")
        Byte().train([]).encode_to_file([tmp_path / f"{name}.txt"], tmp_path / f"{name}.tok")
        flags += [f"--corpus.{field}", str(tmp_path / f"{name}.tok")]
    folder = str(tmp_path / "run")
    done = child(plugged, "train", "macbook", *SMALL, "--tokenizer", "byte", *flags, "--run", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    done = child(plugged, "resume", folder, "--train.steps", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_toml(Path(folder) / "recipe.toml")["corpus"]["part"] == "two_books"
    done = child(plugged, "verify", folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_plugged_in_part_is_looked_up_like_a_built_in_part(installed):
    assert {"mirror", "sdpa"} <= set(Attention.names())
    assert Attention.find("mirror").__module__ == "nanotx_toys.mirror"
    assert Attention.find("mirror") is Attention.find("mirror")
    assert from_table(Attention, "mirror", "here") == Attention.find("mirror")()


def test_what_is_not_installed_is_not_named():
    assert "mirror" not in Attention.names()


def test_plug_in_that_cannot_be_imported_ends_in_one_message(plugged, tmp_path):
    done = child(plugged, "train", "macbook", *TINY, "--attention", "broken", "--run", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (message,) = done.stderr.splitlines()
    assert message.startswith("ConfigError: ")
    assert "nanotx.attention: 'broken' cannot be imported: No module named 'no_such_package_anywhere'" in message
    assert not (tmp_path / "run").exists()


def test_plug_in_without_the_part_it_announced_is_an_error_of_config(installed):
    with pytest.raises(ConfigError, match=r"nanotx\.attention: 'hollow' cannot be imported: .*Absent"):
        Attention.find("hollow")


def test_plugged_in_recipe_runs_by_its_name(installed, capsys):
    from nanotx.cli.commands import train

    assert train.run(["toy", "--print-config"]) == 0
    assert 'part = "mirror"' in capsys.readouterr().out
