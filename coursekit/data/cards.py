"""What each data set is: source, licence, size, classes and known faults. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from coursekit.config import nearest
from coursekit.errors import DataError

_DIGITS = tuple("0123456789")
_DUPLICATES = "Barz & Denzler 2020, https://cvjena.github.io/cifair/"
_LABEL_ERRORS = "Northcutt, Athalye & Mueller 2021, https://labelerrors.com"


@dataclass(frozen=True)
class DataCard:
    """One data set as a reader should know it before trusting a number measured on it.

    Attributes:
        name: what `load` calls it.
        title: what people call it.
        what: one or two sentences on what a row is and how the parts came about.
        source: the address of the authors or of the archive that keeps it.
        licence: under which terms, and who says so.
        rows: rows in all parts together; the characters of a text; 0 where as many are made as asked for.
        shape: one row: (channels, height, width) of an image, (features,) of a table, () of a text.
        classes: names, in the order of the targets; empty where the targets are texts.
        faults: what is known to be wrong, or misleads.
        citation: how to cite it.
        download_bytes: what `download` fetches; 0 when nothing must be fetched.
        home: where data comes from that needs no download.
    """

    name: str
    title: str
    what: str
    source: str
    licence: str
    rows: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    faults: tuple[str, ...]
    citation: str
    download_bytes: int = 0
    home: str = "ships inside scikit-learn"

    @property
    def embedded(self) -> bool:
        """Whether the data needs no download."""
        return self.download_bytes == 0

    @property
    def size(self) -> str:
        """How much there is, in words."""
        if not self.rows:
            return "as many rows as asked for"
        if not self.shape:
            return f"{self.rows:,} characters"
        kind = "features" if len(self.shape) == 1 else "channels × height × width"
        return f"{self.rows:,} rows of {' × '.join(map(str, self.shape))} ({kind})"

    def markdown(self) -> str:
        """Return the card as a section of Markdown."""
        fetch = f"none, {self.home}" if self.embedded else f"{self.download_bytes / 1e6:.1f} MB"
        lines = [
            f"## {self.title} (`{self.name}`)",
            "",
            self.what,
            "",
            f"- **Source:** <{self.source}>",
            f"- **Licence:** {self.licence}",
            f"- **Size:** {self.size}",
            *([f"- **Classes ({len(self.classes)}):** {', '.join(self.classes)}"] if self.classes else []),
            f"- **Download:** {fetch}",
            "- **Known faults:**",
            *(f"  - {fault}" for fault in self.faults),
            f"- **Citation:** {self.citation}",
        ]
        return "\n".join(lines) + "\n"


_CARDS = (
    DataCard(
        name="digits",
        title="Optical recognition of handwritten digits",
        what=(
            "Digits that people wrote on forms, scanned to 32 × 32 black-and-white pixels and counted in "
            "blocks of 4 × 4: each of the 8 × 8 pixels is a whole number from 0 to 16. scikit-learn ships "
            "the test part of the original (1,797 of 5,620 rows); the course divides it anew."
        ),
        source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        licence="CC BY 4.0, as stated by the UCI repository",
        rows=1797,
        shape=(1, 8, 8),
        classes=_DIGITS,
        faults=(
            "The same 13 people wrote our training, validation and test rows: new writers may be harder.",
            "One row of the test part is 0.28 points of accuracy: smaller differences mean nothing.",
        ),
        citation=(
            "E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
            "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49"
        ),
    ),
    DataCard(
        name="breast_cancer",
        title="Breast cancer Wisconsin (diagnostic)",
        what=(
            "Cell nuclei in images of fine-needle aspirates of breast masses: ten measures of size, shape "
            "and texture, each as mean, standard error and worst value over the nuclei of one image."
        ),
        source="https://archive.ics.uci.edu/dataset/17/breast+cancer+wisconsin+diagnostic",
        licence="CC BY 4.0, as stated by the UCI repository",
        rows=569,
        shape=(30,),
        classes=("malignant", "benign"),
        faults=(
            "Target 1 is benign, so a `positive` finding in the usual medical sense is target 0.",
            "Classes are uneven: 212 malignant, 357 benign.",
            "Radius, perimeter and area say nearly the same: single weights and attributions are not stable.",
            "One research group, before 1996: no basis for any statement about patients.",
            "One row of the test part is 0.88 points of accuracy.",
        ),
        citation=(
            "W. Wolberg, O. Mangasarian, N. Street and W. Street (1993). Breast Cancer Wisconsin "
            "(Diagnostic). UCI Machine Learning Repository. https://doi.org/10.24432/C5DW2B"
        ),
    ),
    DataCard(
        name="mnist",
        title="MNIST",
        what=(
            "Handwritten digits of census employees and school pupils, scaled into 20 × 20 pixels and "
            "centred in 28 × 28. 60,000 training and 10,000 test images by different people."
        ),
        source="http://yann.lecun.com/exdb/mnist/",
        licence="no licence stated by its authors; widely passed on as CC BY-SA 3.0",
        rows=70_000,
        shape=(1, 28, 28),
        classes=_DIGITS,
        faults=(
            f"15 test labels are wrong by human check ({_LABEL_ERRORS}).",
            "The first half of the test part is cleaner and easier than the second, say its authors.",
            "The files do not say who wrote what, so our validation part shares writers with training.",
            "Nearly solved: good networks pass 99 %, so that they differ by a few dozen images.",
        ),
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998). Gradient-based learning applied to "
            "document recognition. Proceedings of the IEEE 86(11), 2278–2324."
        ),
        download_bytes=11_594_722,
    ),
    DataCard(
        name="fashion_mnist",
        title="Fashion-MNIST",
        what=(
            "Product photographs of a clothes shop, made grey, inverted and shrunk to 28 × 28, in the file "
            "format of MNIST. 60,000 training and 10,000 test images."
        ),
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT, copyright 2017 Zalando SE",
        rows=70_000,
        shape=(1, 28, 28),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        faults=(
            "Shirt, T-shirt/top, Pullover and Coat look alike at this size.",
            "People reach 83.5 % on 1,000 test images, says its repository: less than small networks.",
        ),
        citation=(
            "H. Xiao, K. Rasul and R. Vollgraf (2017). Fashion-MNIST: a novel image dataset for benchmarking "
            "machine learning algorithms. arXiv:1708.07747."
        ),
        download_bytes=30_878_645,
    ),
    DataCard(
        name="cifar10",
        title="CIFAR-10",
        what=(
            "Small colour photographs, chosen from the 80 Million Tiny Images and labelled by students. "
            "50,000 training and 10,000 test images, as many of each class."
        ),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="no licence stated by its authors; the photographs were collected from the web",
        rows=60_000,
        shape=(3, 32, 32),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        faults=(
            f"3.3 % of the test images have a duplicate in the training part ({_DUPLICATES}).",
            f"54 test labels are wrong by human check ({_LABEL_ERRORS}).",
            "The collection it was drawn from was withdrawn in 2020 for its offensive labels.",
        ),
        citation=(
            "A. Krizhevsky (2009). Learning multiple layers of features from tiny images. Technical report, "
            "University of Toronto."
        ),
        download_bytes=170_498_071,
    ),
)

NAMES = tuple(entry.name for entry in _CARDS)

_SEQUENCES = (
    DataCard(
        name="python_reference",
        title="Python language reference",
        what=(
            "Chapters on Python's syntax and built-in types, as `help('topics')` shows them: English with code in "
            "it. Alphabetical by topic; the first eight tenths train, then one validates, then one tests."
        ),
        source="https://docs.python.org/3.11/reference/",
        licence="PSF License Agreement, version 2; its text and the changes lie beside the file",
        rows=372_417,
        shape=(),
        classes=(),
        faults=(
            "Validation and test parts are other topics than training, nearly all of them on types.",
            "One style, by authors who copied each other's phrases: a model of it is no model of English.",
            "23 topics that repeat longer ones were left out: with them, 8 % of the test part had been trained on.",
        ),
        citation="Python Software Foundation (2023). The Python Language Reference, version 3.11.7.",
        home="ships inside coursekit",
    ),
    DataCard(
        name="dates",
        title="Dates in eight forms",
        what=(
            "A date as people write it, such as `Friday, 3 May 2024`, and the same as ISO 8601 writes it, 2024-05-03. "
            "Days from 1900 to 2099, each in one form drawn at random; no day is in two parts."
        ),
        source="https://www.iso.org/iso-8601-date-and-time-format.html",
        licence="made by coursekit, under its licence",
        rows=0,
        shape=(),
        classes=(),
        faults=(
            "Rules make it and rules solve it: it shows where attention looks, and no skill with language.",
            "Dots put the day first and slashes the month, always: people do not keep to that.",
        ),
        citation="The task follows D. Bahdanau, K. Cho and Y. Bengio (2015) in kind, not in data.",
        home="made from a seed",
    ),
    DataCard(
        name="recall",
        title="Associative recall",
        what=(
            "Pairs of a key and a value in a row, then one of the keys again: the target is its value. Keys are "
            "different within a row, values are drawn independently."
        ),
        source="https://arxiv.org/abs/1410.5401",
        licence="made by coursekit, under its licence",
        rows=0,
        shape=(),
        classes=(),
        faults=(
            "One step of exact matching solves it: that attention does so says little about harder memory.",
            "Rows are drawn independently, so tiny settings (two keys, two values) repeat rows across parts.",
        ),
        citation="After A. Graves, G. Wayne and I. Danihelka (2014). Neural Turing machines. arXiv:1410.5401.",
        home="made from a seed",
    ),
)


def cards() -> tuple[DataCard, ...]:
    """Return the cards of all data sets, those without a download first."""
    return _CARDS


def sequence_cards() -> tuple[DataCard, ...]:
    """Return the cards of what `coursekit.data.text` reads and makes: texts and other sequences."""
    return _SEQUENCES


def card(name: str) -> DataCard:
    """Return the card of one data set that `load` reads.

    Raises:
        DataError: there is none of this name; the message names the nearest.
    """
    for entry in _CARDS:
        if entry.name == name:
            return entry
    guess = nearest(str(name), NAMES)
    fix = f"write `{guess}`" if guess else f"choose one of {', '.join(NAMES)}"
    raise DataError("data", "a data set that exists", got=repr(name), fix=fix)
