"""Tokenizers written for other libraries and read from them: the same ids for any text, or a refusal by name."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken
from foreign import CODECS, END, LESSON, assigned, known, published_gpt2, small_gpt2, texts, texts_for
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe

from nanotx.cli.main import run
from nanotx.errors import ConfigError, NanotxError, TextError, TokenizerError
from nanotx.tokenizers import load
from nanotx.tokenizers.bpe import Bpe, BpeCodec
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.convert import read_tokenizer, write_tokenizer
from nanotx.tokenizers.convert.pipeline import check_portable
from nanotx.tokenizers.convert.ranks import merges_of
from nanotx.tokenizers.convert.tokenizer_json import as_text, described, understood
from nanotx.tokenizers.regexes import NAMED
from nanotx.tokenizers.tiktoken import CL100K, O200K, Tiktoken
from nanotx.tokenizers.word import Word
from nanotx.tokenizers.wordpiece import WordPiece
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

ROOT = Path(__file__).resolve().parents[2]
kinds = pytest.mark.parametrize("kind", CODECS)
OWN = r" ?[^\s\d]{1,4}|\d(?!\d)|\s+?"
WORDS = WordPiece(vocab_size=2).train(["a"]).to_dict()["regex"]
SPACED = CODECS["unigram"].to_dict()["regex"]


def library(table):
    """What the library makes of a tokenizer.json, told that a special's name in a text is ordinary."""
    opened = Library.from_str(as_text(table))
    opened.encode_special_tokens = True
    return opened


LIBRARY = {kind: library(described(codec)) for kind, codec in CODECS.items()}


@kinds
@given(data=st.data())
def test_what_we_write_gives_the_library_the_same_ids_and_the_text_back(kind, data):
    codec = CODECS[kind]
    text = data.draw(texts_for(codec))
    ids = codec.encode(text).tolist()
    assert LIBRARY[kind].encode(text, add_special_tokens=False).ids == ids
    assert LIBRARY[kind].decode(ids, skip_special_tokens=False) == codec.decode(ids)


@kinds
def test_what_we_write_we_read_again_as_the_same_tokenizer(kind, tmp_path):
    codec = CODECS[kind]
    done = write_tokenizer(codec, "huggingface", tmp_path / "new" / "one")
    assert [file.name for file in done.files] == ["tokenizer.json", "tokenizer_config.json"]
    for path in (tmp_path / "new" / "one", done.files[0]):
        result = read_tokenizer(path)
        assert result.codec == codec and result.notes == ()
    # As the library itself writes it, with its own layout and its defaults spelled out.
    assert understood(json.loads(LIBRARY[kind].to_str())).codec == codec


@kinds
def test_exported_folder_has_the_files_that_transformers_reads(kind, tmp_path):
    codec = CODECS[kind]
    write_tokenizer(codec, "huggingface", tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config.pop("tokenizer_class") == "PreTrainedTokenizerFast"
    assert config.pop("clean_up_tokenization_spaces") is False
    names = {"eos_token": END, "unk_token": "<unk>"}
    assert config == {key: name for key, name in names.items() if name in codec.special_tokens}
    (file,) = write_tokenizer(codec, "huggingface", tmp_path / "alone.json").files
    assert file == tmp_path / "alone.json" and len(list(tmp_path.iterdir())) == 3  # no config beside a file


@kinds
def test_transformers_opens_what_we_write_beside_a_config_of_gpt2(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    codec = CODECS[kind]
    write_tokenizer(codec, "huggingface", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    opened = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for text in ("But, soft!  what\n\nlight 's", "a . b , e ! it 's", "\n #a \t"):
        ids = codec.encode(text).tolist()
        assert opened(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ids
        assert opened.decode(ids) == text


def test_special_token_is_read_where_both_libraries_allow_it():
    for kind, codec in CODECS.items():
        if END not in codec.special_tokens:
            continue
        opened = Library.from_str(as_text(described(codec)))
        text = f"But{END}soft[x]{END}"
        assert opened.encode(text, add_special_tokens=False).ids == codec.encode(text, [END, "[x]"]).tolist(), kind


# What the library learned.


def learned(model, trainer, before, decoder):
    opened = Library(model)
    opened.pre_tokenizer, opened.decoder = before, decoder
    opened.train_from_iterator(LESSON, trainer)
    opened.encode_special_tokens = True
    return opened


def by_regex(source):
    return pre_tokenizers.Split(Regex(source), "isolated")


ALPHABET = pre_tokenizers.ByteLevel.alphabet()
NAMES = ["<unk>", END]


def learned_bpe(before, special_tokens):
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=ALPHABET, special_tokens=special_tokens, show_progress=False
    )
    return learned(models.BPE(), trainer, before, decoders.ByteLevel())


def learned_wordpiece(special_tokens):
    model = models.WordPiece(unk_token="<unk>", max_input_chars_per_word=1 << 30)
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=special_tokens, show_progress=False)
    back = decoders.Sequence([decoders.Replace("##", ""), decoders.Fuse()])
    return learned(model, trainer, by_regex(WORDS), back)


def learned_unigram(special_tokens):
    unknown = "<unk>" if special_tokens else None
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=special_tokens, unk_token=unknown, show_progress=False
    )
    return learned(models.Unigram(), trainer, by_regex(SPACED), decoders.Fuse())


LEVELLED = {"add_prefix_space": False, "use_regex": False}
THEIRS = {
    "bpe by gpt2": learned_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), []),
    "bpe of whole texts": learned_bpe(pre_tokenizers.ByteLevel(**LEVELLED), [END]),
    "bpe by a regex": learned_bpe(
        pre_tokenizers.Sequence([by_regex(OWN), pre_tokenizers.ByteLevel(**LEVELLED)]), [END, "[x]"]
    ),
    "wordpiece": learned_wordpiece(NAMES),
    "wordpiece without <unk>": learned_wordpiece([]),
    "unigram": learned_unigram(NAMES),
    "unigram without <unk>": learned_unigram([]),
}


@pytest.mark.parametrize("kind", THEIRS)
@given(data=st.data())
def test_what_the_library_learned_gives_us_the_same_ids(kind, data):
    opened, codec = THEIRS[kind], OURS[kind]
    assert codec.vocab_size == opened.get_vocab_size()
    text = data.draw(known if "without" in kind else texts)
    try:
        ids = codec.encode(text).tolist()
    except TextError:  # there is no <unk>, and the library gives up too
        with pytest.raises(Exception, match=r"(?i)unk"):
            opened.encode(text, add_special_tokens=False)
        return
    assert ids == opened.encode(text, add_special_tokens=False).ids
    assert opened.decode(ids, skip_special_tokens=False) == codec.decode(ids)


OURS = {kind: understood(json.loads(opened.to_str())).codec for kind, opened in THEIRS.items()}


@pytest.mark.parametrize("kind", THEIRS)
def test_what_the_library_learned_is_written_as_it_was_read(kind):
    assert understood(described(OURS[kind])).codec == OURS[kind]


def test_characters_whose_ids_are_in_another_order_are_refused():
    model, trainer = models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(show_progress=False)
    table = json.loads(learned(model, trainer, by_regex(r"[\s\S]"), decoders.Fuse()).to_str())
    with pytest.raises(TokenizerError, match=r"single characters, their ids in the order of their code points. Try"):
        understood(table)


# Files of ranks.


@pytest.mark.parametrize("kind", ["byte", "bpe", "bpe of its own"])
def test_file_of_ranks_gives_tiktoken_the_same_ids_and_nanotx_the_same_merges(kind, tmp_path):
    codec, file = CODECS[kind], tmp_path / "my.tiktoken"
    done = write_tokenizer(codec, "tiktoken", file)
    assert done.files == (file,)
    pattern = codec.source if isinstance(codec, BpeCodec) else r"[\s\S]+"
    assert bool(done.notes) == isinstance(codec, BpeCodec)
    opened = tiktoken.Encoding("my", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(str(file)), special_tokens={})
    result = read_tokenizer(file, "gpt4" if kind == "bpe" else pattern, tuple(codec.special_tokens))
    assert "the given one was used" in result.notes[0]
    if kind != "byte":
        assert result.codec == codec

    @given(text=texts)
    def same(text):
        assert codec.encode(text).tolist() == result.codec.encode(text).tolist()
        if kind != "bpe of its own":  # the library drops what a regex leaves
            assert opened.encode_ordinary(text) == codec.encode(text).tolist()

    same()


@given(lesson=st.lists(texts, min_size=1), size=st.integers(0, 60), pattern=st.sampled_from(["gpt2", "gpt4"]))
def test_merges_are_recovered_from_ranks_exactly(lesson, size, pattern):
    codec = Bpe(vocab_size=256, pattern=pattern).train(lesson)
    for smaller in range(size, 0, -7):
        try:
            codec = Bpe(vocab_size=256 + smaller, pattern=pattern).train(lesson)
            break
        except TokenizerError:
            continue
    tokens = [codec.decode_bytes([number]) for number in range(256, codec.vocab_size)]
    assert merges_of("here", tokens) == list(codec.merges)


def test_token_that_no_merge_makes_is_named():
    with pytest.raises(TokenizerError, match=r"here: the token b'abc' cannot be merged .* 3 parts of it, \[b'a', b'b'"):
        merges_of("here", [b"abc"])
    with pytest.raises(TokenizerError, match="cannot be merged from earlier ones: they make 1 parts"):
        merges_of("here", [b"ab", b"ab"])
    with pytest.raises(TokenizerError, match="its tokens are too long, the longest of 300 bytes; expected at most 256"):
        merges_of("here", [b"a" * 300])
    many = [bytes([65 + number % 26]) * 200 + str(number).encode() for number in range(2000)]
    with pytest.raises(TokenizerError, match="its tokens are too long, the longest of 204 bytes"):
        merges_of("here", many)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "1 of the 256 bytes have no token, the first of them 0x00; a text with"),
        (lambda lines: [*lines, b"YWJj"], r"line 331: expected a token in base64 and its rank, got b'YWJj'"),
        (lambda lines: [*lines, b"YWJj -3"], "line 331: expected a token in base64"),
        (lambda lines: [*lines, b"YWJj 999999999"], "line 331: expected a token in base64"),
        (lambda lines: [*lines, b"Y*Jj 999"], "line 331: expected a token in base64"),
        (lambda lines: [*lines, b" 999"], "line 331: expected a token in base64"),
        (lambda lines: [*lines, b"AA== 999"], r"line 331: the token b'\\x00' or its rank is there already"),
        (lambda lines: [*lines, b"/v7+ 7"], "line 331: the token .* or its rank is there already"),
        (lambda lines: [*lines, b"/v39/A== 999"], "cannot be merged from earlier ones"),
        (lambda lines: [], "256 of the 256 bytes have no token"),
    ],
)
def test_wrong_file_of_ranks_is_refused_with_its_line(tmp_path, change, message):
    file = tmp_path / "my.tiktoken"
    write_tokenizer(CODECS["bpe of gpt2 with nfc"].__class__(CODECS["bpe"].merges, NAMED["gpt4"]), "tiktoken", file)
    lines = file.read_bytes().split(b"\n")[:-1]
    lines += [b""] * (330 - len(lines))
    file.write_bytes(b"\n".join(change(lines)))
    with pytest.raises(TokenizerError, match=message) as caught:
        read_tokenizer(file, "gpt4")
    assert str(caught.value).startswith(str(file))


def test_rank_file_needs_a_pattern(tmp_path):
    file = tmp_path / "my.tiktoken"
    write_tokenizer(CODECS["byte"], "tiktoken", file)
    with pytest.raises(TokenizerError, match="does not say where a text is cut, and this one is none of OpenAI's; try"):
        read_tokenizer(file)
    with pytest.raises(ConfigError, match=r"no pattern named 'gpt3'\. Did you mean"):
        read_tokenizer(file, "gpt3")
    with pytest.raises(TokenizerError, match="this is a folder; expected a file to write, such as"):
        write_tokenizer(CODECS["byte"], "tiktoken", tmp_path)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (CODECS["char"], "char: a file of ranks holds byte-level tokens alone"),
        (CODECS["bpe of gpt2 with nfc"], "bpe: a file of ranks cannot say nfc=True"),
        (BpeCodec(((97, 98), (97, 99)), NAMED["gpt4"], ids=(*range(256), 300, 299)), "here 299 comes after 300"),
        (BpeCodec(((97, 98), (98, 99), (97, 257)), NAMED["gpt4"]), "bpe: .*would merge otherwise|cannot be merged"),
    ],
)
def test_what_ranks_cannot_say_is_refused(tmp_path, codec, message):
    with pytest.raises(TokenizerError, match=message):
        write_tokenizer(codec, "tiktoken", tmp_path / "my.tiktoken")
    assert list(tmp_path.iterdir()) == []


# GPT-2's pair of files.


@pytest.mark.parametrize("folder", [None, *published_gpt2()], ids=lambda folder: "small" if folder is None else "gpt2")
def test_gpt2s_files_give_tiktokens_ids(folder, tmp_path):
    published = folder is not None
    folder = folder or small_gpt2(tmp_path)
    result = read_tokenizer(folder)
    codec = result.codec
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    opened = tiktoken.Encoding(
        "gpt2", pat_str=NAMED["gpt2"], mergeable_ranks=ranks, special_tokens=dict(codec.special_tokens)
    )
    assert codec.special_tokens == {END: codec.vocab_size - 1} and codec.vocab_size == opened.n_vocab
    assert codec.ids[ord("!")] == 0 and codec.ids[0] == 188  # an id is no byte's value
    assert ("as published" if published else "these are not the files that were published") in result.notes[0]
    written = library(described(codec))

    @given(text=texts)
    @settings(max_examples=200)
    def same(text):
        ids = codec.encode(text).tolist()
        assert ids == opened.encode_ordinary(text) == written.encode(text, add_special_tokens=False).ids
        assert codec.decode(ids) == text

    same()
    assert codec.encode(f"a{END}", [END]).tolist() == opened.encode(f"a{END}", allowed_special="all")
    file = tmp_path / "gpt2.tiktoken"
    write_tokenizer(codec, "tiktoken", file)
    if published:  # the file of ranks that OpenAI published, to the byte
        again = read_tokenizer(file)
        assert again.codec == codec and again.notes == ("this is r50k_base, as published",)
        assert Tiktoken(path=str(file)).train([]).special_tokens == codec.special_tokens
        with pytest.raises(ConfigError, match="this is r50k_base, whose pattern and special tokens are known"):
            read_tokenizer(file, "gpt4")


def test_pair_may_have_hugging_faces_names_and_another_pattern(tmp_path):
    small_gpt2(tmp_path, "vocab.json", "merges.txt")
    result = read_tokenizer(tmp_path, "gpt4")
    assert result.codec.to_dict()["pattern"] == "gpt4" and "GPT-2's pattern was used" not in result.notes[0]
    for name in ("vocab.json", "merges.txt"):
        again = read_tokenizer(tmp_path / name)
        assert "GPT-2's pattern was used" in again.notes[0]
        assert again.codec == BpeCodec(
            result.codec.merges, NAMED["gpt2"], result.codec.special_tokens, ids=result.codec.ids
        )
    with pytest.raises(ConfigError, match="names its special tokens itself"):
        read_tokenizer(tmp_path, special_tokens=["<x>"])
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(TokenizerError, match=r"merges.txt: no merges can be read here: No such file"):
        read_tokenizer(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(
        TokenizerError, match=r"expected one of a tokenizer.json, a \*.tiktoken file, or encoder.json and"
    ):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a b c", r"vocab.bpe: line 76: expected two tokens and a space between, got 'a b c'"),
        ("ab", "line 76: expected two tokens"),
        ("qqq a", r"encoder.json: merge 74: 'qqq' is no token yet"),
        ("q z", "merge 74: 'qz' is not in the vocabulary"),
    ],
)
def test_wrong_merge_is_named(tmp_path, line, message):
    small_gpt2(tmp_path)
    with (tmp_path / "vocab.bpe").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(TokenizerError, match=message):
        read_tokenizer(tmp_path)
    (tmp_path / "vocab.bpe").write_bytes(b"#version\n\xff\n")
    with pytest.raises(TokenizerError, match=r"vocab.bpe: expected UTF-8, got byte 0xff at offset 9"):
        read_tokenizer(tmp_path)


# What cannot be taken over is named.

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def put(table, path, value):
    """The table with another value at a path such as `model.merges.0`."""
    table = copy.deepcopy(table)
    *above, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inside = table
    for step in above:
        inside = inside[step]
    inside[last] = value
    return table


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("bpe", "truncation", {"max_length": 5}, "truncation={'max_length': 5} is not supported"),
        ("bpe", "padding", {}, "padding={} is not supported; expected None. Try --tokenizer huggingface"),
        ("bpe", "normalizer", {"type": "Lowercase"}, "normalizer: type='Lowercase' .*; expected 'NFC'"),
        ("bpe", "normalizer", {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}, "type='NFKC'"),
        ("bpe", "pre_tokenizer.pretokenizers.1.add_prefix_space", True, "add_prefix_space=True"),
        ("bpe", "pre_tokenizer.pretokenizers.1.use_regex", True, "use_regex=True cuts the pieces of Split once more"),
        ("bpe", "pre_tokenizer.pretokenizers.0.behavior", "Removed", "behavior='Removed' with invert=False"),
        ("bpe", "pre_tokenizer.pretokenizers.0.pattern", {"String": " "}, "'String'=' ' is unknown to nanotx"),
        ("bpe", "pre_tokenizer.pretokenizers.0.pattern", {"Regex": "^a"}, r"'\^a' may mean one thing here and another"),
        ("bpe", "pre_tokenizer", {"type": "Metaspace"}, r"expected a Split and a ByteLevel, .*got \['Metaspace'\]"),
        ("bpe", "pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Sequence"}]}, "within a sequence"),
        ("bpe", "pre_tokenizer", None, "expected a Split and a ByteLevel"),
        ("bpe", "decoder", {"type": "Metaspace"}, "decoder: 'type'|decoder: type='Metaspace'"),
        ("bpe", "decoder", None, "decoder: expected one of the type ByteLevel, got None"),
        ("bpe", "model.dropout", 0.1, "model: dropout=0.1 is not supported"),
        ("bpe", "model.byte_fallback", True, "byte_fallback=True"),
        ("bpe", "model.unk_token", "<unk>", "unk_token='<unk>'"),
        ("bpe", "model.end_of_word_suffix", "</w>", "end_of_word_suffix='</w>'"),
        ("bpe", "model.merges.0", ["a"], "merge 0: expected a pair of tokens"),
        ("bpe", "model.vocab.Ġt", "7", "'Ġt': expected an id, got '7'"),
        ("bpe", "model.vocab.Ġt", 5, "id 5 is given to"),
        ("bpe", "model.vocab.Ġt", -5, "id -5: expected a whole number from 0"),
        ("bpe", "model.vocab.Ġt", 1 << 30, "id 1073741824: expected a whole number"),
        ("bpe", "model.vocab.Ġnever", 900, "no merge makes the token 'Ġnever', b' never'; expected one for each. Try"),
        ("bpe", "model.type", "Quantum", "type='Quantum' is no model that nanotx reads; expected BPE, WordLevel"),
        ("bpe", "model.type", ["BPE"], r"type=\['BPE'\] is no model"),
        ("bpe", "model", [], "model: type=None is no model"),
        ("bpe", "added_tokens.0.special", False, "special=False is not supported; expected True"),
        ("bpe", "added_tokens.0.lstrip", True, "added_tokens: number 0: lstrip=True"),
        ("bpe", "added_tokens.0.id", 7, r"'<\|endoftext\|>' has the id 7, and the library would give it 328"),
        ("bpe", "added_tokens", {}, "added_tokens: expected a list"),
        ("bpe", "version", "2.0", "version='2.0'"),
        ("bpe", "nanotx", "tokenizer", "this is a tokenizer of nanotx already"),
        ("bpe", "more", 1, "'more'=1 is unknown to nanotx"),
        ("char", "pre_tokenizer.pattern", {"Regex": "."}, "expected one that takes each character as a word"),
        ("char", "decoder", None, "decoder: expected one of the type Fuse, got None"),
        ("char", "model.vocab.ab", 999, "expected the ids from 0 on, none left out"),
        ("char", "model.unk_token", "?", r"unk_token='\?'"),
        ("wordpiece", "model.max_input_chars_per_word", 100, "max_input_chars_per_word=100 makes longer words <unk>"),
        ("wordpiece", "decoder", {"type": "WordPiece", "prefix": "##"}, "decoder: .* gives another text back"),
        ("wordpiece", "pre_tokenizer", {"type": "BertPreTokenizer"}, "expected one Split by a regex"),
        ("wordpiece", "pre_tokenizer.pattern.Regex", r"\S+|\s+", "wordpiece: regex: expected"),
        ("unigram", "model.byte_fallback", True, "byte_fallback=True"),
        ("unigram", "model.unk_id", 3, "unk_id=3: expected null, or the id of <unk>"),
        ("unigram", "model.unk_id", None, "<unk> is a special, and unk_id is null"),
        ("unigram", "model.vocab.0", ["a"], "vocab: expected pairs of a token and its score"),
        ("unigram", "pre_tokenizer", {"type": "Metaspace"}, "expected one Split by a regex"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_named(tmp_path, kind, path, value, message):
    file = tmp_path / "tokenizer.json"
    file.write_text(as_text(put(described(CODECS[kind]), path, value)), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message) as caught:
        read_tokenizer(file)
    assert str(caught.value).startswith(str(file))


def test_what_changes_no_id_is_taken():
    table = described(CODECS["bpe"])
    codec = CODECS["bpe"]
    table["model"]["merges"] = [" ".join(pair) for pair in table["model"]["merges"]]  # as older files have them
    assert understood(table).codec == codec
    assert understood(put(table, "model.ignore_merges", True)).codec == codec
    whole = put(
        put(table, "pre_tokenizer.pretokenizers.0.behavior", "Removed"), "pre_tokenizer.pretokenizers.0.invert", True
    )
    assert understood(whole).codec == codec  # gpt4 leaves nothing out
    around = put(
        table, "post_processor", {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
    )
    assert "post_processor ('TemplateProcessing') puts special ids around" in understood(around).notes[0]
    level = put(
        put(table, "post_processor", LEVEL), "normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    )
    assert understood(level).codec == BpeCodec(codec.merges, codec.source, codec.special_tokens, nfc=True)


def test_tokens_taken_whole_that_their_merges_do_not_make_are_refused():
    merges = ((98, 99), (97, 98), (257, 99))  # abc: bc comes first, so that ab c never is
    table = put(described(BpeCodec(merges, NAMED["gpt4"])), "model.ignore_merges", True)
    with pytest.raises(TokenizerError, match=r"ignore_merges|would take|takes tokens whole"):
        understood(table)


def test_two_ways_to_make_a_token_are_refused():
    table = described(BpeCodec(((97, 98), (98, 99), (256, 99)), NAMED["gpt4"]))
    table["model"]["merges"].append(["a", "bc"])
    with pytest.raises(TokenizerError, match="merge 3: 'abc' is already a token, and no part of nanotx has two ways"):
        understood(table)


def test_special_token_that_the_library_would_read_as_a_token_is_not_written():
    with pytest.raises(TokenizerError, match="bpe: the special 'Ġ' is written as a token of this tokenizer is"):
        described(Bpe(vocab_size=257, special_tokens=("Ġ",)).train([]))
    for name in ("soft", "##t", "  "):
        with pytest.raises(TokenizerError, match=f"wordpiece: the special '{name}' can stand in a text as a piece"):
            described(WordPiece(vocab_size=60, special_tokens=(name,)).train(LESSON[:1]))
    with pytest.raises(TokenizerError, match=r"word: no tokenizer\.json is known that gives its ids"):
        described(Word(vocab_size=4, unknown=True).train(["a b"]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a tokenizer in JSON"),
        (b"[" * 100_000, "not a tokenizer in JSON"),
        (b'{"model": NaN}', "NaN is no number"),
        (b"[]", "expected a JSON object, got list"),
        (b"\xff", "not a tokenizer in JSON"),
        (b'{"version": "1.0"', "not a tokenizer in JSON"),
        (b"{}", "the key 'added_tokens' is missing"),
        (b" " * (1 << 24) + b"{}", "larger than 16777216 bytes"),
    ],
)
def test_foreign_file_is_refused(tmp_path, data, message):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(data)
    with pytest.raises(TokenizerError, match=message) as caught:
        read_tokenizer(file)
    assert str(caught.value).startswith(str(file))


def places(table, above=()):
    """The paths of all values in a table."""
    inside = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in inside:
        yield (*above, key)
        yield from places(value, (*above, key))


WRONG = [None, True, -1, 3, 1 << 40, 0.5, "", "a", "Ġ", "\ud800", "(", [], [[]], [1, 2], {}, {"type": "Fuse"}, {"a": 1}]
SMALL = {
    "char": described(Char(unknown=True).train(["abc"])),
    "bpe": described(Bpe(vocab_size=259, special_tokens=(END,)).train(["abcabab"])),
    "wordpiece": described(WordPiece(vocab_size=9, special_tokens=(END,), unknown=True).train(["abcabab"])),
    "unigram": described(CODECS["unigram"]),
}
PLACES = {kind: list(places(table)) for kind, table in SMALL.items()}


@given(data=st.data())
@settings(max_examples=200)
def test_changed_file_gives_a_tokenizer_or_an_error_of_ours(data):
    kind = data.draw(st.sampled_from(sorted(SMALL)))
    table = copy.deepcopy(SMALL[kind])
    # The few places that are no entry of a vocabulary come as often as all that are.
    few = [place for place in PLACES[kind] if "vocab" not in place[:-1]]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(few) | st.sampled_from(PLACES[kind]))
        inside = table
        try:
            for step in place[:-1]:
                inside = inside[step]
            if data.draw(st.booleans()):
                del inside[place[-1]]
            else:
                inside[place[-1]] = copy.deepcopy(data.draw(st.sampled_from(WRONG)))
        except (KeyError, IndexError, TypeError):  # the first change took the second one's place away
            continue
    try:
        codec = understood(json.loads(json.dumps(table))).codec
    except TokenizerError:
        return
    codec.encode("abc" if "a" in table["model"]["vocab"] else "")
    assert type(codec).__name__


# Regexes that mean the same to both.

PIECES = (
    r"\p{L} \p{N} \p{Lu} \P{L} \s \S \d \D \r \n . a é \. \- [^\s\p{L}\p{N}] [a-z] [\r\n/] [^\r\n\p{L}] [\p{L}\p{M}_]"
)
pieces = st.sampled_from([*PIECES.split(), " ", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"])
repeats = st.sampled_from(["", "", "", "+", "?", "*", "+?", "*?", "{1,3}", "{2}", "{2,}", "++", "?+"])
atoms = st.builds(str.__add__, pieces, repeats)
ahead = st.builds("{}{}{})".format, atoms, st.sampled_from(["(?!", "(?="]), atoms)
sequences = st.lists(atoms | ahead, min_size=1, max_size=4).map("".join)
groups = st.builds("(?:{}|{}){}".format, sequences, sequences, repeats)
regexes = st.lists(sequences | groups, min_size=1, max_size=3).map("|".join)


@given(source=regexes, text=texts)
@settings(max_examples=300)
def test_portable_regex_cuts_alike_here_and_in_the_library(source, text):
    try:
        check_portable("here", source)
    except TokenizerError as error:
        assert "may match nothing at all" in str(error)
        return
    cut = [piece for piece, _ in by_regex(source).pre_tokenize_str(text)]
    assert Splitter(source).pieces(text) == cut


@pytest.mark.parametrize("source", [*NAMED.values(), CL100K, O200K, WORDS, SPACED, OWN, r"[\s\S]+"])
def test_regexes_in_use_are_portable(source):
    check_portable("here", source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (r"\w+", r"'\\w+'|may mean"),
        (r"a$", r"'\$' may mean one thing here and another in the library"),
        (r"^a", "may mean"),
        (r"\p{N}{1,3}+", "may mean"),
        (r"a{1,3}?", "may mean"),
        (r"(?i:ss)", "may mean"),
        (r"(?m)a", "may mean"),
        (r"(?<=a)b", "may mean"),
        (r"\bx", "may mean"),
        (r"(a)\1", "may mean"),
        (r"[a&&b]", "may mean"),
        (r"[[:alpha:]]", "may mean"),
        (r"[\w]", "may mean"),
        (r"a**", "is not a valid regex"),
        (r"a{99999999999}", "is not a valid regex"),
        ("(" * 600 + "a" + ")" * 600, "at most 1000 characters|is not a valid regex"),
        ("(" * 400 + "a" + ")" * 400, "is not a valid regex|$"),
        (r"(a", "is not a valid regex"),
        (r"a*|b", "may match nothing at all"),
        (r"(?=a)|b", "may match nothing at all"),
    ],
)
def test_what_may_mean_something_else_is_refused(source, message):
    if source.startswith("(" * 400) and len(source) < 1000:
        return  # as deep as this Python's own limit allows, and no matter of meaning
    with pytest.raises(TokenizerError, match=message):
        check_portable("here", source)


@given(character=assigned)
def test_letters_and_numbers_are_the_same_to_both(character):
    for kind in (r"\p{L}", r"\p{N}", r"\s", r"\d", r"\p{M}"):
        left = by_regex(kind + "+").pre_tokenize_str(f"\x01{character}\x01")
        assert Splitter(kind + "+").pieces(f"\x01{character}\x01") == [piece for piece, _ in left]


# The command line.


def test_tokenizer_is_exported_and_imported_by_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    codec = CODECS["bpe"]
    codec.save("mine.json")
    assert run(["tokenizer", "export", "mine.json", "--to", "huggingface", "out"]) == 0
    output = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert output == [str(Path("out", name)) for name in ("tokenizer.json", "tokenizer_config.json")]
    assert run(["tokenizer", "import", "out", "--out", "back.json"]) == 0
    assert load("back.json") == codec
    assert capsys.readouterr().out.startswith("back.json: bpe, 330 ids\n")
    assert run(["tokenizer", "export", "back.json", "my.tiktoken", "--to", "tiktoken"]) == 0
    assert "a file of ranks does not say where a text is cut: by" in capsys.readouterr().out
    message = ["--pattern", "gpt4", "--special-tokens", *codec.special_tokens]
    assert run(["tokenizer", "import", "my.tiktoken", "--out", "again.json", *message]) == 0
    assert load("again.json") == codec
    small_gpt2(tmp_path)
    capsys.readouterr()
    assert run(["tokenizer", "import", "encoder.json", "--out", "gpt2.json"]) == 0
    assert "encoder.json: these are not the files that were published with GPT-2" in capsys.readouterr().out
    assert load("gpt2.json").special_tokens == {END: 330}


@pytest.mark.parametrize(
    ("to", "path"),
    [("huggingface", "a/b/x.json"), ("huggingface", "a/b"), ("tiktoken", "a/b/x.tiktoken"), ("tiktoken", "x.tiktoken")],
)
def test_export_makes_the_folder_that_it_writes_to(tmp_path, monkeypatch, to, path):
    monkeypatch.chdir(tmp_path)
    CODECS["bpe"].save("mine.json")
    CODECS["char"].save("letters.json")
    assert run(["tokenizer", "export", "mine.json", "--to", to, path]) == 0
    assert Path(path).exists()
    with pytest.raises(NanotxError):  # and none where nothing can be written
        run(["tokenizer", "export", "letters.json", "--to", "tiktoken", "c/d/x.tiktoken"])
    assert not Path("c").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("export mine.json --to hugingface out", 2, "--to hugingface: no such format. Did you mean 'huggingface'"),
        ("export nobody --to huggingface out", 3, "nobody: there is no such file"),
        ("export mine.json --to huggingface file/out", 3, "nothing can be written here"),
        ("import nothing.json", 3, "nothing.json: cannot be read: No such file"),
        ("import my.tiktoken", 3, "my.tiktoken: no file of ranks can be read here: No such file"),
        ("import file", 3, "file: not a tokenizer in JSON"),
        ("import mine.json", 3, "mine.json: this is a tokenizer of nanotx already"),
        ("import tokenizer.json --pattern gpt4", 2, "holds its pattern itself; leave out --pattern"),
    ],
)
def test_what_the_commands_cannot_do_is_refused(tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("To be", encoding="utf-8")
    CODECS["bpe"].save("mine.json")
    with pytest.raises(NanotxError) as caught:
        run(["tokenizer", *words.split()])
    assert message in str(caught.value) and caught.value.exit_code == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine.json"]


def test_conversion_of_tokenizers_imports_no_torch():
    names = ", ".join(f"nanotx.tokenizers.convert.{name}" for name in ("tokenizer_json", "rank_file", "merges_file"))
    code = f"import sys, {names}; "
    code += "print([name for name in ('torch', 'tokenizers', 'tiktoken', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
