"""Who may use whom: the rooms of CONTRIBUTING.md, the modules of the package, and single lists.

Each checker takes the folder that it checks, so that the tests can show it a violation.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import rnnfast

ROOT = Path(__file__).parents[1]
CPP, CUDA, PACKAGE = ROOT / "cpp", ROOT / "cuda", ROOT / "python/rnnfast"

# -- C++ --------------------------------------------------------------------------------------

SHARED = {"contract.hpp", "cells.hpp"}
GENERATED = {"dispatch": {"instruction_sets.hpp"}}  # by cmake/isa.cmake
INTRINSICS = re.compile(r".*intrin\.h|arm_.*\.h|x86.*\.h|cpuid\.h")
PYTHON = re.compile(r"pybind11/.*|Python\.h|numpy/.*")
C_HEADERS = {"math.h", "stddef.h", "stdint.h", "string.h"}  # what kernels may have


def rooms(contributing: Path) -> dict[str, set[str]]:
    """Read the table: each folder of cpp/ and the folders that it may use."""
    rows = re.findall(
        r"^\| (`cpp/.*?) \|.*\| *(.*?) *\|$", contributing.read_text(), flags=re.MULTILINE
    )
    table = {}
    for names, uses in rows:
        for name in re.findall(r"`cpp/(.*?)`", names):
            table[name] = set(re.findall(r"\w+", uses)) - {"nothing"}
    return table


class Include(NamedTuple):
    """One #include line."""

    file: Path  # below cpp/
    header: str
    ours: bool

    @property
    def room(self) -> str:
        return self.file.parts[0]


def includes(cpp: Path) -> Iterator[Include]:
    for path in sorted([*cpp.rglob("*.hpp"), *cpp.rglob("*.cpp")]):
        for mark, header in re.findall(
            r'^\s*#\s*include\s*([<"])(.*?)[>"]', path.read_text(), flags=re.MULTILINE
        ):
            yield Include(path.relative_to(cpp), header, mark == '"')


def wrong_room(include: Include, cpp: Path, table: dict[str, set[str]]) -> str:
    """Check a header of ours."""
    if include.header in GENERATED.get(include.room, set()):
        return ""
    target = (cpp / include.file.parent / include.header).resolve()
    if not target.is_relative_to(cpp.resolve()) or not target.is_file():
        return "is no file of cpp/"
    there = target.relative_to(cpp.resolve())
    if there.name in SHARED and len(there.parts) == 1:
        return ""
    may_use = table.get(include.room)
    if may_use is None:
        return f"is included by {include.room}, which is not in CONTRIBUTING's table"
    return "" if there.parts[0] in {include.room, *may_use} else f"is not for {include.room}"


def wrong_system_header(include: Include) -> str:
    """Check a header of the system or of a library."""
    room, header = include.room, include.header
    if PYTHON.fullmatch(header):
        return "" if room == "bindings" else "is for bindings alone"
    if INTRINSICS.fullmatch(header):
        cpuid = include.file == Path("dispatch/cpu.cpp") and header == "cpuid.h"
        return "" if room == "simd" or cpuid else "is for simd alone"
    if (room in {"kernels", "simd"} or room in SHARED) and header not in C_HEADERS:
        return "is no plain C header"
    return ""


def include_violations(cpp: Path, contributing: Path) -> list[str]:
    """Name every #include that the house does not allow."""
    table = rooms(contributing)
    found = []
    for include in includes(cpp):
        why = wrong_room(include, cpp, table) if include.ours else wrong_system_header(include)
        if why:
            found.append(f"{include.file}: {include.header} {why}")
    return found


def standard_library_in_kernels(cpp: Path) -> list[str]:
    """Name every mention of std:: where instruction-set flags are on."""
    return [
        f"{path.relative_to(cpp)}:{number}: {line.strip()}"
        for room in ("kernels", "simd")
        for path in sorted((cpp / room).rglob("*.?pp"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "std::" in line.split("//")[0]
    ]


def test_the_table_names_all_rooms() -> None:
    folders = {path.name for path in CPP.iterdir() if path.is_dir()} - {"cmake"}
    table = rooms(ROOT / "CONTRIBUTING.md")
    assert set(table) == folders | SHARED
    assert set().union(*table.values()) <= folders


def test_rooms_use_only_what_the_table_allows() -> None:
    assert include_violations(CPP, ROOT / "CONTRIBUTING.md") == []
    assert len(list(includes(CPP))) > 50


def test_kernels_have_no_code_of_the_standard_library() -> None:
    assert standard_library_in_kernels(CPP) == []


def test_the_emulator_needs_nothing_of_cuda() -> None:
    """What both machines share is plain C++, so that it can be checked without nvcc."""
    waiting, seen = [CUDA / "emulated_module.cpp"], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        text = path.read_text()
        assert not re.search(r"#\s*include\s*<(cu|thrust)", text), path
        ours = (path.parent / header for header in re.findall(r'#\s*include "(.*?)"', text))
        waiting += [p for p in ours if p.parent == CUDA and p not in seen]
    assert {CUDA / name for name in ("cells.hpp", "kernels.hpp", "recurrence.hpp")} < seen


PLANTED = {
    "kernels/tile.hpp": ('#include "../network/spec.hpp"', "is not for kernels"),
    "kernels/cells/gru.hpp": ("#include <vector>", "is no plain C header"),
    "simd/avx2.hpp": ("  #  include <cmath>", "is no plain C header"),
    "simd/simd.hpp": ('#include "../kernels/tile.hpp"', "is not for simd"),
    "network/plan.cpp": ('#include "../bindings/arrays.hpp"', "is not for network"),
    "network/forward.cpp": ('#include "../kernels/pack.hpp"', "is not for network"),
    "network/spec.cpp": ("#include <pybind11/stl.h>", "is for bindings alone"),
    "threads/team.cpp": ("#include <immintrin.h>", "is for simd alone"),
    "dispatch/dispatch.cpp": ("#include <cpuid.h>", "is for simd alone"),
    "dispatch/cpu.hpp": ('#include "../threads/team.hpp"', "is not for dispatch"),
    "contract.hpp": ("#include <string>", "is no plain C header"),
    "bindings/layer.cpp": ('#include "../kernels/pack.hpp"', "is not for bindings"),
    "bindings/arrays.cpp": ('#include "../nowhere.hpp"', "is no file of cpp/"),
    "cells.hpp": ('#include "network/spec.hpp"', "is not for cells.hpp"),
}


@pytest.mark.parametrize("file", PLANTED)
def test_a_planted_include_is_found(file: str, tmp_path: Path) -> None:
    cpp = tmp_path / "cpp"
    shutil.copytree(CPP, cpp)
    line, why = PLANTED[file]
    (cpp / file).write_text(f"{line}\n{(cpp / file).read_text()}")
    (violation,) = include_violations(cpp, ROOT / "CONTRIBUTING.md")
    assert violation.startswith(f"{file}: ") and violation.endswith(why)


def test_a_room_without_a_row_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "cpp/attic"
    folder.mkdir(parents=True)
    (folder / "old.hpp").write_text("")
    (folder / "old.cpp").write_text('#include "old.hpp"\n')
    (violation,) = include_violations(tmp_path / "cpp", ROOT / "CONTRIBUTING.md")
    assert violation.endswith("attic, which is not in CONTRIBUTING's table")


def test_planted_code_of_the_standard_library_is_found(tmp_path: Path) -> None:
    (tmp_path / "kernels/cells").mkdir(parents=True)
    file = tmp_path / "kernels/cells/new.hpp"
    file.write_text("// std::max would be wrong\nlong n = std::max(1, 2);\n")
    assert standard_library_in_kernels(tmp_path) == [
        "kernels/cells/new.hpp:2: long n = std::max(1, 2);"
    ]


# -- Python -----------------------------------------------------------------------------------

# What each module or subpackage may use of ours; the core comes first and needs none of the rest.
USES = {
    "__init__": {"_core", "layers", "plan", "quantized", "stream"},
    "checks": set(),
    "flat": {"checks"},
    "device": set(),
    "options": {"_core", "checks", "device", "flat"},
    "parameters": {"_core", "checks", "device", "flat", "options"},
    "stream": {"_core", "checks", "flat", "options"},
    "plan": {"_core", "checks", "options"},
    "quantized": {"_core", "checks", "flat", "options", "parameters", "stream"},
    "layers": {"_core", "checks", "flat", "parameters", "quantized", "stream"},
    "jax": {"_core", "flat", "layers"},
    "keras": {"flat", "layers"},
    "reference": set(),
    "torch": {"_core", "device", "flat"},
    "nn": {"_core", "checks", "flat"},
    "optim": {"checks"},
    "data": {"checks"},
    "checkpoint": {"checks"},
    "confusion": set(),
    "settings": set(),
    "history": set(),
    "parallel": {"flat"},
    "models": {"checks", "data", "flat", "layers", "nn"},
    "gradients": {"flat", "models"},
    "train": {"checks", "flat", "models", "optim", "parallel", "settings"},
    "systems": {
        "confusion", "data", "flat", "models", "nn", "parallel", "plot", "settings", "train",
    },
    "run": {
        "__init__", "checkpoint", "history", "optim", "parallel", "settings", "systems", "train",
    },
    "onnx": {"__init__", "checkpoint", "flat", "layers", "models", "nn"},
    "trained": {"checkpoint", "models", "settings", "systems"},
    "progress": {"run"},
    "plot": {"checkpoint", "gradients", "history"},
    "bench": {"__init__", "_core", "checkpoint", "cli", "plot", "reference", "torch"},
    "commands": {
        "__init__", "bench", "checkpoint", "cli", "data", "gradients", "models", "parallel", "plot",
        "progress", "run", "settings", "systems", "train", "trained",
    },
    "cli": {"commands", "train"},
    "__main__": {"cli"},
}  # fmt: skip

# Where optional packages may be imported: with the module (True), or when used (False).
OPTIONAL: dict[str, dict[str, bool]] = {
    "typer": {
        "commands/__init__": True,
        "commands/forecast": True,
        "commands/generate": True,
        "commands/gradients": True,
        "commands/options": True,
        "commands/predict": True,
        "commands/suggest": True,
        "commands/session": True,
        "commands/show": True,
        "commands/train": True,
        "bench/cli": True,
    },
    "rich": {
        "progress": True,
        "bench/accelerated": False,
        "bench/cli": False,
        "bench/gpu/report": False,
        "bench/report": False,
    },
    "safetensors": {"checkpoint": False},
    "sklearn": {"data/images": False},
    "threadpoolctl": {"train": False},
    "mpi4py": {"parallel": False},
    "matplotlib": {"plot": False, "bench/plot": False, "bench/roofline": False},
    "torch": {
        "bench/accelerated": True,
        "bench/gpu/clock": True,
        "bench/gpu/cudnn": True,
        "bench/gpu/measure": True,
        "bench/gpu/precision": True,
        "bench/gpu/subjects": True,
        "bench/subjects/pytorch": False,
        "bench/subjects/pytorch_cell": False,
        "bench/subjects/pytorch_int8": False,
        "torch/__init__": True,
        "torch/arrays": True,
        "torch/autograd": True,
        "torch/base": True,
        "torch/cells": True,
        "torch/engine": True,
        "torch/gpu": True,
        "torch/gpu_engine": True,
        "torch/modules": True,
        "torch/operators": True,
        "torch/spec": True,
        "torch/stock": True,
        "torch/surroundings": True,
        "torch/swapping": True,
        "torch/tapes": True,
        "torch/threads": True,
        "torch/weights": True,
    },
    "onnx": {
        "bench/subjects/onnx_runtime": False,
        "onnx/__init__": True,
        "onnx/builder": True,
        "onnx/export": True,
        "onnx/graph": True,
        "onnx/source": True,
    },
    "google": {"onnx/source": True},  # protobuf, which onnx stands on
    "onnxruntime": {"bench/subjects/onnx_runtime": False},
    "jax": {"bench/subjects/jax_scan": False, "jax": True},
    "keras": {"keras": False},
}


class Import(NamedTuple):
    """One module that another one imports."""

    file: Path  # below the package
    target: str  # absolute
    when_used: bool  # inside a function

    @property
    def room(self) -> str:
        return self.file.parts[0].removesuffix(".py")


def absolute(node: ast.ImportFrom, file: Path, package: Path) -> list[str]:
    """Name what a from … import reaches: submodules where they are such, else the module."""
    base = node.module or ""
    if node.level:
        folder = ["rnnfast", *file.parts[:-1]]
        base = ".".join([*folder[: len(folder) - node.level + 1], *filter(None, [node.module])])
    names = []
    for alias in node.names:
        path = package.parent / base.replace(".", "/") / alias.name
        is_module = path.is_dir() or any(path.parent.glob(f"{alias.name}.py*"))
        names.append(f"{base}.{alias.name}" if is_module else base)
    return names


def imports(package: Path) -> Iterator[Import]:
    """All imports but those that only type checkers see."""
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package)
        waiting: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), False)]
        while waiting:
            node, inside = waiting.pop()
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            if isinstance(node, ast.Import):
                yield from (Import(file, alias.name, inside) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (Import(file, name, inside) for name in absolute(node, file, package))
            inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def why_not(entry: Import) -> str:
    """Check one import."""
    top, *below = entry.target.split(".")
    if top == "rnnfast":
        target = below[0] if below else "__init__"
        allowed = USES.get(entry.room)
        if allowed is None:
            return f"{entry.room} is not in the table"
        return "" if target in {entry.room, *allowed} else f"{target} is not for {entry.room}"
    if top == "numpy" or top in sys.stdlib_module_names:
        return ""
    with_module = OPTIONAL.get(top, {}).get(entry.file.with_suffix("").as_posix())
    if with_module is None:
        return f"{top} is not for {entry.file}"
    return "" if with_module or entry.when_used else f"{top} is imported before it is used"


def import_violations(package: Path) -> list[str]:
    return [f"{e.file}: {why_not(e)}" for e in imports(package) if why_not(e)]


def test_modules_import_only_what_they_may() -> None:
    assert import_violations(PACKAGE) == []
    assert len(list(imports(PACKAGE))) > 100


def test_the_tables_name_only_what_is_there() -> None:
    present = {path.name.removesuffix(".py").removesuffix("/") for path in PACKAGE.iterdir()}
    assert set(USES) <= present
    used = {(e.file.with_suffix("").as_posix(), e.target.split(".")[0]) for e in imports(PACKAGE)}
    assert {(file, name) for name, files in OPTIONAL.items() for file in files} <= used


STRAY = {
    "layers.py": ("from . import nn", "nn is not for layers"),
    "__init__.py": ("from .run import Run", "run is not for __init__"),
    "nn.py": ("from .layers import LSTM", "layers is not for nn"),
    "reference/cell.py": ("import rnnfast", "__init__ is not for reference"),
    "reference/gru.py": ("from ..layers import GRU", "layers is not for reference"),
    "optim.py": ("import torch", "torch is not for optim.py"),
    "train.py": ("def f():\n    import rich.console", "rich is not for train.py"),
    "checkpoint.py": ("import safetensors.numpy", "safetensors is imported before it is used"),
    "parallel.py": ("from mpi4py import MPI", "mpi4py is imported before it is used"),
    "data/text.py": ("from ..flat import Array", "flat is not for data"),
    "models/model.py": ("from rnnfast.optim import Vocabulary", "optim is not for models"),
    "systems/text.py": ("from rnnfast.run import Run", "run is not for systems"),
    "bench/plot.py": ("from matplotlib import pyplot", "matplotlib is imported before it is used"),
    "bench/subjects/__init__.py": ("from ...systems.text import bits", "systems is not for bench"),
    "extra.py": ("from rnnfast.layers import GRU", "extra is not in the table"),
}


@pytest.mark.parametrize("file", STRAY)
def test_a_stray_import_is_found(file: str, tmp_path: Path) -> None:
    package = tmp_path / "rnnfast"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    line, why = STRAY[file]
    path = package / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    assert import_violations(package) == [f"{file}: {why}"]


# -- lists that exist once ---------------------------------------------------------------------


def cmake_lists() -> list[list[str]]:
    text = (CPP / "cmake/isa.cmake").read_text()
    return [names.split() for names in re.findall(r"set\(RNNFAST_ALL_SETS (.*?)\)", text)]


def test_the_machines_instruction_sets_are_in_cmakes_order() -> None:
    ours = rnnfast.info()["isas"]
    assert any([name for name in names if name in ours] == ours for names in cmake_lists())


def test_each_instruction_set_has_flags_a_file_and_a_check() -> None:
    cmake, cpu = ((CPP / f).read_text() for f in ("cmake/isa.cmake", "dispatch/cpu.cpp"))
    names = {name for names in cmake_lists() for name in names}
    assert names == {path.stem for path in (CPP / "simd").glob("*.hpp")} - {"simd", "x86"}
    for name in names:
        assert f"set(RNNFAST_FLAGS_{name} " in cmake and f'"{name}"' in cpu, name


def test_instruction_sets_are_named_nowhere_else() -> None:
    """A second list would have to be kept in step with isa.cmake."""
    names = {name for names in cmake_lists() for name in names} - {"baseline"}
    may = {"cmake/isa.cmake", "dispatch/cpu.cpp"}
    for path in [*CPP.rglob("*.?pp"), *CPP.rglob("*.cmake"), *PACKAGE.rglob("*.py")]:
        where = path.relative_to(CPP if path.is_relative_to(CPP) else PACKAGE).as_posix()
        if where not in may:
            quoted = re.findall(r"""["'](\w+)["']""", path.read_text())
            assert not names & set(quoted), where


def cells() -> dict[str, str]:
    """Read the list of cells: what error messages call each."""
    return dict(re.findall(r'X\((\w+), \w+, \.name = "(\w+)"', (CPP / "cells.hpp").read_text()))


def test_every_cell_is_in_each_table() -> None:
    for path, use in ((CPP / "bindings/options.cpp", ""), (CUDA / "network.hpp", "case ")):
        assert set(re.findall(rf"{use}Cell::(\w+)", path.read_text())) == set(cells())


def test_every_file_of_a_cell_is_compiled() -> None:
    included = {i.header for i in includes(CPP) if i.file == Path("kernels/kernels.cpp")}
    files = {f"cells/{path.name}" for path in (CPP / "kernels/cells").iterdir()}
    assert files == {header for header in included if header.startswith("cells/")}


def test_error_messages_and_layers_name_the_cells_alike() -> None:
    assert set(cells().values()) == {rnnfast.RNN._name, rnnfast.LSTM._name, rnnfast.GRU._name}
