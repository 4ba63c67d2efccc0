"""Parameters of which the default tier takes a part and `pytest --all` everything."""

import pytest


def some(name, items, chosen):
    """These items by default, all of them with `--all`."""
    chosen = list(chosen)
    params = [
        pytest.param(item, marks=() if any(item is one for one in chosen) else pytest.mark.slow)
        for item in items
    ]
    return pytest.mark.parametrize(name, params)


def edges(names, firsts, seconds, *more):
    """A product of two lists.

    By default each first with the first of the seconds, each second with the first of the firsts,
    and these `more` pairs. All pairs with `--all`.
    """
    firsts = list(firsts)
    seconds = list(seconds)
    params = []
    for first in firsts:
        for second in seconds:
            on_an_edge = first is firsts[0] or second is seconds[0] or (first, second) in more
            params.append(pytest.param(first, second, marks=() if on_an_edge else pytest.mark.slow))
    return pytest.mark.parametrize(names, params)
