"""Federation files whose [model] names an artefact, and what is refused of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.compiled_federations import federation, write_federation
from tests.compiler.networks import Net, model
from tests.compiler.test_against_torch import compiled

from plantfed_compiler.compiling import Options, compile_model
from plantfed_coordinator.federation_file import load_federation
from plantfed_coordinator.record_rows import from_row, to_row
from plantfed_coordinator.records import EpochStarted
from plantfed_coordinator.state import FederationState
from plantfed_shared.artefact import Artefact
from plantfed_shared.definition import FederationDefinition
from plantfed_shared.errors import PlantfedError
from plantfed_shared.messages import Epoch
from plantfed_shared.model_manifest import LossOfModel
from plantfed_shared.parameters import flatten
from plantfed_shared.section import MAX_ARTEFACT_BYTES

EXAMPLE = Path(__file__).parents[2] / "coordinator" / "federation.example.toml"


def test_the_definition_holds_digest_size_and_shapes_of_the_artefact(tmp_path):
    made = federation(tmp_path)
    model = made.definition.model
    content = made.artefact.content
    assert (model.digest, model.size) == (content.digest.hex(), content.size)
    assert (model.input_shape, model.output_shape, model.layout) == ((3, 16), (3,), "columns")
    assert made.definition.loss.kind == "cross-entropy"
    encoded = made.definition.to_bytes()
    assert FederationDefinition.from_bytes(encoded) == made.definition
    assert b"model.pfm" not in encoded


def test_a_file_without_a_mode_is_auto_unless_it_has_a_head(tmp_path):
    path = tmp_path / "federation.toml"
    text = EXAMPLE.read_text(encoding="utf-8").replace('mode = "auto"', "")
    for personal, expected in (("", "auto"), ('personal = ["layer2.*"]', "fedapm")):
        path.write_text(f"{personal}\n{text}", encoding="utf-8")
        assert load_federation(path).definition.algorithm.mode == expected
    compiled_file = write_federation(tmp_path, "mlp", None)
    definition = load_federation(compiled_file).definition
    assert definition.algorithm.mode == ("fedapm" if definition.personal else "auto")


def test_auto_needs_outputs_with_a_bias_where_there_are_classes(tmp_path):
    path = write_federation(tmp_path, "mlp", "auto")
    assert load_federation(path).definition.algorithm.has_prior
    network = tmp_path / "network.onnx"
    without = Net("y = MatMul(a, last)", (9,), {"last": (9, 3)})
    network.write_bytes(model(without).SerializeToString())
    made = compile_model(network, Options(loss=LossOfModel(kind="cross-entropy")))
    (tmp_path / "model.pfm").write_bytes(made.artefact.to_bytes())
    with pytest.raises(
        PlantfedError, match=r"model\.pfm: ends without a bias, and algorithm\.mode"
    ):
        load_federation(path)
    path.write_text(path.read_text().replace('"auto"', '"fedavg"'))
    assert load_federation(path).definition.classes


def test_a_federation_begins_with_the_weights_of_its_artefact_also_after_a_replay(tmp_path):
    made = federation(tmp_path)
    record = EpochStarted(Epoch(1, 2), 0, made.definition.to_bytes(), "created", made.initial)
    assert from_row(to_row(record)) == record
    state = FederationState.begin(record)
    values = Artefact.from_bytes(made.artefact.encoded).initial()
    shared = [values[p.name] for p in made.definition.parameter_specification().shared]
    found = state.terms.lattice.to_floats(state.model)
    np.testing.assert_allclose(found, flatten(shared), atol=2**-17)


@pytest.mark.parametrize(
    ("mode", "n_personal"), [("fedapm", 2), ("fedavg", 0), ("local", 6), ("fedbuff", 2)]
)
def test_what_is_personal_follows_the_artefact_or_the_mode(mode, n_personal, tmp_path):
    made = federation(tmp_path, mode=mode)
    assert len(made.definition.parameter_specification().personal) == n_personal


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("rows = 16", "rows = 8", r"takes 3 x 16 = 48 numbers, but 8 rows of 3 inputs are 24"),
        ('"blue"', '"blue", "pink"', r"outputs of shape \(3,\), but there are 4 classes"),
        ("[window]", 'personal = ["0.*"]\n[window]', r"unknown key"),
        ('federation = "toy"', 'federation = "toy"\npersonal = ["0.*"]', r"compile it with other"),
        ("[window]", '[loss]\nkind = "mse"\n[window]', r"compiled for 'cross-entropy'"),
        ("[window]", "[loss]\nweight = 2\n[window]", r"unknown key 'loss.weight'"),
        ('"model.pfm"', '"none.pfm"', r"none.pfm: cannot be read: No such file"),
        ('"model.pfm"', '"model.pfm"\nhidden = [3]', r"unknown key 'hidden'. Allowed here: artef"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(before, after, line, tmp_path):
    path = write_federation(tmp_path)
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    with pytest.raises(PlantfedError, match=line) as caught:
        load_federation(path)
    assert "\n" not in str(caught.value)


def test_another_delta_than_that_of_the_artefact_is_not_passed_over(tmp_path):
    path = write_federation(tmp_path, "gru")
    huber = Options(loss=LossOfModel(kind="huber", delta=2.0))
    made = compile_model(tmp_path / "gru.onnx", huber)
    (tmp_path / "model.pfm").write_bytes(made.artefact.to_bytes())
    assert load_federation(path).definition.loss.delta == 2.0
    path.write_text(path.read_text() + "[loss]\ndelta = 1.0\n")
    with pytest.raises(PlantfedError, match=r"loss.delta = 1.0: the artefact was compiled for 2.0"):
        load_federation(path)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda content: content[:-200], "not a whole artefact"),
        (lambda content: b"onnx" + content[4:], "not a whole artefact"),
        (lambda content: content[:300] + b"\x00\x01" + content[302:], "."),
    ],
)
def test_a_damaged_artefact_is_refused(damage, line, tmp_path):
    path = write_federation(tmp_path)
    artefact = tmp_path / "model.pfm"
    artefact.write_bytes(damage(artefact.read_bytes()))
    with pytest.raises(PlantfedError, match=line):
        load_federation(path)


def test_an_artefact_beyond_the_bound_is_not_even_read(tmp_path, monkeypatch):
    path = write_federation(tmp_path)
    monkeypatch.setattr("plantfed_coordinator.federation_file.MAX_ARTEFACT_BYTES", 1000)
    with pytest.raises(PlantfedError, match="an artefact has at most 1000"):
        load_federation(path)


def test_momentum_and_shared_statistics_are_refused(tmp_path):
    path = write_federation(tmp_path)
    made = compiled("cnn1d", "dynamo", tmp_path, momentum=True)
    (tmp_path / "model.pfm").write_bytes(made.to_bytes())
    with pytest.raises(PlantfedError, match="Compile it without --momentum"):
        load_federation(path)
    path = write_federation(tmp_path, "residual")
    made = compiled("residual", "script", tmp_path, shared_statistics=("*",))
    (tmp_path / "model.pfm").write_bytes(made.to_bytes())
    with pytest.raises(PlantfedError, match="Compile it without --share-statistics"):
        load_federation(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", MAX_ARTEFACT_BYTES + 1), ("size", 0), ("digest", "../../etc/passwd"), ("digest", "")],
)
def test_no_agent_takes_a_definition_that_claims_too_much_or_names_a_path(field, value, tmp_path):
    document = json.loads(federation(tmp_path).definition.to_bytes())
    document["model"][field] = value
    with pytest.raises(ValueError, match=field):
        FederationDefinition.from_bytes(json.dumps(document).encode())
