"""The place where the gradient of a kernel ends on its way back from the loss, and the cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.diagnosis import measuring
from keras_surrogate.functions import tables
from keras_surrogate.thresholds import COLLAPSED

if TYPE_CHECKING:
    import keras

    from keras_surrogate.diagnosis.flow import Flow
    from keras_surrogate.diagnosis.passes import Pass

# The causes. Each is the kind of a finding.
UNUSED = "unused_layer"
STOPPED = "stopped_gradient"
ZERO_SLOPE = "zero_gradient"
ZERO_INPUT = "zero_input"
ZERO_KERNEL = "zero_kernel"
ZERO_WEIGHT_SLOPE = "zero_weight_slope"
DEAD_OUTPUT = "dead_output"
NO_LOSS_GRADIENT = "no_loss_gradient"
# Not a fault: weights that start at 0, so that the gradient arrives after their first step (as the
# last scale of a residual branch, arXiv:1706.02677).
OPENS_LATER = "opens_later"
# Faults of other rules: a layer whose units are all dead; a gradient too small for its dtype.
ELSEWHERE = "elsewhere"

OUTPUT = "the model's output"
# Names of weights that are added. These may be 0.
_SHIFTS = ("bias", "beta")
# The smallest gradient that is not rounded to 0, by dtype: in float32 and others, the smallest
# number of full precision.
_LEAST = {tf.float16: 6e-8}
_LEAST_FLOAT32 = 1.2e-38


@dataclasses.dataclass(frozen=True)
class Ending:
    """The place and the cause.

    Attributes:
        cause: one of the constants above.
        layer: the layer at which the gradient ends, or `OUTPUT`.
        is_before: True if it ends between this layer and those before it.
    """

    cause: str
    layer: str
    is_before: bool = False


class Endings:
    """The search for the `Ending` of layers that get no gradient.

    Args:
        seen: the pass.
        flow: the graph of its layers.
        depends: a function from weights to True if the model's outputs depend on them.
    """

    def __init__(
        self, seen: Pass, flow: Flow, depends: Callable[[Sequence[keras.Variable]], bool]
    ) -> None:
        self._seen = seen
        self._flow = flow
        self._depends = depends
        self._output_ids = set(map(id, seen.outputs))
        self._known = {}

    def of(self, name: str) -> Ending | None:
        """The ending for a layer; None if its kernel (else its other weights) gets a gradient."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name: str) -> Ending | None:
        asked = self._flow.own[name]
        kernel = self._flow.kernel(name)
        if kernel is not None:
            asked = [kernel]
        if not asked or _some(self._gradients(asked)):
            return None
        if name not in self._flow.order:
            return Ending(UNUSED, name)
        return self._within(name) if self._arrives(name) else self._after(name)

    def _gradients(self, variables):
        return [self._seen.gradients[id(variable)] for variable in variables]

    def _deltas(self, tensors):
        return [self._seen.deltas.get(id(tensor)) for tensor in tensors]

    def _is_output(self, name: str) -> bool:
        return any(id(tensor) in self._output_ids for tensor in self._flow.outputs(name))

    def _arrives(self, name: str) -> bool:
        """True if a gradient reaches the layer.

        It reaches the outputs or, with a loss on logits, only the weights.
        """
        variables = self._flow.own[name]
        return _some(self._deltas(self._flow.outputs(name))) or _some(self._gradients(variables))

    def ignores_input(self, name: str) -> bool:
        """True if the outputs are the same for all examples, as if the weights were 0.

        The inputs differ between examples, and the weights are not all equal.
        """
        flow = self._flow
        layer = flow.layers[name]
        kernel = flow.kernel(name)
        inputs = flow.inputs(name)
        outputs = flow.outputs(name)
        if (
            kernel is None
            or not outputs
            or any(map(measuring.differs, outputs))
            or measuring.is_constant(kernel)
        ):
            return False
        # An embedding has no derivative by its input.
        if not self._seen.derives(outputs, inputs):
            return False
        differs = any(
            (measuring.effective_rank_and_spread(tensor)[1] or 0) >= COLLAPSED for tensor in inputs
        )
        activation = activation_of(layer)
        is_linear = activation is not None and activation.forward.title == "linear"
        is_linear = is_linear or getattr(layer, "activation", None) is None
        # With an activation, a bias far from 0 can make all units dead or saturated instead.
        shifts = [variable for variable in layer.weights if variable.name in _SHIFTS]
        is_shifted = any(measuring.is_nonzero(variable.value) for variable in shifts)
        return differs and (is_linear or not is_shifted)

    def _within(self, name: str) -> Ending:
        """The ending where the gradient reaches the layer, but not its kernel."""
        flow = self._flow
        variables = flow.own[name]
        if not any(map(measuring.is_nonzero, flow.inputs(name))):
            return Ending(ZERO_INPUT, name)
        if self._opens_later(name):
            return Ending(OPENS_LATER, name)
        if _some(self._gradients(variables)) or _some(self._deltas(flow.inputs(name))):
            return Ending(ZERO_WEIGHT_SLOPE, name)
        return self._at(name, self._gradients(variables))

    def _after(self, name: str) -> Ending:
        """The ending where no gradient reaches the layer: a search from here towards the loss."""
        flow = self._flow
        variables = flow.own[name]
        fallback = Ending(ELSEWHERE, name)
        seen = {name}
        ahead = [name]
        while ahead:
            here = ahead.pop(0)
            readers = flow.readers(here)
            for reader in readers:
                ending = self._next(reader, here, variables)
                if ending:
                    return ending
            if self._is_output(here):
                fallback = Ending(NO_LOSS_GRADIENT, here)
            elif not readers:
                ending = self._into_no_layer(here, variables)
                if ending:
                    return ending
                readers = [flow.holder(here)]
            ahead += [reader for reader in readers if reader not in seen]
            seen.update(readers)
        return fallback

    def _next(self, name: str, before: str, variables: Sequence[keras.Variable]) -> Ending | None:
        """The ending at the next layer, or the known one after it; None if the search goes on."""
        flow = self._flow
        if not self._derives(flow.outputs(name), variables):
            return Ending(self._cause([], flow.inputs(name), flow.outputs(name)), name)
        if self._arrives(name):
            return self._at(name, self._deltas(flow.outputs(before)))
        return self.of(name)

    def _into_no_layer(self, name: str, variables: Sequence[keras.Variable]) -> Ending | None:
        """The ending where no layer reads the outputs, but an operation between layers or nothing.

        Args:
            name: the layer.
            variables: weights on which its outputs depend.

        Returns:
            The ending; None if it is not within the layer that holds this one.
        """
        flow = self._flow
        deltas = self._deltas(flow.outputs(name))
        is_defined = any(delta is not None for delta in deltas)
        if not is_defined and not self._depends(variables):
            return Ending(UNUSED, name)
        for other in flow.order[flow.order.index(name) + 1 :]:
            if other == flow.holder(name):
                return self._next(other, name, variables)
            if not self._arrives(other):
                continue
            cut = [
                tensor
                for tensor in flow.strange(other)
                if _some(self._deltas([tensor])) or not self._derives([tensor], variables)
            ]
            if cut:
                cause = self._cause(deltas, flow.outputs(name), cut)
                return Ending(cause, other, is_before=True)
        cut = [tensor for tensor in self._seen.outputs if _some(self._deltas([tensor]))]
        if cut:
            cause = self._cause(deltas, flow.outputs(name), cut)
            return Ending(cause, OUTPUT, is_before=True)
        return Ending(NO_LOSS_GRADIENT, OUTPUT)

    def _derives(self, tensors, variables):
        return self._seen.derives(tensors, [variable.value for variable in variables])

    def _at(self, name: str, behind: Sequence[tf.Tensor | None]) -> Ending:
        """The ending where the gradient reaches a layer's outputs, but not the tensors behind it.

        Args:
            name: the layer.
            behind: the gradients behind it, which are 0 or None.
        """
        flow = self._flow
        outputs = flow.outputs(name)
        if self._opens_later(name):
            return Ending(OPENS_LATER, name)
        if _is_tiny(self._deltas(outputs), outputs):
            return Ending(ELSEWHERE, name)
        if self.ignores_input(name):
            return Ending(ZERO_KERNEL, name)
        activation = activation_of(flow.layers[name])
        if (
            activation
            and tables.is_rectifier(activation.forward)
            and not any(map(measuring.is_nonzero, outputs))
        ):
            return Ending(DEAD_OUTPUT if self._is_output(name) else ELSEWHERE, name)
        return Ending(self._cause(behind, flow.inputs(name), outputs), name)

    def _opens_later(self, name: str) -> bool:
        """True if weights that multiply are all 0 and get a gradient, which makes them nonzero."""
        own = self._flow.own[name]
        factors = [variable for variable in own if variable.name not in _SHIFTS]
        return any(
            not measuring.is_nonzero(variable.value) and _some(self._gradients([variable]))
            for variable in factors
        )

    @staticmethod
    def _cause(
        behind: Sequence[tf.Tensor | None],
        before: Sequence[tf.Tensor],
        after: Sequence[tf.Tensor],
    ) -> str:
        """The cause at an operation that passes no gradient, judged by the tensors around it."""
        if any(_equal(one, other) for one in before for other in after if other is not one):
            return STOPPED
        is_defined = any(gradient is not None for gradient in behind)
        is_step = not after or any(map(_has_few_values, after))
        return ZERO_SLOPE if is_defined or is_step else STOPPED


def _some(gradients: Sequence[tf.Tensor | None]) -> bool:
    """True if one of the gradients is defined and not 0."""
    return any(measuring.is_nonzero(gradient) for gradient in gradients if gradient is not None)


def _equal(one, other):
    return one.shape == other.shape and bool(tf.reduce_all(tf.cast(one, other.dtype) == other))


def _has_few_values(tensor):
    """True if there are few different numbers, as after rounding or a comparison."""
    values = np.asarray(tensor)
    return len(np.unique(values)) <= max(2, values.size // 4)


def _is_tiny(deltas, outputs):
    """True if the gradients are hardly above the smallest number of the outputs' dtype."""
    largest = [float(tf.reduce_max(tf.abs(delta))) for delta in deltas if delta is not None]
    least = [_LEAST.get(tensor.dtype, _LEAST_FLOAT32) for tensor in outputs]
    return bool(largest) and max(largest) < 100 * max(least, default=_LEAST_FLOAT32)
