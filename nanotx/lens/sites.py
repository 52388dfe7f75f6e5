"""The places of a model that one can look at or remove: its layers, and in each the attention, its heads, and the ffn.

A place is named by its layer and what it is there: `2`, `2.attention`, `2.attention.head3`, `2.ffn`. A layer whose
block holds several attentions calls them `2.attention`, `2.attention2` and so on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nanotx.errors import ConfigError, did_you_mean
from nanotx.nn.attention import Attention, MultiHeadAttention
from nanotx.nn.attention.per_head import PerHeadAttention
from nanotx.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Site:
    """A layer, or an attention or a ffn in it."""

    name: str  # such as 2.attention
    module: str  # the module's name in the model
    use: str = ""  # such as :1, where layers share the module: which of its calls
    attention: Attention | None = None  # the config of an attention

    @property
    def heads(self) -> int:
        """Number of heads; 0 where it is no attention."""
        return self.attention.heads if self.attention else 0


def sites(model: Transformer) -> tuple[Site, ...]:
    """Return the places of a model, in the order of a forward pass: each layer after its attention and ffn."""
    return tuple(site for layer in range(model.config.layers) for site in layer_sites(model, layer))


def layer_sites(model: Transformer, layer: int) -> Iterator[Site]:
    """Yield the places of one layer."""
    share = model.config.share
    use = f":{layer % share}" if share > 1 else ""
    prefix = f"blocks.{layer // share}"
    block = model.blocks[layer // share]
    configs = model.config.pattern()[layer].attentions
    modules = attention_modules(block, prefix)
    if len(modules) == len(configs):
        for number, (module, config) in enumerate(zip(modules, configs, strict=True), start=1):
            name = f"{layer}.attention{number if number > 1 else ''}"
            yield Site(name=name, module=module, use=use, attention=config)
    for number, module in enumerate(named(block, prefix, "ffn"), start=1):
        yield Site(name=f"{layer}.ffn{number if number > 1 else ''}", module=module, use=use)
    yield Site(name=f"{layer}", module=prefix, use=use)


def attention_modules(block: nn.Module, prefix: str) -> list[str]:
    """Return the names of a block's attentions: modules of our kinds, and those that are called `attention`."""
    ours = [
        name
        for name, module in block.named_modules(prefix=prefix)
        if isinstance(module, MultiHeadAttention | PerHeadAttention)
    ]
    called = named(block, prefix, "attention")
    return outermost([name for name, _ in block.named_modules(prefix=prefix) if name in {*ours, *called}])


def named(block: nn.Module, prefix: str, leaf: str) -> list[str]:
    """Return the names of a block's modules that end in a word, without those inside of one another."""
    return outermost([name for name, _ in block.named_modules(prefix=prefix) if name.rpartition(".")[2] == leaf])


def outermost(names: list[str]) -> list[str]:
    """Return the names of modules that are not inside of another of them; in order."""
    outer_names: list[str] = []
    for name in names:
        if not any(name.startswith(f"{outer}.") for outer in outer_names):
            outer_names.append(name)
    return outer_names


def find_head(model: Transformer, name: str) -> tuple[Site, int]:
    """Return the attention and the number of a head, such as 2.3 or 2.attention.head3.

    Raises:
        ConfigError: there is no such head; says which there are.
    """
    attentions = {site.name: site for site in sites(model) if site.heads}
    head = name.rpartition(".")[2].removeprefix("head")
    place = name.rpartition(".")[0]
    site = attentions.get(place) or attentions.get(f"{place}.attention")
    if site is not None and head.isdecimal() and int(head) < site.heads:
        return site, int(head)
    raise ConfigError(f"no head {name!r}; {known_heads(attentions)}")


def known_heads(attentions: dict[str, Site]) -> str:
    """Return a sentence about the heads of a model."""
    if not attentions:
        return "this model has no attention whose heads are known."
    by_count: dict[int, list[str]] = {}
    for name, site in attentions.items():
        by_count.setdefault(site.heads, []).append(name.partition(".")[0])
    rows = [
        f"layer{'s' if len(layers) > 1 else ''} {span(layers)} "
        f"{'have heads' if len(layers) > 1 else 'has heads'} 0 to {count - 1}"
        for count, layers in by_count.items()
    ]
    return f"{' and '.join(rows)}, named as LAYER.HEAD, such as {next(iter(attentions)).partition('.')[0]}.0."


def span(layers: list[str]) -> str:
    """Return numbers of layers as words: 0 to 5, or a list."""
    numbers = sorted({int(layer) for layer in layers})
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def find_site(model: Transformer, name: str) -> tuple[Site, int | None]:
    """Return the place of a name, and the number of the head where it names one.

    Raises:
        ConfigError: there is no such place; says which there are.
    """
    known = {site.name: site for site in sites(model)}
    if name in known:
        return known[name], None
    if ".head" in name:
        return find_head(model, name)
    raise ConfigError(
        f"{name!r} is no part of this model.{did_you_mean(name, known)} Known: {', '.join(known)}, and the heads of an "
        f"attention, such as {next((f'{site.name}.head0' for site in known.values() if site.heads), 'none here')}."
    )
