"""Files that cannot become an artefact: one clear line each, exit code 65."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper, numpy_helper
from tests.compiler.networks import Net, model
from tests.compiler.refusals import refused, saved, text

from plantfed_compiler import network, reading
from plantfed_compiler.compiling import Options, compile_model
from plantfed_shared.definition import MAX_PARAMETERS
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import LossOfModel

DENSE = Net("h = Relu(a) y = Gemm(h, v)", given={"v": (6, 3)})


def test_a_file_that_is_not_there(tmp_path):
    said = "cannot be read: No such file or directory. Give the path of a file"
    assert refused(tmp_path / "no.onnx") == said


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    said = "is a pipe, socket or device, not a file. Give the path of a file"
    assert refused(tmp_path / "pipe.onnx") == said


@pytest.mark.parametrize("part", [0, 1, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path, part):
    whole = model(DENSE).SerializeToString()
    cut = part if part in (0, 1) else int(part * len(whole))
    said = refused(saved(tmp_path, whole[:cut]))
    assert said.startswith(("is not a whole ONNX file", "is not a valid ONNX model"))


def test_truncations_are_refused_wherever_they_are(tmp_path):
    whole = model(DENSE).SerializeToString()
    for length in range(0, len(whole), 13):
        refused(saved(tmp_path, whole[:length]))


def test_another_kind_of_file(tmp_path):
    said = refused(saved(tmp_path, b"PK\x03\x04" + bytes(100)))
    assert said.startswith("is not a whole ONNX file: it is truncated, damaged or another kind")


@pytest.mark.parametrize("opset", [12, 23, 99])
def test_an_opset_from_the_future_or_the_past(tmp_path, opset):
    made = model(DENSE)
    made.opset_import[0].version = opset
    said = refused(saved(tmp_path, made))
    assert said == f"has opset {opset}; 13 to 22 are known. Export it again with opset_version=20"


def external(tmp_path, location):
    """A model with the weights v in another file, and the bytes to be there."""
    made = model(DENSE)
    tensor = next(t for t in made.graph.initializer if t.name == "v")
    raw = numpy_helper.to_array(tensor).tobytes()
    tensor.raw_data = raw
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return made, raw


@pytest.mark.parametrize("location", ["../weights", "/etc/hostname", "a/../../weights", "link"])
def test_external_data_outside_its_folder(tmp_path, location):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "weights").write_bytes(bytes(72))
    (folder / "link").symlink_to(tmp_path / "weights")
    made, _ = external(tmp_path, location)
    said = refused(saved(folder, made))
    assert said.startswith(f"has external data of 'v' outside its folder: {location!r}")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"location": "a\0b"}, "embedded null byte"),
        ({"location": "v" * 5000}, "File name too long"),
        ({"location": "weights", "length": "many"}, "invalid literal for int"),
        ({"location": "weights", "offset": "-8"}, "offset must be non-negative"),
    ],
)
def test_external_data_whose_place_makes_no_sense(tmp_path, said, why):
    made, raw = external(tmp_path, "weights")
    (tmp_path / "weights").write_bytes(raw)
    tensor = next(t for t in made.graph.initializer if t.name == "v")
    del tensor.external_data[:]
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)
    found = refused(saved(tmp_path, made))
    assert found.startswith("has external data that cannot be read: ")
    assert why in found
    assert len(found) < 200


def test_external_data_that_is_missing_or_short(tmp_path):
    made, raw = external(tmp_path, "weights")
    path = saved(tmp_path, made)
    assert refused(path).startswith("has its weights in 'weights', which is not there")
    (tmp_path / "weights").write_bytes(raw[:-4])
    assert "cannot be" in refused(path) or "not a valid" in refused(path)


def test_external_data_in_its_folder_is_taken(tmp_path):
    made, raw = external(tmp_path, "weights")
    (tmp_path / "weights").write_bytes(raw)
    inside = compile_model(
        saved(tmp_path, model(DENSE)), Options(loss=LossOfModel(kind="mse"))
    ).artefact
    outside = compile_model(saved(tmp_path, made), Options(loss=LossOfModel(kind="mse"))).artefact
    assert outside.members == inside.members


def test_two_gigabytes_of_weights(tmp_path):
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(2 * 2**30)
    assert refused(path).startswith("has 2,147 MB of weights; at most 268 MB (33,554,432 param")
    made, _ = external(tmp_path, "weights")
    entry = next(t for t in made.graph.initializer if t.name == "v")
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(2 * 2**30)
    del entry.external_data[1:]
    assert refused(saved(tmp_path, made)).startswith("has 2,147 MB of weights")


def test_more_parameters_than_the_lattice_takes(tmp_path, monkeypatch):
    assert network.MAX_PARAMETERS == MAX_PARAMETERS
    monkeypatch.setattr(network, "MAX_PARAMETERS", 29)
    path = saved(tmp_path, model(DENSE))
    assert refused(path).startswith("has 30 parameters; at most 29 can be trained. Use a smaller")


def test_a_dynamic_dimension_without_a_size(tmp_path):
    graph = "net (float[b, length] x) => (float[b, length] y) { y = Mul(x, v) }"
    path = text(tmp_path, graph, v=np.ones(1, np.float32))
    said = refused(path)
    assert said == (
        "has an input 'x' whose dimension 1 ('length') is dynamic; only the batch may be. "
        "Give it a size, as --size length=128"
    )
    given = Options(loss=LossOfModel(kind="mse"), sizes={"length": 5})
    assert compile_model(path, given).artefact.manifest.input.shape == (5,)
    assert refused(path, sizes={"length": 5, "width": 2}) == "has no dynamic dimension 'width'"


def test_a_batch_that_is_fixed_inside(tmp_path):
    path = text(
        tmp_path, "net (float[4, 6] x) => (float[4, 6] y) { f = Reshape(x, s) y = Mul(f, v) }",
        s=np.array([4, 6]), v=np.ones(6, np.float32),
    )  # fmt: skip
    said = refused(path)
    assert said.startswith("cannot run with 2 rows: onnxruntime cannot run the graph: ")
    assert said.endswith(
        "export it again with a dynamic first dimension (dynamic_shapes or dynamic_axes)"
    )


def test_a_batch_of_one_size_in_the_file_alone_becomes_dynamic(tmp_path):
    path = text(
        tmp_path, "net (float[4, 6] x) => (float[4, 6] y) { y = Mul(x, v) }",
        v=np.ones(6, np.float32),
    )  # fmt: skip
    made = compile_model(path, Options(loss=LossOfModel(kind="mse")))
    assert made.artefact.manifest.input.shape == (6,)


def test_an_output_without_a_batch(tmp_path):
    path = text(
        tmp_path, "net (float[b, 6] x) => (float y) { m = Mul(x, v) y = ReduceSum(m) }",
        v=np.ones(6, np.float32),
    )  # fmt: skip
    assert "whose first dimension is not the batch" in refused(path)


def test_no_output(tmp_path):
    made = model(DENSE)
    del made.graph.output[:]
    assert refused(saved(tmp_path, made)).startswith("has no output. ")


def test_a_function_that_calls_itself(tmp_path):
    made = model(DENSE)
    made.opset_import.add(domain="own", version=1)
    function = made.functions.add(name="f", domain="own", input=["a"], output=["b"])
    function.opset_import.add(domain="own", version=1)
    function.node.append(helper.make_node("f", ["a"], ["b"], domain="own"))
    said = refused(saved(tmp_path, made))
    assert said.startswith("is not a valid ONNX model: Cycle detected")


def test_no_trainable_parameter(tmp_path):
    path = text(tmp_path, "net (float[b, 6] x) => (float[b, 6] y) { y = Relu(x) }")
    assert refused(path).startswith("has no trainable parameter: ")
    assert refused(saved(tmp_path, model(DENSE)), frozen=("*",)).startswith(
        "has no trainable parameter: "
    )


def test_patterns_that_match_nothing_or_everything(tmp_path):
    path = saved(tmp_path, model(DENSE))
    there = "there are: v, w, b"
    assert refused(path, personal=("head.*",)) == (
        f"has nothing that --personal 'head.*' matches; {there}"
    )
    assert refused(path, frozen=("head.*",)) == f"pattern 'head.*' matches no parameter; {there}"
    assert refused(path, personal=("*",)).startswith(
        "would be personal as a whole: nothing is left to share. "
    )
    assert refused(path, shared_statistics=("*",)) == (
        "has nothing that --share-statistics '*' matches; there are: none"
    )


def test_weights_that_are_not_float32(tmp_path):
    path = text(
        tmp_path, "net (float[b, 6] x) => (float[b, 6] y) { c = Cast<to = 1>(v) y = Mul(x, c) }",
        v=np.ones(6, np.float64),
    )  # fmt: skip
    assert refused(path).startswith("has a parameter 'v' of type float64; only float32 is trained")


def test_several_inputs(tmp_path):
    path = text(tmp_path, "net (float[b, 6] x, float[b, 6] z) => (float[b, 6] y) { y = Mul(x, z) }")
    assert refused(path).startswith("has 2 inputs (x, z); exactly 1 can be used")


def test_an_output_that_is_not_there(tmp_path):
    said = refused(saved(tmp_path, model(DENSE)), output="z")
    assert said == "has no output 'z'; there are: y"


def test_a_parameter_the_loss_does_not_depend_on(tmp_path):
    path = text(
        tmp_path,
        "net (float[b, 6] x) => (float[b, 6] y) { f = Floor(v) m = Mul(x, u) y = Add(m, f) }",
        v=np.ones(6, np.float32), u=np.ones(6, np.float32),
    )  # fmt: skip
    assert refused(path) == (
        "has parameters the loss does not depend on: v. Freeze them: --frozen 'v'"
    )


def test_outputs_that_do_not_fit_the_loss(tmp_path):
    path = saved(tmp_path, model(Net("y = Softmax(a)", (3, 4))))
    assert refused(path, "cross-entropy").startswith("has outputs of shape (batch, 3, 4); cross-")
    path = saved(tmp_path, model(DENSE))
    assert "reconstruction needs the same" in refused(path, "reconstruction")


def test_reserved_names(tmp_path):
    path = text(
        tmp_path, "net (float[b, 6] x) => (float[b, 6] y) { y = Mul(x, v) }", v=np.ones(6, "f4")
    )
    made = onnx.load(path)
    made.graph.initializer[0].name = made.graph.node[0].input[1] = "plantfed.lr"
    assert refused(saved(tmp_path, made)).startswith("has a value named 'plantfed.lr': names")


def test_names_that_are_no_text(tmp_path):
    encoded = model(DENSE).SerializeToString().replace(b"Relu", b"Rel\xf9")
    assert refused(saved(tmp_path, encoded)).startswith("is not a whole ONNX file")


def test_an_input_of_another_type(tmp_path):
    said = refused(text(tmp_path, "net (double[b, 6] x) => (double[b, 6] y) { y = Relu(x) }"))
    assert said.startswith("has an input 'x' of type DOUBLE, not float32 or int64. ")


@pytest.mark.parametrize(
    ("weight", "said"),
    [(np.inf, "has a loss of "), (np.nan, "has a loss of nan"), (3e38, "has a ")],
)
def test_weights_that_are_no_use(tmp_path, weight, said):
    given = {"v": np.full((6, 3), weight, "f4")}
    path = saved(tmp_path, model(Net("h = Relu(a) y = Gemm(h, v)", given=given)))
    assert refused(path).startswith(said)


def test_a_changed_byte_is_taken_or_refused_in_one_line(tmp_path):
    """Whatever a damaged file still says, it gives no traceback."""
    whole = model(DENSE).SerializeToString()
    n_refused = 0
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0x59
        try:
            compile_model(saved(tmp_path, bytes(changed)), Options(loss=LossOfModel(kind="mse")))
        except ModelError:
            n_refused += 1
    assert n_refused > len(whole) / 7 / 5


# ---------------------------------------------------------------- the command


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "plantfed_compiler", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_says_one_line_and_exits_with_the_documented_code(tmp_path):
    path = saved(tmp_path, model(DENSE).SerializeToString()[:-20])
    done = command(path, "--loss", "mse", "-o", tmp_path / "net.pfm")
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith(f"plantfed-compile: {path}: is not ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "net.pfm").exists()


def test_without_onnx_it_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['onnx'] = None\n"
        "from plantfed_compiler.__main__ import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "net.onnx"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (78, "")
    said = "plantfed-compile: install it whole: pip install 'plantfed[compiler]'\n"
    assert done.stderr == said


def test_an_artefact_that_cannot_be_written(tmp_path):
    done = command(saved(tmp_path, model(DENSE)), "--loss", "mse", "-o", tmp_path / "no" / "a.pfm")
    assert done.returncode == 74
    assert done.stderr.endswith("a.pfm: cannot be written: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments",
    [["--loss", "hinge"], ["--size", "x"], ["--loss", "huber", "--huber-delta", "nan"], []],
)
def test_a_wrong_command_line(tmp_path, arguments):
    done = command(saved(tmp_path, model(DENSE)), *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_limit_is_that_of_the_file_and_not_of_what_is_in_memory(tmp_path, monkeypatch):
    path = saved(tmp_path, model(DENSE))
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", path.stat().st_size)
    reading.read_model(path)
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", path.stat().st_size - 1)
    assert "at most" in refused(path)
