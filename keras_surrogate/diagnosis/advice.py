"""Advice against each fault, with its source. Advice that measurements contradict is not here.

Left out on purpose: any slope for the backward pass against a collapsed forward signal;
`flat_spot` against vanishing gradients (README: 9.9 % with it, 9.9 % without); another slope where
the optimizer rescales gradients and the activation is not at fault (5 sigmoid layers under Adam:
79.5 % with the true slope, 79.4 % with 4 times it, examples/evidence/sigmoid.py); balancing
against a lost direction (it corrects the norm only).

Source of the order in `REVIVE`: "Vanishing Gradients and Choosing the Right Activation Function",
the third part of Paperspace's series on optimization in deep learning, and the papers that it
cites.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from keras_surrogate import functions, presets, thresholds
from keras_surrogate.recording.optimizers import innermost
from keras_surrogate.theory import Prediction

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.cases import RuleInput
    from keras_surrogate.diagnosis.layer_table import Row
    from keras_surrogate.diagnosis.plain_stack import Stack

NORMALISE = (
    "Put a BatchNormalization before each activation (Ioffe and Szegedy 2015, arXiv:1502.03167)."
)
RESIDUAL = "Add residual connections, x + f(x) (He et al. 2016, arXiv:1512.03385)."
RECTIFIER_NORMALISED = (
    "Replace the activation by ReLU: its slope is 1 for every positive input, and it is cheap."
)
RECTIFIER = f"{RECTIFIER_NORMALISED} Use he_normal weights (He et al. 2015, arXiv:1502.01852)."
CENTRE_DATA = (
    "Subtract each feature's mean and divide by its standard deviation, or put "
    "keras.layers.Normalization or BatchNormalization in front (LeCun et al. 1998, Efficient "
    "BackProp)."
)
CENTRE_ACTIVATIONS = (
    "Use an activation with centred outputs: tanh or ELU (LeCun et al. 1998; arXiv:1511.07289)."
)
UNSATURATE = (
    "All outputs are in the flat ends of the activation, because its inputs are too large. "
    "Standardise the model's inputs or use smaller initial weights. At the output, use no "
    "activation and from_logits=True in the loss."
)
SMALLER_RATE = "Lower the learning rate."
LARGER_RATE = "Raise the learning rate."
STANDARDISE_TARGETS = (
    "Standardise the targets, (y - mean) / deviation, with both numbers from the training set. "
    "Undo it for predictions: model.predict(x) * deviation + mean."
)
WARM_UP = (
    "Increase the learning rate during the first steps: "
    "keras.optimizers.schedules.CosineDecay(initial_learning_rate, decay_steps, "
    "warmup_target=..., warmup_steps=...) (Goyal et al. 2017, arXiv:1706.02677)."
)
RESCALE = (
    "Use an optimizer that rescales gradients, such as Adam: their size then matters much less."
)
CLIP = (
    "Clip the gradient, optimizer(clipnorm=1.0), as a temporary measure (Pascanu et al. 2013, "
    "arXiv:1211.5063)."
)
NO_BACKWARD_TRICK = (
    "A surrogate does not help: a slope in the backward pass cannot restore what the forward pass "
    "has lost."
)

SUSTAINED = (
    "Use initial weights with which all layers fire: "
    "kernel_initializer=ks.initializers.SustainedActivity(neuron, steps=...). With Glorot's "
    "weights activity dies within five layers."
)
LOWER_THRESHOLD = "Lower the threshold, or raise the leak towards 1, so that currents add up."
HIGHER_THRESHOLD = "Raise the threshold, or standardise the input."
WIDER_SLOPE = (
    "Use a wide slope, as that of layers.LIF's default: silent neurons learn only where the slope "
    "is not 0 far below the threshold."
)

# Advice against dead units, in the order in which to try it. The numbers are those of
# examples/evidence, dying.py and born_dead.py.
NORMALISE_DEAD = (
    f"{NORMALISE} With it none of the units were dead in ten ReLU layers, with Adam up to 0.01 and "
    "SGD up to 1."
)
REVIVE = (
    "Lower the learning rate and start the biases at 0: a unit dies when a step makes its bias too "
    "negative. Try this first, with ReLU: of the units of ten layers 12 % were dead after training "
    "with Adam at 0.001 (accuracy 79 %), and 73 % at 0.03 (50 %).",
    "If units still die, use leaky_relu or elu, whose slope is not 0 for negative inputs (Maas et "
    "al. 2013; Clevert et al. 2015, arXiv:1511.07289). Of 200 narrow networks of ten layers, 123 "
    "of them born dead, 195 learned |x| under Adam with leaky_relu, and 31 with ReLU. The outputs "
    "of elu are closer to centred; leaky_relu is cheaper, which matters in large networks.",
    "Use PReLU (He et al. 2015, arXiv:1502.01852) only with much data: it adds parameters.",
    NORMALISE_DEAD,
)
KEEP_RELU = (
    "To keep ReLU's values, use a slope: dead units then receive a gradient for their incoming "
    "weights. The outgoing weights of a dead unit get no gradient until its output is no longer 0. "
    'Of the same 200 networks 164 learned under Adam with ks.get("artificial_relu"), 101 with '
    'ks.get("leaky_backward"), and 123 with initializers.RandomizedAsymmetric and no slope. Under '
    "SGD it was 35, 37 and 70, and 107 with leaky_relu. Where many units die in training but the "
    "layer is not dead, a slope revives units and raised no accuracy."
)


def initialise(case: RuleInput) -> str:
    """Advice to use other initial weights: the theory's, if the network is a plain stack."""
    stack = case.stack
    if stack is None:
        return (
            "Use initial weights that keep the size of the signal: he_normal for ReLU and similar "
            "activations (He et al. 2015, arXiv:1502.01852), glorot_normal for tanh, lecun_normal "
            "for selu."
        )
    name = stack.surrogate.forward.title
    critical = stack.critical_weight_variance
    if critical is None:
        return (
            f"No initial weights keep both the signal and the gradient of {name}: normalise, or "
            "use another activation."
        )
    keras_name = {"relu": ', or "he_normal"', "tanh": ', or "lecun_normal"'}.get(name, "")
    return (
        f"Use initial weights with sigma_w**2 = fan_in * Var(W) = {critical:.3g}; now it is "
        f"{stack.weight_variance:.3g}: "
        f'kernel_initializer=ks.initializers.CriticalNormal("{name}"){keras_name}.'
    )


def fitting(case: RuleInput, remedies: Sequence[str]) -> tuple[str, ...]:
    """The advice without what the model has already; advice about training replaces it."""
    is_normalised = case.is_normalised_throughout
    has = {
        NORMALISE: is_normalised,
        NORMALISE_DEAD: is_normalised,
        RESIDUAL: case.may_have_residuals,
        RECTIFIER: not case.has_squashing,
        RECTIFIER_NORMALISED: not case.has_squashing,
    }
    if is_normalised:
        # The scale of weights has no effect before a normalisation.
        has[initialise(case)] = True
        remedies = [RECTIFIER_NORMALISED if line == RECTIFIER else line for line in remedies]
    left = [line for line in remedies if not has.get(line, False)]
    if len(left) == len(remedies) or not is_normalised:
        return tuple(left)
    training = [SMALLER_RATE if case.adaptive else RESCALE, WARM_UP, CLIP]
    return (*left, *(line for line in training if line not in left))


def is_off_critical(stack: Stack) -> bool:
    """True if the weights are not those that the theory advises."""
    critical = stack.critical_weight_variance
    return critical is None or not 0.7 < stack.weight_variance / critical < 1.4


def against_vanishing(case: RuleInput) -> tuple[str, ...]:
    """Advice without surrogates first.

    A balanced surrogate is advised only where it is measured to help: sigmoids under plain SGD.
    """
    stack = case.stack
    lines = balance(case) if case.has_surrogates else []
    if stack is None or is_off_critical(stack):
        lines.append(initialise(case))
    lines += [NORMALISE, RECTIFIER, RESIDUAL]

    if stack is None or case.has_surrogates or case.adaptive:
        return tuple(lines)
    balanced = stack.balanced
    is_sigmoid = stack.surrogate.forward.title == "sigmoid"
    if is_sigmoid and balanced and _is_good(balanced[1]):
        lines.append(
            "Or keep the sigmoid and balance its slope: "
            f'ks.Surrogate("sigmoid", scale={balanced[0].scale:.3g}). With plain SGD, 4 times the '
            "slope raised the accuracy of five sigmoid layers from 10 % to 75 % "
            "(examples/02_deep_sigmoid.py)."
        )
    return tuple(lines)


def _is_good(prediction: Prediction) -> bool:
    ratio = prediction.gradient_ratio
    aligned = prediction.alignment
    return 0.03 < ratio < 30 and aligned is not None and aligned[0] >= thresholds.MISALIGNED


def balance(case: RuleInput) -> list[str]:
    """Advice to use the scale that keeps the gradient's norm."""
    limit = "This corrects the norm of the gradient, not its direction."
    stack = case.stack
    balanced = stack and stack.balanced
    if not balanced:
        return [f"Balance the surrogates, theory.balance(surrogate, fan_in * Var(W)). {limit}"]
    call = (
        f"theory.balance(surrogate, {stack.weight_variance:.3g}, "
        f"signal_variance={stack.signal_variance:.3g})"
    )
    return [f"Balance the surrogate: {call} gives scale={balanced[0].scale:.3g}. {limit}"]


def against_exploding(case: RuleInput) -> tuple[str, ...]:
    stack = case.stack
    lines = balance(case) if case.has_surrogates else []
    if stack is None or is_off_critical(stack):
        lines.append(initialise(case))
    return (*lines, NORMALISE, CLIP)


def for_zero_slope(row: Row | None) -> tuple[str, ...]:
    """Published surrogates with the values of a layer's activation, whose own slope is 0.

    Args:
        row: the layer's row; None where the gradient ends between layers.
    """
    activation = row and row.activation
    names = [name for name in presets.names() if presets.get(name).forward.title == activation]
    names = [name for name in names if name != "gradient_reversal"]
    if activation in functions.names() and names:
        listed = ", ".join(f'ks.get("{name}")' for name in names)
        return (f"Use a surrogate, which has a slope in the backward pass: {listed}.",)
    return (
        "Find the operation whose derivative is 0 or not defined (rounding, sign, a comparison, "
        "argmax, a cast to integers) and give it a slope in the backward pass: "
        'ks.Surrogate("round", "linear") passes the gradient straight through (Bengio et al. 2013, '
        "arXiv:1308.3432).",
    )


def against_misalignment(case: RuleInput) -> tuple[str, ...]:
    stack = case.stack
    lines = []
    if stack is not None and stack.surrogate.forward.title == "relu":
        lines.append(
            "Use a slope that is closer to the true one: "
            'ks.get("leaky_backward", negative_slope=0.1) kept a cosine of 0.9 through 20 layers.'
        )
    return (
        *lines,
        "Use the true slope where it is not 0, change to it gradually with "
        "callbacks.SurrogateAnnealing, or use fewer layers.",
        "Balancing does not help: it corrects the norm of the gradient, not its direction.",
    )


def rescales_gradients(optimizer: keras.optimizers.Optimizer | None) -> bool | None:
    """True if the size of an optimizer's steps does not depend on the size of the gradient."""
    if optimizer is None:
        return None
    return not isinstance(innermost(optimizer), keras.optimizers.SGD)
