"""Random bytes in pieces: every draw its own, also in threads and after a fork."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.entropy import PIECE_BYTES, Entropy


@pytest.mark.parametrize("size", [0, 1, 10, 16, PIECE_BYTES, PIECE_BYTES + 1])
def test_a_draw_has_the_length_asked_for(size: int) -> None:
    draw = Entropy()
    assert [len(draw(size)) for _ in range(3)] == [size] * 3


def test_what_was_given_out_is_the_systems_and_is_given_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[bytes] = []

    def urandom(size: int) -> bytes:
        given.append(bytes((len(given) * 7 + n) % 251 for n in range(size)))
        return given[-1]

    monkeypatch.setattr("ledger.entropy.os.urandom", urandom)
    draw = Entropy()
    drawn = [draw(16) for _ in range(PIECE_BYTES // 16)]
    assert len(given) == 1
    assert sorted(b"".join(drawn)) == sorted(given[0])
    draw(1)
    assert len(given) == 2


def test_threads_never_get_the_same_bytes() -> None:
    draw = Entropy()
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: draw(16), range(20_000)))
    assert len(set(drawn)) == 20_000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons, with threads
def test_a_forked_process_draws_its_own() -> None:
    draw = Entropy()
    draw(16)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, draw(64))
        os._exit(0)
    theirs = os.read(reading, 64)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 64
    assert draw(64) != theirs
