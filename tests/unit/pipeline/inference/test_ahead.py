import threading
from collections.abc import Generator

import pytest

from pneumoseg.pipeline.inference.segment import ahead

PATIENCE_S = 60


def test_items_come_in_their_order() -> None:
    assert list(ahead(number for number in range(100))) == list(range(100))


def test_nothing_comes_of_nothing() -> None:
    assert list(ahead(number for number in range(0))) == []


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    begun = threading.Event()

    def source() -> Generator[int]:
        yield 0
        begun.set()
        yield 1

    items = ahead(source())
    assert next(items) == 0
    assert begun.wait(PATIENCE_S)
    assert list(items) == [1]


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_items_are_made_than_may_wait(depth: int) -> None:
    made: list[int] = []
    enough = threading.Event()

    def source() -> Generator[int]:
        for number in range(10):
            made.append(number)
            if len(made) == 1 + depth:
                enough.set()
            yield number

    items = ahead(source(), depth=depth)
    assert next(items) == 0
    assert enough.wait(PATIENCE_S)
    assert not threading.Event().wait(0.05)
    assert len(made) == 1 + depth
    items.close()


def test_an_error_comes_behind_the_items_before_it() -> None:
    def source() -> Generator[int]:
        yield 0
        raise ZeroDivisionError("here")

    items = ahead(source())
    assert next(items) == 0
    with pytest.raises(ZeroDivisionError, match="here"):
        next(items)


def test_who_leaves_early_closes_the_source_in_its_own_thread() -> None:
    threads: list[threading.Thread] = []

    def source() -> Generator[int]:
        threads.append(threading.current_thread())
        try:
            while True:
                yield 0
        finally:
            threads.append(threading.current_thread())

    items = ahead(source())
    next(items)
    items.close()
    assert threads[0] is threads[1] is not threading.current_thread()
    assert not threads[0].is_alive()


def test_generators_run_ahead_of_one_another() -> None:
    def doubled(numbers: Generator[int]) -> Generator[int]:
        for number in numbers:
            yield 2 * number

    assert list(ahead(doubled(ahead(number for number in range(9))))) == list(range(0, 18, 2))
