"""Adapters: what is added to a model so that little of it has to be trained."""

from nanotx.nn.adapt.base import Adapt as Adapt
from nanotx.nn.adapt.base import AdaptedLinear as AdaptedLinear
from nanotx.nn.adapt.base import adapted as adapted
from nanotx.nn.adapt.base import draw_added as draw_added
from nanotx.nn.adapt.base import merged_weights as merged_weights
from nanotx.nn.canonical import added_names as added_names
