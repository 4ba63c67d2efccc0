"""A copy of a model with other activations; class, names, weights and optimizer state are equal."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras

from keras_surrogate import functions
from keras_surrogate.conversion import layer_tree
from keras_surrogate.layers import FakeQuantize, SurrogateWeights
from keras_surrogate.layers.within import everything_within
from keras_surrogate.optimizers import LayerRates
from keras_surrogate.recording.optimizers import with_inner
from keras_surrogate.surrogate import Surrogate


def rebuilt(
    model: keras.Model,
    slots: Mapping[int, Mapping[str, object]],
    replacements: Mapping[int, Callable[[], keras.layers.Layer]],
    unwrapped: Sequence[SurrogateWeights] = (),
    plain_optimizer: bool = False,
) -> keras.Model:
    """A copy of a model that shares nothing with it.

    Args:
        model: a Keras model.
        slots: from the id of a layer to the activations of its copy, by attribute name.
        replacements: from the id of a layer to a function that creates the layer to replace it.
        unwrapped: layers whose copy is that of the layer they wrap, with the values of the
            surrogate as its weights; default none. The optimizer's state is not copied then,
            because it belongs to the latent weights.
        plain_optimizer: True puts Keras's optimizer in place of `Bop` and `LayerRates`, which
            contain one; default False.

    Raises:
        ValueError: a layer cannot be created from its configuration, or its copy has other weights.
    """
    with as_in(model):
        copy = _Copier(slots, replacements, unwrapped).copy(model)
        if model.built and not copy.built:
            copy.build_from_config(model.get_build_config())
            # Keras sets it for a model with its own call only when it is called.
            copy.built = True
        _transfer_state(model, copy, unwrapped)
        _transfer_compilation(model, copy, not unwrapped, plain_optimizer)
    return copy


def layer_like(layer: keras.layers.Layer, **changes: object) -> keras.layers.Layer:
    """A new layer with the configuration of another one, without its weights.

    Call it within `as_in` of the layer's model, so that own functions and classes are found.

    Args:
        layer: the layer.
        changes: arguments of its configuration that get other values.
    """
    return _Copier({}, {}).from_config(layer, changes)


def remade(model: keras.Model) -> keras.Model:
    """The model that a `.keras` file of this model creates, without its weights."""
    with as_in(model):
        return _Copier({}, {}).copy(model)


@contextlib.contextmanager
def as_in(model: keras.Model) -> Iterator[None]:
    """A context with the model's strategy, in which its classes and functions are found by name."""
    with (
        model.distribute_strategy.scope(),
        keras.saving.custom_object_scope(_custom_objects(model)),
        _quiet_about_lambdas(),
    ):
        yield


def _custom_objects(model):
    """The model's own classes and functions by name, which need not be registered then."""
    layers = [place.layer for place in layer_tree.walk(model)]
    held = [function for layer in layers for function in _functions_in(layer)]
    compiled = [getattr(model, name, None) for name in ("loss", "optimizer", "metrics")]
    parts = [*_parts(held), *_parts(compiled), *_parts([vars(layer) for layer in layers])]
    functions_of_model = [part for part in parts if isinstance(part, types.FunctionType)]
    classes = [type(part) for part in [*layers, *parts] if not isinstance(part, types.FunctionType)]
    named = {}
    for item in [*functions_of_model, *classes]:
        if item.__module__.split(".")[0] != "keras":
            named.setdefault(item.__name__, []).append(item)
    # A name that several have, such as that of lambdas, says nothing.
    return {name: items[0] for name, items in named.items() if len({*map(id, items)}) == 1}


# What a compilation or a layer consists of, besides functions.
_PARTS = (
    keras.Loss,
    keras.Metric,
    keras.Optimizer,
    keras.Regularizer,
    keras.Initializer,
    keras.constraints.Constraint,
    keras.optimizers.schedules.LearningRateSchedule,
)


def _parts(held):
    """The functions and Keras objects in dictionaries and lists, and in such objects."""
    waiting = [held]
    seen = set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            # Not +=, which fails for the tuples that TensorFlow has wrapped.
            waiting.extend(part)
        elif isinstance(part, types.FunctionType):
            yield part
        elif isinstance(part, _PARTS):
            yield part
            waiting.append(vars(part))


def _functions_in(layer):
    """The functions that a layer applies, also those within surrogates."""
    for value in [*layer_tree.slots(layer).values(), getattr(layer, "surrogate", None)]:
        pair = (value.forward, value.backward) if isinstance(value, Surrogate) else (value,)
        for part in pair:
            yield part.function if isinstance(part, functions.FromCallable) else part


@contextlib.contextmanager
def _quiet_about_lambdas():
    """A context without Keras's warning about unsafe lambdas, which is about files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
        yield


class _NotCopiedError(ValueError):
    def __init__(self, layer: keras.layers.Layer, error: Exception) -> None:
        super().__init__(
            f"{layer.name} ({type(layer).__name__}) cannot be created from its configuration, so "
            "the model cannot be copied. Give your own classes get_config and from_config, and "
            "register functions, or change the model in place: swap(..., inplace=True). The "
            f"reason: {_reason(error)}"
        )


class _Copier:
    """The copies of layers, each made once, so that shared layers are shared in the copy too."""

    def __init__(
        self,
        slots: Mapping[int, Mapping[str, object]],
        replacements: Mapping[int, Callable[[], keras.layers.Layer]],
        unwrapped: Sequence[SurrogateWeights] = (),
    ) -> None:
        self._slots = slots
        self._replacements = {**replacements}
        self._without_latent_weights: set[int] = set()
        for wrapper in unwrapped:
            self._replacements[id(wrapper)] = functools.partial(self._unwrapped, wrapper)
            within = (wrapper.layer, *everything_within(wrapper.layer))
            self._without_latent_weights.update(map(id, within))
        self._copies = {}

    def copy(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._make(layer)
        return self._copies[id(layer)]

    def _make(self, layer):
        if id(layer) in self._replacements:
            return self._replacements[id(layer)]()
        clone = self._cloned(layer)
        return clone if type(clone) is type(layer) else self.from_config(layer, {})

    def _unwrapped(self, wrapper):
        copy = self.copy(wrapper.layer)
        copy.name = wrapper.name
        return copy

    def _cloned(self, model):
        """The clone of a Sequential or functional model, maybe of another class; or None."""
        if type(model) is keras.Sequential:
            inputs = None
        elif isinstance(model, functional_class()):
            inputs = keras.tree.map_structure(
                lambda tensor: _copy_of_input(model, tensor), model.input
            )
        else:
            return None
        try:
            clone = keras.models.clone_model(model, input_tensors=inputs, clone_function=self.copy)
        except Exception as error:
            if type(model) is not functional_class() and type(model) is not keras.Sequential:
                # A subclass may still be copied by its own configuration.
                return None
            if isinstance(error, _NotCopiedError):
                raise
            raise _NotCopiedError(model, error) from error
        clone.dtype_policy = model.dtype_policy
        return clone

    def from_config(self, layer, changes):
        try:
            # A new structure, because the configuration that Keras collects for a class without
            # get_config is not a copy.
            config = keras.tree.map_structure(lambda value: value, layer.get_config())
            with _function_by_name(layer, config):
                copy = type(layer).from_config({**self._edited(config, layer), **changes})
        except Exception as error:
            raise _NotCopiedError(layer, error) from error
        copy.name = layer.name
        return copy

    def _edited(self, config, layer):
        """The configuration of a layer with other activations, also in the layers it holds."""
        if not isinstance(layer, keras.layers.Layer):
            return config
        if id(layer) in self._without_latent_weights:
            config.update({name: None for name, value in config.items() if _is_weight_clip(value)})
        slots = {**_unchanged(layer), **self._slots.get(id(layer), {})}
        config.update({name: activation for name, activation in slots.items() if name in config})
        for child in layer_tree.children(layer).values():
            slot = next((name for name, value in config.items() if _describes(value, child)), None)
            node = _find(config, child.name)
            if slot and slot.endswith("activation"):
                config[slot] = self.copy(child)
            elif node and id(child) in self._replacements:
                # Not only updated, because a description of how the old layer is built may be left.
                node.clear()
                node.update(keras.saving.serialize_keras_object(self.copy(child)))
            elif node:
                node["config"] = self._edited(node["config"], child)
        return config


def _is_weight_clip(value):
    """True for the description of the constraint that only latent weights need."""
    return _is_description(value) and value.get("registered_name") == "keras_surrogate>WeightClip"


def _unchanged(layer):
    """A layer's own functions, which Keras does not find by name unless they are registered."""
    return {
        name: value
        for name, value in layer_tree.slots(layer).items()
        if isinstance(value, types.FunctionType)
    }


def _reason(error):
    """The first line of the innermost error: Keras adds whole configurations around it."""
    while error.__context__ is not None:
        error = error.__context__
    return textwrap.shorten((str(error).strip().splitlines() or [type(error).__name__])[0], 200)


@functools.cache
def functional_class() -> type[keras.Model]:
    """The class of functional models, which has no public name in Keras."""
    tensor = keras.Input((), name="input")
    return type(keras.Model(tensor, tensor, name="model"))


def is_graph(layer: keras.layers.Layer) -> bool:
    """True for a Sequential or functional model, not a subclass: its layers' calls are known."""
    return type(layer) is keras.Sequential or type(layer) is functional_class()


def _copy_of_input(model, tensor):
    """A new input with all options of the old one; `clone_model` keeps only some."""
    inputs = (layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer))
    layer = next(layer for layer in inputs if layer.output is tensor)
    return keras.layers.InputLayer.from_config(layer.get_config()).output


@contextlib.contextmanager
def _function_by_name(layer, config):
    """A context in which the function of a Lambda is found by name.

    Its serialised code would lose the variables that it refers to.
    """
    if not isinstance(layer, keras.layers.Lambda):
        yield
        return
    name = "function_of_lambda_layer"
    config["function"] = {
        "module": "builtins",
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }
    with keras.saving.custom_object_scope({name: layer.function}):
        yield


def _find(config, name):
    """The description of the layer with a name, within a configuration, or None."""
    if _is_description(config) and config["config"].get("name") == name:
        return config
    if isinstance(config, dict):
        parts = config.values()
    elif isinstance(config, list | tuple):
        parts = config
    else:
        return None
    return next((found for part in parts if (found := _find(part, name))), None)


def _is_description(value):
    return (
        isinstance(value, dict) and "class_name" in value and isinstance(value.get("config"), dict)
    )


def _describes(value, layer):
    return _is_description(value) and value["config"].get("name") == layer.name


def _transfer_state(model, copy, unwrapped):
    every_pair = list(layer_tree.pairs(model, copy))
    matched = [pair for pair in every_pair if not _is_baked(*pair[1:])]
    for _, layer, counterpart in matched:
        # Outer layers first, because a model passes its value on to all of its layers.
        if counterpart.trainable != layer.trainable:
            counterpart.trainable = layer.trainable
    for path, layer, counterpart in matched:
        try:
            transfer_own_state(layer, counterpart)
        except Exception as error:
            raise ValueError(
                f"The copy of {path} ({type(layer).__name__}) does not take the weights of the "
                "original, so the model cannot be copied; swap(..., inplace=True) needs no copy. "
                f"The reason: {_reason(error)}"
            ) from error
    # The steps of learned scales are in the values, and ranges are constants of the copy.
    left_out = [weight for wrapper in unwrapped for weight in wrapper.own_weights]
    for _, layer, counterpart in every_pair:
        if _is_baked(layer, counterpart):
            left_out += layer.weights
    expected = [weight.shape for weight in model.weights if id(weight) not in map(id, left_out)]
    if expected != [weight.shape for weight in copy.weights]:
        raise ValueError(
            f"The copy of {model.name} has other weights than the original, because layers that "
            "share weights were created from their configuration. swap(..., inplace=True) needs no "
            "copy."
        )

    counterparts = {id(layer): counterpart for _, layer, counterpart in matched}
    for wrapper in unwrapped:
        wrapper.assign_effective_weights(counterparts[id(wrapper.layer)])


def _is_baked(layer, counterpart):
    """True for a range that is a constant of the copy."""
    return isinstance(layer, FakeQuantize) and not isinstance(counterpart, FakeQuantize)


def transfer_own_state(layer: keras.layers.Layer, counterpart: keras.layers.Layer) -> None:
    """Copy weights, assets (vocabularies, statistics of a Normalization) and random states."""
    weights = {}
    layer.save_own_variables(weights)
    if weights:
        counterpart.load_own_variables(weights)
    if hasattr(layer, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            counterpart.load_assets(folder)
    for name, value in vars(layer).items():
        if isinstance(value, keras.random.SeedGenerator) and hasattr(counterpart, name):
            getattr(counterpart, name).state.assign(value.state)


def _with_plain_optimizer(config):
    """A configuration with the optimizer within `Bop` or `LayerRates` in place of them."""
    if not isinstance(config, dict):
        return config
    within = {"keras_surrogate>Bop": "rest", "keras_surrogate>LayerRates": "optimizer"}
    name = within.get(config.get("registered_name"))
    if name is not None:
        return _with_plain_optimizer(config["config"][name])
    return {key: _with_plain_optimizer(value) for key, value in config.items()}


def _optimizer_variables(optimizer, plain):
    """The variables of an optimizer; if `plain` is True, without those of `LayerRates` itself."""
    own = set()
    if plain:
        rates = [one for one in with_inner([optimizer]) if isinstance(one, LayerRates)]
        own = {id(variable) for one in rates for variable in one.own_variables}
    return [variable for variable in optimizer.variables if id(variable) not in own]


def _transfer_compilation(model, copy, with_optimizer, plain_optimizer):
    """Compile the copy like the model, and copy the optimizer's variables if asked to."""
    if not getattr(model, "compiled", False):
        return
    config = model.get_compile_config()
    if plain_optimizer:
        config = _with_plain_optimizer(config)
    copy.compile_from_config(config)
    if model.optimizer is None or not model.optimizer.built or not copy.compiled:
        return
    if not with_optimizer:
        return
    variables = _optimizer_variables(model.optimizer, plain_optimizer)
    counterparts = copy.optimizer.variables
    if [variable.shape for variable in variables] != [variable.shape for variable in counterparts]:
        warnings.warn(
            f"The optimizer state of {model.name} was not copied, because it belongs to other "
            "variables than those that are trainable now. The copy's optimizer starts from its "
            "initial state.",
            stacklevel=4,
        )
        return
    for variable, counterpart in zip(variables, counterparts, strict=True):
        counterpart.assign(variable)
