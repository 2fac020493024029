"""What a stranger's Keras file asks for is named before anything of it runs."""

import io
import json
import re
import resource
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest

from fer_pipeline.errors import UserError
from fer_pipeline.inference import keras_sizes, model_loader, strangers

SHAPE = [None, 48, 48, 1]


SHAPE = [None, 48, 48, 1]


def faces(count):
    return np.zeros((count, 48, 48, 1), np.uint8)


def with_lambda(tmp_path):
    layers = [
        keras.Input((48, 48, 1)),
        keras.layers.Flatten(),
        keras.layers.Lambda(lambda x: x[:, :7] * 0 + 1 / 7),
    ]
    return keras.Sequential(layers)


@pytest.mark.parametrize("name", ["model.keras", "model.json"])
def test_a_lambda_layer_is_refused(tmp_path, name):
    model = with_lambda(tmp_path)
    if name == "model.keras":
        model.save(tmp_path / name)
    else:
        (tmp_path / name).write_text(model.to_json())
        with h5py.File(tmp_path / "model_weights.h5", "w"):
            pass
    with pytest.raises(UserError, match=r"asks for __lambda__, keras\.layers\.Lambda"):
        model_loader.open_model(tmp_path / name)


def test_keras_itself_refuses_a_lambda_layer_too(tmp_path):
    with_lambda(tmp_path).save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="damaged or not a model"):
        model_loader.open_model(tmp_path / "model.keras", trust=True)


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}},
        {"module": "builtins", "class_name": "function", "config": "eval"},
        {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        {"module": "os", "class_name": "Dense", "config": {}},
    ],
)
def test_other_classes_are_named_wherever_they_are(tmp_path, layer):
    path = tmp_path / "model.json"
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [[layer]]}}
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=re.escape(layer["class_name"])):
        strangers.check_keras(path)


def sequential(*layers, batch_size=None):
    """A Keras model's JSON, from faces to what the layers make of them."""
    first = ("InputLayer", {"batch_shape": [batch_size, *SHAPE[1:]]})
    values = [
        {"module": "keras.layers", "class_name": name, "config": {"name": f"l{i}", **config}}
        for i, (name, config) in enumerate([first, *layers])
    ]
    return json.dumps(
        {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": values}}
    )


FLATTEN = ("Flatten", {})
CLASSIFY = ("Dense", {"units": 7, "activation": "softmax"})


@pytest.mark.parametrize("name", ["model.json", "model.keras"])
@pytest.mark.parametrize(
    ("layers", "batch_size", "words"),
    [
        # 2304 * 600,000 weights and their biases, of four bytes, and those of the last layer.
        ([FLATTEN, ("Dense", {"units": 600_000})], None, "variables of 5,549 MB, more than 268"),
        # 3 * 2304 + 7 values of four bytes, the faces themselves among them.
        ([("Activation", {"activation": "relu"}), FLATTEN], 1_500_000, "outputs of 41,514 MB"),
        ([("ZeroPadding2D", {"padding": 30_000}), ("GlobalMaxPooling2D", {})], None, "outputs of"),
    ],
)
def test_a_keras_model_that_takes_too_much_is_refused_unbuilt(
    tmp_path, name, layers, batch_size, words
):
    config = sequential(*layers, CLASSIFY, batch_size=batch_size)
    weights = io.BytesIO()
    with h5py.File(weights, "w"):
        pass
    if name == "model.json":
        (tmp_path / name).write_text(config)
        (tmp_path / "model_weights.h5").write_bytes(weights.getvalue())
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", weights.getvalue())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=words) as caught:
        model_loader.open_model(tmp_path / name)
    assert "\n" not in str(caught.value)
    # What the scope left uninitialised must not be initialised by the next model, either.
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    # In units of 1024 bytes (getrusage(2)): far less than any of the three takes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


def test_a_keras_models_sizes_are_those_of_its_variables_and_outputs():
    convolution = ("Conv2D", {"filters": 5, "kernel_size": 3, "padding": "same"})
    config = sequential(convolution, FLATTEN, CLASSIFY, batch_size=2)
    variables, outputs = keras_sizes.measure(config.encode())
    assert variables == 4 * (9 * 5 + 5 + 48 * 48 * 5 * 7 + 7)
    assert outputs == 4 * 2 * (48 * 48 * (1 + 5 + 5) + 7)


def test_what_fails_while_it_runs_is_one_line(tmp_path):
    layers = [keras.Input((48, 48, 1)), keras.layers.Flatten(), keras.layers.Dense(7)]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    model = model_loader.open_model(tmp_path / "model.keras")
    # Faces of another size stand for whatever TensorFlow refuses to compute.
    with pytest.raises(UserError, match=r"model\.keras: damaged or not a model \(") as caught:
        model(np.zeros((1, 40, 40, 1), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_configuration_or_graph_too_large_to_be_one_is_refused_unread(tmp_path):
    # Sparse: 3 TB that are not on the disk.
    for name, check in (
        ("model.json", strangers.check_keras),
        ("saved_model.pb", lambda path: strangers.check_saved_model(path.parent)),
    ):
        with open(tmp_path / name, "wb") as file:
            file.truncate(3 * 10**12)
        with pytest.raises(UserError, match=rf"{re.escape(name)}: .* 3,000,000\.0 MB"):
            check(tmp_path / name)


def zipped(path, name, size):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w") as file,
    ):
        for _ in range(size // 2**20):
            file.write(b"\0" * 2**20)
    return path


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(strangers, "MAX_UNPACKED", 2**23)
    path = zipped(tmp_path / "model.keras", "config.json", 2**24)
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match=r"would unpack to 17 MB, more than 8"):
        model_loader.open_model(path)


def test_an_archive_cannot_unpack_to_more_than_it_says(tmp_path):
    path = zipped(tmp_path / "model.keras", "config.json", 2**22)
    content = bytearray(path.read_bytes())
    # The size in the archive's directory: bytes 24 to 28 of an entry (PKWARE's APPNOTE 4.3.12).
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 10)
    with zipfile.ZipFile(io.BytesIO(content)) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("config.json")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_of_another_compression_is_refused(tmp_path, method):
    # zipfile unpacks all of such a member before it looks at the size that is said of it.
    with zipfile.ZipFile(tmp_path / "model.keras", "w", method) as archive:
        archive.writestr("config.json", b"{}")
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(UserError, match=r"model\.keras: compressed by other than DEFLATE"):
        model_loader.open_model(tmp_path / "model.keras")


def test_an_hdf5_file_of_huge_arrays_is_refused(tmp_path):
    (tmp_path / "model.json").write_text(
        json.dumps({"module": "keras", "class_name": "Sequential", "config": {"layers": []}})
    )
    with h5py.File(tmp_path / "model_weights.h5", "w") as file:
        # Without a single chunk written it takes no room in the file.
        file.create_dataset("dense/kernel", shape=(2**40, 2**10), dtype="f4", chunks=True)
    with pytest.raises(UserError, match=r"model_weights\.h5: holds arrays of [0-9,]+ MB"):
        model_loader.open_model(tmp_path / "model.json")


def legacy(file, layers=(b"a",), names=(b"w",)):
    """The lists and the group of Keras 2's layout, without the array."""
    file.attrs["layer_names"] = np.array(layers)
    group = file.create_group("a")
    group.attrs["weight_names"] = np.array(names)
    return group


def named_twice(file, folder):
    legacy(file, layers=[b"a"] * 60)["w"] = np.ones(3, "f4")


def named_by_two_paths(file, folder):
    legacy(file, names=[b"w", b"/a/w"])["w"] = np.ones(3, "f4")


def linked_twice(file, folder):
    group = legacy(file, names=[b"w", b"v"])
    group["w"] = np.ones(3, "f4")
    group["v"] = group["w"]


def named_in_parts(file, folder):
    file.attrs["layer_names0"] = np.array([b"a"] * 60)


def many_names(file, folder):
    file.attrs["layer_names"] = np.zeros(5000, "S1")


def external_storage(file, folder):
    (folder / "secret").write_bytes(bytes(12))
    file_and_place = [(str(folder / "secret"), 0, 12)]
    legacy(file).create_dataset("w", shape=(3,), dtype="f4", external=file_and_place)


def virtual(file, folder):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "w", shape=(3,))
    legacy(file).create_virtual_dataset("w", layout)


def external_link(file, folder):
    legacy(file)["w"] = h5py.ExternalLink(str(folder / "other.h5"), "w")


def soft_link(file, folder):
    legacy(file)["w"] = h5py.SoftLink("/v")
    file["v"] = np.ones(3, "f4")


def compressed(file, folder):
    legacy(file).create_dataset("w", data=np.ones(3, "f4"), compression="gzip")


def text(file, folder):
    legacy(file).create_dataset("w", data=["text"] * 3)


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (named_twice, "names an array or layer twice"),
        (named_by_two_paths, "names an array or layer twice"),
        (linked_twice, "names an array or layer twice"),
        (named_in_parts, "names in parts"),
        (many_names, "attribute of more than 4096 values"),
        (external_storage, "an array that lies elsewhere"),
        (virtual, "an array that lies elsewhere"),
        (external_link, "a soft link"),
        (soft_link, "a soft link"),
        (compressed, "a compressed array"),
        (text, "something else than numbers"),
    ],
)
def test_an_hdf5_file_of_more_than_plain_arrays_is_refused(tmp_path, fill, words):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["w"] = np.ones(3, "f4")
    with h5py.File(tmp_path / "model_weights.h5", "w") as file:
        fill(file, tmp_path)
    (tmp_path / "model.json").write_text(sequential(FLATTEN, CLASSIFY))
    with pytest.raises(UserError, match=rf"model_weights\.h5: .*{words}"):
        model_loader.open_model(tmp_path / "model.json")
