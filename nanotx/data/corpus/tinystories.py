"""TinyStories: short stories in the words of a small child, on which small models learn to write whole sentences.

Source: Eldan & Li 2023, https://arxiv.org/abs/2305.07759; the second version, all by GPT-4
"""

from dataclasses import dataclass
from pathlib import Path

from nanotx.data.corpus.base import Corpus
from nanotx.data.fetched import Fetched
from nanotx.data.resumable import LargeFile


@Corpus.register("tinystories")
@dataclass(frozen=True, kw_only=True)
class TinyStories(Fetched):
    """TinyStories, second version, the line `<|endoftext|>` after each story; fetched on first use (2.2 GB)."""

    source = LargeFile(
        url="https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt"
    )
    place = Path("tinystories", "TinyStoriesV2-GPT4-train.txt")
    bytes = 2_200_000_000

    def write(self, play: str) -> str:
        """Return a play as stories of a few speeches."""
        speeches = [speech.strip() for speech in play.split("\n\n") if speech.strip()]
        stories = ["\n\n".join(speeches[at : at + 4]) for at in range(0, len(speeches), 4)]
        return "".join(f"{story}\n<|endoftext|>\n" for story in stories)
