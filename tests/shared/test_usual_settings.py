"""What mode ``auto`` has where a federation file does not say."""

from typing import Any

import pytest
from pydantic import ValidationError
from tests.shared.test_definition import PRESSES, defined

from plantfed_shared.definition import Algorithm


def test_auto_has_a_penalty_and_a_relaxation_of_its_own_unless_they_are_given():
    def settings(**given: Any) -> tuple[float, float]:
        algorithm = Algorithm.model_validate(given)
        return algorithm.penalty, algorithm.relaxation

    assert settings() == settings(mode="fedapm") == (0.2, 1.0)
    assert settings(mode="auto") == settings(mode="auto", memory=0.0) == (0.18, 1.25)
    assert settings(mode="auto", memory=0.25) == (0.18, 1.0)
    assert settings(mode="auto", penalty=0.2, relaxation=1) == (0.2, 1.0)
    assert settings(mode="auto", memory=0.125, relaxation=1.125) == (0.18, 1.125)


def test_in_another_mode_what_was_usual_is_what_is_usual_there():
    assert Algorithm(epochs=7).in_mode("auto") == Algorithm(mode="auto", epochs=7)
    assert Algorithm(mode="auto", epochs=7).in_mode("fedapm") == Algorithm(epochs=7)
    thin = Algorithm(mode="auto", memory=0.25)
    assert thin.in_mode("fedapm") == Algorithm(memory=0.25)
    own = Algorithm(penalty=3.0, relaxation=0.5)
    assert own.in_mode("auto") == Algorithm(mode="auto", penalty=3.0, relaxation=0.5)
    assert own.unusual().items() >= {"penalty": 3.0, "relaxation": 0.5}.items()
    assert not Algorithm(mode="auto").unusual().keys() & {"penalty", "relaxation"}


@pytest.mark.parametrize(
    ("algorithm", "release_bits", "shift"),
    [
        ({"mode": "auto"}, None, 2),
        ({"mode": "auto"}, 18, 0),
        ({"mode": "auto"}, 10, 8),
        ({"mode": "auto", "relaxation": 1}, None, 0),
        ({"mode": "fedapm", "relaxation": 1.25}, None, 0),
        ({"mode": "fedapm"}, 10, 6),
    ],
)
def test_auto_releases_as_fine_as_what_is_sent(
    algorithm: dict[str, Any], release_bits: int | None, shift: int
):
    personal = [] if algorithm["mode"] == "auto" else ["layer3.*"]
    given = {"algorithm": algorithm, "personal": personal, "release_bits": release_bits}
    lattice = defined(PRESSES, lattice_bits=16, **given).lattice()
    assert lattice.release_shift == shift


def test_coarse_releases_need_no_finest_in_auto():
    auto = {"algorithm": {"mode": "auto"}, "personal": []}
    assert defined(PRESSES, coarsest_release_bits=6, **auto).lattice().coarsest_release_shift == 12
    with pytest.raises(ValidationError, match="coarsest_release_bits 17 is above release_bits"):
        defined(PRESSES, coarsest_release_bits=17, **auto)


def test_a_lattice_too_fine_for_the_usual_relaxation_is_explained():
    auto: dict[str, Any] = {"algorithm": {"mode": "auto"}, "personal": []}
    assert defined(PRESSES, lattice_bits=26, **auto).lattice_bits == 26
    with pytest.raises(ValidationError, match=r"1\.25 = .*lower lattice_bits, or set relaxation"):
        defined(PRESSES, lattice_bits=27, **auto)
    auto["algorithm"]["relaxation"] = 1
    assert defined(PRESSES, lattice_bits=28, **auto).lattice_bits == 28
