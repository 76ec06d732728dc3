"""From a definition to the kernel that trains it, and to the head that a machine begins with."""

from collections.abc import Callable

from plantfed_agent.class_prior import with_prior
from plantfed_agent.compiled_dense import dense_kernel
from plantfed_agent.compiled_kernel import CompiledKernel, failures_of_self_test
from plantfed_agent.kernels import Kernel, kernel_for
from plantfed_agent.kernels.offset import OffsetKernel, with_offset
from plantfed_agent.model_cache import ModelCache
from plantfed_shared.artefact import Artefact
from plantfed_shared.definition import CompiledModel, FederationDefinition
from plantfed_shared.errors import ModelError
from plantfed_shared.initial import initial_parameters
from plantfed_shared.logit_bias import logit_bias
from plantfed_shared.onnx_session import is_installed
from plantfed_shared.parameters import Floats, Parameters, flatten

FindArtefact = Callable[[bytes], Artefact]
"""Gives the artefact with a digest; raises ModelError."""


class Kernels:
    """Makes kernels; keeps the last one, since its sessions cost time to make.

    Args:
        find: gives artefacts; None where all models are dense.
        cache: remembers self-tests; None to do them every time.
    """

    def __init__(self, find: FindArtefact | None = None, cache: ModelCache | None = None) -> None:
        self._find = find
        self._cache = cache
        self._last: tuple[bytes, Kernel] | None = None
        self._artefact: tuple[str, Artefact] | None = None

    @classmethod
    def of_cache(cls, cache: ModelCache) -> "Kernels":
        """With the artefacts of an agent."""
        return cls(cache.load, cache)

    def of(self, definition: FederationDefinition, prior: Floats | None = None) -> Kernel:
        """The network and the loss of a federation.

        Args:
            definition: of the federation.
            prior: float32 (classes,), added to the logits of every row.

        Raises:
            ModelError: its artefact is not here, is not what the definition says, does not compute
                on this machine what it should, or has no bias that could hold the prior.
            ConfigError: onnxruntime is not installed.
        """
        if prior is not None:
            if not isinstance(definition.model, CompiledModel):
                return kernel_for(definition, prior)
            name, position = self._logit_bias(definition, definition.model)
            return OffsetKernel(self.of(definition), name, position, prior)
        structure = definition.structure()
        if self._last is None or self._last[0] != structure:
            self._last = structure, self._made(definition)
        return self._last[1]

    def with_prior(
        self, definition: FederationDefinition, parameters: Parameters, prior: Floats | None
    ) -> Parameters:
        """The network that gives the logits with a prior added.

        Args:
            definition: of the federation.
            parameters: of the whole model, in order; not changed.
            prior: float32 (classes,), or None for none.

        Raises:
            ModelError: see :meth:`of`.
        """
        if prior is None or not isinstance(definition.model, CompiledModel):
            return with_prior(parameters, prior)
        _, position = self._logit_bias(definition, definition.model)
        return with_offset(parameters, position, prior)

    def initial_head(self, definition: FederationDefinition) -> Floats:
        """float32 (personal + statistics,): what a machine begins with.

        Raises:
            ModelError: the artefact is not here, or is not what the definition says.
        """
        specification = definition.parameter_specification()
        if not isinstance(definition.model, CompiledModel):
            return flatten(specification.split(initial_parameters(definition))[1])
        values = self.artefact(definition, definition.model).initial()
        own = (*specification.personal, *specification.statistics)
        return flatten([values[p.name] for p in own])

    def artefact(self, definition: FederationDefinition, model: CompiledModel) -> Artefact:
        """Of a compiled model, which is what the definition says it is.

        Raises:
            ModelError: see :meth:`of`.
        """
        if self._artefact is None or self._artefact[0] != model.digest:
            if self._find is None:
                raise ModelError("no artefacts are kept here", where=definition.federation)
            found = self._find(bytes.fromhex(model.digest))
            _refuse_another(found, definition, model)
            self._artefact = model.digest, found
        return self._artefact[1]

    def _logit_bias(
        self, definition: FederationDefinition, model: CompiledModel
    ) -> tuple[str, int]:
        artefact = self.artefact(definition, model)
        shapes = {p.name: p.shape for p in artefact.manifest.parameters}
        name = logit_bias(artefact.graph("predict"), shapes, len(definition.classes))
        if name is None:
            raise ModelError(
                "the artefact has no bias of its outputs that could hold a class prior",
                where=f"model {model.digest[:8]}",
                hint="Ask who runs the coordinator for a layer with a bias, or another mode",
            )
        return name, list(shapes).index(name)

    def _made(self, definition: FederationDefinition) -> Kernel:
        model = definition.model
        if not isinstance(model, CompiledModel):
            return kernel_for(definition)
        artefact = self.artefact(definition, model)
        if not is_installed():
            dense = dense_kernel(artefact)
            if dense is not None:
                return dense
            raise ModelError(
                "this federation's model is a compiled one, which needs onnxruntime",
                where=definition.federation,
                hint="pip install 'plantfed[agent]'; where there is no wheel of it, only dense "
                "networks can be trained",
            )
        self._test(artefact, model)
        n_inputs = len(definition.inputs)
        return CompiledKernel(artefact, n_inputs, columns_first=model.layout == "columns")

    def _test(self, artefact: Artefact, model: CompiledModel) -> None:
        digest = bytes.fromhex(model.digest)
        if self._cache is not None and self._cache.passed(digest):
            return
        kernel = CompiledKernel(artefact, 1, columns_first=False)
        for failure in failures_of_self_test(artefact, kernel):
            raise ModelError(
                f"this machine computes {failure}: it does not train",
                where=f"self-test of model {model.digest[:8]}",
                hint="Try another version of onnxruntime, and report the processor",
            )
        if self._cache is not None:
            self._cache.note_passed(digest)


def _refuse_another(
    artefact: Artefact, definition: FederationDefinition, model: CompiledModel
) -> None:
    manifest = artefact.manifest
    said = [(t.name, t.shape, t.personal) for t in (*model.parameters, *model.statistics)]
    found = [(t.name, t.shape, t.personal) for t in (*manifest.parameters, *manifest.statistics)]
    same_loss = manifest.loss.kind == definition.loss.kind
    shapes = (manifest.input.shape, manifest.output.shape)
    if said != found or not same_loss or shapes != (model.input_shape, model.output_shape):
        raise ModelError(
            "the artefact has other parameters, shapes or another loss than the definition says",
            where=f"model {model.digest[:8]}",
            hint="Ask who runs the coordinator",
        )
