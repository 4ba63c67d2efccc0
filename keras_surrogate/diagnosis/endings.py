"""Why no gradient at all comes to a kernel, and at which layer it ends on its way back from the loss."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.diagnosis import measuring
from keras_surrogate.functions import tables
from keras_surrogate.thresholds import COLLAPSED

# The causes: the kinds of findings that they make.
UNUSED = "unused_layer"
STOPPED = "stopped_gradient"
ZERO_SLOPE = "zero_gradient"
ZERO_INPUT = "zero_input"
ZERO_KERNEL = "zero_kernel"
ZERO_WEIGHT_SLOPE = "zero_weight_slope"
DEAD_OUTPUT = "dead_output"
NO_LOSS_GRADIENT = "no_loss_gradient"
# No faults, or what other rules speak of: weights that start at 0 and open the way with their first
# step (as the last scale of a residual branch, arXiv:1706.02677); a layer whose units are all dead;
# a gradient too small for its dtype.
OPENS_LATER = "opens_later"
ELSEWHERE = "elsewhere"

OUTPUT = "the model's output"
# Names of weights that are added, and may well be 0.
_SHIFTS = ("bias", "beta")


@dataclasses.dataclass(frozen=True)
class Ending:
    """Where and why the gradient ends on its way back.

    cause: one of those above.
    layer: the layer at which it ends, or `OUTPUT`.
    is_before: whether it ends in no layer, but between this one and those before it.
    """

    cause: str
    layer: str
    is_before: bool = False


class Endings:
    """Finds the `Ending` for layers that get no gradient.

    Args:
        seen: the `passes.Pass`.
        flow: its `flow.Flow`.
        depends: from weights to whether the model's outputs depend on them.
    """

    def __init__(self, seen, flow, depends):
        self._seen, self._flow, self._depends = seen, flow, depends
        self._output_ids, self._known = set(map(id, seen.outputs)), {}

    def of(self, name):
        """The `Ending` for a layer with a kernel, or with other weights alone; None if its gradient is not 0."""
        if name not in self._known:
            self._known[name] = self._found(name)
        return self._known[name]

    def _found(self, name):
        asked = self._flow.own[name]
        kernel = self._flow.kernel(name)
        if not asked or _some(self._gradients([kernel] if kernel is not None else asked)):
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

    def _arrives(self, name):
        """Whether a gradient comes to the layer: to its outputs or, with a loss on logits, to its weights alone."""
        variables = self._flow.own[name]
        return _some(self._deltas(self._flow.outputs(name))) or _some(self._gradients(variables))

    def ignores_input(self, name):
        """Whether a layer gives the same for all examples although they and its weights differ, as if these were 0."""
        flow, layer = self._flow, self._flow.layers[name]
        kernel, inputs, outputs = flow.kernel(name), flow.inputs(name), flow.outputs(name)
        if (
            kernel is None
            or not outputs
            or any(map(_differs, outputs))
            or measuring.is_constant(kernel)
        ):
            return False
        # What is only looked up, as a position's embedding, has no derivative by its input.
        if not self._seen.derives(outputs, inputs):
            return False
        differs = any(
            (measuring.effective_rank_and_spread(tensor)[1] or 0) >= COLLAPSED for tensor in inputs
        )
        activation = activation_of(layer)
        # A bias far from 0 makes a dead or a saturated unit of one with weights.
        is_linear = activation is not None and activation.forward.title == "linear"
        is_linear = is_linear or getattr(layer, "activation", None) is None
        return differs and (
            is_linear or not any(_is_nonzero(v.value) for v in layer.weights if v.name in _SHIFTS)
        )

    def _within(self, name):
        """The gradient comes to this layer, and not to its kernel."""
        flow = self._flow
        variables = flow.own[name]
        if not any(map(_is_nonzero, flow.inputs(name))):
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

    def _next(self, name, before, variables):
        """Where the gradient of variables ends, if at the next layer or, as far as is known, beyond it; or None."""
        flow = self._flow
        if not self._derives(flow.outputs(name), variables):
            return Ending(self._cause([], flow.inputs(name), flow.outputs(name)), name)
        if self._arrives(name):
            return self._at(name, self._deltas(flow.outputs(before)))
        return self.of(name)

    def _into_no_layer(self, name: str, variables: list) -> Ending | None:
        """The ending where no layer reads the outputs: an operation between layers does, or nothing.

        Args:
            name: the layer.
            variables: weights on which its outputs depend.

        Returns:
            The ending; None if it is not within the layer that holds this one.
        """
        flow = self._flow
        deltas = self._deltas(flow.outputs(name))
        if not _some(deltas, but_none=True) and not self._depends(variables):
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

    def _at(self, name, behind):
        """The gradient comes to a layer's outputs and not behind: `behind` is what is there, None or 0."""
        flow, outputs = self._flow, self._flow.outputs(name)
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
            and not any(map(_is_nonzero, outputs))
        ):
            return Ending(DEAD_OUTPUT if self._is_output(name) else ELSEWHERE, name)
        return Ending(self._cause(behind, flow.inputs(name), outputs), name)

    def _opens_later(self, name):
        """Whether weights that multiply are all 0 and get a gradient, so that they are no longer 0 after a step."""
        own = self._flow.own[name]
        factors = [variable for variable in own if variable.name not in _SHIFTS]
        return any(
            not _is_nonzero(variable.value) and _some(self._gradients([variable]))
            for variable in factors
        )

    @staticmethod
    def _cause(behind, before, after):
        """What an operation is that passes no gradient on, by the tensors before and after it."""
        if any(_equal(one, other) for one in before for other in after if other is not one):
            return STOPPED
        is_defined = any(gradient is not None for gradient in behind)
        return (
            ZERO_SLOPE if is_defined or not after or any(map(_has_few_values, after)) else STOPPED
        )


def _some(gradients, but_none=False):
    """Whether one of them is not 0 (with `but_none`: is defined)."""
    gradients = [gradient for gradient in gradients if gradient is not None]
    return bool(gradients) if but_none else any(map(_is_nonzero, gradients))


def _is_nonzero(tensor):
    return bool(tf.reduce_any(tensor != 0))


def _differs(tensor):
    """Whether it is not the same for all examples."""
    return bool(tf.reduce_any(tensor != tensor[:1]))


def _equal(one, other):
    return one.shape == other.shape and bool(tf.reduce_all(tf.cast(one, other.dtype) == other))


def _has_few_values(tensor):
    """Whether its numbers are few different ones, as after rounding or comparing."""
    values = np.asarray(tensor)
    return len(np.unique(values)) <= max(2, values.size // 4)


def _is_tiny(deltas, outputs):
    """Whether gradients are so small that what is a little smaller is 0 in the outputs' dtype."""
    least = max(
        (_LEAST.get(tensor.dtype, _LEAST_FLOAT32) for tensor in outputs), default=_LEAST_FLOAT32
    )
    largest = [float(tf.reduce_max(tf.abs(delta))) for delta in deltas if delta is not None]
    return bool(largest) and max(largest) < 100 * least


# The smallest number that is not taken for 0, by dtype: in float32 and others that of full
# precision.
_LEAST = {tf.float16: 6e-8}
_LEAST_FLOAT32 = 1.2e-38
