"""Corpora that are wrong; and for each the law that is there to catch it. See tokenizers.py."""

from dataclasses import dataclass

from nanotx.data.corpus import Corpus

CATCHES: dict[str, str] = {}
"""For each mutant the law that catches it, and that all before it let pass."""


def mutant(name, law):
    """Registers a corpus."""

    def enter(config):
        CATCHES[f"corpus/mutant_{name}"] = law
        return Corpus.register(f"mutant_{name}")(dataclass(frozen=True, kw_only=True)(config))

    return enter


@mutant("shared_line", "split")
class SharedLine(Corpus):
    """Trains on the beginning of what it validates on."""

    size: int = 9

    def text(self):
        return "0123456789" * self.size

    def split(self):
        text = self.text()
        cut = round(len(text) * (1 - self.validation))
        return text[: cut + 1], text[cut:]


@mutant("lost_letter", "split")
class LostLetter(Corpus):
    """Takes both texts to be whole lines, and drops what stands at the cut."""

    size: int = 9

    def text(self):
        return "to be\n" * self.size

    def split(self):
        training, validation = super().split()
        return training.rpartition("\n")[0], validation


@mutant("new_play", "split")
class NewPlay(Corpus):
    """Writes on where it stopped when it was asked before."""

    size: int = 9
    asked = []  # noqa: RUF012

    def text(self):
        self.asked.append(self.size)
        return f"{len(self.asked):09}" * self.size


@mutant("fixed_share", "split")
class FixedShare(Corpus):
    """Keeps a tenth for validation, whatever share is asked for."""

    size: int = 9

    def text(self):
        return "0123456789" * self.size

    def split(self):
        text = self.text()
        return text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]


@mutant("same_play", "field_matters")
class SamePlay(Corpus):
    """Takes a seed, and writes the same play for any."""

    size: int = 9
    seed: int = 1

    def text(self):
        return "0123456789" * self.size
