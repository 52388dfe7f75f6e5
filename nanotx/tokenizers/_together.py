"""Decoding one id at a time where what an id stands for depends on its neighbours."""

from nanotx.tokenizers import Codec

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Together:
    """As `StreamingDecoder`: each id is decoded after those that were handed out last.

    Bytes that a library decodes together, all of them or none (ByteFallback), are held back until their row has ended.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._last: list[int] = []  # the ids handed out last
        self._held: list[int] = []  # those held back

    def push(self, one: int) -> str:
        """See `StreamingDecoder.push`."""
        self.codec.check_ids([one])
        self._held.append(one)
        if self.codec.unsettled(one):
            return ""
        new = self._new()
        if not new or new.endswith(BROKEN):
            return ""
        self._last, self._held = self._held, []
        return new

    def end(self) -> str:
        """See `StreamingDecoder.end`."""
        new, self._last, self._held = self._new(), [], []
        return new

    def _new(self) -> str:
        return self.codec.decode([*self._last, *self._held])[len(self.codec.decode(self._last)) :]
