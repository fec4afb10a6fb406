"""The scan in C++ (`kernel.cpp`), loaded through ctypes.

It is built when edged is installed; where that did not work `load` says why and `choice` takes the next form. The
interface is plain C over raw pointers, so that the build needs no torch and one build serves all its versions.
"""

import ctypes
import dataclasses
import importlib.machinery
from pathlib import Path

import torch
from torch import Tensor

from pipelines.selective_scan.function import Inputs

__all__ = ["CppKernel", "exp2", "instruction_sets", "load"]

ABI = 1
"""Must be what `edged_scan_abi` returns: a library left from another version is refused."""

LIBRARY = "_kernel"
STATUS_NO_MEMORY = 1
ALIGNMENT = 64
POINTERS = (
    *("x", "dt", "a", "b", "c", "d", "h0", "y", "last", "checkpoints", "grad_y", "grad_last"),
    *("grad_x", "grad_dt", "grad_a", "grad_d", "grad_b", "grad_c", "grad_h0"),
)
NUMBERS = ("batch", "length", "channels", "states", "element_bytes", "instruction_set", "threads")


class Scan(ctypes.Structure):
    """`struct Scan` of kernel.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in NUMBERS),
        *((name, ctypes.c_void_p) for name in POINTERS),
    ]


def _library_path() -> Path:
    here = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        if (path := here / f"{LIBRARY}{suffix}").exists():
            return path
    raise OSError(f"no compiled scan in {here}: install a C++ compiler and install edged again")


def _library() -> ctypes.CDLL:
    """The library with its signatures. Raises OSError saying why it cannot be used."""
    path = _library_path()
    library = ctypes.CDLL(str(path))
    library.edged_scan_abi.restype = ctypes.c_int64
    if (found := library.edged_scan_abi()) != ABI:
        raise OSError(f"{path} is of another version of edged (interface {found}, not {ABI}): install edged again")
    library.edged_scan_instruction_set.argtypes = (ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))
    library.edged_scan_instruction_set.restype = ctypes.c_char_p
    library.edged_scan_checkpoint_bytes.argtypes = (ctypes.POINTER(Scan),)
    library.edged_scan_checkpoint_bytes.restype = ctypes.c_int64
    library.edged_scan_groups.argtypes = (ctypes.c_int64,)
    library.edged_scan_groups.restype = ctypes.c_int64
    library.edged_scan_forward.argtypes = library.edged_scan_backward.argtypes = (ctypes.POINTER(Scan),)
    count, size, index = ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
    library.edged_scan_exp2.argtypes = (ctypes.c_void_p, ctypes.c_void_p, count, size, index)
    return library


@dataclasses.dataclass(frozen=True, slots=True)
class InstructionSet:
    """A form of the kernel: its index in the library, and whether this processor can run it."""

    index: int
    name: str
    supported: bool


def instruction_sets(library: ctypes.CDLL | None = None) -> tuple[InstructionSet, ...]:
    """All forms in the library, best first. Raises OSError where there is no library."""
    library = library or _library()
    found: list[InstructionSet] = []
    supported = ctypes.c_int64()
    while (name := library.edged_scan_instruction_set(len(found), ctypes.byref(supported))) is not None:
        found.append(InstructionSet(len(found), name.decode(), bool(supported.value)))
    return tuple(found)


def load(name: str | None = None) -> "CppKernel":
    """The best form that this processor runs, or the one of that name.

    Raises OSError where there is no library, ValueError for a form that is not there or not for this processor.
    """
    library = _library()
    forms = instruction_sets(library)
    for form in forms:
        if form.supported and name in (None, form.name):
            return CppKernel(library, form)
    raise ValueError(f"this processor has no {name!r}; it has {', '.join(f.name for f in forms if f.supported)}")


class CppKernel:
    """`Kernel` over the library; runs on `torch.get_num_threads()` threads where the work is large enough."""

    def __init__(self, library: ctypes.CDLL, form: InstructionSet) -> None:
        self._library, self._form = library, form

    @property
    def detail(self) -> str:
        """The instruction set."""
        return self._form.name

    def forward(self, inputs: Inputs, keep: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """y (B, L, E), the last h (B, E, N) and, with `keep`, every so many steps' states."""
        y, last = torch.empty_like(inputs.x), torch.empty_like(inputs.h)
        call = self._call(inputs, y=y, last=last)
        kept = self._checkpoints(call, inputs.x) if keep else None
        call.checkpoints = kept.data_ptr() if kept is not None else None
        self._run("edged_scan_forward", call)
        return y, last, kept

    def backward(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, grad_h: Tensor) -> Inputs:
        """Gradients from those of y and of the last h; the order of all sums is fixed."""
        batch, _, channels = inputs.x.shape
        groups = self._library.edged_scan_groups(channels)
        parts = {
            "grad_x": torch.empty_like(inputs.x),
            "grad_dt": torch.empty_like(inputs.x),
            "grad_a": inputs.x.new_empty(batch, *inputs.a.shape),
            "grad_d": inputs.x.new_empty(batch, channels),
            "grad_b": inputs.x.new_empty(groups, *inputs.b.shape),
            "grad_c": inputs.x.new_empty(groups, *inputs.c.shape),
            "grad_h0": torch.empty_like(inputs.h),
        }
        self._run(
            "edged_scan_backward", self._call(inputs, checkpoints=kept, grad_y=grad_y, grad_last=grad_h, **parts)
        )
        return Inputs(
            x=parts["grad_x"],
            dt=parts["grad_dt"],
            a=parts["grad_a"].sum(0),
            b=parts["grad_b"].sum(0),
            c=parts["grad_c"].sum(0),
            d=parts["grad_d"].sum(0),
            h=parts["grad_h0"],
        )

    def _call(self, inputs: Inputs, **more: Tensor) -> Scan:
        batch, length, channels = inputs.x.shape
        numbers = (batch, length, channels, inputs.a.shape[1], inputs.x.element_size(), self._form.index)
        pointers = dict(zip(POINTERS, inputs, strict=False)) | more
        return Scan(
            **dict(zip(NUMBERS, (*numbers, torch.get_num_threads()), strict=True)),
            **{name: tensor.data_ptr() for name, tensor in pointers.items()},
        )

    def _checkpoints(self, call: Scan, like: Tensor) -> Tensor:
        """Memory for kept states, aligned; torch aligns what it allocates to 64 bytes."""
        size = self._library.edged_scan_checkpoint_bytes(ctypes.byref(call))
        kept = like.new_empty(size // like.element_size())
        if kept.data_ptr() % ALIGNMENT:
            raise MemoryError(f"torch gave memory that is not aligned to {ALIGNMENT} bytes: {kept.data_ptr():#x}")
        return kept

    def _run(self, function: str, call: Scan) -> None:
        status = getattr(self._library, function)(ctypes.byref(call))
        if status == STATUS_NO_MEMORY:
            raise MemoryError(f"{function}: no memory for {call.threads} threads' scratch, {call.states} states")
        if status:
            raise RuntimeError(f"{function}: status {status} for instruction set {self._form.name}")


def exp2(z: Tensor, name: str) -> Tensor:
    """2^z by the form of that name, elementwise; for tests of its error."""
    library = _library()
    (index,) = (form.index for form in instruction_sets(library) if form.name == name)
    z, out = z.contiguous(), torch.empty(z.shape, dtype=z.dtype)
    library.edged_scan_exp2(z.data_ptr(), out.data_ptr(), z.numel(), z.element_size(), index)
    return out
