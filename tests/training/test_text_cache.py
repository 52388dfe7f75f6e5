"""A large text is encoded once, in pieces, and trains as a small one does, in less memory."""

import json
import shutil
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import text, tiny

from nanotx.cli.main import run as nanotx_command
from nanotx.data import text_files
from nanotx.data.corpus import Corpus
from nanotx.data.corpus.file import File
from nanotx.data.stored_ids import DiskIds
from nanotx.errors import DataError, TextError
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.tokenizers import Tokenizer, token_file
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.unigram import Unigram
from nanotx.training import text_cache
from nanotx.training.dataset import load_dataset

WORDS = "To be, or not to be: that is the question. Étude in two lines,\nfor one voice and one hand.\n"


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Every text is large, in blocks of a few bytes; the cache is a folder of the test's own."""
    monkeypatch.setattr(text_cache, "LARGE", 1)
    monkeypatch.setattr(text_files, "BLOCK", 200)
    monkeypatch.setattr(text_cache, "cache_folder", lambda: tmp_path / "cache" / "tokens")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text(WORDS * 30, encoding="utf-8")
    return file


def bytes_beyond_ascii(val):
    """How many bytes a text of these ids has more than characters: one for each é of WORDS."""
    return sum(1 for token_id in val.ids if token_id == Char(unknown=True).train([WORDS]).encode("É")[0])


def dataset(path, tokenizer, say=lambda line: None, **corpus):
    return load_dataset(
        Recipe(corpus=File(path=str(path), **corpus), tokenizer=tokenizer, model=Model(context=8)), say=say
    )


def in_memory(path, tokenizer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(text_cache, "LARGE", 1 << 40)
        return dataset(path, tokenizer)


TOKENIZERS = [Char(), Byte(), Bpe(vocab_size=280), Unigram(vocab_size=80)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda value: value.part)
def test_large_text_has_the_tokenizer_the_ids_and_the_identity_of_a_small_one(tokenizer, path, monkeypatch, tmp_path):
    small = in_memory(path, tokenizer, monkeypatch)
    for _ in range(2):  # encoded, and found
        large = dataset(path, tokenizer)
        assert isinstance(large.windows.ids, DiskIds)
        assert large.codec == small.codec
        assert np.array_equal(large.windows.ids[:], small.windows.ids)
        assert (large.sha256, large.size) == (small.sha256, small.size)
        for name in ("train", "val"):
            item, other = large.eval_texts[name], small.eval_texts[name]
            assert item.size == other.size or name == "train"
        assert large.eval_texts["val"].ids.tolist() == small.eval_texts["val"].ids.tolist()
        for item, other in zip(large.windows.batch(3, 4), small.windows.batch(3, 4), strict=True):
            assert item.equal(other)


def test_several_files_are_one_text_in_pieces_as_in_memory(tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for name, content in (("a", WORDS), ("b", ""), ("c", "\ufeffno newline"), ("d", "x y z" * 100), ("e", WORDS[:-1])):
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    for corpus in (File(path=str(folder)), File(path=str(folder / "[cd].txt")), File(path=str(folder / "a.txt"))):
        assert "".join(corpus.pieces()) == corpus.text()
        assert corpus.size_hint() >= len(corpus.text())


def test_text_is_encoded_once_and_says_where(path, tmp_path):
    lines = []
    dataset(path, Char(), lines.append)
    (folder,) = (path for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir())
    assert lines == [f"corpus file: a text of {30 * len(WORDS):,} characters is encoded once, into {folder}."]
    dataset(path, Char(), lines.append)
    assert len(lines) == 1
    dataset(path, Byte(), lines.append)
    path.write_text(WORDS * 31, encoding="utf-8")
    dataset(path, Char(), lines.append)
    assert len(lines) == 3  # another tokenizer, another text


@pytest.mark.parametrize("name", ["train.tok", "val.tok"])
def test_damaged_or_missing_file_of_the_cache_is_rebuilt(name, path, tmp_path):
    whole = dataset(path, Char()).windows.ids[:]
    file = next((tmp_path / "cache" / "tokens").glob(f"*/{name}"))
    data = file.read_bytes()
    for wrong in (data[:-1] + bytes([data[-1] ^ 1]), data[:-2], b"", None):
        file.unlink() if wrong is None else file.write_bytes(wrong)
        lines = []
        assert np.array_equal(dataset(path, Char(), lines.append).windows.ids[:], whole)
        assert len(lines) == 2 and "It is encoded anew." in lines[0]
        assert file.read_bytes() == data


def test_least_recently_used_texts_make_room(path, tmp_path, monkeypatch):
    monkeypatch.setattr(text_cache, "LIMIT", 60_000)
    folder, made = tmp_path / "cache" / "tokens", []
    for number in range(6):
        path.write_text(WORDS * (60 + number), encoding="utf-8")
        dataset(path, Char())
        made.append(next(path for path in folder.iterdir() if path.is_dir() and path not in made))
        size = sum(file.stat().st_size for path in folder.iterdir() if path.is_dir() for file in path.iterdir())
        assert size <= 60_000
    assert made[-1].exists() and not made[0].exists()


def test_cache_that_cannot_be_written_costs_memory_alone(path, tmp_path, monkeypatch):
    wanted, lines = dataset(path, Char()), []
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    result = dataset(path, Char(), lines.append)
    assert "cannot be written" in lines[0] and "in memory" in lines[0]
    assert np.array_equal(result.windows.ids, wanted.windows.ids[:]) and result.sha256 == wanted.sha256
    assert result.eval_texts["val"].size == wanted.eval_texts["val"].size
    monkeypatch.setattr(text_cache, "LIMIT", 10)
    (tmp_path / "cache").unlink()
    dataset(path, Char(), lines.append)
    assert "have no room there" in lines[-1]


def test_two_processes_encode_a_text_once(path, tmp_path):
    """The second waits for the lock that the first one holds, and finds what it made."""
    lines, first = [], text_cache.scan(File(path=str(path)))
    codec = Char().train([WORDS])
    folder = text_cache.cache_folder() / text_cache.key(first, codec)
    with text_cache.locked(folder, lines.append):
        second = threading.Thread(target=text_cache.encode_large, args=(first, Char(), codec, lines.append))
        second.start()
        while not lines:
            second.join(0.01)
        text_cache.write(first, codec, folder)
    second.join()
    assert lines == [f"{folder}: another process encodes this text; waiting for it."]


def test_character_that_only_the_validation_text_has_is_reported_with_the_remedy(path, tmp_path):
    path.write_text(WORDS * 30 + "\u03a9", encoding="utf-8")
    with pytest.raises(TextError, match=r"validation text, of which training saw nothing: char: 'Ω'.*unknown"):
        dataset(path, Char())
    assert not [path for path in (tmp_path / "cache" / "tokens").iterdir() if path.is_dir()]
    val = dataset(path, Char(unknown=True)).eval_texts["val"]
    assert val.unknown == 1 and val.size == len(val.ids) + bytes_beyond_ascii(val) - 1
    assert dataset(path, Byte()).eval_texts["val"].size > 0


def test_text_that_is_wrong_is_refused_as_a_small_one_is(path, monkeypatch):
    path.write_bytes(b"abc \xff" * 100)
    with pytest.raises(DataError, match=r"corpus file: .*a\.txt: expected UTF-8, got byte 0xff at offset 4"):
        dataset(path, Char())
    path.write_text("a", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 character with validation=0\.1 leave"):
        dataset(path, Char())


def test_text_that_changes_while_it_is_encoded_is_noticed(path):
    scanned = text_cache.scan(File(path=str(path)))
    path.write_text(WORDS * 29 + WORDS.upper(), encoding="utf-8")
    with pytest.raises(DataError, match="the text was changed while it was encoded"):
        text_cache.encode_large(scanned, Byte())


def test_tokenizer_that_cannot_encode_in_pieces_reads_the_text_whole(path, monkeypatch):
    small = in_memory(path, Byte(), monkeypatch)
    monkeypatch.setattr(Tokenizer.find("byte")().train([]).__class__, "splittable", False)
    large = dataset(path, Byte())
    assert np.array_equal(large.windows.ids, small.windows.ids) and not isinstance(large.windows.ids, DiskIds)


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    for module in (text_files, token_file):
        monkeypatch.setattr(module, "BLOCK", 1 << 16)
    path, peaks = tmp_path / "a.txt", []
    for size in (1_000_000, 4_000_000):
        path.write_text((WORDS * (size // len(WORDS))), encoding="utf-8")
        tracemalloc.start()
        split = text_cache.encode_large(text_cache.scan(File(path=str(path))), Byte())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(split.train)
    assert peaks[1] < 1.2 * peaks[0]


def losses_of(run: Path) -> dict[int, float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["step"]: row["loss"] for row in map(json.loads, lines) if row["event"] == "step"}


def test_run_on_a_large_text_is_verified_and_resumed_to_the_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt", 3000)
    words = ["train", "macbook", "--corpus", "text.txt", "--schedule", "constant"]
    assert nanotx_command([*words, *tiny(train_steps=6), "--run", "whole"]) == 0
    assert nanotx_command([*words, *tiny(train_steps=3), "--run", "half"]) == 0
    shutil.rmtree("cache")
    assert nanotx_command(["resume", "half", "--train.steps", "6"]) == 0
    losses = [losses_of(Path(run)) for run in ("whole", "half")]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    assert nanotx_command(["verify", "whole"]) == 0
    assert "all 12 checks hold" in capsys.readouterr().out
    text(tmp_path / "text.txt", 3001)
    with pytest.raises(DataError, match="the run began with a corpus of length 3,000"):
        nanotx_command(["resume", "whole", "--train.steps", "9"])


def test_text_of_unknown_size_is_read_whole():
    assert Corpus.find("playhouse")().size_hint() == 0 and File(path="nowhere.txt").size_hint() == 0
