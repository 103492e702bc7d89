"""The headers that come with a compiler and not with the C library (C11 4p6), as text for libclang.

The libclang package brings none, and those of a compiler on the machine may be another compiler's.  They declare what
the declarations of a library need and no more.
"""

from __future__ import annotations

FOLDER = "/callgate-freestanding"
"""Where libclang is made to see them; nothing is written there."""

_STDDEF = """
#if !defined __need_wint_t || defined __need_size_t || defined __need_ptrdiff_t || defined __need_wchar_t \\
    || defined __need_NULL
#ifndef CALLGATE_STDDEF
#define CALLGATE_STDDEF
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef __WCHAR_TYPE__ wchar_t;
typedef struct { long long a; long double b; } max_align_t;
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
#endif
#if defined __need_wint_t && !defined CALLGATE_WINT
#define CALLGATE_WINT
typedef __WINT_TYPE__ wint_t;
#endif
#undef __need_wint_t
#undef __need_size_t
#undef __need_ptrdiff_t
#undef __need_wchar_t
#undef __need_NULL
"""

_STDARG = """
#ifndef CALLGATE_STDARG
#define CALLGATE_STDARG
typedef __builtin_va_list __gnuc_va_list;
typedef __builtin_va_list va_list;
#define va_start(list, last) __builtin_va_start(list, last)
#define va_end(list) __builtin_va_end(list)
#define va_arg(list, type) __builtin_va_arg(list, type)
#define va_copy(to, from) __builtin_va_copy(to, from)
#endif
#undef __need___va_list
"""

_LIMITS = """
#ifndef CALLGATE_LIMITS
#define CALLGATE_LIMITS
#define _GCC_LIMITS_H_
#if __has_include_next(<limits.h>)
#include_next <limits.h>
#endif
#undef CHAR_BIT
#undef CHAR_MIN
#undef CHAR_MAX
#define CHAR_BIT 8
#ifdef __CHAR_UNSIGNED__
#define CHAR_MIN 0
#define CHAR_MAX (SCHAR_MAX * 2 + 1)
#else
#define CHAR_MIN SCHAR_MIN
#define CHAR_MAX SCHAR_MAX
#endif
#define SCHAR_MAX __SCHAR_MAX__
#define SCHAR_MIN (-SCHAR_MAX - 1)
#define UCHAR_MAX (SCHAR_MAX * 2 + 1)
#define SHRT_MAX __SHRT_MAX__
#define SHRT_MIN (-SHRT_MAX - 1)
#define USHRT_MAX (SHRT_MAX * 2 + 1)
#define INT_MAX __INT_MAX__
#define INT_MIN (-INT_MAX - 1)
#define UINT_MAX (INT_MAX * 2U + 1U)
#define LONG_MAX __LONG_MAX__
#define LONG_MIN (-LONG_MAX - 1L)
#define ULONG_MAX (LONG_MAX * 2UL + 1UL)
#define LLONG_MAX __LONG_LONG_MAX__
#define LLONG_MIN (-LLONG_MAX - 1LL)
#define ULLONG_MAX (LLONG_MAX * 2ULL + 1ULL)
#endif
"""

_STDINT = """
#ifndef CALLGATE_STDINT
#define CALLGATE_STDINT
#if __has_include_next(<stdint.h>)
#include_next <stdint.h>
#else
typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INTPTR_TYPE__ intptr_t;
typedef __UINTPTR_TYPE__ uintptr_t;
typedef __INTMAX_TYPE__ intmax_t;
typedef __UINTMAX_TYPE__ uintmax_t;
#endif
#endif
"""

_FLOAT = "\n".join(
    [
        "#ifndef CALLGATE_FLOAT",
        "#define CALLGATE_FLOAT",
        "#define FLT_RADIX __FLT_RADIX__",
        *(
            f"#define {prefix}_{what} __{prefix}_{what}__"
            for prefix in ("FLT", "DBL", "LDBL")
            for what in ("DIG", "EPSILON", "MANT_DIG", "MAX", "MAX_10_EXP", "MAX_EXP", "MIN", "MIN_10_EXP", "MIN_EXP")
        ),
        "#endif",
        "",
    ]
)

_STDATOMIC = "\n".join(
    [
        "#ifndef CALLGATE_STDATOMIC",
        "#define CALLGATE_STDATOMIC",
        *(
            f"typedef _Atomic({ctype}) atomic_{name};"
            for name, ctype in (
                *(("bool", "_Bool"), ("char", "char"), ("schar", "signed char"), ("uchar", "unsigned char")),
                *(("short", "short"), ("ushort", "unsigned short"), ("int", "int"), ("uint", "unsigned int")),
                *(("long", "long"), ("ulong", "unsigned long"), ("llong", "long long")),
                *(("ullong", "unsigned long long"), ("size_t", "__SIZE_TYPE__"), ("intptr_t", "__INTPTR_TYPE__")),
                *(("uintptr_t", "__UINTPTR_TYPE__"), ("ptrdiff_t", "__PTRDIFF_TYPE__")),
            )
        ),
        "#endif",
        "",
    ]
)

_VECTORS = """
#ifndef CALLGATE_VECTORS
#define CALLGATE_VECTORS
typedef float __m64 __attribute__((vector_size(8)));
typedef float __m128 __attribute__((vector_size(16)));
typedef double __m128d __attribute__((vector_size(16)));
typedef long long __m128i __attribute__((vector_size(16)));
typedef float __m256 __attribute__((vector_size(32)));
typedef double __m256d __attribute__((vector_size(32)));
typedef long long __m256i __attribute__((vector_size(32)));
#endif
"""

HEADERS: dict[str, str] = {
    "float.h": _FLOAT,
    "iso646.h": "",
    "limits.h": _LIMITS,
    "stdalign.h": "#define alignas _Alignas\n#define alignof _Alignof\n",
    "stdarg.h": _STDARG,
    "stdatomic.h": _STDATOMIC,
    "stdbool.h": "#define bool _Bool\n#define true 1\n#define false 0\n#define __bool_true_false_are_defined 1\n",
    "stddef.h": _STDDEF,
    "stdint.h": _STDINT,
    "stdnoreturn.h": "#define noreturn _Noreturn\n",
    **dict.fromkeys(("immintrin.h", "x86intrin.h", "xmmintrin.h", "emmintrin.h", "mmintrin.h"), _VECTORS),
    **dict.fromkeys(("pmmintrin.h", "tmmintrin.h", "smmintrin.h", "nmmintrin.h", "intrin.h"), _VECTORS),
}
"""Name to text."""
