"""Other libraries' implementations of GPT-2, with the sizes of one of our recipes and its weights.

Only the names, layouts and speed are theirs: `equal_training.py` shows that the same weights give the same logits
before anything is timed. Biases that a library cannot leave out start at zero, and are trained.
"""

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge
from nanotx.errors import ConfigError
from nanotx.nn.attention import SOFTMAX, Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import to_canonical
from nanotx.recipe import Recipe

Weights = dict[str, Tensor]


class Library(ABC):
    """A library that can build the model of a GPT-2-like recipe."""

    name: str  # in rows
    package: str  # as pip calls it

    def require(self) -> None:
        """Raise ConfigError where the package is not installed."""
        try:
            self.load()
        except ImportError:
            raise ConfigError(
                f"training.py: expected {self.package} to compare with, and it is not installed; "
                f"try pip install -c constraints.txt {self.package}, or --no-peers."
            ) from None

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
    def convert(self, weights: Weights) -> Weights:
        """Return our weights under their names, in their shapes."""

    def with_own_biases(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the biases that theirs trains."""
        return recipe


@torch.no_grad()
def copy_weights(ours: nn.Module, theirs: nn.Module, library: Library) -> None:
    """Copy our weights into their module; biases that we do not have become zeros."""
    weights = library.convert(to_canonical(ours, dict(ours.named_parameters())))
    for name, param in theirs.named_parameters():
        weight = weights.pop(name, None)
        if weight is None:
            assert "bias" in name, name
            param.zero_()
        else:
            assert weight.shape == param.shape, name
            param.copy_(weight)
    assert not weights, weights.keys()


def rename(name: str, names: Mapping[str, str]) -> str:
    """Replace each part of a name that the mapping knows."""
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def hidden_dim(recipe: Recipe) -> int:
    """Return the hidden width of the feed-forward."""
    block, _ = gpt2_parts(recipe)
    return 4 * recipe.model.dim if block.ffn.hidden_dim is None else int(block.ffn.hidden_dim)


# Recipes of GPT-2's kind.

BIASES = {
    "norm": {"bias": True},
    "block": {"norm": {"bias": True}, "attention": {"bias": True, "out_bias": True}, "ffn": {"bias": True}},
}


def with_model(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with changes to its model."""
    changed: Recipe = from_table(Recipe, merge(Recipe, to_table(recipe), {"model": changes}))
    return changed


def with_dropout(recipe: Recipe, fraction: float) -> Recipe:
    """Return the recipe with dropout everywhere GPT-2 has it: embedding, attention weights, branches."""
    block = {"dropout": fraction, "attention": {"dropout": fraction}}
    return with_model(recipe, {"dropout": fraction, "block": block})


def has_biases(recipe: Recipe) -> bool:
    """Whether a GPT-2-like recipe has any bias."""
    block, norm = gpt2_parts(recipe)
    attention = block.attention
    return bool(norm.bias or block.norm.bias or attention.bias or attention.out_bias or block.ffn.bias)


def gpt2_parts(recipe: Recipe) -> tuple[Any, Any]:
    """Return the block and the last norm of a GPT-2-like recipe.

    Raises:
        ConfigError: the recipe is not GPT-2-like.
    """
    model, block = recipe.model, recipe.model.block
    softmax = [name for name in Attention.names() if Attention.find(name).equivalent_to == SOFTMAX]
    wanted: dict[str, tuple[Any, ...]] = {
        "model.block": (block, "prenorm"),
        "model.position": (model.position, "learned"),
        "model.embedding": (model.embedding, "tokens"),
        "model.norm": (model.norm, "layernorm"),
        "optimizer": (recipe.optimizer, "adamw"),
    }
    if isinstance(block, PreNorm):
        wanted |= {"model.block.norm": (block.norm, "layernorm"), "model.block.ffn": (block.ffn, "mlp")}
        wanted["model.block.attention"] = (block.attention, *softmax)
    for field, (part, *names) in wanted.items():
        if part is None or part.part not in names:
            got = part.part if part else "several blocks"
            raise ConfigError(f"{field}: GPT-2 has {' or '.join(names)}, this recipe {got}; try --recipe macbook.")
    attention: Any = recipe.model.attentions()[0]
    for field, value in {
        "model.head_bias": model.head_bias,
        "model.softcap": model.softcap,
        "model.block.attention.qk_norm": attention.qk_norm,
    }.items():
        if value:
            raise ConfigError(f"{field}: GPT-2 has none, this recipe has {value}; try --recipe macbook.")
    return block, model.norm


# Hugging Face, and nanoGPT, whose names are almost the same.


class Gpt2(Library):
    """Hugging Face's `GPT2LMHeadModel` at its fastest: PyTorch's attention kernel, no cache, no labels.

    It has every bias, whatever the recipe has; matrices of its blocks are transposed.
    """

    name, package = "transformers", "transformers"

    def load(self) -> Any:
        from transformers import GPT2Config, GPT2LMHeadModel  # an extra

        return GPT2Config, GPT2LMHeadModel

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        make_config, make_model = self.load()
        model, block, norm = recipe.model, *gpt2_parts(recipe)
        config = make_config(
            vocab_size=vocab_size,
            n_positions=model.context,
            n_embd=model.dim,
            n_layer=model.layers,
            n_head=block.attention.heads,
            n_inner=hidden_dim(recipe),
            activation_function=block.ffn.activation,
            layer_norm_epsilon=norm.eps,
            embd_pdrop=model.dropout,
            attn_pdrop=block.attention.dropout,
            resid_pdrop=block.dropout,
            tie_word_embeddings=model.tied,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
            attn_implementation="sdpa",
        )
        return Gpt2Logits(make_model(config))

    def convert(self, weights: Weights) -> Weights:
        converted = {}
        for name, weight in weights.items():
            theirs = gpt2_name(name)
            is_conv = ".h." in theirs and weight.ndim == 2
            converted[theirs] = rearrange(weight, "out into -> into out") if is_conv else weight
        return converted

    def with_own_biases(self, recipe: Recipe) -> Recipe:
        return with_model(recipe, BIASES)


GPT2_NAMES = {
    "attention_norm.": "ln_1.",
    "ffn_norm.": "ln_2.",
    "attention.to_qkv.": "attn.c_attn.",
    "attention.to_out.": "attn.c_proj.",
    "ffn.to_hidden.": "mlp.c_fc.",
    "ffn.to_out.": "mlp.c_proj.",
    "blocks.": "transformer.h.",
    "embedding.": "transformer.wte.",
    "position.table.": "transformer.wpe.",
}


def gpt2_name(name: str) -> str:
    """Return the name of one of our weights in GPT-2, as `model` of a module that gives logits alone."""
    outer = {"norm.": "transformer.ln_f.", "head.": "lm_head."}
    return "model." + rename(name, outer if name.startswith(tuple(outer)) else GPT2_NAMES)


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
    """nanoGPT's own `model.py`, from a checkout that the user names."""

    name, package = "nanogpt", "a checkout of nanoGPT (--nanogpt PATH)"

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
        module = self.load()
        model, block, norm = recipe.model, *gpt2_parts(recipe)
        fractions = {model.dropout, block.dropout, block.attention.dropout}
        if len(fractions) != 1 or norm.eps != 1e-5 or block.ffn.activation != "gelu" or not model.tied:
            raise ConfigError("nanogpt: it has one dropout rate, eps 1e-5, gelu and a tied head; this recipe's differ.")
        config = module.GPTConfig(
            block_size=model.context,
            vocab_size=vocab_size,
            n_layer=model.layers,
            n_head=block.attention.heads,
            n_embd=model.dim,
            dropout=model.dropout,
            bias=has_biases(recipe),
        )
        return NanoGptLogits(module.GPT(config))

    def convert(self, weights: Weights) -> Weights:
        return {gpt2_name(name): weight for name, weight in weights.items()}


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
        model, block, norm = recipe.model, *gpt2_parts(recipe)
        if has_biases(recipe) or norm.eps != 1e-5 or block.norm.eps != 1e-5:
            raise ConfigError("x_transformers: its norms have no biases, and add 1e-5; this recipe's are others.")
        layers = make_layers(
            dim=model.dim,
            depth=model.layers,
            heads=block.attention.heads,
            attn_dim_head=block.attention.head_width(model.dim),
            attn_flash=True,
            norm_add_unit_offset=False,
            attn_dropout=block.attention.dropout,
            attn_sublayer_dropout=block.dropout,
            ff_mult=hidden_dim(recipe) / model.dim,
            ff_custom_activation={"gelu": nn.GELU(), "relu": nn.ReLU()}[block.ffn.activation],
            ff_no_bias=True,
            ff_sublayer_dropout=block.dropout,
        )
        theirs: nn.Module = make_model(
            num_tokens=vocab_size,
            max_seq_len=model.context,
            emb_dropout=model.dropout,
            tie_embedding=model.tied,
            tie_embedding_scale=1.0,
            attn_layers=layers,
        )
        position: Any = theirs.get_submodule("pos_emb")
        position.scale = 1.0  # it scales positions down, so they would be trained at another rate
        return theirs

    def convert(self, weights: Weights) -> Weights:
        converted: Weights = {}
        for name, weight in weights.items():
            if not name.startswith("blocks."):
                outer = {"head.": "to_logits."} if name.startswith("head.") else X_OUTER_NAMES
                converted[rename(name, outer)] = weight
                continue
            _, index, inner = name.split(".", 2)
            if inner == "attention.to_qkv.weight":
                place = f"attn_layers.layers.{2 * int(index)}.1"
                converted |= {f"{place}.to_{x}.weight": part for x, part in zip("qkv", weight.chunk(3), strict=True)}
            else:
                second, theirs = X_BRANCH_NAMES[inner]
                converted[f"attn_layers.layers.{2 * int(index) + second}.{theirs}"] = weight
        return converted


X_OUTER_NAMES = {
    "embedding.": "token_emb.emb.",
    "position.table.": "pos_emb.emb.",
    "norm.weight": "attn_layers.final_norm.gamma",
}
X_BRANCH_NAMES = {
    "attention_norm.weight": (0, "0.0.gamma"),
    "attention.to_out.weight": (0, "1.to_out.weight"),
    "ffn_norm.weight": (1, "0.0.gamma"),
    "ffn.to_hidden.weight": (1, "1.ff.0.0.weight"),
    "ffn.to_out.weight": (1, "1.ff.2.weight"),
}
"""Of each weight of a block: which of their two layers per block it is in, and its name there."""


class TorchEncoder(Library):
    """`torch.nn.TransformerEncoder` made causal, between an embedding, learned positions and a head.

    It has all biases or none.
    """

    name, package = "torch_encoder", "torch"

    def load(self) -> Any:
        return nn.TransformerEncoder

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        return TorchEncoderModel(recipe, vocab_size)

    def convert(self, weights: Weights) -> Weights:
        last = {"norm.": "encoder.norm."}
        return {
            rename(name, last if name.startswith("norm.") else ENCODER_NAMES): weight
            for name, weight in weights.items()
        }

    def with_own_biases(self, recipe: Recipe) -> Recipe:
        return with_model(recipe, BIASES) if has_biases(recipe) else recipe


ENCODER_NAMES = {
    "attention_norm.": "norm1.",
    "ffn_norm.": "norm2.",
    "attention.to_qkv.": "self_attn.in_proj_",
    "attention.to_out.": "self_attn.out_proj.",
    "ffn.to_hidden.": "linear1.",
    "ffn.to_out.": "linear2.",
    "blocks.": "encoder.layers.",
    "position.table.": "position.",
}


class TorchEncoderModel(nn.Module):
    """A language model around PyTorch's encoder."""

    def __init__(self, recipe: Recipe, vocab_size: int) -> None:
        super().__init__()
        model, block, norm = recipe.model, *gpt2_parts(recipe)
        bias = has_biases(recipe)
        layer = nn.TransformerEncoderLayer(
            model.dim,
            block.attention.heads,
            hidden_dim(recipe),
            dropout=block.dropout,
            activation=block.ffn.activation,
            layer_norm_eps=block.norm.eps,
            batch_first=True,
            norm_first=True,
            bias=bias,
        )
        layer.dropout.p = 0.0  # GPT-2 has no dropout between the two maps of the feed-forward
        layer.self_attn.dropout = block.attention.dropout
        last = nn.LayerNorm(model.dim, norm.eps, bias=bias)
        self.embedding = nn.Embedding(vocab_size, model.dim)
        self.position = nn.Embedding(model.context, model.dim)
        self.dropout = nn.Dropout(model.dropout)
        self.encoder = nn.TransformerEncoder(layer, model.layers, last, enable_nested_tensor=False)
        self.head = nn.Linear(model.dim, vocab_size, bias=False)
        if model.tied:
            self.head.weight = self.embedding.weight
        mask = nn.Transformer.generate_square_subsequent_mask(model.context)
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
