"""A model whose single-token step is compiled, once, for every length of the text.

Token by token, a small model spends most of its time on calling operations, apart from reading its weights. A compiler
fuses many operations into a few. That takes half a minute at first, so it pays for those who sample much. Prompts are
read by the eager model.

The model must not change while it is sampled from: that is not checked at each token.
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

DYNAMIC_SOURCES = r".*\.(length|evicted)"
"""Integers that change at every token, which the compiler must treat as dynamic."""


def dynamic_guards(guards: Sequence[Any]) -> list[bool]:
    """Select the compiler's guards to check at each token: those on the ids and on the cache, not on the model."""
    return [guard.name.partition(".")[0] in ("", "ids", "cache") for guard in guards]


class CompiledModel:
    """A `LanguageModel`: the model, with a compiled step from the third token of a text on.

    Raises:
        ConfigError: nothing can be compiled here; says why.
    """

    def __init__(self, model: Transformer) -> None:
        trial = try_compile(next(model.parameters()).device)
        if trial.fault:
            raise ConfigError(f"compile: {trial}; or leave --compile out.")
        self.model = model
        dynamic = torch.compiler.config.patch(dynamic_sources=DYNAMIC_SOURCES)  # type: ignore[attr-defined]
        self.step = dynamic(torch.compile(model.next_logits, options={"guard_filter_fn": dynamic_guards}))

    @property
    def context(self) -> int:
        """Return the maximum number of tokens."""
        return self.model.context

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> Float[Tensor, "b v"]:
        """Return the logits of the token after `ids`."""
        if cache is None:
            return self.model.next_logits(ids)
        if not cache.length:
            # The same for every text, and never quite full: another capacity, or a full one, would be compiled anew.
            cache.capacity = self.context + 1
        if ids.shape[1] > 1 or cache.length < 2:  # the compiler treats the integers 0 and 1 as constants
            return self.model.next_logits(ids, cache)
        logits: Tensor = self.step(ids, cache)
        return logits
