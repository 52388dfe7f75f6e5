"""A corpus on the command line: its name, and the fields that the one of this name has."""

from collections.abc import Sequence
from typing import Any

from nanotx.config import fields, from_table
from nanotx.corpus import Corpus
from nanotx.flags import Row, face, given, pick

NONE = "none"


def corpus_rows(words: Sequence[str], without: Any = None) -> list[Row]:
    """The flags that name a corpus and its fields.

    Args:
        words: what was typed; which corpus is meant is read from it.
        without: has the fields that are meant where no corpus is named; None: there are none.
    """
    name = "".join(word for values in given(words).get("corpus", [])[:1] for word in values[:1])
    one = Corpus.find(name)() if name else without
    row = pick("corpus", Corpus.names(), NONE)
    if one is None:
        return [row]
    kind = face([one])
    return [row, ("corpus", kind, kind())]


def corpus_of(said: Any) -> Corpus:
    """The corpus that was named, with its fields."""
    table = {name: getattr(said.corpus, name) for name in fields(Corpus.find(said.pick_corpus))}
    found: Corpus = from_table(Corpus, {"part": said.pick_corpus} | table, "corpus")
    return found
