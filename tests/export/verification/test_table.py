from export.spec.comparison import Comparison
from export.verification.table import format_reports
from export.verification.verify import ArtifactReport, Latency


def test_columns_are_aligned_and_failures_stand_out():
    good = ArtifactReport(
        "int8",
        "model_int8.tflite",
        4_530_000,
        {},
        Comparison(3589, 0.6123, 0.1, 0.9821, 71, 0.05, 0.04, 0.001),
        0.01,
        Latency(0.4012, 0.52),
        (),
    )
    reference = good._replace(reference=True)
    broken = ArtifactReport("keras", "model.json", 12, None, None, None, None, ("it is damaged",))
    header, first, second, third = format_reports([good, broken, reference]).splitlines()
    assert first.split() == (
        "model_int8.tflite 4.53 MB 61.23% 98.21% 71 5.0e-02 0.40 ms 0.52 ms passed".split()
    )
    assert second.split() == "model.json 0.00 MB - - - - - - FAILED".split()
    assert third.split()[-1] == "reference"
    assert len(header) == len(first) == len(second) == len(third)


def test_latency_of_several_images_says_so():
    report = ArtifactReport("int8", "i", 1, {}, None, None, Latency(3.2, 4.0, 8), ())
    assert "3.20 ms / 8  4.00 ms / 8" in format_reports([report])
