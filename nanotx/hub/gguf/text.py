"""The tokenizer in a GGUF file: one of llama.cpp's that gives the ids of ours for every text, or none.

- Bytes, and characters of ASCII, are a table of tokens that is searched for the longest match ("rwkv"). Of characters
  beyond ASCII it is not used: where a text has another character that begins with the same byte, llama.cpp never
  returns.
- A byte-level BPE is one there too ("gpt2"), if its regex is one that llama.cpp has. GPT-4's is written with [sS] there
  for a case-insensitive s, and so does not match U+017F, the long s, after an apostrophe. The pieces of a text then
  differ, and its ids do not, unless a token joins that character to what follows it.
- A "gpt2" always has a token that ends texts, number 11 where the file names none. Without one of ours, the byte FF is
  named, which no text in UTF-8 has.

Source: `src/llama-vocab.cpp` of https://github.com/ggml-org/llama.cpp
"""

from dataclasses import dataclass, field

from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import UNKNOWN, Codec
from nanotx.tokenizers.bpe import BpeCodec
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.byte_level import to_printable
from nanotx.tokenizers.char import CharCodec
from nanotx.tokenizers.convert.tokenizer_json import described, ends
from nanotx.tokenizers.regexes import name_of

NORMAL, CONTROL = 1, 3
"""Kinds of tokens: of text, and special ones."""

PATTERNS = {"gpt2": "gpt-2", "gpt4": "dbrx"}
"""Our regexes, and the names of the same in llama.cpp; "llama-bpe" is that of dbrx, and takes whole tokens first."""

LONG_S = "\u017f".encode()
REMEDY = "try a run with --tokenizer byte, or bpe with --tokenizer.pattern gpt2"


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """The keys of a file about text."""

    model: str
    pre: str
    tokens: list[str]
    merges: list[str] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=dict)  # key such as "eos_token_id", and id
    control: frozenset[int] = frozenset()  # ids of special tokens

    @property
    def kinds(self) -> list[int]:
        """The kind of each token."""
        return [CONTROL if number in self.control else NORMAL for number in range(len(self.tokens))]


def text_table(codec: Codec) -> TextTable:
    """Return the tokenizer of a file that gives the ids of a codec.

    Raises:
        TokenizerError: there is none; says why.
    """
    if codec.nfc:
        raise TokenizerError(f"--to gguf: {codec.part} with nfc: llama.cpp does not normalise a text; {REMEDY}.")
    if isinstance(codec, BpeCodec):
        return merged_bytes(codec)
    names = [name for name in codec.special_tokens if name != UNKNOWN]
    if isinstance(codec, ByteCodec | CharCodec) and names:
        raise TokenizerError(
            f"--to gguf: {codec.part} with {', '.join(names)}: llama.cpp's tokenizer of single bytes takes these names "
            "in a text for the special tokens; try a run with --tokenizer bpe --tokenizer.pattern gpt2."
        )
    if isinstance(codec, ByteCodec):
        return TextTable(model="rwkv", pre="default", tokens=[f"\\x{value:02x}" for value in range(256)])
    if isinstance(codec, CharCodec):
        return characters(codec)
    raise TokenizerError(f"--to gguf: {codec.part}: bpe, byte and char are written, others are not; {REMEDY}.")


def characters(codec: CharCodec) -> TextTable:
    """Return the table of an alphabet.

    Raises:
        TokenizerError: it is not of ASCII alone, or has a token for what is unknown.
    """
    if not codec.alphabet.isascii():
        strange = next(character for character in codec.alphabet if not character.isascii())
        raise TokenizerError(
            f"--to gguf: char: {strange!r} (U+{ord(strange):04X}) is in the alphabet, and llama.cpp has a tokenizer of "
            f"single characters for ASCII alone; {REMEDY}."
        )
    if codec.special_tokens:
        raise TokenizerError(
            f"--to gguf: char with {UNKNOWN}: llama.cpp takes an unknown character for as many "
            f"as it has bytes; {REMEDY}."
        )
    tokens = [f"\\x{ord(character):02x}" for character in codec.alphabet]
    return TextTable(model="rwkv", pre="default", tokens=tokens)


def merged_bytes(codec: BpeCodec) -> TextTable:
    """Return the table of a byte-level BPE.

    Raises:
        TokenizerError: llama.cpp has not its regex, its ids have gaps, or it joins U+017F to what follows.
    """
    pattern = name_of(codec.source)
    if pattern not in PATTERNS:
        raise TokenizerError(
            f"--to gguf: bpe: llama.cpp takes regexes by name, and has none for {codec.source[:60]!r}; {REMEDY}."
        )
    model = described(codec)["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if sorted(model["vocab"].values()) != list(range(codec.vocab_size)):
        raise TokenizerError(f"--to gguf: bpe: some ids up to {codec.vocab_size - 1} have no token; {REMEDY}.")
    special = set(codec.special_tokens.values())
    if pattern == "gpt4":
        for number in (number for number in range(codec.vocab_size) if number not in special):
            if joins_long_s(token := codec.decode_bytes([number])):
                raise TokenizerError(
                    f"--to gguf: bpe: the token {token!r} joins U+017F to what follows it, and llama.cpp cuts there "
                    f"otherwise after an apostrophe; {REMEDY}."
                )
    stops = [codec.special_tokens[name] for name in ends(codec)] or [model["vocab"][to_printable(b"\xff")]]
    turn = {"eot_token_id": stops[0]} if codec.chat_template else {}
    return TextTable(
        model="gpt2",
        pre=PATTERNS[pattern],
        tokens=tokens,
        merges=[" ".join(pair) for pair in model["merges"]],
        special={"bos_token_id": stops[-1], "eos_token_id": stops[-1]} | turn,
        control=frozenset(special),
    )


def joins_long_s(token: bytes) -> bool:
    """Return whether a token may hold the end of U+017F and the beginning of the next character."""
    last = LONG_S[-1:]
    for at in range(len(token) - 1):
        if (
            token[at : at + 1] == last
            and (at == 0 or token[at - 1 : at] == LONG_S[:1])
            and token[at + 1] & 0xC0 != 0x80
        ):
            return True
    return False
