"""What was written: texts with the ids that they are made of, and how likely the model held each of them."""

from collections.abc import Iterable, Iterator, Sequence

from einops import rearrange

from nanotx.stops import Stops
from nanotx.together import Step
from nanotx.tokenizers import Codec, StreamingDecoder


class Sheet:
    """One text under way, and when it is done, what there is to know of it.

    Args:
        codec: the tokenizer.
        prompt: what it goes on from.
        limit: how many tokens are written at most.
        stops: the text ends before the first of these that is written.
    """

    def __init__(self, codec: Codec, prompt: str, limit: int, stops: Sequence[str] = ()) -> None:
        self.prompt, self.limit = prompt, limit
        self.text = ""  # what follows the prompt
        self.ids: list[int] = []  # all that was drawn, those of the stop too
        self.log_probs: list[float] = []  # of each id, in nats, to the model itself, before any knob
        self._decoder, self._stops = StreamingDecoder(codec), Stops(stops)

    @property
    def stopped(self) -> bool:
        """Whether it ended at a stop."""
        return self._stops.found

    @property
    def done(self) -> bool:
        """Whether it takes no more."""
        return self.stopped or len(self.ids) >= self.limit

    @property
    def log_prob(self) -> float:
        """Of all ids drawn, in nats."""
        return sum(self.log_probs, 0.0)

    @property
    def mean_log_prob(self) -> float:
        """In nats per token; 0 where nothing was drawn."""
        return self.log_prob / max(1, len(self.ids))

    def add(self, one: int, log_prob: float) -> str:
        """Take in an id; returns the text that it lets out."""
        self.ids.append(one)
        self.log_probs.append(log_prob)
        piece = self._stops.push(self._decoder.push(one))
        if self.done:
            piece += self._stops.push(self._decoder.end()) + self._stops.end()
        self.text += piece
        return piece


def fill(sheets: Sequence[Sheet], steps: Iterable[Step]) -> Iterator[tuple[int, str]]:
    """Write until all are done: the number of a sheet and the text that follows there, as it comes."""
    if all(sheet.done for sheet in sheets):
        return
    for step in steps:
        chances = step.scores.float().log_softmax(dim=-1)
        found = rearrange(chances.gather(-1, rearrange(step.ids, "b -> b 1")), "b 1 -> b").tolist()
        for row, one in enumerate(step.ids.tolist()):
            if row in step.drawn and not sheets[row].done:
                yield row, sheets[row].add(one, found[row])
        if all(sheet.done for sheet in sheets):
            return


def ranked(sheets: Iterable[Sheet]) -> list[Sheet]:
    """The likeliest first, by the mean over their tokens, so that a short text has no advantage."""
    return sorted(sheets, key=lambda sheet: sheet.mean_log_prob, reverse=True)
