"""What every test relies on: hypothesis' three profiles, and quiet, small torch."""

import gc
import os
from collections.abc import Iterator

import pytest
import torch
import type_checks
from hypothesis import HealthCheck, settings

type_checks.install()

from helpers import forget_loaded_files  # noqa: E402  nanotx is imported under the checks
from planted import MUTANTS  # noqa: E402

from nanotx.config.registry import LOADED_FILES  # noqa: E402

slow = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=slow)
settings.register_profile("ci", max_examples=12, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("deep", max_examples=1000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# The tests run side by side: one thread each, for the commands that they start too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread():
    """A run sets the threads of its process; the next test has one again."""
    yield
    torch.set_num_threads(1)


def forgotten_afterwards() -> Iterator[None]:
    """Files that --load imports are of the test or the file of tests that asks for them; mutants are out of the way."""
    before = set(LOADED_FILES)
    yield
    forget_loaded_files(keep=before | {path for path in LOADED_FILES if path.parent == MUTANTS})


loaded_by_a_test = pytest.fixture(autouse=True)(forgotten_afterwards)
loaded_by_a_file = pytest.fixture(autouse=True, scope="module")(forgotten_afterwards)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long bytes are named by their argument: an id is read by people, and no time within them can change it."""
    return argname if isinstance(val, bytes) and len(val) > 16 else None


def pytest_collection_finish() -> None:
    """Thousands of tests and their imports stay to the end: the garbage collector need not walk them again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `slow` run wherever nobody waits for an answer within minutes: everywhere but in CI."""
    if os.environ.get("CI") and os.environ.get("HYPOTHESIS_PROFILE") != "deep":
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: runs without CI, or with HYPOTHESIS_PROFILE=deep"))
