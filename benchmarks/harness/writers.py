"""Ways to write the same text, ours and Hugging Face's, with the law that they do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from harness.gpt2_peers import Gpt2, copy_weights
from harness.laws import PASS
from nanotx.data.batches import Windows
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.generation import Sampling
from nanotx.generation.compiled import CompiledModel
from nanotx.generation.engine import BatchEngine, Engine, LanguageModel
from nanotx.generation.speculative import SpeculativeEngine
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position.learned import Learned
from nanotx.nn.transformer import Model, Transformer
from nanotx.recipe import Recipe
from nanotx.tokenizers.char import Char

UNCACHED, CACHED, COMPILED, MANY, SPECULATIVE, THEIRS = (
    "uncached", "cached", "compiled", "batch", "speculative", "transformers",
)  # fmt: skip
WARM, COLD = Sampling(temperature=0.8, seed=1), Sampling(temperature=0.0)
"""How the texts that are timed are chosen, and those that must agree."""
LAW = 48
"""Tokens of each text that must agree."""
PROMPTS = (1, 2, 17)
"""Lengths of the prompts that these go on from."""
Write = Callable[[Tensor, int, Sampling], Tensor]
"""From prompts of one length and a number of tokens to the ids that follow."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of the models."""

    dim: int
    layers: int
    heads: int
    context: int

    def model(self) -> Model:
        """A GPT-2 of these sizes, without biases."""
        norm = LayerNorm(bias=False)
        block = PreNorm(attention=Sdpa(heads=self.heads), ffn=Mlp(), norm=norm)
        return Model(dim=self.dim, layers=self.layers, context=self.context, block=block, norm=norm, position=Learned())


class Writers:
    """A model and a small one, both of which have learned for a moment, and all the ways in which they write.

    Args:
        sizes: of the model.
        small: of the draft.
        steps: how long both learn: nothing that was never taught can be guessed.
        device: where they are.
        guesses: how many tokens the draft guesses at a time.
    """

    def __init__(self, sizes: Sizes, small: Sizes, steps: int, device: torch.device, guesses: int) -> None:
        text, _ = Playhouse(size=200_000).split()
        codec = Char().train([text])
        self.device, self.vocab_size, self.guesses = device, codec.vocab_size, guesses
        windows = Windows(ids=codec.encode(text), context=min(128, sizes.context, small.context), seed=0)
        self.model, self.draft = (
            learned(one.model().build(codec.vocab_size), windows, steps, device) for one in (sizes, small)
        )
        logits_only = Gpt2().build(Recipe(model=sizes.model()), codec.vocab_size).to(device).eval()
        copy_weights(self.model, logits_only, Gpt2())
        self.theirs: Any = logits_only.model
        self.accepted: list[float] = []  # of each text, the share of guesses that were

    def ways(self, compiled: bool) -> dict[str, Write]:
        """All, by name."""
        found: dict[str, Write] = {UNCACHED: self.uncached, CACHED: self.cached}
        if compiled:
            self.reader = CompiledModel(self.model)
            found[COMPILED] = self.compiled
        return found | {MANY: self.cached, SPECULATIVE: self.speculative, THEIRS: self.transformers}

    def uncached(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Everything read anew for every token."""
        return self.written(BatchEngine(Uncached(self.model), ids.tolist(), how, new, device=self.device))

    def cached(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """As it is by default."""
        return self.written(BatchEngine(self.model, ids.tolist(), how, new, device=self.device))

    def compiled(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """With a compiled single-token step."""
        return self.written(BatchEngine(self.reader, ids.tolist(), how, new, device=self.device))

    def speculative(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """With a draft model."""
        models = self.model, self.draft
        engine = SpeculativeEngine(*models, ids.tolist(), how, new, draft_tokens=self.guesses, device=self.device)
        ids = self.written(engine)
        self.accepted.append(engine.accepted / max(1, engine.drafted))
        return ids

    def written(self, engine: Engine) -> Tensor:
        """Return the ids that an engine samples, one text per row."""
        return torch.tensor(engine.run(), device=self.device)

    @torch.inference_mode()
    def transformers(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Hugging Face's own loop, with its cache."""
        chance = (
            {"do_sample": True, "temperature": how.temperature, "top_k": 0} if how.temperature else {"do_sample": False}
        )
        length = {"max_new_tokens": new, "min_new_tokens": new, "pad_token_id": 0}
        every = torch.ones_like(ids)
        found: Tensor = self.theirs.generate(ids, attention_mask=every, use_cache=True, **length, **chance)
        return found[:, ids.shape[1] :]

    def prompts(self, rows: int, length: int) -> Tensor:
        """Prompts drawn at random."""
        chance = torch.Generator().manual_seed(length)
        return torch.randint(self.vocab_size, (rows, length), generator=chance).to(self.device)

    def judge(self, name: str, write: Write) -> str:
        """ "pass", or where a greedy text is not the one that is written without a cache."""
        new = min(LAW, self.model.context - max(PROMPTS))
        for length in PROMPTS:
            ids = self.prompts(2 if name == MANY else 1, length)
            want, got = self.uncached(ids, new, COLD), write(ids, new, COLD)
            if not want.equal(got):
                at = int((want != got).nonzero()[0, 1])
                return f"failed: same_text: after a prompt of {length}, token {at} is another than without a cache"
        return PASS


class Uncached:
    """A language model that reads its whole window anew for every token; of the cache it uses the ids alone."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.context = model, model.context

    def next_logits(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return the logits of the token after `ids`."""
        if cache is None:
            return self.model.next_logits(ids)
        read = cache.previous(ids, self.context)[:, self.context - cache.length :]
        cache.advance(ids.shape[1])
        return self.model.next_logits(torch.cat([read, ids], dim=1))


def learned(model: Transformer, windows: Windows, steps: int, device: torch.device) -> Transformer:
    """The model after a few steps, ready to write."""
    model = model.to(device)
    optimizer = Recipe().optimizer.build(model.named_parameters())
    for step in range(steps):
        x, y = (one.to(device) for one in windows.batch(step, 8))
        loss = F.cross_entropy(rearrange(model(x), "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.eval()
