"""A folder of the Hugging Face world as a pack: what takes a run takes it."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

from nanotx.errors import ConfigError, TokenizerError
from nanotx.hub.download import fetched, is_model_id
from nanotx.hub.huggingface.chat_proof import compare_chats
from nanotx.hub.huggingface.chat_templates import with_folder_template
from nanotx.hub.huggingface.importing import import_model
from nanotx.hub.huggingface.proof import Proof, offline, open_tokenizer, prove
from nanotx.hub.huggingface.tensor_files import INDEX, WHOLE
from nanotx.hub.nanogpt import checkpoint_of, import_nanogpt
from nanotx.hub.pack_writer import check_target, write_pack
from nanotx.recipe import Recipe, Train
from nanotx.runs.load import LoadedRun
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.convert import read_tokenizer
from nanotx.tokenizers.huggingface import Huggingface
from nanotx.tokenizers.saved import Saved


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportedRun:
    """A model that was read, and written as a pack if it was asked for."""

    run: LoadedRun
    class_name: str  # of the model in transformers
    notes: tuple[str, ...]
    proof: Proof | None  # None where it was not asked for, or transformers is not installed


def import_run(
    folder: str | Path, target: Path, overwrite: bool = False, proven: bool = True, tokenizer: Path | None = None
) -> ImportedRun:
    """Read a folder of the Hugging Face world, and write it as a pack.

    Args:
        folder: with `config.json`, safetensors and a tokenizer; or the id of a model on the Hub; or a checkpoint of
            nanoGPT, or its folder.
        target: folder or zip file of the pack.
        overwrite: replace a pack that is there already.
        proven: compare the result with the folder as transformers opens it, where that is installed, before the pack is
            written.
        tokenizer: of a checkpoint of nanoGPT; see `import_nanogpt`.

    Raises:
        ConfigError: its class or a key of its config is not known, or something is at `target` already.
        TokenizerError: its tokenizer cannot be read.
        RunError: the folder cannot be read, or the result differs from it.
    """
    check_target(target, overwrite)
    from_hub = checkpoint_of(Path(folder)) is None and is_model_id(str(folder))
    place = fetched(str(folder)) if from_hub else Path(folder)
    name = str(folder) if from_hub else place.resolve().name
    read = read_folder(place, str(folder), f"{target.as_posix()}/tokenizer.json", tokenizer)
    if proven and checkpoint_of(place) is None and importlib.util.find_spec("transformers"):
        notes = (*read.notes, *chat_notes(read.run, place))
        read = replace(read, proof=prove(read.run, place, foreign=True), notes=notes)
    write_pack(read.run, target, overwrite=overwrite, origin=f"the {read.class_name} of {name}")
    return read


def chat_notes(run: LoadedRun, folder: Path) -> tuple[str, ...]:
    """Return what the chat template of a folder gives here and in transformers; nothing where it cannot be compared."""
    if not run.tokenizer.chat_template:
        return ()
    with offline():
        tokenizer = open_tokenizer(folder)
    if tokenizer is None or not tokenizer.chat_template:
        return ()
    chat = compare_chats(run.tokenizer, tokenizer)
    if chat.fault:
        return (f"its chat template gives other ids in transformers: {chat.fault}",)
    return (f"its chat template: {chat}",)


def read_folder(folder: Path, name: str, saved: str = "", tokenizer: Path | None = None) -> ImportedRun:
    """Read a folder of the Hugging Face world; nothing is written, and nothing is compared.

    Args:
        folder: with `config.json`, safetensors and a tokenizer; or a checkpoint of nanoGPT, or its folder.
        name: the folder as it was given.
        saved: the path of the tokenizer in the recipe; that in the folder if it is empty.
        tokenizer: of a checkpoint of nanoGPT; see `import_nanogpt`.

    Raises:
        ConfigError: its class or a key of its config is not known.
        TokenizerError: its tokenizer cannot be read.
        RunError: the folder cannot be read.
    """
    checkpoint = checkpoint_of(folder)
    if checkpoint is not None:
        imported, codec, notes = import_nanogpt(checkpoint, tokenizer)
    else:
        if tokenizer is not None:
            raise ConfigError(f"--tokenizer: means nothing for {name}, which has its own; leave it out.")
        check_folder(folder)
        codec, notes = read_codec(folder)
        codec, more = with_folder_template(codec, folder)
        notes = (*notes, *more)
        imported = import_model(folder, codec.vocab_size)
    model = imported.model
    model.undefined_ids = codec.undefined_ids
    recipe = Recipe(
        tokenizer=Saved(path=saved or f"{folder.as_posix()}/tokenizer.json"),
        model=model.config,
        train=Train(steps=1, batch_size=1),
        dtype="float32",
    )
    run = LoadedRun(model=model, tokenizer=codec, recipe=recipe, step=0, folder=name)
    return ImportedRun(run=run, class_name=imported.class_name, notes=(*imported.notes, *notes), proof=None)


def check_folder(folder: Path) -> None:
    """Raise ConfigError unless a path is a folder that looks like a model."""
    needed = f"config.json, {WHOLE} or {INDEX}, and a tokenizer"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: a file; expected the folder that it is in, which holds {needed}.")
    if not folder.exists():
        raise ConfigError(
            f"{folder}: no such folder; expected one with {needed}, or the id of a model on the Hub such as "
            "openai-community/gpt2."
        )


def read_codec(folder: Path) -> tuple[Codec, tuple[str, ...]]:
    """Return the tokenizer of a folder: one of ours with equal ids, or else the library's own.

    Raises:
        TokenizerError: neither can read it.
    """
    try:
        converted = read_tokenizer(folder)
    except TokenizerError as error:
        if not (folder / "tokenizer.json").is_file():
            raise
        codec = Huggingface(path=str(folder / "tokenizer.json"), lossy=True).train(())
        return codec, (f"its tokenizer stays the library's: {error}",)
    return converted.codec, tuple(f"its tokenizer: {note}" for note in converted.notes)
