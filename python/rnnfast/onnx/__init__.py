"""ONNX: run graphs of recurrent layers, take weights from them, and write layers and models.

``rnnfast.onnx.load(path)`` makes a graph that is called with arrays, ``layers(path)`` the layers
in it, and ``export(layer, path)`` writes one.
"""

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError("rnnfast.onnx needs the package onnx: pip install onnx") from error

from .export import export
from .graph import Graph, layers, load
from .source import Value

__all__ = ["Graph", "Value", "export", "layers", "load"]
