"""Read a checkpoint of nanoGPT: `ckpt.pt`, and `meta.pkl` with the characters of its vocabulary.

Source: `train.py`, `model.py` and `data/shakespeare_char/prepare.py` of https://github.com/karpathy/nanoGPT
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError, TokenizerError
from nanotx.hub.huggingface.importing import Imported, fitted_model
from nanotx.hub.huggingface.layouts import SAME, Entry, Gpt2
from nanotx.hub.huggingface.reading import Keys, plain_layer
from nanotx.hub.huggingface.shape import FfnShape, ModelShape, NormShape, PositionShape
from nanotx.hub.pickled import read_pickled, tensors_of
from nanotx.hub.plain_pickle import read_plain_pickle
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.convert import read_tokenizer

CHECKPOINT, META = "ckpt.pt", "meta.pkl"


@dataclass(frozen=True)
class NanoGpt(Gpt2):
    """GPT of nanoGPT: GPT-2 with linear maps as they are, and biases only if it is asked for them."""

    bias: bool

    class_name = "GPT"
    model_type = "nanogpt"

    def entries(self, shape: ModelShape) -> list[Entry]:
        """Return which of our weights each of theirs is."""
        return [
            Entry(theirs=entry.theirs, ours=entry.ours, form=SAME)
            for entry in super().entries(shape)
            if self.bias or not entry.ours.endswith(".bias")
        ]


def checkpoint_of(path: Path) -> Path | None:
    """Return the checkpoint that a path names: the file itself, or that of a folder; None if there is none."""
    if path.suffix == ".pt" and not path.is_dir():
        return path
    return path / CHECKPOINT if (path / CHECKPOINT).is_file() and not (path / "config.json").exists() else None


def import_nanogpt(path: Path, tokenizer: Path | None) -> tuple[Imported, Codec, tuple[str, ...]]:
    """Return the model of a checkpoint, its tokenizer, and what should be known about that.

    Args:
        path: of the checkpoint.
        tokenizer: `meta.pkl`, or a tokenizer's file or folder; None for the `meta.pkl` beside the checkpoint.

    Raises:
        ConfigError: an argument of the model is not known.
        TokenizerError: there is no tokenizer that can be read.
        RunError: the checkpoint cannot be read, or its weights do not fit its arguments; all faults are listed.
    """
    checkpoint = read_pickled(path)
    missing = [name for name in ("model", "model_args") if not isinstance(checkpoint.get(name), dict)]
    if missing:
        raise RunError(f"{path}: no checkpoint of nanoGPT: it has no {' and no '.join(missing)}.")
    codec, notes = read_codec(path, tokenizer, checkpoint)
    layout, shape = read_arguments(path, checkpoint["model_args"])
    files = tensors_of(path, checkpoint["model"])
    return fitted_model(path, layout, shape, files, codec.vocab_size), codec, notes


def read_arguments(path: Path, table: dict[str, Any]) -> tuple[NanoGpt, ModelShape]:
    """Return the layout and the shape of a model by its arguments.

    Raises:
        ConfigError: one of them is missing, unknown or wrong; all are named.
    """
    keys = Keys(path, {str(name): value for name, value in table.items()})
    dim, layers = keys.count("n_embd"), keys.count("n_layer", most=10_000)
    heads, bias = keys.divisor("n_head", dim, "n_embd"), keys.take("bias", True)
    keys.take("dropout", 0.0, float)
    norm = NormShape(kind="layernorm", eps=1e-5, bias=bias)
    ffn = FfnShape(gated=False, activation="gelu", bias=bias)
    shape = ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=4 * dim,
        layers=layers,
        share=1,
        context=keys.count("block_size"),
        tied=True,
        layer=plain_layer("prenorm", norm, heads, dim // heads, bias, ffn),
        windows=(None,) * layers,
        norm=norm,
        position=PositionShape(kind="table"),
    )
    keys.end()
    return NanoGpt(bias), shape


# The tokenizer.


def read_codec(path: Path, tokenizer: Path | None, checkpoint: dict[str, Any]) -> tuple[Codec, tuple[str, ...]]:
    """Return the tokenizer of a checkpoint, and what should be known about it.

    Raises:
        TokenizerError: there is none, or it cannot be read.
    """
    place = tokenizer or path.parent / META
    if place.suffix == ".pkl" and (tokenizer or place.is_file()):
        return read_meta(place), ()
    if tokenizer is None:
        config = checkpoint.get("config")
        dataset = config.get("dataset") if isinstance(config, dict) else None
        where = f"data/{dataset}/{META}" if isinstance(dataset, str) and dataset.isprintable() else META
        raise TokenizerError(
            f"{path}: holds no tokenizer; add --tokenizer {where}, or for a model of GPT-2's tokens the folder of its "
            "vocabulary."
        )
    converted = read_tokenizer(place)
    return converted.codec, tuple(f"its tokenizer: {note}" for note in converted.notes)


def read_meta(path: Path) -> Codec:
    """Return the characters of a `meta.pkl` as a tokenizer.

    Raises:
        TokenizerError: it holds something else, or its characters are not in order.
    """
    itos = read_plain_pickle(path).get("itos")
    if not isinstance(itos, dict) or set(itos) != set(range(len(itos))):
        raise TokenizerError(f"{path}: itos: expected a character for each id from 0 on.")
    characters = [itos[number] for number in range(len(itos))]
    if not all(isinstance(character, str) and len(character) == 1 for character in characters):
        raise TokenizerError(f"{path}: itos: expected single characters.")
    try:
        return Char.from_dict({"alphabet": "".join(characters), "special_tokens": {}, "nfc": False})
    except (TokenizerError, ConfigError, ValueError) as error:
        raise TokenizerError(f"{path}: itos: {error}") from None
