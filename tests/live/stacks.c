/* The C side of test_raw.py and test_stacks.py. */
#include <stdint.h>

int64_t sum(int64_t a, int64_t b) { return a + b; }
int64_t nothing(void) { return -1; }
int64_t largest(void) { return INT64_MAX; }
int64_t smallest(void) { return INT64_MIN; }

/* The weighted sum of 32 words. */
int64_t weigh(int64_t a0, int64_t a1, int64_t a2, int64_t a3, int64_t a4, int64_t a5, int64_t a6, int64_t a7, int64_t a8, int64_t a9, int64_t b0, int64_t b1,
           int64_t b2, int64_t b3, int64_t b4, int64_t b5, int64_t b6, int64_t b7, int64_t b8, int64_t b9, int64_t c0, int64_t c1, int64_t c2, int64_t c3,
           int64_t c4, int64_t c5, int64_t c6, int64_t c7, int64_t c8, int64_t c9, int64_t d0, int64_t d1)
{
    int64_t words[] = {a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5,
                    b6, b7, b8, b9, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, d0, d1};
    uint64_t sum = 0;
    for (int i = 0; i < 32; i++) sum += (uint64_t)words[i] * (i + 1);
    return (int64_t)sum;
}

/* How many of the first `count` words are their own number, from 1. */
int64_t count_words(int64_t count, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f, int64_t g, int64_t h, int64_t i, int64_t j)
{
    int64_t words[] = {b, c, d, e, f, g, h, i, j};
    int64_t right = 0;
    for (int64_t n = 0; n < count; n++) right += words[n] == n + 1;
    return right;
}

/* Recursion that takes at least 1 KiB a level. */
int64_t deep(int64_t levels)
{
    volatile char room[1024];
    room[0] = room[1023] = (char)levels;
    return levels <= 0 ? 0 : 1 + deep(levels - 1) + (room[0] - room[1023]);
}

/* Where the stack is. */
int64_t here(void)
{
    volatile char local = 0;
    return (int64_t)(uintptr_t)&local;
}

int64_t call_each(int64_t (*f)(int64_t), int64_t count)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += f(i);
    return sum;
}

typedef struct { double a, b, c, d; } four;
double sum_four(four (*f)(int64_t), int64_t n)
{
    four given = f(n);
    return given.a + 10 * given.b + 100 * given.c + 1000 * given.d;
}

typedef struct { int64_t a, b, c, d; } large;
typedef struct { double x; int64_t n; } pair;

/* Arguments of every kind, there and back. */
double every_kind(double a, double b, double c, double d, double e, double f, double g, double h, double i, int j,
                  large l, pair p, large (*cb)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, double, large, pair))
{
    large back = cb(1, 2, 3, 4, 5, 6, 7, 8.5, l, p);
    return a + b + c + d + e + f + g + h + i + j + l.a + l.d + p.x + p.n + 100 * back.a + 1000 * back.d;
}

large turned(large l) { return (large){l.d, l.c, l.b, l.a}; }
int64_t long_double_sum(long double a, long double b) { return (int64_t)(a + b); }
void split(int64_t n, int64_t *high, int64_t *low) { *high = n / 10; *low = n % 10; }
