/* The hand-written extension module of `callgate bench`: the functions of bench_targets.c, called as a careful author
 * would call them: METH_FASTCALL and METH_O, no argument parser, one conversion call an argument, errors checked. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

extern void noop(void);
extern int64_t add(int64_t, int64_t);
extern double fma3(double, double, double);
extern size_t length(const char *);
extern int64_t add8(int, int, int, int, int, int, int, int);

#define WANT(count, name)                                                                                \
    if (given != (count)) {                                                                              \
        PyErr_Format(PyExc_TypeError, name "() takes exactly %d arguments (%zd given)", (count), given); \
        return NULL;                                                                                     \
    }
#define INT(variable, index)                          \
    long variable = PyLong_AsLong(arguments[index]);  \
    if (variable == -1 && PyErr_Occurred())           \
        return NULL;
#define DOUBLE(variable, index)                            \
    double variable = PyFloat_AsDouble(arguments[index]);  \
    if (variable == -1.0 && PyErr_Occurred())              \
        return NULL;

static PyObject *call_noop(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(0, "noop")
    noop();
    Py_RETURN_NONE;
}

static PyObject *call_add(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(2, "add")
    INT(a, 0)
    INT(b, 1)
    return PyLong_FromLong(add(a, b));
}

static PyObject *call_add_blocking(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(2, "add_blocking")
    INT(a, 0)
    INT(b, 1)
    int64_t sum;
    Py_BEGIN_ALLOW_THREADS
    sum = add(a, b);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(sum);
}

static PyObject *call_fma3(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(3, "fma3")
    DOUBLE(a, 0)
    DOUBLE(b, 1)
    DOUBLE(c, 2)
    return PyFloat_FromDouble(fma3(a, b, c));
}

static PyObject *call_length(PyObject *self, PyObject *argument)
{
    char *text = PyBytes_AsString(argument);
    return text ? PyLong_FromSize_t(length(text)) : NULL;
}

static PyObject *call_add8(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(8, "add8")
    INT(a, 0)
    INT(b, 1)
    INT(c, 2)
    INT(d, 3)
    INT(e, 4)
    INT(f, 5)
    INT(g, 6)
    INT(h, 7)
    return PyLong_FromLong(add8(a, b, c, d, e, f, g, h));
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef methods[] = {
    {"noop", FAST(call_noop), NULL},
    {"add", FAST(call_add), NULL},
    {"add_blocking", FAST(call_add_blocking), NULL},
    {"fma3", FAST(call_fma3), NULL},
    {"length", call_length, METH_O, NULL},
    {"add8", FAST(call_add8), NULL},
    {NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "bench_extension", NULL, -1, methods};

PyMODINIT_FUNC PyInit_bench_extension(void)
{
    PyObject *made = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (made)
        PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
