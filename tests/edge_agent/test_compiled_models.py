"""Compiled models on the agent: training, self-test, cache, predictions and export."""

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from tests.compiled_federations import WINDOWS, federation, kernels_of, samples, task

from plantfed_agent.compiled_kernel import CompiledKernel
from plantfed_agent.inprocess import carry_out
from plantfed_agent.kernel_source import Kernels
from plantfed_agent.kernels.descent import descend
from plantfed_agent.kernels.port import Part, Pull, Rates
from plantfed_agent.model_cache import ModelCache
from plantfed_agent.onnx_export import export_onnx
from plantfed_agent.onnx_runtime import run_onnx
from plantfed_agent.personal_model import PersonalModel
from plantfed_agent.whole_model import whole_model
from plantfed_shared.artefact import SELF_TEST, Artefact, digest_of
from plantfed_shared.errors import LostModelError, ModelError


@pytest.mark.parametrize("mode", ["fedapm", "fedsim", "fedprox", "local"])
@pytest.mark.parametrize("name", WINDOWS)
def test_every_mode_trains_every_kind_of_network(name, mode, tmp_path):
    made = federation(tmp_path, name, mode)
    kernels = kernels_of(made)
    first = carry_out(task(made), lambda _: samples(made), report_score=True, kernels=kernels)
    again = replace(task(made, seq=2), base=first.shared, head=first.head)
    second = carry_out(again, lambda _: samples(made), report_score=True, kernels=kernels)
    assert second.loss < first.loss
    assert np.isfinite([first.score, second.score]).all()


def test_auto_trains_what_has_no_classes(tmp_path):
    made = federation(tmp_path, "gru", "auto")
    kernels = kernels_of(made)
    first = carry_out(task(made), lambda _: samples(made), report_score=True, kernels=kernels)
    again = replace(task(made, seq=2), base=first.shared, head=first.head)
    second = carry_out(again, lambda _: samples(made), report_score=True, kernels=kernels)
    assert second.loss < first.loss
    assert first.prior is None


CLASSIFIERS = [name for name, (_, _, learnt) in WINDOWS.items() if learnt == "classes"]
PRIOR = np.float32([0.0, -1.5, -6.0])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_auto_trains_and_uses_the_prior_of_compiled_classifiers(name, tmp_path):
    made = federation(tmp_path, name, "auto")
    kernels, definition = kernels_of(made), made.definition
    first = carry_out(task(made), lambda _: samples(made), report_score=True, kernels=kernels)
    again = replace(task(made, seq=2), base=first.shared, head=first.head, prior=first.prior)
    second = carry_out(again, lambda _: samples(made), report_score=True, kernels=kernels)
    assert second.loss < first.loss
    assert first.prior is not None
    head = kernels.initial_head(definition)
    whole = whole_model(definition.parameter_specification(), task(made).base, head)
    x, bare = samples(made).train.x, kernels.of(definition)
    logits = bare.outputs(whole, x)
    for found in (
        kernels.of(definition, PRIOR).outputs(whole, x),
        bare.outputs(kernels.with_prior(definition, whole, PRIOR), x),
    ):
        np.testing.assert_allclose(found, logits + PRIOR, atol=1e-5)
    assert kernels.with_prior(definition, whole, None) is whole


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("head_only", [False, True])
def test_graphs_with_a_prior_step_as_gradients_with_it_say(name, head_only, tmp_path):
    """In numpy nothing moves: plain steps along the gradient of the loss with the prior."""
    made = federation(tmp_path, name)
    definition, sets = made.definition, samples(made)
    specification = definition.parameter_specification()
    batches = [(sets.train.x[n : n + 20], sets.train.y[n : n + 20]) for n in (0, 20, 40)]
    found = []
    for how in ("graphs", "numpy"):
        kernel = kernels_of(made).of(definition, PRIOR)
        shared, head = task(made).base.copy(), kernels_of(made).initial_head(definition)
        parameters = whole_model(specification, shared, head)
        n_personal = sum(p.size for p in specification.personal)
        drawn = np.random.default_rng(1).normal(size=(3, shared.size)).astype(np.float32)
        pull = Pull(0.3, drawn[0], 0.1 * drawn[1])
        parts = (Part(head, specification.personal, Pull(0.2, drawn[2, :n_personal])),)
        if not head_only:
            parts = (*parts, Part(shared, specification.shared, pull))
        rates = Rates(0.05, 0.01)
        if how == "graphs":
            losses = kernel.descend(parameters, parts, rates, batches)
        else:
            names = [p.name for p in specification.parameters]
            losses = descend(kernel, names, parameters, parts, rates, batches)
        found.append((np.concatenate([shared, head[:n_personal]]), losses))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=3e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4)
    assert np.abs(found[0][0][: shared.size] - task(made).base).max() > 1e-3 or head_only


def test_a_prior_is_exported_with_a_compiled_classifier(tmp_path):
    made = federation(tmp_path, "cnn1d", "auto")
    kernels, definition = kernels_of(made), made.definition
    head = kernels.initial_head(definition)
    whole = whole_model(definition.parameter_specification(), task(made).base, head)
    parameters = kernels.with_prior(definition, whole, PRIOR)
    path = tmp_path / "model.onnx"
    export_onnx(PersonalModel(definition, parameters, "toy release 1", kernels), path)
    x = np.random.default_rng(0).normal(size=(20, 3, 16)).astype(np.float32)
    assert (run_onnx(path, x).argmax(1) != 2).all()


def test_graphs_step_as_numpy_does_on_the_same_gradients(tmp_path):
    made = federation(tmp_path)
    kernel = kernels_of(made).of(made.definition)
    specification = made.definition.parameter_specification()
    sets, begin = samples(made), task(made)
    rng = np.random.default_rng(1)
    found = []
    for how in ("graphs", "numpy"):
        shared = begin.base.copy()
        head = kernels_of(made).initial_head(made.definition)
        parameters = whole_model(specification, shared, head)
        drawn = np.random.default_rng(1).normal(size=(2, shared.size)).astype(np.float32)
        part = Part(shared, specification.shared, Pull(0.3, drawn[0], 0.1 * drawn[1]))
        batches = [(sets.train.x[n : n + 20], sets.train.y[n : n + 20]) for n in (0, 20, 40)]
        rates = Rates(0.05, 0.01)
        if how == "graphs":
            losses = kernel.descend(parameters, (part,), rates, batches)
        else:
            names = [p.name for p in specification.parameters]
            losses = descend(kernel, names, parameters, (part,), rates, batches)
        found.append((shared, losses))
    del rng
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)
    assert np.abs(found[0][0] - begin.base).max() > 1e-3


def test_nothing_given_is_changed_but_the_parts(tmp_path):
    made = federation(tmp_path, "residual")
    kernel = kernels_of(made).of(made.definition)
    specification = made.definition.parameter_specification()
    shared, head = task(made).base.copy(), kernels_of(made).initial_head(made.definition)
    before = shared.copy(), head.copy()
    parameters = whole_model(specification, shared, head)
    n_personal = sum(p.size for p in specification.personal)
    part = Part(head, specification.personal, None)
    sets = samples(made)
    kernel.descend(parameters, (part,), Rates(0.05, 0.0), [(sets.train.x, sets.train.y)])
    assert np.array_equal(shared, before[0])
    # the head took a step, and the statistics behind it followed the batch
    assert not np.allclose(head[:n_personal], before[1][:n_personal])
    assert not np.allclose(head[n_personal:], before[1][n_personal:])


def test_a_machine_that_computes_otherwise_does_not_train(tmp_path):
    made = federation(tmp_path)
    artefact = Artefact.from_bytes(made.artefact.encoded)
    wrong = bytearray(artefact.members[SELF_TEST])
    wrong[-4:] = np.float32(7).tobytes()
    forged = Artefact(artefact.manifest, {**artefact.members, SELF_TEST: bytes(wrong)})
    with pytest.raises(ModelError, match=r"self-test of model .*does not train"):
        Kernels(lambda _: forged).of(made.definition)


def test_the_self_test_is_done_once_for_a_machine_and_a_version(tmp_path, monkeypatch):
    made = federation(tmp_path)
    cache, digest = ModelCache(tmp_path / "state"), made.artefact.content.digest
    cache.keep(digest, made.artefact.encoded)
    calls = []
    whole = CompiledKernel.loss_and_gradient
    monkeypatch.setattr(
        CompiledKernel, "loss_and_gradient", lambda *a: calls.append(1) or whole(*a)
    )
    for _ in range(2):
        Kernels.of_cache(ModelCache(tmp_path / "state")).of(made.definition)
    assert len(calls) == 1
    monkeypatch.setattr("plantfed_agent.model_cache._version", lambda: "another")
    Kernels.of_cache(cache).of(made.definition)
    assert len(calls) == 2


def test_without_onnxruntime_one_line_says_what_is_missing(tmp_path, monkeypatch):
    made = federation(tmp_path)
    monkeypatch.setattr("plantfed_agent.kernel_source.is_installed", lambda: False)
    with pytest.raises(ModelError, match=r"needs onnxruntime\. pip install 'plantfed\[agent\]'"):
        kernels_of(made).of(made.definition)


def test_without_onnxruntime_a_dense_network_trains_in_numpy(tmp_path, monkeypatch):
    made = federation(tmp_path, "mlp")
    outcomes = []
    for there in (True, False):
        monkeypatch.setattr("plantfed_agent.kernel_source.is_installed", lambda there=there: there)
        kernels = kernels_of(made)
        assert isinstance(kernels.of(made.definition), CompiledKernel) == there
        outcomes.append(
            carry_out(task(made), lambda _: samples(made), report_score=True, kernels=kernels)
        )
    np.testing.assert_allclose(outcomes[0].shared, outcomes[1].shared, atol=1e-5)
    np.testing.assert_allclose(outcomes[0].head, outcomes[1].head, atol=1e-5)
    assert outcomes[0].score == outcomes[1].score


def test_an_artefact_that_is_not_what_the_definition_says_is_refused(tmp_path):
    made, other = federation(tmp_path), federation(tmp_path, "gru")
    with pytest.raises(ModelError, match="other parameters, shapes or another loss"):
        kernels_of(other).of(made.definition)


def test_the_cache_keeps_one_model_and_verifies_it(tmp_path):
    cache = ModelCache(tmp_path)
    assert cache.digests() == frozenset()
    for content in (b"one", b"two"):
        cache.keep(digest_of(content), content)
    assert cache.digests() == {digest_of(b"two")}
    with pytest.raises(ValueError, match="not what was promised"):
        cache.keep(digest_of(b"three"), b"four")
    (file,) = tmp_path.glob("models/*.pfm")
    file.write_bytes(b"damaged")
    with pytest.raises(ModelError, match="not what its digest says"):
        cache.load(digest_of(b"two"))
    assert file.exists()  # who only reads, as export does, deletes nothing


def test_a_damaged_artefact_is_deleted_at_the_start_and_so_fetched(tmp_path):
    cache = ModelCache(tmp_path)
    cache.keep(digest_of(b"two"), b"two")
    (file,) = tmp_path.glob("models/*.pfm")
    file.write_bytes(b"tw")
    assert cache.digests() == frozenset()
    assert not file.exists()
    with pytest.raises(ModelError, match="cannot be read"):
        cache.load(digest_of(b"two"))


def test_a_pipe_in_the_place_of_an_artefact_is_not_waited_for(tmp_path):
    cache = ModelCache(tmp_path)
    cache.keep(digest_of(b"two"), b"two")
    (file,) = tmp_path.glob("models/*.pfm")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(LostModelError, match="is a pipe, socket or device"):
        cache.load(digest_of(b"two"))
    assert cache.digests() == frozenset()
    assert not file.exists()


def test_the_cache_deletes_nothing_that_is_not_its_own(tmp_path):
    (tmp_path / "models" / "lost+found").mkdir(parents=True)
    (tmp_path / "models" / "notes.txt").write_text("mine")
    cache = ModelCache(tmp_path)
    for content in (b"one", b"two"):
        cache.keep(digest_of(content), content)
    found = {path.name for path in (tmp_path / "models").iterdir()}
    assert found == {"lost+found", "notes.txt", f"{digest_of(b'two').hex()}.pfm"}


@pytest.mark.parametrize("name", WINDOWS)
def test_the_exported_file_takes_raw_values_and_answers_as_the_agent(name, tmp_path):
    made = federation(tmp_path, name)
    kernels, definition = kernels_of(made), made.definition
    outcome = carry_out(task(made), lambda _: samples(made), report_score=False, kernels=kernels)
    specification = definition.parameter_specification()
    values = whole_model(specification, outcome.shared, outcome.head)
    model, path = PersonalModel(definition, values, "m", kernels), tmp_path / "own.onnx"
    export_onnx(model, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    rng = np.random.default_rng(3)
    scale, centre = (
        np.array([getattr(i, f) for i in definition.inputs]) for f in ("scale", "centre")
    )
    x = rng.normal(size=(9, definition.window.rows, len(scale))).astype(np.float32)
    raw = (x * scale + centre).astype(np.float32)
    if definition.model.layout == "columns":
        raw = raw.transpose(0, 2, 1)
    found = run_onnx(path, raw.reshape(9, *definition.model.input_shape))
    expected = model.predict(np.clip(x, -3, 3).reshape(9, -1))
    assert found.shape == expected.shape
    scales = [t.scale for t in definition.targets] or 1
    np.testing.assert_allclose(found / scales, expected / scales, atol=1e-5)
