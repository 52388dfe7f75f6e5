"""A byte-level BPE in printable characters: a vocabulary and merges, as GPT-2's files and tokenizer.json hold them."""

from collections.abc import Mapping, Sequence
from reprlib import repr as brief
from typing import Any

from nanotx.errors import ConfigError, TokenizerError
from nanotx.exchange._pipeline import REMEDY
from nanotx.printable import CHARACTERS, from_printable
from nanotx.tokenizers.bpe import Bpe, BpeCodec

Pair = tuple[int, int]


def codec_of(
    where: str,
    vocab: Mapping[str, Any],
    merges: Sequence[Any],
    specials: Mapping[str, int],
    source: str,
    nfc: bool = False,
) -> BpeCodec:
    """The byte-level BPE of a vocabulary and its merges, with the ids that it says.

    Args:
        where: the file, for errors.
        vocab: each token in printable characters, and its id.
        merges: pairs of tokens.
        specials: names and their ids. What is in the vocabulary and written as `<...>` is one too.
        source: the regex whose matches are the pieces that no merge leaves.
        nfc: whether a text is put into normal form C.

    Raises:
        TokenizerError: a byte is missing, a merge is of unknown tokens, or makes one; or a token that no merge makes.
    """
    for word, one in vocab.items():
        if type(one) is not int:
            raise TokenizerError(f"{where}: {brief(word)}: expected an id, got {brief(one)}.")
    missing = [value for value, character in CHARACTERS.items() if character not in vocab]
    if missing:
        raise TokenizerError(
            f"{where}: {len(missing)} of the 256 bytes have no token, the first of them 0x{missing[0]:02x}; a text "
            f"with one of these would lose it. {REMEDY}"
        )
    numbers = {CHARACTERS[value]: value for value in range(256)}
    pairs = list[Pair]()
    for index, merge in enumerate(merges):
        left, right = parts = halves(where, index, merge)
        for part in parts:
            if part not in numbers:
                raise TokenizerError(f"{where}: merge {index}: {brief(part)} is no token yet.")
        if left + right not in vocab:
            raise TokenizerError(f"{where}: merge {index}: {brief(left + right)} is not in the vocabulary.")
        if left + right in numbers:
            raise TokenizerError(
                f"{where}: merge {index}: {brief(left + right)} is a token already, and no part of nanotx has two ways "
                f"to make one. {REMEDY}"
            )
        pairs.append((numbers[left], numbers[right]))
        numbers[left + right] = 256 + index
    others = {word: one for word, one in vocab.items() if word not in numbers and word not in specials}
    for word in others:
        if not (word.startswith("<") and word.endswith(">")):
            raise TokenizerError(
                f"{where}: no merge makes the token {brief(word)}, {brief(from_printable(word))}; expected one for "
                f"each. {REMEDY}"
            )
    ids = [vocab[word] for word in numbers]
    plain = ids == list(range(len(ids)))
    named = dict(sorted((dict(specials) | others).items(), key=lambda item: item[1]))
    try:
        return BpeCodec(tuple(pairs), source, named, nfc, ids=() if plain else tuple(ids))
    except (ConfigError, TokenizerError) as error:
        raise TokenizerError(f"{where}: {error}") from None


def halves(where: str, index: int, merge: Any) -> tuple[str, str]:
    """The two tokens of a merge: a pair, or one text with a space between, as older files have it.

    Raises:
        TokenizerError: it is neither.
    """
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(one, str) and one for one in pair):
        raise TokenizerError(f"{where}: merge {index}: expected a pair of tokens, got {brief(merge)}.")
    return pair[0], pair[1]


def regex_of(pattern: str) -> str:
    """The regex of a pattern's name; one of the user's own is checked, and stands for itself.

    Raises:
        ConfigError: it is neither.
    """
    return Bpe(vocab_size=256, pattern=pattern).learn([]).source
