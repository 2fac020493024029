"""``description.html``: a data set as one page that shows itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fer_pipeline.datasets.description import Description
from fer_pipeline.evaluation import page
from fer_pipeline.evaluation.label_doubts import Doubts
from fer_pipeline.evaluation.markup import Markup, element, join
from fer_pipeline.evaluation.report_tables import scroll

GENERATOR = "fer_pipeline describe"

#: Rows of a page's width: of blank images, and of doubtful ones.
_BLANK, _DOUBTS = 24, 64

#: Names of images, by their positions.
Namer = Callable[[np.ndarray], Sequence[str]]


class Doubted(NamedTuple):
    """Doubtful labels, and how they were found.

    Attributes:
      doubts: their places are positions among all faces of the description.
      probabilities: float32 ``[N, C]``; only rows of ``asked`` mean anything.
      asked: positions of the images that the model was asked about, int64 ``[M]``.
      accuracy: by split, share of its images asked about whose label the model names.
      notes: sentences that say which images these are, and whether they were held out.
    """

    doubts: Doubts
    probabilities: np.ndarray
    asked: np.ndarray
    accuracy: dict[str, float]
    notes: list[str]


def build(found: Description, names_of: Namer, doubted: Doubted | None = None) -> str:
    """The page as HTML.

    Args:
      found: the data set.
      names_of: names images by their positions among all faces.
      doubted: labels that a model doubts; None without a model.
    """
    sections = list(_sections(found, names_of, doubted))
    links = (element("li", element("a", title, href=f"#{key}")) for key, title, _ in sections)
    lead = (
        f"{len(found.split_of):,} faces in {len(found.classes)} classes, as they are after "
        "conversion to 48x48 grey."
    )
    body = element(
        "body",
        element("a", "Skip to the figures", href="#figures", class_="skip"),
        element(
            "header",
            element("h1", found.source),
            element("p", lead, class_="lead"),
            element("nav", element("ul", links), aria_label="Contents"),
        ),
        element("main", (section for *_, section in sections), id="figures"),
        element("footer", "Made by fer_pipeline describe.", class_="soft"),
    )
    return page.document(f"Data: {found.source}", body, generator=GENERATOR)


def _sections(
    found: Description, names_of: Namer, doubted: Doubted | None
) -> Iterator[tuple[str, str, Markup]]:
    parts = {
        "summary": ("In short", _headline(found, doubted)),
        "images": ("Images", join(_counts(found), _formats(found))),
        "means": ("Mean faces", _means(found)),
        "repeated": ("Repeated images", _repeated(found)),
        "conflicts": ("Equal images, different labels", _conflicts(found, names_of)),
        "blank": ("Images that show nothing", _blank(found, names_of)),
        "doubts": ("Labels that the model doubts", doubted and _doubts(found, names_of, doubted)),
    }
    for key, (title, content) in parts.items():
        if content:
            heading = element("h2", title, id=f"{key}-title")
            section = element("section", heading, content, id=key, aria_labelledby=f"{key}-title")
            yield key, title, section


def _headline(found: Description, doubted: Doubted | None) -> Markup:
    """The figures that one asks for first."""
    copies, held_out = found.copies, found.counts[1:].sum()
    leaked = sum(copies.in_train)
    cards = {
        "Images": (f"{found.counts.sum():,}", _commonest_and_rarest(found)),
        "In groups of equal images": (f"{copies.images:,}", f"{copies.groups:,} groups"),
        "Groups with several labels": (f"{copies.conflicting:,}", "pixel by pixel the same image"),
        "Held-out images seen in training": (
            f"{leaked:,}",
            f"{leaked / max(held_out, 1):.1%} of {held_out:,}; the same photograph: "
            f"{sum(found.similar.in_train):,}",
        ),
        "Images that show nothing": (f"{len(found.blank):,}", f"{len(found.constant):,} constant"),
    }
    if doubted:
        count, asked = len(doubted.doubts.places), len(doubted.asked)
        cards["Doubtful labels"] = (f"{count:,}", f"of {asked:,} images asked about")
    return element(
        "dl",
        (
            element("div", element("dt", name), element("dd", value, element("small", detail)))
            for name, (value, detail) in cards.items()
        ),
        class_="headline",
    )


def _commonest_and_rarest(found: Description) -> str:
    of_class = found.counts[0]
    rarest, commonest = int(of_class.argmin()), int(of_class.argmax())
    if of_class[rarest] == of_class[commonest]:
        return f"training: {of_class[rarest]:,} of each class"
    return (
        f"training: most {found.classes[commonest]}, {of_class[commonest]:,}; "
        f"fewest {found.classes[rarest]}, {of_class[rarest]:,}"
    )


def _table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str | Markup]], **more: object
) -> Markup:
    """A table whose first column names the rows."""
    cells = [element("td", head[0]), *(element("th", name, scope="col") for name in head[1:])]
    body = (
        element("tr", element("th", row[0], scope="row"), (element("td", c) for c in row[1:]))
        for row in rows
    )
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", cells)),
        element("tbody", body),
        **more,
    )


def _counts(found: Description) -> Markup:
    most = max(1, *found.counts[0])
    rows = []
    for label, name in enumerate(found.classes):
        share = found.counts[0, label] / most
        bar = element("span", element("i"), class_="meter", style=f"--s:{share:.3f}")
        first, *others = (f"{n:,}" for n in found.counts[:, label])
        rows.append([name, join(first, bar), *others])
    rows.append(["all", *(f"{n:,}" for n in found.counts.sum(axis=1))])
    head = ("class", *found.splits)
    table = _table("Images by class and split", head, rows, class_="counts")
    if len(found.splits) == 3:
        return table
    text = "There are no validation images: a training validates on the test images."
    return join(table, element("p", text, class_="soft"))


def _formats(found: Description) -> Markup:
    converted = f"{found.faces.converted:,} images were converted to 48x48 grey."
    if not found.formats:
        text = "The source has no image files; every image is 48x48 with one 8-bit channel."
        return element("p", text, class_="soft")
    total = sum(count for _, count in found.formats)
    shown = found.formats[:12]
    rows = [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in shown]
    if rest := sum(count for _, count in found.formats[12:]):
        rows.append([f"{len(found.formats) - 12:,} others", f"{rest:,}", f"{rest / total:.1%}"])
    head = ("format, size, colour mode", "files", "share")
    table = _table("Files before conversion", head, rows, class_="counts")
    return join(element("br"), table, element("p", converted, class_="soft"))


def _faces(items: Iterator[tuple[np.ndarray, str, Sequence[str], str]]) -> Markup:
    """Pictures with lines below: of each the image, its description, the lines, a title."""
    return element(
        "ul",
        (
            element(
                "li",
                element("img", src=page.picture(image), alt=text, width=48, height=48),
                element("p", element("b", lines[0]), _lines(lines[1:])),
                title=title,
            )
            for image, text, lines, title in items
        ),
        class_="faces",
    )


def _lines(lines: Sequence[str]) -> list[Markup]:
    return [join(element("br"), line) for line in lines]


def _means(found: Description) -> Markup:
    text = "The mean of all training images of a class: what a class has in common, in the middle."
    items = (
        (image, f"Mean face of {name}", [name, f"{count:,} images"], name)
        for image, name, count in zip(found.means, found.classes, found.counts[0], strict=True)
    )
    return join(element("p", text, class_="soft"), _faces(items))


def _repeated(found: Description) -> Markup:
    copies, similar = found.copies, found.similar
    rows = []
    for i, name in enumerate(found.splits):
        train = [f"{n:,}" for n in (copies.in_train[i], similar.in_train[i])] if i else ["-", "-"]
        rows.append(
            [
                name,
                f"{found.counts[i].sum():,}",
                f"{copies.within[i]:,}",
                train[0],
                f"{similar.within[i]:,}",
                train[1],
            ]
        )
    head = (
        "split",
        "images",
        "equal to another of the split",
        "equal to a training image",
        "same photograph as another of the split",
        "same photograph as a training image",
    )
    text = (
        f"Equal are images with the same pixels: {copies.groups:,} groups, {copies.conflicting:,} "
        "of them with different labels. Of the same photograph are images whose 16x16 means have "
        f"a Pearson correlation above 0.94: {similar.groups:,} groups, {similar.conflicting:,} "
        "with different labels. A network may know by heart what it has seen in training."
    )
    if np.array_equal(found.photographs, found.hashes):
        # So near_duplicates says, too, where it cannot tell photographs apart.
        text += (
            " Here only equal images are told to be of the same photograph: there are no others, "
            "or the images are all too alike, as drawings or the frames of one film are."
        )
    table = _table("Images that are there again", head, rows, class_="files")
    return join(element("p", text, class_="soft"), scroll(table, "Repeated images"))


def _conflicts(found: Description, names_of: Namer) -> Markup | None:
    if not found.conflicts:
        return None
    items = []
    for group in found.conflicts:
        labels, splits = found.faces.labels[group], found.split_of[group]
        counts = np.bincount(labels, minlength=len(found.classes))
        # A name and its number stay on one line.
        lines = [
            f"{name}\N{NO-BREAK SPACE}{counts[i]}"
            for i, name in sorted(enumerate(found.classes), key=lambda item: -counts[item[0]])
            if counts[i]
        ]
        in_split = [(name, int((splits == i).sum())) for i, name in enumerate(found.splits)]
        where = ", ".join(f"{name} {n}" for name, n in in_split if n)
        title = "\n".join(names_of(group))
        text = f"One image, labelled {', '.join(lines)}"
        items.append((found.faces.images[group[0]], text, [", ".join(lines), where], title))
    shown, total = len(found.conflicts), found.copies.conflicting
    lead = (
        f"The {shown:,} groups of equal images whose labels disagree most, of {total:,}: the "
        "labels with their numbers, and the splits."
    )
    return join(element("p", lead, class_="soft"), _faces(iter(items)))


def _blank(found: Description, names_of: Namer) -> Markup | None:
    if not len(found.blank):
        return None
    chosen = found.blank[:_BLANK]
    items = (
        (found.faces.images[i], f"Blank, labelled {label}", [label, split], name)
        for i, name, label, split in zip(
            chosen, names_of(chosen), _labels(found, chosen), _splits(found, chosen), strict=True
        )
    )
    lead = (
        f"{len(found.constant):,} images have a single grey level; of {len(found.blank):,} the "
        "levels have a standard deviation below 8."
    )
    return join(element("p", lead, class_="soft"), _faces(items))


def _labels(found: Description, places: np.ndarray) -> list[str]:
    return [found.classes[label] for label in found.faces.labels[places]]


def _splits(found: Description, places: np.ndarray) -> list[str]:
    return [found.splits[i] for i in found.split_of[places]]


def _doubts(found: Description, names_of: Namer, doubted: Doubted) -> Markup:
    notes = element("ul", (element("li", note) for note in doubted.notes))
    doubts = doubted.doubts
    count = len(doubts.places)
    text = (
        f"{count:,} of {len(doubted.asked):,} images are off the diagonal of the confident joint "
        "(Northcutt, Jiang, Chuang, “Confident learning”, 2021): the model finds another class "
        "at least as probable as it finds that class, on average, on the images of that label. "
        "A model is wrong, too, so look before you leave any of them out."
    )
    chosen = doubts.places[:_DOUBTS]
    items = []
    for i, name, label, split, said in zip(
        chosen,
        names_of(chosen),
        _labels(found, chosen),
        _splits(found, chosen),
        doubts.suggested,
        strict=False,
    ):
        row = doubted.probabilities[i]
        suggested, given = found.classes[said], found.faces.labels[i]
        lines = [f"{suggested} {row[said]:.0%}", f"is {label}, {row[given]:.1%}", split]
        alt = f"A face labelled {label} that the model takes for {suggested}, {row[said]:.0%}"
        items.append((found.faces.images[i], alt, lines, name))
    gallery = join(
        element("h3", f"The {len(chosen):,} greatest doubts"),
        element("p", "What the model suggests, and what the label is.", class_="soft"),
        _faces(iter(items)),
    )
    return join(
        element("div", notes, class_="notes", role="note"),
        element("p", text, class_="soft"),
        _joint(found, doubts),
        gallery if items else None,
    )


def _largest(found: Description, doubts: Doubts) -> Markup:
    """The largest counts off the diagonal of so many classes that no page has room for it."""
    label, counted = np.nonzero(doubts.joint)
    order = np.argsort(-doubts.joint[label, counted], kind="stable")
    rows = [
        (found.classes[i], found.classes[j], f"{doubts.joint[i, j]:,}")
        for i, j in zip(label[order], counted[order], strict=True)
        if i != j
    ]
    caption = "The largest counts off the diagonal of the confident joint."
    head = ("the label", "the model counts it to", "images")
    return _table(caption, head, rows[: page.MOST_CLASSES], class_="files")


def _joint(found: Description, doubts: Doubts) -> Markup:
    """The confident joint, shaded by the share of its row; of many classes its largest counts."""
    if len(found.classes) > page.MOST_CLASSES:
        return _largest(found, doubts)
    head = [element("td"), *(element("th", name, scope="col") for name in found.classes)]
    rows = []
    for i, name in enumerate(found.classes):
        total = max(1, int(doubts.joint[i].sum()))
        cells = []
        for j, count in enumerate(doubts.joint[i]):
            share = count / total
            shade = "high" if share >= 0.72 else "mid" if share >= 0.52 else None
            cells.append(
                element(
                    "td",
                    f"{count:,}",
                    element("small", f"{share:.0%}"),
                    class_=" ".join(filter(None, [shade, "right" if i == j else None])) or None,
                    style=f"--s:{share:.3f}",
                )
            )
        rows.append(element("tr", element("th", name, scope="row"), cells))
    caption = "Confident joint. Rows: the label. Columns: the class that the model counts it to."
    return element(
        "figure",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", head)),
            element("tbody", rows),
            class_="matrix",
        ),
    )
