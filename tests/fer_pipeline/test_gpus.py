"""What is chosen on hosts with GPUs, from a list of devices that is faked."""

import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from fer_pipeline import gpus
from fer_pipeline.devices import precision, xla
from fer_pipeline.devices import strategy as strategy_lib
from fer_pipeline.devices.cluster import WorkerInfo
from fer_pipeline.errors import UserError
from fer_pipeline.gpus import Gpu
from fer_pipeline.models.notebook_cnn import build_training_model

PASCAL, VOLTA, HOPPER, BLACKWELL = (
    Gpu(0, "GTX 1080", (6, 1)),
    Gpu(0, "V100", (7, 0)),
    Gpu(0, "NVIDIA H100 80GB", (9, 0)),
    Gpu(0, "RTX 5090", (12, 0)),
)


#: The module whose sizes the tests shrink.
NETWORK = "fer_pipeline.models.notebook_cnn"


class Mirrored:
    """Stands for the strategy, which would ask for the devices themselves."""

    def __init__(self, devices):
        assert devices is None
        self.num_replicas_in_sync = len(tf.config.list_physical_devices("GPU"))


@pytest.fixture
def with_gpus(monkeypatch):
    """Has TensorFlow list these GPUs."""

    def install(*listed):
        devices = [SimpleNamespace(gpu=gpu) for gpu in listed]
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind=None: devices if kind == "GPU" else []
        )
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda device: {
                "device_name": device.gpu.name,
                "compute_capability": device.gpu.capability,
            },
        )
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", Mirrored)
        monkeypatch.delenv("TF_CONFIG", raising=False)

    return install


@pytest.mark.parametrize(
    ("listed", "policy"),
    [
        ([HOPPER], "mixed_float16"),
        ([VOLTA], "mixed_float16"),
        ([PASCAL], "float32"),
        # One of them trains a batch of 64, and it is the first.
        ([HOPPER, PASCAL], "mixed_float16"),
        ([PASCAL, HOPPER], "float32"),
    ],
)
def test_float16_from_capability_7_and_float32_below(with_gpus, monkeypatch, listed, policy):
    with_gpus(*listed)
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx512_bf16"})
    devices = strategy_lib.join("auto", batch_size=64, log=str)
    assert precision.resolve("auto", strategy_lib.training_gpus(devices)) == policy


def test_several_gpus_share_the_policy_of_the_weakest(with_gpus):
    with_gpus(HOPPER, PASCAL)
    devices = strategy_lib.join("auto", batch_size=512, log=str)
    assert precision.resolve("auto", strategy_lib.training_gpus(devices)) == "float32"


@pytest.mark.parametrize(
    ("strategy", "batch_size", "replicas", "said"),
    [
        ("auto", 64, 1, "one of 2 GPUs trains: --batch_size=64 is less than 256 images for each"),
        ("auto", 511, 1, "one of 2 GPUs trains"),
        ("auto", 512, 2, None),
        ("mirrored", 64, 2, None),
        ("one_device", 4096, 1, None),
    ],
)
def test_several_gpus_train_where_that_is_faster(with_gpus, strategy, batch_size, replicas, said):
    with_gpus(HOPPER, HOPPER)
    lines = []
    devices = strategy_lib.join(strategy, batch_size=batch_size, log=lines.append)
    assert devices.replicas == replicas
    assert len(strategy_lib.training_gpus(devices)) == replicas
    if said is None:
        assert lines == []
    else:
        assert said in lines[0]
        assert "--strategy=mirrored" in lines[0]


@pytest.mark.parametrize(
    ("trained_on", "options", "compiled"),
    [
        ([HOPPER], {}, True),
        ([VOLTA], {}, True),
        ([HOPPER], {"deterministic": True}, False),
        ([BLACKWELL], {}, False),
        ([HOPPER, HOPPER], {"replicas": 2}, False),
        ([], {}, False),
    ],
)
def test_xla_compiles_on_one_gpu_that_it_knows(trained_on, options, compiled):
    options = {"replicas": 1, "deterministic": False} | options
    assert xla.resolve("auto", trained_on, **options) == compiled
    assert not xla.resolve("false", trained_on, **options)
    if options["replicas"] == 1:
        assert xla.resolve("true", trained_on, **options)
    else:
        with pytest.raises(UserError, match="--jit_compile=true"):
            xla.resolve("true", trained_on, **options)


def test_a_gpu_gets_keras_convolutions(with_gpus, monkeypatch):
    monkeypatch.setattr(f"{NETWORK}.CONVOLUTIONS", ((4, 3), (4, 5), (8, 3), (8, 3)))
    monkeypatch.setattr(f"{NETWORK}.DENSE_UNITS", (16, 16))
    monkeypatch.setattr("fer_pipeline.models.fast_layers.cpu_flags", lambda: {"avx2"})

    def kinds():
        layers = build_training_model(dtype_policy="float32").layers
        return {type(layer) for layer in layers if isinstance(layer, keras.layers.Conv2D)}

    assert keras.layers.Conv2D not in kinds()
    with_gpus(HOPPER)
    assert kinds() == {keras.layers.Conv2D}


def test_the_line_says_what_trains(with_gpus):
    with_gpus(HOPPER)
    assert gpus.visible() == [HOPPER]
    assert gpus.training_line([HOPPER], "mixed_float16", 16) == (
        "training on GPU 0: NVIDIA H100 80GB, compute capability 9.0, in mixed_float16"
    )
    assert gpus.training_line([VOLTA, Gpu(1, "T4", (7, 5))], "float32", 16) == (
        "training on GPU 0: V100, compute capability 7.0; GPU 1: T4, compute capability 7.5, in "
        "float32"
    )
    assert gpus.training_line([], "float32", 2) == "training on 2 CPU cores in float32"
    assert gpus.training_line([], "float32", 1) == "training on 1 CPU core in float32"


def test_a_driver_without_a_gpu_in_tensorflow_is_told_of(tmp_path):
    driver = tmp_path / "nvidia0"
    missing = str(driver)
    assert gpus.unused_gpu_hint({}, [missing]) is None
    driver.touch()
    assert "pip install '.[gpu]'" in gpus.unused_gpu_hint({}, [missing])
    assert "pip install '.[gpu]'" in gpus.unused_gpu_hint({"CUDA_VISIBLE_DEVICES": "0"}, [missing])
    # Hidden on purpose.
    for hidden in ("-1", ""):
        assert gpus.unused_gpu_hint({"CUDA_VISIBLE_DEVICES": hidden}, [missing]) is None


def test_a_process_of_one_device_is_the_chief(with_gpus):
    with_gpus(HOPPER)
    assert strategy_lib.join("auto", batch_size=64).worker == WorkerInfo()


def test_hidden_gpus_are_hidden_from_children_alone():
    environ = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}
    assert gpus.hidden(environ) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "-1"}
    assert environ["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("module", ["fer_pipeline.predict", "export.__main__"])
def test_commands_that_need_no_gpu_leave_it_alone(module):
    script = (
        f"import os; from {module} import main\n"
        "from absl import flags\n"
        "flags.FLAGS(['command'])\n"
        "try: main(['command'])\n"
        "except Exception as error: print(type(error).__name__, os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "0"},
    )
    assert result.stdout == "UserError -1\n"
