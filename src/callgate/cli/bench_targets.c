/* The C functions that every contender of `callgate bench` calls, in a shared library of their own. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

void noop(void) {}
int64_t add(int64_t a, int64_t b) { return a + b; }
double fma3(double a, double b, double c) { return a * b + c; }
size_t length(const char *s) { return strlen(s); }
int64_t add8(int a, int b, int c, int d, int e, int f, int g, int h)
{
    return (int64_t)a + b + c + d + e + f + g + h;
}
