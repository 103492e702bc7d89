"""`callgate wasm` and `callgate explain --wasm`: what they print, write and return."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import assemble
from encoding import opcode, section, unsigned, vector, vector_of

from callgate import wasm
from callgate.cli import main
from callgate.cli.terminal import Progress
from callgate.wasm.binary import decode
from callgate.wasm.compile.listing import spell_instruction
from callgate.wasm.types import F32, F64, I32, I64, V128, FuncType

FUNCTIONS = {
    "add": ((I32, I32), (I32,), b"\x20\0\x20\1" + opcode("i32.add")),
    "long": ((I64,), (I64,), b"\x20\0"),
    "single": ((F32,), (F32,), b"\x20\0"),
    "double": ((F64,), (F64,), b"\x20\0"),
    "vector": ((V128,), (V128,), b"\x20\0"),
    "swap": ((I32, I64), (I64, I32), b"\x20\1\x20\0"),
    "nothing": ((), (), b""),
    "fall": ((), (), b"\x10\x08"),
    "hidden": ((), (), b"\0"),
    "spin": ((), (), b"\x03\x40\x0c\0\x0b"),
    "grow": ((I32,), (I32,), b"\x20\0\x40\0"),
    "keep": ((I32,), (I32,), b"\x20\0" + opcode("i32.extend8_s")),
}


def program(size_bytes: int = 0) -> bytes:
    """A module with these functions, of a size at least."""
    types = [b"\x60" + vector_of(bytes(takes)) + vector_of(bytes(gives)) for takes, gives, _ in FUNCTIONS.values()]
    bodies = [vector_of(b"\0" + code + b"\x0b") for _, _, code in FUNCTIONS.values()]
    exports = [
        vector_of(name.encode()) + b"\0" + bytes([number]) for number, name in enumerate(FUNCTIONS) if name != "hidden"
    ]
    return b"\0asm\1\0\0\0" + b"".join(
        (
            section(1, vector(types)),
            section(3, vector([bytes([number]) for number in range(len(types))])),
            section(4, vector([bytes([0x70, 0, 1])])),
            section(5, vector([b"\0\1"])),
            section(7, vector([*exports, vector_of(b"memory") + b"\2\0"])),
            section(9, vector([b"\0\x41\0\x0b" + vector([b"\0"])])),
            section(10, vector(bodies)),
            section(11, vector([b"\0\x41\0\x0b" + vector_of(b"data")])),
            section(0, vector_of(b"padding") + bytes(size_bytes)),
        )
    )


IMPORTING = b"\0asm\1\0\0\0" + b"".join(
    (
        section(1, vector([b"\x60" + vector_of(bytes([I32])) + b"\0", b"\x60\0\0"])),
        section(2, vector([vector_of(b"env") + vector_of(name) + b"\0\0" for name in (b"log", b"exit")])),
        section(3, vector([b"\1"])),
        section(7, vector([vector_of(b"_start") + b"\0\2"])),
        section(10, vector([vector_of(b"\0\x0b")])),
    )
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "program.wasm").write_bytes(program())
    return str(tmp_path / "program.wasm")


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """What a command prints, on stderr where it fails."""
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert not (err if status == 0 else out)
    return out or err


def ran(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """The same of `callgate wasm run` in the mode of the test."""
    return said(capsys, "wasm", "run", "--engine", str(assemble.MODE), *arguments, status=status)


@pytest.mark.usefixtures("mode")
class TestRun:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("add 2 -5", "-3"),
            ("add 0xffffffff 1", "0"),
            ("long -0x8000000000000000", "-9223372036854775808"),
            ("long 0xffffffffffffffff", "-1"),
            ("single 1.5", "1.5"),
            ("double -1e300", "-1e+300"),
            ("double -inf", "-inf"),
            ("double -nan", "nan"),
            ("double 0x1.8p1", "3.0"),
            ("vector 0x000102030405060708090a0b0c0d0e0f", "0x000102030405060708090a0b0c0d0e0f"),
            ("swap 1 2", "2\n1"),
            ("keep 255", "-1"),
        ],
    )
    def test_prints_the_results(self, capsys: pytest.CaptureFixture[str], file: str, words: str, expected: str) -> None:
        assert ran(capsys, file, "--invoke", *words.split()) == f"{expected}\n"

    def test_nothing_is_printed_where_nothing_is_returned(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        assert ran(capsys, file, "--invoke", "nothing") == ""

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("", "exports no function '_start'; it exports add(i32, i32) -> (i32), long(i64) -> (i64), "),
            ("", "keep(i32) -> (i32); call one with --invoke NAME [ARG ...]"),
            ("--invoke memory", "exports no function 'memory'; it exports add"),
            ("--invoke add 1", "callgate wasm: add(i32, i32) -> (i32) takes 2 arguments, not 1"),
            ("--invoke add 1 x", "callgate wasm: 'x' is no i32, which add(i32, i32) -> (i32) takes"),
            ("--invoke add 1 4294967296", "'4294967296' is no i32"),
            ("--invoke single 1e300", "'1e300' is no f32"),
            ("--invoke vector -1", "'-1' is no v128"),
            ("--memory much", "argument --memory: 'much' is no size; write 1000000, 64K, 16M or 1G"),
        ],
    )
    def test_errors_are_a_line(self, capsys: pytest.CaptureFixture[str], file: str, words: str, expected: str) -> None:
        text = ran(capsys, file, *words.split(), status=2)
        assert expected in text and text.count("\n") == 1

    def test_traps_print_the_backtrace(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        text = ran(capsys, file, "--invoke", "fall", status=134)
        assert re.fullmatch(
            r"callgate wasm: Unreachable: unreachable\n"
            r"  in function 8 \(function 8 at byte 0x\w+\)\n  in fall \(function 7 at byte 0x\w+\)\n",
            text,
        )

    def test_limits(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        assert "OutOfFuel" in ran(capsys, file, "--invoke", "spin", "--fuel", "1000", status=134)
        assert "TimedOut" in ran(capsys, file, "--invoke", "spin", "--timeout", "0.01", status=134)
        for size, expected in (("1M", "1\n"), ("64K", "-1\n")):
            assert ran(capsys, file, "--memory", size, "--invoke", "grow", "1") == expected

    def test_imports_that_are_missing(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "importing.wasm").write_bytes(IMPORTING)
        text = ran(capsys, str(tmp_path / "importing.wasm"), status=2)
        assert text.endswith(
            "importing.wasm needs imports, which only a program can give (wasm.load(…, imports=[…])): "
            "env.log: (i32) -> (), env.exit: (i32) -> ()\n"
        )

    def test_wasi(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "wasi.wasm").write_bytes(IMPORTING.replace(b"\3env\3log", b"\5wasi_\1x"))
        text = ran(capsys, str(tmp_path / "wasi.wasm"), status=2)
        assert text.endswith(
            "wasi_.x: (i32) -> (), env.exit: (i32) -> (); callgate provides no WASI: compile for wasm32-freestanding or "
            "wasm32-unknown-unknown, or import host functions of these names\n"
        )

    def test_what_is_no_module(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(b"\x7fELF....")
        text = ran(capsys, str(tmp_path / "other"), status=2)
        assert text == (
            f"callgate wasm: {tmp_path / 'other'}: magic header not detected: a module begins with \\0asm (at byte 0x0)\n"
        )
        (tmp_path / "text").write_text("(module)")
        text = ran(capsys, str(tmp_path / "text"), status=2)
        assert text == (
            f"callgate wasm: {tmp_path / 'text'}: magic header not detected: this is WebAssembly text; make a module of it, "
            "with wat2wasm for example (at byte 0x0)\n"
        )


class TestInspect:
    def test_says_what_is_there(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        text = said(capsys, "wasm", "inspect", file)
        assert text.startswith(f"{file}: {len(program()):,} bytes, valid\nfunctions  12, ")
        for line in (
            "features   sign extension, vectors, several results",
            "tables     table of funcref, 1 and more elements",
            "memories   memory of 1 and more pages",
            "data       1 segments, 4 bytes",
            "elements   1 segments, 1 references",
            "custom     'padding', 0 bytes",
            "imports: 0",
            "exports: 12",
            "  swap: function (i32, i64) -> (i64, i32)",
            "  memory: memory of 1 and more pages",
        ):
            assert f"\n{line}\n" in text, line

    def test_imports(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "importing.wasm").write_bytes(IMPORTING)
        text = said(capsys, "wasm", "inspect", str(tmp_path / "importing.wasm"))
        assert "imports: 2\n  env.log: function (i32) -> ()\n  env.exit: function (i32) -> ()\n" in text
        assert "features   those of WebAssembly 1.0\n" in text

    def test_invalid_modules(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "bad.wasm").write_bytes(program().replace(opcode("i32.add"), opcode("i64.add")))
        text = said(capsys, "wasm", "inspect", str(tmp_path / "bad.wasm"), status=2)
        problem = f"{tmp_path / 'bad.wasm'}: type mismatch: i64 expected, i32 found (in add, at byte "
        assert text.startswith(f"callgate wasm: {problem}")
        with pytest.raises(wasm.ValidationError) as invalid:
            wasm.load(tmp_path / "bad.wasm")
        assert str(invalid.value).startswith(problem) and invalid.value.file == str(tmp_path / "bad.wasm")


@pytest.mark.parametrize("mode", ["compiled"], indirect=True)
@pytest.mark.usefixtures("mode")
class TestCompile:
    def test_what_is_written_is_used(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str) -> None:
        large = tmp_path / "large.wasm"
        large.write_bytes(program(20_000))
        folder = tmp_path / "cache"
        folder.mkdir()
        lines = said(capsys, "wasm", "compile", str(large), file, "-o", str(folder)).splitlines()
        assert re.match(
            rf"{large}: 12 functions, [\d,]+ bytes of machine code in \d+\.\d\d s: {folder}/wasm/", lines[0]
        )
        assert lines[1] == f"{file}: smaller than 16,384 bytes, so it is compiled whenever it is loaded"
        told: list[int] = []
        os.environ["CALLGATE_CACHE"] = str(folder)
        try:
            wasm.Module(large, progress=lambda done, whole: told.append(done))
        finally:
            os.environ["CALLGATE_CACHE"] = ""
        assert not told

    def test_no_place(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        text = said(capsys, "wasm", "compile", file, status=2)
        assert text.startswith("callgate wasm: there is no cache: CALLGATE_CACHE is empty")

    def test_a_folder_that_others_may_write_to(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "large.wasm").write_bytes(program(20_000))
        (tmp_path / "wasm").mkdir()
        (tmp_path / "wasm").chmod(0o777)
        text = said(capsys, "wasm", "compile", str(tmp_path / "large.wasm"), "-o", str(tmp_path), status=2)
        assert text.startswith("callgate wasm: what was written will not be used: ")
        assert "may be written by others than its owner (mode 777)" in text


class TestExplain:
    def test_instructions_stand_above_their_code(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        text = said(capsys, "explain", "--wasm", file, "--func", "add")
        assert text.startswith("function 0, add: (i32, i32) -> (i32), ")
        assert re.search(
            r"local\.get 0\n.*local\.get 1\n.*i32\.add\n(  \w{4}  .*\n)+ .* end\nreturn:\n(  \w{4}  .*\n)*  \w{4}  c3 +ret\n",
            text,
        )
        text = said(capsys, "explain", "--wasm", file, "--func", "7")
        assert re.search(r"call function 8\n  \w{4}  e8\w{8} +call function 8\n", text)
        assert "out of line:\n" in text and "; call stack exhausted\n" in text

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("--wasm FILE", "callgate explain: --func is missing: add, long, single"),
            ("--wasm FILE --func sub", "has no function 'sub'; it has add, long"),
            ("--wasm FILE --func 12", "has no function '12'"),
            ("--wasm FILE --func add --target x86_64-linux", "--wasm FILE goes with --func NAME and nothing else"),
            ("--func add", "give the DECLARATION of a C function, or --wasm FILE --func NAME"),
        ],
    )
    def test_errors(self, capsys: pytest.CaptureFixture[str], file: str, words: str, expected: str) -> None:
        text = said(capsys, "explain", *words.replace("FILE", file).split(), status=2)
        assert expected in text and text.count("\n") == 1

    def test_imported_functions_have_no_code(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "importing.wasm").write_bytes(IMPORTING)
        text = said(capsys, "explain", "--wasm", str(tmp_path / "importing.wasm"), "--func", "0", status=2)
        assert text == "callgate explain: function '0' is imported: the module has no code of it\n"

    @pytest.mark.parametrize(
        ("name", "immediate", "expected"),
        [
            ("i32.const", -5, "i32.const -5"),
            ("f32.const", 0x3FC00000, "f32.const 1.5"),
            ("f64.const", 0x7FF8000000000001, "f64.const nan:0x7ff8000000000001"),
            ("v128.const", 1, f"v128.const 0x{1:032x}"),
            ("i32.load", 0, "i32.load"),
            ("i32.load", 8, "i32.load offset=8"),
            ("v128.load8_lane", (4, 15), "v128.load8_lane offset=4 15"),
            ("v128.load8_lane", (0, 15), "v128.load8_lane 15"),
            ("i8x16.extract_lane_s", 3, "i8x16.extract_lane_s 3"),
            ("br_table", (0, 1, 2), "br_table 0 1 2"),
            ("call", 7, "call fall"),
            ("call", 8, "call function 8"),
            ("call_indirect", (0, 0), "call_indirect (i32, i32) -> (i32)"),
            ("call_indirect", (0, 1), "call_indirect (i32, i32) -> (i32) in table 1"),
            ("block", FuncType((), ()), "block"),
            ("loop", FuncType((I32,), ()), "loop (i32) -> ()"),
            ("ref.null", 0x70, "ref.null funcref"),
            ("ref.func", 0, "ref.func add"),
            ("table.copy", (0, 1), "table.copy 0 1"),
            ("end", True, "end"),
            ("drop", I32, "drop"),
            ("i32.add", None, "i32.add"),
        ],
    )
    def test_instructions_as_text(self, name: str, immediate: object, expected: str) -> None:
        number = int.from_bytes(opcode(name)[:1], "big")
        if number in (0xFC, 0xFD):
            number = number << 8 | wasm_minor(name)
        assert spell_instruction(decode(program()), number, immediate) == expected


def wasm_minor(name: str) -> int:
    """The second opcode of an instruction that has two."""
    code = opcode(name)
    return next(minor for minor in range(256) if unsigned(minor) == code[1:])


def test_the_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress()
    progress.bar("compiling x.wasm", 1, 3)
    progress.bar("compiling x.wasm", 3, 3)
    progress.clear()
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert shown[1:] == [
        "compiling x.wasm [##########....................] 33 % …",
        "compiling x.wasm [##############################] 100 % …",
        "",
    ]
