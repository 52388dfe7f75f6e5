"""From a name or a path to a codec, whoever wrote the file."""

from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, TokenizerError, UnknownPart, did_you_mean
from nanotx.registry import is_foreign
from nanotx.shelf import shelf
from nanotx.tokenizers import Codec, Tokenizer, stored
from nanotx.tokenizers._opening import read_file
from nanotx.tokenizers._sniff import kind_of


def table_of(name: object) -> dict[str, Any]:
    """The table that a name stands for; see `Tokenizer.table`."""
    if name in Tokenizer.names():
        return {"part": name}
    if isinstance(name, str) and (name in stored() or Path(name).suffix in {".json", ".tiktoken"}):
        return {"part": kind_of(name), "path": name}
    try:
        Tokenizer.find(name)
    except UnknownPart as error:
        if not isinstance(name, str):
            raise
        on_shelf = f"On the shelf: {', '.join(stored())}.{did_you_mean(name, stored())}"
        raise UnknownPart(f"{error} {on_shelf} A path ends in .json or .tiktoken.") from None
    return {"part": name}


def open_codec(path: str | Path, lossy: bool = True) -> Codec:
    """The codec of a file; see `nanotx.tokenizers.load`.

    Raises:
        TokenizerError: there is no such file, it is not one of ours, or it loses text and may not; says which.
    """
    file = shelf("tokenizers") / f"{path}.json" if str(path) in stored() else Path(path)
    if (kind := kind_of(file)) != "saved":
        adapter: Any = Tokenizer.find(kind)
        options = {"lossy": lossy} if kind == "huggingface" else {}
        codec: Codec = adapter(path=str(file), **options).learn(())
        return codec
    try:
        name, table, origin = read_file(file)
    except FileNotFoundError:
        near = did_you_mean(str(path), stored())
        raise TokenizerError(f"{file}: there is no such file.{near} On the shelf: {', '.join(stored())}.") from None
    try:
        part = Tokenizer.find(name)
        if is_foreign(part):
            from nanotx.foreign import read  # it brings torch, which tokenizers do without

            codec = read(part, table)
        else:
            codec = part.read(table)
    except (TokenizerError, ConfigError) as error:
        raise TokenizerError(f"{file}: {error}") from None
    return codec if origin is None else codec.with_origin(origin)
