"""What an evaluation reads while a run trains: a text of few tokens whole, of a long one windows spread over it."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from helpers import text, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.cli.main import run
from nanotx.data.corpus.file import File
from nanotx.errors import TextError
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import eval_text
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers import Tokenizer
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.special_tokens import known_bytes
from nanotx.training.dataset import load_dataset

LONG = 300_000  # characters of a text
LINES = (
    "the king is dead, long live the king\n",
    "to be, or not to be: that is the question\n",
    "né où? ça va, 東京 よ\n",
)


def write(path: Path, size: int = LONG) -> Path:
    """A text of words, some of them not ASCII."""
    draw = random.Random(3)
    path.write_text("".join(draw.choice(LINES) for _ in range(size // 30)), encoding="utf-8")
    return path


def texts(path: Path, tokenizer: Tokenizer, context: int = 8, **plan: object):
    """What a run of this text would learn from and be scored on."""
    corpus, model = File(path=str(path)), Model(context=context)
    return load_dataset(Recipe(corpus=corpus, tokenizer=tokenizer, model=model, train=Train(**plan)))


def rows(folder: Path, event: str) -> list[dict]:
    """What happened in a run."""
    figures = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row for row in figures if row["event"] == event]


def start(folder: Path, *more: str, **flags: object) -> int:
    """A tiny run on the text beside its folder."""
    words = ["train", "shakespeare_char", "--embedding", "tokens", "--optimizer", "adamw", *tiny(**flags)]
    return run([*words, "--corpus", "file", "--corpus.path", str(folder.parent / "t.txt"), "--run", str(folder), *more])


def test_evaluation_samples_a_long_text_by_default(tmp_path: Path, capsys) -> None:
    write(tmp_path / "t.txt", 2_000_000)
    assert start(tmp_path / "r", train_eval_every=0, train_steps=2) == 0
    (row,) = rows(tmp_path / "r", "eval")
    assert 10_000 < row["val_tokens"] <= 20_000 and 10_000 < row["train_tokens"] <= 20_000
    assert 0 < row["val_stderr"] < 0.1
    summary = json.loads((tmp_path / "r" / "summary.json").read_text(encoding="utf-8"))
    assert all(summary[key] == row[key] for key in ("val_tokens", "val_stderr", "train_tokens"))
    out = capsys.readouterr().out
    assert f"({row['val_tokens']:,} tokens)" in out and f"± {row['val_stderr']:.4f}" in out


def test_evaluation_reads_a_short_text_whole(tmp_path: Path, capsys) -> None:
    text(tmp_path / "t.txt")
    assert start(tmp_path / "r") == 0
    assert {row["val_tokens"] for row in rows(tmp_path / "r", "eval")} == {90}
    assert "(all 90 tokens)" in capsys.readouterr().out


def test_text_as_long_as_tiny_shakespeare_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(("To be, or not to be: that is the question.\n" * 26_000)[:1_115_394], encoding="utf-8")
    eval_texts = load_dataset(Recipe(tokenizer=Char(), corpus=File(path=str(path)))).eval_texts
    assert eval_texts["val"].tokens == eval_texts["val"].size == 111_539
    assert eval_texts["train"].tokens == eval_texts["train"].size == 2**15  # in windows over all of it
    asked = load_dataset(Recipe(tokenizer=Char(), corpus=File(path=str(path)), train=Train(eval_tokens=0))).eval_texts
    assert asked["train"].tokens == 111_539


def test_eval_tokens_of_0_reads_all_and_a_number_reads_about_so_many(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt")
    for count, least, most in ((0, 25_000, 40_000), (1_000, 1_000, 1_000), (999_999, 25_000, 40_000), (3, 8, 8)):
        eval_text = texts(path, Char(), eval_tokens=count).eval_texts["val"]
        assert least <= eval_text.tokens <= most
        assert sum(x.numel() for x, _ in eval_text.batches(8, 4)) == eval_text.tokens


@pytest.mark.parametrize("name", ["char", "byte", "bpe", "word", "wordpiece", "unigram"])
def test_bytes_of_what_is_read_are_counted_for_every_tokenizer(tmp_path: Path, name: str) -> None:
    sizes = {
        "bpe": {"vocab_size": 300},
        "word": {"vocab_size": 23},
        "wordpiece": {"vocab_size": 80},
        "unigram": {"vocab_size": 80},
    }
    config = Tokenizer.find(name)(**sizes.get(name, {}))
    path = write(tmp_path / "t.txt")
    result = texts(path, config, eval_tokens=2_000)
    for paper in result.eval_texts.values():
        message = sum(len(result.codec.decode_bytes(window[1:])) for window in paper.windows)
        assert paper.size == message > 0 and 1_900 < paper.tokens <= 2_000


def test_windows_are_spread_over_the_whole_text_and_are_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    numbers = "".join(f"{number:05}\n" for number in range(50_000))
    path.write_text(numbers, encoding="utf-8")
    result = texts(path, Byte(), context=12, eval_tokens=1_200)
    again = texts(path, Byte(), context=12, eval_tokens=1_200)
    validation = numbers[round(len(numbers) * 0.9) :]
    places = [validation.index(result.codec.decode(window)) for window in result.eval_texts["val"].windows]
    assert len(places) == 100 and places[0] < 300 and places[-1] > len(validation) * 0.98
    assert np.ptp(np.diff(places)) <= 2  # all as far apart
    assert all(map(np.array_equal, result.eval_texts["val"].windows, again.eval_texts["val"].windows))


def spaced(ids: list[int]) -> str:
    """Ids as a text in which each has spaces around it, so that 1 is not found in 11."""
    return f" {' '.join(map(str, ids))} "


def test_tokens_of_a_window_are_those_of_the_whole_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt")
    for config in (Char(), Tokenizer.find("bpe")(vocab_size=300), Tokenizer.find("word")(vocab_size=15, unknown=True)):
        result = texts(path, config, eval_tokens=2_000)
        whole = result.codec.encode(path.read_text(encoding="utf-8")).tolist()
        windows = result.eval_texts["val"].windows
        assert len(windows) > 100
        assert [window for window in windows if spaced(window.tolist()) not in spaced(whole)] == []


def test_no_more_is_encoded_of_a_longer_text(tmp_path: Path, monkeypatch) -> None:
    codec = Byte().train(["a"])
    seen = []
    encode = type(codec).encode
    monkeypatch.setattr(type(codec), "encode", lambda self, text: seen.append(len(text)) or encode(self, text))
    for size in (1_000_000, 4_000_000):
        seen.clear()
        result = texts(write(tmp_path / "t.txt", size), Byte(), eval_tokens=2_000)
        assert sum(seen) - len(result.windows.ids) < 700_000  # what is learned from is encoded whole


@pytest.mark.slow
def test_sample_of_windows_gives_the_loss_of_the_text_within_its_standard_error(tmp_path: Path) -> None:
    write(tmp_path / "t.txt")
    flags = {"train_eval_every": 0, "train_sample_every": 0, "train_steps": 40}
    assert start(tmp_path / "part", "--train.eval-tokens", "4000", **flags) == 0
    assert start(tmp_path / "all", "--train.eval-tokens", "0", **flags) == 0
    (part,), (whole,) = rows(tmp_path / "part", "eval"), rows(tmp_path / "all", "eval")
    assert part["val_tokens"] == 4_000 and whole["val_tokens"] > 20_000
    assert abs(part["val_loss"] - whole["val_loss"]) < 4 * part["val_stderr"]
    assert abs(part["bits_per_byte"] - whole["bits_per_byte"]) < 0.05 * whole["bits_per_byte"]
    figures = tmp_path / "e.json"
    assert run(["eval", str(tmp_path / "part"), "--json", str(figures), "--device", "cpu"]) == 0
    assert json.loads(figures.read_text(encoding="utf-8"))["loss"] == pytest.approx(whole["val_loss"], rel=1e-5)


def test_verify_gives_the_recorded_loss_of_a_part_to_the_bit(tmp_path: Path, capsys) -> None:
    write(tmp_path / "t.txt")
    assert (
        start(tmp_path / "r", "--train.eval-tokens", "800", "--tokenizer", "bpe", "--tokenizer.vocab-size", "300") == 0
    )
    assert run(["verify", str(tmp_path / "r")]) == 0
    assert "equal to the last bit" in capsys.readouterr().out


def test_another_number_may_be_read_from_a_resume_on(tmp_path: Path, capsys) -> None:
    write(tmp_path / "t.txt")
    assert start(tmp_path / "r", "--train.eval-tokens", "800") == 0
    assert start(tmp_path / "r", "--resume", "--train.eval-tokens", "1600", train_steps=9) == 0
    assert "evaluations now read 1,600 tokens of each text; before, 800 tokens" in capsys.readouterr().out
    counts = {row["step"]: row["val_tokens"] for row in rows(tmp_path / "r", "eval")}
    assert counts[3] == 800 and counts[9] == 1600
    assert run(["verify", str(tmp_path / "r")]) == 0


def test_character_that_training_never_saw_is_refused_at_the_start_wherever_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt")
    path.write_text(path.read_text(encoding="utf-8") + "z" * 3 + "\n" + "ok\n" * 20, encoding="utf-8")
    with pytest.raises(TextError, match=r"validation text.*'z' \(U\+007A\) at offset \d{4}"):
        texts(path, Char(), eval_tokens=80)


def test_invalid_number_of_windows_is_refused(tmp_path: Path) -> None:
    text(tmp_path / "t.txt")
    with pytest.raises(Exception, match=r"eval_tokens: expected a number of at least 0, or 'auto', got -1"):
        start(tmp_path / "r", "--train.eval-tokens", "-1")


def test_standard_error_is_that_of_windows_drawn_at_random() -> None:
    from nanotx.evaluation.loss import cross_entropies, evaluate
    from nanotx.hardware.device import choose_machine

    model, machine = Model(dim=16, layers=1, context=10).build(7).eval(), choose_machine("cpu", "float32", 1)
    eval_text = EvalText(ids=np.arange(1_000) * 5 % 7, start=0, size=1)
    nats = np.concatenate([item.numpy() for item in cross_entropies(model, eval_text, machine, "none")]).reshape(-1, 10)
    score = evaluate(model, eval_text, machine)
    assert score.stderr == pytest.approx(nats.mean(1).std(ddof=1) / np.sqrt(100), rel=1e-4)
    assert evaluate(model, EvalText(ids=np.arange(9) % 7, start=0, size=1), machine).stderr is None


@settings(deadline=None)
@given(known=st.text(alphabet="abcé \n", min_size=1, max_size=40), words=st.text(alphabet="abcé \nxyΩ", max_size=40))
def test_bytes_of_a_text_are_counted_but_for_those_of_unknown_characters(known, words):
    codec = Char(unknown=True).train([known])
    data = words.encode("utf-8")
    wanted = sum(len(word.encode("utf-8")) for word in words if word in codec.alphabet)
    ids = codec.encode(words)
    assert known_bytes(codec, ids, data) == wanted
    if len(ids) > 1 and wanted and ids[0] != ids[1]:  # other ids are not those of the text
        assert known_bytes(codec, ids[::-1].copy(), data) in (0, wanted)
    if words:
        result = eval_text(codec, words)
        assert (result.size, result.unknown) == (wanted, sum(word not in codec.alphabet for word in words))


def test_windows_with_unknown_tokens_have_the_bytes_of_the_others():
    codec = Char(unknown=True).train(["abc \n"])
    long = "abc Ω abc\n" * 400
    result = eval_text(codec, long, count=300, context=30)
    assert result.windows and result.unknown > 0
    assert result.size == result.tokens - result.unknown
