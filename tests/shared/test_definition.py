"""The definition of a federation: its bytes, what it refuses, and what follows from it."""

from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.federation_world import small_definition

from plantfed_shared.definition import (
    Algorithm,
    DenseModel,
    FederationDefinition,
    Mode,
)
from plantfed_shared.digest import content_digest
from plantfed_shared.lattice import Relaxation

PRESSES: dict[str, Any] = {
    "federation": "presses",
    "model": {"hidden": [5, 4]},
    "loss": {"kind": "cross-entropy"},
    "personal": ["layer3.*"],
    "inputs": [{"name": "force", "unit": "kN", "centre": 20, "scale": 4}, {"name": "travel"}],
    "classes": ["good", "bad"],
}
OVENS: dict[str, Any] = {
    "federation": "ovens",
    "model": {"hidden": []},
    "loss": {"kind": "huber", "delta": 0.5},
    "inputs": [{"name": "power", "clip": 3}],
    "targets": [{"name": "temperature", "unit": "K", "centre": 300, "scale": 20}],
}


def defined(document: dict[str, Any], **changes: Any) -> FederationDefinition:
    return FederationDefinition.model_validate(document | changes)


positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
non_negative = st.floats(min_value=0, allow_infinity=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1, max_size=200)
columns = st.fixed_dictionaries(
    {"name": names, "unit": st.text(max_size=5), "centre": finite, "scale": positive},
    optional={"clip": st.none() | positive},
)


def distinct_columns(min_size: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(columns, min_size=min_size, max_size=3, unique_by=lambda c: c["name"])


algorithms = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["fedapm", "fedalt", "fedsim"]),
        "learning_rate": positive,
        "weight_decay": non_negative,
        "penalty": positive,
        "head_proximal": non_negative,
        "proximal": non_negative,
        "server_step": st.floats(2**-16, 1),
        "staleness_exponent": st.floats(0, 10),
        "epochs": st.integers(1, 1000),
        "batch": st.integers(1, 2**20),
        "relaxation": st.sampled_from([0.5, 1.0, 1.625]),
        "memory": st.floats(0, 0.125),
        "weighting": st.sampled_from(["equal", "rows"]),
        "max_norm": st.none() | positive,
    },
)
schedules = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["async", "sync"]),
        "arrivals": st.integers(0, 2**40),
        "release_after_s": positive,
        "participation": st.floats(0, 1, exclude_min=True),
        "max_releases": st.none() | st.integers(1, 2**40),
        "seed": st.integers(0, 2**31 - 1),
    },
)
compressions = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["dense", "top-k"]),
        "bits": st.sampled_from([4, 8]),
        "keep": st.floats(0, 0.1, exclude_min=True),
        "keep_at_most": st.floats(0.1, 1),
        "coding": st.sampled_from(["entropy", "plain"]),
    },
)
settings_parts = {
    "federation": names,
    "model": st.fixed_dictionaries(
        {"hidden": st.lists(st.integers(1, 9), max_size=3)},
        optional={"seed": st.integers(0, 2**32 - 1), "activation": st.just("tanh")},
    ),
    "inputs": distinct_columns(1),
    "window": st.fixed_dictionaries({"rows": st.integers(1, 9), "step": st.integers(1, 9)}),
    "algorithm": algorithms,
    "schedule": schedules,
    "lattice_bits": st.integers(4, 20),  # with the finest relaxation 28
    "release_bits": st.none() | st.integers(1, 4),
    "compression": compressions,
}
classifiers = st.fixed_dictionaries(
    {
        **settings_parts,
        "loss": st.just({"kind": "cross-entropy"}),
        "classes": st.lists(names, min_size=2, max_size=4, unique=True),
        "personal": st.sampled_from([[], ["layer1.bias"], ["layer1.w*"]]),
    }
)
regressors = st.fixed_dictionaries(
    {
        **settings_parts,
        "loss": st.fixed_dictionaries(
            {"kind": st.sampled_from(["mse", "huber"]), "delta": positive}
        ),
        "targets": distinct_columns(1),
    }
)


@given(classifiers | regressors)
def test_a_definition_comes_back_from_its_bytes(document):
    definition = FederationDefinition.model_validate(document)
    encoded = definition.to_bytes()
    again = FederationDefinition.from_bytes(encoded)
    assert again == definition
    # what an agent received has the digest the coordinator announced
    assert again.to_bytes() == encoded


def test_equal_definitions_have_equal_bytes():
    spelled_out = defined(PRESSES, window={"step": 1, "rows": 1}, lattice_bits=16, targets=[])
    assert spelled_out == defined(dict(reversed(PRESSES.items())))
    assert spelled_out.to_bytes() == defined(PRESSES).to_bytes()


@given(st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"federation":' * 50_000)
@example(b"9" * 100_000)
@example(b"")
def test_other_bytes_are_refused_with_a_value_error(encoded):
    with pytest.raises(ValueError, match="FederationDefinition"):
        FederationDefinition.from_bytes(encoded)


@pytest.mark.parametrize(
    "change",
    [
        {"federation": "punches"},
        {"model": {"hidden": [5]}, "personal": []},
        {"model": {"hidden": [5, 4], "seed": 1}},
        {"loss": {"kind": "cross-entropy", "delta": 2}},
        {"personal": []},
        {"inputs": PRESSES["inputs"][:1]},
        {"inputs": PRESSES["inputs"][::-1]},
        {"classes": ["bad", "good"]},
        {"window": {"rows": 2}},
    ],
)
def test_structure_names_what_may_never_change(change):
    assert defined(PRESSES, **change).structure() != defined(PRESSES).structure()


def test_settings_are_no_part_of_the_structure():
    for change in (
        {"algorithm": {"penalty": 1}},
        {"schedule": {"arrivals": 3}},
        {"compression": {"kind": "top-k", "bits": 8, "keep": 0.5, "keep_at_most": 1}},
        {"compression": {"coding": "plain"}},
        {"compression": {"kind": "low-rank", "bits": 3, "keep": 0.1, "keep_at_most": 0.2}},
        {"release_bits": 8, "coarsest_release_bits": 6},
        {"schedule": {"pace": 0.7}},
        {"lattice_bits": 9},
        {"release_bits": 9},
    ):
        edited = defined(PRESSES, **change)
        assert edited.to_bytes() != defined(PRESSES).to_bytes()
        assert edited.structure() == defined(PRESSES).structure()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"classes": []}, "at least 2 classes"),
        ({"classes": ["good"]}, "at least 2 classes"),
        ({"targets": [{"name": "t"}]}, "no targets"),
        ({"loss": {"kind": "mse"}}, "no classes"),
        ({"loss": {"kind": "mse"}, "classes": []}, "at least 1 target"),
        ({"loss": {"kind": "l2"}}, "loss.kind"),
        ({"classes": ["good", "good"]}, "classes: 'good' appears twice"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "a"}, {"name": "a"}]}, "inputs: 'a' appears twice"),
        ({"inputs": [{"name": ""}]}, "name"),
        ({"inputs": [{"name": "a", "scale": 0}]}, "scale"),
        ({"inputs": [{"name": "a", "centre": float("nan")}]}, "centre"),
        ({"inputs": [{"name": "a", "clip": -1}]}, "clip"),
        ({"personal": ["head.*"]}, "matches no parameter"),
        ({"personal": ["*"]}, "nothing is left to share"),
        ({"model": {"hidden": [0]}}, "hidden"),
        ({"model": {"hidden": [1] * 65}}, "hidden"),
        ({"model": {"hidden": [], "seed": -1}}, "seed"),
        ({"window": {"rows": 0}}, "rows"),
        ({"algorithm": {"learning_rate": float("inf")}}, "learning_rate"),
        ({"algorithm": {"relaxation": 1.6}}, "1.6 is not p/2"),
        ({"algorithm": {"relaxation": 1.3333}}, "nearest that is: 1.33203125"),
        ({"algorithm": {"relaxation": 1e-9}}, "nearest that is: 0.00390625"),
        ({"algorithm": {"memory": 1}}, "memory"),
        # 2^30 transmission units times this would wrap
        ({"algorithm": {"mode": "fedalt", "relaxation": 2.0**40}}, "relaxation"),
        ({"algorithm": {"mode": "fedbuff", "server_step": 2.0**-18}}, "server_step"),
        ({"schedule": {"participation": 0}}, "participation"),
        ({"lattice_bits": 3}, "lattice_bits"),
        ({"lattice_bits": 29}, "lattice_bits"),
        ({"release_bits": 0}, "release_bits"),
        ({"release_bits": 17}, "release_bits 17 is finer than the lattice, which has 16 bits"),
        ({"release_bits": 17}, "lower it or leave it out"),
        ({"compression": {"kind": "sparse"}}, "compression.kind"),
        ({"compression": {"bits": 2}}, "compression.bits"),
        ({"compression": {"kind": "low-rank", "coding": "plain"}}, '"plain" has no form'),
        ({"coarsest_release_bits": 6}, "set release_bits to 6 or more"),
        ({"release_bits": 8, "coarsest_release_bits": 9}, "set release_bits to 9 or more"),
        ({"schedule": {"pace": 1.0}}, "schedule.pace"),
        ({"compression": {"keep": 0}}, "compression.keep"),
        ({"compression": {"keep": 1.5, "keep_at_most": 1}}, "compression.keep"),
        ({"compression": {"keep_at_most": 2}}, "compression.keep_at_most"),
        ({"compression": {"keep_at_most": 0.01}}, "keep 0.02 is above keep_at_most 0.01"),
        ({"compression": {"keep": float("nan")}}, "compression.keep"),
        ({"compression": {"coding": "gzip"}}, "compression.coding"),
        ({"compression": {"level": 1}}, "compression.level"),
        ({"colour": "blue"}, "colour"),
        ({"algorithm": {"rho": 0.2}}, "rho"),
    ],
)
def test_what_makes_no_sense_is_refused(change, complaint):
    with pytest.raises(ValidationError) as refusal:
        defined(PRESSES, **change)
    assert complaint in str(refusal.value)


def test_repeated_targets_are_refused():
    with pytest.raises(ValidationError, match="targets: 't' appears twice"):
        defined(OVENS, targets=[{"name": "t"}, {"name": "t"}])


def test_a_definition_is_immutable():
    definition = defined(PRESSES)
    with pytest.raises(ValidationError, match="frozen"):
        definition.lattice_bits = 9
    with pytest.raises(ValidationError, match="frozen"):
        definition.algorithm.penalty = 1


def test_what_follows_from_a_definition():
    definition = defined(PRESSES, window={"rows": 3}, algorithm={"relaxation": 1.5})
    assert (definition.n_inputs, definition.n_outputs) == (6, 2)
    assert definition.layer_shapes() == [(6, 5), (5, 4), (4, 2)]
    specification = definition.parameter_specification()
    shapes = {p.name: p.shape for p in specification.parameters}
    assert shapes == {
        "layer1.weight": (6, 5),
        "layer1.bias": (5,),
        "layer2.weight": (5, 4),
        "layer2.bias": (4,),
        "layer3.weight": (4, 2),
        "layer3.bias": (2,),
    }
    lattice = definition.lattice()
    assert lattice.sizes == (30, 5, 20, 4)
    assert lattice.bits == (16,) * 4
    assert lattice.relaxation == Relaxation(3, 1)
    assert defined(OVENS).layer_shapes() == [(1, 1)]


def test_fedapm_and_auto_have_duals():
    with_duals = [mode for mode in get_args(Mode) if Algorithm(mode=mode).has_duals]
    assert with_duals == ["fedapm", "auto"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"algorithm": {"mode": "fedavg"}}, "fedavg has one model for all: personal must be empty"),
        ({"algorithm": {"mode": "fedprox"}}, "fedprox has one model"),
        ({"algorithm": {"mode": "auto"}}, 'for heads of their own choose mode = "fedapm"'),
        ({"algorithm": {"mode": "local"}}, "local shares nothing"),
        ({"personal": ["*"]}, "nothing is left to share"),
        ({"algorithm": {"mode": "fedbuff"}, "schedule": {"kind": "sync"}}, "fedbuff has no rounds"),
        ({"algorithm": {"mode": "fedasync"}, "schedule": {"kind": "sync"}}, "fedasync has no"),
        ({"algorithm": {"mode": "fedasync", "server_step": 1.5}}, "server_step 1.5 is above 1"),
        ({"algorithm": {"mode": "fedbuff", "weighting": "rows"}}, 'weighting = "equal"'),
        ({"algorithm": {"memory": 1.0}}, "relaxation / .1 - memory. is inf"),
        ({"model": {"hidden": [4, 2], "activation": ["tanh"]}}, "1 functions for 2 hidden layers"),
    ],
)
def test_what_a_mode_cannot_do_is_refused(changes: dict[str, Any], what: str) -> None:
    document = {
        "federation": "f",
        "model": {"hidden": [4]},
        "loss": {"kind": "cross-entropy"},
        "personal": ["layer2.*"],
        "inputs": [{"name": "a"}],
        "classes": ["x", "y"],
    }
    if "model" in changes:
        document["personal"] = ["layer3.*"]
    with pytest.raises(ValidationError, match=what):
        FederationDefinition.model_validate(document | changes)


def test_a_mode_without_duals_bears_plain_error_feedback():
    assert Algorithm(mode="fedbuff", memory=1.0, relaxation=4.0).memory == 1.0


def test_each_hidden_layer_may_have_its_own_activation():
    assert DenseModel(hidden=(4, 2), activation="tanh").activations == ("tanh", "tanh")
    assert DenseModel(hidden=(4, 2), activation=("relu", "tanh")).activations == ("relu", "tanh")


# ---------------------------------------------------------------- I9


def is_accepted(relaxation: float, memory: float) -> bool:
    try:
        Algorithm(relaxation=relaxation, memory=memory)
    except ValidationError:
        return False
    return True


def test_a_gain_above_2_is_explained():
    with pytest.raises(ValidationError, match=r"is 2\.5; above 2 fedapm diverges, lower one"):
        Algorithm(relaxation=1.25, memory=0.5)


def test_in_auto_a_gain_above_4_thirds_is_too_much():
    Algorithm(mode="auto", memory=0.25)
    Algorithm(mode="auto", relaxation=1.25)
    with pytest.raises(ValidationError, match=r"is 1\.42222; above 4/3 auto diverges, lower one"):
        Algorithm(mode="auto", memory=0.296875)
    with pytest.raises(ValidationError, match=r"is 1\.5; above 4/3 auto diverges, lower one"):
        Algorithm(mode="auto", relaxation=1.5)


@given(st.integers(1, 1024), st.integers(0, 255))
@example(512, 0)
@example(256, 128)
@example(257, 128)
@example(1, 255)
@example(3, 255)
def test_a_gain_above_2_is_refused(p, memory_256ths):
    relaxation, memory = Fraction(p, 256), Fraction(memory_256ths, 256)
    allowed = relaxation / (1 - memory) <= 2
    assert is_accepted(float(relaxation), float(memory)) == allowed


@given(st.integers(1, 512), st.floats(0, 1, exclude_max=True))
def test_a_gain_above_2_is_refused_for_every_memory(p, memory):
    gain = Fraction(p, 256) / (1 - Fraction(memory))
    if abs(gain - 2) > Fraction(1, 10**9):
        assert is_accepted(p / 256, memory) == (gain < 2)


def test_digests_are_blake2b():
    # RFC 7693 with nn = 16, as b2sum -l 128 prints it
    assert content_digest(b"").hex() == "cae66941d9efbd404e4d88758ea67670"
    assert content_digest(b"a") != content_digest(b"b")


def test_a_lattice_finer_than_the_numbers_can_hold_is_refused():
    document = small_definition().model_dump()
    document |= {"lattice_bits": 28, "algorithm": {"relaxation": 257 / 256}}
    with pytest.raises(ValidationError, match=r"lattice_bits 28 with relaxation .* = p/2\^8"):
        FederationDefinition.model_validate(document)


def test_a_model_that_could_not_be_transferred_is_refused():
    document = small_definition().model_dump()
    document |= {"model": {"hidden": [65536, 65536]}}
    with pytest.raises(ValidationError, match="parameters; at most"):
        FederationDefinition.model_validate(document)


@pytest.mark.parametrize(
    ("lattice_bits", "relaxation", "release_bits", "shift"),
    [(16, 1.0, None, 0), (16, 1.0, 16, 0), (16, 1.0, 10, 6), (16, 1.625, 19, 0), (9, 1.5, 1, 9)],
)
def test_how_much_coarser_a_release_is_than_the_lattice(
    lattice_bits, relaxation, release_bits, shift
):
    """In lattice units, which the shift of the relaxation makes finer."""
    algorithm = {"relaxation": relaxation}
    definition = defined(
        PRESSES, algorithm=algorithm, lattice_bits=lattice_bits, release_bits=release_bits
    )
    lattice = definition.lattice()
    assert lattice.release_shift == shift
    one_step = lattice.to_floats(np.full(lattice.size, 1 << shift))
    if release_bits is not None:
        assert (one_step == 2.0**-release_bits).all()


def test_a_definition_without_a_word_of_compression_sends_everything():
    definition = defined(PRESSES)
    assert (definition.compression.kind, definition.release_bits) == ("dense", None)
