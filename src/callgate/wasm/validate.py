"""The rules of a valid module, and bodies as both engines read them (core specification 2.0, chapter 3, appendix 7.3).

`check_module` judges everything but the bodies, `check_body` a body; it returns the `Body` that engines work from:
instructions decoded, types of blocks looked up, code that cannot be reached left out.  One function decodes and checks
bodies, because a module of a megabyte has half a million instructions: each is looked at once, here.  It is long for
that reason.  The stack of types and that of control frames are the standard's algorithm; `UNKNOWN` is the type of what
unreachable code pops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

from callgate.wasm.binary import MOST, Expression, Kind, ModuleData, leb_signed, leb_unsigned, read_locals
from callgate.wasm.errors import BinaryError, ValidationError
from callgate.wasm.opcodes import INSTRUCTIONS
from callgate.wasm.types import (
    F32,
    F64,
    FUNCREF,
    I32,
    I64,
    MOST_PAGES,
    NAMES,
    REFERENCES,
    V128,
    FuncType,
    Limits,
)

UNKNOWN: Final = 0
BLOCK: Final = 0x02
LOOP: Final = 0x03
IF: Final = 0x04
ELSE: Final = 0x05
END: Final = 0x0B
DEEPEST_WEIGHT: Final = 4
"""Loops nested deeper than this weigh no more."""


class Body(NamedTuple):
    """A checked function.

    `instructions` are (opcode, immediate, offset in the module).  What can never run is not among them: behind a branch
    follows the `else` or `end` of its block.  Immediates: of blocks their FuncType; of `else` and `end` whether the
    place before them is reached; of loads and stores the offset, of those with a lane (offset, lane); of
    `call_indirect` (type, table index); of `br_table` the depths, the default last; of `drop` and `select` the type of
    the value; floats and vectors as their bits; else the number that stands there.

    `weights` tell how often each local is read or written, eight times as much for each loop around the place;
    `calls` is the same for calls.  No more than `deepest` values are on the stack at a time.
    """

    number: int
    type: FuncType
    locals: tuple[int, ...]
    instructions: list[tuple[int, Any, int]]
    weights: list[int]
    calls: int
    deepest: int


class _Frame:
    """A control frame: a block that is open."""

    __slots__ = ("base", "is_live", "is_targeted", "is_unreachable", "opcode", "type", "weight")

    def __init__(self, opcode: int, type: FuncType, base: int, *, is_live: bool, weight: int) -> None:
        self.opcode = opcode
        self.type = type
        self.base = base  # of its operands in the stack of types
        self.is_unreachable = False
        self.is_live = is_live  # whether it is reached at all
        self.is_targeted = False  # by a branch that is reached
        self.weight = weight

    @property
    def label(self) -> tuple[int, ...]:
        """What a branch to it takes along."""
        return self.type.parameters if self.opcode == LOOP else self.type.results


class Context(NamedTuple):
    """What bodies refer to."""

    module: ModuleData
    functions: tuple[FuncType, ...]
    referable: frozenset[int]
    """The functions that `ref.func` may name in bodies: those named outside of them."""


def _natural_bytes(kind: str) -> int:
    """The natural alignment that `memoryN` names; 0 for other kinds of immediates."""
    digits = kind.removeprefix("memory")
    return int(digits) if digits != kind and digits else 0


_ALIGNMENTS: Final = {
    opcode: _natural_bytes(row.immediates[0]).bit_length() - 1
    for opcode, row in INSTRUCTIONS.items()
    if row.immediates and _natural_bytes(row.immediates[0])
}
"""The natural alignment of each access, as a power of two."""


def _plain() -> list[tuple[int, int, int, int] | None]:
    """For opcodes of one byte with a fixed type and no immediate but a memarg: arity, operands, result (0: none)."""
    rows: list[tuple[int, int, int, int] | None] = [None] * 256
    for opcode, _, immediates, parameters, results in INSTRUCTIONS.values():
        if opcode < 256 and parameters and (not immediates or opcode in _ALIGNMENTS):
            second = parameters[1] if len(parameters) == 2 else 0
            rows[opcode] = len(parameters), parameters[0], second, results[0] if results else 0
    return rows


_PLAIN: Final = _plain()
_LANES: Final = {
    opcode: int(row.immediates[-1].removeprefix("lane"))
    for opcode, row in INSTRUCTIONS.items()
    if row.immediates and row.immediates[-1].startswith("lane") and row.immediates[-1] != "lanes32"
}
_VOID: Final = FuncType((), ())
_ONE_RESULT: Final = {value: FuncType((), (value,)) for value in NAMES}


# -- outside of bodies ------------------------------------------------------------------------------------------------


def check_module(module: ModuleData) -> Context:
    """Check everything but the bodies; ValidationError where a rule is broken."""
    for index in module.functions:
        if index >= len(module.types):
            raise ValidationError(f"unknown type {index}")
    functions = tuple([module.types[index] for index in module.functions])
    for table in module.tables:
        _check_limits(table.limits, (1 << 32) - 1, "table size must be at most 2^32 - 1 elements")
    if len(module.memories) > 1:
        raise ValidationError("multiple memories")
    for memory in module.memories:
        _check_limits(memory.limits, MOST_PAGES, "memory size must be at most 65536 pages (4GiB)")
    referable: set[int] = set()
    for kind, initializer in zip(module.globals[module.imported_globals :], module.initializers, strict=True):
        _check_constant(module, initializer, kind.value, referable)
    _check_exports(module, referable)
    if module.start is not None:
        if module.start >= len(functions):
            raise ValidationError(f"unknown function {module.start} as the start function")
        if functions[module.start] != _VOID:
            raise ValidationError(f"start function must have type () -> (), not {functions[module.start]}")
    _check_segments(module, referable)
    return Context(module, functions, frozenset(referable))


def _check_limits(limits: Limits, most: int, message: str) -> None:
    if limits.minimum > most or (limits.maximum is not None and limits.maximum > most):
        raise ValidationError(message)
    if limits.maximum is not None and limits.minimum > limits.maximum:
        raise ValidationError(f"size minimum must not be greater than maximum: {limits.minimum}, {limits.maximum}")


def _check_exports(module: ModuleData, referable: set[int]) -> None:
    spaces: dict[Kind, tuple[object, ...]] = {
        Kind.FUNCTION: module.functions,
        Kind.TABLE: module.tables,
        Kind.MEMORY: module.memories,
        Kind.GLOBAL: module.globals,
    }
    seen: set[str] = set()
    for name, kind, index in module.exports:
        if index >= len(spaces[kind]):
            raise ValidationError(f"unknown {kind.name.lower()} {index}, exported as {name!r}")
        if name in seen:
            raise ValidationError(f"duplicate export name {name!r}")
        seen.add(name)
        if kind is Kind.FUNCTION:
            referable.add(index)


def _check_segments(module: ModuleData, referable: set[int]) -> None:
    for element in module.elements:
        if element.table is not None:
            if element.table >= len(module.tables):
                raise ValidationError(f"unknown table {element.table}", element.offset)
            if module.tables[element.table].element != element.type:
                raise ValidationError(
                    f"type mismatch: elements of {NAMES[element.type]} in a {module.tables[element.table]}",
                    element.offset,
                )
            assert element.position is not None
            _check_constant(module, element.position, I32, referable)
        for item in element.items:
            _check_constant(module, item, element.type, referable)
    for segment in module.segments:
        if segment.memory is not None:
            if segment.memory >= len(module.memories):
                raise ValidationError(f"unknown memory {segment.memory}", segment.offset)
            assert segment.position is not None
            _check_constant(module, segment.position, I32, referable)


def _check_constant(module: ModuleData, expression: Expression, expected: int, referable: set[int]) -> None:
    """A constant expression has one value of the expected type and refers to imported constants only (3.3.10)."""
    stack: list[int] = []
    for opcode, immediate in expression.instructions:
        match opcode:
            case 0x41 | 0x42 | 0x43 | 0x44:
                stack.append((I32, I64, F32, F64)[opcode - 0x41])
            case 0xFD0C:
                stack.append(V128)
            case 0xD0:
                stack.append(immediate)
            case 0xD2:
                if immediate >= len(module.functions):
                    raise ValidationError(f"unknown function {immediate}", expression.offset)
                referable.add(immediate)
                stack.append(FUNCREF)
            case 0x23:
                if immediate >= module.imported_globals:
                    raise ValidationError(f"unknown global {immediate}", expression.offset)
                if module.globals[immediate].is_mutable:
                    raise ValidationError("constant expression required", expression.offset)
                stack.append(module.globals[immediate].value)
            case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:
                operand = I32 if opcode < 0x70 else I64
                if stack[-2:] != [operand, operand]:
                    raise ValidationError("type mismatch in a constant expression", expression.offset)
                stack.pop()
            case _ if opcode in INSTRUCTIONS:
                raise ValidationError("constant expression required", expression.offset)
            case _:
                raise BinaryError(f"illegal opcode {opcode:02x}", expression.offset)
    if stack != [expected]:
        found = ", ".join(NAMES[one] for one in stack) or "nothing"
        raise ValidationError(f"type mismatch: {NAMES[expected]} expected, {found} found", expression.offset)


# -- bodies -----------------------------------------------------------------------------------------------------------


Progress = Callable[[int, int], object]
"""Is told now and then how many bytes of a module's bodies are done, and how many there are."""


def check_body(context: Context, number: int) -> Body:
    """Decode and check the body of a function; `number` counts those that are not imported.

    Raises ValidationError, or BinaryError where the bytes are no instructions.
    """
    module = context.module
    index = module.imported_functions + number
    try:
        return _check_body(context, number, index)
    except IndexError:
        raise BinaryError("unexpected end", len(module.data)) from None
    except ValidationError as problem:
        if problem.function is None:
            message = str(problem).removesuffix(f" (at byte {problem.offset:#x})") if problem.offset else str(problem)
            raise ValidationError(message, problem.offset, module.function_name(index)) from None
        raise


def checked_bodies(context: Context, progress: Progress | None) -> Iterator[Body]:
    """Check one body after the other; progress is reported as they are taken."""
    bodies = context.module.bodies
    whole = sum(body.end - body.start for body in bodies)
    step = max(1, whole // 200)
    done = told = 0
    for number, body in enumerate(bodies):
        yield check_body(context, number)
        done += body.end - body.start
        if progress is not None and (done - told >= step or number == len(bodies) - 1):
            told = done
            progress(done, whole)


def _mismatch(expected: int, found: int, offset: int) -> NoReturn:
    raise ValidationError(f"type mismatch: {NAMES[expected]} expected, {NAMES[found]} found", offset)


def _pop(stack: list[int], frame: _Frame, expected: int, offset: int) -> int:
    """Take the top of the stack, which must be of a type (UNKNOWN: of any); its type, UNKNOWN where nothing tells."""
    if len(stack) == frame.base:
        if frame.is_unreachable:
            return expected
        wanted = NAMES[expected] if expected else "a value"
        raise ValidationError(f"type mismatch: {wanted} expected, the stack is empty", offset)
    found = stack.pop()
    if found != expected and found and expected:
        _mismatch(expected, found, offset)
    return found or expected


def _pop_all(stack: list[int], frame: _Frame, types: tuple[int, ...], offset: int) -> None:
    """Take values of these types, the last from the top."""
    count = len(types)
    if not count:
        return
    if count == 1:
        if len(stack) > frame.base and stack[-1] == types[0]:
            stack.pop()
            return
    elif len(stack) - frame.base >= count and tuple(stack[-count:]) == types:
        del stack[-count:]
        return
    for expected in reversed(types):
        _pop(stack, frame, expected, offset)


def _check_top(stack: list[int], frame: _Frame, types: tuple[int, ...], offset: int) -> None:
    """The top of the stack has these types, and keeps them."""
    if types:
        _pop_all(stack, frame, types, offset)
        stack += types


def _u32(data: bytes, position: int) -> tuple[int, int]:
    return leb_unsigned(data, position, 32)


def _zero(data: bytes, position: int) -> int:
    if data[position]:
        raise BinaryError("zero byte expected", position)
    return position + 1


def _memarg(data: bytes, position: int, opcode: int) -> tuple[int, int]:
    """The offset of an access, its alignment checked, and the position behind it."""
    start = position
    alignment, position = leb_unsigned(data, position, 32)
    if alignment > 31:
        raise BinaryError("malformed memop flags", start)
    offset, position = leb_unsigned(data, position, 32)
    if alignment > _ALIGNMENTS[opcode]:
        raise ValidationError("alignment must not be larger than natural", start)
    return offset, position


def _block_type(module: ModuleData, position: int) -> tuple[FuncType, int]:
    """What a block takes and leaves (5.4.1), and the position behind."""
    byte = module.data[position]
    if byte == 0x40:
        return _VOID, position + 1
    if byte in _ONE_RESULT:
        return _ONE_RESULT[byte], position + 1
    number, behind = leb_signed(module.data, position, 33)
    if number < 0:
        raise BinaryError("malformed value type", position)
    if number >= len(module.types):
        raise ValidationError(f"unknown type {number}", position)
    return module.types[number], behind


def _known(what: str, index: int, space: tuple[object, ...], offset: int) -> None:
    if index >= len(space):
        raise ValidationError(f"unknown {what} {index}", offset)


def _check_body(context: Context, number: int, index: int) -> Body:
    module, functions, _ = context
    data = module.data
    end = module.bodies[number].end
    variables, position = read_locals(data, module.bodies[number])
    signature = functions[index]
    types = signature.parameters + variables
    local_count = len(types)
    has_memory = bool(module.memories)
    weight, calls, deepest = 1, 0, len(signature.results)
    weights = [0] * local_count
    instructions: list[tuple[int, Any, int]] = []
    emit = instructions.append
    stack: list[int] = []
    push = stack.append
    frame = _Frame(BLOCK, FuncType((), signature.results), 0, is_live=True, weight=1)
    frames = [frame]
    base = 0
    is_live = True
    plain_rows = _PLAIN

    while True:
        offset = position
        opcode = data[position]
        position += 1
        immediate: object = None

        if opcode == 0x20:  # local.get
            local = data[position]
            position += 1
            if local >= 0x80:
                local, position = _u32(data, position - 1)
            if local >= local_count:
                raise ValidationError(f"unknown local {local}", offset)
            push(types[local])
            if is_live:
                emit((0x20, local, offset))
                weights[local] += weight
            deepest = max(deepest, len(stack))
            continue

        plain = plain_rows[opcode]
        if plain is not None:
            if 0x28 <= opcode <= 0x3E:
                if not has_memory:
                    raise ValidationError("unknown memory 0", offset)
                byte = data[position + 1]
                if byte < 0x80 and data[position] <= _ALIGNMENTS[opcode]:
                    immediate = byte
                    position += 2
                else:
                    immediate, position = _memarg(data, position, opcode)
            arity, first, second, result = plain
            if arity == 2:
                if len(stack) - base >= 2 and stack[-1] == second and stack[-2] == first:
                    stack.pop()
                    if result:
                        stack[-1] = result
                    else:
                        stack.pop()
                    if is_live:
                        emit((opcode, immediate, offset))
                    continue
                _pop(stack, frame, second, offset)
            elif len(stack) > base and stack[-1] == first:
                stack[-1] = result
                if is_live:
                    emit((opcode, immediate, offset))
                continue
            _pop(stack, frame, first, offset)
            if result:
                push(result)

        elif opcode == 0x41:  # i32.const
            byte = data[position]
            if byte < 0x80:
                immediate = byte if byte < 0x40 else byte - 0x80
                position += 1
            else:
                immediate, position = leb_signed(data, position, 32)
            push(I32)

        elif opcode in {33, 34}:  # local.set, local.tee
            local = data[position]
            position += 1
            if local >= 0x80:
                local, position = _u32(data, position - 1)
            if local >= local_count:
                raise ValidationError(f"unknown local {local}", offset)
            kind = types[local]
            if len(stack) > base and stack[-1] == kind:
                if opcode == 0x21:
                    stack.pop()
            else:
                _pop(stack, frame, kind, offset)
                if opcode == 0x22:
                    push(kind)
            if is_live:
                emit((opcode, local, offset))
                weights[local] += weight
            continue

        elif opcode == 0x0D:  # br_if
            depth, position = _u32(data, position)
            _pop(stack, frame, I32, offset)
            target = _target(frames, depth, offset)
            _check_top(stack, frame, target.label, offset)
            if is_live:
                target.is_targeted = True
            immediate = depth

        elif opcode == 0x0C:  # br
            depth, position = _u32(data, position)
            target = _target(frames, depth, offset)
            _pop_all(stack, frame, target.label, offset)
            if is_live:
                target.is_targeted = True
                emit((opcode, depth, offset))
            is_live = False
            frame.is_unreachable = True
            del stack[base:]
            continue

        elif opcode == END:
            _pop_all(stack, frame, frame.type.results, offset)
            if len(stack) != base:
                raise ValidationError("type mismatch: values are left at the end of a block", offset)
            if frame.opcode == IF and frame.type.parameters != frame.type.results:
                raise ValidationError("type mismatch: an if without else must leave what it takes", offset)
            if frame.is_live:
                emit((END, is_live, offset))
                # behind a loop only what falls out of it arrives, behind an if without else also what does not enter it
                is_live = is_live or (frame.is_targeted and frame.opcode != LOOP) or frame.opcode == IF
            frames.pop()
            if not frames:
                break
            stack += frame.type.results
            frame = frames[-1]
            base = frame.base
            weight = frame.weight
            continue

        elif opcode in (BLOCK, LOOP, IF):
            kind_of_block, position = _block_type(module, position)
            if opcode == IF:
                _pop(stack, frame, I32, offset)
            _pop_all(stack, frame, kind_of_block.parameters, offset)
            if is_live:
                emit((opcode, kind_of_block, offset))
            if opcode == LOOP:
                weight = min(weight << 3, 1 << 3 * DEEPEST_WEIGHT)
            base = len(stack)
            frame = _Frame(opcode, kind_of_block, base, is_live=is_live, weight=weight)
            frames.append(frame)
            stack += kind_of_block.parameters
            continue

        elif opcode == ELSE:
            if frame.opcode != IF:
                raise BinaryError("END opcode expected: an else without if", offset)
            _pop_all(stack, frame, frame.type.results, offset)
            if len(stack) != base:
                raise ValidationError("type mismatch: values are left at the end of a block", offset)
            if frame.is_live:
                emit((ELSE, is_live, offset))
                frame.is_targeted = frame.is_targeted or is_live  # from the end of the first arm
            frame.opcode = ELSE
            frame.is_unreachable = False
            is_live = frame.is_live
            stack += frame.type.parameters
            continue

        elif opcode in {16, 18}:  # call, return_call
            callee, position = _u32(data, position)
            _known("function", callee, functions, offset)
            called = functions[callee]
            _pop_all(stack, frame, called.parameters, offset)
            immediate = callee
            calls += weight
            if opcode == 0x10:
                stack += called.results
            else:
                _check_tail(called, signature, offset)

        elif opcode in {17, 19}:  # call_indirect, return_call_indirect
            type_index, position = _u32(data, position)
            table, position = _u32(data, position)
            _known("table", table, module.tables, offset)
            _known("type", type_index, module.types, offset)
            if module.tables[table].element != FUNCREF:
                _mismatch(FUNCREF, module.tables[table].element, offset)
            _pop(stack, frame, I32, offset)
            called = module.types[type_index]
            _pop_all(stack, frame, called.parameters, offset)
            immediate = (type_index, table)
            calls += weight
            if opcode == 0x11:
                stack += called.results
            else:
                _check_tail(called, signature, offset)

        elif opcode in {35, 36}:  # global.get, global.set
            variable, position = _u32(data, position)
            _known("global", variable, module.globals, offset)
            value, is_mutable = module.globals[variable]
            if opcode == 0x23:
                push(value)
            else:
                if not is_mutable:
                    raise ValidationError(f"global {variable} is immutable", offset)
                _pop(stack, frame, value, offset)
            immediate = variable

        elif opcode == 0x42:  # i64.const
            immediate, position = leb_signed(data, position, 64)
            push(I64)

        elif opcode == 0x1A:  # drop
            immediate = _pop(stack, frame, UNKNOWN, offset)

        elif opcode == 0x1B:  # select
            _pop(stack, frame, I32, offset)
            kind = _pop(stack, frame, UNKNOWN, offset)
            kind = _pop(stack, frame, kind, offset)
            if kind in REFERENCES:
                raise ValidationError("type mismatch: select of references must name its type", offset)
            immediate = kind
            push(kind)

        elif opcode == 0x1C:  # select with types
            count, position = _u32(data, position)
            if count != 1:
                raise ValidationError("invalid result arity", offset)
            kind = data[position]
            if kind not in NAMES:
                raise BinaryError("malformed value type", position)
            position += 1
            _pop(stack, frame, I32, offset)
            _pop(stack, frame, kind, offset)
            _pop(stack, frame, kind, offset)
            immediate = kind
            push(kind)

        elif opcode == 0x43:  # f32.const
            position += 4
            if position > len(data):
                raise BinaryError("unexpected end", len(data))
            immediate = int.from_bytes(data[position - 4 : position], "little")
            push(F32)

        elif opcode == 0x44:  # f64.const
            position += 8
            if position > len(data):
                raise BinaryError("unexpected end", len(data))
            immediate = int.from_bytes(data[position - 8 : position], "little")
            push(F64)

        elif opcode == 0x0F:  # return
            _pop_all(stack, frame, signature.results, offset)

        elif opcode in {0, 1}:  # unreachable, nop
            pass

        elif opcode == 0x0E:  # br_table
            immediate, position = _branch_table(data, position, stack, frames, offset, is_live=is_live)

        elif opcode in {63, 64}:  # memory.size, memory.grow
            position = _zero(data, position)
            if not has_memory:
                raise ValidationError("unknown memory 0", offset)
            if opcode == 0x40:
                _pop(stack, frame, I32, offset)
            push(I32)

        elif opcode in {37, 38}:  # table.get, table.set
            table, position = _u32(data, position)
            _known("table", table, module.tables, offset)
            element = module.tables[table].element
            if opcode == 0x26:
                _pop(stack, frame, element, offset)
            _pop(stack, frame, I32, offset)
            if opcode == 0x25:
                push(element)
            immediate = table

        elif opcode == 0xD0:  # ref.null
            kind = data[position]
            if kind not in REFERENCES:
                raise BinaryError("malformed reference type", position)
            position += 1
            immediate = kind
            push(kind)

        elif opcode == 0xD1:  # ref.is_null
            kind = _pop(stack, frame, UNKNOWN, offset)
            if kind and kind not in REFERENCES:
                raise ValidationError(f"type mismatch: a reference expected, {NAMES[kind]} found", offset)
            push(I32)

        elif opcode == 0xD2:  # ref.func
            callee, position = _u32(data, position)
            _known("function", callee, functions, offset)
            if callee not in context.referable:
                raise ValidationError(f"undeclared function reference: function {callee}", offset)
            immediate = callee
            push(FUNCREF)

        elif opcode in (0xFC, 0xFD):
            minor, position = _u32(data, position)
            opcode = opcode << 8 | minor if minor < 256 else -1
            if opcode not in INSTRUCTIONS:
                raise BinaryError(f"illegal opcode {data[offset]:02x} {minor:#x}", offset)
            immediate, position = _prefixed(context, opcode, position, stack, frame, offset)

        else:
            raise BinaryError(f"illegal opcode {opcode:02x}", offset)

        if is_live:
            emit((opcode, immediate, offset))
            deepest = max(deepest, len(stack))
        if opcode in _ENDS:
            is_live = False
            frame.is_unreachable = True
            del stack[base:]

    if position != end:
        raise BinaryError("END opcode expected" if position > end else "section size mismatch", position)
    return Body(index, signature, types, instructions, weights, calls, deepest)


_ENDS: Final = frozenset((0x00, 0x0E, 0x0F, 0x12, 0x13))
"""Instructions behind which nothing is reached: unreachable, br_table, return, return_call, return_call_indirect."""


def _target(frames: list[_Frame], depth: int, offset: int) -> _Frame:
    if depth >= len(frames):
        raise ValidationError(f"unknown label {depth}", offset)
    return frames[-1 - depth]


def _check_tail(called: FuncType, caller: FuncType, offset: int) -> None:
    if called.results != caller.results:
        raise ValidationError(f"type mismatch: a tail call of {called} in a function of {caller}", offset)


def _branch_table(
    data: bytes, position: int, stack: list[int], frames: list[_Frame], offset: int, *, is_live: bool
) -> tuple[tuple[int, ...], int]:
    """The depths of a br_table, the default last, and the position behind it."""
    start = position
    frame = frames[-1]
    count, position = _u32(data, position)
    if count > MOST["labels"] or count > len(data) - position:
        raise BinaryError(f"a br_table of {count} labels, {MOST['labels']} at most", start)
    depths = []
    for _ in range(count + 1):
        depth, position = _u32(data, position)
        depths.append(depth)
    _pop(stack, frame, I32, offset)
    arity = len(_target(frames, depths[-1], offset).label)
    checked: set[int] = set()  # labels of one block type take the same: a thousand values are looked at once
    for depth in dict.fromkeys(depths):
        target = _target(frames, depth, offset)
        if is_live:
            target.is_targeted = True
        if id(target.label) in checked:
            continue
        checked.add(id(target.label))
        if len(target.label) != arity:
            raise ValidationError("type mismatch: labels of a br_table take different numbers of values", offset)
        # what unreachable code has not said stays unknown: labels may ask for different types there
        kept = stack[max(frame.base, len(stack) - arity) :]
        _pop_all(stack, frame, target.label, offset)
        stack += kept
    return tuple(depths), position


def _prefixed(
    context: Context, opcode: int, position: int, stack: list[int], frame: _Frame, offset: int
) -> tuple[object, int]:
    """Check an instruction of two opcodes; its immediate and the position behind it."""
    module = context.module
    data = module.data
    row = INSTRUCTIONS[opcode]
    parameters, results = row.parameters, row.results
    numbers: list[int] = []
    for kind in row.immediates:
        start = position
        match kind:
            case "memory":
                position = _zero(data, position)
                _known("memory", 0, module.memories, offset)
                continue
            case "v128":
                position += 16
                numbers.append(int.from_bytes(data[start:position], "little"))
            case "lanes32":
                position += 16
                numbers.append(int.from_bytes(data[start:position], "little"))
                if max(data[start:position]) >= 32:
                    raise ValidationError("invalid lane index", start)
            case _ if kind.startswith("lane"):
                if data[position] >= _LANES[opcode]:
                    raise ValidationError("invalid lane index", start)
                numbers.append(data[position])
                position += 1
            case _ if kind.startswith("memory"):
                _known("memory", 0, module.memories, offset)
                number, position = _memarg(data, position, opcode)
                numbers.append(number)
            case _:
                number, position = _u32(data, position)
                numbers.append(number)
                space = {"data": module.segments, "element": module.elements, "table": module.tables}[kind]
                _known(f"{kind} segment" if kind != "table" else "table", number, space, offset)
        if position > len(data):
            raise BinaryError("unexpected end", len(data))
    if opcode in (0xFC08, 0xFC09) and not module.has_data_count:
        raise BinaryError("data count section required", offset)
    match opcode:
        case 0xFC0C:  # table.init
            found, expected = module.elements[numbers[0]].type, module.tables[numbers[1]].element
            if found != expected:
                _mismatch(expected, found, offset)
        case 0xFC0E:  # table.copy
            expected, found = (module.tables[number].element for number in numbers)
            if found != expected:
                _mismatch(expected, found, offset)
        case 0xFC0F:  # table.grow
            parameters, results = (module.tables[numbers[0]].element, I32), (I32,)
        case 0xFC11:  # table.fill
            parameters = (I32, module.tables[numbers[0]].element, I32)
    assert parameters is not None
    _pop_all(stack, frame, parameters, offset)
    stack += results
    return (numbers[0] if len(numbers) == 1 else tuple(numbers) if numbers else None), position
