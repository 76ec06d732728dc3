"""Compiled models: what was written is read, and nothing else is."""

import json
import os
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from tests.shared.artefacts import GRAPH, artefact

from plantfed_shared.artefact import (
    INITIAL,
    MANIFEST,
    Artefact,
    digest_of,
    member_of,
    read_artefact,
)
from plantfed_shared.errors import ModelError
from plantfed_shared.model_manifest import (
    SAMPLE,
    sampled,
)


def refused(encoded: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        Artefact.from_bytes(encoded, "net.pfm")
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    return said.removeprefix("net.pfm: ")


def rewritten(encoded: bytes, **changes: bytes | None) -> bytes:
    """Members replaced, or left out for None; names with __ for a dot."""
    by_name = {name.replace("__", "."): content for name, content in changes.items()}
    written = BytesIO()
    with ZipFile(BytesIO(encoded)) as before, ZipFile(written, "w", ZIP_DEFLATED) as after:
        for name in before.namelist():
            content = by_name.get(name, before.read(name))
            if content is not None:
                after.writestr(name, content)
    return written.getvalue()


def test_what_was_written_is_read(tmp_path):
    made, initial, tests = artefact()
    path = tmp_path / "net.pfm"
    path.write_bytes(made.to_bytes())
    read = read_artefact(path)
    assert read.manifest == made.manifest
    assert read.members == made.members
    assert read.graph("predict") == GRAPH
    assert list(read.initial()) == ["body", "head", "mean"]
    for found, expected in zip(read.initial().values(), initial, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
        assert found.flags.writeable
    for name, expected in tests.items():
        np.testing.assert_array_equal(read.self_test_arrays()[name], expected)
        assert read.self_test_arrays()[name].dtype == expected.dtype
    specification = read.manifest.parameter_specification()
    assert [(p.name, p.personal) for p in specification.parameters] == [
        ("body", False), ("head", True)
    ]  # fmt: skip


def test_equal_artefacts_are_equal_bytes():
    assert artefact()[0].to_bytes() == artefact()[0].to_bytes()
    assert len(digest_of(artefact()[0].to_bytes())) == 16


def test_every_truncation_is_refused():
    whole = artefact()[0].to_bytes()
    for length in range(0, len(whole), 11):
        assert refused(whole[:length]).startswith("is not a whole artefact: it is truncated, dam")


def test_every_changed_byte_is_refused_or_means_nothing():
    """What zip itself ignores (times, comments' lengths) may change; content may not."""
    whole = artefact()[0].to_bytes()
    read = Artefact.from_bytes(whole)
    n_refused = 0
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x41
        try:
            found = Artefact.from_bytes(bytes(changed))
        except ModelError:
            n_refused += 1
        else:
            assert found == read
    assert n_refused > len(whole) / 3 / 2


@pytest.mark.parametrize("content", [b"", b"hello", GRAPH, b"PK\x05\x06" + bytes(18)])
def test_another_kind_of_file(content):
    assert refused(content).startswith("is not a whole artefact")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"no\.pfm: cannot be read: No such file or directory"):
        read_artefact(tmp_path / "no.pfm")


def test_a_member_that_was_changed_or_is_missing():
    whole = artefact()[0].to_bytes()
    weights = bytearray(artefact()[0].members[INITIAL])
    weights[3] ^= 1
    said = "has another initial.bin than its manifest says: the file was changed or damaged. "
    assert refused(rewritten(whole, initial__bin=bytes(weights))).startswith(said)
    assert refused(rewritten(whole, initial__bin=bytes(10))).startswith(said)
    assert refused(rewritten(whole, initial__bin=bytes(10**6))).startswith("has a member initial.b")
    assert refused(rewritten(whole, initial__bin=None)).startswith("is not a whole artefact")


def test_a_member_is_never_unpacked_beyond_what_the_manifest_says():
    bomb = rewritten(artefact()[0].to_bytes(), evaluate__onnx=bytes(10**8))
    assert len(bomb) < 2 * 10**5
    assert refused(bomb) == f"has a member evaluate.onnx of more than {len(GRAPH)} bytes"


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (b"{", "has a manifest that is no JSON"),
        (b"[]", "is of format None, not 'plantfed-model/1'. Compile the model again with"),
        (b'{"format": "plantfed-model/2"}', "is of format 'plantfed-model/2', not"),
        (b'{"format": "plantfed-model/1"}', "has a manifest that is wrong: opset: Field required"),
        (b"\xff", "has a manifest that is no JSON"),
    ],
)
def test_a_manifest_that_is_wrong(manifest, said):
    assert refused(rewritten(artefact()[0].to_bytes(), manifest__json=manifest)).startswith(said)


def changed(**changes) -> str:
    made, _, _ = artefact()
    fields = {**json.loads(made.manifest.model_dump_json()), **changes}
    return refused(rewritten(made.to_bytes(), manifest__json=json.dumps(fields).encode()))


def test_a_manifest_that_contradicts_itself():
    graphs = artefact()[0].manifest.model_dump()["graphs"]
    without = {name: graph for name, graph in graphs.items() if name != "head_step"}
    assert "there is no graph head_step" in changed(graphs=without)
    twice = [{"name": "body", "shape": [2, 3], "personal": False}] * 2
    assert "have the same name" in changed(parameters=twice)
    large = [{"name": "body", "shape": [2**13, 2**13], "personal": False}]
    assert "more than 33554432 parameters" in changed(parameters=large, statistics=[])
    other = [{"name": "body", "shape": [2, 4], "personal": False}]
    said = "has a initial.bin of another length than its manifest says"
    assert changed(parameters=other, statistics=[]) == said
    described = artefact()[0].manifest.model_dump()["members"]
    added = {**described, "../evil": described["initial.bin"]}
    assert changed(members=added) == "has a member '../evil', which no artefact has"
    zeros = {name: {**member, "n_bytes": 2**27} for name, member in described.items()}
    assert changed(members=zeros) == "has members of more than 536870912 bytes together"
    assert "there_is_no_such: Extra inputs are not permitted" in changed(there_is_no_such=1)
    assert changed(**{"\x1b[2J": 1}).isprintable()
    # empty, and no numpy array may be so long
    empty = [{"name": "body", "shape": [0, 2**70], "personal": False}]
    assert "parameters.0: Value error, an array of more than" in changed(parameters=empty)
    many_axes = {"name": "x", "shape": [1] * 33}
    assert "input.shape: Tuple should have at most 32 items" in changed(input=many_axes)


@pytest.mark.parametrize(
    ("field", "said"),
    [("loss", "a finite number"), ("tolerance", "less than or equal to 0.01")],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_self_test_that_nothing_fails(field, said, value):
    test = artefact()[0].manifest.self_test.model_dump()
    refusal = changed(self_test={**test, field: value})
    assert f"self_test.{field}: Input should be {said}" in refusal


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (GRAPH.replace(b"\x42\x04\x0a\x00", b"\x42\x0a\x0a\x06evil.x"), "of domain evil.x"),
        (GRAPH + bytes.fromhex("ca0100"), "it has functions"),
        (GRAPH + bytes.fromhex("3a042a027001"), "it has tensors in other files"),
        (GRAPH + bytes.fromhex("3a0e0a0c2204 53616d65 3a04 6d696e65"), "operators of domain mine"),
        (GRAPH[:-5], "it is truncated"),
        (b"\x08\x08", "it has no nodes"),
        (GRAPH.replace(b"\x01x", b"\x01\xff"), "can't decode byte 0xff"),
        (GRAPH + b"\x3a\x0b\x0a\x09\x22\x00\x2a\x05\x10\x01\xa0\x01\x01", "a number is where"),
        (GRAPH + b"\x3a\x0b\x0a\x09\x22\x00\x2a\x05\x1a\x00\xa0\x01\x02", "bytes are where"),
    ],
)  # fmt: skip
def test_a_graph_that_could_reach_beyond_the_file(graph, said):
    made, _, _ = artefact()
    members = {**made.members, "predict.onnx": graph}
    described = {name: member_of(content) for name, content in members.items()}
    other = Artefact(made.manifest.model_copy(update={"members": described}), members)
    assert said in refused(other.to_bytes())


def test_a_long_gradient_is_sampled_evenly():
    assert sampled(np.zeros(0, "f4")).size == 0
    np.testing.assert_array_equal(sampled(np.arange(6, dtype="f4").reshape(2, 3)), range(6))
    long = np.arange(3 * SAMPLE + 1, dtype="f4")
    assert sampled(long).size <= SAMPLE
    np.testing.assert_array_equal(sampled(long)[:3], [0, 4, 8])


def test_the_manifest_comes_first():
    with ZipFile(BytesIO(artefact()[0].to_bytes())) as archive:
        assert archive.namelist()[0] == MANIFEST


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "no path"])
def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(kind, tmp_path):
    path = tmp_path / "net.pfm"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path = tmp_path / "net\0.pfm"
    words = {"folder": "is a folder, not a file", "no path": "is no path"}
    said = words.get(kind, "is a pipe, socket or device, not a file")
    with pytest.raises(ModelError, match=said):
        read_artefact(path)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 0.5, float("inf"), float("nan")])
def test_a_self_test_that_anything_would_pass_is_refused(tolerance):
    made, *_ = artefact()
    test = made.manifest.self_test.model_copy(update={"tolerance": tolerance})
    forged = Artefact(made.manifest.model_copy(update={"self_test": test}), made.members)
    assert refused(forged.to_bytes()).startswith(
        "has a manifest that is wrong: self_test.tolerance: "
    )
