"""Decode one id at a time, as sampling does: a character is returned when its last byte has arrived."""

import codecs

from nanotx.errors import TextError
from nanotx.tokenizers.base import Codec


class StreamingDecoder:
    """Turns ids into text as they come; all that it hands out, joined, is `codec.decode` of all ids.

    The one exception is a tokenizer.json whose decoder replaces text across ids, so that what was handed out is changed
    by what follows: a Fuse and then a Replace of more than one character.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        if not codec.decodes_independently:
            together = ContextualDecoder(codec)
            self.push, self.end = together.push, together.end  # type: ignore[method-assign]

    def push(self, token_id: int) -> str:
        """Append an id; return the text that it completes, empty inside a character.

        Raises:
            TextError: the id is out of range.
        """
        text = self._utf8.decode(self.codec.decode_bytes([token_id]))
        held = self._utf8.getstate()[0]
        if held[:1] == b"\xed" and held[1:2] >= b"\xa0":  # half of a pair, for which Python waits, begins no character
            text += self._utf8.decode(b"", final=True)
        return text

    def end(self) -> str:
        """End the text; return U+FFFD for an incomplete character. The next push begins a new text."""
        return self._utf8.decode(b"", final=True)


BROKEN = "\N{REPLACEMENT CHARACTER}"


class ContextualDecoder:
    """As `StreamingDecoder`: each id is decoded after those that were handed out last.

    Bytes that a library decodes together, all of them or none (ByteFallback), are held back until their row has ended;
    so are ids that it cannot decode without those that follow.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._last: list[int] = []  # the ids handed out last
        self._before = ""  # what they are alone
        self._held: list[int] = []  # those held back

    def push(self, token_id: int) -> str:
        """See `StreamingDecoder.push`."""
        self.codec.check_ids([token_id])
        self._held.append(token_id)
        if self.codec.needs_lookahead(token_id):
            return ""
        try:
            text = self.codec.decode([*self._last, *self._held])
        except TextError:
            return ""
        new = text[len(self._before) :]
        if not new or new.endswith(BROKEN):
            return ""
        try:
            self._before, self._last = self.codec.decode(self._held), self._held
        except TextError:  # they can be decoded after the others alone
            self._before, self._last = text, [*self._last, *self._held]
        self._held = []
        return new

    def end(self) -> str:
        """See `StreamingDecoder.end`."""
        ids, before = [*self._last, *self._held], self._before
        self._last, self._before, self._held = [], "", []
        return self.codec.decode(ids)[len(before) :]
