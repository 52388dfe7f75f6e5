"""A cache that rolls: beyond the context its oldest token goes with each new one, and nothing is read anew.

The rule: at every layer a token looks at the `context` tokens that end with it. That is the function of the same
weights with `sliding_window` attention of that window, over the whole text. It is not the function of the newest
`context` tokens alone, since what a deeper layer keeps of a token was made while older ones could still be seen. So it
is asked for, and no default. It makes sense only where a logit depends on the distance of two tokens and nothing on a
token's place in the text, since places beyond the context were never met: with rope, alibi or no position at all.
"""

from einops import rearrange

from nanotx.errors import ConfigError
from nanotx.generation.sampler import LanguageModel, NextIds, NextLogits
from nanotx.nn.kv_cache import RollingKVCache
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer


class RollingDecodeState:
    """Decode state with a rolling KV cache: each token attends to the newest `context` tokens."""

    def __init__(self, model: LanguageModel, ids: Tokens) -> None:
        """Start with prompts, of which the newest `context` tokens are read.

        Raises:
            ConfigError: the model's positions are not relative.
        """
        check_rolling(model)
        self.model, self.pending, self.cache = model, ids[:, -model.context :], RollingKVCache(model.context)

    def next_logits(self) -> NextLogits:
        """Return the logits of the next token of each row."""
        return self.model.next_logits(self.pending, self.cache)

    def append(self, ids: NextIds) -> None:
        """Append the next token of each row."""
        self.pending = rearrange(ids, "b -> b 1")


def is_relative(model: Transformer) -> bool:
    """Whether all tokens can move on together, beyond the context, and no logit changes; the position states it."""
    return model.config.position.relative


def check_rolling(model: LanguageModel) -> None:
    """Raise ConfigError unless the positions of a model are relative, so that its cache can roll."""
    if isinstance(model, Transformer) and not is_relative(model):
        raise ConfigError(
            f"overflow: the cache cannot roll with position {model.config.position.part!r}, which is not "
            "`relative`: scores depend on absolute positions; try recompute, or a model with rope, alibi or none."
        )
