"""Names that C text may use without declaring them: types, and the words that say nothing about a call.

Tables only; `skipping` uses the words, `declarations` the types.  A declaration in the text itself always wins.
"""

from __future__ import annotations

from functools import lru_cache

from callgate.c.types import (
    BOOL,
    CHAR,
    DOUBLE,
    DOUBLE_COMPLEX,
    FLOAT,
    FLOAT_COMPLEX,
    INT,
    INT8,
    INT16,
    INT32,
    INT64,
    INT128,
    LONG,
    LONG_DOUBLE,
    LONG_LONG,
    SHORT,
    SIZE,
    SSIZE,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    UNSIGNED_CHAR,
    UNSIGNED_INT,
    UNSIGNED_INT128,
    UNSIGNED_LONG,
    UNSIGNED_LONG_LONG,
    UNSIGNED_SHORT,
    VOID,
    VOID_POINTER,
    WCHAR,
    CType,
    FunctionPrototype,
    Kind,
    Member,
    Pointer,
    Record,
    Scalar,
)
from callgate.target import Target

COMPLEX_LONG_DOUBLE = Scalar("long double _Complex", Kind.FLOATING)
FLOAT128 = Scalar("_Float128", Kind.FLOATING)
FLOAT16 = Scalar("_Float16", Kind.FLOATING)
BFLOAT16 = Scalar("__bf16", Kind.FLOATING)
DECIMAL32 = Scalar("_Decimal32", Kind.FLOATING)
DECIMAL64 = Scalar("_Decimal64", Kind.FLOATING)
DECIMAL128 = Scalar("_Decimal128", Kind.FLOATING)
VA_LIST = Scalar("va_list", Kind.UNSIGNED)

NOT_PASSED: dict[CType, str] = {
    COMPLEX_LONG_DOUBLE: "complex numbers of long double",
    FLOAT128: "128-bit floating point",
    FLOAT16: "16-bit floating point",
    BFLOAT16: "16-bit floating point",
    DECIMAL32: "decimal floating point",
    DECIMAL64: "decimal floating point",
    DECIMAL128: "decimal floating point",
    VA_LIST: "lists of variable arguments",
}
"""Types that C text may name and no engine carries yet, with the word for them in the message."""

NOT_POINTED_TO: dict[CType, str] = {
    **NOT_PASSED,
    FLOAT_COMPLEX: "complex numbers",
    DOUBLE_COMPLEX: "complex numbers",
    INT128: "128-bit integers",
    UNSIGNED_INT128: "128-bit integers",
}
"""The same for what pointers point to: no buffer has items of these."""

# C11 6.7.2p2: the multisets of specifiers.  `int` beside another word, and `signed` except before char, add nothing.
_SPELLINGS: dict[str, CType] = {
    "void": VOID,
    "char": CHAR,
    "signed char": Scalar("signed char", Kind.SIGNED),
    "unsigned char": UNSIGNED_CHAR,
    "short": SHORT,
    "unsigned short": UNSIGNED_SHORT,
    "": INT,
    "unsigned": UNSIGNED_INT,
    "long": LONG,
    "unsigned long": UNSIGNED_LONG,
    "long long": LONG_LONG,
    "unsigned long long": UNSIGNED_LONG_LONG,
    "float": FLOAT,
    "double": DOUBLE,
    "long double": LONG_DOUBLE,
    "_Bool": BOOL,
    "float _Complex": FLOAT_COMPLEX,
    "double _Complex": DOUBLE_COMPLEX,
    "long double _Complex": COMPLEX_LONG_DOUBLE,
    "_Complex": DOUBLE_COMPLEX,
    "__int128": INT128,
    "unsigned __int128": UNSIGNED_INT128,
}
SPECIFIERS = {tuple(sorted(words.split())): ctype for words, ctype in _SPELLINGS.items()}


@lru_cache(maxsize=4)
def known_types(target: Target) -> dict[str, CType]:
    """The type names that need no typedef: the C standard's, sys/types.h's, stdio's FILE, zlib's, sqlite3's, math's.

    sys/types as glibc has them (bits/typesizes.h for x86-64).
    """
    has_long_words = target.long_bytes == target.pointer_bytes
    word = LONG if has_long_words else SSIZE
    unsigned_word = UNSIGNED_LONG if has_long_words else SIZE
    long64 = LONG if target.long_bytes == 8 else LONG_LONG
    unsigned_long64 = UNSIGNED_LONG if target.long_bytes == 8 else UNSIGNED_LONG_LONG

    table: dict[str, CType] = {
        # stdint.h, stddef.h, stdbool.h, uchar.h
        **{f"{infix}{bits}_t": ctype for infix in ("int", "int_least") for bits, ctype in _SIGNED.items()},
        **{f"uint{infix}{bits}_t": ctype for infix in ("", "_least") for bits, ctype in _UNSIGNED.items()},
        "int_fast8_t": INT8,
        "uint_fast8_t": UINT8,
        **dict.fromkeys(("int_fast16_t", "int_fast32_t", "intptr_t", "ptrdiff_t", "register_t"), word),
        **dict.fromkeys(("uint_fast16_t", "uint_fast32_t", "uintptr_t"), unsigned_word),
        **dict.fromkeys(("int_fast64_t", "intmax_t"), long64),
        **dict.fromkeys(("uint_fast64_t", "uintmax_t"), unsigned_long64),
        "size_t": SIZE,
        "ssize_t": SSIZE,
        "bool": BOOL,
        "wchar_t": WCHAR,
        "wint_t": UNSIGNED_INT,
        "char8_t": UNSIGNED_CHAR,
        "char16_t": UINT16,
        "char32_t": UINT32,
        # sys/types.h, time.h, sys/socket.h
        **dict.fromkeys(
            (
                "off_t",
                "time_t",
                "clock_t",
                "blkcnt_t",
                "blksize_t",
                "suseconds_t",
                "off64_t",
                "loff_t",
                "__off_t",
                "__off64_t",
                "__time_t",
                "__clock_t",
            ),
            long64,
        ),
        **dict.fromkeys(
            ("dev_t", "ino_t", "ino64_t", "nlink_t", "rlim_t", "fsblkcnt_t", "fsfilcnt_t"), unsigned_long64
        ),
        **dict.fromkeys(("pid_t", "key_t", "clockid_t", "__pid_t", "__clockid_t"), INT32),
        **dict.fromkeys(("mode_t", "uid_t", "gid_t", "id_t", "useconds_t", "socklen_t", "__mode_t", "__uid_t"), UINT32),
        "__size_t": SIZE,
        "__ssize_t": SSIZE,
        "timer_t": VOID_POINTER,
        "u_char": UNSIGNED_CHAR,
        "u_short": UNSIGNED_SHORT,
        "ushort": UNSIGNED_SHORT,
        "u_int": UNSIGNED_INT,
        "uint": UNSIGNED_INT,
        "u_long": UNSIGNED_LONG,
        "ulong": UNSIGNED_LONG,
        "u_int8_t": UINT8,
        "u_int16_t": UINT16,
        "u_int32_t": UINT32,
        "u_int64_t": UINT64,
        "caddr_t": Pointer(CHAR),
        "FILE": Record("FILE", ""),
        "DIR": Record("DIR", ""),
        "fpos_t": Record("fpos_t", ""),
        "div_t": _division("div_t", INT),
        "ldiv_t": _division("ldiv_t", LONG),
        "lldiv_t": _division("lldiv_t", LONG_LONG),
        "va_list": VA_LIST,
        "__gnuc_va_list": VA_LIST,
        "__builtin_va_list": VA_LIST,
        # math.h; the extended types of ISO/IEC TS 18661-3
        "float_t": FLOAT,
        "double_t": DOUBLE,
        "_Float32": FLOAT,
        "_Float32x": DOUBLE,
        "_Float64": DOUBLE,
        "_Float64x": LONG_DOUBLE if target.long_double_bytes == 16 else DOUBLE,
        "_Float16": FLOAT16,
        "__fp16": FLOAT16,
        "__bf16": BFLOAT16,
        "_Float128": FLOAT128,
        "__float128": FLOAT128,
        "_Decimal32": DECIMAL32,
        "_Decimal64": DECIMAL64,
        "_Decimal128": DECIMAL128,
        "__int128_t": INT128,
        "__uint128_t": UNSIGNED_INT128,
        # zlib.h, zconf.h
        **dict.fromkeys(("Byte", "Bytef"), UNSIGNED_CHAR),
        "charf": CHAR,
        "intf": INT,
        **dict.fromkeys(("uInt", "uIntf", "z_crc_t"), UNSIGNED_INT),
        **dict.fromkeys(("uLong", "uLongf"), UNSIGNED_LONG),
        "z_size_t": SIZE,
        "z_off_t": long64,
        "z_off64_t": long64,
        **dict.fromkeys(("voidp", "voidpf"), VOID_POINTER),
        "voidpc": Pointer(VOID, True),
        "gzFile": Pointer(Record("gzFile_s")),
        "z_stream": Record("z_stream", ""),
        "z_streamp": Pointer(Record("z_stream", "")),
        "gz_header": Record("gz_header", ""),
        "gz_headerp": Pointer(Record("gz_header", "")),
        "alloc_func": Pointer(
            FunctionPrototype(
                "void *(*)(void *, unsigned int, unsigned int)",
                (VOID_POINTER, UNSIGNED_INT, UNSIGNED_INT),
                VOID_POINTER,
            )
        ),
        "free_func": Pointer(FunctionPrototype("void (*)(void *, void *)", (VOID_POINTER, VOID_POINTER), VOID)),
        "in_func": Pointer(FunctionPrototype("unsigned int (*)(void *, const unsigned char **)")),
        "out_func": Pointer(FunctionPrototype("int (*)(void *, unsigned char *, unsigned int)")),
        # sqlite3.h
        **{name: Record(name, "") for name in _SQLITE_RECORDS},
        **dict.fromkeys(("sqlite_int64", "sqlite3_int64"), LONG_LONG),
        **dict.fromkeys(("sqlite_uint64", "sqlite3_uint64"), UNSIGNED_LONG_LONG),
        "sqlite3_filename": Pointer(CHAR, True),
        "sqlite3_rtree_dbl": DOUBLE,
        "sqlite3_callback": Pointer(
            FunctionPrototype(
                "int (*)(void *, int, char **, char **)",
                (VOID_POINTER, INT, Pointer(Pointer(CHAR)), Pointer(Pointer(CHAR))),
                INT,
            )
        ),
        "sqlite3_destructor_type": Pointer(FunctionPrototype("void (*)(void *)", (VOID_POINTER,), VOID)),
        "sqlite3_syscall_ptr": Pointer(FunctionPrototype("void (*)(void)")),
    }
    return table


def _division(name: str, ctype: CType) -> Record:
    """A quotient and a remainder (C11 7.22p3; the order is glibc's and musl's)."""
    return Record(name, "struct", (Member("quot", ctype), Member("rem", ctype)), has_tag=False)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SIGNED = {8: INT8, 16: INT16, 32: INT32, 64: INT64}
_UNSIGNED = {8: UINT8, 16: UINT16, 32: UINT32, 64: UINT64}

_SQLITE_RECORDS = _words("""
    sqlite3 sqlite3_stmt sqlite3_value sqlite3_context sqlite3_blob sqlite3_backup sqlite3_mutex sqlite3_str
    sqlite3_snapshot sqlite3_vfs sqlite3_file sqlite3_io_methods sqlite3_mem_methods sqlite3_mutex_methods
    sqlite3_module sqlite3_vtab sqlite3_vtab_cursor sqlite3_index_info sqlite3_api_routines sqlite3_pcache
    sqlite3_pcache_page sqlite3_pcache_methods sqlite3_pcache_methods2 sqlite3_rtree_geometry
    sqlite3_rtree_query_info sqlite3_session sqlite3_changeset_iter sqlite3_changegroup sqlite3_rebaser
""")

# --- words -------------------------------------------------------------------------------------------------

TYPE_KEYWORDS = _words(
    "void char short int long float double signed unsigned _Bool _Complex __int128 struct union enum"
)
QUALIFIERS = _words("const volatile restrict _Atomic")
STORAGE = _words("extern static typedef inline register auto _Thread_local")
STATEMENT_KEYWORDS = _words("return if else for while do switch case default break continue goto sizeof _Alignof")

IGNORED_WORDS = _words("""
    __extension__ __restrict __restrict__ __inline __inline__ __forceinline _Noreturn noreturn __noreturn__
    __thread __always_inline __fortify_function __wur __THROW __THROWNL __LEAF __LEAF_ATTR
    __cdecl _cdecl __stdcall __fastcall __ptr64 __w64 _Nonnull _Nullable _Null_unspecified __nonnull __nullable
    __BEGIN_DECLS __END_DECLS G_BEGIN_DECLS G_END_DECLS
    """)
"""Words that compilers and headers add and that change no call on the targets of callgate."""

IGNORED_WITH_PARENTHESES = _words("__attribute__ __attribute __asm__ __asm asm __declspec _Alignas alignas __nonnull")
"""Words skipped together with the parenthesised group that follows."""

REPLACED_WORDS = {
    "__const": "const",
    "__const__": "const",
    "z_const": "const",
    "__volatile": "volatile",
    "__volatile__": "volatile",
    "__signed": "signed",
    "__signed__": "signed",
    "__complex__": "_Complex",
    "__complex": "_Complex",
}
"""Other spellings of keywords, none shorter than the keyword: it is written in place, columns stay."""

ATTRIBUTES_OF_THE_CALL = _words(
    "ms_abi sysv_abi vector_size mode vectorcall regcall preserve_all preserve_most preserve_none swiftcall pcs "
    "aarch64_vector_pcs aarch64_sve_pcs transparent_union ms_struct gcc_struct scalar_storage_order"
)
"""Attributes that move arguments or change sizes: what carries one cannot be bound without calling wrongly."""

KNOWN_MACROS = _words("""
    ZEXTERN ZEXPORT ZEXPORTVA FAR SQLITE_API SQLITE_EXTERN SQLITE_CDECL SQLITE_STDCALL SQLITE_APICALL SDL_DECLSPEC
    DECLSPEC SDLCALL PNGAPI PNG_EXPORT CURL_EXTERN WINAPI APIENTRY CALLBACK CDECL STDCALL GLAPI GLAPIENTRY API
    EXPORT EXTERN IMPORT DLLEXPORT OPENSSL_EXPORT XMLPUBFUN XMLCALL
    """)
"""Export and calling-convention macros by name: only to blame the right word in `unknown type name`."""
