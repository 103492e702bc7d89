# mypy: disable-error-code="empty-body"
"""Draw with SDL2: a window, rectangles, pixels read back, events that are a union of structs.

Runs without a screen (SDL_VIDEODRIVER=dummy, unless the variable says otherwise); what was drawn is shown as text and
saved as a picture.  Needs SDL2 (Debian: libsdl2-2.0-0).  Run it: python examples/sdl2.py [picture.bmp]
"""

import os
import sys
import tempfile
from ctypes import cast
from pathlib import Path
from typing import Protocol

import callgate as cg
from callgate import Array, Opaque, Ptr, Readable, Struct, Union, Writable, cstr, field, i32, u8, u32

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


class Rect(Struct):
    x: i32
    y: i32
    w: i32
    h: i32


class PixelFormat(Opaque): ...


class Window(Opaque): ...


class Surface(Struct):  # as far as we look into it; SDL makes these, so what follows does not matter
    flags: u32
    format: Ptr[PixelFormat]
    w: i32
    h: i32
    pitch: i32
    pixels: Ptr[None]


class UserEvent(Struct):
    type: u32
    timestamp: u32
    window: u32
    code: i32
    data1: Ptr[None]
    data2: Ptr[None]


class Event(Union):  # every kind of event begins with its type
    type: u32
    user: UserEvent
    padding: Array[u8] = field(length=56)


class Sdl(Protocol):
    def SDL_GetError(self) -> str: ...
    @cg.function(fails_if="negative")
    def SDL_Init(self, flags: u32, /) -> i32: ...
    def SDL_Quit(self) -> None: ...
    @cg.function(fails_if="null")
    def SDL_CreateWindow(self, title: cstr, x: i32, y: i32, w: i32, h: i32, flags: u32, /) -> Ptr[Window]: ...
    def SDL_DestroyWindow(self, window: Ptr[Window], /) -> None: ...
    @cg.function(fails_if="null")
    def SDL_GetWindowSurface(self, window: Ptr[Window], /) -> Ptr[Surface]: ...
    @cg.function(fails_if="negative")
    def SDL_UpdateWindowSurface(self, window: Ptr[Window], /) -> i32: ...
    def SDL_MapRGB(self, format: Ptr[PixelFormat], r: u8, g: u8, b: u8, /) -> u32: ...
    @cg.function(fails_if="negative")
    def SDL_FillRect(self, surface: Ptr[Surface], rect: Readable[Rect] | None, color: u32, /) -> i32: ...
    @cg.function(fails_if="null")
    def SDL_RWFromFile(self, path: cstr, mode: cstr, /) -> Ptr[None]: ...
    @cg.function(fails_if="negative")
    def SDL_SaveBMP_RW(self, surface: Ptr[Surface], file: Ptr[None], close: i32, /) -> i32: ...
    def SDL_RegisterEvents(self, count: i32, /) -> u32: ...
    @cg.function(fails_if="negative")
    def SDL_PushEvent(self, event: Writable[Event], /) -> i32: ...
    def SDL_PollEvent(self, event: Writable[Event], /) -> i32: ...


class SdlError(Exception): ...


def failed(_: int) -> SdlError:
    return SdlError(sdl.SDL_GetError())


sdl = cg.load(("SDL2", "libSDL2-2.0.so.0"), Sdl, error=failed)

INIT_VIDEO, SIZE = 0x20, 81


def carpet(surface: Ptr[Surface], colors: list[int], area: Rect, depth: int = 0) -> int:
    """Sierpinski's carpet; the number of rectangles drawn.  A gate takes some 10 ns, so thousands are nothing."""
    third = area.w // 3
    middle = Rect(area.x + third, area.y + third, third, third)
    sdl.SDL_FillRect(surface, middle, colors[depth])
    drawn = 1
    if third > 1:
        for place in (0, 1, 2, 3, 5, 6, 7, 8):
            corner = Rect(area.x + place % 3 * third, area.y + place // 3 * third, third, third)
            drawn += carpet(surface, colors, corner, depth + 1)
    return drawn


def as_text(surface: Surface, colors: list[int]) -> str:
    """Every third pixel of every third line, read from the memory that SDL draws in."""
    pixels = cast(surface.pixels, Ptr[u32])
    shades = dict(zip(colors, "█▓▒░", strict=True))
    width = surface.pitch // 4
    places = range(1, SIZE, 3)
    return "\n".join("".join(2 * shades[pixels[y * width + x]] for x in places) for y in places)


def main(picture: Path) -> None:
    sdl.SDL_Init(INIT_VIDEO)
    window = sdl.SDL_CreateWindow("callgate", 0, 0, SIZE, SIZE, 0)
    surface = sdl.SDL_GetWindowSurface(window)
    screen = surface.contents
    print(f"{screen.w} x {screen.h}, {screen.pitch} bytes a line")

    colors = [sdl.SDL_MapRGB(screen.format, 255 - 60 * i, 60 * i, 120) for i in range(4)]
    print("rectangles:", carpet(surface, colors, Rect(0, 0, SIZE, SIZE)))
    sdl.SDL_UpdateWindowSurface(window)
    print(as_text(screen, colors))
    sdl.SDL_SaveBMP_RW(surface, sdl.SDL_RWFromFile(str(picture), "wb"), 1)
    print("picture:", picture.read_bytes()[:2], picture.stat().st_size, "bytes")

    # An event of our own into the queue and out of it again.
    event = Event()
    event.user.type = sdl.SDL_RegisterEvents(1)
    event.user.code = 42
    sdl.SDL_PushEvent(event)
    received = Event()
    while sdl.SDL_PollEvent(received):
        if received.type == event.type:
            print("event:", hex(received.type), received.user.code)

    try:
        sdl.SDL_RWFromFile("/no/such/folder/picture.bmp", "wb")
    except SdlError as problem:
        print("SdlError:", problem)
    sdl.SDL_DestroyWindow(window)
    sdl.SDL_Quit()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder) / "carpet.bmp")
