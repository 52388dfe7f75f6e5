"""Models of the Hub by their id, `owner/name`: the files of a model alone, nothing that is code or a pickle."""

import re
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""The form of an id; a model of one word, such as gpt2, is openai-community/gpt2 there."""

FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "encoder.json", "vocab.bpe", "vocab.txt"),
)
"""Files that are fetched."""


def is_model_id(text: str) -> bool:
    """Return whether a text names a model of the Hub, and nothing here: no file, and no folder that it could be in."""
    return bool(ID.fullmatch(text)) and not Path(text).exists() and not Path(text).parent.exists()


def fetched(model_id: str) -> Path:
    """Return the folder of a model of the Hub, from the cache that other libraries share, or fetched into it.

    Raises:
        ConfigError: huggingface-hub is not installed.
        RunError: there is no such model, it may not be read, or the Hub cannot be reached.
    """
    hub = library(f"{model_id}: nothing of that name is here, and to fetch it from the Hub")
    try:
        return Path(hub.snapshot_download(model_id, allow_patterns=list(FILES)))
    except Exception as error:  # of the library, and of what it sends requests with
        raise RunError(f"{model_id}: nothing of that name is here, and {refusal(error)}") from None


def library(what: str) -> Any:
    """Return huggingface_hub.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import huggingface_hub  # an extra, and only this needs it
    except ImportError:
        raise ConfigError(f"{what} needs the package huggingface-hub; try pip install huggingface-hub") from None
    return huggingface_hub


def refusal(error: Exception) -> str:
    """Return what an error of the Hub means, and what to try, as the end of a sentence."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return "its owner asks for consent on its page on the Hub first; then name a token by hf auth login."
    if status == 401 or kind == "LocalTokenNotFoundError":
        return "the Hub has no such repository, or not for you: check the name, and the token by hf auth whoami."
    if status == 403:
        return "the Hub does not let your token do that; make one that may write, at huggingface.co/settings/tokens."
    if status == 404 or kind in ("RepositoryNotFoundError", "HFValidationError"):
        return "the Hub has no such repository; check the name."
    if status is not None:
        return f"the Hub answers {status}; try again later."
    if kind in OFFLINE:
        return "the Hub cannot be reached; check the network, or HF_HUB_OFFLINE and HF_ENDPOINT."
    return f"the Hub's library fails: {kind}: {next(iter(str(error).splitlines()), '')[:200]}"


OFFLINE = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "OfflineModeIsEnabled", "ReadError"),
        *("LocalEntryNotFoundError", "ConnectionRefusedError", "ProxyError", "RemoteProtocolError", "gaierror"),
    }
)
"""Errors of a network that is not there."""
