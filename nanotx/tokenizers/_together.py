"""Decoding one id at a time where what an id stands for depends on its neighbours."""

from nanotx.errors import TextError
from nanotx.tokenizers import Codec

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Together:
    """As `StreamingDecoder`: each id is decoded after those that were handed out last.

    Bytes that a library decodes together, all of them or none (ByteFallback), are held back until their row has ended;
    so are ids that it cannot decode without those that follow.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._last: list[int] = []  # the ids handed out last
        self._before = ""  # what they are alone
        self._held: list[int] = []  # those held back

    def push(self, one: int) -> str:
        """See `StreamingDecoder.push`."""
        self.codec.check_ids([one])
        self._held.append(one)
        if self.codec.unsettled(one):
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
