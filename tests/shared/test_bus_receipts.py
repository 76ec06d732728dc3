"""Which packet id acknowledges which received message."""

from plantfed_shared.bus.receipts import Receipts


def test_a_token_acknowledges_once() -> None:
    receipts = Receipts()
    receipts.note(token=1, packet_id=7)
    assert receipts.take(1) == 7
    assert receipts.take(1) == 0


def test_qos_0_needs_none() -> None:
    receipts = Receipts()
    receipts.note(token=1, packet_id=0)
    receipts.note(token=2, packet_id=0)
    assert receipts.take(1) == receipts.take(2) == 0


def test_a_second_copy_takes_over_from_the_first() -> None:
    receipts = Receipts()
    receipts.note(token=1, packet_id=7)
    receipts.note(token=2, packet_id=7)
    assert receipts.take(1) == 0
    assert receipts.take(2) == 7


def test_a_packet_id_used_again_belongs_to_the_new_message() -> None:
    receipts = Receipts()
    receipts.note(token=1, packet_id=7)
    assert receipts.take(1) == 7
    receipts.note(token=2, packet_id=7)
    assert receipts.take(1) == 0
    assert receipts.take(2) == 7


def test_an_ended_connection_leaves_nothing() -> None:
    receipts = Receipts()
    receipts.note(token=1, packet_id=7)
    receipts.clear()
    receipts.note(token=2, packet_id=7)
    assert receipts.take(1) == 0
    assert receipts.take(2) == 7
