"""Whole models that are wrong in one way each, however right their parts are. See tokenizers.py."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from nanotx.nn.dropout import Dropout
from nanotx.nn.transformer import Model

CATCHES: dict[str, str] = {}
"""For each mutant the law that catches it, and that all before it let pass."""

SINGLE: dict[str, type] = {}
"""The mutants, which fill no slot."""


def mutant(name, law):
    """A model that is wrong after the function that is decorated."""

    def enter(change):
        def build(self, vocab_size, seed=0):
            model = Model.build(self, vocab_size, seed)
            model.seed = seed
            change(model)
            return model

        body = {"build": build, "__doc__": change.__doc__}
        SINGLE[f"model/mutant_{name}"] = dataclass(frozen=True, kw_only=True)(type(f"Mutant_{name}", (Model,), body))
        CATCHES[f"model/mutant_{name}"] = law
        return change

    return enter


@mutant("bias_that_does_not_learn", "gets_gradient")
def bias_that_does_not_learn(model):
    """Adds the head's bias to the logits, and sends no gradient to it."""
    head = model.head
    if head.bias is not None:
        head.forward = lambda x: F.linear(x, head.weight, head.bias.detach())


@mutant("whole_embedding", "field_matters")
def whole_embedding(model):
    """Takes a dropout, and drops nothing of the embedding."""
    model.dropout = Dropout(0.0)


@mutant("any_length", "field_matters")
def any_length(model):
    """Reads texts of any length, whatever the context is."""
    model.__class__ = type("AnyLength", (type(model),), {"context": 1 << 20})


@mutant("reads_the_neighbour", "loss_alone")
def reads_the_neighbour(model):
    """Reads the documents of a row as one text."""
    model.document_position = lambda ids, documents, cache: model.position


def randomly(model):
    """The matrices of a model, each with its mean and its standard deviation."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.numel() > 1 and parameter.std() > 0:
            yield name, parameter, parameter.mean(), parameter.std()


@mutant("draws_in_turn", "init")
@torch.no_grad()
def draws_in_turn(model):
    """Draws all weights from one generator, so that a larger vocabulary changes every block."""
    generator = torch.Generator().manual_seed(model.seed)
    for _, parameter, mean, std in randomly(model):
        parameter.copy_(mean + std * torch.randn(parameter.shape, generator=generator))
