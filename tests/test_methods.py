"""A method is wrapped on one object only, and is restored completely."""

import pytest

from keras_surrogate import methods


class Greeter:
    def greet(self):
        return "hello"


def louder(owner, method):
    return lambda: method().upper()


def test_a_method_is_replaced_on_one_object_and_taken_off():
    one, other = Greeter(), Greeter()
    restore = methods.replace(one, "greet", louder)
    assert (one.greet(), other.greet()) == ("HELLO", "hello")
    restore()
    assert one.greet() == "hello" and not vars(one)


def test_an_objects_own_method_is_there_again():
    one = Greeter()
    one.greet = own = lambda: "hi"
    with methods.replaced([one], "greet", louder):
        assert one.greet() == "HI"
    assert one.greet is own


def test_after_an_error_as_well():
    several = [Greeter(), Greeter()]
    with pytest.raises(RuntimeError), methods.replaced(several, "greet", louder):
        assert [one.greet() for one in several] == ["HELLO", "HELLO"]
        raise RuntimeError
    assert not any(map(vars, several))
