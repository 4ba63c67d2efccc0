"""Two logical CPU devices for every test; `gpu` tests need a GPU, `slow` tests need `--all`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import gc

import keras
import pytest
import quick
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

LEFT_OUT = pytest.StashKey()

# What is imported stays. Python need not look through it again and again for garbage.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="the products and the slow tests too")


def pytest_collection_modifyitems(config, items):
    if not tf.config.list_physical_devices("GPU"):
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
    if not config.getoption("all"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        config.stash[LEFT_OUT] = len(slow)


def pytest_terminal_summary(terminalreporter, config):
    # With `-n` the workers collect, and this process knows no number.
    left_out = config.stash.get(LEFT_OUT, "the")
    if left_out and not config.getoption("all"):
        terminalreporter.write_line(
            f"Left out: {left_out} tests that are slow or parts of a product. All: pytest --all"
        )


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
