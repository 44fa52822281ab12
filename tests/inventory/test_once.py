"""What is made once of an inventory and kept with it."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from regdata.inventory.once import Once


def test_once_is_made_once() -> None:
    """What was made under a name is given again; a name that could not be made is tried again."""
    once = Once()
    assert once("a", lambda: [1]) is once("a", lambda: [2])
    with pytest.raises(ZeroDivisionError):
        once("b", lambda: 1 / 0)
    assert once("b", lambda: 2) == 2


def test_threads_wait_for_one_another() -> None:
    """Eight threads that ask for the same get the same; one that asks for something else does not wait."""
    once, other, made = Once(), threading.Event(), []

    def make() -> int:
        assert other.wait(10)
        made.append(1)
        return len(made)

    with ThreadPoolExecutor(9) as pool:
        found = [pool.submit(once, "slow", make) for _ in range(8)]
        assert pool.submit(once, "quick", lambda: 5).result(10) == 5
        other.set()
        assert {one.result(10) for one in found} == {1}


def test_a_copy_keeps_nothing() -> None:
    """What was made for the original is not that of a copy."""
    once = Once()
    once("a", threading.Lock)
    assert pickle.loads(pickle.dumps(once))("a", lambda: 2) == 2
