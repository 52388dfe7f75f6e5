"""Texts that end before the first of some stops, wherever the borders of tokens lie."""

from collections.abc import Iterable, Iterator, Sequence

from nanotx.errors import ConfigError


class StopSequences:
    """Hands out a text as it comes, but for an end of it that may yet turn out to be the beginning of a stop.

    The first stop is the one that is complete first; of two at once, the longer.

    Args:
        stops: none of them empty.

    Raises:
        ConfigError: one is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ConfigError("stop: expected a text to end before, got an empty one, which stands everywhere.")
        self.stops, self.held, self.found = stops, "", False

    def push(self, text: str) -> str:
        """What can be handed out, now that this came too; nothing once a stop was found."""
        if self.found:
            return ""
        text = self.held + text
        ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in self.stops if stop in text]
        self.found = bool(ends)
        cut = min(ends)[1] if ends else len(text) - max((overlap(text, stop) for stop in self.stops), default=0)
        self.held = "" if ends else text[cut:]
        return text[:cut]

    def end(self) -> str:
        """What was held back, when nothing comes any more."""
        held, self.held = self.held, ""
        return held


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a text, up to the first stop; nothing is asked for after it."""
    gate = StopSequences(stops)
    for piece in pieces:
        yield gate.push(piece)
        if gate.found:
            return
    yield gate.end()


def overlap(text: str, stop: str) -> int:
    """How many of the text's last characters are the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
