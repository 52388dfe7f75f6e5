"""An imported byte-level BPE gives the library's ids for every text, or is refused, with `ignore_merges` or without."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.errors import TokenizerError
from nanotx.tokenizers.byte_level import CHARACTERS
from nanotx.tokenizers.convert import read_tokenizer

tokenizers = pytest.importorskip("tokenizers")
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def table(vocab, merges, ignore, added=()):
    """A tokenizer.json."""
    tokens = [
        {"id": item, "content": name, "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for name, item in added
    ]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore}
    around = {"normalizer": None, "pre_tokenizer": LEVEL, "post_processor": None, "decoder": LEVEL}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, **around}
    return whole | {"model": model | {"vocab": vocab, "merges": merges}}


def imported(path, actual):
    path.write_text(json.dumps(actual), encoding="utf-8")
    return read_tokenizer(path).codec


def librarys(actual):
    library = tokenizers.Tokenizer.from_str(json.dumps(actual))
    library.encode_special_tokens = True
    return lambda text: library.encode(text, add_special_tokens=False).ids


BYTES = {character: index for index, character in enumerate(CHARACTERS[value] for value in range(256))}


@pytest.mark.parametrize("added", [(), (("<>", 259),)])
def test_word_without_a_merge_is_refused_where_pieces_are_taken_whole(tmp_path, added):
    vocab = BYTES | {"on": 256, "one": 257, "tw": 258, "<>": 259}
    merges = [["o", "n"], ["on", "e"], ["t", "w"]]
    result = table(vocab, merges, True, added)
    assert librarys(result)("<>") == [259]
    with pytest.raises(TokenizerError, match=r"model: ignore_merges=True takes '<>' whole in a text.*huggingface"):
        imported(tmp_path / "tokenizer.json", result)
    plain = table(vocab, merges, False, added)
    assert imported(tmp_path / "tokenizer.json", plain).encode("<>one").tolist() == librarys(plain)("<>one")


def test_special_token_outside_the_vocabulary_is_kept_where_pieces_are_taken_whole(tmp_path):
    result = table(BYTES | {"on": 256}, [["o", "n"]], True, [("<x>", 257)])
    codec = imported(tmp_path / "tokenizer.json", result)
    assert codec.special_tokens == {"<x>": 257}
    assert codec.encode("<x>on").tolist() == librarys(result)("<x>on")


letters = st.sampled_from("ab<> ")
words = st.text("ab<>", min_size=1, max_size=4)


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_any_vocabulary_gives_the_librarys_ids_or_is_refused(tmp_path_factory, data):
    vocab, merges = dict(BYTES), []
    known = ["a", "b", "<", ">", CHARACTERS[32]]
    for _ in range(data.draw(st.integers(0, 5))):
        left, right = data.draw(st.sampled_from(known)), data.draw(st.sampled_from(known))
        if [left, right] not in merges:
            merges.append([left, right])
            known.append(left + right)
            vocab.setdefault(left + right, len(vocab))
    for word in data.draw(st.lists(words, max_size=2)):  # which perhaps no merge makes
        vocab.setdefault(word, len(vocab))
    ignore = data.draw(st.booleans())
    name = data.draw(st.sampled_from(["", "<a>", "<>"]))
    result = table(vocab, merges, ignore, [(name, vocab.get(name, len(vocab)))] if name else ())
    try:
        codec = imported(tmp_path_factory.mktemp("x") / "tokenizer.json", result)
    except TokenizerError:
        return
    theirs = librarys(result)
    for text in [*data.draw(st.lists(st.text(letters, max_size=12), max_size=12)), "<>", "<a>", "ab", "b" * 7, *vocab]:
        assert codec.encode(text).tolist() == theirs(text), text
