"""Put a folder of an export on the Hugging Face Hub, if it is still what was proven."""

from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError
from nanotx.hub.download import ID, library, refusal
from nanotx.hub.seal import check_seal
from nanotx.runs.folder import RunFolder, is_pack


def push(folder: Path, repository: str, *, public: bool = False, update: bool = False) -> tuple[str, str]:
    """Put a folder on the Hub, and return its address there and what was proven of it.

    Args:
        folder: of an export.
        repository: its name on the Hub, `owner/name`.
        public: let everyone see a new repository; otherwise its owner alone does.
        update: add a commit to a repository that exists; its other files stay.

    Raises:
        ConfigError: the name is none, there is no such folder, no token, or the repository exists.
        RunError: nothing is known to be proven of the folder, a file was changed since, or the Hub refuses.
    """
    if not ID.fullmatch(repository):
        raise ConfigError(f"--to {repository}: expected the name of a repository on the Hub such as you/my-model.")
    check_folder(folder)
    proof = check_seal(folder)
    hub = library(f"{folder}: to put it on the Hub")
    token = hub.get_token()
    if not token:
        raise ConfigError(f"{repository}: no token of the Hub is here; try hf auth login, or set HF_TOKEN.")
    api = hub.HfApi(token=token)
    create(api, repository, public, update)
    try:
        api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            commit_message=f"Export of nanotx: {proof}"[:200],
            ignore_patterns=[".*"],
        )
    except Exception as error:  # of the library, and of what it sends requests with
        raise RunError(
            f"{repository}: the files were not put there: {refusal(error)} The repository may be there, and empty: add "
            "--update to try again."
        ) from None
    return f"{api.endpoint}/{repository}", proof


def check_folder(folder: Path) -> None:
    """Raise ConfigError unless a path is a folder that is no run and no pack."""
    if is_pack(folder) or RunFolder(folder).checkpoints.exists():
        raise ConfigError(f"{folder}: a run; expected the folder of an export: nanotx export {folder} --to hf")
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no such folder"
        raise ConfigError(f"{folder}: {what}; expected the folder of an export: nanotx export RUN {folder} --to hf")


def create(api: Any, repository: str, public: bool, update: bool) -> None:
    """Make a repository.

    Raises:
        ConfigError: it exists, and is not to be updated.
        RunError: the Hub refuses.
    """
    try:
        api.create_repo(repository, private=not public, exist_ok=update)
    except Exception as error:  # of the library, and of what it sends requests with
        if getattr(getattr(error, "response", None), "status_code", None) == 409:
            raise ConfigError(
                f"{repository}: exists on the Hub; add --update to add a commit to it, or choose another name."
            ) from None
        raise RunError(f"{repository}: {refusal(error)}") from None
