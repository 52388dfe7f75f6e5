"""What a folder with code of its own holds: the code that this model needs, its config, and its weights."""

import ast
from pathlib import Path
from typing import Any

from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.hub.huggingface.layouts import POSITION_TABLE
from nanotx.hub.huggingface.shape import QK_NORM_EPS, attention_of, ffn_shape
from nanotx.nn.block import Block
from nanotx.nn.block.base import TwoBranches
from nanotx.nn.block.parallel import Parallel
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.canonical import to_canonical
from nanotx.nn.norm import Norm
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position.alibi import AlibiPosition
from nanotx.nn.position.rope_base import RotaryPosition
from nanotx.nn.transformer import Transformer

FILE = "modeling_nanotx.py"
"""The file of code in the folder."""

CLASS_NAME = "NanotxForCausalLM"
TEMPLATE = Path(__file__).with_name("modeling.py")

EMBEDDINGS = {"tokens": "Tokens", "bigram": "Ngrams", "ngrams": "Ngrams"}
BLOCKS = {
    "prenorm": "PreNorm",
    "postnorm": "PostNorm",
    "sandwich": "Sandwich",
    "parallel": "Parallel",
    "parallel_norms": "ParallelNorms",
    "token_shift": "TokenShift",
}
TABLES = ("learned", "sinusoidal")
Values = dict[str, Any]


def described(model: Transformer) -> Values:
    """Return the config of a model: what the code reads of it.

    Raises:
        ConfigError: the code has no part of it; each is named.
    """
    config, reasons = model.config, list[str]()
    if config.embedding.part not in EMBEDDINGS:
        reasons.append(f"embedding {config.embedding.part}")
    if config.adapt.patterns:
        reasons.append(f"model.adapt {config.adapt.part}")
    layers = [described_block(block, config.dim, reasons) for block in config.pattern()[:: config.share]]
    if config.norm.part not in ("rmsnorm", "layernorm", "none"):
        reasons.append(f"model.norm {config.norm.part}")
    position = described_position(model, reasons)
    if reasons:
        missing = dict.fromkeys(reason.partition(":")[0] for reason in reasons)
        raise ConfigError(f"--remote-code: there is no code for {', '.join(missing)}; --to onnx takes any part.")
    weights = dict(model.state_dict())
    return {
        "dim": config.dim,
        "context": config.context,
        "share": config.share,
        "head_bias": config.head_bias,
        "softcap": config.softcap,
        "embedding": EMBEDDINGS[config.embedding.part],
        "gram_rows": [len(tensor) for name, tensor in weights.items() if name.startswith("embedding.grams.")],
        "norm": described_norm(config.norm),
        "layers": [
            with_widths(layer, to_canonical(model, weights), f"blocks.{number}") for number, layer in enumerate(layers)
        ],
        **position,
    }


def remote_config(values: Values, vocab_size: int, tied: bool) -> Values:
    """Return the config.json around the values of a model."""
    module = FILE.removesuffix(".py")
    return {
        "architectures": [CLASS_NAME],
        "model_type": "nanotx",
        "auto_map": {"AutoConfig": f"{module}.NanotxConfig", "AutoModelForCausalLM": f"{module}.{CLASS_NAME}"},
        "vocab_size": vocab_size,
        "tie_word_embeddings": tied,
        "use_cache": False,
        "max_position_embeddings": values["context"],
        "hidden_size": values["dim"],
        "num_hidden_layers": len(values["layers"]) * values["share"],
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "dtype": "float32",
        **values,
    }


def described_position(model: Transformer, reasons: list[str]) -> Values:
    """Return the position; of those that are computed, the numbers."""
    module, part = model.position, model.config.position.part
    if isinstance(module, RotaryPosition):
        return {"position": "Rotary", "rates": module.rates.tolist(), "rotary_scale": module.attention_scale}
    if isinstance(module, AlibiPosition):
        return {"position": "Alibi", "slopes": module.slopes.tolist()}
    if part not in (*TABLES, "none"):
        reasons.append(f"position {part}")
    return {"position": "Table" if part in TABLES else "NoPosition"}


def described_norm(norm: Norm) -> list[Any]:
    """Return the kind of a norm, its eps, and whether it has a bias."""
    if isinstance(norm, RmsNorm):
        return ["rmsnorm", norm.eps, False]
    return ["layernorm", norm.eps, norm.bias] if isinstance(norm, LayerNorm) else ["none", 0.0, False]


def described_block(block: Block, dim: int, reasons: list[str]) -> Values:
    """Return a layer, with reasons added for parts that the code has not."""
    if isinstance(block, TokenShift):
        return {"kind": "TokenShift", "shifts": block.shifts, "inner": described_block(block.block, dim, reasons)}
    if not isinstance(block, TwoBranches | Parallel) or block.part not in BLOCKS:
        reasons.append(f"block {block.part}")
        return {}
    attention, ffn = attention_of(block.attention, reasons), ffn_shape(block.ffn, reasons)
    if block.norm.part not in ("rmsnorm", "layernorm", "none"):
        reasons.append(f"block.norm {block.norm.part}")
    if attention is None or ffn is None:
        return {}
    return {
        "kind": BLOCKS[block.part],
        "norm": described_norm(block.norm),
        "heads": attention.heads,
        "kv_heads": attention.kv_heads,
        "head_dim": attention.head_width(dim),
        "window": attention.attention_window,
        "bias": attention.bias,
        "out_bias": attention.out_bias,
        "qk_norm": QK_NORM_EPS if attention.qk_norm else 0.0,
        "activation": ffn.activation,
        "gated": ffn.gated,
        "ffn_bias": ffn.bias,
    }


def with_widths(layer: Values, weights: dict[str, Tensor], name: str) -> Values:
    """Return a layer with the width of its feed-forward, which its weights show."""
    if "inner" in layer:
        return layer | {"inner": with_widths(layer["inner"], weights, f"{name}.block")}
    return layer | {"hidden_dim": weights[f"{name}.ffn.to_out.weight"].shape[1]}


def remote_weights(model: Transformer, table: Tensor) -> dict[str, Tensor]:
    """Return the weights by the names that the code has.

    Args:
        model: of the run.
        table: the vectors that are added by position.
    """
    weights = to_canonical(model, dict(model.state_dict()))
    if model.config.position.part in TABLES:
        weights[POSITION_TABLE] = table
    if model.config.tied:
        del weights["head.weight"]
    return {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}


def source(config: Values) -> str:
    """Return the code of a model: the definitions of the template that its config leads to, and no others."""
    text = TEMPLATE.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    used = {config["embedding"], config["position"], *kinds(config["layers"])}
    parts = {"EMBEDDINGS": [config["embedding"]], "POSITIONS": [config["position"]], "BLOCKS": kinds(config["layers"])}
    tables = {table: [f'"{name}": {name}' for name in dict.fromkeys(names)] for table, names in parts.items()}
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    needed = needed_by(definitions, used | {CLASS_NAME})
    pieces, end = [], 0
    for node in tree.body:
        before, own = lines[end : node.lineno - 1], lines[node.lineno - 1 : node.end_lineno]
        end = node.end_lineno or 0
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name not in needed:
            continue
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own = [f"{node.target.id} = {{{', '.join(tables[node.target.id])}}}"]
        pieces += [*before, *own]
    return without_marks("\n".join(pieces)) + "\n"


def kinds(layers: list[Values]) -> list[str]:
    """Return the kinds of layers, those inside others included."""
    return [kind for layer in layers for kind in (layer["kind"], *kinds([layer["inner"]] if "inner" in layer else []))]


def needed_by(definitions: dict[str, Any], names: set[str]) -> set[str]:
    """Return the definitions that some lead to, themselves included."""
    reached, left = set[str](), set(names)
    while left:
        name = left.pop()
        reached.add(name)
        mentioned = {node.id for node in ast.walk(definitions[name]) if isinstance(node, ast.Name)}
        left |= (mentioned & definitions.keys()) - reached
    return reached


def without_marks(text: str) -> str:
    """Return code without remarks to checkers."""
    return text.replace("  # noqa: RUF012", "")
