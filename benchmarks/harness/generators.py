"""Ways to generate the same text, ours and Hugging Face's, with the law that it is the same."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from harness.gpt2 import Gpt2, copy_weights
from harness.laws import PASS
from nanotx.data.batches import Windows
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.generation import Sampling
from nanotx.generation.ahead_of_time import ahead_of_time
from nanotx.generation.compiled import CompiledModel
from nanotx.generation.engine import BatchEngine, Engine, LanguageModel
from nanotx.generation.lookup import LookupEngine
from nanotx.generation.speculative import SpeculativeEngine
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position.learned import Learned
from nanotx.nn.stored_weights import store_weights
from nanotx.nn.transformer import Model, Transformer
from nanotx.recipe import Recipe
from nanotx.tokenizers.char import Char

UNCACHED, CACHED, COMPILED, INT8, BATCH, SPECULATIVE, LOOKUP, PEER = (
    "uncached", "cached", "compiled", "int8", "batch", "speculative", "lookup", "transformers",
)  # fmt: skip
WAYS = (UNCACHED, CACHED, COMPILED, INT8, BATCH, SPECULATIVE, LOOKUP, PEER)
"""All ways; int8 is compiled too."""
TIMED, GREEDY = Sampling(temperature=0.8, seed=1), Sampling(temperature=0.0)
"""How the texts that are timed are sampled, and those that must agree."""
SAME_TOKENS = 48
"""Tokens of each text that must agree."""
PROMPTS = (1, 2, 17)
"""Lengths of their prompts."""
Generate = Callable[[Tensor, int, Sampling], Tensor]
"""From prompts of one length and a number of tokens to the ids that follow."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a model."""

    dim: int
    layers: int
    heads: int
    context: int

    def model(self) -> Model:
        """Return a GPT-2 without biases."""
        norm = LayerNorm(bias=False)
        block = PreNorm(attention=Sdpa(heads=self.heads), ffn=Mlp(), norm=norm)
        return Model(dim=self.dim, layers=self.layers, context=self.context, block=block, norm=norm, position=Learned())


class Generators:
    """A model and a draft model, both briefly trained, and all the ways in which they generate.

    Args:
        sizes: of the model.
        small: of the draft model.
        steps: how long both are trained: untrained models agree on nothing.
        device: where they are.
        draft_tokens: how many tokens the draft model proposes at a time.
    """

    def __init__(self, sizes: Sizes, small: Sizes, steps: int, device: torch.device, draft_tokens: int) -> None:
        text, _ = Playhouse(size=200_000).split()
        codec = Char().train([text])
        self.device, self.vocab_size, self.draft_tokens = device, codec.vocab_size, draft_tokens
        windows = Windows(ids=codec.encode(text), context=min(128, sizes.context, small.context), seed=0)
        self.model, self.draft = (
            trained(size.model().build(codec.vocab_size), windows, steps, device) for size in (sizes, small)
        )
        logits_only = Gpt2().build(Recipe(model=sizes.model()), codec.vocab_size).to(device).eval()
        copy_weights(self.model, logits_only, Gpt2())
        self.peer: Any = logits_only.model
        self.accepted: list[float] = []  # of each text, the share of draft tokens that were

    def ways(self, names: Sequence[str]) -> dict[str, Generate]:
        """Return these ways by name; a step that is compiled is compiled now."""
        ways: dict[str, Generate] = {
            UNCACHED: self.uncached,
            CACHED: self.cached,
            BATCH: self.cached,
            SPECULATIVE: self.speculative,
            LOOKUP: self.lookup,
            PEER: self.transformers,
        }
        if COMPILED in names:
            ways[COMPILED] = partial(self.stepped, self.with_step(self.model))
        if INT8 in names:
            self.int8_model = copy.deepcopy(self.model)
            store_weights(self.int8_model, "int8")
            ways[INT8] = partial(self.stepped, self.with_step(self.int8_model))
        return {name: ways[name] for name in names}

    def with_step(self, model: Transformer) -> LanguageModel:
        """Return the model with a compiled single-token step, as `nanotx sample` has it for this device."""
        if self.device.type != "cpu":
            return CompiledModel(model)
        compiled = ahead_of_time(model, 1, True, say=lambda remark: None)
        assert compiled is not None
        return compiled

    def uncached(self, ids: Tensor, new: int, how: Sampling, model: Transformer | None = None) -> Tensor:
        """Generate by reading the whole text for every token."""
        return self.run(BatchEngine(Uncached(model or self.model), ids.tolist(), how, new, device=self.device))

    def cached(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Generate as by default."""
        return self.run(BatchEngine(self.model, ids.tolist(), how, new, device=self.device))

    def stepped(self, model: LanguageModel, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Generate with a compiled single-token step."""
        return self.run(BatchEngine(model, ids.tolist(), how, new, device=self.device))

    def lookup(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Generate with what is looked up in the text so far."""
        return self.run(LookupEngine(self.model, ids.tolist(), how, new, device=self.device))

    def speculative(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Generate with a draft model."""
        models = self.model, self.draft
        engine = SpeculativeEngine(*models, ids.tolist(), how, new, draft_tokens=self.draft_tokens, device=self.device)
        ids = self.run(engine)
        self.accepted.append(engine.accepted / max(1, engine.drafted))
        return ids

    def run(self, engine: Engine) -> Tensor:
        """Return the ids that an engine samples, one text per row."""
        return torch.tensor(engine.run(), device=self.device)

    @torch.inference_mode()
    def transformers(self, ids: Tensor, new: int, how: Sampling) -> Tensor:
        """Generate by Hugging Face's own loop, with its cache."""
        sampling: dict[str, Any] = (
            {"do_sample": True, "temperature": how.temperature, "top_k": 0} if how.temperature else {"do_sample": False}
        )
        length = {"max_new_tokens": new, "min_new_tokens": new, "pad_token_id": 0}
        every = torch.ones_like(ids)
        texts: Tensor = self.peer.generate(ids, attention_mask=every, use_cache=True, **length, **sampling)
        return texts[:, ids.shape[1] :]

    def prompts(self, rows: int, length: int) -> Tensor:
        """Draw random prompts."""
        generator = torch.Generator().manual_seed(length)
        return torch.randint(self.vocab_size, (rows, length), generator=generator).to(self.device)

    def verdict(self, name: str, generate: Generate) -> str:
        """Return "pass", or where a greedy text is not the one that is generated without a cache."""
        new = min(SAME_TOKENS, self.model.context - max(PROMPTS))
        for length in PROMPTS:
            ids = self.prompts(2 if name == BATCH else 1, length)
            model = self.int8_model if name == INT8 else self.model
            want, got = self.uncached(ids, new, GREEDY, model), generate(ids, new, GREEDY)
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


def trained(model: Transformer, windows: Windows, steps: int, device: torch.device) -> Transformer:
    """Return the model after a few steps, ready to generate."""
    model = model.to(device)
    optimizer = Recipe().optimizer.build(model.named_parameters())
    for step in range(steps):
        x, y = (ids.to(device) for ids in windows.batch(step, 8))
        loss = F.cross_entropy(rearrange(model(x), "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.eval()
