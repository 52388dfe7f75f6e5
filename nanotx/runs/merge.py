"""A run with an adapter as runs without: its adapter merged into its weights, or left out."""

from dataclasses import replace

from torch import Tensor

from nanotx.nn.adapt import merged_weights
from nanotx.nn.adapt.none import NoAdapter
from nanotx.nn.buffers import Buffers
from nanotx.runs.load import LoadedRun


def merged(run: LoadedRun) -> LoadedRun:
    """Return a run whose weights include its adapter; the run itself where it has none."""
    return plain(run, merged_weights(run.model)) if run.recipe.model.adapt.patterns else run


def without_adapter(run: LoadedRun) -> LoadedRun:
    """Return the run that an adapter adapts; the run itself where it has none."""
    return plain(run, dict(run.model.state_dict())) if run.recipe.model.adapt.patterns else run


def plain(run: LoadedRun, state: dict[str, Tensor]) -> LoadedRun:
    """Return a run without an adapter, with these parameters and buffers."""
    config = replace(run.recipe.model, adapt=NoAdapter())
    model = config.build(run.model.vocab_size)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(state[name])
    buffers = Buffers(model)
    buffers.load({name: state[name] for name in buffers.names})
    model.undefined_ids = run.model.undefined_ids
    return replace(run, model=model.eval(), recipe=replace(run.recipe, model=config, freeze=()))
