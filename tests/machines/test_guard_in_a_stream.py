"""Guards of real machines under a virtual clock, with real rounds on rows that keep coming."""

from tests.machines.streams import WATCHED, Stream


def test_it_trips_keeps_the_better_model_and_recovers() -> None:
    """The other machines are told wrong answers for 300 s, and with them the model of all."""
    stream = Stream("fedavg", wrong=(400, 700))
    accuracy: dict[float, tuple[float, float]] = {}
    tripped: list[float] = []
    for now in stream.run(950):
        accuracy[now] = stream.accuracy(used=True), stream.accuracy(used=False)
        if stream.guard.tripped:
            tripped.append(now)
        if tripped == [now]:
            # which model is used does not depend on what is in memory
            stream.world.agents[WATCHED].crash()
            stream.world.agents[WATCHED].start()
    assert 400 < tripped[0] <= 650
    assert tripped[-1] < 900
    assert len(tripped) == (tripped[-1] - tripped[0]) / 50 + 1
    for now in tripped:
        used, newest = accuracy[now]
        assert used > 0.95
        assert newest < 0.7 or now > 700
    assert min(accuracy[950]) > 0.95
    first, last = stream.log_lines()
    assert first.startswith("the guard has tripped")
    assert last.startswith("the guard has recovered")


def test_noise_does_not_trip_it() -> None:
    """Two fifths of all answers are drawn at random; nothing else ever goes wrong."""
    stream = Stream("auto", noise=0.4)
    confirmed = set()
    for _ in stream.run(800):
        confirmed.add(stream.guard.kept.name)
        assert not stream.guard.tripped
    assert len(confirmed) > 4
    assert stream.log_lines() == []
    assert stream.accuracy(used=True) > 0.9


def test_in_mode_auto_a_last_layer_of_its_own_takes_over_and_ends_with_the_cause() -> None:
    """The guard keeps the better model until it has come, and again until it has gone."""
    stream = Stream("auto", wrong=(400, 700))
    tripped: list[float] = []
    own: list[float] = []
    for now in stream.run(1000):
        if stream.guard.tripped:
            tripped.append(now)
            assert stream.accuracy(used=True) > 0.95
        if stream.world.agents[WATCHED].disk.own_head is not None and now > 400:
            own.append(now)
    assert 400 < tripped[0] < 900
    assert 400 < own[0] < 700 < own[-1] < 900
    assert stream.accuracy(used=True) > 0.95
    assert not stream.guard.tripped
    first, *_, last = stream.log_lines()
    assert first.startswith("the guard has tripped")
    assert last.startswith("the guard has recovered")
