"""Sequence models, composed of recurrent layers and dense ones over one flat parameter buffer."""

from .classifier import SequenceClassifier
from .decoder import Decoder
from .encoder import Encoder
from .encoder_decoder import EncoderDecoder
from .feed_forward import FeedForward
from .fixed_point import FixedPoint, fixed_point
from .forecaster import Forecaster, Values
from .language import Alphabet, LanguageModel, QuantizedLanguageModel, choose
from .model import Model, Part
from .output_map import OutputMapRNN
from .recurrent import CELLS, Recurrent, States, make_layers, remember, state_arrays, states_from
from .sequence import SequenceModel
from .text_classifier import STACKS, TextClassifier
from .writer import Suggestion, Writer

__all__ = [
    "CELLS",
    "STACKS",
    "Alphabet",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "FeedForward",
    "FixedPoint",
    "Forecaster",
    "LanguageModel",
    "Model",
    "OutputMapRNN",
    "Part",
    "QuantizedLanguageModel",
    "Recurrent",
    "SequenceClassifier",
    "SequenceModel",
    "States",
    "Suggestion",
    "TextClassifier",
    "Values",
    "Writer",
    "choose",
    "fixed_point",
    "make_layers",
    "remember",
    "state_arrays",
    "states_from",
]
