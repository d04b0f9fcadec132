import importlib
import os
from collections.abc import Callable

import pytest

from benchmarks import comparison
from benchmarks.peers import Peer


def make_count(limit: int) -> Callable[[], object]:
    """Work for a good part of a second, which fails with the number of its process after some calls."""
    calls: list[int] = []

    def count() -> None:
        calls.append(sum(range(10**7)))
        if len(calls) > limit:
            raise RuntimeError(str(os.getpid()))

    return count


def make_without_its_library() -> Callable[[], object]:
    importlib.import_module("no_such_library")
    return list


def test_a_peer_works_in_a_process_of_its_own_and_its_errors_are_raised_here() -> None:
    peer = Peer(make_count, 1)
    peer()
    with pytest.raises(RuntimeError) as error:
        peer()
    assert int(str(error.value)) != os.getpid()


def test_a_peer_that_cannot_be_made_says_so_at_once() -> None:
    with pytest.raises(ImportError, match="no_such_library"):
        Peer(make_without_its_library)


def test_the_processor_time_of_a_peer_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(make_count, 9)
    monkeypatch.setattr(comparison, "_busy_s", lambda: peer.processor_s)  # nobody else uses the processor
    before = peer.processor_s
    assert comparison._sample(peer, 1)[1]
    assert peer.processor_s > before
