"""Methods of one object, wrapped for a while. Nothing is changed in its class."""

import contextlib


def replace(owner, name, wrap):
    """Puts another method on an object; returns the function that takes it off again.

    Args:
        owner: the object.
        name: the method's name.
        wrap: a function from the object and its present method to the new one.
    """
    own = vars(owner)
    before = {name: own[name]} if name in own else {}
    # Not by setattr, which Keras's layers and models watch.
    own[name] = wrap(owner, getattr(owner, name))

    def restore():
        own.pop(name, None)
        own.update(before)

    return restore


@contextlib.contextmanager
def replaced(owners, name, wrap):
    """A context in which a method of each of some objects is another one, as `replace` does it."""
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stack.callback(replace(owner, name, wrap))
        yield
