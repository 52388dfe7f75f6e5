"""A part of one's own that is wrong is named with its file in one message, and does not block the next try."""

import hashlib
import itertools
import json
import re
from dataclasses import dataclass

import pytest
import torch
from helpers import finish, start, text, tiny
from safetensors.torch import load_file

from nanotx.cli.main import run
from nanotx.config.registry import load_file as load_user_file
from nanotx.errors import ConfigError, DataError, TokenizerError, UnknownPart
from nanotx.laws.all_laws import SLOTS, laws_on
from nanotx.laws.runner import attempt
from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.tokenizers import load
from nanotx.training.plugin_checks import laws_of_foreign

ATTENTION = """
from dataclasses import dataclass
import torch
from torch import nn
from nanotx.nn.attention import Attention

class Mine(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.map = nn.Linear(dim, dim)
        self.steps = 0

    def forward({signature}):
        self.steps += self.training
        {body}

@Attention.register("{name}")
@dataclass(frozen=True, kw_only=True)
class MyAttention(Attention):
    {build}
"""
BUILD = "def build(self, dim): return Mine(dim)"
FORWARD = "self, x, position=None, cache=None"
number = itertools.count()


@pytest.fixture(autouse=True)
def _nothing_of_mine_stays():
    yield
    for slot in SLOTS.values():
        for name in [name for name in slot.registered if name.startswith("mine_")]:
            del slot.registered[name]


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains in a folder of its own with a file of parts; another text of the file each time is another file."""
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]

    def go(source, *words, **sizes):
        file = tmp_path / f"mine{next(number)}.py"
        file.write_text(source, encoding="utf-8")
        shape = tiny(**sizes)
        at = shape.index("--attention.heads")
        return file, lambda *more: run(
            [
                "train",
                "nanogpt_64",
                "--load",
                str(file),
                *corpus,
                *shape[:at],
                *shape[at + 2 :],
                "--run",
                "r",
                *words,
                *more,
            ]
        )

    return go


def attention(name, body="return self.map(x)", build=BUILD, signature=FORWARD):
    return ATTENTION.format(name=name, body=body, build=build, signature=signature)


WRONG = {
    "another shape": (
        {"body": "return self.map(x)[..., :3]"},
        r"forward returned a tensor of float32 of shape \(2, 5, 3\); expected .*\(2, 5, 16\)",
    ),
    "one dimension less": ({"body": "return self.map(x)[0]"}, r"forward returned .*shape \(5, 16\)"),
    "None": ({"body": "self.map(x)"}, r"forward returned None; expected a tensor"),
    "whole numbers": ({"body": "return self.map(x).long()"}, r"forward returned a tensor of int64"),
    "a tuple": ({"body": "return self.map(x), None"}, r"forward returned a tuple"),
    "raises": ({"body": "raise ValueError('no rows')"}, r"line 15 raises ValueError: no rows"),
    "uses what is not there": ({"body": "return self.mpa(x)"}, r"line 15 raises AttributeError: .*mpa"),
    "fails with a cache": (
        {"body": "return self.map(x) + (0 if cache is None else cache.keys)"},
        r"line 15 raises AttributeError",
    ),
    "another signature": (
        {"signature": "self, x, y, z, w"},
        r"TypeError: .*forward\(\) missing 1 required positional argument: 'w'",
    ),
    "a build of another signature": (
        {"build": "def build(self): return Mine(16)"},
        r"TypeError: .*build\(\) takes 1 positional argument but 2 were given",
    ),
    "a build that gives nothing": (
        {"build": "def build(self, dim): Mine(dim)"},
        r"build returned None; expected an nn.Module",
    ),
    "a build that raises": (
        {"build": "def build(self, dim): return Mine(dim / 0)"},
        r"line 20 raises ZeroDivisionError",
    ),
    "no build": ({"build": "pass"}, r"MyAttention: does not implement the required methods build"),
    "a field without a default": (
        {"build": "width: int\n    " + BUILD},
        r"expected a default for every field; width has none",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_attention_is_named_with_its_file_and_leaves_no_folder(train, tmp_path, wrong):
    fields, message = WRONG[wrong]
    name = "mine_" + wrong.replace(" ", "_")
    file, go = train(attention(name, **fields), "--attention", name)
    with pytest.raises(ConfigError, match=message) as error:
        go()
    assert name in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "r").exists()


def test_correct_attention_trains_and_samples_and_the_trial_changes_no_bits(train, tmp_path):
    _, go = train(attention("mine_right"), "--attention", "mine_right")
    assert go() == 0
    assert json.loads((tmp_path / "r/summary.json").read_text(encoding="utf-8"))["complete"] is True


OTHERS = {
    "norm": (
        "Norm",
        "nanotx.nn.norm",
        "def build(self, dim): return nn.Identity(1).register_forward_hook",
        r"build returned a method",
    ),
    "ffn": (
        "Ffn",
        "nanotx.nn.ffn",
        "def build(self, dim): return nn.Linear(dim, dim + 1)",
        r"forward returned .*\(2, 5, 17\)",
    ),
    "block": (
        "Block",
        "nanotx.nn.block",
        "def build(self, dim): return nn.Linear(dim, dim)",
        r"TypeError: .*positional arguments",
    ),
    "embedding": (
        "Embedding",
        "nanotx.nn.embedding",
        "def build(self, vocab_size, dim): return nn.Linear(dim, dim)",
        r"using it raises|positional",
    ),
    "position": (
        "Position",
        "nanotx.nn.position",
        "def build(self, dim, heads, context): return nn.Identity()",
        r"expected a PositionalEncoding",
    ),
    "optimizer": (
        "Optimizer",
        "nanotx.optim",
        "lr: float = 1.0\n    def build(self, parameters): return None",
        r"build returned None; expected a torch.optim",
    ),
    "schedule": (
        "Schedule",
        "nanotx.optim.schedules",
        "def factor(self, step, steps): return None",
        r"factor\(0, 3\) returned None",
    ),
}


@pytest.mark.parametrize("slot", OTHERS)
def test_wrong_part_of_any_other_slot_is_named_with_its_file(train, tmp_path, slot):
    family, package, body, message = OTHERS[slot]
    source = f"""
from dataclasses import dataclass
from torch import nn
from {package} import {family}

@{family}.register("mine_{slot}")
@dataclass(frozen=True, kw_only=True)
class Mine{family}({family}):
    {body}
"""
    file, go = train(source, f"--{slot}", f"mine_{slot}")
    with pytest.raises(ConfigError, match=message) as error:
        go()
    assert f"mine_{slot}" in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("base", "message"),
    [("Norm", "expected a dataclass: put @dataclass"), ("object", "expected a class derived from Norm")],
)
def test_class_without_dataclass_or_slot_is_named(train, base, message):
    name = f"mine_{base.lower()}"
    head = f"from nanotx.nn.norm import Norm\nfrom torch import nn\n@Norm.register('{name}')\n"
    _, go = train(f"{head}class Odd({base}):\n    def build(self, dim): return nn.Identity()\n", "--norm", name)
    with pytest.raises(ConfigError, match=rf"norm '{name}'.*Odd: {message}"):
        go()


def test_part_that_fails_in_mid_run_costs_no_step(train, tmp_path):
    body = "\n        ".join(["if self.steps > 3: raise RuntimeError('worn out')", "return self.map(x)"])
    sizes = {"train_eval_every": 0, "train_sample_every": 0, "train_checkpoint_every": 0}
    file, go = train(attention("mine_tires", body), "--attention", "mine_tires", **sizes)
    with pytest.raises(
        ConfigError, match=r"mine_tires.*line 15 raises RuntimeError: worn out.*--resume --allow-mismatch, as"
    ) as error:
        go()
    assert str(file) in str(error.value)
    (saved,) = (tmp_path / "r/checkpoints").glob("step-*")
    file.write_text(file.read_text(encoding="utf-8").replace("> 3", "> 99"), encoding="utf-8")
    code, out, errors = finish(start(*resume_words(file), cwd=tmp_path))
    assert code == 0, errors
    assert f"step {saved.name.removeprefix('step-')}" in out
    assert json.loads((tmp_path / "r/summary.json").read_text(encoding="utf-8"))["complete"] is True


def test_run_names_the_command_that_checks_the_laws_of_foreign_parts_once_and_only_of_those(tmp_path):
    file = tmp_path / "my parts.py"
    file.write_text(attention(name := f"mine_{next(number)}"), encoding="utf-8")
    load_user_file(file)
    block = PreNorm(attention=Attention.find(name)())
    [line] = laws_of_foreign(Recipe(model=Model(block=block)), [str(file), "other.py"])
    assert line == (
        f"attention/{name} is a part of your own; to check its laws: nanotx laws attention/{name} --load '{file}'"
    )
    assert laws_of_foreign(Recipe(), [str(file)]) == []


def resume_words(file):
    return ["train", "r/recipe.toml", "--run", "r", "--resume", "--allow-mismatch", "--load", str(file)]


def test_part_that_fails_in_its_first_step_leaves_a_folder_that_can_be_used(train, tmp_path):
    body = "\n        ".join(["if x.shape[1] > 6: raise RuntimeError('too long')", "return self.map(x)"])
    _, go = train(attention("mine_short", body), "--attention", "mine_short")
    with pytest.raises(ConfigError, match=r"mine_short.*too long.*Correct the file and try again"):
        go()
    assert not (tmp_path / "r").exists()
    _, go = train(attention("mine_longer"), "--attention", "mine_longer")
    assert go() == 0


def test_part_that_fails_in_sampling_is_named_without_a_traceback(train, tmp_path):
    file, go = train(attention("mine_later"), "--attention", "mine_later")
    assert go() == 0
    broken = file.read_text(encoding="utf-8").replace(
        "return self.map(x)", "return [][x.shape[0] - 1] if x.shape[1] < 3 else self.map(x)"
    )
    file.write_text(broken, encoding="utf-8")
    code, _, errors = finish(start("sample", "r", "--load", str(file), "--max-new-tokens", "9", cwd=tmp_path))
    assert code == 2 and "Traceback" not in errors
    assert "mine_later" in errors and str(file) in errors and "IndexError" in errors


@pytest.mark.parametrize(
    ("slot", "part"),
    [("attention", "flex"), ("attention", "sdpa"), ("norm", "rmsnorm"), ("position", "learned"), ("schedule", "wsd")],
)
def test_no_file_replaces_a_shipped_part_even_where_it_was_not_yet_imported(train, tmp_path, slot, part):
    family = SLOTS[slot]
    kept = family.registered.pop(part, None)
    source = f'''
from {family.__module__} import {family.__name__}

@{family.__name__}.register("{part}")
class Mine({family.__name__}):
    pass
'''
    file, go = train(source)
    with pytest.raises(ConfigError, match=rf"registers '{part}', the name of a part that comes with nanotx") as error:
        go()
    assert str(file) in str(error.value)
    if kept:
        family.registered[part] = kept
    assert family.find(part).__module__.startswith("nanotx.")
    assert not (tmp_path / "r").exists()


def test_unknown_name_is_still_reported_as_a_name():
    with pytest.raises(UnknownPart, match="no part named 'mine_nowhere'"):
        SLOTS["norm"].find("mine_nowhere")


CORPUS = """
from dataclasses import dataclass
from nanotx.data.corpus import Corpus

@Corpus.register("{name}")
@dataclass(frozen=True, kw_only=True)
class Mine(Corpus):
    def text(self):
        {body}
"""
TEXTS = {
    "bytes": ("return b'abc' * 999", ConfigError, r"text\(\) returned bytes; expected str"),
    "none": ("pass", ConfigError, r"text\(\) returned NoneType; expected str"),
    "half": (r"return 'ab\ud800' * 999", DataError, r"lone surrogate U\+D800 at offset 2"),
    "disk": ("raise OSError('no such drive')", DataError, "cannot be read: no such drive"),
}


@pytest.mark.parametrize("wrong", TEXTS)
def test_corpus_that_returns_no_text_is_named_with_its_file(tmp_path, wrong):
    body, kind, message = TEXTS[wrong]
    name, file = f"mine_{wrong}", tmp_path / f"{wrong}.py"
    file.write_text(CORPUS.format(name=name, body=body), encoding="utf-8")
    words = ["train", "nanogpt_64", "--load", str(file), "--corpus", name, "--run", str(tmp_path / "r"), *tiny()]
    with pytest.raises(kind, match=message) as error:
        run(words)
    assert name in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "r").exists()


def test_corpus_of_bytes_breaks_a_law(tmp_path, capsys):
    file = tmp_path / "raw.py"
    file.write_text(CORPUS.format(name="mine_raw", body="return b'abc' * 999"), encoding="utf-8")
    assert run(["laws", "corpus/mine_raw", "--load", str(file), "--examples", "2", "--jobs", "1"]) == 1
    assert "text() returned bytes; expected str" in capsys.readouterr().out


TOKENIZER = """
from dataclasses import dataclass
import numpy as np
from nanotx.tokenizers import Codec, Tokenizer

@Tokenizer.register("{name}")
@dataclass(frozen=True, kw_only=True)
class Mine(Tokenizer):
    def train(self, texts): return {train}
    @classmethod
    def from_dict(cls, table): return MineCodec()

@dataclass(frozen=True, eq=False)
class MineCodec(Codec):
    part = "{name}"
    vocab_size = {size}
    def encode_ordinary(self, text): return {ids}
    def decode_bytes(self, ids): return {back}
    def to_dict(self): return {table}
"""
RIGHT = {
    "train": "MineCodec()",
    "size": "256",
    "ids": "np.frombuffer(text.encode(), np.uint8).astype(np.int32)",
    "back": "bytes(int(one) for one in ids)",
    "table": "{}",
}
CODECS = {
    "none": ("train", "None", "train returned None; expected a Codec"),
    "list": ("ids", "list(text.encode())", "encode_ordinary returned a list; expected a one-dimensional"),
    "floats": ("ids", "np.zeros(len(text))", "encode_ordinary returned an array of float64"),
    "small": ("size", "50", r"encode_ordinary returned ids from \d+ to \d+; expected ids from 0 to 49"),
    "below": ("ids", "np.full(3, -1)", "encode_ordinary returned ids from -1 to -1"),
    "empty": ("size", "0", "vocab_size=0; expected a whole number of at least 1"),
    "broken": ("size", "256.0", "vocab_size=256.0; expected a whole number"),
    "text": ("back", "'abc'", "decode_bytes returned a str; expected bytes"),
    "table": ("table", "{'x': object()}", "TypeError: Object of type object is not JSON"),
    "nan": ("table", "{'scores': [0.0, float('nan')]}", "ValueError: Out of range float values"),
    "infinite": ("table", "{'scores': [0.0, float('-inf')]}", "ValueError: Out of range float values"),
}


@pytest.mark.parametrize("wrong", CODECS)
def test_tokenizer_without_a_valid_codec_is_named_with_its_file(train, tmp_path, wrong):
    field, value, message = CODECS[wrong]
    name = f"mine_{wrong}"
    file, go = train(TOKENIZER.format(name=name, **RIGHT | {field: value}), "--tokenizer", name)
    with pytest.raises(ConfigError, match=message) as error:
        go()
    assert name in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "from_dict returned None; expected a Codec"),
        ("raise KeyError('scores')", "raises KeyError: 'scores'"),
        ("return type('Late', (MineCodec,), {'vocab_size': 0})()", "vocab_size=0; expected a whole number"),
        ("return type('Late', (MineCodec,), {'to_dict': lambda self: {'x': float('nan')}})()", "Out of range float"),
    ],
)
def test_tokenizer_that_reads_back_no_codec_is_named_when_its_run_is_resumed(train, tmp_path, body, message):
    name = f"mine_back{next(number)}"
    file, go = train(TOKENIZER.format(name=name, **RIGHT), "--tokenizer", name)
    assert go() == 0
    file.write_text(file.read_text(encoding="utf-8").replace("return MineCodec()\n\n", f"{body}\n\n"), encoding="utf-8")
    other = file.with_name(f"other_{file.name}")
    file.rename(other)
    for slot in SLOTS.values():
        slot.registered.pop(name, None)
    with pytest.raises(TokenizerError, match=message) as error:
        run(["resume", "r", "--load", str(other), "--train.steps", "9"])
    assert name in str(error.value) and "tokenizer.json" in str(error.value) and str(other) in str(error.value)


@pytest.mark.parametrize("number_in_it", ["NaN", "-Infinity", "1e999"])
def test_tokenizer_file_with_a_number_that_is_not_finite_is_refused(train, tmp_path, number_in_it):
    name = f"mine_scores{next(number)}"
    _, go = train(TOKENIZER.format(name=name, **RIGHT | {"table": "{'scores': [0.0, -1.5]}"}), "--tokenizer", name)
    assert go() == 0
    saved = tmp_path / "r/tokenizer.json"
    content = saved.read_text(encoding="utf-8")
    table = {"scores": [0.0, float(number_in_it.replace("Infinity", "inf"))]}
    result = hashlib.sha256(json.dumps([name, table], sort_keys=True).encode("ascii")).hexdigest()
    content = re.sub(r'"sha256": "[0-9a-f]{64}"', f'"sha256": "{result}"', content.replace("-1.5", number_in_it))
    saved.write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: a number in it is NaN or infinite"):
        load(saved)


FFN = """
from dataclasses import dataclass
import sys
from torch import nn
from nanotx.nn.ffn import Ffn

@Ffn.register("{name}")
@dataclass(frozen=True, kw_only=True)
class Mine(Ffn):
    def build(self, dim): return MineFfn(dim)

class MineFfn(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.map = nn.Linear(dim, dim)

    def forward(self, x):
        {body}
"""


def test_part_that_ends_the_process_has_failed_in_training_and_in_every_law(train, tmp_path):
    file, go = train(FFN.format(name="mine_ends", body="sys.exit(0)"), "--ffn", "mine_ends")
    with pytest.raises(ConfigError, match=r"mine_ends.*line 18 raises SystemExit: 0"):
        go()
    assert not (tmp_path / "r").exists()
    code, out, _ = finish(
        start("laws", "ffn/mine_ends", "--load", str(file), "--examples", "2", "--jobs", "1", cwd=tmp_path)
    )
    assert code == 1 and "SystemExit: 0" in out


def test_part_that_ends_the_process_later_costs_no_step_and_does_not_exit_with_0(train, tmp_path):
    body = "sys.exit(0) if x.shape[1] > 6 else None; return self.map(x)"
    _, go = train(FFN.format(name="mine_quits", body=body), "--ffn", "mine_quits")
    with pytest.raises(ConfigError, match=r"mine_quits.*raises SystemExit: 0"):
        go()


def test_layer_that_widens_numbers_is_named_before_a_run_begins(train, tmp_path):
    file, go = train(FFN.format(name="mine_wide", body="return self.map(x).double()"), "--ffn", "mine_wide")
    with pytest.raises(
        ConfigError, match=r"mine_wide.*forward returned a tensor of float64.*expected .*float32"
    ) as error:
        go()
    assert str(file) in str(error.value) and not (tmp_path / "r").exists()


@pytest.mark.parametrize("kind", ["list", "dict", "set"])
def test_default_that_can_be_changed_is_refused_with_its_field(train, tmp_path, kind):
    source = FFN.format(name=f"mine_{kind}", body="return self.map(x)")
    source = source.replace("import dataclass", "import dataclass, field")
    source = source.replace("    def build", f"    sizes: {kind} = field(default_factory={kind})\n    def build")
    file, go = train(source, "--ffn", f"mine_{kind}")
    with pytest.raises(ConfigError, match=rf"sizes: expected an immutable default.*got a {kind}") as error:
        go()
    assert str(file) in str(error.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_factor_that_is_not_finite_late_in_a_run_moves_no_weight(train, tmp_path, value):
    name = f"mine_late_{value.removeprefix('-')}_{len(value)}"
    file, go = train(
        f"""
from dataclasses import dataclass
from nanotx.optim.schedules import Schedule

@Schedule.register("{name}")
@dataclass(frozen=True, kw_only=True)
class Mine(Schedule):
    def factor(self, step, steps): return float("{value}") if step == 4 else 1.0
""",
        "--schedule",
        name,
        train_checkpoint_every=0,
    )
    with pytest.raises(ConfigError, match=rf"{name}.*factor\(4, \d+\) returned {value}") as error:
        go()
    assert str(file) in str(error.value) and "--resume" in str(error.value)
    (saved,) = (tmp_path / "r/checkpoints").glob("step-*")
    assert saved.name == "step-4"
    assert all(torch.isfinite(tensor).all() for tensor in load_file(saved / "model.safetensors").values())


IGNORES = {
    "schedule": (
        """
from nanotx.optim.schedules import Schedule

@Schedule.register("mine_lazy_schedule")
@dataclass(frozen=True, kw_only=True)
class Mine(Schedule):
    warmup: int = 10
    power: float = 2.0

    def factor(self, step, steps): return min(1.0, (step + 1) / (self.warmup + 1))
""",
        "field_matters: power=2.0",
    ),
    "optimizer": (
        """
import torch
from nanotx.optim import Optimizer

@Optimizer.register("mine_lazy_optimizer")
@dataclass(frozen=True, kw_only=True)
class Mine(Optimizer):
    lr: float = 0.01
    momentum: float = 0.9

    def build(self, parameters):
        learning = [one for _, one in parameters if one.requires_grad]
        return torch.optim.SGD([{"params": learning, "base_lr": self.lr, "weight_decay": 0.0}], lr=self.lr)
""",
        "field_matters: momentum=0.9",
    ),
    "corpus": (
        """
from nanotx.data.corpus import Corpus

@Corpus.register("mine_lazy_corpus")
@dataclass(frozen=True, kw_only=True)
class Mine(Corpus):
    size: int = 500
    repeat: bool = False

    def text(self): return ("To be, or not to be.\\n" * self.size)[: self.size]
""",
        "field_matters: repeat=False",
    ),
    "tokenizer": (
        """
import numpy as np
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.storage import exactly
from nanotx.tokenizers.base import utf8

@Tokenizer.register("mine_lazy_tokenizer")
@dataclass(frozen=True, kw_only=True)
class Mine(Tokenizer):
    merges: int = 8

    def train(self, texts): return MineCodec()
    @classmethod
    def from_dict(cls, table): return exactly("mine_lazy_tokenizer", table, {}) or MineCodec()

@dataclass(frozen=True, eq=False)
class MineCodec(Codec):
    part = "mine_lazy_tokenizer"
    vocab_size = 256
    def encode_ordinary(self, text):
        return np.frombuffer(utf8(self.part, text), np.uint8).astype(np.int32)
    def decode_bytes(self, ids): return self.check_ids(ids).astype(np.uint8).tobytes()
    def to_dict(self): return {}
""",
        "field_matters: merges=8",
    ),
}


@pytest.mark.parametrize("slot", IGNORES)
def test_part_that_ignores_a_field_breaks_a_law_unless_the_field_is_declared_cost_only(tmp_path, capsys, slot):
    source, message = IGNORES[slot]
    field = message.split()[1].partition("=")[0]
    words = ["--examples", "3", "--jobs", "1"]
    for stated, code in ((False, 1), (True, 0)):
        name = f"mine_lazy_{slot}" + "_and_says_so" * stated
        text = source.replace(f"mine_lazy_{slot}", name)
        if stated:
            text = text.replace("class Mine(", "class Stated(").replace(
                "):\n", f"):\n    cost_only = ({field!r},)\n", 1
            )
        file = tmp_path / f"{name}.py"
        file.write_text("from dataclasses import dataclass\n" + text, encoding="utf-8")
        assert run(["laws", f"{slot}/{name}", "--load", str(file), *words]) == code
        assert (message in capsys.readouterr().out) is not stated


def test_users_model_that_ignores_a_field_breaks_a_law():
    @dataclass(frozen=True, kw_only=True)
    class Mine(Model):
        gain: float = 1.0

    law = next(law for law in laws_on("model") if law.name == "field_matters")
    assert attempt(law, Mine, 1).broken.startswith("field_matters: gain=1.0 and gain=10.0, 0.1")
