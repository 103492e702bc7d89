"""Where branches go: what Python loops and `break`s become of a body's blocks.  No text is made here.

Python has neither labels nor goto.  A block that is branched to becomes a loop that runs once, and a branch `break`; a
loop that is branched to becomes a loop, and a branch `continue`.  Where another loop lies between, a flag is set, that
loop is left, and the flag is looked at behind it.  To need that rarely, a branch to a place from which nothing is done
but to go on to another goes there at once, and leaves the innermost loop behind which that place is.

Python nests at most 20 loops and 100 levels.  A body that would exceed that, or that has a table of many branches, gets
states instead: one loop around a binary search for the piece of code that has the number.  Whatever inside of it is
nested less deeply stays as it is.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from callgate.wasm.validate import BLOCK, ELSE, END, IF, LOOP, Body

MOST_LOOPS: Final = 12
"""Loops within one another where there are states besides; CPython 3.10 allows 20 blocks."""
MOST_LEVELS: Final = 40
MOST_IFS: Final = 4
"""So many conditional branches to the end of a block become ifs within one another."""
SWITCH_LABELS: Final = 6
"""From so many different labels on a br_table is worth states."""
RETURN: Final = -1
"""The label of the function's end."""
_DEEP: Final = 300
"""Within so many blocks no detour is taken."""
_BR: Final = 0x0C
_BR_IF: Final = 0x0D
_BR_TABLE: Final = 0x0E
_RETURN: Final = 0x0F


class Branch(NamedTuple):
    """A branch: the label, the construct whose Python loop serves it, and the construct that it names."""

    label: int
    server: int
    named: int


class Structure(NamedTuple):
    """What is known about the constructs (blocks, loops, ifs) of a body, by the index of what opens them.

    The label of a construct's end is twice that number, that of a loop's beginning one more.  `branches` has those of
    each branching instruction.
    """

    ends: dict[int, int]
    elses: dict[int, int]
    exits: dict[int, int]
    has_loop: set[int]
    has_ifs: set[int]
    served: set[int]
    is_flat: set[int]
    has_states: bool
    branches: dict[int, tuple[Branch, ...]]


def structure_of(body: Body) -> Structure:
    """Look at the constructs of a body."""
    instructions = body.instructions
    ends: dict[int, int] = {}
    elses: dict[int, int] = {}
    parents: dict[int, int] = {}
    enclosing: list[int] = []
    sites: list[tuple[int, int, tuple[int, ...], int]] = []
    for index, (opcode, immediate, _) in enumerate(instructions):
        if opcode in (BLOCK, LOOP, IF):
            parents[index] = enclosing[-1] if enclosing else RETURN
            enclosing.append(index)
        elif opcode == ELSE:
            elses[enclosing[-1]] = index
        elif opcode == END:
            if enclosing:
                ends[enclosing.pop()] = index
        elif opcode in (_BR, _BR_IF, _BR_TABLE):
            depths = immediate if opcode == _BR_TABLE else (immediate,)
            targets = tuple([enclosing[-1 - depth] if depth < len(enclosing) else RETURN for depth in depths])
            sites.append((index, enclosing[-1] if enclosing else RETURN, targets, len(enclosing)))
    exits = _exits(body, ends, parents)

    has_loop: set[int] = set()
    served: set[int] = set()
    branches: dict[int, tuple[Branch, ...]] = {}
    switches: list[int] = []
    repeated = {target for _, _, targets, _ in sites for target in targets if instructions[target][0] == LOOP}
    for index, innermost, targets, depth in sites:
        found: dict[int, Branch] = {}
        for target in dict.fromkeys(targets):
            branch = _branch(body, target, innermost, exits, parents, repeated if depth <= _DEEP else None)
            found[target] = branch
            if branch.server != RETURN:
                has_loop.add(branch.server)
                if branch.label != 2 * branch.server + 1:
                    served.add(branch.server)
        branches[index] = tuple([found[target] for target in targets])
        if len(set(branches[index])) >= SWITCH_LABELS:
            switches.append(innermost)
    has_ifs = _skipping(instructions, sites, branches, has_loop)
    has_loop -= has_ifs.keys()
    is_flat = _flat(instructions, parents, has_loop, has_ifs, switches)
    return Structure(ends, elses, exits, has_loop, set(has_ifs), served, is_flat, bool(is_flat or switches), branches)


def _skipping(
    instructions: list[tuple[int, Any, int]],
    sites: list[tuple[int, int, tuple[int, ...], int]],
    branches: dict[int, tuple[Branch, ...]],
    has_loop: set[int],
) -> dict[int, int]:
    """Blocks that need no loop: all that goes to their end skips the rest of them, from within no other construct.

    The rest is what an `if` has under it.  How many such branches each has.
    """
    counts = {start: 0 for start in has_loop if instructions[start][0] == BLOCK}
    for index, innermost, _, _ in sites:
        for branch in branches[index]:
            server = branch.server
            if server not in counts:
                continue
            counts[server] += 1
            if instructions[index][0] != _BR_IF or innermost != server or instructions[server][1].results:
                del counts[server]
    return {start: count for start, count in counts.items() if count <= MOST_IFS}


def _exits(body: Body, ends: dict[int, int], parents: dict[int, int]) -> dict[int, int]:
    """The label that the end of each construct amounts to."""
    instructions = body.instructions
    exits: dict[int, int] = {}
    for start, end in sorted(ends.items(), key=lambda item: -item[1]):
        exits[start] = 2 * start
        if instructions[start][1].results:
            continue
        opcode, immediate, _ = instructions[end + 1]
        parent = parents[start]
        if opcode in (END, ELSE):
            if parent == RETURN:
                if not body.type.results:
                    exits[start] = RETURN
            elif not instructions[parent][1].results:
                exits[start] = exits[parent]
        elif opcode == _RETURN and not body.type.results:
            exits[start] = RETURN
        elif opcode == _BR:
            target = parent
            for _ in range(immediate):
                if target == RETURN:
                    break
                target = parents[target]
            if target == RETURN:
                if not body.type.results:
                    exits[start] = RETURN
            elif instructions[target][0] == LOOP:
                if not instructions[target][1].parameters:
                    exits[start] = 2 * target + 1
            elif not instructions[target][1].results:
                exits[start] = exits[target]
    return exits


def _branch(
    body: Body,
    target: int,
    innermost: int,
    exits: dict[int, int],
    parents: dict[int, int],
    repeated: set[int] | None,
) -> Branch:
    """What a branch becomes; `repeated` are the loops that are branched to, None where no detour is to be taken."""
    if target == RETURN:
        return Branch(RETURN, RETURN, RETURN)
    opcode, kind, _ = body.instructions[target]
    label = 2 * target + 1 if opcode == LOOP else exits[target]
    if label == RETURN:
        return Branch(RETURN, RETURN, RETURN)
    if (kind.parameters if opcode == LOOP else kind.results) or repeated is None:
        return Branch(label, label >> 1, target)
    server = innermost
    if label & 1:
        between = False
        while server != label >> 1 and exits[server] != label:
            between = between or server in repeated
            server = parents[server]
        inner = server
        while server != label >> 1:
            between = between or server in repeated
            server = parents[server]
        return Branch(label, inner if between else server, target)
    while exits[server] != label:
        server = parents[server]
    return Branch(label, server, target)


def _flat(
    instructions: list[tuple[int, Any, int]],
    parents: dict[int, int],
    has_loop: set[int],
    has_ifs: dict[int, int],
    switches: list[int],
) -> set[int]:
    """The constructs that get states: those too deep, those with large tables, and all around them."""
    loops: dict[int, int] = {}
    levels: dict[int, int] = {}
    flat = set(switches) - {RETURN}
    for start in sorted(parents, reverse=True):
        loop = start in has_loop
        loop_count = loops.get(start, 0) + loop
        level_count = levels.get(start, 0) + loop + (instructions[start][0] == IF) + has_ifs.get(start, 0)
        if loop_count > MOST_LOOPS or level_count > MOST_LEVELS:
            flat.add(start)
        parent = parents[start]
        if start in flat:
            if parent != RETURN:
                flat.add(parent)
            continue
        loops[parent] = max(loops.get(parent, 0), loop_count)
        levels[parent] = max(levels.get(parent, 0), level_count)
    return flat
