/* What tests/live/bound.h declares; compiled into a library by the tests. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bound.h"

size_t size_of(int which)
{
    static const size_t sizes[] = {
        sizeof(struct scalars), sizeof(struct bits), sizeof(struct packed), sizeof(struct pack_two),
        sizeof(struct aligned), sizeof(struct nested), sizeof(struct flexible), sizeof(union number),
        sizeof(struct callbacks), sizeof(struct extended), sizeof(struct enums),
    };
    return sizes[which];
}

size_t offset_of(int which)
{
    static const size_t offsets[] = {
        offsetof(struct scalars, l), offsetof(struct packed, d), offsetof(struct pack_two, d),
        offsetof(struct aligned, i), offsetof(struct nested, grid), offsetof(struct flexible, values),
        offsetof(struct callbacks, user), offsetof(struct extended, after), offsetof(struct nested, low),
        offsetof(struct enums, last),
    };
    return offsets[which];
}

point midpoint(point a, const point *b)
{
    point m = {(a.x + b->x) / 2, (a.y + b->y) / 2};
    return m;
}

struct small flip(struct small s)
{
    struct small made = {s.b, s.a, -s.c};
    return made;
}

union number to_real(union number n)
{
    n.d = (double)n.i;
    return n;
}

double total(const double *values, size_t count)
{
    double sum = 0;
    while (count--)
        sum += *values++;
    return sum;
}

void scale(double values[], size_t count, double factor)
{
    while (count--)
        *values++ *= factor;
}

int sum_of(int count, ...)
{
    va_list arguments;
    int sum = 0;
    va_start(arguments, count);
    while (count--)
        sum += va_arg(arguments, int);
    va_end(arguments);
    return sum;
}

int visit(const node *first, visitor each, void *user)
{
    int visited = 0;
    for (; first; first = first->next, visited++)
        if (each(first, user))
            break;
    return visited;
}

int apply(struct callbacks *c, int x)
{
    return c->change ? c->change(x) : -1;
}

struct store {
    int value;
};

store *store_open(int value)
{
    store *made = malloc(sizeof *made);
    made->value = value;
    return made;
}

int store_open_at(store **out, int value)
{
    *out = store_open(value);
    return 0;
}

int store_value(const store *s)
{
    return s ? s->value : -1;
}

void store_close(store *s)
{
    free(s);
}

enum colour next_colour(enum colour c)
{
    return c == RED ? GREEN : RED;
}

unsigned unite(enum mask a, enum mask b)
{
    return a | b;
}

void fill_bits(struct bits *b)
{
    memset(b, 0, sizeof *b);
    b->a = 5;
    b->b = -3;
    b->c = 1000;
    b->d = 1;
    b->e = 1;
    b->g = 9;
}

const char *name_of(enum colour c)
{
    return c == RED ? "red" : c == GREEN ? "gr\xc3\xbcn" : NULL;
}

int shadowed_names(int class_, int lambda_)
{
    return class_ - lambda_;
}

const char *const *list_names(void)
{
    static const char *const names[] = {"one", "two", NULL};
    return names;
}

double _Complex turned(double _Complex z)
{
    return z * 1.0i;
}
