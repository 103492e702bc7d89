/* The hand-written extension module of `callgate bench`: the functions of bench_targets.c, called as a careful author
 * would call them: METH_FASTCALL and METH_O, no argument parser, one conversion call an argument, errors checked.
 * Structs are instances of the ctypes.Structure that set_point() has been given. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdio.h>

extern void noop(void);
extern int64_t add(int64_t, int64_t);
extern double fma3(double, double, double);
extern size_t length(const char *);
extern int64_t add8(int, int, int, int, int, int, int, int);
typedef struct {
    double x, y;
} point;
extern double point_sum(point);
extern point point_make(double, double);
extern int64_t fold(int64_t (*)(int64_t, int64_t), int64_t);

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

/* --- structs -------------------------------------------------------------------------------------------------- */
typedef struct {
    PyObject_HEAD
    point *memory; /* every ctypes object begins with the address of its data */
} PointObject;

static PyTypeObject *point_type;

static PyObject *set_point(PyObject *self, PyObject *type)
{
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "set_point() argument must be a class");
        return NULL;
    }
    Py_INCREF(type);
    Py_XSETREF(point_type, (PyTypeObject *)type);
    Py_RETURN_NONE;
}

static PyObject *call_point_sum(PyObject *self, PyObject *argument)
{
    if (!PyObject_TypeCheck(argument, point_type)) {
        PyErr_Format(PyExc_TypeError, "point_sum() argument must be point, not %s", Py_TYPE(argument)->tp_name);
        return NULL;
    }
    return PyFloat_FromDouble(point_sum(*((PointObject *)argument)->memory));
}

static PyObject *call_point_make(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(2, "point_make")
    DOUBLE(x, 0)
    DOUBLE(y, 1)
    PyObject *made = PyObject_CallNoArgs((PyObject *)point_type);
    if (made)
        *((PointObject *)made)->memory = point_make(x, y);
    return made;
}

/* --- a callback: fold() has no argument for data, so the callable is kept here while it runs ---------------------- */
static struct {
    PyObject *callable;
    int has_failed; /* after an exception nothing is called any more */
} current;

static int64_t call_back(int64_t a, int64_t b)
{
    if (current.has_failed)
        return 0;
    int64_t answer = -1;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *arguments[3] = {NULL, PyLong_FromLong(a), PyLong_FromLong(b)};
    if (arguments[1] && arguments[2]) {
        PyObject *result =
            PyObject_Vectorcall(current.callable, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (result) {
            answer = PyLong_AsLong(result);
            Py_DECREF(result);
        }
    }
    if (answer == -1 && PyErr_Occurred())
        current.has_failed = 1;
    Py_XDECREF(arguments[1]);
    Py_XDECREF(arguments[2]);
    PyGILState_Release(state);
    return answer;
}

static PyObject *call_fold(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(2, "fold")
    INT(count, 1)
    __typeof__(current) outer = current;
    current.callable = arguments[0];
    current.has_failed = 0;
    int64_t total = fold(call_back, count);
    int has_failed = current.has_failed;
    current = outer;
    return has_failed ? NULL : PyLong_FromLong(total);
}

/* --- a variadic function, for the one format that is timed --------------------------------------------------------- */
static PyObject *call_snprintf(PyObject *self, PyObject *const *arguments, Py_ssize_t given)
{
    WANT(5, "snprintf")
    INT(size, 1)
    char *format = PyBytes_AsString(arguments[2]);
    if (!format)
        return NULL;
    INT(number, 3)
    DOUBLE(fraction, 4)
    Py_buffer buffer;
    if (PyObject_GetBuffer(arguments[0], &buffer, PyBUF_WRITABLE) < 0)
        return NULL;
    int written = snprintf(buffer.buf, (size_t)size, format, (int)number, fraction);
    PyBuffer_Release(&buffer);
    return PyLong_FromLong(written);
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef methods[] = {
    {"noop", FAST(call_noop), NULL},
    {"add", FAST(call_add), NULL},
    {"add_blocking", FAST(call_add_blocking), NULL},
    {"fma3", FAST(call_fma3), NULL},
    {"length", call_length, METH_O, NULL},
    {"add8", FAST(call_add8), NULL},
    {"set_point", set_point, METH_O, NULL},
    {"point_sum", call_point_sum, METH_O, NULL},
    {"point_make", FAST(call_point_make), NULL},
    {"fold", FAST(call_fold), NULL},
    {"snprintf", FAST(call_snprintf), NULL},
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
