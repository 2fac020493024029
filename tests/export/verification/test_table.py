from export.spec.comparison import Comparison
from export.verification.table import format_reports
from export.verification.verify import ArtifactReport, Latency

GOOD = ArtifactReport(
    "int8",
    "model_int8.tflite",
    4_530_000,
    {},
    Comparison(3589, 0.6123, 0.1, 0.9821, 71, 0.05, 0.04, 0.001),
    0.01,
    Latency(0.4012, 0.52),
    (),
)


def test_columns_are_aligned_and_failures_stand_out():
    reference = GOOD._replace(reference=True)
    broken = ArtifactReport("keras", "model.json", 12, None, None, None, None, ("it is damaged",))
    header, first, second, third = format_reports([GOOD, broken, reference]).splitlines()
    assert first.split() == (
        "model_int8.tflite 4.53 61.23% 98.21% 71 5.0e-02 0.40 0.52 passed".split()
    )
    assert second.split() == "model.json 0.00 - - - - - - FAILED".split()
    assert third.split()[-1] == "reference"
    assert len(header) == len(first) == len(second) == len(third)


def test_latency_of_several_images_says_so():
    report = ArtifactReport("int8", "i", 1, {}, None, None, Latency(3.2, 4.0, 8), ())
    assert "3.20 / 8  4.00 / 8" in format_reports([report])


def test_a_terminal_of_80_characters_has_room():
    report = GOOD._replace(path="model_dynamic_range.tflite", size=17_890_000, failures=("no",))
    whole = format_reports([report], columns=120)
    assert whole == format_reports([report])
    narrow = format_reports([report], columns=80)
    assert max(map(len, narrow.splitlines())) <= 80
    # What says whether the file is good stays.
    shown = "model_dynamic_range.tflite 17.89 61.23% 98.21% 5.0e-02 0.40 FAILED"
    assert narrow.splitlines()[1].split() == shown.split()
    golden = format_reports([report], golden=True, columns=80)
    assert max(map(len, golden.splitlines())) <= 80
