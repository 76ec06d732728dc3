"""What an agent fetches, where the order in which messages come is not the order they belong in."""

from dataclasses import replace

import numpy as np
from tests.federation_world import small_definition

from plantfed_agent.desk import Desk
from plantfed_agent.downloads import Downloads, FetchedModel
from plantfed_agent.events import Publish
from plantfed_agent.membership import Link, Membership
from plantfed_agent.pace import Pace
from plantfed_agent.state import AgentState
from plantfed_shared import wire
from plantfed_shared.codec import Coding, encode_model
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Chunk, Epoch, Message, ModelName, ModelOffer, ModelStep, Want
from plantfed_shared.terms import terms_of
from plantfed_shared.topics import Topics
from plantfed_shared.transfer import Blob

TERMS = terms_of(small_definition().to_bytes())
BEFORE, AFTER = Epoch(1, 5), Epoch(2, 6)
MODEL = np.arange(TERMS.lattice.size)
TOPICS = Topics("toy")


def joined_in(epoch: Epoch) -> tuple[Desk, Downloads]:
    """An agent that waits for its first model in an epoch, of which it has the definition."""
    state = AgentState(epoch=epoch, incarnation=1, definition=TERMS.encoded)
    desk = Desk("a", TOPICS, state, Pace())
    desk.offer = ModelOffer(ModelName(epoch, 1, checksum(MODEL)), TERMS.content, False)
    membership = Membership(desk, "test")
    membership.link = Link.JOINED
    return desk, Downloads(desk, membership)


def sent(desk: Desk) -> list[Message]:
    published = [action for action in desk.take_actions() if isinstance(action, Publish)]
    return [wire.decode(p.payload, TOPICS.parse(p.topic).kind).message for p in published]


def whole(epoch: Epoch, k: int) -> tuple[Chunk, memoryview]:
    name = ModelName(epoch, k, checksum(MODEL))
    blob = Blob.of(encode_model(name, MODEL, TERMS.lattice, Coding.ENTROPY))
    chunk = Chunk(content=blob.content, offset=0, step=ModelStep(k, None))
    return chunk, memoryview(blob.encoded)


def test_a_model_that_comes_before_word_of_its_epoch_is_taken_when_it_comes_again() -> None:
    desk, downloads = joined_in(BEFORE)
    downloads.choose(0.0, wants_model=True)
    assert [type(m) for m in sent(desk)] == [Want]
    assert downloads.take_chunk(*whole(AFTER, 2), 1.0) is None
    desk.state = replace(desk.state, epoch=AFTER)
    downloads.choose(2.0, wants_model=True)
    assert [type(m) for m in sent(desk)] == [Want]
    # it is the newest still, so the coordinator can only send the same bytes
    found = downloads.take_chunk(*whole(AFTER, 2), 3.0)
    assert isinstance(found, FetchedModel)
    assert found.integers.tolist() == MODEL.tolist()


def test_a_late_copy_of_what_came_last_is_not_taken_for_the_next() -> None:
    desk, downloads = joined_in(BEFORE)
    downloads.choose(0.0, wants_model=True)
    found = downloads.take_chunk(*whole(BEFORE, 1), 1.0)
    assert isinstance(found, FetchedModel)
    desk.state = replace(desk.state, model=found.integers, model_name=found.name)
    downloads.choose(2.0, wants_model=True)
    assert downloads.take_chunk(*whole(BEFORE, 1), 3.0) is None
    assert isinstance(downloads.take_chunk(*whole(BEFORE, 2), 4.0), FetchedModel)
