"""What agents fetch: each step between two models is encoded once, and always to the same bytes."""

from typing import Any

import numpy as np
import pytest
from tests.federation_world import small_definition

from plantfed_coordinator import contents as contents_module
from plantfed_coordinator.contents import DUALS_KEPT, Contents
from plantfed_coordinator.records import Applied, EpochStarted, Joined, Released, Served
from plantfed_coordinator.snapshot import from_rows, to_rows
from plantfed_coordinator.state import FederationState
from plantfed_shared.codec import Coding, decode_integers, decode_model, encode_integers
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import MAX_MAGNITUDE, checksum
from plantfed_shared.messages import Epoch, ModelName, ModelStep
from plantfed_shared.transfer import Blob

EPOCH = Epoch(1, 5)
AGENTS = ("a", "b", "c", "d", "e", "f")


def founded(**changes: Any) -> FederationState:
    changes = {"compression": {"coding": "entropy"}, **changes}
    definition = small_definition(**changes).to_bytes()
    state = FederationState.begin(EpochStarted(EPOCH, 0, definition, "created"))
    for agent in AGENTS:
        state.apply(Joined(agent, 1))
    return state


def update(state: FederationState, agent: str, scale: int = 1) -> None:
    seq = state.members[agent].last_seq + 1
    change = scale * np.random.default_rng([seq, *agent.encode()]).integers(
        -99, 100, state.terms.lattice.size
    )
    encoded = encode_integers(change, state.terms.lattice, Coding.ENTROPY)
    state.apply(Applied(agent, 1, seq, 9, state.k, 1, None, encoded))


def released(n: int, **changes: Any) -> FederationState:
    """With n releases; a member each has stayed behind at one of the versions before."""
    state = founded(**changes)
    for number in range(n):
        update(state, "a")
        state.apply(Released(state.k + 1, checksum(state.next_model())))
        for agent in AGENTS[: len(AGENTS) - 1 - number]:
            state.apply(Served(agent, state.k))
    return state


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[ModelName]:
    """The models that were encoded, in order."""
    made: list[ModelName] = []
    encode = contents_module.encode_model

    def counted(name: ModelName, *rest: Any) -> bytes:
        made.append(name)
        return encode(name, *rest)

    monkeypatch.setattr(contents_module, "encode_model", counted)
    return made


def received(state: FederationState, blob: Blob) -> np.ndarray:
    found = decode_model(blob.encoded, state.terms.lattice)
    base_k = found.step.base_k
    return found.model(None if base_k is None else state.versions[base_k])


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize("coding", Coding)
def test_every_step_leads_to_the_model_it_names(coding: Coding) -> None:
    state, contents = released(3, compression={"coding": coding}), Contents()
    assert sorted(state.versions) == [0, 1, 2, 3]
    for k in state.versions:
        for base_k in (None, *state.versions):
            blob = contents.step(state, ModelStep(k, base_k))
            found = decode_model(blob.encoded, state.terms.lattice)
            assert found.name == state.name(k)
            assert found.name == ModelName(EPOCH, k, checksum(state.versions[k]))
            # plain, a difference is as long as the whole
            assert found.step.base_k == (base_k if coding is Coding.ENTROPY else None)
            assert blob.content.digest == content_digest(blob.encoded)
            assert received(state, blob).tolist() == state.versions[k].tolist()


def test_a_step_is_encoded_once_for_all(encodings: list[ModelName]) -> None:
    state, contents = released(2), Contents()
    blobs = {id(contents.step(state, ModelStep(2, base_k))) for base_k in (0, 1, None) * 3}
    assert len(blobs) == len(encodings) == 3
    for step in (ModelStep(2, 0), ModelStep(2, 1), ModelStep(2, None)):
        blob = contents.step(state, step)
        assert contents.step_with(state, blob.content.digest, step) == (step, blob)
        # who has only its first bytes cannot say what it is, and need not
        assert contents.step_with(state, blob.content.digest, None) == (step, blob)
    assert len(encodings) == 3


def test_after_a_restart_a_step_is_made_again_with_the_same_digest(
    encodings: list[ModelName],
) -> None:
    state = released(2)
    before = Contents().step(state, ModelStep(2, 0))
    restarted, anew = from_rows(to_rows(state)), Contents()
    assert anew.step_with(restarted, before.content.digest, None) is None
    assert anew.step_with(restarted, before.content.digest, ModelStep(2, 0)) == (
        ModelStep(2, 0),
        before,
    )
    assert len(encodings) == 2


@pytest.mark.parametrize("claimed", [ModelStep(2, 1), ModelStep(2, None), ModelStep(1, 0)])
def test_another_step_than_claimed_is_not_served(claimed: ModelStep) -> None:
    state = released(2)
    digest = Contents().step(state, ModelStep(2, 0)).content.digest
    assert Contents().step_with(state, digest, claimed) is None


@pytest.mark.parametrize("claimed", [ModelStep(9, None), ModelStep(2, 9), ModelStep(9, 0)])
def test_a_step_from_or_to_what_is_gone_is_not_served(claimed: ModelStep) -> None:
    assert Contents().step_with(released(2), bytes(16), claimed) is None


def test_a_step_whose_base_was_let_go_is_not_served_though_it_was_encoded() -> None:
    """The member that has the base is what keeps it: who has none could do nothing with it."""
    state, contents = released(1), Contents()
    digest = contents.step(state, ModelStep(1, 0)).content.digest
    for agent in AGENTS:
        state.apply(Served(agent, 1))
    assert sorted(state.versions) == [1]
    assert contents.step_with(state, digest, ModelStep(1, 0)) is None


def test_what_is_kept_of_steps_is_bounded(
    encodings: list[ModelName], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least recently used goes; what is asked for again is made again, to the same bytes."""
    state, contents = released(4), Contents()
    steps = [ModelStep(k, base_k) for k in range(5) for base_k in range(5) if k != base_k]
    sizes = {step: Contents().step(state, step).content.size for step in steps}
    monkeypatch.setattr(contents_module, "STEPS_KEPT_BYTES", 3 * max(sizes.values()))
    encodings.clear()
    first = contents.step(state, steps[0])
    for step in steps[1:]:
        contents.step(state, step)
        contents.step(state, steps[0])
        assert sum(b.content.size for b in contents._steps.values()) == contents._steps_bytes
        assert contents._steps_bytes <= contents_module.STEPS_KEPT_BYTES
        assert set(contents._step_of.values()) == set(contents._steps)
    assert len(encodings) == len(steps)
    assert contents.step(state, steps[0]) is first
    digest = Contents().step(state, steps[1]).content.digest
    encodings.clear()
    assert contents.step_with(state, digest, None) is None
    assert contents.step_with(state, digest, steps[1]) is not None
    assert len(encodings) == 1


def test_one_step_is_kept_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_module, "STEPS_KEPT_BYTES", 1)
    state, contents = released(1), Contents()
    blob = contents.step(state, ModelStep(1, 0))
    assert contents.step_with(state, blob.content.digest, None) == (ModelStep(1, 0), blob)


def test_a_difference_that_is_no_number_of_the_lattice_is_sent_whole() -> None:
    state, contents = released(1), Contents()
    state.versions[0] = np.full_like(state.model, MAX_MAGNITUDE - 1)
    state.versions[1] = -state.versions[0]
    blob = contents.step(state, ModelStep(1, 0))
    assert decode_model(blob.encoded, state.terms.lattice).step == ModelStep(1, None)
    assert received(state, blob).tolist() == state.versions[1].tolist()


def test_a_new_epoch_forgets_all_steps_and_names() -> None:
    state, contents = released(2), Contents()
    old = contents.step(state, ModelStep(2, None))
    state.apply(EpochStarted(Epoch(2, 6), 2, state.terms.encoded, "restored"))
    assert state.name(2).epoch == Epoch(2, 6)
    assert contents.step_with(state, old.content.digest, None) is None
    assert contents.step(state, ModelStep(2, None)).content.digest != old.content.digest


def test_names_are_kept_only_of_versions_that_are() -> None:
    state = released(2)
    assert [state.name(k).k for k in (0, 1, 2)] == [0, 1, 2]
    for agent in AGENTS:
        state.apply(Served(agent, 2))
    assert set(state._names) == {2}


# ---------------------------------------------------------------- definition and duals


def test_the_definition_and_ones_own_dual_are_to_be_had() -> None:
    state, contents = released(1), Contents()
    definition = contents.other(state, "b", state.terms.digest)
    assert definition == Blob(state.terms.content, state.terms.encoded)
    own = contents.dual(state, "a")
    assert own is not None
    dual = decode_integers(own.encoded, state.terms.lattice)
    assert dual.tolist() == state.members["a"].contribution.dual.tolist()
    assert contents.other(state, "a", own.content.digest) is own
    assert contents.other(state, "b", own.content.digest) is None
    assert contents.dual(state, "b") is None


def test_the_duals_fetched_last_are_kept_encoded() -> None:
    state, contents = founded(), Contents()
    for agent in AGENTS:
        update(state, agent)
    blobs = {agent: contents.dual(state, agent) for agent in AGENTS}
    kept = AGENTS[-DUALS_KEPT:]
    assert all(contents.dual(state, agent) is blobs[agent] for agent in kept)
    assert contents.dual(state, AGENTS[0]) is not blobs[AGENTS[0]]
    update(state, kept[-1])
    assert contents.dual(state, kept[-1]) != blobs[kept[-1]]
