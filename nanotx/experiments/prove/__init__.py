"""The card of an idea: the laws of a part, what it is equal to, what it costs, and whether it helps."""

from nanotx.experiments.prove.card import Card, Claim
from nanotx.experiments.prove.prover import Prover

__all__ = ["Card", "Claim", "Prover"]
