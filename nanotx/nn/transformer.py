"""The model: embedding, blocks, final norm and head, from token ids to logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.checkpoint import checkpoint

from nanotx.config.registry import default_part
from nanotx.config.schema import check_fraction, check_max, check_min
from nanotx.errors import ConfigError
from nanotx.hardware.lazy_compiler import meta_device
from nanotx.hardware.memory import check_memory
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.dropout import Dropout
from nanotx.nn.embedding import Embedding
from nanotx.nn.exact import Exact
from nanotx.nn.ffn import Sparse
from nanotx.nn.init import Init, draw_weights
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import Linear
from nanotx.nn.loss import Loss, LossModule
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.shapes import Logits, Stream, Tokens

CHECKED_BYTES = 2**28
"""Size in bytes from which a model is compared with the free memory before it is built."""

MAX_MODULES = 2**18
"""Maximum number of modules of a model: 10,000 layers, each with twice the modules of our blocks."""

MAX_PERIOD_MODULES = 2**15
"""Maximum number of modules in one period of the pattern of blocks, which is built on the meta device to be counted."""

LOSS_PREFIX = "loss."
"""Prefix of the names of the training loss's parameters, which evaluation and sampling do not need."""

MODULE_BYTES = 2**10
"""Minimum memory of a module in addition to its tensors, in bytes."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a model with all its layers."""

    parameters: int  # trainable numbers; tied ones count once
    bytes: int  # of parameters, buffers and the modules themselves
    modules: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """Config of a decoder-only transformer."""

    excludes: ClassVar[dict[str, tuple[str, ...]]] = {"block": ("blocks",), "blocks": ("block",)}

    dim: int = 128  # width of the residual stream
    layers: int = 4  # number of blocks
    context: int = 64  # maximum number of tokens in a window
    dropout: float = 0.0  # dropout rate of the embedding in training
    tied: bool = True  # share the weights of the embedding with the head
    head_bias: bool = False  # learn a bias in the head
    softcap: float = 0.0  # bound of the logits, by soft-capping; 0 for none
    embedding: Embedding = default_part(Embedding, "tokens")
    position: Position = default_part(Position, "rope")
    norm: Norm = default_part(Norm, "rmsnorm")  # after the last block
    init: Init = Init()  # how the weights are drawn
    block: Block | None = None  # of every layer; prenorm if `blocks` is empty too
    blocks: tuple[Block, ...] = ()  # or a pattern that is repeated over the layers

    def __post_init__(self) -> None:
        check_min(self, 1, "dim", "layers", "context")
        check_max(self, 2**20, "dim")
        check_max(self, 10_000, "layers")
        check_max(self, 2**31, "context")
        check_min(self, 0, "softcap")
        check_max(self, 1_000_000, "softcap")
        check_fraction(self, "dropout")
        if self.block is not None and self.blocks:
            raise ConfigError("blocks: expected either block or blocks, got both; leave one out.")
        if self.block is None and not self.blocks:
            object.__setattr__(self, "block", PreNorm())

    def pattern(self) -> tuple[Block, ...]:
        """Return the block of each layer."""
        pattern = self.blocks or (self.block or PreNorm(),)
        return tuple(pattern[layer % len(pattern)] for layer in range(self.layers))

    def attentions(self) -> tuple[Attention, ...]:
        """Return the attentions of all layers, in order."""
        return tuple(attention for block in self.pattern() for attention in block.attentions)

    def check(self, device: str = "cpu") -> None:
        """Raise ConfigError if the parts do not fit together, or cannot be trained on the device; takes no memory."""
        for attention in self.attentions():
            attention.check_device(device)
        self.check_size(vocab_size=1)

    def check_size(self, vocab_size: int) -> None:
        """Raise ConfigError if the parts do not fit together, or the model does not fit into memory."""
        size = self.size(vocab_size)
        if size.bytes > CHECKED_BYTES:
            sizes = f"dim={self.dim}, layers={self.layers}, context={self.context}, or {vocab_size:,} tokens"
            what = f"model: {size.parameters:,} weights in {size.modules:,} modules"
            check_memory(what, size.bytes, f"less than {sizes}, or smaller parts")

    def size(self, vocab_size: int) -> Size:
        """Return the size of the model, computed from one period of its blocks on the meta device.

        Raises:
            ConfigError: the parts do not fit together, or there are too many modules.
        """
        kinds = min(self.layers, len(self.blocks) or 1)
        with counted(
            MAX_PERIOD_MODULES,
            f"blocks: one period of their pattern of {kinds:,} has more than {MAX_PERIOD_MODULES:,} modules",
        ):
            meta_model = replace(self, layers=kinds)._build_meta(vocab_size)
        whole = measured(meta_model)
        for index, block in enumerate(meta_model.blocks):
            more, block_size = len(range(index, self.layers, kinds)) - 1, measured(block)
            whole = Size(**{name: value + more * getattr(block_size, name) for name, value in vars(whole).items()})
        if whole.modules > MAX_MODULES:
            raise ConfigError(
                f"model: {self.layers:,} layers have {whole.modules:,} modules in all, and at most {MAX_MODULES:,} are "
                "built; try fewer layers, or fewer experts in each."
            )
        return whole

    def build_meta(self, vocab_size: int) -> "Transformer":
        """Build the module on the meta device, without memory for its weights.

        Raises:
            ConfigError: the parts do not fit together, or there are too many modules.
        """
        self.size(vocab_size)
        return self._build_meta(vocab_size)

    def _build_meta(self, vocab_size: int) -> "Transformer":
        with meta_device():
            return Transformer(self, vocab_size)

    def build(self, vocab_size: int, seed: int = 0) -> "Transformer":
        """Build the module, with weights initialised from `seed`.

        Raises:
            ConfigError: the parts do not fit together, or the model does not fit into memory.
        """
        self.check_size(vocab_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Transformer(self, vocab_size)
            draw_weights(model, seed, self.init)
        return model


def measured(module: nn.Module) -> Size:
    """Return the size of a module with all its submodules."""
    parameters, modules = list(module.parameters()), sum(1 for _ in module.modules())
    data = sum(tensor.numel() * tensor.element_size() for tensor in [*parameters, *module.buffers()])
    numbers = sum(tensor.numel() for tensor in parameters)
    return Size(parameters=numbers, bytes=data + MODULE_BYTES * modules, modules=modules)


@contextmanager
def counted(most: int, what: str) -> Iterator[None]:
    """Context in which at most `most` submodules may be registered.

    Raises:
        ConfigError: there are more; the message begins with `what`.
    """
    count = 0

    def count_one(parent: nn.Module, name: str, child: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ConfigError(f"{what}; try fewer or smaller parts.")

    hook = register_module_module_registration_hook(count_one)
    try:
        yield
    finally:
        hook.remove()


class Transformer(Exact):
    """The module of the model, from ids to logits. Casting it changes the dtype of weights, but not of constants."""

    def __init__(self, config: Model, vocab_size: int) -> None:
        super().__init__()
        position, heads = config.position, {attention.heads for attention in config.attentions()} or {1}
        if len(heads) > 1 and position.part != "none":
            raise ConfigError(f"model: blocks with heads {sorted(heads)} cannot share one position; give all as many.")
        for attention in config.attentions():
            attention.check_position(position)
        self.config, self.vocab_size = config, vocab_size
        self.embedding = config.embedding.build(vocab_size, config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block.build(config.dim) for block in config.pattern())
        self.position = position.build(config.dim, min(heads), config.context)
        self.norm = config.norm.build(config.dim)
        self.undefined_ids: tuple[int, ...] = ()  # ids that the tokenizer does not define: `generate` never draws them
        self.activation_checkpointing = False  # recompute the blocks in the backward pass
        self.loss: LossModule | None = None  # what training minimises, in training alone
        self.head = Linear(config.dim, vocab_size, bias=config.head_bias)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids: Tokens, cache: KVCache | None = None) -> Logits:
        return self.logits(self.hidden_states(ids, cache))

    def logits(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... v"]:
        """Return the logits of a stream, soft-capped if `softcap` is set.

        Source of soft-capping: Gemma Team 2024, https://arxiv.org/abs/2408.00118, section 2, logit soft-capping
        """
        logits, cap = self.head(x), self.config.softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def hidden_states(self, ids: Tokens, cache: KVCache | None = None) -> Stream:
        """Return the residual stream after the final norm, which the head reads.

        Raises:
            ConfigError: cached tokens and ids together are longer than the context.
        """
        length = cache.length if cache is not None else 0
        if length + ids.shape[1] > self.context:
            raise ConfigError(f"model: {length + ids.shape[1]} tokens do not fit a context of {self.context}.")
        positions = torch.arange(length, length + ids.shape[1], device=ids.device)
        x = self.dropout(self.position.embed(self.embedding(ids, cache), positions))
        for layer, block in enumerate(self.blocks):
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, self.position, None, use_reentrant=False)
            else:
                x = block(x, self.position, cache.layer(layer) if cache is not None else None)
        if cache is not None:
            cache.advance(ids.shape[1])
        return self.norm(x)

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> Float[Tensor, "b v"]:
        """Return the logits of the token after `ids`."""
        return self.logits(self.hidden_states(ids, cache)[:, -1])

    def add_loss(self, loss: Loss, seed: int) -> None:
        """Add the module of a training loss; its parameters, if any, are then the model's, and drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.loss = loss.build(self.vocab_size, self.config.dim)
            draw_weights(self.loss, seed, replace(self.config.init, rules=()), LOSS_PREFIX)
        for count in ("parameter_count", "flops_per_token"):  # they are cached
            self.__dict__.pop(count, None)

    @property
    def context(self) -> int:
        """Maximum number of tokens."""
        return self.config.context

    @cached_property
    def parameter_count(self) -> int:
        """Number of trainable parameters; tied ones count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @cached_property
    def flops_per_token(self) -> int:
        """Floating-point operations per token in training; a multiplication and an addition count as two.

        Six for each weight of a matrix that the token uses, and 12 * dim * context for the two products of each
        layer's attention, with the masked half; a shorter attention window replaces the context.
        Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B
        """
        maps = sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))
        maps -= sum(module.inactive_params for module in self.modules() if isinstance(module, Sparse))
        windows = [attention.attention_window or self.context for attention in self.config.attentions()]
        return 6 * maps + 12 * self.config.dim * sum(min(window, self.context) for window in windows)
