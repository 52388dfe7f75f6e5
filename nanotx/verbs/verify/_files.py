"""A run's recipe, its tokenizer and its checkpoints: whole, fitting one another, and the ones that were saved."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nanotx.errors import NanotxError
from nanotx.folder import RunFolder
from nanotx.layers import read_config
from nanotx.model import Transformer
from nanotx.recipe import Recipe
from nanotx.resume import check_size, check_tokenizer, load_weights
from nanotx.tokenizers import Codec, load
from nanotx.trainer_json import read_state
from nanotx.verbs.verify._check import Check, attempt
from nanotx.verified import read_tensors, verify


def of_recipe(folder: RunFolder) -> Check:
    """Whether the run's recipe reads."""

    def read() -> str:
        recipe: Recipe = read_config(Recipe, folder.recipe)
        return f"{recipe.corpus.part}, {recipe.tokenizer.part}, {recipe.train.steps:,} steps"

    return attempt("recipe.toml", read)


def of_tokenizer(folder: RunFolder) -> tuple[Check, Codec | None]:
    """Whether the run's tokenizer reads; and the tokenizer, if it does."""
    try:
        codec = load(folder.tokenizer)
    except NanotxError as error:
        return Check(name="tokenizer.json", result="fails", detail=str(error)), None
    return Check(name="tokenizer.json", result="holds", detail=named(codec)), codec


def named(codec: Codec) -> str:
    """A tokenizer in words."""
    return f"{codec.part} of {codec.vocab_size:,} ids, digest {codec.digest[:12]}..."


def of_checkpoint(path: Path, codec: Codec | None) -> Iterator[Check]:
    """Whether a checkpoint's files are those that were saved, its weights fit, and its tokenizer is the right one.

    Where a file is another one, nothing more is asked: what it holds is no longer what the run knew.

    Args:
        path: of the checkpoint.
        codec: the run's tokenizer, if the checkpoint should have the same; by --changed an older one may have another.
    """
    files = attempt(f"{path.name} files", partial(whole, path))
    yield files
    if files.result == "holds":
        yield attempt(f"{path.name} weights", partial(fitting, path))
        yield attempt(f"{path.name} tokenizer", partial(agreeing, path, codec))


def whole(path: Path) -> str:
    """Raise RunError unless every digest agrees; names what was read."""
    names = sorted(verify(path))
    return f"{sum((path / name).stat().st_size for name in names):,} bytes by SHA-256: {', '.join(names)}"


def fitting(path: Path) -> str:
    """Raise NanotxError unless the weights, and their average if one is kept, load into the model of the recipe."""
    model = judged(path, load(path / "tokenizer.json"))
    load_weights(model, read_tensors(path / "model.safetensors"))
    return f"{model.parameter_count:,} numbers load into the model of its recipe"


def judged(path: Path, codec: Codec) -> Transformer:
    """The model of a checkpoint as the run evaluated it: by the average of its weights, if it kept one."""
    recipe: Recipe = read_config(Recipe, path / "recipe.toml")
    file = path / ("average.safetensors" if recipe.train.average else "model.safetensors")
    check_size(file, recipe.model.size(codec.vocab_size).parameters)  # before memory is taken
    model = recipe.model.build(codec.vocab_size)
    load_weights(model, read_tensors(file))
    return model


def agreeing(path: Path, codec: Codec | None) -> str:
    """Raise NanotxError unless the checkpoint's tokenizer, and the run's if it is given, is that of its training."""
    state = read_state(path)
    check_tokenizer(path / "tokenizer.json", state, load(path / "tokenizer.json"))
    if codec:
        check_tokenizer(path.parent.parent / "tokenizer.json", state, codec)
    return (
        "its own and the run's are the one it was trained with" if codec else "its own is the one it was trained with"
    )
