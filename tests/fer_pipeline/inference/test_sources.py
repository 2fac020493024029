"""What paths, folders, globs and lists mean."""

import os

import pytest

from fer_pipeline.inference import sources

PNG = b"\x89PNG\r\n\x1a\n"


def found(*arguments, **options):
    """The paths that can be read, and the problems of the others by path."""
    everything = list(sources.expand(map(str, arguments), **options))
    assert all(one.size == os.stat(one.path).st_size for one in everything if not one.problem)
    paths = [one.path for one in everything if not one.problem]
    return paths, {one.path: one.problem for one in everything if one.problem}


@pytest.fixture
def tree(tmp_path):
    """Pictures, and all that lies beside pictures."""
    root = tmp_path / "faces"
    for name in ("b.png", "a.jpg", "sub/c d.JPG", "sub/deeper/e.webp", ".hidden.png", "Thumbs.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "notes.txt").write_text("no picture")
    (root / "picture").write_bytes(PNG)
    (root / "sub" / "up").symlink_to(root)
    (root / "z.png").symlink_to(root / "gone.png")
    os.mkfifo(root / "pipe.png")
    return root


def test_a_folder_means_its_pictures_by_name(tree):
    paths, problems = found(tree)
    names = ["a.jpg", "b.png", "picture", "sub/c d.JPG", "sub/deeper/e.webp"]
    assert paths == [f"{tree}/{name}" for name in names]
    assert problems == {f"{tree}/z.png": "cannot be read (No such file or directory)"}


def test_a_glob_means_what_lies_in_its_folders_once(tree):
    everything = found(tree)[0]
    assert found(f"{tree}/**")[0] == everything
    (tree / "sub" / "up").unlink()
    # Not in a folder that it means: files by their names.
    assert found(f"{tree}/**/*.JPG")[0] == [f"{tree}/sub/c d.JPG"]
    (tree / "sub.png").write_bytes(PNG)
    assert found(f"{tree}/sub*")[0] == [*everything[3:], f"{tree}/sub.png"]


def test_the_folder_of_copies_is_left_out_of_folders_alone(tree):
    without = str(tree / "sub" / "." / "deeper")
    kept = [f"{tree}/a.jpg", f"{tree}/b.png", f"{tree}/picture", f"{tree}/sub/c d.JPG"]
    assert found(tree, without=without)[0] == kept
    assert sources.count([str(tree)], without=without) == len(kept) + 1
    assert found(tree / "sub" / "deeper", without=without)[0] == [f"{tree}/sub/deeper/e.webp"]
    assert found(tree, without=str(tree / "none")) == found(tree)


def test_files_are_counted_and_the_longest_name_is_found(tree):
    arguments = [f"{tree}/*.png", f"{tree}/sub"]
    assert sources.count(arguments) == len(list(sources.expand(arguments))) == 9
    assert sources.width(arguments) == len(f"{tree}/sub/deeper/e.webp")
    assert sources.count(["-", *arguments]) is None
    assert sources.width(["-", *arguments]) == sources.width([f"{tree}/none.png"]) == 0


def test_globs_are_expanded_unless_a_file_has_that_name(tree):
    assert found(tree / "s*/*.JPG")[0] == [f"{tree}/sub/c d.JPG"]
    assert found(tree / "sub/deeper/**/*.webp")[0] == [f"{tree}/sub/deeper/e.webp"]
    assert found(tree / "[ab].*")[0] == [f"{tree}/a.jpg", f"{tree}/b.png"]
    odd = tree / "[ab].jpg"
    odd.write_bytes(b"x")
    assert found(odd)[0] == [str(odd)]


def test_what_cannot_be_read_says_why_and_the_rest_goes_on(tree):
    empty = tree / "empty"
    empty.mkdir()
    address = "https://example.com/a.jpg?size=2"
    arguments = (tree / "no.png", empty, tree / "*.bmp", tree / "pipe.png", "x" * 300, address)
    paths, problems = found(*arguments, tree / "a.jpg")
    assert paths == [f"{tree}/a.jpg"]
    reasons = (
        "cannot be read (No such file or directory)",
        "holds no picture",
        "matches no file",
        "not a regular file",
        "cannot be read (File name too long)",
        "is an address: download the file, and name that",
    )
    assert problems == dict(zip(map(str, arguments), reasons, strict=True))


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_list_on_standard_input_may_hold_any_name(tmp_path, separator):
    names = [b"plain.png", b"with space.png", b"\xff.png"]
    names += [b"two\nlines.png"] if separator == b"\0" else []
    paths = [os.path.join(os.fsencode(tmp_path), name) for name in names]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"x")
    # The last one may lack its end, and empty ones do not count.
    text = separator.join([*paths[:1], b"", *paths[1:]])
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    try:
        assert [os.fsencode(path) for path in found("-", stdin=reader)[0]] == paths
    finally:
        os.close(reader)


def test_a_name_in_a_list_comes_before_the_list_ends():
    reader, writer = os.pipe()
    names = sources.listed(reader)
    os.write(writer, b"one.png\ntwo")
    assert next(names) == "one.png"
    os.write(writer, b".png\n")
    assert next(names) == "two.png"
    os.close(writer)
    assert list(names) == []
    os.close(reader)


def test_a_glob_follows_no_link_back_to_a_folder_that_it_lies_in(tree, monkeypatch):
    # Two of them: in every order there are more ways than can be walked.
    (tree / "sub" / "deeper" / "up").symlink_to(tree)
    (tree / "sub" / "deeper" / "[x]").mkdir()
    (tree / "sub" / "deeper" / "[x]" / "f.webp").write_bytes(b"x")
    deeper = [f"{tree}/sub/deeper/[x]/f.webp", f"{tree}/sub/deeper/e.webp"]
    assert found(f"{tree}/**/*.webp")[0] == deeper
    assert found(f"{tree}/**/**/*.webp")[0] == deeper
    assert found(f"{tree}/s*/d*/[[]x]/**/*.webp")[0] == deeper[:1]
    monkeypatch.chdir(tree)
    assert found("**/*.webp")[0] == ["sub/deeper/[x]/f.webp", "sub/deeper/e.webp"]
    assert found("**/sub/*.JPG")[0] == ["sub/c d.JPG"]
    assert found("**")[0] == found(".")[0]
    assert found("none/**/*.png") == ([], {"none/**/*.png": "matches no file"})
    # A link to a folder elsewhere is followed.
    (tree.parent / "other").mkdir()
    (tree.parent / "other" / "g.webp").write_bytes(b"x")
    (tree / "link").symlink_to(tree.parent / "other")
    assert found("**/g.webp")[0] == ["link/g.webp"]
