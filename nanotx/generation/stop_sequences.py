"""Stop sequences: end a text before the first of them, also where it spans several tokens."""

from collections.abc import Sequence

from nanotx.errors import ConfigError


class StopSequences:
    """Searches a text for stop sequences as it comes, and holds back an end that may begin one of them.

    The stop sequence that is complete first wins; of two that are complete at once, the longer.

    Args:
        stops: texts to end before.

    Raises:
        ConfigError: a stop sequence is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ConfigError("stop: expected a text to end before, got an empty one.")
        self.stops, self.stopped = stops, False
        self.held = ""  # may be the beginning of a stop sequence

    def push(self, text: str) -> str:
        """Append text; return what is final. Return an empty text once stopped."""
        if self.stopped:
            return ""
        text = self.held + text
        ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in self.stops if stop in text]
        self.stopped = bool(ends)
        cut = min(ends)[1] if ends else len(text) - max((overlap(text, stop) for stop in self.stops), default=0)
        self.held = "" if ends else text[cut:]
        return text[:cut]

    def end(self) -> str:
        """Return the text that is held back, at the end of the input."""
        held, self.held = self.held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
