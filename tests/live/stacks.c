/* The C side of test_raw.py and test_stacks.py. */
#include <stdint.h>

long sum(long a, long b) { return a + b; }
long nothing(void) { return -1; }
long largest(void) { return INT64_MAX; }
long smallest(void) { return INT64_MIN; }

/* The weighted sum of 32 words. */
long weigh(long a0, long a1, long a2, long a3, long a4, long a5, long a6, long a7, long a8, long a9, long b0, long b1,
           long b2, long b3, long b4, long b5, long b6, long b7, long b8, long b9, long c0, long c1, long c2, long c3,
           long c4, long c5, long c6, long c7, long c8, long c9, long d0, long d1)
{
    long words[] = {a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5,
                    b6, b7, b8, b9, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, d0, d1};
    unsigned long sum = 0;
    for (int i = 0; i < 32; i++) sum += (unsigned long)words[i] * (i + 1);
    return (long)sum;
}

/* How many of the first `count` words are their own number, from 1. */
long count_words(long count, long b, long c, long d, long e, long f, long g, long h, long i, long j)
{
    long words[] = {b, c, d, e, f, g, h, i, j};
    long right = 0;
    for (long n = 0; n < count; n++) right += words[n] == n + 1;
    return right;
}

/* Recursion that takes at least 1 KiB a level. */
long deep(long levels)
{
    volatile char room[1024];
    room[0] = room[1023] = (char)levels;
    return levels <= 0 ? 0 : 1 + deep(levels - 1) + (room[0] - room[1023]);
}

/* Where the stack is. */
long here(void)
{
    volatile char local = 0;
    return (long)(uintptr_t)&local;
}

long call_each(long (*f)(long), long count)
{
    long sum = 0;
    for (long i = 0; i < count; i++) sum += f(i);
    return sum;
}

typedef struct { double a, b, c, d; } four;
double sum_four(four (*f)(long), long n)
{
    four given = f(n);
    return given.a + 10 * given.b + 100 * given.c + 1000 * given.d;
}

typedef struct { long a, b, c, d; } large;
typedef struct { double x; long n; } pair;

/* Arguments of every kind, there and back. */
double every_kind(double a, double b, double c, double d, double e, double f, double g, double h, double i, int j,
                  large l, pair p, large (*cb)(long, long, long, long, long, long, long, double, large, pair))
{
    large back = cb(1, 2, 3, 4, 5, 6, 7, 8.5, l, p);
    return a + b + c + d + e + f + g + h + i + j + l.a + l.d + p.x + p.n + 100 * back.a + 1000 * back.d;
}

large turned(large l) { return (large){l.d, l.c, l.b, l.a}; }
long long_double_sum(long double a, long double b) { return (long)(a + b); }
void split(long n, long *high, long *low) { *high = n / 10; *low = n % 10; }
