"""A trained tokenizer from a file: a preset or any other path."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nanotx.errors import ConfigError, TokenizerError
from nanotx.tokenizers.base import Codec, Tokenizer, load, preset_names


@Tokenizer.register("saved")
@dataclass(frozen=True, kw_only=True)
class Saved(Tokenizer):
    """A tokenizer of any kind from a file of nanotx or a preset; the texts are not read."""

    path: str = ""  # file of a tokenizer, or the name of a preset

    def train(self, texts: Iterable[str]) -> Codec:
        """Return the codec of the file; the texts are not read.

        Raises:
            ConfigError: no path was given.
            TokenizerError: there is no such file, it is not one of ours, or it is a library's and loses text.
        """
        if not self.path:
            raise ConfigError(
                "saved: path is empty; expected a file or the name of a preset "
                f"({', '.join(preset_names())}); try --tokenizer.path my.json."
            )
        try:
            return load(self.path, lossy=False)
        except TokenizerError as error:  # names the flag of another part
            raise TokenizerError(str(error).replace("--tokenizer.", "--tokenizer huggingface --tokenizer.")) from None

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Codec:
        """Refuse: a codec is saved under the name of the part that trained it.

        Raises:
            TokenizerError: always.
        """
        raise TokenizerError("saved: a file names the part that learned it (char, byte, bpe, ...), never 'saved'.")
