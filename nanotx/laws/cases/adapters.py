"""The laws of adapters, and their random cases: a tiny model with an adapter."""

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.laws import adapting
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.strategies import Drawn, configs, seeds
from nanotx.laws.weights import redraw
from nanotx.nn.adapt import Adapt, added_names
from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn import Ffn
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Model, Transformer
from nanotx.training.freezing import freeze

LAWS = LawBook()
WIDTH, CONTEXT, IDS = 16, 6, 5


@dataclass(frozen=True, kw_only=True)
class AdapterCase(Case):
    """An adapter, and what the model is like that it adapts."""

    seed: int = 0  # of weights and ids
    layers: int = 1
    attention: str = "sdpa"
    ffn: str = "mlp"
    tied: bool = True
    bias: bool = False

    @property
    def model_config(self) -> Model:
        """The config of the model without the adapter."""
        attention = Attention.find(self.attention)(heads=2, bias=self.bias)
        block = PreNorm(attention=attention, ffn=Ffn.find(self.ffn)(bias=self.bias))
        return Model(dim=WIDTH, layers=self.layers, context=CONTEXT, tied=self.tied, block=block)

    def models(self) -> tuple[Transformer, Transformer]:
        """Return the model without the adapter and with it, with the same weights."""
        base = self.model_config.build(IDS, self.seed)
        redraw(base, self.seed)
        model = replace(self.model_config, adapt=self.config).build(IDS, self.seed)
        model.load_state_dict(base.state_dict(), strict=False)
        return base.eval(), model.eval()

    def ids(self) -> Tokens:
        """Return the input."""
        return torch.randint(IDS, (2, CONTEXT), generator=torch.Generator().manual_seed(self.seed))

    def trained(self, model: Transformer) -> Transformer:
        """Return a model whose adapter has values as training may leave them."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        with torch.no_grad():
            for name in added_names(model):
                parameter = model.get_parameter(name)
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        return model

    def fits(self) -> None:
        replace(self.model_config, adapt=self.config).build_meta(IDS)


def adapts(part: type[Adapt]) -> bool:
    """Return whether a part wraps anything by default."""
    return bool(part().patterns)


@st.composite
def draw_adapter(draw: Drawn, part: type[Adapt], where: Where) -> AdapterCase:
    """Draw any adapter that fits, and any model of a few parts."""
    case = AdapterCase(
        config=draw(configs(part)),
        seed=draw(seeds),
        layers=draw(st.integers(1, 3)),
        attention=draw(st.sampled_from(["sdpa", "per_head", "gqa"])),
        ffn=draw(st.sampled_from(["mlp", "swiglu", "moe"])),
        tied=draw(st.booleans()),
        bias=draw(st.booleans()),
    )
    try:
        case.fits()
    except ConfigError:
        return replace(case, config=part())
    return case


@LAWS.law("adapt", draw=draw_adapter, fits=adapts, unless="it wraps nothing", on_device=False)
def starts_equal(case: AdapterCase) -> None:
    """At the start the model computes the same bits as without it, and every wrapped map can learn."""
    adapting.starts_equal(*case.models(), case.ids())


@LAWS.law("adapt", draw=draw_adapter, fits=adapts, unless="it wraps nothing", on_device=False)
def merges(case: AdapterCase) -> None:
    """Merged into the weights it computes what it does beside them."""
    base, model = case.models()
    adapting.merges(base, case.trained(model), case.ids())


@LAWS.law("adapt", draw=draw_adapter, fits=adapts, unless="it wraps nothing", on_device=False)
def frozen_stays(case: AdapterCase) -> None:
    """Training moves the adapter alone, and no bit of the model."""
    _, model = case.models()
    frozen = freeze(model, ())
    optimizer = torch.optim.AdamW([param for param in model.parameters() if param.requires_grad], lr=0.1)

    def train() -> None:
        for _ in range(2):
            optimizer.zero_grad()
            model(case.ids()).square().mean().backward()
            optimizer.step()

    adapting.frozen_stays(model, train, {*frozen, *({*dict(model.named_parameters())} - {*added_names(model)})})
