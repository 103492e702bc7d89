"""The native engine: shapes of machine code, and the installation of gates as builtins.

Long because here meet all that machine code refers to: symbols, operands, method definitions, callbacks' routines.
"""

from __future__ import annotations

import atexit
import ctypes
import keyword
import os
import struct
import weakref
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from callgate.abi.plan import CallPlan, classify, classify_types
from callgate.asm.code import Code, FrameRow
from callgate.c import names, types
from callgate.c.types import VARIABLE, CallbackType, FunctionType, Parameter, Passing, Result, Returning, declaration
from callgate.cpython.conversion import (
    Box,
    BoxStep,
    CallbackConversion,
    Conversion,
    Unbox,
    UnboxStep,
    convert_callback,
)
from callgate.cpython.layout import Layout
from callgate.errors import EngineError
from callgate.lower.call import lower_call
from callgate.lower.callback import (
    FREE_RESERVE,
    NO_STATE_KEY,
    SLOT_BYTES,
    SLOT_FUNCTION,
    SLOT_STUB,
    lower_callback,
    lower_thunks,
    thunk_bytes,
)
from callgate.lower.callback_routines import lower_callback_routines
from callgate.lower.frame import Frame, lay_out_frame
from callgate.lower.image import THUNK_COUNT, shape_key
from callgate.lower.machine import (
    Machine,
    pack_data,
    pack_steps,
    pack_variadic,
    result_operand_offset,
    step_operand_offset,
)
from callgate.lower.operations import checked_registers, operations
from callgate.lower.raw import lower_raw
from callgate.lower.routines import lower_routines
from callgate.lower.stacks import stack_operand_offset
from callgate.runtime import params, reference
from callgate.runtime.addresses import api_address, bytes_address, c_address, gcc_address, interned, is_main_interpreter
from callgate.runtime.callbacks import Callback, Thunks
from callgate.runtime.code_memory import MEMORY, Block
from callgate.runtime.debugging import IS_DEBUGGED, NAMES_CODE, code_name, tell
from callgate.runtime.environment import is_asked_for
from callgate.runtime.gate import Gate
from callgate.runtime.image import ImageCode, MappedImage, SlotThunks
from callgate.runtime.lifetime import keep_for_ever, permanent_memory, untrack
from callgate.runtime.probe import free_lists, probe
from callgate.runtime.stack import HANDLER_BEFORE, STACKS, Stack
from callgate.runtime.thread_keys import new_key, python_key
from callgate.runtime.unwind import LOOK, FrameTables, is_cxx_here
from callgate.target import HOST

_F = TypeVar("_F", bound=Callable[..., int])
_METH_FASTCALL = 0x80
_METH_KEYWORDS = 0x02
_METHOD_DEFINITION = struct.Struct("<QQi4xQ")  # PyMethodDef: name, function, flags, doc


RAISED_COUNT = ctypes.c_int64()
"""How many callbacks have left an exception that no gate has taken up yet."""


_ERRNO_CAPSULE = b"_ctypes pymem"
_FREE_SLOT = "callgate_free_slot"
PERSONALITY = CallbackType(
    "personality",
    (
        Result(types.INT, Returning.VALUE),
        Result(types.INT, Returning.VALUE),
        Result(types.UINT64, Returning.VALUE),
        Result(types.VOID_POINTER, Returning.HANDLE, True, ctypes.c_void_p),
        Result(types.VOID_POINTER, Returning.HANDLE, True, ctypes.c_void_p),
    ),
    Parameter("result", types.INT, Passing.VALUE),
)
_OLDER_NAMES = {
    "Py_IsFinalizing": "_Py_IsFinalizing",  # before 3.13
    "PyThreadState_GetUnchecked": "_PyThreadState_UncheckedGet",  # before 3.13
    "PyObject_Vectorcall": "PyObject_VectorcallDict",  # before 3.11 the former is no symbol; without keywords the same
}


class Shape:
    """Machine code in memory, shared by all gates of equal conversion; dies with the last of them.

    `needs` keeps alive what the code refers to: the engine's routines and names.
    """

    # _told and _unwinding go before the block whose code they describe: slots are given up in alphabetical order
    __slots__ = (
        "__weakref__",
        "_told",
        "_unwinding",
        "block",
        "code_bytes",
        "frame",
        "is_on_stack",
        "needs",
        "rows",
        "steps",
    )

    def __init__(
        self, block: Block | ImageCode, code_bytes: int, steps: bytes, needs: object, frame: Frame | None = None
    ) -> None:
        self.frame = frame
        self.is_on_stack = False  # unwind tables do not describe frames on two stacks
        self.rows: tuple[FrameRow, ...] = ()
        self._told: object = None
        self._unwinding: object = None
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


def machine_here(layout: Layout | None = None) -> Machine:
    """What code is made for in this process; EngineError where none is."""
    if HOST is None:
        raise EngineError("no machine code can be made for this platform yet")
    return Machine(HOST, layout if layout is not None else probe(), is_asked_for("CALLGATE_CHECK"))


def _known_lists() -> tuple[int, int]:
    lists = free_lists()
    if lists is None:
        raise EngineError("this interpreter has no free lists as the code expects them")
    return lists


class NativeEngine:
    """Makes gates for one object layout.  One per process; tests make others with facts left out.

    With an image it takes the shared routines from there, and so runs where no other code may be executable.
    """

    def __init__(self, layout: Layout | None = None, image: MappedImage | None = None) -> None:
        self.machine = machine_here(layout)
        self._format_table = reference.FORMAT_TABLE
        self._shapes: weakref.WeakValueDictionary[object, Shape] = weakref.WeakValueDictionary()
        self._names: dict[str, str] = {}
        self._report_cell = ctypes.c_uint64()
        self._callback_cells: dict[str, Any] = {
            "thread_key": ctypes.c_uint(),
            "state_key": ctypes.c_uint(),
            "ended_lock": (ctypes.c_uint64 * 8)(),  # PTHREAD_MUTEX_INITIALIZER is zeros
            "ended_nodes": ctypes.c_uint64(),
            "slots_lock": (ctypes.c_uint64 * 8)(),
            "free_slots": (ctypes.c_uint64 * 4)(0, 0, 0, THUNK_COUNT // 2),
            _FREE_SLOT: ctypes.c_uint64(),  # a routine refers to another by its address
        }
        self._addresses: dict[str, int] = {"cxx_report": ctypes.addressof(self._report_cell)}
        self._addresses.update((name, ctypes.addressof(cell)) for name, cell in self._callback_cells.items())
        new = ctypes.pythonapi.PyCFunction_NewEx
        prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
        self._new_function = prototype(ctypes.cast(new, ctypes.c_void_p).value or 0)
        self._images: list[MappedImage] = []
        self._spare_thunks: list[SlotThunks] = []
        self._needs: tuple[object, ...] = (self._names, self._callback_cells)
        if image is not None:
            self.add_image(image)
        else:
            self._needs += (self._publish_routines(lower_routines(self.machine)),)
        self._raw: tuple[Block, dict[str, int]] | None = None
        self._thunks: Thunks | None = None
        self._frames: FrameTables | None = None
        self._kept_for_ever: list[object] = []
        self._stubs: dict[object, Shape] = {}

    def _publish_routines(self, code: Code) -> object:
        """Publish them; they stay as long as what is returned."""
        block = MEMORY.publish(code, self._resolve)
        self._add_routines({label: block.address + offset for label, offset in code.labels.items()})
        return tell(block.address, code, "callgate_routines"), block

    def _add_routines(self, labels: Mapping[str, int]) -> None:
        """Let code find shared routines by their labels; those known before stay."""
        for label, address in labels.items():
            if label == _FREE_SLOT:
                self._callback_cells[label].value = self._callback_cells[label].value or address
            elif label.startswith("callgate_"):
                self._addresses.setdefault(label, address)

    def add_image(self, image: MappedImage) -> None:
        """Take code from an image from now on, where it has it."""
        image.fill(lambda symbol: self._addresses.get(symbol) or image.labels.get(symbol) or self._resolve(symbol))
        self._add_routines(image.labels)
        self._spare_thunks.append(image.slot_thunks)
        self._images.append(image)

    def _code(
        self, conversion: Conversion | CallbackConversion, plan: CallPlan, make: Callable[[], Code]
    ) -> tuple[Block | ImageCode, int, Code | None]:
        """The code of a shape and its size: from an image, or else made and published, then with what was made."""
        if self._images:
            key = shape_key(conversion, plan)
            for image in self._images:
                found = image.find(key)
                if found is not None:
                    return found, found.size_bytes, None
        code = make()
        return MEMORY.publish(code, self._resolve), len(code.data), code

    def address_of(self, symbol: str) -> int:
        """The address behind a name that machine code refers to."""
        return self._resolve(symbol)

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
            case "free_ints":
                return _known_lists()[0]
            case "free_floats":
                return _known_lists()[1]
            case "format_elements":
                return bytes_address(self._format_table)
            case "empty_tuple":
                return id(())
            case "raised_count":
                return ctypes.addressof(RAISED_COUNT)
            case "stacks":
                keep_for_ever(STACKS)
                return ctypes.addressof(STACKS)
            case "handler_before":
                keep_for_ever(HANDLER_BEFORE)
                return ctypes.addressof(HANDLER_BEFORE)
            case "Stack":
                return id(Stack)
            case "RuntimeError":
                return id(RuntimeError)
            case "Exception":
                return id(Exception)
            case "AttributeError":
                return id(AttributeError)
            case "CallOriginal":
                return id(params.CallOriginal)
            case "_CData":
                return id(names.CDATA)
            case "_Pointer":
                return id(ctypes._Pointer)
            case "Array":
                return id(ctypes.Array)
            case "CArgObject":
                return id(type(ctypes.byref(ctypes.c_int())))
            case "get_errno":
                return id(ctypes.get_errno)
            case "text_errno":
                return bytes_address(_ERRNO_CAPSULE)
            case (
                "__errno_location"
                | "calloc"
                | "free"
                | "pthread_mutex_lock"
                | "pthread_mutex_unlock"
                | "strlen"
                | "wcslen"
                | "memcpy"
                | "memset"
                | "pthread_getspecific"
                | "pthread_setspecific"
                | "munmap"
                | "raise"
                | "sigaction"
                | "sigaltstack"
                | "write"
                | "set_python_key"
                | "GetLastError"
                | "SetLastError"
                | "pthread_spin_lock"
                | "pthread_spin_unlock"
            ):
                return c_address(symbol)
            case "__extenddftf2" | "__trunctfdf2":  # between double and the long double of AArch64
                return gcc_address(symbol)
        if symbol.startswith("name:"):
            name = self._names.setdefault(symbol, interned(symbol[5:]))
            return id(name)
        return self._api(symbol)

    def _api(self, symbol: str) -> int:
        """The address of a C API function, by the name it has in this version."""
        try:
            return api_address(symbol)
        except AttributeError:
            if symbol not in _OLDER_NAMES:
                raise
            return api_address(_OLDER_NAMES[symbol])

    def shape(self, signature: FunctionType, conversion: Conversion, name: str = "") -> Shape:
        """The machine code for a conversion, made and published where no gate (of that name, if any) has it yet."""
        plan = None
        key: object = (conversion, name) if name else conversion
        if conversion.depends_on_plan:
            plan = classify(signature, self.machine.target)
            key = (conversion, plan, name) if name else (conversion, plan)
        shape = self._shapes.get(key)
        if shape is not None:
            return shape
        if plan is None:
            plan = classify(signature, self.machine.target)
        places = 1 + len(conversion.outs)
        if conversion.ctypes is not None:  # errcheck, and the pointees of POINTER classes
            places += 1 + len(conversion.steps)
        places += conversion.is_on_stack
        steps = pack_steps(conversion.steps, places)
        block, size_bytes, code = self._code(conversion, plan, lambda: lower_call(plan, conversion, self.machine))
        frame = lay_out_frame(plan, conversion, checked_registers(self.machine))
        shape = Shape(block, size_bytes, steps, self._needs, frame)
        shape.is_on_stack = conversion.is_on_stack
        if code is not None:
            shape.rows = code.frames
            shape._told = tell(block.address, code, name)
        else:
            shape.rows = operations(self.machine.target).frame_rows(frame.size_bytes)
        self._add_unwinding(shape)
        # Another thread may have made the same; either serves.
        self._shapes[key] = shape
        return shape

    def watch_for_cxx(self) -> None:
        """From the moment a C++ runtime is in the process, or if asked for, gates have unwind tables."""
        LOOK.is_due = False
        if self._frames is not None or not (IS_DEBUGGED or is_cxx_here()) or not is_main_interpreter():
            return
        try:
            self._frames = FrameTables(self._addresses["callgate_personality"])
        except OSError:  # no unwinder to register with
            return
        report = Callback(self._frames.report, PERSONALITY, "native")
        self._report_cell.value = report.address
        self._kept_for_ever.append(report)
        for shape in list(self._shapes.values()):
            self._add_unwinding(shape)

    def _add_unwinding(self, shape: Shape) -> None:
        frame = shape.frame
        if self._frames is None or frame is None or shape._unwinding is not None or shape.is_on_stack:
            return
        if not shape.rows:
            return
        registered = self._frames.add(shape.block.address, shape.code_bytes, shape.rows, frame.self_slot)
        if registered is not None:  # else another thread is at it
            shape._unwinding = registered

    def install(self, gate: Gate) -> object:
        """Make the builtin function of a gate."""
        signature, conversion = gate.signature, gate.conversion
        if LOOK.is_due:
            self.watch_for_cxx()
        shape = self.shape(signature, conversion, code_name(gate) if NAMES_CODE else "")
        original = gate.original
        keyword_names = gate.keyword_names if original is None else original
        gate._data = pack_data(
            gate.address,
            id(keyword_names),
            shape.steps,
            self._gate_operands(gate),
        )
        gate._shape = shape
        gate._kept = keyword_names
        return self._new_builtin(gate, shape.block.address)

    def _gate_operands(self, gate: Gate) -> list[tuple[int, int]]:
        conversion = gate.conversion
        operands = _operands(gate.signature, conversion)
        if gate.stack is not None and conversion.is_on_stack:
            operands.append((stack_operand_offset(conversion), gate.stack.node))
        if conversion.ctypes is not None:
            offset = result_operand_offset(len(conversion.steps), 1)
            operands += [(offset, id(gate.errcheck)), (offset + 8, id(gate.original))]
            for index, step in enumerate(conversion.steps):
                if step.kind is Unbox.PARAM and step.is_writable:
                    pointee = gate.signature.parameters[index].python_type._type_  # type: ignore[attr-defined]
                    operands.append((result_operand_offset(len(conversion.steps), 2 + index), id(pointee)))
        return operands

    def _new_builtin(self, gate: Gate, code: int) -> object:
        """The PyCFunction of a gate, whose `__self__` the gate is."""
        signature = gate.signature
        name = signature.name.encode()
        doc = text_signature(signature).encode()
        data_offset = self.machine.layout.bytes_data_offset
        definition = _METHOD_DEFINITION.pack(
            id(name) + data_offset, code, _METH_FASTCALL | _METH_KEYWORDS, id(doc) + data_offset
        )
        module = _ModuleName("callgate")
        module.definition = (definition, name, doc)
        untrack(module)
        return self._new_function(id(definition) + data_offset, gate, module)

    def install_raw(self, module: ModuleType, reference: _F, parameters: str) -> _F:
        """The builtin of `callgate.raw` in place of the function that says the same in Python."""
        if self._raw is None:
            code = lower_raw(self.machine)
            self._raw = MEMORY.publish(code, self._resolve), code.labels
        block, labels = self._raw
        name = reference.__name__
        doc = f"{name}{parameters}\n--\n\n{reference.__doc__}"
        return self._new_fastcall(  # type: ignore[return-value]
            module, name, doc, block.address + labels[f"callgate_{name}"], (block, self._needs)
        )

    def _new_fastcall(self, module: ModuleType, name: str, doc: str, code: int, needs: object) -> object:
        """The PyCFunction of a module's function that takes no keywords."""
        encoded, encoded_doc = name.encode(), doc.encode()
        data_offset = self.machine.layout.bytes_data_offset
        definition = _METHOD_DEFINITION.pack(
            id(encoded) + data_offset, code, _METH_FASTCALL, id(encoded_doc) + data_offset
        )
        module_name = _ModuleName(module.__name__)
        module_name.definition = (definition, encoded, encoded_doc, needs)
        untrack(module_name)
        return self._new_function(id(definition) + data_offset, module, module_name)

    def routine(self, name: str) -> int:
        """The address of a shared routine."""
        return self._addresses[name]

    def give_way(self, function: object) -> None:
        """Let the builtin of an accelerated gate call the ctypes function from now on."""
        definition: bytes = function.__module__.definition[0]  # type: ignore[attr-defined]
        code = ctypes.c_uint64(self._addresses["callgate_gave_way"])
        # the word is C's, in an object that only the builtin refers to
        ctypes.memmove(id(definition) + self.machine.layout.bytes_data_offset + 8, ctypes.addressof(code), 8)

    def install_variadic(self, gate: Gate) -> object:
        """Make the builtin of a variadic gate, which looks for the gate that fits the arguments' types."""
        gate._data = pack_variadic(len(gate.signature.parameters), ())
        return self._new_builtin(gate, self._addresses["callgate_variadic"])

    # -- callbacks -------------------------------------------------------------------------------------
    def install_callback(self, callback: Callback) -> None:
        """Give a callback its slot, and so its thunk."""
        thunks = self._thunks
        if thunks is None:
            thunks = self._thunks = self._make_thunks()
        declared = callback.type
        key = declared.parameters, declared.result
        stub = self._stubs.get(key)
        if stub is None:
            stub = self._stubs[key] = self._stub(declared)  # stays: C may have the address of what it belongs to
        callback._data = stub.steps
        callback._stub = stub
        anchor, words = thunks.take(declared.name)
        words[SLOT_STUB // 8] = stub.block.address
        words[SLOT_FUNCTION // 8] = id(callback._function)
        callback._anchor = anchor
        thunks.put_record(callback, words)
        callback._thunks = thunks
        callback._words = words

    def _stub(self, declared: CallbackType) -> Shape:
        conversion = convert_callback(declared, self.machine.target)
        types = [parameter.type for parameter in declared.parameters]
        plan = classify_types(types, declared.result_type, self.machine.target)
        key = (conversion, plan)
        shape = self._shapes.get(key)
        if shape is None:
            block, size_bytes, code = self._code(
                conversion, plan, lambda: lower_callback(plan, conversion, self.machine)
            )
            keep_for_ever((block, tell(block.address, code, "callgate_callback") if code is not None else None))
            shape = Shape(block, size_bytes, b"", self._needs)
            self._shapes[key] = shape
        steps = (conversion.result,) if conversion.result is not None else ()
        operands: list[tuple[int, int]] = []
        if conversion.result is not None and declared.result is not None and conversion.result.kind in _TYPED:
            operands.append((step_operand_offset(0), id(declared.result.python_type)))
        for index, (box, result) in enumerate(zip(conversion.boxes, declared.parameters, strict=True)):
            operands += _box_operands(result_operand_offset(1, index), box, result)
        padded = steps or (UnboxStep(Unbox.END, 0),)
        data = pack_data(0, 0, pack_steps(padded, len(conversion.boxes)), operands)
        return Shape(shape.block, shape.code_bytes, data, (shape, declared, self._needs))

    def _make_thunks(self) -> Thunks:
        """The routines of callbacks, what they keep in memory, and the list of slots.  All of it stays for ever."""
        keep_for_ever(self._needs)
        cells = self._callback_cells
        # a state that another thread ends would have to be one of a thread that waits
        cells["state_key"].value = NO_STATE_KEY if self.machine.layout.is_free_threaded else python_key()
        if "callgate_attach" not in self._addresses:  # as it is where an image has been taken
            keep_for_ever(self._publish_routines(lower_callback_routines(self.machine)))
        cells["thread_key"].value = new_key(self._addresses["callgate_thread_ends"])
        take = ctypes.PYFUNCTYPE(ctypes.py_object)(self._addresses["callgate_take_slot"])
        give = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
            self._addresses["callgate_give_slots"]
        )
        set_record = None
        if self.machine.layout.is_free_threaded:
            prototype = ctypes.PYFUNCTYPE(None, ctypes.c_size_t, ctypes.c_size_t)
            set_record = prototype(self._addresses["callgate_set_record"])
        drain = ctypes.PYFUNCTYPE(None)(self._addresses["callgate_drain"])
        nodes, lock, slots_lock = cells["ended_nodes"], cells["ended_lock"], cells["slots_lock"]

        def forget() -> None:  # a forked child has one thread, and freed the states of the others
            ctypes.memset(ctypes.addressof(nodes), 0, ctypes.sizeof(nodes))
            ctypes.memset(ctypes.addressof(lock), 0, ctypes.sizeof(lock))
            ctypes.memset(ctypes.addressof(slots_lock), 0, ctypes.sizeof(slots_lock))

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=drain, after_in_child=forget)
        atexit.register(drain)

        def make() -> SlotThunks | None:
            if self._spare_thunks:
                return self._spare_thunks.pop()
            slots = permanent_memory(SLOT_BYTES * THUNK_COUNT)
            try:
                code = lower_thunks(slots, THUNK_COUNT, self.machine.target)
                thunks = MEMORY.publish(code, self._resolve)
            except EngineError as refusal:
                reserve = cells["free_slots"]
                if reserve[FREE_RESERVE // 8]:  # an image gave all the thunks that there are
                    reserve[FREE_RESERVE // 8] = 0
                    return None
                raise EngineError(f"no more callbacks can live at once: {refusal}") from None
            keep_for_ever((thunks, tell(thunks.address, code, "callgate_thunks")))
            return SlotThunks(slots, thunks.address, thunk_bytes(self.machine.target))

        return Thunks(take, give, make, self._addresses["callgate_unused"], set_record)


def _box_operands(offset: int, box: BoxStep, result: Result) -> list[tuple[int, int]]:
    if box.kind in (Box.HANDLE, Box.STRUCT):
        return [(offset, id(result.python_type)), (offset + 8, maker(result.python_type))]
    if box.kind is Box.CALLED:
        return [(offset, id(result.python_type))]
    if box.kind is Box.ENUM:
        members = result.python_type._value2member_map_  # type: ignore[attr-defined]
        return [(offset, id(members)), (offset + 8, id(result.python_type))]
    return []


def _operands(signature: FunctionType, conversion: Conversion) -> list[tuple[int, int]]:
    """The addresses of type objects that the machine code compares with or calls; the signature keeps them alive."""
    operands = [
        (step_operand_offset(index), id(signature.parameters[conversion.positions[index]].python_type))
        for index, step in enumerate(conversion.steps)
        if step.kind in _TYPED
    ]
    results = [(conversion.result, signature.result)]
    for out in conversion.outs:
        declared = signature.parameters[out.position].out
        assert declared is not None  # an OutStep
        results.append((out.box, declared))
    for index, (box, result) in enumerate(results):
        offset = result_operand_offset(len(conversion.steps), index)
        operands += _box_operands(offset, box, result)
    return operands


_TYPED = (Unbox.HANDLE, Unbox.STRUCT, Unbox.RECORD, Unbox.CDATA, Unbox.PARAM)
_PY_TP_NEW = 65  # typeslots.h
_makers: dict[type, int] = {}


def maker(cls: object) -> int:
    """The address of a ctypes class's tp_new, which makes a zeroed instance of it or of a subclass.

    A `__new__` or `__init__` of Python's is not run: what C returns is no new value, as for ctypes.
    """
    for base in _PLAIN_BASES:
        if isinstance(cls, type) and issubclass(cls, base):
            made = _makers.get(base)
            if made is None:
                prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)
                made = _makers[base] = prototype(api_address("PyType_GetSlot"))(base, _PY_TP_NEW)
            return made
    raise AssertionError(f"{cls!r} is no ctypes class")


_PLAIN_BASES = (ctypes.Structure, ctypes.Union, ctypes._Pointer, ctypes._SimpleCData, names.FUNCTION_POINTER)


def text_signature(signature: FunctionType) -> str:
    """The doc of a builtin, whose first line `inspect.signature` reads."""
    names = []
    for number, parameter in enumerate(p for p in signature.parameters if p.out is None):
        name = parameter.name if parameter.name.isidentifier() else f"arg{number + 1}"
        names.append(f"{name}_" if keyword.iskeyword(name) else name)
    if signature.positional_only or signature.is_variadic:
        names.insert(len(names) if signature.is_variadic else signature.positional_only, "/")
    if signature.is_variadic and signature.parameters[-1].name != VARIABLE:
        names.append("*args")
    doc = f"{signature.doc}\n\n" if signature.doc else ""
    return f"{signature.name}({', '.join(names)})\n--\n\n{doc}{declaration(signature)}"
