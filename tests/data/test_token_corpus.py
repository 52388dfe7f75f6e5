"""Training on token files: of any size, from the disk, with the tokenizer that made them; and files that are wrong."""

import json
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Forked, text, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.cli.main import run as nanotx_command
from nanotx.config.schema import from_table
from nanotx.data.batches import Windows
from nanotx.data.corpus import Corpus, TokenFiles
from nanotx.data.corpus.tokens import Tokens
from nanotx.data.stored_ids import JoinedIds
from nanotx.errors import ConfigError, DataError, TokenizerError
from nanotx.laws.windows import batch_invariant_order, covers_both_ends, each_window_once, targets_shifted
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers import load, token_file
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte, ByteCodec
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_corpus import open_split
from nanotx.tokenizers.token_file import LAYOUT, Block, Header, Place, read_header, write_tokens
from nanotx.training.dataset import load_dataset

TEXT = "To be, or not to be: that is the question. Étude!\n" * 40
BPE = Bpe(vocab_size=280, special_tokens=("<|end|>",)).train([TEXT])


def tokens(path: Path, ids, codec=None, size: int = 1) -> Path:
    """A token file with these ids."""
    write_tokens(codec or ByteCodec(), path, lambda _: [Block(np.asarray(ids), Place(count=len(ids), size=size))])
    return path


def encoded(path: Path, content: str = TEXT, codec=BPE, **how) -> Path:
    """A token file of a text."""
    source = path.with_suffix(".txt")
    source.write_text(content, encoding="utf-8")
    codec.encode_to_file([source], path, **how)
    source.unlink()
    return path


def dataset(path, tokenizer=None, context=8, **plan):
    paths = path if isinstance(path, tuple) else (path,)
    corpus = Tokens(path=tuple(map(str, paths)))
    tokenizer = tokenizer or Saved(path=str(paths[0]))
    return load_dataset(Recipe(corpus=corpus, tokenizer=tokenizer, model=Model(context=context), train=Train(**plan)))


# What is read.


def test_dataset_of_token_files_is_that_of_their_text(tmp_path):
    """Where the cut falls between the same tokens; the evaluation of few tokens reads all of both."""
    result = dataset(encoded(tmp_path / "a.tok"))
    ids = BPE.encode(TEXT)
    cut = len(ids) - round(len(ids) * 0.1)
    assert result.codec == BPE and result.size == len(ids)
    assert result.windows.ids[:].tolist() == ids[:cut].tolist()
    val = result.eval_texts["val"]
    assert val.ids.tolist() == ids[cut:].tolist() and val.size == len(BPE.decode_bytes(ids[cut:]))
    assert result.eval_texts["train"].tokens == val.tokens


def test_several_files_are_joined_and_files_to_validate_on_are_kept_apart(tmp_path):
    first, two, three = (encoded(tmp_path / f"{name}.tok", name * 50) for name in "abc")
    result = dataset((first, two))
    whole = [*BPE.encode("a" * 50), *BPE.encode("b" * 50)]
    assert [*result.windows.ids[:], *result.eval_texts["val"].ids] == whole
    corpus = Tokens(path=(str(tmp_path / "[ab].tok"),), val_path=(str(three),))
    split = open_split(corpus, corpus.token_files(), Saved(path=str(first)))
    assert split.train.tolist() == whole and split.val.tolist() == BPE.encode("c" * 50).tolist()


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4), data=st.data())
def test_joined_ids_are_taken_as_those_of_an_array(tmp_path_factory, sizes, data):
    folder, codec = tmp_path_factory.mktemp("j"), ByteCodec()
    rows = [np.arange(size) + 40 * number for number, size in enumerate(sizes)]
    files = [codec.open_tokens(tokens(folder / f"{number}", row)) for number, row in enumerate(rows)]
    low = data.draw(st.integers(0, sizes[0]))
    joined = JoinedIds([(file, low * (not number), len(file)) for number, file in enumerate(files)])
    array = np.concatenate(rows)[low:]
    assert joined[:].tolist() == array.tolist() == joined.tolist() and len(joined) == len(array)
    if len(array) > 3:
        starts = data.draw(st.lists(st.integers(0, len(array) - 3), max_size=5))
        assert joined.rows(starts, 3).tolist() == [array[start : start + 3].tolist() for start in starts]
        where = np.add.outer(np.array(starts, np.int64), np.arange(3))
        assert np.array_equal(joined[where], array[where])


def test_laws_of_the_data_hold_of_token_files(tmp_path):
    codec = ByteCodec()
    files = [codec.open_tokens(tokens(tmp_path / name, row)) for name, row in (("a", range(50)), ("b", range(50, 120)))]
    windows = Windows(ids=JoinedIds([(file, 0, len(file)) for file in files]), context=6, seed=3)
    for step in range(9):
        targets_shifted(windows, step, 4)
    each_window_once(windows, 5, 3)
    batch_invariant_order(windows, [0, 7], 4)
    covers_both_ends(windows, 300)


def test_windows_of_a_file_larger_than_memory_are_read_where_they_are(tmp_path):
    """A sparse file of 2 TiB takes no room on the disk; a sample of its ids, all zero, is digested in place of all."""
    path, count = tmp_path / "huge.tok", 2**40
    header = read_header(tokens(path, [0, 1]))
    with path.open("r+b") as file:
        try:
            file.truncate(header.start + 2 * count)
        except OSError:
            pytest.skip("this disk has no sparse files")
        file.seek(header.start)
        file.write(b"\0" * 4)
        file.flush()
        huge = replace(header, count=count, size=count)
        sample = token_file._sample(file.fileno(), huge.start, 2 * count)
        file.seek(0)
        file.write(replace(huge, sample=sample).pack())
    result = dataset(path, context=64)
    assert len(result.windows.ids) == count - round(count * 0.1) and result.eval_texts["val"].requested_tokens
    x, _ = result.windows.batch(10**6, 3)
    assert x.shape == (3, 64) and not x.any()
    with path.open("r+b") as file:  # an id that no sample meets is found when it is read
        place = int(result.windows.starts(5, 1)[0])
        file.seek(header.start + 2 * place)
        file.write(b"\xff\xff")
    with pytest.raises(DataError, match=rf"huge.tok: id 65535 at index {place} is beyond the vocabulary of 256"):
        result.windows.batch(5, 1)


def test_bytes_are_counted_of_the_windows_that_an_evaluation_reads(tmp_path):
    result = dataset(encoded(tmp_path / "a.tok", TEXT * 5), eval_tokens=200)
    text_ = result.eval_texts["val"]
    assert text_.requested_tokens == 200 and 150 < text_.tokens <= 200
    assert text_.size == sum(len(BPE.decode_bytes(window[1:])) for window in text_.windows)


def test_special_token_between_texts_has_no_bytes(tmp_path):
    path = tmp_path / "a.tok"
    (tmp_path / "one.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "two.txt").write_text("two", encoding="utf-8")
    BPE.encode_to_file([tmp_path / "one.txt", tmp_path / "two.txt"], path, separator="<|end|>")
    assert read_header(path).size == len(TEXT.encode("utf-8")) + 3
    val = dataset(path).eval_texts["val"]
    end = BPE.special_tokens["<|end|>"]
    assert end in val.ids and val.size == len(BPE.decode_bytes([token_id for token_id in val.ids if token_id != end]))


def test_ids_that_do_not_give_their_text_back_have_no_bits_per_byte(tmp_path):
    path = encoded(tmp_path / "a.tok", TEXT.replace("É", "E\u0301"), Char(nfc=True).train([TEXT]))
    assert read_header(path).size == 0
    assert dataset(path).eval_texts["val"].size == 0


# The tokenizer.


def test_token_file_holds_its_tokenizer_and_another_one_is_refused(tmp_path):
    path = encoded(tmp_path / "a.tok")
    assert load(path) == BPE
    BPE.save(tmp_path / "bpe.json")
    assert dataset(path, Saved(path=str(tmp_path / "bpe.json"))).codec == BPE
    with pytest.raises(
        TokenizerError, match=r"a.tok: made by the tokenizer of digest .* this one is byte .*--tokenizer"
    ):
        dataset(path, Byte())
    with pytest.raises(TokenizerError, match=r"a token file has no text to train the tokenizer char on; .*--tokenizer"):
        dataset(path, Char())
    other = encoded(tmp_path / "b.tok", codec=ByteCodec())
    with pytest.raises(TokenizerError, match=r"a.tok and .*b.tok were made by different tokenizers .*; encode"):
        dataset((path, other))


def test_token_file_without_its_tokenizer_says_which_one_is_missing(tmp_path):
    path = encoded(tmp_path / "a.tok")
    header, data = read_header(path), path.read_bytes()
    bare = replace(header, tokenizer_size=0)
    path.write_bytes(bare.pack() + data[header.start :])
    with pytest.raises(
        TokenizerError, match=rf"no tokenizer in this token file; name the one of digest {BPE.digest[:12]}"
    ):
        load(path)
    BPE.save(tmp_path / "bpe.json")
    assert dataset(path, Saved(path=str(tmp_path / "bpe.json"))).codec == BPE


def test_tokenizer_that_was_damaged_in_a_token_file_is_refused(tmp_path):
    path = encoded(tmp_path / "a.tok")
    data = path.read_bytes()
    at = data.index(b"bpe", LAYOUT.size)
    path.write_bytes(data[:at] + b"bpf" + data[at + 3 :])
    with pytest.raises(TokenizerError, match=r"a.tok"):
        load(path)


# Files that are wrong.


def damaged(path: Path, change) -> None:
    header, data = read_header(path), path.read_bytes()
    path.write_bytes(change(header, data))


WRONG = {
    "cut off": (lambda head, data: data[:-3], r"expected \d+ ids in \d+ bytes, got"),
    "empty": (lambda head, data: b"", "this is an empty file; one is made by nanotx tokenizer encode --out"),
    "a text": (lambda head, data: TEXT.encode(), "this is no token file"),
    "another version": (
        lambda head, data: data[:8] + b"\x01" + data[9:],
        "version 1 .* reads 3 .*Encode the texts again",
    ),
    "one bit": (
        lambda head, data: data[:-1] + bytes([data[-1] ^ 1]),
        "its ids are not those of its digest|is beyond the",
    ),
    "an id too large": (
        lambda head, data: data[: head.start] + b"\xff\xff" + data[head.start + 2 :],
        "id 65535 at index .* is beyond the vocabulary of 280",
    ),
    "another vocabulary": (
        lambda head, data: replace(head, vocab_size=281).pack() + data[LAYOUT.size :],
        "says that there are 281 ids, and its tokenizer has 280",
    ),
    "no ids": (
        lambda head, data: replace(head, count=0).pack() + data[LAYOUT.size : head.start],
        "0 tokens to train on",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_token_file_is_refused_before_the_first_step(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    change, message = WRONG[name]
    BPE.save(tmp_path / "bpe.json")
    damaged(encoded(tmp_path / "a.tok"), change)
    if name == "no ids":  # whose digest is right
        tokens(tmp_path / "a.tok", [], BPE)
    words = ["train", "shakespeare_char", *tiny(), "--corpus", "tokens", "--corpus.path", "a.tok"]
    with pytest.raises(DataError, match=message) as refused:
        nanotx_command([*words, "--tokenizer", "bpe.json", "--run", "run"])
    assert (refused.value.exit_code == 3 and "a.tok" in str(refused.value)) or name == "no ids"
    assert not (tmp_path / "run").exists()


def test_paths_that_lead_to_no_token_file_say_so(tmp_path):
    for corpus, message in [
        (Tokens(), r"corpus tokens: path is empty; give --corpus\.path books\.tok"),
        (Tokens(path=(str(tmp_path / "x.tok"),)), r"corpus tokens: .*x.tok: there is no such file or folder"),
        (Tokens(path=(str(tmp_path / "*.tok"),)), r"corpus tokens: .*: no file matches"),
    ]:
        with pytest.raises(DataError, match=message):
            corpus.token_files()
    with pytest.raises(DataError, match=r"corpus tokens: consists of token files, and a text is needed here"):
        Tokens(path=("x",)).split()


# From the command line.


def test_path_is_recognised_as_token_files_by_what_is_in_them(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    encoded(folder / "a.tok"), encoded(folder / "b.tok")
    for path in (folder, folder / "a.tok", folder / "*.tok"):
        assert from_table(Corpus, str(path)) == Tokens(path=(str(path),))
        assert from_table(Corpus, str(path)).token_files().paths["train"][0] == folder / "a.tok"
    assert from_table(Corpus, str(text(tmp_path / "plain.txt"))).part == "file"


def rows(run: Path) -> list[tuple[int, float]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    figures = {row["step"]: row["loss"] for row in map(json.loads, lines) if row["event"] == "step"}
    return sorted(figures.items())


def test_run_on_a_token_file_takes_its_tokenizer_and_resumes_to_the_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    encoded(tmp_path / "a.tok")
    words = ["train", "macbook", "--corpus", "a.tok", "--schedule", "constant"]
    assert nanotx_command([*words, *tiny(train_steps=6), "--run", "whole"]) == 0
    assert "swapped: tokenizer: char -> saved; new: path 'a.tok'; gone: " in capsys.readouterr().out
    assert nanotx_command([*words, *tiny(train_steps=3), "--run", "half"]) == 0
    assert nanotx_command(["resume", "half", "--train.steps", "6"]) == 0
    assert rows(Path("whole")) == rows(Path("half"))
    figures = json.loads(Path("whole/summary.json").read_text(encoding="utf-8"))
    assert figures["bits_per_byte"] and figures["corpus"] == "tokens"
    for command in (["verify", "whole"], ["eval", "whole"], ["replay", "whole", "--step", "5"]):
        assert nanotx_command(command) == 0
    assert "all 12 checks hold" in capsys.readouterr().out


def test_token_files_replaced_between_start_and_resume_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoded(tmp_path / "a.tok")
    words = ["train", "shakespeare_char", "--corpus", "a.tok", *tiny(train_steps=3)]
    assert nanotx_command([*words, "--run", "run"]) == 0
    shutil.copy("a.tok", "old.tok")
    encoded(tmp_path / "a.tok", TEXT.replace("be", "bee"))
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"the run began with a corpus of length .*bring the old one back"):
        nanotx_command(["resume", "run", "--train.steps", "6"])
    encoded(tmp_path / "a.tok", codec=ByteCodec())
    with pytest.raises((DataError, TokenizerError), match=r"the run began with a corpus|made by the tokenizer"):
        nanotx_command(["resume", "run", "--train.steps", "6"])
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    shutil.copy("old.tok", "a.tok")
    assert nanotx_command(["resume", "run", "--train.steps", "6"]) == 0


# A corpus of the user's own.

TWO = '''
from dataclasses import dataclass
from nanotx.data.corpus import Corpus, TokenFiles

@Corpus.register("two_books")
@dataclass(frozen=True, kw_only=True)
class TwoBooks(Corpus):
    """Two books."""
    one: str = "a.tok"
    two: str = "b.tok"

    def token_files(self):
        return TokenFiles(train=[self.one, self.two])
'''


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_corpus_of_two_token_files_is_added_in_one_file_and_resumed_after_a_kill(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.py").write_text(TWO, encoding="utf-8")
    encoded(tmp_path / "a.tok"), encoded(tmp_path / "b.tok", TEXT.upper())
    words = ["train", "shakespeare_char", "--load", "two.py", "--corpus", "two_books", *tiny(train_steps=40)]
    assert nanotx_command([*words, "--run", "whole"]) == 0
    child = Forked(*words, "--run", "killed", cwd=tmp_path)
    child.until((tmp_path / "killed" / "checkpoints" / "step-4").exists)
    child.send(signal.SIGKILL)
    child.finish()
    assert len(rows(Path("killed"))) < 40
    assert nanotx_command(["resume", "killed", "--load", "two.py"]) == 0
    assert rows(Path("whole")) == rows(Path("killed"))
    Corpus.registered.pop("two_books")


def test_corpus_without_text_is_a_config_error():
    @dataclass(frozen=True, kw_only=True)
    class Paths(Corpus):
        def token_files(self):
            return ["a.tok"]

    @dataclass(frozen=True, kw_only=True)
    class Nothing(Corpus):
        pass

    with pytest.raises(ConfigError, match=r"token_files\(\) returned .*list.*; expected TokenFiles"):
        load_dataset(Recipe(corpus=Paths()))
    with pytest.raises(ConfigError, match=r"expected a method text\(\) .* or token_files\(\)"):
        Nothing().split()
    with pytest.raises(DataError, match="expected lists of paths, and at least one to train on"):
        TokenFiles(train=())


def test_header_survives_being_packed(tmp_path):
    sizes = {"width": 4, "count": 0, "vocab_size": 70_000, "size": 7, "tokenizer_size": 0}
    header = Header(
        **sizes, tokenizer="ab" * 32, sha256="cd" * 32, sample="ef" * 32
    )  # fmt: skip
    (tmp_path / "x").write_bytes(header.pack())
    assert read_header(tmp_path / "x") == header
