"""Compare a run with another program that reads what was exported: ids, texts and logits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nanotx.errors import RunError
from nanotx.hub.huggingface import proof
from nanotx.hub.huggingface.proof import (
    ROUNDING,
    TOLERANCE,
    WindowLogits,
    Windows,
    far,
    moved_by_last_bits,
    some_texts,
    some_windows,
)
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers.base import Codec


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two programs agree."""

    windows: int  # that were compared
    apart: float  # largest difference of logits relative to their standard deviation
    allowed: float  # what rounding explains, in the same unit

    def __str__(self) -> str:
        return f"logits of {self.windows} windows apart by {self.apart:.1e} of their standard deviation at most"


def compare_texts(
    codec: Codec, encode: Callable[[str], list[int]], decode: Callable[[list[int]], str], what: str
) -> int:
    """Return how many texts have the same ids in another program, and the same text again.

    Args:
        codec: the tokenizer of the run.
        encode: of the other program.
        decode: of the other program.
        what: its name, for the error.

    Raises:
        RunError: a text has other ids, or ids another text.
    """
    texts = list(some_texts(codec, proof.TEXTS))
    for text in texts:
        ours, theirs = codec.encode(text).tolist(), encode(text)
        if ours != theirs:
            raise RunError(
                f"{what}: {text[:40]!r} has the ids {theirs[:8]} there, and {ours[:8]} here. Nothing was written. "
                "Please report this tokenizer."
            )
        if (back := decode(ours)) != codec.decode(ours):
            raise RunError(f"{what}: the ids {ours[:8]} are the text {back[:40]!r} there. Nothing was written.")
    return len(texts)


@torch.no_grad()
def compare_logits(
    model: Transformer, other: Callable[[Windows], WindowLogits], what: str, tolerance: float = TOLERANCE
) -> Agreement:
    """Compare logits on windows of several lengths, one of the whole context and several of one token among them.

    Args:
        model: of the run.
        other: the other program, from ids to logits.
        what: its name, for the error.
        tolerance: the largest difference that counts as equal, relative to the standard deviation of the logits.

    Raises:
        RunError: they differ by more than rounding explains.
    """
    windows = some_windows(model)
    logits = model(windows)
    scale = float(logits.std())
    whole = torch.randint(model.vocab_size, (1, model.context), generator=torch.Generator().manual_seed(1))
    batches = (windows, whole, windows[:3, :1], windows[:2, : max(1, windows.shape[1] // 3)])
    apart = float(torch.tensor([far(model(batch), other(batch), scale) for batch in batches]).max())  # NaN if one is
    allowed = tolerance
    if not apart <= allowed:
        moved = moved_by_last_bits(lambda: model(windows[:8]), model.parameters(), scale)
        allowed = max(allowed, ROUNDING * moved)
    if not apart <= allowed:
        raise RunError(
            f"{what} computes other logits: they differ by {apart:.1e} of their standard deviation, and "
            f"{allowed:.1e} is what rounding explains. Nothing was written. Please report this recipe."
        )
    return Agreement(windows=len(windows) + 6, apart=apart, allowed=allowed)
