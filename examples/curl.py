# mypy: disable-error-code="empty-body"
"""Fetch a page with libcurl: a variadic function, callbacks that C keeps, and a call that lets other threads run.

The page comes from a server in this very program, so nothing leaves the machine.  Needs libcurl (Debian: libcurl4).
Run it: python examples/curl.py
"""

import threading
from collections.abc import Callable
from ctypes import byref, c_double, c_long
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Protocol

import callgate as cg
from callgate import Opaque, Ptr, Status, VarArg, char, i32, usize

# curl/curl.h: an option's number tells the type of its value. 0 …: long, 10000 …: pointer, 20000 …: function.
URL, USERAGENT = 10002, 10018
FOLLOWLOCATION, FAILONERROR, TIMEOUT = 52, 45, 13
WRITEFUNCTION, HEADERFUNCTION = 20011, 20079
RESPONSE_CODE, TOTAL_TIME = 0x200002, 0x300003


class CURL(Opaque): ...


class LibCurl(Protocol):
    def curl_version(self) -> str: ...
    def curl_easy_init(self) -> Ptr[CURL]: ...
    def curl_easy_cleanup(self, handle: Ptr[CURL], /) -> None: ...
    def curl_easy_strerror(self, code: i32, /) -> str: ...

    # `...` of C is *args: a str goes as char *, an int as int. Where C wants a long, it has to be told: c_long(1).
    def curl_easy_setopt(self, handle: Ptr[CURL], option: i32, /, *value: VarArg) -> Status: ...
    def curl_easy_getinfo(self, handle: Ptr[CURL], what: i32, /, *to: VarArg) -> Status: ...

    # Without `blocking` the interpreter would stand still during the transfer, and the server with it.
    @cg.function(blocking=True)
    def curl_easy_perform(self, handle: Ptr[CURL], /) -> Status: ...


class CurlError(Exception): ...


def failed(code: int) -> CurlError:
    return CurlError(curl.curl_easy_strerror(code))


curl = cg.load(("curl", "libcurl.so.4", "libcurl-gnutls.so.4"), LibCurl, error=failed)


def fetch(url: str, on_header: Callable[[str], object]) -> tuple[int, bytes]:
    """The status and the body of a page."""
    body = bytearray()

    # libcurl keeps these two until the handle is gone, so they are callbacks with a name, which lives as long.
    @cg.callback
    def write(data: Ptr[char], size: usize, count: usize, user: Ptr[None] | None) -> usize:
        body.extend(data[: size * count])
        return size * count

    @cg.callback
    def header(data: Ptr[char], size: usize, count: usize, user: Ptr[None] | None) -> usize:
        on_header(data[: size * count].decode("latin-1").rstrip())
        return size * count

    handle = curl.curl_easy_init()
    try:
        curl.curl_easy_setopt(handle, URL, url)
        curl.curl_easy_setopt(handle, USERAGENT, "callgate")
        curl.curl_easy_setopt(handle, FOLLOWLOCATION, c_long(1))
        curl.curl_easy_setopt(handle, FAILONERROR, c_long(1))
        curl.curl_easy_setopt(handle, TIMEOUT, c_long(10))
        curl.curl_easy_setopt(handle, WRITEFUNCTION, write)
        curl.curl_easy_setopt(handle, HEADERFUNCTION, header)
        curl.curl_easy_perform(handle)
        status, seconds = c_long(), c_double()
        curl.curl_easy_getinfo(handle, RESPONSE_CODE, byref(status))
        curl.curl_easy_getinfo(handle, TOTAL_TIME, byref(seconds))
        assert 0 < seconds.value < 10
        return status.value, bytes(body)
    finally:
        curl.curl_easy_cleanup(handle)


class Handler(BaseHTTPRequestHandler):
    """A server with one page, one redirection to it, and nothing else."""

    def do_GET(self) -> None:
        if self.path == "/old":
            self.send_response(301)
            self.send_header("Location", "/page")
        elif self.path == "/page":
            self.send_response(200)
            self.send_header("X-Agent", self.headers["User-Agent"])
        else:
            self.send_response(404)
        self.end_headers()
        if self.path == "/page":
            self.wfile.write(b"Hello from the other thread!\n" * 2000)

    def log_message(self, format: str, *args: object) -> None: ...  # quiet


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    print(curl.curl_version().split()[0])

    headers: list[str] = []
    status, body = fetch(f"{place}/old", headers.append)
    print(status, len(body), body.splitlines()[0])
    print([line for line in headers if line.startswith(("HTTP", "Location", "X-"))])

    for url in (f"{place}/missing", "nonsense://host/"):
        try:
            fetch(url, headers.append)
        except CurlError as problem:
            print("CurlError:", problem)
    server.shutdown()


if __name__ == "__main__":
    main()
