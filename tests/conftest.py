"""Which tests run in the same process, and what the suite sees of a GPU."""

import os
import signal

import pytest
from xdist.scheduler import LoadFileScheduling

#: Tests that share an export, which takes half a minute: that of the compact network, and that of
#: the notebook's.
_SHARED = (
    ("tests/export/test_compact.py", "tests/export/delivery/test_pretrained.py"),
    ("tests/export/",),
)

#: Those in the last folder that need none of them.
_APART = ("spec/test_gates.py", "delivery/test_staging.py", "web/test_commands.py", "test_race.py")


class _Scheduling(LoadFileScheduling):
    """Those of a file together, and all that share an export.

    Marks for ``--dist=loadgroup`` would say the same, but pytest 9.2 does not pass them on.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if file.endswith(_APART):
            return file
        return next((group[0] for group in _SHARED if file.startswith(group)), file)


def pytest_xdist_make_scheduler(config, log):
    """Called once, in the process that collects the results."""
    return _Scheduling(config, log)


def pytest_addoption(parser):
    parser.addoption(
        "--gpu", action="store_true", help="let the suite, in one process, see this host's GPUs"
    )
    parser.addoption(
        "--slow",
        action="store_true",
        help="include the tests that take longest: several processes, browsers, compilers",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    # Two processes would share a GPU's memory and its time.
    if config.getoption("gpu"):
        config.option.numprocesses = 0


def pytest_configure(config):
    # A shell's background ignores Ctrl-C, and so would all that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "gpu: needs a GPU, and runs with --gpu alone")
    config.addinivalue_line("markers", "slow: takes 8 s or more, and runs with --slow alone")
    if config.getoption("gpu"):
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def pytest_collection_modifyitems(config, items):
    without = [name for name in ("gpu", "slow") if not config.getoption(name)]
    left_out = [item for item in items if any(map(item.get_closest_marker, without))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def litert():
    """Plain LiteRT, as an app would use a file: (content, images) -> raw outputs ``[N, C]``."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    def run(content, images):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
        found = []
        for image in images:
            interpreter.set_tensor(source["index"], image[None].astype(source["dtype"]))
            interpreter.invoke()
            found.append(interpreter.get_tensor(target["index"])[0])
        return np.array(found)

    return run


@pytest.fixture(scope="session", autouse=True)
def _gpu_for_this_process_alone(request):
    """Has TensorFlow take the GPU here, and hides it from the processes that tests start."""
    if not request.config.getoption("gpu"):
        return
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        pytest.exit("--gpu: TensorFlow sees no GPU here", returncode=1)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
