"""What helps against each fault, with its source. What measurements contradict is not here.

Left out on purpose: any slope for the backward pass against a forward signal that has collapsed;
`flat_spot` against vanishing gradients (README: 9.9 % with it, 9.9 % without); another slope where
the optimizer rescales gradients and the activation is not at fault (5 sigmoid layers under Adam:
80.7 +- 2.2 % with the true slope, 80.9 +- 2.5 % with 4 times it); balancing against a lost
direction (it mends the norm only).

Source of the order in `choose_activation`: "Vanishing Gradients and Choosing the Right Activation
Function", the third part of Paperspace's series on optimization in deep learning; and the papers
that it goes back to.
"""

import keras

from keras_surrogate import functions, presets, thresholds

NORMALISE = (
    "Put a BatchNormalization before each activation (Ioffe and Szegedy 2015, arXiv:1502.03167)."
)
RESIDUAL = "Add residual connections, x + f(x) (He et al. 2016, arXiv:1512.03385)."
RECTIFIER_NORMALISED = (
    "Try ReLU in place of the activation: its slope is 1 wherever it is on, and it is the cheapest."
)
RECTIFIER = f"{RECTIFIER_NORMALISED} With he_normal weights (He et al. 2015, arXiv:1502.01852)."
CENTRE_DATA = (
    "Subtract each feature's mean from the data and divide by its standard deviation, or put "
    "keras.layers.Normalization or BatchNormalization in front (LeCun et al. 1998, Efficient BackProp)."
)
CENTRE_ACTIVATIONS = "Take an activation whose outputs are centred: tanh or ELU (LeCun et al. 1998; arXiv:1511.07289)."
UNSATURATE = (
    "All of its outputs are in the flat ends of the activation, because what goes into it is too large: standardise "
    "the inputs, or start from smaller weights; at the output take no activation, and from_logits=True in the loss."
)
SMALLER_RATE = "Lower the learning rate."
STANDARDISE_TARGETS = (
    "Standardise the targets, (y - mean) / deviation with both from the training set, and undo it for predictions: "
    "model.predict(x) * deviation + mean."
)
WARM_UP = (
    "Let the learning rate rise over the first steps: keras.optimizers.schedules.CosineDecay(initial_learning_rate, "
    "decay_steps, warmup_target=..., warmup_steps=...) (Goyal et al. 2017, arXiv:1706.02677)."
)
RESCALE = (
    "Take an optimizer that rescales each gradient, such as Adam: the size then matters much less."
)
CLIP = "Clip the gradient, optimizer(clipnorm=1.0), as a stopgap (Pascanu et al. 2013, arXiv:1211.5063)."
NO_BACKWARD_TRICK = (
    "A surrogate does not help: no slope in the backward pass brings back what the forward pass "
    "has lost."
)

# The seed of all advice on units that die, in the order in which to try it.
REVIVE = (
    "Lower the learning rate and start the biases at 0: a unit dies when a step makes its bias too negative. ReLU is "
    "still what to try first.",
    "If it goes on, take leaky_relu or elu, which have a slope where ReLU has none (Maas et al. 2013; Clevert et al. "
    "2015, arXiv:1511.07289). ELU's outputs are nearer to centred, but it computes exponentials: in big networks "
    "leaky_relu.",
    "PReLU (He et al. 2015, arXiv:1502.01852) adds parameters: only with much data.",
    NORMALISE,
)
LEAKY_BACKWARD = (
    'To keep ReLU\'s values, ks.get("leaky_backward") revives the incoming weights in training. The outgoing weights '
    "of a "
    "dead unit get no gradient before it fires."
)


def initialise(case):
    """Other weights: the theory's, where the network is one that it is about."""
    stack = case.stack
    if stack is None:
        return (
            "Start from weights that keep the signal's size: he_normal for ReLU and its kin (He et al. 2015, "
            "arXiv:1502.01852), glorot_normal for tanh, lecun_normal for selu."
        )
    name, critical = stack.surrogate.forward.title, stack.critical_weight_variance
    if critical is None:
        return f"No initial weights keep both signal and gradient of {name}: normalise, or take another activation."
    keras_name = {"relu": ', or "he_normal"', "tanh": ', or "lecun_normal"'}.get(name, "")
    return (
        f"Start from weights with sigma_w**2 = fan_in * Var(W) = {critical:.3g}; they have "
        f"{stack.weight_variance:.3g}: "
        f'kernel_initializer=ks.initializers.CriticalNormal("{name}"){keras_name}.'
    )


def fitting(case, remedies):
    """Advice without what the model has already; what can be done about the training takes its place."""
    is_normalised = case.is_normalised_throughout
    has = {
        NORMALISE: is_normalised,
        RESIDUAL: case.may_have_residuals,
        RECTIFIER: not case.has_squashing,
    }
    has[RECTIFIER_NORMALISED] = has[RECTIFIER]
    if is_normalised:
        has[initialise(case)] = (
            True  # what is normalised does not depend on the scale of its weights
        )
        remedies = [RECTIFIER_NORMALISED if line == RECTIFIER else line for line in remedies]
    left = [line for line in remedies if not has.get(line, False)]
    if len(left) == len(remedies) or not is_normalised:
        return tuple(left)
    training = [SMALLER_RATE if case.adaptive else RESCALE, WARM_UP, CLIP]
    return (*left, *(line for line in training if line not in left))


def is_off_critical(stack):
    """Whether the weights are not those that the theory advises."""
    critical = stack.critical_weight_variance
    return critical is None or not 0.7 < stack.weight_variance / critical < 1.4


def against_vanishing(case):
    """First what needs no surrogate; a balanced one only where it is shown to help: sigmoids under plain SGD."""
    advice = balance(case) if case.has_surrogates else []
    advice += (
        [] if case.stack is not None and not is_off_critical(case.stack) else [initialise(case)]
    )
    advice += [NORMALISE, RECTIFIER, RESIDUAL]
    balanced = case.stack and case.stack.balanced
    if (
        balanced
        and not case.has_surrogates
        and case.stack.surrogate.forward.title == "sigmoid"
        and not case.adaptive
        and _is_good(balanced[1])
    ):
        advice.append(
            f'Or keep the sigmoid and balance its slope: ks.Surrogate("sigmoid", scale={balanced[0].scale:.3g}). Under '
            f"plain SGD 4 times the slope took five sigmoid layers from 10 % to 75 % (examples/02_deep_sigmoid.py)."
        )
    return tuple(advice)


def _is_good(prediction):
    ratio, aligned = prediction.gradient_ratio, prediction.alignment
    return 0.03 < ratio < 30 and aligned is not None and aligned[0] >= thresholds.MISALIGNED


def balance(case):
    """The scale that brings the gradient's norm through."""
    mends = "That mends the norm, not the direction."
    balanced = case.stack and case.stack.balanced
    if not balanced:
        return [f"Balance the surrogates, theory.balance(surrogate, fan_in * Var(W)). {mends}"]
    call = (
        f"theory.balance(surrogate, {case.stack.weight_variance:.3g}, "
        f"signal_variance={case.stack.signal_variance:.3g})"
    )
    return [f"Balance the surrogate: {call} gives scale={balanced[0].scale:.3g}. {mends}"]


def against_exploding(case):
    stack, advice = case.stack, balance(case) if case.has_surrogates else []
    if stack is None or is_off_critical(stack):
        advice.append(initialise(case))
    return (*advice, NORMALISE, CLIP)


def for_zero_slope(row):
    """Published pairs with the value that the layer has, where its own slope is 0.

    Args:
        row: of the layer; None where the gradient ends in no layer.
    """
    activation = row and row.activation
    names = [name for name in presets.names() if presets.get(name).forward.title == activation]
    names = [name for name in names if name != "gradient_reversal"]
    if activation in functions.names() and names:
        listed = ", ".join(f'ks.get("{name}")' for name in names)
        return (
            f"Give it a slope in the backward pass, which is what surrogates are for: {listed}.",
        )
    return (
        "Look for an operation whose derivative is 0 or not defined (rounding, sign, comparing, argmax, a cast to "
        'integers) and give it a slope: ks.Surrogate("round", "linear") passes the gradient straight through (Bengio '
        "et al. 2013, arXiv:1308.3432).",
    )


def against_misalignment(case):
    stack, advice = case.stack, []
    if stack is not None and stack.surrogate.forward.title == "relu":
        advice.append(
            'Take a slope nearer to the true one: ks.get("leaky_backward", negative_slope=0.1) kept a cosine of 0.9 '
            "through 20 layers."
        )
    return (
        *advice,
        "Use the true slope where it is not 0, or anneal to it, callbacks.SurrogateAnnealing; or use fewer layers.",
        "Balancing does not help: it mends the norm, not the direction.",
    )


def rescales_gradients(optimizer):
    """Whether an optimizer makes steps whose size does not depend on that of the gradient; None for no optimizer."""
    if optimizer is None:
        return None
    return not isinstance(getattr(optimizer, "inner_optimizer", optimizer), keras.optimizers.SGD)
