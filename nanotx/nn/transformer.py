"""The model: embedding, blocks, final norm and head, from token ids to logits."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.checkpoint import checkpoint

from nanotx.config.registry import default_part
from nanotx.config.schema import check_fraction, check_max, check_min, divisors
from nanotx.errors import ConfigError
from nanotx.hardware.lazy_compiler import meta_device
from nanotx.hardware.memory import check_memory
from nanotx.nn.adapt import Adapt, adapted, draw_added
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.documents import DocumentPosition
from nanotx.nn.dropout import Dropout, reused
from nanotx.nn.embedding import Embedding
from nanotx.nn.empty import empty_weights
from nanotx.nn.exact import Exact
from nanotx.nn.ffn import Sparse
from nanotx.nn.hooks import AuxLossModule
from nanotx.nn.init import Init, draw_weights
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import Linear
from nanotx.nn.loss import Loss, LossModule
from nanotx.nn.norm import Norm
from nanotx.nn.pass_store import State, connect
from nanotx.nn.position import Position, PositionalEncoding
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
    softcap: float = 0.0  # bound of the head's logits, by soft-capping; 0 for none
    embedding: Embedding = default_part(Embedding, "tokens")
    position: Position = default_part(Position, "rope")
    norm: Norm = default_part(Norm, "rmsnorm")  # after the last block
    init: Init = Init()  # how the weights are drawn
    block: Block | None = None  # of every layer; prenorm if `blocks` is empty too
    blocks: tuple[Block, ...] = ()  # or a pattern that is repeated over the layers
    adapt: Adapt = default_part(Adapt, "none")  # what is added to linear maps, and trained in their place
    share: int = 1  # consecutive layers that share the weights of one block; as many as `layers` for a single block

    def __post_init__(self) -> None:
        check_min(self, 1, "dim", "layers", "context", "share")
        check_max(self, 2**20, "dim")
        check_max(self, 10_000, "layers")
        check_max(self, 2**31, "context")
        check_min(self, 0, "softcap")
        check_max(self, 1_000_000, "softcap")
        check_fraction(self, "dropout")
        if self.layers % self.share:
            raise ConfigError(
                f"share: {self.share} does not divide layers={self.layers}; try one of {divisors(self.layers)}, or "
                f"--model.layers {-(-self.layers // self.share) * self.share}."
            )
        if self.block is not None and self.blocks:
            raise ConfigError("blocks: expected either block or blocks, got both; leave one out.")
        if self.block is None and not self.blocks:
            object.__setattr__(self, "block", PreNorm())

    def pattern(self) -> tuple[Block, ...]:
        """Return the block of each layer."""
        pattern = self.blocks or (self.block or PreNorm(),)
        return tuple(pattern[layer // self.share % len(pattern)] for layer in range(self.layers))

    def attentions(self) -> tuple[Attention, ...]:
        """Return the attentions of all layers, in order."""
        return tuple(attention for block in self.pattern() for attention in block.attentions)

    def check(self, device: str = "cpu") -> None:
        """Raise ConfigError if the parts do not fit together, or cannot be trained on the device; takes no memory."""
        for attention in self.attentions():
            attention.check_device(device)
        self.check_size(vocab_size=1)

    def check_documents(self) -> None:
        """Raise ConfigError if a part cannot keep the documents of a row apart; the message names it."""
        kinds: tuple[Embedding | Block | Attention, ...] = (self.embedding, *self.pattern(), *self.attentions())
        refusing = next((part for part in kinds if not part.supports_documents), None)
        if refusing is not None:
            parts: Any = refusing.family
            others = [name for name in sorted(parts.shipped()) if parts.find(name).supports_documents]
            raise ConfigError(
                f"{refusing.slot} {refusing.part}: cannot keep the documents of a window apart, because it reads "
                f"tokens before a document's first; try --{refusing.slot} {', '.join(others[:4])}, or "
                "--corpus.documents join."
            )
        if self.position.adds_bias and not self.position.relative:
            raise ConfigError(
                f"position {self.position.part}: its bias depends on more than distances, so positions cannot begin "
                "anew in each document; try --position rope, or --corpus.documents join."
            )

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
        distinct = self.layers // self.share
        kinds = min(distinct, len(self.blocks) or 1)
        if self.adapt.patterns:  # which may match some layers alone
            replace(self, adapt=Adapt.find("none")()).size(vocab_size)
            return measured(self._build_meta(vocab_size))
        with counted(
            MAX_PERIOD_MODULES,
            f"blocks: one period of their pattern of {kinds:,} has more than {MAX_PERIOD_MODULES:,} modules",
        ):
            meta_model = replace(self, layers=kinds, share=1)._build_meta(vocab_size)
        whole = measured(meta_model)
        for index, block in enumerate(meta_model.blocks):
            more, block_size = len(range(index, distinct, kinds)) - 1, measured(block)
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

    def build_empty(self, vocab_size: int) -> "Transformer":
        """Build the module with buffers, and without memory for its weights: `nn/empty.py` can give it later.

        Raises:
            ConfigError: the parts do not fit together, or there are too many modules.
        """
        self.size(vocab_size)
        with empty_weights():
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
            draw_weights(model, seed, self.init, uses=self.share)
            draw_added(model, seed)
        return model


def used_weights(module: nn.Module) -> int:
    """Return how many weights of linear maps a token uses."""
    maps = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))
    maps += sum(layer.get_parameter(name).numel() for _, layer in adapted(module) for name in layer.adds)
    return maps - sum(layer.inactive_params for layer in module.modules() if isinstance(layer, Sparse))


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


def check_shared_position(position: Position, attentions: Sequence[Attention], dim: int) -> None:
    """Raise ConfigError unless one position fits all attentions of a model of width `dim`."""
    for attention in attentions:
        attention.check_position(position)
    if position.part == "none":
        return
    heads = {attention.heads for attention in attentions}
    if len(heads) > 1:
        raise ConfigError(f"model: blocks with heads {sorted(heads)} cannot share one position; give all as many.")
    widths = {attention.heads_width(dim) for attention in attentions}
    if len(widths) > 1 and position.rotates:
        raise ConfigError("model: heads of different widths cannot share one position; give all the same head_dim.")


class Transformer(Exact):
    """The module of the model, from ids to logits. Casting it changes the dtype of weights, but not of constants."""

    def __init__(self, config: Model, vocab_size: int) -> None:
        super().__init__()
        position, attentions = config.position, config.attentions()
        check_shared_position(position, attentions, config.dim)
        self.config, self.vocab_size = config, vocab_size
        self.embedding = config.embedding.build(vocab_size, config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(block.build(config.dim) for block in config.pattern()[:: config.share])
        self.position = (
            attentions[0].build_position(position, config.dim, config.context)
            if attentions
            else position.build(config.dim, 1, config.context)
        )
        self.norm = config.norm.build(config.dim)
        self.undefined_ids: tuple[int, ...] = ()  # ids that the tokenizer does not define: `generate` never draws them
        self.activation_checkpointing = False  # recompute the blocks in the backward pass
        self.loss: LossModule | None = None  # what training minimises, in training alone
        self.head = Linear(config.dim, vocab_size, bias=config.head_bias)
        if config.tied:
            self.head.weight = self.embedding.weight
        self.shared_aux_losses: dict[str, Tensor] = {}  # of the last pass, where layers share their weights
        config.adapt.apply(self, config.tied)
        self.store = connect(self)  # what modules hand to later ones in a forward pass, if any do

    def forward(self, ids: Tokens, cache: KVCache | None = None) -> Logits:
        return self.logits(self.hidden_states(ids, cache))

    def logits(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... v"]:
        """Return the logits of a stream, soft-capped if `softcap` is set.

        Source of soft-capping: Gemma Team 2024, https://arxiv.org/abs/2408.00118, section 2, logit soft-capping
        """
        logits, cap = self.head(x), self.config.softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def hidden_states(self, ids: Tokens, cache: KVCache | None = None, documents: Tokens | None = None) -> Stream:
        """Return the residual stream after the final norm, which the head reads.

        Args:
            ids: the tokens.
            cache: keys and values of the tokens before them.
            documents: the number of each token's document, never falling along a row; documents are kept apart, as if
                each were a text of its own. None where each row is one text.

        Raises:
            ConfigError: cached tokens and ids together are longer than the context, or a part cannot keep documents
                apart.
        """
        if self.store is None:
            return self._hidden_states(ids, cache, documents)
        with self.store.one_pass():
            return self._hidden_states(ids, cache, documents)

    def one_pass(self) -> AbstractContextManager[None]:
        """Return the context of one forward pass, at whose end the store of the modules is emptied."""
        return nullcontext() if self.store is None else self.store.one_pass()

    def _hidden_states(self, ids: Tokens, cache: KVCache | None, documents: Tokens | None) -> Stream:
        length = cache.length if cache is not None else 0
        if length + ids.shape[1] > self.context:
            raise ConfigError(f"model: {length + ids.shape[1]} tokens do not fit a context of {self.context}.")
        positions = torch.arange(length, length + ids.shape[1], device=ids.device)
        position: PositionalEncoding = self.position
        if documents is not None:
            position = self.document_position(ids, documents, cache)
        x = self.embedding(ids, cache) if documents is None else self.embedding(ids, None, position.within)
        x = self.dropout(position.embed(x, positions))
        share = self.config.share
        if share > 1:
            self.shared_aux_losses = {}
        for layer, block in enumerate(block for block in self.blocks for _ in range(share)):
            if self.activation_checkpointing and self.training:
                x = self.checkpointed(block, x, position, layer % share)
            else:
                with reused(block, layer % share) if share > 1 else nullcontext():
                    x = block(x, position, cache.layer(layer) if cache is not None else None)
            if share > 1 and self.training:
                self.add_aux_losses(layer // share, block)
        if cache is not None:
            cache.advance(ids.shape[1])
        return self.norm(x)

    def document_position(self, ids: Tokens, documents: Tensor, cache: KVCache | None) -> DocumentPosition:
        """Return the position in rows of several documents.

        Raises:
            ConfigError: a part cannot keep documents apart, they are not numbered token by token, or there is a cache.
        """
        self.config.check_documents()
        if documents.shape != ids.shape:
            raise ConfigError(
                f"documents: expected a number for each token, of shape {tuple(ids.shape)}, got "
                f"{tuple(documents.shape)}."
            )
        if cache is not None:
            raise ConfigError("documents: a cache holds one text per row; leave out one of the two.")
        return DocumentPosition(self.position, documents)

    def checkpointed(self, block: nn.Module, x: Stream, position: PositionalEncoding, use: int) -> Stream:
        """Apply a block whose activations are computed again in the backward pass.

        What it reads from the store is an argument and what it writes is a result, so that the second time is as the
        first.
        """
        if self.store is None and self.config.share == 1:
            y: Stream = checkpoint(block, x, position, None, use_reentrant=False)
            return y
        state = self.store.state if self.store is not None else None
        y, state = checkpoint(self.apply_with, block, x, position, use, state, use_reentrant=False)
        if self.store is not None:
            self.store.state = state
        return y

    def apply_with(
        self, block: nn.Module, x: Stream, position: PositionalEncoding, use: int, state: State | None
    ) -> tuple[Stream, State | None]:
        """Apply a block with these contents of the store; return its output and the contents after it."""
        with reused(block, use) if self.config.share > 1 else nullcontext():
            if self.store is None:
                return block(x, position, None), None
            with self.store.replaced(state):
                return block(x, position, None), self.store.state

    def add_aux_losses(self, index: int, block: nn.Module) -> None:
        """Add the auxiliary losses of a block that several layers share to those of the layers before."""
        for name, module in block.named_modules(prefix=f"blocks.{index}"):
            if isinstance(module, AuxLossModule):
                before, loss = self.shared_aux_losses.get(name), module.aux_loss()
                self.shared_aux_losses[name] = loss if before is None else before + loss

    def aux_losses(self) -> dict[str, Tensor]:
        """Return the auxiliary losses of the last pass by the names of their modules; layers that share one add up."""
        modules = {name: module for name, module in self.named_modules() if isinstance(module, AuxLossModule)}
        return {name: module.aux_loss() for name, module in modules.items()} | self.shared_aux_losses

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> Float[Tensor, "b v"]:
        """Return the logits of the token after `ids`."""
        return self.logits(self.hidden_states(ids, cache)[:, -1])

    def add_loss(self, loss: Loss, seed: int) -> None:
        """Add the module of a training loss; its parameters, if any, are then the model's, and drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.loss = loss.build(self.vocab_size, self.config.dim)
            self.store = connect(self)
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
        layer's attention, with the masked half; a shorter attention window replaces the context, and the width of all
        heads together replaces dim where they have a width of their own.
        Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B
        """
        maps = (self.config.share - 1) * used_weights(self.blocks) + used_weights(self)
        attended = sum(
            attention.heads_width(self.config.dim) * min(attention.attention_window or self.context, self.context)
            for attention in self.config.attentions()
        )
        return 6 * maps + 12 * attended
