"""The law of corpora: one text, cut in two, and nothing of it lost."""

from nanotx.data.corpus import Corpus
from nanotx.errors import DataError, LawBroken


def split(corpus: Corpus) -> None:
    """The training and the validation text, joined, are the text, which is the same every time it is asked for.

    The validation text is its end, of the share that the config says. Where one of the two would be empty, the split
    is refused.

    Args:
        corpus: one whose text can be had here.

    Raises:
        LawBroken: what was lost, shared by both, or of another size.
    """
    text = corpus.text()
    if not isinstance(text, str):
        raise LawBroken(f"split: text() returned {type(text).__name__}; expected str.")
    wanted = round(len(text) * corpus.validation)
    try:
        training, validation = corpus.split()
    except DataError as error:
        if 0 < wanted < len(text):
            raise LawBroken(f"split: {len(text)} characters are refused: {error}") from None
        return
    joined = training + validation
    if joined != text:
        at = next((at for at, (one, other) in enumerate(zip(joined, text, strict=False)) if one != other), None)
        where = min(len(joined), len(text)) if at is None else at
        raise LawBroken(
            f"split: {len(training)} characters to train on and {len(validation)} to validate on, joined, differ "
            f"from the {len(text)} of the text at offset {where}."
        )
    if len(validation) != wanted:
        raise LawBroken(f"split: of {len(text)} characters {len(validation)} are for validation; expected {wanted}.")
