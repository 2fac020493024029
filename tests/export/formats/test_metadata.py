import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from export.formats import metadata
from export.spec.artifacts import ARTIFACTS

LABELS = "angry\ndisgust\nfear\nhappy\nneutral\nsad\nsurprise\n"
NAMES = [name for name, artifact in ARTIFACTS.items() if artifact.runtime == "tflite"]


@pytest.fixture(scope="module")
def contents(exported):
    return {name: (exported.folder / ARTIFACTS[name].path).read_bytes() for name in NAMES}


def _entry(content):
    """The buffer that TFLITE_METADATA names, found by LiteRT's own schema."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    entries = {model.Metadata(i).Name(): model.Metadata(i) for i in range(model.MetadataLength())}
    return model.Buffers(entries[b"TFLITE_METADATA"].Buffer()).DataAsNumpy().tobytes()


def _fields(data, position):
    """A flatbuffer table by hand: field number -> position of its value."""
    table = position + struct.unpack_from("<I", data, position)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    offsets = struct.unpack_from(f"<{(size - 4) // 2}H", data, vtable + 4)
    return {i: table + offset for i, offset in enumerate(offsets) if offset}


def _string(data, position):
    start = position + struct.unpack_from("<I", data, position)[0]
    return data[start + 4 : start + 4 + struct.unpack_from("<I", data, start)[0]].decode()


def _first(position, data):
    """Where the first element of a vector is."""
    start = position + struct.unpack_from("<I", data, position)[0]
    assert struct.unpack_from("<I", data, start)[0] == 1
    return start + 4


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_are_a_zip_behind_the_model(contents, exported, name):
    with zipfile.ZipFile(io.BytesIO(contents[name])) as archive:
        [member] = archive.infolist()
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == LABELS
    assert member.filename == "labels.txt"
    assert member.compress_type == zipfile.ZIP_STORED
    assert member.date_time == (1980, 1, 1, 0, 0, 0)
    assert (exported.folder / "labels.txt").read_text() == LABELS


def test_a_stranger_can_unzip_the_labels(exported, tmp_path):
    path = exported.folder / "model_int8_rgb.tflite"
    command = [sys.executable, "-m", "zipfile", "-e", str(path), str(tmp_path)]
    subprocess.run(command, check=True)
    assert (tmp_path / "labels.txt").read_text() == LABELS


@pytest.mark.parametrize(("name", "color_space"), [("int8", 2), ("float32_rgb", 1)])
def test_the_fields_are_where_the_schema_has_them(contents, name, color_space):
    """Read by hand, with the numbers of metadata_schema.fbs."""
    data = _entry(contents[name])
    assert data[4:8] == b"M001"
    model = _fields(data, 0)
    assert name in _string(data, model[0])
    assert "expression" in _string(data, model[1])
    assert _string(data, model[2]) == "0.1.0"
    assert _string(data, model[4]) == "fer_pipeline"
    assert "Apache-2.0" in _string(data, model[5])
    assert _string(data, model[7]) == "1.0.0"
    graph = _fields(data, _first(model[3], data))
    image = _fields(data, _first(graph[2], data))
    assert _string(data, image[0]) == "image"
    content = _fields(data, image[3])
    assert data[content[0]] == 2
    properties = _fields(data, content[1])
    assert data[properties[0]] == color_space
    size = _fields(data, properties[1])
    assert struct.unpack_from("<I", data, size[0]) == struct.unpack_from("<I", data, size[1])
    assert struct.unpack_from("<I", data, size[0]) == (48,)
    unit = _fields(data, _first(image[4], data))
    assert data[unit[0]] == 1
    options = _fields(data, unit[1])
    assert struct.unpack_from("<f", data, _first(options[0], data)) == (0.0,)
    assert struct.unpack_from("<f", data, _first(options[1], data)) == (1.0,)
    stats = _fields(data, image[5])
    assert struct.unpack_from("<f", data, _first(stats[0], data)) == (255.0,)
    assert struct.unpack_from("<f", data, _first(stats[1], data)) == (0.0,)
    probabilities = _fields(data, _first(graph[3], data))
    assert _string(data, probabilities[0]) == "probabilities"
    assert 4 not in probabilities
    file = _fields(data, _first(probabilities[6], data))
    assert _string(data, file[0]) == "labels.txt"
    assert data[file[2]] == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(contents, name):
    tables, labels = metadata.read(contents[name], name)
    assert tables == metadata.describe(name)
    assert labels == LABELS
    assert metadata.find_problems(contents[name], name) == ()


def test_the_model_in_front_is_the_same_to_an_interpreter(contents):
    """Metadata once more, over what is there: operators, tensors and weights stay."""
    from export.formats import tflite

    content = contents["int8"]
    again = metadata.with_metadata(content, "int8", LABELS)
    assert tflite.describe(again) == tflite.describe(content)


def test_equal_arguments_give_equal_bytes(contents):
    first, second = (
        metadata.with_metadata(contents["float16"], "float16", LABELS) for _ in range(2)
    )
    assert first == second


class TestProblems:
    def plain(self, content):
        """The file as a converter leaves it."""
        from ai_edge_litert import schema_py_generated as schema
        from flatbuffers import Builder

        model = schema.ModelT.InitFromPackedBuf(content)
        model.metadata = [e for e in model.metadata if e.name != b"TFLITE_METADATA"]
        builder = Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def test_a_file_without_metadata(self, contents):
        [problem] = metadata.find_problems(self.plain(contents["int8"]), "int8")
        assert problem == "its metadata cannot be read (there is no TFLITE_METADATA)"

    def test_another_formats_metadata(self, contents):
        [problem] = metadata.find_problems(contents["int8"], "int8_rgb")
        assert "other inputs" in problem

    def test_other_labels(self, contents):
        swapped = LABELS.replace("angry\ndisgust", "disgust\nangry")
        content = metadata.with_metadata(self.plain(contents["int8"]), "int8", swapped)
        assert metadata.find_problems(content, "int8") == ("its labels.txt holds other labels",)

    def test_no_archive(self, contents):
        content = contents["int8"]
        cut = content[: content.rindex(b"PK\x03\x04")]
        [problem] = metadata.find_problems(cut, "int8")
        assert "cannot be read" in problem

    def test_another_wording_is_none(self, contents, monkeypatch):
        with monkeypatch.context() as other:
            other.setattr(metadata, "_INPUTS", {1: "A face."})
            other.setattr(metadata, "__version__", "9")
            content = metadata.with_metadata(self.plain(contents["int8"]), "int8", LABELS)
        assert metadata.find_problems(content, "int8") == ()

    @pytest.mark.parametrize("seed", range(20))
    def test_damage_is_a_problem_and_no_crash(self, contents, seed):
        content = bytearray(contents["int8"])
        start = content.index(_entry(contents["int8"]))
        rng = np.random.default_rng(seed)
        for position in rng.integers(start, start + 400, 30):
            content[position] = rng.integers(256)
        for problem in metadata.find_problems(bytes(content), "int8"):
            assert problem.startswith("its ")
