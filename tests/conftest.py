"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["MVAI_CACHE"] = "off"  # Tests neither use nor fill the user's.


def data_dir() -> Path:
    """The folder of real clips and characters; skips the test where it is not there."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("MVAI_DATA", beside))
    if not path.is_dir():
        pytest.skip("needs the real data; set MVAI_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def body_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SMPL, SMPL-H and SMPL-X files, made from the open body."""
    from smpl_makers import write_models

    return write_models(tmp_path_factory.mktemp("body_models"))
