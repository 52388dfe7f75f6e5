"""Blocks: one layer of the transformer, attention and then feed-forward."""

from nanotx.nn.block.base import Block, TwoBranches, TwoBranchesBlock

__all__ = ["Block", "TwoBranches", "TwoBranchesBlock"]
