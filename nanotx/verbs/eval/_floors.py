"""What a validation text costs one who knows what wrote it."""

from nanotx.corpus import Corpus
from nanotx.corpus.playhouse import Playhouse
from nanotx.scripts import stretches


def known(corpus: Corpus) -> tuple[float | None, dict[str, float]]:
    """The bits per byte of the validation text to one who knows what wrote it, over all and by script, if anybody does.

    Every byte of a text falls to a script here as it does in a score by script.
    """
    if not isinstance(corpus, Playhouse):  # no other knows it for each character
        return corpus.floor(), {}
    training, text = corpus.split()
    bits, at = corpus.surprisal(training + text)[len(training) :], 0
    sums: dict[str, tuple[float, int]] = {}
    for script, stretch in stretches(text):
        cost, size = sums.get(script, (0.0, 0))
        here = float(bits[at : at + len(stretch)].sum())
        sums[script] = cost + here, size + len(stretch.encode("utf-8"))
        at += len(stretch)
    floors = {script: cost / size for script, (cost, size) in sums.items()}
    return float(bits.sum()) / len(text.encode("utf-8")), floors
