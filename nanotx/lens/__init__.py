"""Look inside a trained model: every tensor of a forward pass by the name of its module, replaced or removed.

with nanotx.lens.capture(run, "ROMEO:") as c:
    c["blocks.2"]  # the stream after the third layer, "b t d"
    c["blocks.2.attention.weights"]  # its attention weights, "b h t s"
    c.replace("blocks.2.ffn", torch.zeros_like(c["blocks.2.ffn"]))
    c["logits"]  # of the pass with that replacement

docs/looking.md lists the names. `trace(run, "ROMEO:")` returns every step of a pass: its statement in the source, its
einops pattern, and the real sizes.
"""

from nanotx.lens.capture import Capture, capture, replaced
from nanotx.lens.sites import Site, sites
from nanotx.lens.trace import Step, Trace, trace

__all__ = ["Capture", "Site", "Step", "Trace", "capture", "replaced", "sites", "trace"]
