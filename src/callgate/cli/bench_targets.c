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

typedef struct {
    double x, y;
} point;
double point_sum(point p) { return p.x + p.y; }
point point_make(double x, double y) { return (point){x, y}; }

int64_t fold(int64_t (*step)(int64_t, int64_t), int64_t count)
{
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
        total = step(total, i);
    return total;
}
