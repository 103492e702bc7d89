"""Functions that are compiled when they are first called, and what is said of progress."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import spec_runner
from encoding import opcode, section, signed, unsigned, vector, vector_of
from spec_runner import SUITES, run_script

from callgate import wasm
from callgate.wasm.native import images
from callgate.wasm.native.images import LazyImage
from callgate.wasm.types import I32

SCRIPTS = [
    *("call", "call_indirect", "elem", "fac", "float_exprs", "func_ptrs", "imports", "linking", "memory_grow"),
    *("names", "ref_func", "stack", "start", "table_init", "unwind"),
]
SCRIPTS = [f"v2/{name}" for name in SCRIPTS] + ["tail-call/return_call", "tail-call/return_call_indirect"]


def chain(count: int, last: bytes) -> bytes:
    """Functions f0, f1 …, each of which adds 1 to what the next one returns; the last has other instructions."""
    bodies = [b"\0\x20\0" + opcode("call") + unsigned(n + 1) + b"\x41\1" + opcode("i32.add") for n in range(count - 1)]
    bodies.append(b"\0" + last)
    one = bytes([I32])
    return b"\0asm\1\0\0\0" + b"".join(
        (
            section(1, vector([b"\x60" + vector_of(one) + vector_of(one)])),
            section(3, vector([b"\0"] * count)),
            section(4, vector([bytes([0x70, 0, 3])])),
            section(7, vector([vector_of(f"f{n}".encode()) + b"\0" + unsigned(n) for n in range(count)])),
            section(9, vector([b"\0\x41\0\x0b" + vector([b"\0"])])),
            section(10, vector([vector_of(body + b"\x0b") for body in bodies])),
        )
    )


ECHO = b"\x20\0"
FALL = b"\0"


def lazily(data: bytes) -> tuple[wasm.Module, LazyImage]:
    module = wasm.Module(data, engine="compiled", lazy=True, cache=False)
    image = module._image
    assert isinstance(image, LazyImage)
    return module, image


@pytest.mark.parametrize("mode", ["compiled"], indirect=True)
@pytest.mark.usefixtures("mode")
class TestLazy:
    @pytest.mark.parametrize("name", SCRIPTS)
    def test_script_of_the_specification(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = SUITES / f"{name}.json"
        if not path.exists():
            pytest.skip(f"no scripts of the specification in {SUITES}: run scripts/wasm-suites")
        monkeypatch.setattr(spec_runner, "UNCACHED", {"cache": False, "lazy": True})
        outcome = run_script(path, "compiled")
        assert outcome.checked and not outcome.failures, "\n".join(outcome.failures[:20])

    def test_what_is_called_is_compiled(self) -> None:
        module, image = lazily(chain(10, ECHO))
        exports = module.instantiate().exports
        assert not image._functions
        assert exports.f7(5) == 7
        assert sorted(image._functions) == [7, 8, 9]
        assert [exports.f5(0), exports.f5(1), exports.f7(1)] == [4, 5, 3]
        assert sorted(image._functions) == [5, 6, 7, 8, 9]

    def test_instances_share_what_is_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, _ = lazily(chain(3, ECHO))
        first, second = module.instantiate(), module.instantiate()
        assert first.exports.f0(1) == 3

        def refuse(*arguments: Any) -> Any:
            raise AssertionError("compiled again")

        monkeypatch.setattr(images, "compile_apart", refuse)
        assert second.exports.f0(1) == module.instantiate().exports.f0(1) == 3

    def test_functions_given_to_another_instance(self) -> None:
        """Their records were copied before the function was compiled."""
        module, image = lazily(chain(3, ECHO))
        giver = module.instantiate()
        one = bytes([I32])
        taker = b"\0asm\1\0\0\0" + b"".join(
            (
                section(1, vector([b"\x60" + vector_of(one) + vector_of(one)])),
                section(2, vector([vector_of(b"a") + vector_of(b"f") + b"\0\0"])),
                section(3, vector([b"\0"])),
                section(7, vector([vector_of(b"twice") + b"\0\1", vector_of(b"f") + b"\0\0"])),
                section(10, vector([vector_of(b"\0\x20\0" + 2 * (opcode("call") + b"\0") + b"\x0b")])),
            )
        )
        instance = wasm.load(taker, imports=[("a", "f", giver.exports.f0)], lazy=True, cache=False)
        assert not image._functions
        assert [instance.exports.twice(1), instance.exports.twice(2), instance.exports.f(3)] == [5, 6, 5]
        assert giver.exports.f0(10) == 12

    def test_traps_name_all_functions(self) -> None:
        module, _ = lazily(chain(3, FALL))
        exports = module.instantiate().exports
        for _ in range(2):
            with pytest.raises(wasm.Unreachable) as caught:
                exports.f0(1)
            assert [frame.name for frame in caught.value.frames] == ["f2", "f1", "f0"]

    def test_all_is_validated_at_once(self) -> None:
        with pytest.raises(wasm.ValidationError, match="type mismatch"):
            lazily(chain(3, b"\x42\0"))

    def test_what_fails_while_it_compiles_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, image = lazily(chain(3, ECHO))
        exports = module.instantiate().exports
        real = images.compile_apart

        def fail(shared: Any, number: int) -> Any:
            if number == 2:
                raise MemoryError("no more")
            return real(shared, number)

        monkeypatch.setattr(images, "compile_apart", fail)
        with pytest.raises(MemoryError, match="no more"):
            exports.f0(1)
        assert sorted(image._functions) == [0, 1]
        monkeypatch.undo()
        assert exports.f0(1) == 3


class TestProgress:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_is_in_bytes_of_bodies(self, lazy: bool, mode: str) -> None:
        told: list[tuple[int, int]] = []
        data = chain(1000, ECHO + (b"\x41" + signed(1) + b"\x1a") * 50)
        wasm.Module(data, engine=mode, lazy=lazy, cache=False, progress=lambda done, whole: told.append((done, whole)))
        whole = sum(body.end - body.start for body in wasm.Module(data, cache=False).data.bodies)
        assert {one for _, one in told} == {whole}
        done = [one for one, _ in told]
        assert done == sorted(set(done)) and done[-1] == whole
        assert 50 < len(done) <= 201

    def test_may_stop_it(self, mode: str) -> None:
        def stop(done: int, whole: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            wasm.Module(chain(1000, ECHO), engine=mode, cache=False, progress=stop)
