"""Worker, trainer and stores as Slicer's users have them on Linux: without root's rights, and under nice 19.

Root may do everything, and so hides what an ordinary user is refused.
"""

from __future__ import annotations

import pytest

from Testing.unprivileged import public_folder, run_as_ordinary_user


@pytest.mark.slow
def test_fine_tuning_runs_to_its_end() -> None:
    with public_folder() as folder:
        run_as_ordinary_user("Testing.ordinary_user:fine_tune", [str(folder / "clinic")], folder)


def test_the_worker_answers_and_a_model_is_added() -> None:
    with public_folder() as folder:
        run_as_ordinary_user("Testing.ordinary_user:segment", [str(folder / "clinic")], folder)


def test_what_cannot_be_written_is_said_before_the_work() -> None:
    with public_folder() as folder:
        run_as_ordinary_user("Testing.ordinary_user:segment_where_nothing_can_be_written", [str(folder)], folder)
