"""What is said where a vocabulary cannot have the size that was asked for."""

from nanotx.errors import TokenizerError


def check_least(part: str, vocab_size: int, least: int, why: str) -> None:
    """Raise TokenizerError where a vocabulary is smaller than the texts need."""
    if vocab_size < least:
        raise TokenizerError(
            f"{part}: vocab_size={vocab_size} is too small: these texts need at least {least}, {why}; "
            f"try --tokenizer.vocab-size {least}, or more."
        )


def check_most(part: str, vocab_size: int, most: int, min_frequency: int) -> None:
    """Raise TokenizerError where a vocabulary is larger than the texts can teach."""
    if vocab_size > most:
        often = "" if min_frequency == 1 else f" of min_frequency={min_frequency}"
        raise TokenizerError(
            f"{part}: vocab_size={vocab_size} cannot be reached: these texts allow {most}{often}; "
            f"try --tokenizer.vocab-size {most}, or more text."
        )
