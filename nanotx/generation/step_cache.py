"""Compiled steps on disk, by a key of all that their code depends on.

A package is executable code: it is read only from a folder that no other user can write to, and only if it has the
digest that is in its name.
"""

import hashlib
import inspect
import os
import platform
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import nanotx.nn
from nanotx import disk
from nanotx.files import write_atomic
from nanotx.hardware.cgroup import read_kernel_file
from nanotx.hardware.cpu import CPUINFO, processor
from nanotx.nn.transformer import Transformer

KEPT = 16
"""Packages that are kept, of some 4 MB each; the least recently used are removed first."""


def step_key(model: Transformer, batch: int) -> str:
    """Return the key of a model's compiled step: of its config, code and tensors, of PyTorch and of the processor."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    facts = [
        repr(model.config),
        str(batch),
        *(f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors),
        *(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in source_files(model)),
        torch.__version__,
        platform.python_version(),
        platform.machine(),
        processor(),
        instructions(),
        torch.backends.cpu.get_cpu_capability(),
        str(torch.get_num_threads()),
    ]
    return hashlib.sha256("\n".join(facts).encode("utf-8")).hexdigest()[:32]


def source_files(model: nn.Module) -> list[Path]:
    """Return the files of Python code that a model's step may run: those of its modules' classes, and `nanotx.nn`."""
    classes = {base for module in model.modules() for base in type(module).__mro__ if base is not object}
    paths = {Path(__file__).with_name("ahead_of_time.py"), *Path(nanotx.nn.__path__[0]).rglob("*.py")}
    for cls in classes:
        with suppress(TypeError, OSError):  # a class that was written into a console has no file
            paths.add(Path(inspect.getfile(cls)))
    return sorted(path for path in paths if path.is_file())


def instructions() -> str:
    """Return the instruction sets of the processor, where the system lists them: code is compiled for these."""
    lines = (line for line in read_kernel_file(CPUINFO).splitlines() if line.startswith(("flags", "Features")))
    return next(lines, "")


@dataclass(frozen=True)
class StepCache:
    """A folder of compiled steps."""

    folder: Path

    @classmethod
    def of_user(cls) -> "StepCache":
        """Return the cache in the user's cache folder."""
        from platformdirs import user_cache_dir  # only who samples needs it

        return cls(Path(user_cache_dir("nanotx")) / "steps")

    def find(self, key: str) -> Path | None:
        """Return the package of a key, if there is one that can be trusted."""
        for path in self.packages(key):
            with suppress(OSError):
                if is_private(self.folder) and is_private(path) and digest(path.read_bytes()) in path.name:
                    os.utime(path)
                    return path
        return None

    def store(self, key: str, package: bytes) -> None:
        """Write a package; remove the least recently used ones.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        self.remove(key)
        path = self.folder / f"{key}.{digest(package)}.pt2"
        write_atomic(path, package)
        path.chmod(0o600)
        packages = sorted(self.packages("*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in packages[KEPT:]:
            disk.remove(path)

    def remove(self, key: str) -> None:
        """Remove the packages of a key."""
        for path in self.packages(key):
            with suppress(OSError):
                disk.remove(path)

    def packages(self, key: str) -> list[Path]:
        """Return the files of a key."""
        return list(self.folder.glob(f"{key}.*.pt2"))


def digest(package: bytes) -> str:
    """Return the part of a package's SHA-256 that its name bears."""
    return hashlib.sha256(package).hexdigest()[:32]


def is_private(path: Path) -> bool:
    """Return whether no other user can change a file or folder; always where the system has no such owners."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
