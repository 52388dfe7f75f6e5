"""Blocks: one layer of the transformer, an attention and a feed-forward."""

from nanotx.nn.block.base import Block, TwoBranches, TwoBranchesBlock

__all__ = ["Block", "TwoBranches", "TwoBranchesBlock"]
