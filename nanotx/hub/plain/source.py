"""The program beside a plain state dict: the transformer of one run as one file that needs PyTorch alone.

It is written for the one model that it reads, so it has no options and no branches: what this model has not is not in
it. Modules are named as the weights are. Sizes are constants at its top.
"""

import json
from textwrap import dedent, indent
from typing import Any

from nanotx.hub.huggingface.shape import QK_NORM_EPS, ModelShape, NormShape
from nanotx.nn.position.rope_llama3 import FAST, SLOW
from nanotx.tokenizers.base import Codec

ACTIVATIONS = {
    "relu": "F.relu({})",
    "gelu": "F.gelu({})",
    "gelu_tanh": 'F.gelu({}, approximate="tanh")',
    "silu": "F.silu({})",
    "relu2": "F.relu({}).square()",
}
"""Each activation as an expression of the hidden layer."""


def reader_source(
    shape: ModelShape, codec: Codec, about: str, *, head_bias: bool, softcap: float, text_file: bool
) -> str:
    """Return the source of the program that reads a model.

    Args:
        shape: of the model.
        codec: its tokenizer.
        about: what the model is, in a sentence.
        head_bias: whether the head has a bias.
        softcap: bound of the logits; 0 for none.
        text_file: whether a tokenizer.json is beside the program, for a tokenizer that it does not write out.
    """
    parts = [
        header(about, codec, text_file),
        constants(shape),
        attention(shape),
        feed_forward(shape),
        block(shape),
        transformer(shape, head_bias, softcap),
        loading(shape.tied),
        text_functions(codec, text_file),
        main(codec, text_file),
    ]
    if shape.position.kind == "rope":
        parts.insert(2, rotation(shape))
    return "\n\n".join(part.strip("\n") + "\n" for part in parts)


def header(about: str, codec: Codec, text_file: bool) -> str:
    """Return the docstring and the imports."""
    library = is_library(codec, text_file)
    needs = "PyTorch and the package tokenizers" if library else "PyTorch alone"
    prompt = '"To be"' if library or codec.part in WRITTEN_OUT else "1 2 3"
    imports = "from tokenizers import Tokenizer\n" if library else ""
    before = "".join(f"import {name}\n" for name in ("sys", *(["unicodedata"] if codec.nfc else [])))
    cached = "from functools import cache\n" if library else ""
    return f'''
"""{about}

Needs {needs}, and the file model.pt beside it.

    python model.py {prompt}

    from model import load
    logits = load()(torch.tensor([[1, 2, 3]]))  # (batch, length, VOCAB_SIZE)
"""

{before}{cached}from pathlib import Path

import torch
{imports}from torch import Tensor, nn
from torch.nn import functional as F
'''


def constants(shape: ModelShape) -> str:
    """Return the sizes of the model."""
    layer, windows = shape.layer, sorted({window or 0 for window in shape.windows})
    lines = [
        f"VOCAB_SIZE = {shape.vocab_size}",
        f"CONTEXT = {shape.context}  # the most tokens that it reads",
        f"DIM = {shape.dim}  # width of the residual stream",
        f"LAYERS = {shape.layers}",
        f"HEADS = {layer.heads}",
        *(
            [f"KV_HEADS = {layer.kv_heads}  # heads of keys and values, which query heads share"]
            if grouped(shape)
            else []
        ),
        "WIDTH = DIM // HEADS  # of a head" if layer.width == shape.dim else f"WIDTH = {layer.head_width}  # of a head",
        f"HIDDEN = {shape.hidden_dim}  # width of the feed-forward",
    ]
    if shape.position.kind == "rope":
        lines.append(f"THETA = {shape.position.theta!r}  # base of the frequencies of the rotation")
    if shape.position.rotated is not None:
        lines.append(f"ROTATED = {shape.position.rotated}  # channels of a head that are rotated")
    if windows != [0]:
        sizes = tuple(window or shape.context for window in shape.windows)
        lines.append(f"WINDOWS = {sizes}  # positions that each layer attends to, its own included")
    return "\n".join(lines)


def grouped(shape: ModelShape) -> bool:
    """Return whether query heads share key and value heads."""
    return shape.layer.kv_heads != shape.layer.heads


def norm(shape: NormShape, width: str = "DIM") -> str:
    """Return the expression of a norm."""
    if shape.kind == "rmsnorm":
        return f"nn.RMSNorm({width}, eps={shape.eps!r})"
    return f"nn.LayerNorm({width}, eps={shape.eps!r}, bias={shape.bias})"


def rotation(shape: ModelShape) -> str:
    """Return the function that rotates queries and keys."""
    position = shape.position
    width = "WIDTH" if position.rotated is None else "ROTATED"
    slower = f" / {position.factor!r}" if position.scaling == "linear" else ""
    slow_pairs = f"""
    turns = {position.original} / (2 * torch.pi / rates)  # within the length of the first training
    kept = ((turns - {SLOW!r}) / {FAST - SLOW!r}).clamp(0, 1)  # the others are slowed
    rates = (1 - kept) * rates / {position.factor!r} + kept * rates"""
    whole, rest = ("x", "") if position.rotated is None else ("x[..., :ROTATED]", ", x[..., ROTATED:]")
    return f'''
def rotate(x: Tensor) -> Tensor:
    """Rotate each channel of a head with another, by an angle that grows with the position."""
    rates = 1.0 / THETA ** (torch.arange(0, {width}, 2, device=x.device) / {width}){slower}{
        slow_pairs if position.scaling == "llama3" else ""
    }
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * rates
    left, right = {whole}.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin{rest}], dim=-1)
'''


def attention(shape: ModelShape) -> str:
    """Return the class of the attention."""
    layer, many, windowed = shape.layer, grouped(shape), any(shape.windows)
    count = "(HEADS + 2 * KV_HEADS)" if many else "3 * HEADS"
    split = "split([HEADS, KV_HEADS, KV_HEADS], dim=1)" if many else "chunk(3, dim=1)"
    norms = norm(NormShape(kind="rmsnorm", eps=QK_NORM_EPS, bias=False), "WIDTH")
    q, k = ("self.q_norm(q)", "self.k_norm(k)") if layer.qk_norm else ("q", "k")
    if shape.position.kind == "rope":
        q, k = f"rotate({q})", f"rotate({k})"
    same = (q, k) == ("q", "k")
    mask = dedent("""
        position = torch.arange(length, device=x.device)
        distance = position[:, None] - position
        near = (distance >= 0) & (distance < self.window)
    """)
    lines = [
        "class Attention(nn.Module):",
        '    """softmax(Q K^T / sqrt(WIDTH)) V, over the positions up to each."""',
        "",
        f"    def __init__(self{', window: int' if windowed else ''}) -> None:",
        "        super().__init__()",
        *(["        self.window = window"] if windowed else []),
        f"        self.to_qkv = nn.Linear(DIM, {count} * WIDTH, bias={layer.qkv_bias})",
        *([f"        self.q_norm, self.k_norm = {norms}, {norms}"] if layer.qk_norm else []),
        f"        self.to_out = nn.Linear(HEADS * WIDTH, DIM, bias={layer.out_bias})",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        "        batch, length, _ = x.shape",
        "        heads = self.to_qkv(x).view(batch, length, -1, WIDTH).transpose(1, 2)",
        f"        q, k, v = heads.{split}",
        *([] if same else [f"        q, k = {q}, {k}"]),
        *(indent(mask.strip(), " " * 8).splitlines() if windowed else []),
        f"        y = F.scaled_dot_product_attention(q, k, v, {'attn_mask=near' if windowed else 'is_causal=True'}"
        f"{', enable_gqa=True' if many else ''})",
        "        return self.to_out(y.transpose(1, 2).flatten(2))",
    ]
    return "\n".join(lines)


def feed_forward(shape: ModelShape) -> str:
    """Return the class of the feed-forward."""
    ffn = shape.layer.ffn
    active = ACTIVATIONS[ffn.activation]
    about = active.format("x W").removeprefix("F.")
    if ffn.gated:
        about += " * (x V)"
        body = [
            "        gate, hidden = self.to_hidden(x).chunk(2, dim=-1)",
            f"        return self.to_out({active.format('gate')} * hidden)",
        ]
    else:
        body = [f"        return self.to_out({active.format('self.to_hidden(x)')})"]
    lines = [
        "class FeedForward(nn.Module):",
        f'    """{about.replace(chr(34), chr(39))}, projected back."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        f"        self.to_hidden = nn.Linear(DIM, {'2 * ' if ffn.gated else ''}HIDDEN, bias={ffn.bias})",
        f"        self.to_out = nn.Linear(HIDDEN, DIM, bias={ffn.bias})",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *body,
    ]
    return "\n".join(lines)


def block(shape: ModelShape) -> str:
    """Return the class of a layer."""
    layer, windowed = shape.layer, any(shape.windows)
    parallel = layer.block == "parallel"
    expression = norm(layer.norm)
    norms = ["norm"] if parallel else ["attention_norm", "ffn_norm"]
    body, about = {
        "prenorm": (
            ["x = x + self.attention(self.attention_norm(x))", "return x + self.ffn(self.ffn_norm(x))"],
            "Attention, then a feed-forward.",
        ),
        "parallel": (
            ["y = self.norm(x)", "return x + self.attention(y) + self.ffn(y)"],
            "Attention and feed-forward of the same normed stream.",
        ),
        "parallel_norms": (
            ["return x + self.attention(self.attention_norm(x)) + self.ffn(self.ffn_norm(x))"],
            "Attention and feed-forward of the same stream, each with a norm of its own.",
        ),
    }[layer.block]
    lines = [
        "class Block(nn.Module):",
        f'    """{about}"""',
        "",
        f"    def __init__(self{', window: int' if windowed else ''}) -> None:",
        "        super().__init__()",
        *[f"        self.{name} = {expression}" for name in norms],
        f"        self.attention = Attention({'window' if windowed else ''})",
        "        self.ffn = FeedForward()",
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *[f"        {line}" for line in body],
    ]
    return "\n".join(lines)


def transformer(shape: ModelShape, head_bias: bool, softcap: float) -> str:
    """Return the class of the model."""
    windows = shape.windows[:: shape.share]
    blocks = "Block(window) for window in WINDOWS" if any(windows) else "Block() for _ in range(LAYERS)"
    if shape.share > 1:
        blocks = (
            f"Block(window) for window in WINDOWS[::{shape.share}]"
            if any(windows)
            else f"Block() for _ in range(LAYERS // {shape.share})"
        )
    loop = ["for block in self.blocks:", "    x = block(x)"]
    if shape.share > 1:
        loop = [
            "for block in self.blocks:",
            f"    for _ in range({shape.share}):  # layers that share weights",
            "        x = block(x)",
        ]
    table = shape.position.kind == "table"
    capped = ["logits = self.head(self.norm(x))", f"return {softcap!r} * torch.tanh(logits / {softcap!r})"]
    lines = [
        "class Transformer(nn.Module):",
        '    """From ids to logits."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        "        self.embedding = nn.Embedding(VOCAB_SIZE, DIM)",
        *(["        self.positions = nn.Embedding(CONTEXT, DIM)"] if table else []),
        f"        self.blocks = nn.ModuleList({blocks})",
        f"        self.norm = {norm(shape.norm)}",
        f"        self.head = nn.Linear(DIM, VOCAB_SIZE, bias={head_bias})",
        "",
        "    def forward(self, ids: Tensor) -> Tensor:",
        "        x = self.embedding(ids)",
        *(["        x = x + self.positions(torch.arange(ids.shape[1], device=ids.device))"] if table else []),
        *[f"        {line}" for line in loop],
        *[f"        {line}" for line in (capped if softcap else ["return self.head(self.norm(x))"])],
    ]
    return "\n".join(lines)


def loading(tied: bool) -> str:
    """Return the functions that read the weights and continue a text."""
    tie = "    model.head.weight = model.embedding.weight  # one table reads and writes tokens\n" if tied else ""
    return f'''
def load(path: Path = Path(__file__).with_name("model.pt")) -> Transformer:
    """Return the model with its weights."""
    model = Transformer()
{tie}    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@torch.no_grad()
def generate(model: Transformer, ids: list[int], count: int, temperature: float = 0.8) -> list[int]:
    """Return ids with `count` more; temperature 0 takes the most likely token."""
    for _ in range(count):
        logits = model(torch.tensor([ids[-CONTEXT:]]))[0, -1]
        if temperature == 0:
            ids = [*ids, int(logits.argmax())]
        else:
            ids = [*ids, int(torch.multinomial((logits / temperature).softmax(dim=0), 1))]
    return ids
'''


# Text.

WRITTEN_OUT = ("byte", "char")
"""Tokenizers that the program has in itself."""


def is_library(codec: Codec, text_file: bool) -> bool:
    """Return whether the program reads texts by the package tokenizers."""
    return text_file and codec.part not in WRITTEN_OUT


def text_functions(codec: Codec, text_file: bool) -> str:
    """Return the functions between text and ids; empty where the tokenizer is not written."""
    if codec.part == "byte":
        return BYTES
    if codec.part == "char":
        return characters(codec.to_dict())
    return LIBRARY if text_file else ""


BYTES = '''
def encode(text: str) -> list[int]:
    """Return the bytes of a text."""
    return list(text.encode("utf-8"))


def decode(ids: list[int]) -> str:
    """Return the text of bytes."""
    return bytes(ids).decode("utf-8", errors="replace")
'''

LIBRARY = '''
@cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer of the file beside this program."""
    reader = Tokenizer.from_file(str(Path(__file__).with_name("tokenizer.json")))
    reader.encode_special_tokens = True  # the name of a special token in a text is text
    return reader


def encode(text: str) -> list[int]:
    """Return the ids of a text."""
    return tokenizer().encode(text, add_special_tokens=False).ids


def decode(ids: list[int]) -> str:
    """Return the text of ids."""
    return tokenizer().decode(ids, skip_special_tokens=False)
'''


def characters(table: dict[str, Any]) -> str:
    """Return the functions between characters and ids."""
    special: dict[str, int] = table["special_tokens"]
    form = '\n    text = unicodedata.normalize("NFC", text)' if table["nfc"] else ""
    known = f"ID.get(character, {next(iter(special.values()))})" if special else "ID[character]"
    tokens = "list(ALPHABET)" + "".join(f" + [{json.dumps(name)}]" for name in special)
    return f'''
ALPHABET = {json.dumps(table["alphabet"])}
TOKENS = {tokens}
ID = {{token: number for number, token in enumerate(TOKENS)}}


def encode(text: str) -> list[int]:
    """Return the id of each character."""{form}
    return [{known} for character in text]


def decode(ids: list[int]) -> str:
    """Return the text of ids."""
    return "".join(TOKENS[number] for number in ids)
'''


def main(codec: Codec, text_file: bool) -> str:
    """Return the lines that continue a prompt of the command line."""
    if codec.part in WRITTEN_OUT or text_file:
        return f"""
if __name__ == "__main__":
    ids = encode(sys.argv[1]) if len(sys.argv) > 1 else [{codec.start}]
    print(decode(generate(load(), ids, 200)))
"""
    return f"""
if __name__ == "__main__":
    print(*generate(load(), [int(word) for word in sys.argv[1:]] or [{codec.start}], 50))
"""
