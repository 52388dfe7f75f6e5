"""GPT-2 in other libraries, with the sizes of one of our recipes and its weights.

Only the names, layouts and speed are theirs: `equal_training.py` shows that the same weights give the same logits
before anything is timed. Biases that a library cannot leave out start at zero, and are trained.
"""

import importlib.util
import os
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from harness.recipes import changed
from nanotx.errors import ConfigError
from nanotx.hub.huggingface.layouts import SAME, Entry, their_weights, with_bias
from nanotx.hub.huggingface.layouts import Gpt2 as Gpt2Layout
from nanotx.hub.huggingface.shape import ModelShape, Unfit, model_shape
from nanotx.nn.canonical import to_canonical
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe

BIASES = {
    "norm": {"bias": True},
    "block": {"norm": {"bias": True}, "attention": {"bias": True, "out_bias": True}, "ffn": {"bias": True}},
}
"""Changes to a model that give it the biases of GPT-2."""


def gpt2_shape(recipe: Recipe, vocab_size: int = 1) -> ModelShape:
    """Return the sizes of a GPT-2-like recipe.

    Raises:
        ConfigError: the recipe is not GPT-2-like; the message has every reason.
    """
    model = recipe.model.build_meta(vocab_size)
    try:
        shape = shape_of(model)
        reasons = Gpt2Layout().misfits(shape)
        if shape.share > 1 or recipe.model.block is None:
            reasons.append("each layer has weights of its own, and blocks of one kind")
        if shape.layer.ffn.activation not in ("gelu", "relu"):
            reasons.append("its activation is gelu, or relu")
    except Unfit as unfit:
        reasons = list(unfit.reasons)
    if recipe.model.position.part != "learned":
        reasons.append("its positions are learned")
    if recipe.optimizer.part != "adamw":
        reasons.append("it is trained by adamw here")
    if reasons:
        reasons = list(dict.fromkeys(reasons))
        raise ConfigError(f"--recipe: GPT-2 computes no such model: {'; '.join(reasons)}; try --recipe macbook.")
    return shape


def shape_of(model: Transformer) -> ModelShape:
    """Return the sizes of a model."""
    return model_shape(model.config, model.vocab_size, to_canonical(model, dict(model.named_parameters())))


def has_biases(shape: ModelShape) -> bool:
    """Return whether a GPT-2-like model has any bias."""
    layer = shape.layer
    return shape.norm.bias or layer.norm.bias or layer.qkv_bias or layer.out_bias or layer.ffn.bias


class Library(ABC):
    """A library that can build the model of a GPT-2-like recipe."""

    name: str  # in rows
    package: str  # as pip calls it

    @property
    def remedy(self) -> str:
        """Return what to try where the package is missing."""
        return f"and it is not installed; try pip install -c constraints.txt {self.package}, or --no-peers"

    def require(self) -> None:
        """Raise ConfigError where the package is not installed."""
        try:
            self.load()
        except ImportError:
            raise ConfigError(f"training.py: expected {self.package} to compare with, {self.remedy}.") from None

    @abstractmethod
    def load(self) -> Any:
        """Import what is needed of the package, and return it."""

    @abstractmethod
    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        """Build their module, which maps ids to logits.

        Raises:
            ConfigError: the package cannot express this model.
        """

    @abstractmethod
    def entries(self, shape: ModelShape) -> list[Entry]:
        """Return where each of their weights stands in ours; biases that a model may lack are included."""

    def with_own_biases(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the biases that theirs trains."""
        return recipe


@torch.no_grad()
def copy_weights(ours: Transformer, theirs: nn.Module, library: Library) -> None:
    """Copy our weights into their module; biases that we do not have become zeros."""
    weights = to_canonical(ours, dict(ours.named_parameters()))
    params = dict(theirs.named_parameters())
    entries = library.entries(shape_of(ours))
    lost = {entry.ours for entry in entries if entry.theirs not in params} & weights.keys()
    copied = their_weights([entry for entry in entries if entry.theirs in params], weights)
    assert not lost and copied.keys() == params.keys(), (lost, copied.keys() ^ params.keys())
    for name, weight in copied.items():
        assert weight.shape == params[name].shape, name
        params[name].copy_(weight)


# Hugging Face, and nanoGPT, whose names are the same.


class Gpt2(Library):
    """Hugging Face's `GPT2LMHeadModel` at its fastest: PyTorch's attention kernel, no cache, no labels.

    It has every bias, whatever the recipe has.
    """

    name, package = "transformers", "transformers"

    def load(self) -> Any:
        from transformers import GPT2Config, GPT2LMHeadModel  # an extra

        return GPT2Config, GPT2LMHeadModel

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        make_config, make_model = self.load()
        block: Any = recipe.model.block
        config = make_config.from_dict(
            Gpt2Layout().config(gpt2_shape(recipe, vocab_size))
            | {
                "embd_pdrop": recipe.model.dropout,
                "attn_pdrop": block.attention.dropout,
                "resid_pdrop": block.dropout,
                "use_cache": False,
                "attn_implementation": "sdpa",
            }
        )
        return Gpt2Logits(make_model(config))

    def entries(self, shape: ModelShape) -> list[Entry]:
        return [replace(entry, theirs=f"model.{entry.theirs}") for entry in Gpt2Layout().entries(shape)]

    def with_own_biases(self, recipe: Recipe) -> Recipe:
        return changed(recipe, {"model": BIASES})


class Gpt2Logits(nn.Module):
    """Hugging Face's model, which answers with the logits alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(ids).logits
        return logits


CHECKOUT = "NANOGPT"
"""The environment variable with the path of a nanoGPT checkout, which each contender's process inherits."""


class NanoGpt(Library):
    """nanoGPT's own `model.py`, from a checkout that the user names. Its matrices are not transposed."""

    name, package = "nanogpt", "a checkout of nanoGPT"

    @property
    def remedy(self) -> str:
        return "a folder with its model.py; try --nanogpt PATH"

    def load(self) -> Any:
        file = Path(os.environ.get(CHECKOUT, "")) / "model.py"
        if not os.environ.get(CHECKOUT) or not file.is_file():
            raise ImportError(f"{file}: no such file")
        spec = importlib.util.spec_from_file_location("nanogpt_model", file)
        assert spec is not None and spec.loader is not None, file
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        module, shape = self.load(), gpt2_shape(recipe, vocab_size)
        model, block = recipe.model, recipe.model.block
        fractions = {model.dropout, block.dropout, block.attention.dropout}  # type: ignore[union-attr]
        if len(fractions) != 1 or shape.norm.eps != 1e-5 or shape.layer.ffn.activation != "gelu" or not shape.tied:
            raise ConfigError("nanogpt: it has one dropout rate, eps 1e-5, gelu and a tied head; this recipe's differ.")
        config = module.GPTConfig(
            block_size=shape.context,
            vocab_size=vocab_size,
            n_layer=shape.layers,
            n_head=shape.layer.heads,
            n_embd=shape.dim,
            dropout=model.dropout,
            bias=has_biases(shape),
        )
        return NanoGptLogits(module.GPT(config))

    def entries(self, shape: ModelShape) -> list[Entry]:
        return [replace(entry, form=SAME) for entry in Gpt2().entries(shape)]


class NanoGptLogits(nn.Module):
    """nanoGPT's model, which by itself gives all logits only together with a loss of its own."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        inner = self.model.transformer
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = inner.drop(inner.wte(ids) + rearrange(inner.wpe(positions), "t d -> 1 t d"))
        for block in inner.h:
            x = block(x)
        logits: Tensor = self.model.lm_head(inner.ln_f(x))
        return logits


class XTransformers(Library):
    """`x-transformers`, with PyTorch's attention kernel ("flash") and the few switches that make it GPT-2."""

    name, package = "x_transformers", "x-transformers"

    def load(self) -> Any:
        from x_transformers import Decoder, TransformerWrapper  # an extra

        return Decoder, TransformerWrapper

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        make_layers, make_model = self.load()
        shape, block = gpt2_shape(recipe, vocab_size), recipe.model.block
        attention: Any = recipe.model.attentions()[0]
        if has_biases(shape) or shape.norm.eps != 1e-5:
            raise ConfigError("x_transformers: its norms have no biases, and add 1e-5; this recipe's are others.")
        layers = make_layers(
            dim=shape.dim,
            depth=shape.layers,
            heads=shape.layer.heads,
            attn_dim_head=attention.head_width(shape.dim),
            attn_flash=True,
            norm_add_unit_offset=False,
            attn_dropout=attention.dropout,
            attn_sublayer_dropout=block.dropout,  # type: ignore[union-attr]
            ff_mult=shape.hidden_dim / shape.dim,
            ff_custom_activation={"gelu": nn.GELU(), "relu": nn.ReLU()}[shape.layer.ffn.activation],
            ff_no_bias=True,
            ff_sublayer_dropout=block.dropout,  # type: ignore[union-attr]
        )
        theirs: nn.Module = make_model(
            num_tokens=vocab_size,
            max_seq_len=shape.context,
            emb_dropout=recipe.model.dropout,
            tie_embedding=shape.tied,
            tie_embedding_scale=1.0,
            attn_layers=layers,
        )
        position: Any = theirs.get_submodule("pos_emb")
        position.scale = 1.0  # it scales positions down, so they would be trained at another rate
        return theirs

    def entries(self, shape: ModelShape) -> list[Entry]:
        names = {
            "token_emb.emb.weight": "embedding.weight",
            "pos_emb.emb.weight": "position.table.weight",
            "attn_layers.final_norm.gamma": "norm.weight",
            "to_logits.weight": "head.weight",
        }
        entries = []
        for layer in range(shape.layers):  # two layers of theirs
            first, second, ours = (*(f"attn_layers.layers.{2 * layer + half}" for half in (0, 1)), f"blocks.{layer}")
            names |= {
                f"{first}.0.0.gamma": f"{ours}.attention_norm.weight",
                f"{first}.1.to_out.weight": f"{ours}.attention.to_out.weight",
                f"{second}.0.0.gamma": f"{ours}.ffn_norm.weight",
                f"{second}.1.ff.0.0.weight": f"{ours}.ffn.to_hidden.weight",
                f"{second}.1.ff.2.weight": f"{ours}.ffn.to_out.weight",
            }
            for index, x in enumerate("qkv"):
                start, to_qkv = index * shape.dim, f"{ours}.attention.to_qkv.weight"
                entries.append(Entry(theirs=f"{first}.1.to_{x}.weight", ours=to_qkv, start=start, rows=shape.dim))
        return entries + [Entry(theirs=theirs, ours=ours) for theirs, ours in names.items()]


class TorchEncoder(Library):
    """`torch.nn.TransformerEncoder` made causal, between an embedding, learned positions and a head.

    It has all biases or none.
    """

    name, package = "torch_encoder", "torch"

    def load(self) -> Any:
        return nn.TransformerEncoder

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        return TorchEncoderModel(recipe, gpt2_shape(recipe, vocab_size))

    def entries(self, shape: ModelShape) -> list[Entry]:
        names = {"embedding": "embedding", "position": "position.table", "encoder.norm": "norm", "head": "head"}
        for layer in range(shape.layers):
            theirs, ours = f"encoder.layers.{layer}", f"blocks.{layer}"
            names |= {
                f"{theirs}.norm1": f"{ours}.attention_norm",
                f"{theirs}.self_attn.in_proj": f"{ours}.attention.to_qkv",
                f"{theirs}.self_attn.out_proj": f"{ours}.attention.to_out",
                f"{theirs}.norm2": f"{ours}.ffn_norm",
                f"{theirs}.linear1": f"{ours}.ffn.to_hidden",
                f"{theirs}.linear2": f"{ours}.ffn.to_out",
            }
        entries = [entry for theirs, ours in names.items() for entry in with_bias(theirs, ours)]
        return [replace(entry, theirs=entry.theirs.replace("in_proj.", "in_proj_")) for entry in entries]

    def with_own_biases(self, recipe: Recipe) -> Recipe:
        return changed(recipe, {"model": BIASES}) if has_biases(gpt2_shape(recipe)) else recipe


class TorchEncoderModel(nn.Module):
    """A language model around PyTorch's encoder."""

    def __init__(self, recipe: Recipe, shape: ModelShape) -> None:
        super().__init__()
        block: Any = recipe.model.block
        bias, eps = has_biases(shape), shape.norm.eps
        layer = nn.TransformerEncoderLayer(
            shape.dim,
            shape.layer.heads,
            shape.hidden_dim,
            dropout=block.dropout,
            activation=shape.layer.ffn.activation,
            layer_norm_eps=eps,
            batch_first=True,
            norm_first=True,
            bias=bias,
        )
        layer.dropout.p = 0.0  # GPT-2 has no dropout between the two maps of the feed-forward
        layer.self_attn.dropout = block.attention.dropout
        last = nn.LayerNorm(shape.dim, eps, bias=bias)
        self.embedding = nn.Embedding(shape.vocab_size, shape.dim)
        self.position = nn.Embedding(shape.context, shape.dim)
        self.dropout = nn.Dropout(recipe.model.dropout)
        self.encoder = nn.TransformerEncoder(layer, shape.layers, last, enable_nested_tensor=False)
        self.head = nn.Linear(shape.dim, shape.vocab_size, bias=False)
        if shape.tied:
            self.head.weight = self.embedding.weight
        mask = nn.Transformer.generate_square_subsequent_mask(shape.context)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.dropout(self.embedding(ids) + self.position(torch.arange(length, device=ids.device)))
        mask: Tensor = self.get_buffer("mask")
        logits: Tensor = self.head(self.encoder(x, mask[:length, :length], is_causal=True))
        return logits


LIBRARIES: dict[str, Library] = {
    library.name: library for library in (Gpt2(), XTransformers(), TorchEncoder(), NanoGpt())
}
