from __future__ import annotations

import pytest

from MAESegmentLib.processes.exit_reason import describe_exit


@pytest.mark.parametrize(
    ("code", "windows", "words", "what"),
    [
        (-9, False, "", "memory ran out"),
        (137, False, "", "memory ran out"),
        (-11, False, "", "SIGSEGV"),
        (139, False, "", "SIGSEGV"),
        (9, False, "", "memory ran out"),
        (247, False, "", "memory ran out"),
        (11, False, "", "SIGSEGV"),
        (-6, False, "terminate called after throwing an instance of 'std::bad_alloc'", "ran out of memory"),
        (1, False, "Traceback\nMemoryError", "ran out of memory"),
        (-250, False, "", "signal 250"),
        (3, False, "", "exit code 3"),
        (0, False, "", "exit code 0"),
        (120, False, "", "exit code 120"),
        (0xC0000005, True, "", "access violation"),
        (0xC0000005 - 2**32, True, "", "access violation"),
        (0xC0000017, True, "", "memory ran out"),
        (0xC0001234, True, "", "0xc0001234"),
        (137, True, "", "exit code 137"),
        (9, True, "", "exit code 9"),
    ],
)
def test_exit_in_words(code, windows, words, what):
    message, advice = describe_exit(code, "", words, windows=windows)
    assert what in message
    assert advice


def test_process_that_never_ran():
    assert describe_exit(None, "cannot be started: no such file")[0] == "cannot be started: no such file"
