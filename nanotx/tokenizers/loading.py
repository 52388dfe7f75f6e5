"""Load a tokenizer by name or path; size, format and digest of the untrusted file are checked first."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from nanotx.config.presets import presets
from nanotx.config.registry import is_foreign
from nanotx.data.corpus.base import is_token_file
from nanotx.errors import ConfigError, TokenizerError, UnknownPart, did_you_mean
from nanotx.files import open_regular
from nanotx.tokenizers.base import CHAT_TEMPLATE, LONGEST_TEMPLATE, Codec, Tokenizer, from_dict_checked, preset_names
from nanotx.tokenizers.storage import VERSION, Origin, Table, digest, exactly


def config_table(name: object) -> dict[str, Any]:
    """Return the config table of a name; see `Tokenizer.table`."""
    if name in Tokenizer.names():
        return {"part": name}
    if isinstance(name, str) and (name in preset_names() or is_tokenizer_path(name)):
        return {"part": part_of_file(name), "path": name}
    try:
        Tokenizer.find(name)
    except UnknownPart as error:
        if not isinstance(name, str):
            raise
        preset = f"Presets: {', '.join(preset_names())}.{did_you_mean(name, preset_names())}"
        raise UnknownPart(f"{error} {preset} A path ends in .json or .tiktoken.") from None
    return {"part": name}


def is_tokenizer_path(name: str) -> bool:
    """Return whether a name is the path of a tokenizer's file, or of a token file, which holds one."""
    return Path(name).suffix in {".json", ".tiktoken"} or is_token_file(Path(name))


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause the search for cyclic garbage; that many new pairs start it, and it visits every object there is."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@paused_collection()
def load_codec(path: str | Path, lossy: bool = True) -> Codec:
    """Return the codec of a file; see `nanotx.tokenizers.base.load`.

    Raises:
        TokenizerError: there is no such file, nanotx did not write it, or it loses text and `lossy` is False.
    """
    file = presets("tokenizers") / f"{path}.json" if str(path) in preset_names() else Path(path)
    if file.is_dir():
        own = file / "tokenizer.json"
        hint = f"; that of this run is {own}" if own.is_file() else ""
        raise TokenizerError(f"{file}: cannot be read: Is a directory{hint}.")
    if is_token_file(file):
        return codec_of_token_file(file)
    if (kind := part_of_file(file)) != "saved":
        adapter: Any = Tokenizer.find(kind)
        options = {"lossy": lossy} if kind == "huggingface" else {}
        codec: Codec = adapter(path=str(file), **options).train(())
        return codec
    try:
        table = read_file(file)
    except FileNotFoundError:
        near = did_you_mean(str(path), preset_names())
        raise TokenizerError(f"{file}: there is no such file.{near} Presets: {', '.join(preset_names())}.") from None
    return build_codec(file, *table)


@paused_collection()
def codec_of_json(text: str) -> Codec:
    """Return the codec of the text that `Codec.to_json` returns."""
    name = Path("tokenizer.json")
    return build_codec(name, *check_table(name, parse_json(name, text.encode("utf-8"))))


def codec_of_token_file(file: Path) -> Codec:
    """Return the tokenizer that is kept in a token file.

    Raises:
        DataError: the token file is not whole.
        TokenizerError: there is no tokenizer in it, or it is damaged.
    """
    from nanotx.tokenizers.token_file import read_header, tokenizer_json  # few tokenizers come from one

    part, table, _, origin = header_of(file, parse_json(file, tokenizer_json(file)))
    codec = build_codec(file, part, table, origin)
    try:
        same = codec.digest == read_header(file).tokenizer  # as good as the digest of the table, and needed later
    except (ValueError, RecursionError):  # what JSON does not have, or is nested too deeply
        same = False
    if not same:
        raise TokenizerError(
            f"{file}: the tokenizer in this token file is not the one of its header; it was damaged after it was "
            "written; encode the texts again."
        )
    return codec


def build_codec(file: Path, name: str, table: Table, origin: Origin | None) -> Codec:
    """Return the codec of a table that was read from a file.

    Raises:
        TokenizerError: its part is unknown, or did not write this table.
    """
    template = table.pop(CHAT_TEMPLATE, "")
    if not isinstance(template, str) or len(template) > LONGEST_TEMPLATE:
        raise TokenizerError(f"{file}: chat_template: expected a text, got {brief(template)}.")
    try:
        part = Tokenizer.find(name)
        codec = from_dict_checked(part, table) if is_foreign(part) else part.from_dict(table)
    except (TokenizerError, ConfigError) as error:
        raise TokenizerError(f"{file}: {error}") from None
    codec = codec.with_chat_template(template) if template else codec
    return codec if origin is None else codec.with_origin(origin)


LARGEST = 1 << 24  # bytes; an untrusted file must not fill the memory


def read_file(path: Path) -> tuple[str, Table, Origin | None]:
    """Read a file; return the name of the tokenizer's part, its table, and its origin.

    Raises:
        FileNotFoundError: there is no such file.
        TokenizerError: it cannot be read, or nanotx did not write it; says which.
    """
    return check_table(path, _parse(path))


def check_table(path: Path, table: Any) -> tuple[str, Table, Origin | None]:
    """Check the table of a tokenizer's file; see `read_file`."""
    part, table, recorded, origin = header_of(path, table)
    try:
        computed = digest(part, table)
    except RecursionError:
        raise TokenizerError(f"{path}: nested too deeply; nanotx never writes such a file.") from None
    except ValueError:
        raise TokenizerError(f"{path}: a number in it is NaN or infinite; nanotx never writes one.") from None
    if recorded != computed:
        raise TokenizerError(
            f"{path}: the digest does not match: the file states sha256 {brief(recorded)}, its content has {computed}: "
            "edited or damaged after it was saved. Try an earlier copy, or train it again."
        )
    return part, table, origin


def header_of(path: Path, table: Any) -> tuple[str, Table, Any, Origin | None]:
    """Take the header out of the table of a tokenizer's file.

    Returns:
        The name of the part, its table, the digest that the file states, and the origin.
    """
    if not isinstance(table, dict) or table.pop("nanotx", None) != "tokenizer":
        raise TokenizerError(f'{path}: expected a tokenizer that nanotx saved ("nanotx": "tokenizer").')
    version, part = table.pop("version", None), table.pop("part", None)
    if type(version) is not int or version != VERSION:
        raise TokenizerError(f"{path}: format version {brief(version)}; this nanotx reads {VERSION}.")
    if not isinstance(part, str):
        raise TokenizerError(f"{path}: part: expected the name of a tokenizer, got {brief(part)}.")
    recorded, origin, _ = (table.pop(key, None) for key in ("sha256", "learned_from", "made_with"))
    if origin is None:
        return part, table, recorded, None
    if not isinstance(origin, dict):
        raise TokenizerError(f"{path}: learned_from: expected a table, got {brief(origin)}.")
    exactly(f"{path}: learned_from", origin, {"corpus": str, "sha256": str, "command": str})
    origin = Origin(corpus=origin["corpus"], sha256=origin["sha256"], command=origin["command"])
    return part, table, recorded, origin


def _parse(path: Path) -> Any:
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise TokenizerError(f"{path}: larger than {LARGEST} bytes; nanotx never writes such a file.")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror}.") from None
    return parse_json(path, data)


def parse_json(path: Path, data: bytes) -> Any:
    """Parse the bytes of a tokenizer's file.

    Raises:
        TokenizerError: they are not JSON.
    """
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: not a tokenizer in JSON: {error}.") from None


HEAD = 200  # bytes that contain the mark of a file that nanotx wrote


def part_of_file(path: str | Path) -> str:
    """Return the name of the part that reads a file: `saved` for files of nanotx and for unknown ones."""
    file = Path(path)
    if file.suffix == ".tiktoken":
        return "tiktoken"
    try:
        with open_regular(file) as opened:
            head = opened.read(HEAD)
            if b'"nanotx"' in head:
                return "saved"
            table = json.loads(head + opened.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return "saved"  # which reports what is wrong with it
    foreign = isinstance(table, dict) and "nanotx" not in table and isinstance(table.get("model"), dict)
    return "huggingface" if foreign else "saved"
