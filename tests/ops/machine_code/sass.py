"""Machine code as ``cuobjdump -sass`` prints it: kernels, their instructions, and the loops that these make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

FUNCTION = re.compile(r"^\s*Function : (\S+)$")
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[0-9T]+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
ADDRESS = re.compile(r"0x([0-9a-f]+)\)?$")
ENDS = ("EXIT", "RET", "BRX", "JMX")  # where BRX goes is not printed: a switch by table


class Instruction(NamedTuple):
    """One line: byte address, predicate or "", the name with its modifiers, and the operands as printed."""

    address: int
    predicate: str
    name: str
    operands: str

    @property
    def opcode(self) -> str:
        """The name without modifiers: HGMMA of HGMMA.64x184x16.F32."""
        return self.name.partition(".")[0]

    @property
    def named_address(self) -> int | None:
        """The address that the operands end with: where a branch goes."""
        found = ADDRESS.search(self.operands)
        return int(found[1], 16) if found is not None else None


class Kernel(NamedTuple):
    """A kernel's mangled name and its instructions in the order of their addresses."""

    name: str
    instructions: list[Instruction]


def count(instructions: list[Instruction], prefix: str) -> int:
    """How many have this name, or one that goes on with further modifiers."""
    return sum(i.name == prefix or i.name.startswith(prefix + ".") for i in instructions)


def kernels_of(text: str) -> Iterator[Kernel]:
    """The kernels of what ``cuobjdump -sass`` has printed; text in which nothing is found gives none."""
    kernel = None
    for line in text.splitlines():
        if (found := FUNCTION.match(line)) is not None:
            if kernel is not None:
                yield kernel
            kernel = Kernel(found[1], [])
        elif kernel is not None and (found := INSTRUCTION.match(line)) is not None:
            kernel.instructions.append(Instruction(int(found[1], 16), found[2] or "", found[3], found[4]))
    if kernel is not None:
        yield kernel


def meeting_place(instructions: list[Instruction], place: dict[int, int], at: int) -> int:
    """Where a BSYNC goes on: where the nearest BSSY of its barrier says whose region, up to there, holds it."""
    barrier, address = instructions[at].operands, instructions[at].address
    for instruction in reversed(instructions[:at]):
        if instruction.opcode == "BSSY" and instruction.operands.startswith(barrier + ","):
            target = instruction.named_address
            if target is not None and target > address:
                return place[target]
    return at + 1


def blocks_of(kernel: Kernel) -> tuple[list[list[Instruction]], list[list[int]]]:
    """Basic blocks, and for each the blocks that may follow. A call is a step over what it calls.

    Block 0 is empty: it leads to the first instruction and to what nothing else leads to, which is what is called and
    the cases of a switch (BRX does not print where it goes).
    """
    instructions = kernel.instructions
    place = {instruction.address: i for i, instruction in enumerate(instructions)}
    edges: list[list[int]] = []  # of instructions
    for i, instruction in enumerate(instructions):
        onward = [i + 1] if i + 1 < len(instructions) else []
        sometimes = instruction.predicate not in ("", "PT") or instruction.name.startswith("BRA.")
        if instruction.opcode == "BSYNC":
            onward = [meeting_place(instructions, place, i)]
        elif instruction.opcode == "BRA":
            aim = place.get(instruction.named_address or 0)
            onward = [*(onward if sometimes else []), *([aim] if aim is not None else [])]
        elif instruction.opcode in ENDS and not sometimes:
            onward = []
        edges.append(onward)
    leaders = {0} | {n for i, onward in enumerate(edges) if onward != [i + 1] for n in [i + 1, *onward]}
    starts = sorted(leader for leader in leaders if leader < len(edges))
    block = {start: b for b, start in enumerate(starts, start=1)}
    stops = [*starts[1:], len(edges)]
    onward_of = [[], *([block[n] for n in edges[stop - 1]] for stop in stops)]
    reached = {n for onward in onward_of for n in onward}
    onward_of[0] = [b for b in block.values() if b == 1 or b not in reached]
    return [[], *(instructions[start:stop] for start, stop in zip(starts, stops))], onward_of


def dominators(edges: list[list[int]]) -> dict[int, int]:
    """The immediate dominator of each block that block 0 leads to (Cooper, Harvey and Kennedy 2001)."""
    order: list[int] = []  # postorder
    seen, stack = {0}, [(0, iter(edges[0]))]
    while stack:
        at, onward = stack[-1]
        following = next((n for n in onward if n not in seen), None)
        if following is None:
            order.append(at)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(edges[following])))
    number = {at: i for i, at in enumerate(order)}
    before = backwards(edges)
    above = {0: 0}

    def common(one: int, other: int) -> int:
        while one != other:
            if number[one] < number[other]:
                one = above[one]
            else:
                other = above[other]
        return one

    changed = True
    while changed:
        changed = False
        for at in reversed(order[:-1]):
            known = [other for other in before[at] if other in above]
            best = known[0]
            for other in known[1:]:
                best = common(best, other)
            if above.get(at) != best:
                above[at], changed = best, True
    return above


def backwards(edges: list[list[int]]) -> list[list[int]]:
    """For each block, those that lead to it."""
    before: list[list[int]] = [[] for _ in edges]
    for at, onward in enumerate(edges):
        for following in onward:
            before[following].append(at)
    return before


def loops_of(kernel: Kernel) -> list[list[Instruction]]:
    """The natural loops: for each header, all that leads back to it through blocks that it dominates."""
    blocks, edges = blocks_of(kernel)
    above, before = dominators(edges), backwards(edges)

    def dominates(header: int, at: int) -> bool:
        while at not in (header, 0):
            at = above[at]
        return at == header

    bodies: dict[int, set[int]] = {}
    for at in above:
        for header in edges[at]:
            if dominates(header, at):
                body, work = bodies.setdefault(header, {header}), [at]
                while work:
                    if (block := work.pop()) not in body:
                        body.add(block)
                        work += [other for other in before[block] if other in above]
    return [[i for block in sorted(body) for i in blocks[block]] for body in bodies.values()]


def innermost_with(loops: list[list[Instruction]], opcode: str) -> list[list[Instruction]]:
    """Of the loops that hold ``opcode``, those in which no smaller one does."""
    holding = {frozenset(loop): loop for loop in loops if any(i.opcode == opcode for i in loop)}
    return [loop for body, loop in holding.items() if not any(other < body for other in holding)]
