"""What the tests of other libraries' tokenizers share: texts on which all agree what a letter is, and codecs."""

import json
import os
from pathlib import Path

from hypothesis import strategies as st

from nanotx.laws.random_texts import PRIMER
from nanotx.tokenizers import Codec
from nanotx.tokenizers.bpe import Bpe, BpeCodec
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.byte_level import to_printable
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.unigram import Unigram
from nanotx.tokenizers.wordpiece import WordPiece

END = "<|endoftext|>"
MORE = "é€\N{GRINNING FACE} \u0416\u0417 \u03b1\u03b2 \u6f22\u5b57 \u0939\u093f 42 \u0661 ## #a a##b \r\n\t\n\n _ 's"
LESSON = [PRIMER * 2, MORE]
LETTERS = "".join(sorted(set("".join(LESSON))))

# A library knows the letters of the Unicode that it was built with, regex those of the newest: so characters that
# this Python, which is older than any of these, has assigned.
assigned = st.characters(exclude_categories=["Cs", "Cn"])
spaces = st.sampled_from(" \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u2029\u200b\u3000\ufeff")
digits = st.characters(categories=["Nd", "Nl", "No"])
joined = st.sampled_from("\U0001f469\u200d\U0001f680\ufe0f\U0001f3fb\u2640\u0301\u0308a")
leftward = st.sampled_from("\u05d0\u05d1\u0627\u0644\u0639\u0661\u06f2\u200f\u202e .")
contracted = st.sampled_from(["'s", "'S", "'\u017f", "'ll", "'LL", "'t", "it's", "''d", "\u2019s", END, "##", "<unk>"])
short = {"min_size": 1, "max_size": 8}
snippets = st.one_of(
    st.text(assigned, **short),
    st.text(spaces, **short),
    st.text(digits, **short),
    st.text(joined, **short),
    st.text(leftward, **short),
    st.text(st.sampled_from(LETTERS), **short),
    contracted,
    st.builds(str.__mul__, assigned | spaces, st.sampled_from([2, 17, 65, 130])),
    st.sampled_from([PRIMER[at : at + 20] for at in range(0, len(PRIMER), 7)]),
)
texts = st.lists(snippets, max_size=6).map("".join)
familiar = st.text(st.sampled_from(LETTERS)) | st.sampled_from([PRIMER, " " * 70, "e" * 130])
known = st.lists(familiar, max_size=5).map("".join)

CODECS: dict[str, Codec] = {
    "byte": Byte().train([]),
    "char": Char().train(LESSON),
    "char with <unk>": Char(unknown=True, nfc=True).train(LESSON),
    "bpe": Bpe(vocab_size=330, special_tokens=(END, "[x]")).train(LESSON),
    "bpe of gpt2 with nfc": Bpe(vocab_size=330, pattern="gpt2", nfc=True).train(LESSON),
    "bpe of its own": Bpe(vocab_size=300, pattern=r" ?[^\s\d]{1,4}|\d|\s+?").train(LESSON),
    "bpe that leaves digits out": BpeCodec(Bpe(vocab_size=300).train(LESSON).merges, r" ?[^\s\d]{1,4}|\d(?!\d)|\s+?"),
    "wordpiece": WordPiece(vocab_size=135, special_tokens=(END, "[x]"), unknown=True).train(LESSON),
    "wordpiece without <unk>": WordPiece(vocab_size=130).train(LESSON),
    "unigram": Unigram(vocab_size=160, special_tokens=(END, "[x]"), unknown=True).train(LESSON),
    "unigram without <unk>": Unigram(vocab_size=150, nfc=True).train(LESSON),
}


def texts_for(codec: Codec) -> st.SearchStrategy[str]:
    """Any text; or of known characters, where there is nothing that others could become."""
    return texts if codec.part in ("byte", "bpe") or "<unk>" in codec.special_tokens else known


def small_gpt2(folder: Path, vocabulary: str = "encoder.json", merges: str = "vocab.bpe") -> Path:
    """A pair of files such as GPT-2's, of a small tokenizer, in which an id is no byte's value."""
    codec = Bpe(vocab_size=330, pattern="gpt2").train(LESSON)
    words = [to_printable(codec.decode_bytes([number])) for number in range(codec.vocab_size)]
    ordered = [*sorted(words[:256]), *words[256:], END]
    lines = ["#version: 0.2", *(f"{words[left]} {words[right]}" for left, right in codec.merges), ""]
    vocab = {word: index for index, word in enumerate(ordered)}
    (folder / vocabulary).write_text(json.dumps(vocab), encoding="utf-8")
    (folder / merges).write_text("\n".join(lines), encoding="utf-8")
    return folder


def published_gpt2() -> list[Path]:
    """The folder with GPT-2's files, where the data are on this machine."""
    folder = Path(os.environ.get("NANOTX_DATA", ""), "gpt2")
    return [folder] if os.environ.get("NANOTX_DATA") and folder.is_dir() else []
