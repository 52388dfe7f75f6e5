"""The tokenizers of two libraries as parts: their ids, their texts, and what is said when something cannot be."""

import copy
import json
import sys

import numpy as np
import pytest
import regex
import tiktoken
from foreign import CODECS, END, LESSON, PRIMER, known, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers import StreamingDecoder, Tokenizer, load
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.convert import write_tokenizer
from nanotx.tokenizers.convert.tokenizer_json import described, understood
from nanotx.tokenizers.huggingface.tokenizer import Huggingface, HuggingfaceCodec
from nanotx.tokenizers.regexes import source_of
from nanotx.tokenizers.tiktoken import KNOWN, Tiktoken, TiktokenCodec
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers


def trained(library, trainer):
    library.train_from_iterator([*LESSON, *"<0"], trainer)
    return library


def bert():
    """Lower-cased words in parts, white space lost, as of BERT."""
    library = Library(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece(cleanup=False)
    names = ["[UNK]", "[CLS]", "[SEP]"]
    trained(library, trainers.WordPieceTrainer(vocab_size=150, special_tokens=names, show_progress=False))
    library.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    library.enable_truncation(3)
    library.enable_padding(length=5)
    return library


def t5():
    """Words with a mark for the space before each, the likeliest parts, as of T5."""
    library = Library(models.Unigram())
    library.pre_tokenizer, library.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    return trained(library, trainer)


def llama():
    """Merges of characters, and bytes for those that are unknown, as of Llama 2."""
    library = Library(models.BPE())
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    table = json.loads(trained(library, trainers.BpeTrainer(vocab_size=60, show_progress=False)).to_str())
    size = len(table["model"]["vocab"])
    table["model"]["vocab"] |= {f"<0x{value:02X}>": size + value for value in range(256)}
    table["model"] |= {"byte_fallback": True, "fuse_unk": True}
    table["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    return Library.from_str(json.dumps(table))


FOREIGN = {"bert": bert(), "t5": t5(), "llama": llama()}
READ = {kind: HuggingfaceCodec(json.loads(library.to_str())) for kind, library in FOREIGN.items()}
kinds = pytest.mark.parametrize("kind", FOREIGN)


@kinds
@given(text=texts)
def test_any_tokenizer_json_gives_the_librarys_ids(kind, text):
    library = Library.from_str(FOREIGN[kind].to_str())
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    ids = READ[kind].encode(text)
    assert ids.dtype == np.int32 and ids.flags.writeable
    assert ids.tolist() == library.encode(text, add_special_tokens=False).ids  # and none put around them
    assert READ[kind].decode(ids) == library.decode(ids.tolist(), skip_special_tokens=False)


@kinds
@given(data=st.data())
def test_stream_of_dependent_ids_equals_decoding_all_ids(kind, data):
    codec = READ[kind]
    text = data.draw(texts)
    any_ids = st.lists(st.integers(0, codec.vocab_size - 1), max_size=20)
    ids = data.draw(st.just(codec.encode(text).tolist()) | any_ids)
    if kind == "llama" and data.draw(st.booleans()):  # bytes of characters, some of them cut off
        cut = data.draw(st.binary(max_size=3)) + text.encode("utf-8")[: data.draw(st.integers(0, 20))]
        ids += [codec.described["model"]["vocab"][f"<0x{value:02X}>"] for value in cut]
    stream = StreamingDecoder(codec)
    for _ in range(2):  # an ended stream begins anew
        assert "".join(map(stream.push, ids)) + stream.end() == codec.decode(ids)


def test_bytes_that_the_library_decodes_together_are_streamed_together():
    codec = READ["llama"]
    vocab = codec.described["model"]["vocab"]
    ids = [vocab[f"<0x{value:02X}>"] for value in "\u6f22\u5b57".encode()]
    for more, whole in (
        ([vocab["<0xE4>"]], "\ufffd" * 7),
        ([], "\u6f22\u5b57"),
        ([vocab["<0xE4>"], vocab["s"]], "\ufffd" * 7 + "s"),
        ([vocab["s"], vocab["<0xE4>"]], "\u6f22\u5b57s\ufffd"),
        ([vocab["s"], vocab["<0xC3>"], vocab["<0xA9>"]], "\u6f22\u5b57s\xe9"),
    ):
        stream = StreamingDecoder(codec)
        assert "".join(map(stream.push, [*ids, *more])) + stream.end() == codec.decode([*ids, *more]) == whole


WORDS = [
    "a",
    "b</w>",
    " ",
    "##c",
    ".",
    "\u2581d",
    " not",
    "'s",
    "\ufffd",
    "|",
    "<pad>",
    "  ",
    "\xe9",
    "n't",
    "<0x41>",
    "<0xE4>",
]
DECODERS = [
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "WordPiece", "prefix": "##", "cleanup": True},
    {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
    {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 2}]},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
    {"type": "ByteFallback"},
]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder["type"])
@given(ids=st.lists(st.integers(0, len(WORDS) - 1), max_size=9))
def test_stream_through_any_decoder_equals_decoding_all_ids(decoder, ids):
    table = dict.fromkeys(["normalizer", "pre_tokenizer", "post_processor", "truncation", "padding"])
    model = {"type": "WordLevel", "vocab": {word: index for index, word in enumerate(WORDS)}, "unk_token": "a"}
    codec = HuggingfaceCodec(table | {"version": "1.0", "added_tokens": [], "decoder": decoder, "model": model})
    try:
        whole = codec.decode(ids)
    except TextError:  # the library panics
        return
    stream = StreamingDecoder(codec)
    assert "".join(map(stream.push, ids)) + stream.end() == whole


def test_what_is_lost_is_known():
    assert not READ["bert"].round_trips("But, soft!") and READ["bert"].round_trips("but")
    assert READ["llama"].round_trips("But, soft!\n\u6f22") and not READ["t5"].round_trips("\u6f22\u6f22\u017f")
    assert READ["bert"].special_tokens == {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}
    assert READ["bert"].encode("a[SEP]a", ["[SEP]"]).tolist()[1] == 2 != READ["bert"].encode("a[SEP]a").tolist()[1]
    with pytest.raises(TextError, match="huggingface: id 99999 at index 0 is out of range"):
        StreamingDecoder(READ["t5"]).push(99999)


def test_what_the_library_cannot_encode_is_reported_with_its_place():
    for kind in ("unigram without <unk>", "char"):
        codec = HuggingfaceCodec(described(CODECS[kind]))
        with pytest.raises(
            TextError, match=r"huggingface: '\u6f23' \(U\+6F23\) at offset 4: up to there the library"
        ) as caught:
            codec.encode("soft\u6f23 light\u6f24")
        assert "nk" in str(caught.value)  # what the library says
    with pytest.raises(TokenizerError, match="huggingface: the special 'a' is written as a token is that the library"):
        Huggingface(special_tokens=("a",)).train(LESSON)


def test_words_that_the_file_adds_are_decoded_as_they_are_written():
    table = described(CODECS["bpe"])
    table["added_tokens"][0] |= {"content": "<é \u6f22>", "special": False}
    table["model"]["vocab"]["<é \u6f22>"] = table["model"]["vocab"].pop(END)
    codec = HuggingfaceCodec(table)
    assert codec.special_tokens == {"[x]": 329} and codec.encode("a<é \u6f22>").tolist()[-1] == 328
    assert codec.decode([328]) == "<é \u6f22>"


@given(text=texts)
def test_what_the_library_learns_here_is_what_we_read_of_it(text):
    codec = LEARNED
    ours = understood(codec.to_dict()["tokenizer"]).codec
    assert codec.vocab_size == ours.vocab_size <= 400 and codec.special_tokens == ours.special_tokens and codec.nfc
    assert codec.encode(text).tolist() == ours.encode(text).tolist()
    assert codec.encode(END + text, [END]).tolist() == ours.encode(END + text, [END]).tolist()


LEARNED = Huggingface(vocab_size=400, pattern="gpt2", special_tokens=(END,), nfc=True).train([*LESSON, f"{END}" * 50])


def test_special_tokens_are_not_trained_on():
    assert not any("endof" in codec for codec in LEARNED.to_dict()["tokenizer"]["model"]["vocab"] if codec != END)


def test_fields_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="vocab_size"):
        Huggingface(vocab_size=256, special_tokens=(END,))
    with pytest.raises(ConfigError, match="no pattern named 'gpt3'"):
        Huggingface(pattern="gpt3")
    with pytest.raises(ConfigError, match="no pattern named 'gpt3'"):
        Tiktoken(pattern="gpt3")
    with pytest.raises(TextError, match="huggingface: lone surrogate U\\+D800 at offset 1"):
        Huggingface().train(["a\ud800"])
    for codec in (LEARNED, RANKS):
        with pytest.raises(TextError, match="lone surrogate U\\+D800 at offset 1"):
            codec.encode("a\ud800")


# tiktoken.


@pytest.fixture
def ranks(tmp_path):
    file = tmp_path / "my.tiktoken"
    write_tokenizer(CODECS["bpe"], "tiktoken", file)
    return file


RANKS = TiktokenCodec("bytes", r"[\s\S]", {bytes([value]): value for value in range(256)})


@pytest.mark.parametrize("pattern", ["gpt4", r" ?[^\s\d]{1,4}|\d(?!\d)|\s+?"])
def test_file_of_ranks_gives_the_ids_of_what_it_was_written_from(ranks, pattern):
    codec = Tiktoken(path=str(ranks), pattern=pattern).train([])
    ours = type(CODECS["bpe"])(CODECS["bpe"].merges, CODECS["bpe"].source if pattern == "gpt4" else pattern)
    assert codec.vocab_size == ours.vocab_size

    @given(text=texts)
    def same(text):
        ids = codec.encode(text)
        assert ids.tolist() == ours.encode(text).tolist() and ids.dtype == np.int32 and ids.flags.writeable
        assert codec.decode(ids) == text  # what a regex of one's own leaves is not dropped

    same()


def test_encoding_is_named_and_saved_whole(tmp_path, monkeypatch):
    merged = {CODECS["bpe"].decode_bytes([number]): number for number in range(328)}
    regex = r"\p{L}+|[^\p{L}]"
    made = tiktoken.Encoding("mine", pat_str=regex, mergeable_ranks=merged, special_tokens={END: 400, "<x>": 330})
    monkeypatch.setattr(tiktoken, "get_encoding", {"gpt2": made}.__getitem__)
    codec = Tiktoken(encoding="gpt2").train([])
    assert codec.vocab_size == 401 and codec.special_tokens == {END: 400, "<x>": 330}
    text = f"But, soft!{END}"
    assert codec.encode(text).tolist() == made.encode_ordinary(text)
    assert codec.encode(text, [END]).tolist() == made.encode(text, allowed_special={END})
    with pytest.raises(TextError, match="tiktoken: id 399 at index 1 is undefined in this tokenizer"):
        codec.decode([400, 399])
    with pytest.raises(TextError, match="tiktoken: id 399 at index 1 is undefined in this tokenizer"):
        codec.count_bytes([400, 399])
    codec.save(tmp_path / "tokenizer.json")
    monkeypatch.undo()
    back = load(tmp_path / "tokenizer.json")  # with neither network nor the library's cache
    assert back == codec and back.encode(text).tolist() == codec.encode(text).tolist()


def test_unavailable_encoding_is_refused_with_the_remedy(monkeypatch):
    with pytest.raises(TokenizerError, match=r"no encoding named 'gpt-2'\. Did you mean 'gpt2'\? Known: cl100k_base"):
        Tiktoken(encoding="gpt-2").train([])

    def unreachable(name):
        raise ConnectionError("Max retries exceeded\nand more")

    monkeypatch.setattr(tiktoken, "get_encoding", unreachable)
    with pytest.raises(TokenizerError, match=r"'gpt2' cannot be fetched: Max retries exceeded\. Try a file of it"):
        Tiktoken().train([])


@pytest.mark.parametrize(("library", "part"), [("tiktoken", Tiktoken), ("tokenizers", Huggingface)])
def test_missing_library_is_named_with_the_remedy(monkeypatch, ranks, library, part):
    monkeypatch.setitem(sys.modules, library, None)
    configs = [part(), part(path=str(ranks), pattern="gpt4") if part is Tiktoken else part(special_tokens=(END,))]
    for config in configs:
        with pytest.raises(TokenizerError, match=f"{library}: the library is not installed; try pip install -c constr"):
            config.train(LESSON)


def test_empty_namespace_is_no_library(monkeypatch, tmp_path):
    # In a checkout a folder of this name holds data: without the library, importing it succeeds and holds nothing.
    monkeypatch.delitem(sys.modules, "tokenizers")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "tokenizers").mkdir()
    with pytest.raises(TokenizerError, match="tokenizers: the library is not installed"):
        Huggingface().train(LESSON)
    monkeypatch.delitem(sys.modules, "tokenizers", raising=False)


def test_what_the_library_cannot_is_an_error_of_ours(ranks):
    with pytest.raises(TokenizerError, match="does not say where a text is cut, and this one is none of OpenAI's"):
        Tiktoken(path=str(ranks)).train([])
    with pytest.raises(ConfigError, match="pattern: the regex 'a\\*' may match the empty text"):
        Tiktoken(path=str(ranks), pattern="a*")  # at an empty match the library panics
    with pytest.raises(TextError, match="gives up on this text of 2 characters; try nanotx tokenizer import"):
        TiktokenCodec("empty", "a*", RANKS.ranks).encode("xa")
    with pytest.raises(TextError, match="the library gives up on this text of 1000000 characters"):
        Tiktoken(path=str(ranks), pattern="gpt4").train([]).encode(" " * 1_000_000)
    with pytest.raises(TokenizerError, match="is not a valid regex for the library"):
        Tiktoken(path=str(ranks), pattern=r"(?r)a|\X").train([])
    with pytest.raises(TokenizerError, match="tiktoken: the byte 0x00 has no rank"):
        TiktokenCodec("none", "a", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": ["YQ== x"]}, "tiktoken: ranks: line 1: expected a token in base64 and its rank"),
        ({"ranks": ["\ud800"]}, "tiktoken: ranks: line 1: expected a token"),
        ({"ranks": []}, "tiktoken: the byte 0x00 has no rank"),
        ({"special_tokens": {"": 999}}, "tiktoken: special_tokens: ''"),
        ({"special_tokens": {"<x>": 5}}, "tiktoken: id 5 is given to"),
        ({"more": 1}, "tiktoken: 'more' is no key here"),
        ({"name": 5}, "tiktoken: name: expected str"),
    ],
)
def test_wrong_table_of_ranks_is_refused(change, message):
    with pytest.raises(TokenizerError, match=message):
        Tiktoken.from_dict(RANKS.to_dict() | change)


@pytest.mark.parametrize("name", ["r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_what_a_published_file_leaves_out_is_what_the_library_says(monkeypatch, name):
    asked = {}

    def fetch(url, expected_hash):
        asked[url.rsplit("/", 1)[1]] = expected_hash
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", fetch)
    theirs = openai_public.ENCODING_CONSTRUCTORS[name]()
    known = KNOWN[asked[f"{name}.tiktoken"]]
    assert known.name == name and known.special_tokens == theirs["special_tokens"]
    ours, source = Splitter(source_of(known.pattern)), theirs["pat_str"].replace("$", r"\Z")

    @given(text=texts)
    def same(text):  # the library writes some of them otherwise, to be quicker
        assert ours.pieces(text) == regex.findall(source, text)

    same()


# Files, by their paths.

# The library would end the process at this one.
PREFIXED = b"""{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]],
"continuing_subword_prefix": "##"}}"""


def test_recipe_takes_a_librarys_file_by_its_path(tmp_path, ranks):
    file = tmp_path / "tokenizer.json"
    file.write_text(FOREIGN["t5"].to_str(), encoding="utf-8")
    assert Tokenizer.table(str(file)) == {"part": "huggingface", "path": str(file)}
    assert Tokenizer.table(str(ranks)) == {"part": "tiktoken", "path": str(ranks)}
    codec = Huggingface(path=str(file)).train(["not read"])
    assert codec == READ["t5"] == load(file)
    codec.save(tmp_path / "run.json")
    file.unlink()
    assert load(tmp_path / "run.json") == codec  # a run needs the file no more
    for other in (file, tmp_path / "run.json", "shakespeare_bpe_512"):
        assert Tokenizer.table(str(other)) == {"part": "saved", "path": str(other)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a tokenizer in JSON"),
        (b'{"model": {}}', "the library cannot read this tokenizer"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}', "the library cannot read this tokenizer"),
        (b'{"model": {"type": "WordLevel", "vocab": {"a": 4000000000}, "unk_token": "a"}}', "id 4000000000: expected"),
        (PREFIXED, "model: merge 0: expected '##' at the beginning of the second half, got"),
        (b'{"model": {"a": ' + b"[" * 5000, "not a tokenizer in JSON"),
    ],
)
def test_file_that_the_library_cannot_read_is_refused(tmp_path, data, message):
    file = tmp_path / "tokenizer.json"
    file.write_bytes(data)
    with pytest.raises(TokenizerError, match=message):
        Huggingface(path=str(file)).train([])
    with pytest.raises(TokenizerError, match=f"{file.name}: "):
        load(file)


SMALL = {kind: json.loads(library.to_str()) for kind, library in FOREIGN.items()} | {"bpe": described(CODECS["bpe"])}
WRONG = [None, True, -1, 3, 1 << 40, 0.5, "", "a", "\ud800", "(", [], [[]], [1, 2], {}, {"type": "Fuse"}, {"a": 1}]


@given(data=st.data())
@settings(max_examples=150)
def test_changed_tokenizer_json_gives_a_codec_or_an_error_of_ours(data):
    table = copy.deepcopy(SMALL[data.draw(st.sampled_from(sorted(SMALL)))])
    inside = table
    while True:  # down to some place, where a value is changed or taken away
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(inside[key], dict | list) and inside[key] and data.draw(st.integers(0, 3)):
            inside = inside[key]
            continue
        if data.draw(st.booleans()):
            del inside[key]
        else:
            inside[key] = copy.deepcopy(data.draw(st.sampled_from(WRONG)))
        break
    try:
        codec = Huggingface.from_dict({"tokenizer": json.loads(json.dumps(table))})
        codec.decode(codec.encode(PRIMER).tolist())
    except TokenizerError:
        return
    assert codec.to_dict()["tokenizer"] == table


@given(text=known)
def test_ids_come_back_from_a_saved_adapter(text):
    for codec in (LEARNED, READ["t5"]):
        assert type(codec)(codec.to_dict()["tokenizer"]).encode(text).tolist() == codec.encode(text).tolist()
