"""Names of classes: read from a flag, checked, and found under other spellings."""

import pytest

from fer_pipeline import classes


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ("a", "b")),
        ("no mask, mask", ("no mask", "mask")),
        ('"cats, small",dogs,"say ""hi"""', ("cats, small", "dogs", 'say "hi"')),
        ("auto,é", ("auto", "é")),
        ('" a","b ",\'c\'', (" a", "b ", "'c'")),
    ],
)
def test_a_flag_lists_names_as_a_row_of_csv(text, names):
    assert classes.parse(text) == names
    assert classes.parse(classes.as_text(names)) == names


def test_auto_names_none():
    assert classes.parse("auto") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has 0 classes, where 2 to 1,000 are possible"),
        ("a", "has 1 class, where"),
        (",".join(map(str, range(1001))), "has 1,001 classes, where"),
        ("a,b,a", "names 'a' twice"),
        ("caf\u00e9,b,cafe\u0301", "names 'cafe\u0301' twice"),
        ("a,", "its class '' is blank"),
        ("a\rb,c", "holds a line break, or a name without an end"),
        ("a,b\tc", "holds a line break, a control character"),
        ("a,b\udcff", "or bytes that are not UTF-8"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        classes.parse(text)


def test_a_name_with_a_line_break_is_refused_in_a_list():
    assert "line break" in classes.problem_of(["a", "b\nc"])
    assert classes.problem_of(["a", 3]) == "must be names"
    assert classes.problem_of([str(i) for i in range(1000)]) is None
    assert classes.problem_of(["a", "A", "a ", "\u00e4", "\u00c4"]) is None


def test_other_spellings_are_found_where_one_class_alone_is_meant():
    place = classes.matcher(["Cat", "dog", "DOG", "caf\u00e9"])
    assert [place(name) for name in ("cat", "dog", "DOG", "Dog", "cafe\u0301", "cow")] == [
        *(0, 1, 2, None, 3, None)
    ]
