"""Temporary replacement of methods of single objects. Classes are not changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

# A function from an object and its present method to the new method.
Wrap: TypeAlias = Callable[[Any, Callable[..., Any]], Callable[..., Any]]


def replace(owner: object, name: str, wrap: Wrap) -> Callable[[], None]:
    """Replace a method of an object, and return the function that restores it.

    Args:
        owner: the object.
        name: the method's name.
        wrap: a function from the object and its present method to the new method.
    """
    own = vars(owner)
    before = {name: own[name]} if name in own else {}
    # Not with setattr, because Keras's layers and models track what is set.
    own[name] = wrap(owner, getattr(owner, name))

    def restore() -> None:
        own.pop(name, None)
        own.update(before)

    return restore


@contextlib.contextmanager
def replaced(owners: Iterable[object], name: str, wrap: Wrap) -> Iterator[None]:
    """A context in which a method of each given object is replaced, as by `replace`."""
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stack.callback(replace(owner, name, wrap))
        yield
