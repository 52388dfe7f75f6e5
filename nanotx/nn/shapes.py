"""The alphabet of axes: one letter, one meaning, in every annotation and every einops pattern.

b batch, t time, s time of keys, d width of the stream, v vocabulary, h heads, g key/value groups,
k width of a head, f width of the feed-forward. `x` is the stream.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "b t"]
"""Token ids."""
Stream = Float[Tensor, "b t d"]
"""The residual stream, which every block reads and writes."""
Logits = Float[Tensor, "b t v"]
"""Unnormalised log-probabilities of the next token, for each position."""

Positions = Int[Tensor, " t"]
"""Positions of tokens, or of their queries, counted from the first token of the text."""
KeyPositions = Int[Tensor, " s"]
"""Positions of keys."""
Queries = Float[Tensor, "b h t k"]
Keys = Float[Tensor, "b g s k"]
Values = Float[Tensor, "b g s k"]
Scores = Float[Tensor, "b h t s"]
Mask = Bool[Tensor, "t s"]
"""True where a query may attend to a key."""
