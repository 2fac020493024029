"""Tables, against tables that were typed by hand."""

from fer_pipeline.terminal.tables import format_table


def test_first_column_to_the_left_and_numbers_to_the_right():
    rows = [("class", "images"), ("sad", "1,234"), ("surprise", "5")]
    assert format_table(iter(rows)).splitlines() == [
        "class     images",
        "sad        1,234",
        "surprise       5",
    ]


def test_columns_have_a_least_width():
    assert format_table([("a", "b")], min_width=3) == "a      b"
