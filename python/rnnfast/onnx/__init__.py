"""ONNX: run graphs of recurrent layers, take weights from them, and write layers and models.

>>> import rnnfast.onnx
>>> graph = rnnfast.onnx.load("model.onnx")  # doctest: +SKIP
>>> graph(x=x)["y"]  # doctest: +SKIP
"""

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError("rnnfast.onnx needs the package onnx: pip install onnx") from error

from .export import export
from .graph import Graph, layers, load
from .source import Value

__all__ = ["Graph", "Value", "export", "layers", "load"]
