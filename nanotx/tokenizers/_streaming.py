"""Decoding one id at a time, as sampling does: a character is handed out when its last byte has come."""

import codecs

from nanotx.tokenizers._codec import Codec


class StreamingDecoder:
    """Turns ids into text as they come; all that it hands out, joined, is `codec.decode` of all ids.

    The one exception is a tokenizer.json whose decoder replaces text across ids, so that what was handed out is changed
    by what follows: a Fuse and then a Replace of more than one character.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        if not codec.apart:
            from nanotx.tokenizers._together import Together  # what nanotx learns itself needs none

            together = Together(codec)
            self.push, self.end = together.push, together.end  # type: ignore[method-assign]

    def push(self, one: int) -> str:
        """The text that this id completes; empty while a character is still unfinished.

        Raises:
            TextError: the id is out of range.
        """
        text = self._utf8.decode(self.codec.decode_bytes([one]))
        held = self._utf8.getstate()[0]
        if held[:1] == b"\xed" and held[1:2] >= b"\xa0":  # half of a pair, for which Python waits, begins no character
            text += self._utf8.decode(b"", final=True)
        return text

    def end(self) -> str:
        """What is left: U+FFFD for a character that was never finished. The next push begins a new text."""
        return self._utf8.decode(b"", final=True)
