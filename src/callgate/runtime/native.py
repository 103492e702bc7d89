"""The native engine: shapes of machine code, and the installation of gates as builtins."""

from __future__ import annotations

import ctypes
import keyword
import struct
import weakref

from callgate.abi.plan import classify
from callgate.c.types import FunctionType, declaration
from callgate.cpython.conversion import Box, Conversion, Unbox
from callgate.cpython.layout import Layout
from callgate.errors import EngineError
from callgate.lower.call import lower_call
from callgate.lower.machine import Machine, pack_data, pack_steps, result_operand_offset, step_operand_offset
from callgate.lower.routines import lower_routines
from callgate.runtime import reference
from callgate.runtime.addresses import api_address, bytes_address, function_address, interned
from callgate.runtime.code_memory import MEMORY, Block
from callgate.runtime.gate import Gate
from callgate.runtime.lifetime import untrack
from callgate.runtime.probe import probe
from callgate.target import HOST

_METH_FASTCALL = 0x80
_METH_KEYWORDS = 0x02
_METHOD_DEFINITION = struct.Struct("<QQi4xQ")  # PyMethodDef: name, function, flags, doc


class Shape:
    """Published machine code, shared by all gates of equal conversion; dies with the last of them.

    `needs` keeps alive what the code refers to: the engine's routines and names.
    """

    __slots__ = ("__weakref__", "block", "code_bytes", "needs", "steps")

    def __init__(self, block: Block, code_bytes: int, steps: bytes, needs: object) -> None:
        self.block = block
        self.code_bytes = code_bytes
        self.steps = steps
        self.needs = needs


class _ModuleName(str):
    """What a gate's builtin has as `__module__`; the method definition lives exactly as long.

    A builtin reads its definition to its very end.  The gate cannot own it: taking a cycle apart, the garbage collector
    empties the gate first.  This str, which is untracked, goes when the builtin lets go of it, and not before.
    """

    __slots__ = ("definition",)
    definition: object

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (str(self),)


class NativeEngine:
    """Makes gates for one object layout.  One per process; tests make others with facts left out."""

    def __init__(self, layout: Layout | None = None) -> None:
        if HOST is None:
            raise EngineError("no machine code can be made for this platform yet")
        self.machine = Machine(HOST, layout if layout is not None else probe())
        self._libc = ctypes.CDLL(None)
        self._format_table = reference.FORMAT_TABLE
        self._shapes: weakref.WeakValueDictionary[Conversion, Shape] = weakref.WeakValueDictionary()
        self._names: dict[str, str] = {}
        self._addresses: dict[str, int] = {}
        new = ctypes.pythonapi.PyCFunction_NewEx
        prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
        self._new_function = prototype(ctypes.cast(new, ctypes.c_void_p).value or 0)
        code = lower_routines(self.machine)
        block = MEMORY.publish(code, self._resolve)
        for label, offset in code.labels.items():
            if label.startswith("callgate_"):
                self._addresses[label] = block.address + offset
        self._needs = (block, self._names)

    def _resolve(self, symbol: str) -> int:
        """The address that a literal of machine code stands for."""
        address = self._addresses.get(symbol)
        if address is None:
            address = self._addresses[symbol] = self._find(symbol)
        return address

    def _find(self, symbol: str) -> int:
        match symbol:
            case "Py_None":
                return id(None)
            case "Py_True":
                return id(True)
            case "Py_False":
                return id(False)
            case "small_int_0":
                return id(0)
            case "format_elements":
                return bytes_address(self._format_table)
            case "__errno_location" | "strlen" | "wcslen":
                return function_address(self._libc, symbol)
        if symbol.startswith("name:"):
            name = self._names.setdefault(symbol, interned(symbol[5:]))
            return id(name)
        return api_address(symbol)

    def shape(self, signature: FunctionType, conversion: Conversion) -> Shape:
        """The machine code for a conversion, made and published where no gate has it yet."""
        shape = self._shapes.get(conversion)
        if shape is not None:
            return shape
        plan = classify(signature, self.machine.target)
        code = lower_call(plan, conversion, self.machine)
        steps = pack_steps(conversion.steps, 1 + len(conversion.outs))
        shape = Shape(MEMORY.publish(code, self._resolve), len(code.data), steps, self._needs)
        # Another thread may have made the same; either serves.
        self._shapes[conversion] = shape
        return shape

    def install(self, gate: Gate) -> object:
        """Make the builtin function of a gate."""
        signature, conversion = gate.signature, gate.conversion
        shape = self.shape(signature, conversion)
        keyword_names = gate.keyword_names
        gate._data = pack_data(gate.address, id(keyword_names), shape.steps, _operands(signature, conversion))
        name = signature.name.encode()
        doc = text_signature(signature).encode()
        data_offset = self.machine.layout.bytes_data_offset
        definition = _METHOD_DEFINITION.pack(
            id(name) + data_offset, shape.block.address, _METH_FASTCALL | _METH_KEYWORDS, id(doc) + data_offset
        )
        gate._shape = shape
        gate._kept = keyword_names
        module = _ModuleName("callgate")
        module.definition = (definition, name, doc)
        untrack(module)
        return self._new_function(id(definition) + data_offset, gate, module)


def _operands(signature: FunctionType, conversion: Conversion) -> list[tuple[int, int]]:
    """The addresses of type objects that the machine code compares with or calls; the signature keeps them alive."""
    operands = [
        (step_operand_offset(index), id(signature.parameters[conversion.positions[index]].python_type))
        for index, step in enumerate(conversion.steps)
        if step.kind is Unbox.HANDLE
    ]
    results = [(conversion.result, signature.result)]
    for out in conversion.outs:
        declared = signature.parameters[out.position].out
        assert declared is not None  # an OutStep
        results.append((out.box, declared))
    for index, (box, result) in enumerate(results):
        offset = result_operand_offset(len(conversion.steps), index)
        if box.kind is Box.HANDLE:
            operands.append((offset, id(result.python_type)))
        elif box.kind is Box.ENUM:
            members = result.python_type._value2member_map_  # type: ignore[attr-defined]
            operands += [(offset, id(members)), (offset + 8, id(result.python_type))]
    return operands


def text_signature(signature: FunctionType) -> str:
    """The doc of a builtin, whose first line `inspect.signature` reads."""
    names = []
    for number, parameter in enumerate(p for p in signature.parameters if p.out is None):
        name = parameter.name if parameter.name.isidentifier() else f"arg{number + 1}"
        names.append(f"{name}_" if keyword.iskeyword(name) else name)
    if signature.positional_only:
        names.insert(signature.positional_only, "/")
    doc = f"{signature.doc}\n\n" if signature.doc else ""
    return f"{signature.name}({', '.join(names)})\n--\n\n{doc}{declaration(signature)}"
