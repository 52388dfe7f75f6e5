"""A past that rolls: beyond the context its oldest token goes with each new one, and nothing is read anew.

The rule: at every layer a token looks at the `context` tokens that end with it. That is the function of the same
weights with `sliding` attention of that window, over the whole text. It is not the function of the newest `context`
tokens alone, since what a deeper layer keeps of a token was made while older ones could still be seen. So it is asked
for, and no default. It makes sense only where a score depends on the distance of two tokens and nothing on a token's
place in the text, since places beyond the context were never met: with rope, alibi or no position at all.
"""

import torch
from einops import einsum, rearrange

from nanotx.errors import ConfigError
from nanotx.model import Transformer
from nanotx.past_kinds import Rolling
from nanotx.sample import Drawn, Reader, Scores
from nanotx.shapes import Tokens

TRIED = 4
"""Tokens by which it is found out whether positions are relative."""


class RollingReading:
    """Texts of one length that a model reads."""

    def __init__(self, model: Reader, ids: Tokens) -> None:
        """Begin with prompts, of which the newest `context` tokens are read.

        Raises:
            ConfigError: the model's positions are not relative.
        """
        if isinstance(model, Transformer) and not relative(model):
            raise ConfigError(
                f"beyond: a past cannot roll with position {model.config.position.part!r}, for which no place in a "
                f"text is the same as another; try reread, or a model with rope, alibi or none."
            )
        self.model, self.unread, self.past = model, ids[:, -model.context :], Rolling(model.context)

    def scores(self) -> Scores:
        """Those of the next token."""
        return self.model.next_scores(self.unread, self.past)

    def feed(self, ids: Drawn) -> None:
        """Take in the next token of each row."""
        self.unread = rearrange(ids, "b -> b 1")


@torch.inference_mode()
def relative(model: Transformer) -> bool:
    """Whether all tokens can move on together, beyond the context, and no score changes; found out by moving some."""
    position, device = model.position, next(model.parameters()).device
    heads = next((one.heads for one in model.config.attentions()), 1)
    stream = torch.randn(1, TRIED, model.config.dim, device=device)
    q, k = torch.randn(2, 1, heads, TRIED, model.config.dim // heads, device=device)
    here = torch.arange(TRIED, device=device)
    seen = []
    for at in (here, here + model.context):
        try:
            embedded, (q_at, k_at), bias = position.embed(stream, at), position.turn(q, k, at), position.bias(at, at)
        except IndexError:  # there is no such place
            return False
        scores = einsum(q_at, k_at, "b h t k, b h s k -> b h t s")
        seen.append([embedded, scores if bias is None else scores + bias])
    return all(torch.allclose(one, other, atol=1e-3) for one, other in zip(*seen, strict=True))
