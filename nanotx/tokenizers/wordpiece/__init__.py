"""WordPiece: words in parts, the longest first."""

from nanotx.tokenizers.wordpiece.tokenizer import WordPiece, WordPieceCodec

__all__ = ["WordPiece", "WordPieceCodec"]
