"""Two logical CPU devices for every test, and what is left out without a GPU or without `--all`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import gc

import keras
import pytest
import quick
import tensorflow as tf
import tiers
from tiers import pytest_addoption, pytest_configure, pytest_terminal_summary  # noqa: F401

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# What is imported stays. Python need not look through it again and again for garbage.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)


def pytest_collection_modifyitems(config, items):
    tiers.pytest_collection_modifyitems(config, items)
    if not tf.config.list_physical_devices("GPU"):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def fresh_names_and_seed():
    """Layer names count from the start and random numbers repeat, whatever test ran before."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def shortcuts(request):
    """The shortcuts of `quick` by default; none with `--all`."""
    if request.config.getoption("all"):
        yield
        return
    with quick.shortcuts():
        yield


@pytest.fixture(autouse=True)
def no_shortcut(request):
    """No shortcut in a test with the marker `no_shortcut`."""
    if request.node.get_closest_marker("no_shortcut") is None:
        yield
        return
    with quick.no_shortcut():
        yield


@pytest.fixture(scope="session")
def everything(request):
    """True with `--all`, for the slow part of a test."""
    return request.config.getoption("all")


@pytest.fixture
def two_replicas():
    """A strategy of two replicas on this machine's processor.

    Not with the default reduction, whose collective operations are numbered anew by each strategy
    and get mixed up when one process makes several, with plain Keras models too.
    """
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
