"""A model whose reading of one more token is compiled, whole and once, whatever the length of what was read.

Token by token, what a small model costs beside the reading of its weights is mostly the calls of its operations. A
compiler makes few of many. It takes half a minute the first time, so it is for those who will sample much. A prompt
is read as the model is written.

The model must stay as it is while it is sampled from: whether it did is not asked at each token.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.hardware.compiler import try_compile
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer

DYNAMIC_SOURCES = r".*\.(length|gone)"
"""Integers that change at every token, which the compiler must treat as dynamic."""


def dynamic_guards(guards: Sequence[Any]) -> list[bool]:
    """Which of the compiler's guards are asked at each token: those on it and on what was read, not on the model."""
    return [guard.name.partition(".")[0] in ("", "ids", "cache") for guard in guards]


class CompiledModel:
    """A `Reader`: the model itself, but faster from its third token on.

    Raises:
        ConfigError: nothing can be compiled here; says why.
    """

    def __init__(self, model: Transformer) -> None:
        trial = try_compile(next(model.parameters()).device)
        if trial.fault:
            raise ConfigError(f"compile: {trial}; or leave --compile out.")
        self.model = model
        growing = torch.compiler.config.patch(dynamic_sources=DYNAMIC_SOURCES)  # type: ignore[attr-defined]
        self.step = growing(torch.compile(model.next_logits, options={"guard_filter_fn": dynamic_guards}))

    @property
    def context(self) -> int:
        """Return the maximal number of tokens of a window."""
        return self.model.context

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> Float[Tensor, "b v"]:
        """Return the logits of the token after the last of `ids`."""
        if cache is None:
            return self.model.next_logits(ids)
        if not cache.length:
            # The same for every text, and never quite full: another room, or a full one, would be compiled anew.
            cache.capacity = self.context + 1
        if ids.shape[1] > 1 or cache.length < 2:  # 0 and 1 are numbers that the compiler does take for granted
            return self.model.next_logits(ids, cache)
        logits: Tensor = self.step(ids, cache)
        return logits
