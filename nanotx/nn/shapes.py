"""The alphabet of axes: one letter, one meaning, in every annotation and every einops pattern; `x` is the stream."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

AXES = {
    "b": "batch: texts",
    "t": "time: tokens, as queries",
    "s": "time: tokens, as keys",
    "d": "width of the stream",
    "v": "vocabulary",
    "h": "heads",
    "g": "groups that share keys and values",
    "k": "width of a head",
    "f": "width of the feed-forward, or frequencies",
    "e": "experts",
    "m": "query heads that share a head of keys",
    "n": "a count that the statement makes, such as the heads of q, k and v",
    "texts": "texts of the batch, or nothing where it is the same for all of them",
    "two": "two halves",
    "three": "q, k and v",
}
"""What each axis means; `nanotx trace` prints those of a pass."""

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
