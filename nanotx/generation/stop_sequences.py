"""Stop sequences: end a text before the first of them, across token boundaries."""

from collections.abc import Iterable, Iterator, Sequence

from nanotx.errors import ConfigError


class StopSequences:
    """Incremental search: hold back the end of a text that may be the beginning of a stop sequence.

    The stop that completes first wins; of two that complete at once, the longer.

    Args:
        stops: none of them empty.

    Raises:
        ConfigError: one is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ConfigError("stop: expected a text to end before, got an empty one.")
        self.stops, self.held, self.found = stops, "", False

    def push(self, text: str) -> str:
        """Append text; return what is final. Return an empty text after a stop was found."""
        if self.found:
            return ""
        text = self.held + text
        ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in self.stops if stop in text]
        self.found = bool(ends)
        cut = min(ends)[1] if ends else len(text) - max((overlap(text, stop) for stop in self.stops), default=0)
        self.held = "" if ends else text[cut:]
        return text[:cut]

    def end(self) -> str:
        """Return the text that was held back, at the end of the input."""
        held, self.held = self.held, ""
        return held


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield the pieces of a text up to the first stop; read no piece after it."""
    gate = StopSequences(stops)
    for piece in pieces:
        yield gate.push(piece)
        if gate.found:
            return
    yield gate.end()


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
