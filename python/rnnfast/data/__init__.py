"""Training data: reading files, numbering what is in them, cutting batches."""

from .batches import TokenStreams, TokenWindows
from .hiding import Hiding
from .images import Images, ImageSet, Pixels, read_idx, read_images, small_digits
from .labelled import (
    LabelledTexts,
    OpenVocabulary,
    TextBatch,
    TextBatches,
    library_lines,
    line_lists,
    pad,
    read_labelled,
)
from .numbers import number_lists
from .shuffle import ShuffledBatches
from .table import Series, read_series, waves
from .text import Corpus, Readable, Tokens, Vocabulary, decode_chunks, read_corpus, standard_library
from .words import WordVocabulary, documentation, read_words

__all__ = [
    "Corpus",
    "Hiding",
    "ImageSet",
    "Images",
    "LabelledTexts",
    "OpenVocabulary",
    "Pixels",
    "Readable",
    "Series",
    "ShuffledBatches",
    "TextBatch",
    "TextBatches",
    "TokenStreams",
    "TokenWindows",
    "Tokens",
    "Vocabulary",
    "WordVocabulary",
    "decode_chunks",
    "documentation",
    "library_lines",
    "line_lists",
    "number_lists",
    "pad",
    "read_corpus",
    "read_idx",
    "read_images",
    "read_labelled",
    "read_series",
    "read_words",
    "small_digits",
    "standard_library",
    "waves",
]
