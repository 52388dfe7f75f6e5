"""The transformer of this folder, for `from_pretrained(..., trust_remote_code=True)`.

It needs PyTorch and transformers alone. Sizes and kinds are in config.json. There is no cache of keys and values:
`generate` reads the whole text for each token.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class NanotxConfig(PretrainedConfig):
    """Sizes and kinds of the model."""

    model_type = "nanotx"


def make_norm(kind: str, eps: float, bias: bool, width: int) -> nn.Module:
    """Return a norm of the last axis."""
    if kind == "rmsnorm":
        return nn.RMSNorm(width, eps=eps)
    return nn.LayerNorm(width, eps=eps, bias=bias) if kind == "layernorm" else nn.Identity()


# Embeddings of ids, of which 0 is none once they are counted from 1.


class Tokens(nn.Embedding):
    """A row for each id."""

    def __init__(self, config: Any) -> None:
        super().__init__(config.vocab_size, config.dim)

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        return super().forward(ids)


class Ngrams(nn.Embedding):
    """A row for each id, and one for each pair, triple and so on that ends with it; many share rows by a hash."""

    def __init__(self, config: Any) -> None:
        super().__init__(config.vocab_size, config.dim)
        self.grams = nn.ParameterList(torch.zeros(rows, config.dim) for rows in config.gram_rows)

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        x, gram, kinds = super().forward(ids), ids, self.num_embeddings
        back = len(self.grams)
        earlier = F.pad((ids + 1) * present, (back, 0))  # 0 is no id
        for distance, table in enumerate(self.grams, start=1):
            before = earlier[:, back - distance : back - distance + ids.shape[1]]
            gram = before * ((kinds + 2**63) % 2**64 - 2**63) + gram  # wraps around as int64
            kinds *= self.num_embeddings + 1
            row = gram if len(table) == kinds else (gram * -0x61C8864680B583EB >> 20) % len(table)
            x = x + F.embedding(row, table)
        return x


# Positions: what they add to the stream, how they rotate queries and keys, what they add to scores.


class NoPosition(nn.Module):
    """Nothing; other positions change one of its methods."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def embed(self, x: Tensor, places: Tensor) -> Tensor:
        """Add to the stream."""
        return x

    def rotate(self, x: Tensor, places: Tensor) -> Tensor:
        """Rotate queries or keys, "b h t k"."""
        return x

    def bias(self, places: Tensor) -> Tensor | None:
        """Return what is added to scores, "b h t s"."""
        return None


class Table(NoPosition):
    """A vector for each position."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.table = nn.Embedding(config.context, config.dim)

    def embed(self, x: Tensor, places: Tensor) -> Tensor:
        return x + self.table(places)


class Rotary(NoPosition):
    """Each pair of channels is rotated at a rate of its own; a channel is paired with the one half a head away."""

    def rotate(self, x: Tensor, places: Tensor) -> Tensor:
        rates = torch.tensor(self.config.rates, device=x.device)  # radians per position
        angles = places[:, None, :, None] * rates
        cos, sin = self.config.rotary_scale * angles.cos(), self.config.rotary_scale * angles.sin()
        left, right = x[..., : 2 * len(rates)].chunk(2, dim=-1)
        rotated = [left * cos - right * sin, right * cos + left * sin, x[..., 2 * len(rates) :]]
        return torch.cat(rotated, dim=-1).type_as(x)


class Alibi(NoPosition):
    """Scores are lower by the slope of a head at each step back."""

    def bias(self, places: Tensor) -> Tensor:
        slopes = torch.tensor(self.config.slopes, device=places.device)
        return -slopes[:, None, None] * (places[:, None, :, None] - places[:, None, None, :])


# A layer.


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(k)) V, over the positions up to each, or the last `window` of them."""

    def __init__(self, config: Any, layer: dict[str, Any]) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = layer["heads"], layer["kv_heads"], layer["head_dim"]
        self.window = layer["window"] or config.context
        rows = (self.heads + 2 * self.kv_heads) * self.width
        self.to_qkv = nn.Linear(config.dim, rows, bias=layer["bias"])
        qk_norm = layer["qk_norm"]
        self.q_norm = nn.RMSNorm(self.width, eps=qk_norm) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(self.width, eps=qk_norm) if qk_norm else nn.Identity()
        self.to_out = nn.Linear(self.heads * self.width, config.dim, bias=layer["out_bias"])

    def forward(self, x: Tensor, position: NoPosition, places: Tensor, present: Tensor) -> Tensor:
        batch, length, _ = x.shape
        every = self.to_qkv(x).view(batch, length, -1, self.width).transpose(1, 2)
        q, k, v = every.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = position.rotate(self.q_norm(q), places), position.rotate(self.k_norm(k), places)
        step = torch.arange(length, device=x.device)
        distance = step[:, None] - step
        near = (distance >= 0) & (distance < self.window) & (present[:, None, None, :] | (distance == 0))
        scores = x.new_zeros(near.shape).masked_fill(~near, -torch.inf)
        bias = position.bias(places)
        scores = scores if bias is None else scores + bias.type_as(x)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=scores, enable_gqa=self.heads != self.kv_heads)
        return self.to_out(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """A linear map, an activation or a gate, and a linear map back."""

    def __init__(self, config: Any, layer: dict[str, Any]) -> None:
        super().__init__()
        self.activation, self.gated = layer["activation"], layer["gated"]
        rows = (2 if self.gated else 1) * layer["hidden_dim"]
        self.to_hidden = nn.Linear(config.dim, rows, bias=layer["ffn_bias"])
        self.to_out = nn.Linear(layer["hidden_dim"], config.dim, bias=layer["ffn_bias"])

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.to_hidden(x)
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            return self.to_out(self.activate(gate) * hidden)
        return self.to_out(self.activate(hidden))

    def activate(self, x: Tensor) -> Tensor:
        """Return the activation of the hidden layer."""
        if self.activation == "relu2":
            return F.relu(x).square()
        if self.activation in ("gelu", "gelu_tanh"):
            return F.gelu(x, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        return F.silu(x) if self.activation == "silu" else F.relu(x)


class Branches(nn.Module):
    """An attention and a feed-forward, with the norms that a layer names."""

    norms: tuple[str, ...] = ("attention_norm", "ffn_norm")

    def __init__(self, config: Any, layer: dict[str, Any]) -> None:
        super().__init__()
        self.attention, self.ffn = Attention(config, layer), FeedForward(config, layer)
        for name in self.norms:
            self.add_module(name, make_norm(*layer["norm"], config.dim))


class PreNorm(Branches):
    """x + branch(norm(x)), twice."""

    def forward(self, x: Tensor, *place: Any) -> Tensor:
        x = x + self.attention(self.attention_norm(x), *place)
        return x + self.ffn(self.ffn_norm(x))


class PostNorm(Branches):
    """norm(x + branch(x)), twice."""

    def forward(self, x: Tensor, *place: Any) -> Tensor:
        x = self.attention_norm(x + self.attention(x, *place))
        return self.ffn_norm(x + self.ffn(x))


class Sandwich(Branches):
    """x + norm(branch(norm(x))), twice."""

    norms = ("attention_norm", "attention_out_norm", "ffn_norm", "ffn_out_norm")

    def forward(self, x: Tensor, *place: Any) -> Tensor:
        x = x + self.attention_out_norm(self.attention(self.attention_norm(x), *place))
        return x + self.ffn_out_norm(self.ffn(self.ffn_norm(x)))


class Parallel(Branches):
    """x + attention(norm(x)) + ffn(norm(x)), with one norm."""

    norms = ("norm",)

    def forward(self, x: Tensor, *place: Any) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, *place) + self.ffn(y)


class ParallelNorms(Branches):
    """x + attention(norm(x)) + ffn(norm(x)), with two norms."""

    def forward(self, x: Tensor, *place: Any) -> Tensor:
        return x + self.attention(self.attention_norm(x), *place) + self.ffn(self.ffn_norm(x))


class TokenShift(nn.Module):
    """Another layer, which reads the stream mixed with the positions before."""

    def __init__(self, config: Any, layer: dict[str, Any]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(config.dim) for _ in range(layer["shifts"]))
        self.block = BLOCKS[layer["inner"]["kind"]](config, layer["inner"])

    def forward(self, x: Tensor, position: NoPosition, places: Tensor, present: Tensor) -> Tensor:
        shifts, length = len(self.weights), x.shape[1]
        previous = F.pad(x * present[..., None], (0, 0, shifts, 0))
        for back, weight in enumerate(self.weights, start=1):
            x = x + previous[:, shifts - back : shifts - back + length] * weight
        return self.block(x, position, places, present)


EMBEDDINGS: dict[str, Any] = {}
POSITIONS: dict[str, Any] = {}
BLOCKS: dict[str, Any] = {}


class NanotxForCausalLM(PreTrainedModel, GenerationMixin):
    """From ids to logits."""

    config_class = NanotxConfig
    _tied_weights_keys = {"head.weight": "embedding.weight"}  # noqa: RUF012

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embedding = EMBEDDINGS[config.embedding](config)
        self.position = POSITIONS[config.position](config)
        self.blocks = nn.ModuleList(BLOCKS[layer["kind"]](config, layer) for layer in config.layers)
        self.norm = make_norm(*config.norm, config.dim)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=config.head_bias)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of ids."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.head

    def prepare_inputs_for_generation(self, input_ids: Tensor, attention_mask: Any = None, **_: Any) -> dict[str, Any]:
        """Return the whole text: there is no cache."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        present = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        places = (present.long().cumsum(dim=1) - 1).clamp(min=0) if position_ids is None else position_ids
        if places.shape[0] != input_ids.shape[0]:
            places = places.expand(input_ids.shape[0], -1)
        x = self.position.embed(self.embedding(input_ids, present), places)
        for block in self.blocks:
            for _use in range(self.config.share):
                x = block(x, self.position, places, present)
        logits = self.head(self.norm(x))
        if self.config.softcap:
            logits = self.config.softcap * torch.tanh(logits / self.config.softcap)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
