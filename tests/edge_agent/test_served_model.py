"""Which model `status`, `predict` and `export` take from an agent's disk."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.federation_world import of_mode, small_definition

from plantfed_agent.agent_store import AgentStore
from plantfed_agent.guard import Check, Guard, ServedModel
from plantfed_agent.settings import AgentSettings, load_agent_settings
from plantfed_agent.state import FIELD_NAMES, AgentState
from plantfed_agent.views import read_status, served_model, served_models
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import ConfigError
from plantfed_shared.lattice import checksum
from plantfed_shared.messages import Epoch, ModelName
from plantfed_shared.own_average import FRACTION_BITS, OwnAverage
from plantfed_shared.parameters import Floats, flatten
from plantfed_shared.terms import terms_of

AUTO = of_mode("auto")
PRIOR, EARLIER_PRIOR = np.float32([0, -2, -5]), np.float32([-4, 0, 0])


def settings(
    folder: Path,
    definition: FederationDefinition,
    guard: Guard | None,
    own_head: Floats | None = None,
) -> AgentSettings:
    (folder / "agent.toml").write_text(
        '[agent]\nid = "press-07"\nfederation = "toy"\n'
        '[broker]\nurl = "mqtt://broker.plant"\n[data]\ntrain = ["*.csv"]\n'
    )
    found = load_agent_settings(folder / "agent.toml")
    terms = terms_of(definition.to_bytes())
    state = AgentState(
        definition=definition.to_bytes(),
        model=terms.initial_model,
        model_name=ModelName(Epoch(1, 2), 9, 0),
        turnovers=512,
        earlier=OwnAverage((terms.initial_model + 128) << FRACTION_BITS, 256),
        prior=PRIOR,
        own_head=own_head,
        guard=guard,
    )
    with closing(AgentStore(found.agent.state_dir)) as store:
        store.persist(state, frozenset(FIELD_NAMES), {})
    return found


def kept(definition: FederationDefinition) -> Guard:
    n_shared = definition.lattice().size
    model = ServedModel("release 4", np.full(n_shared, 0.25, np.float32), None, EARLIER_PRIOR)
    check = Check("release 7", "release 4", 60, 0.25, 0.1, tripped=True)
    return Guard(model, "rows", np.uint32([1]), tripped_on=np.uint32([5]), check=check)


def last_bias(parameters: list[np.ndarray]) -> list[float]:
    return [float(b) for b in parameters[-1]]


def test_a_tripped_guard_decides_with_all_that_it_has_kept(tmp_path: Path) -> None:
    agent = settings(tmp_path, AUTO, kept(AUTO))
    own, bare = served_models(agent)
    assert own.name == "toy release 4"
    assert bare is not None
    assert last_bias(own.parameters) == pytest.approx([0.25 - 4, 0.25, 0.25])
    assert last_bias(bare.parameters) == [0.25] * 3
    assert (flatten(own.parameters[:-1]) == 0.25).all()
    status = read_status(agent)
    assert status.guard == "tripped: release 4 is used; 0 of 50 new rows"
    assert status.uses == "release 4"
    assert status.guard_check == (
        "release 7 refused: error +0.25 against release 4 on 60 new rows, noise 0.1"
    )


def test_otherwise_the_newest_is_used_with_its_prior(tmp_path: Path) -> None:
    agent = settings(tmp_path, AUTO, replace(kept(AUTO), tripped_on=None))
    own = served_model(agent)
    assert own.name == "toy average up to release 9"
    (bare, other) = served_models(agent, uniform=True)
    assert other is not None
    assert last_bias(other.parameters) == last_bias(own.parameters)
    difference = np.subtract(last_bias(own.parameters), last_bias(bare.parameters))
    assert difference.tolist() == pytest.approx(PRIOR.tolist())
    status = read_status(agent)
    assert status.guard == "off: 0 of 50 new rows"
    average = terms_of(AUTO.to_bytes()).initial_model + 64
    assert status.uses == f"average up to release 9, checksum {checksum(average):016x}"


def test_a_last_layer_of_its_own_is_used_with_the_prior_and_with_what_a_guard_has_kept(
    tmp_path: Path,
) -> None:
    own_head = np.arange(9, dtype=np.float32)
    agent = settings(tmp_path, AUTO, None, own_head)
    own, bare = served_models(agent)
    assert bare is not None
    assert flatten(bare.parameters[-2:]).tolist() == own_head.tolist()
    assert last_bias(own.parameters) == (own_head[-3:] + PRIOR).tolist()
    assert own.parameters[0].any()
    assert read_status(agent).own_head
    earlier = kept(AUTO)
    for its_own, expected in ((None, [0.25 - 4, 0.25, 0.25]), (own_head + 1, [7 - 4, 8, 9])):
        guard = replace(earlier, kept=replace(earlier.kept, own_head=its_own))
        used = served_model(settings(tmp_path, AUTO, guard, own_head))
        assert last_bias(used.parameters) == pytest.approx(expected)


def test_other_modes_have_no_other_prior(tmp_path: Path) -> None:
    agent = settings(tmp_path, small_definition(), None)
    assert served_models(agent)[1] is None
    with pytest.raises(ConfigError, match=r"toy: --prior uniform: there is no class prior in mode"):
        served_models(agent, uniform=True)
    assert read_status(agent).guard == "off: no training yet"
