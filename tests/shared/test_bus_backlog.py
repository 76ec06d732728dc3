"""What was received and not taken: the reader waits for room, and not for ever."""

import threading

from plantfed_shared.bus.backlog import MESSAGE_BYTES, Backlog


def waits(backlog: Backlog) -> tuple[threading.Thread, list[bool]]:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(backlog.wait_for_room()))
    thread.start()
    return thread, found


def test_the_reader_waits_until_some_is_taken() -> None:
    backlog = Backlog(2 * MESSAGE_BYTES + 2)
    for _ in range(3):
        assert backlog.wait_for_room()
        backlog.add(1)
    thread, found = waits(backlog)
    thread.join(0.05)
    assert found == []
    backlog.taken(1)
    thread.join(10)
    assert found == [True]


def test_nobody_waits_for_one_that_has_ended() -> None:
    backlog = Backlog(0)
    backlog.add(1)
    thread, found = waits(backlog)
    backlog.end()
    thread.join(10)
    assert found == [False]
