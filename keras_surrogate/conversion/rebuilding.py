"""A copy of a model with other activations: same class, same names, same weights, same state of the optimizer."""

import contextlib
import functools
import tempfile
import textwrap
import types
import warnings

import keras

from keras_surrogate import functions
from keras_surrogate.conversion import layer_tree
from keras_surrogate.surrogate import Surrogate


def rebuilt(model, slots, replacements):
    """A copy of `model` that shares nothing with it.

    Args:
        model: a Keras model.
        slots: from the id of a layer to the activations, by attribute name, that its copy gets.
        replacements: from the id of a layer to a function that makes another layer to take its
            place.

    Raises:
        ValueError: a layer cannot be made anew from its configuration, or its copy has other
            weights.
    """
    with _as_in(model):
        copy = _Copier(slots, replacements).copy(model)
        if model.built and not copy.built:
            copy.build_from_config(model.get_build_config())
            copy.built = True  # Keras says so of a model with its own call only when it is called
        _transfer_state(model, copy)
        _transfer_compilation(model, copy)
    return copy


def remade(model):
    """What a `.keras` file would make of a model, without its weights."""
    with _as_in(model):
        return _Copier({}, {}).copy(model)


@contextlib.contextmanager
def _as_in(model):
    """A context in which a copy has the model's strategy, and in which its classes and functions are found by name."""
    with (
        model.distribute_strategy.scope(),
        keras.saving.custom_object_scope(_custom_objects(model)),
        _quiet_about_lambdas(),
    ):
        yield


def _custom_objects(model):
    """The classes and functions that the model is made of, which need not be registered to be found again."""
    loss = keras.tree.flatten(getattr(model, "loss", None))
    held = [function for place in layer_tree.walk(model) for function in _functions_in(place.layer)]
    layers = [type(place.layer) for place in layer_tree.walk(model)]
    classes = [*layers, *(type(part) for part in loss if isinstance(part, keras.losses.Loss))]
    named = [*classes, *(part for part in [*loss, *held] if isinstance(part, types.FunctionType))]
    return {item.__name__: item for item in named if item.__module__.split(".")[0] != "keras"}


def _functions_in(layer):
    """The functions that a layer applies, also those within surrogates."""
    for value in [*layer_tree.slots(layer).values(), getattr(layer, "surrogate", None)]:
        pair = (value.forward, value.backward) if isinstance(value, Surrogate) else (value,)
        yield from (
            part.function if isinstance(part, functions.FromCallable) else part for part in pair
        )


@contextlib.contextmanager
def _quiet_about_lambdas():
    """Keras warns that lambdas are unsafe to load; here they come from a live model and from no file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
        yield


class _NotCopiedError(ValueError):
    def __init__(self, layer, error):
        super().__init__(
            f"{layer.name} ({type(layer).__name__}) cannot be made anew from its configuration, so the model cannot be "
            "copied. Give each class of your own get_config and from_config, and register functions, or change the "
            f"model in place by swap(..., inplace=True). The reason: {_reason(error)}"
        )


class _Copier:
    """Copies layers, each once, so that what is shared in the model is shared in the copy."""

    def __init__(self, slots, replacements):
        self._slots, self._replacements = slots, replacements
        self._copies = {}

    def copy(self, layer):
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._make(layer)
        return self._copies[id(layer)]

    def _make(self, layer):
        if id(layer) in self._replacements:
            return self._replacements[id(layer)]()
        clone = self._cloned(layer)
        return clone if type(clone) is type(layer) else self._from_config(layer)

    def _cloned(self, model):
        """What `clone_model` makes of Sequential and functional models, but not always of the same class; else None."""
        if type(model) is keras.Sequential:
            inputs = None
        elif isinstance(model, _functional_class()):
            inputs = keras.tree.map_structure(
                lambda tensor: _copy_of_input(model, tensor), model.input
            )
        else:
            return None
        try:
            clone = keras.models.clone_model(model, input_tensors=inputs, clone_function=self.copy)
        except Exception as error:
            if type(model) is not _functional_class() and type(model) is not keras.Sequential:
                return None  # its own configuration may still do
            raise (
                error if isinstance(error, _NotCopiedError) else _NotCopiedError(model, error)
            ) from error
        clone.dtype_policy = model.dtype_policy
        return clone

    def _from_config(self, layer):
        try:
            # A new structure, because what Keras collects of a class without get_config is not a
            # copy.
            config = keras.tree.map_structure(lambda value: value, layer.get_config())
            with _function_by_name(layer, config):
                copy = type(layer).from_config(self._edited(config, layer))
        except Exception as error:
            raise _NotCopiedError(layer, error) from error
        copy.name = layer.name
        return copy

    def _edited(self, config, layer):
        """The configuration of a layer, with other activations in it and in the layers it holds."""
        if not isinstance(layer, keras.layers.Layer):
            return config
        slots = {**_unchanged(layer), **self._slots.get(id(layer), {})}
        config.update({name: activation for name, activation in slots.items() if name in config})
        for child in layer_tree.children(layer).values():
            slot = next((name for name, value in config.items() if _describes(value, child)), None)
            node = _find(config, child.name)
            if slot and slot.endswith("activation"):
                config[slot] = self.copy(child)
            elif node and id(child) in self._replacements:
                node.update(keras.saving.serialize_keras_object(self.copy(child)))
            elif node:
                node["config"] = self._edited(node["config"], child)
        return config


def _unchanged(layer):
    """A layer's own functions, since Keras finds only its own and registered ones again."""
    return {
        name: value
        for name, value in layer_tree.slots(layer).items()
        if isinstance(value, types.FunctionType)
    }


def _reason(error):
    """The first line of what went wrong at the bottom: around it Keras repeats whole configurations."""
    while error.__context__ is not None:
        error = error.__context__
    return textwrap.shorten((str(error).strip().splitlines() or [type(error).__name__])[0], 200)


@functools.cache
def _functional_class():
    """The class of models made of inputs and outputs, which Keras does not name publicly."""
    tensor = keras.Input((), name="input")
    return type(keras.Model(tensor, tensor, name="model"))


def _copy_of_input(model, tensor):
    """A new input with the name and the options of the old, of which `clone_model` keeps only some."""
    inputs = (layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer))
    layer = next(layer for layer in inputs if layer.output is tensor)
    return keras.layers.InputLayer.from_config(layer.get_config()).output


@contextlib.contextmanager
def _function_by_name(layer, config):
    """For a Lambda: has its function found by name, because its code alone would lose what it refers to."""
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
    """The description of the layer of that name within a configuration, or None."""
    if _is_description(config) and config["config"].get("name") == name:
        return config
    parts = (
        config.values()
        if isinstance(config, dict)
        else config
        if isinstance(config, list | tuple)
        else ()
    )
    return next((found for part in parts if (found := _find(part, name))), None)


def _is_description(value):
    return (
        isinstance(value, dict) and "class_name" in value and isinstance(value.get("config"), dict)
    )


def _describes(value, layer):
    return _is_description(value) and value["config"].get("name") == layer.name


def _transfer_state(model, copy):
    matched = list(layer_tree.pairs(model, copy))
    for _, layer, counterpart in matched:
        # Outer layers come first, because setting it on a model sets it on all of its layers.
        if counterpart.trainable != layer.trainable:
            counterpart.trainable = layer.trainable
    for path, layer, counterpart in matched:
        try:
            _transfer_own_state(layer, counterpart)
        except Exception as error:
            raise ValueError(
                f"The copy of {path} ({type(layer).__name__}) does not take the weights of the original, so the model "
                f"cannot be copied; swap(..., inplace=True) needs no copy. The reason: {_reason(error)}"
            ) from error
    if [weight.shape for weight in model.weights] != [weight.shape for weight in copy.weights]:
        raise ValueError(
            f"The copy of {model.name} has other weights than the original, because layers that share weights were "
            "made anew from their configuration. swap(..., inplace=True) needs no copy."
        )


def _transfer_own_state(layer, counterpart):
    """Weights, what belongs to them (vocabularies, the statistics of a Normalization), and states of random numbers."""
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


def _transfer_compilation(model, copy):
    """Compiles the copy as the model is, and hands over the optimizer's variables."""
    if not getattr(model, "compiled", False):
        return
    copy.compile_from_config(model.get_compile_config())
    if model.optimizer is None or not model.optimizer.built or not copy.compiled:
        return
    variables, counterparts = model.optimizer.variables, copy.optimizer.variables
    if [variable.shape for variable in variables] != [variable.shape for variable in counterparts]:
        warnings.warn(
            f"The state of the optimizer of {model.name} was not copied, because it belongs to other variables than "
            "those that are trainable now. The copy's optimizer starts anew.",
            stacklevel=4,
        )
        return
    for variable, counterpart in zip(variables, counterparts, strict=True):
        counterpart.assign(variable)
