/* tally.c: the histogram of what the executions returned.

   tally(values, log_weights, top) adds up exp(log_weight - top) by value, with Neumaier's
   compensated summation, so that a sum of a million terms is good to the last bit or two. Only
   plain values are counted here (numbers of one type, strings, bytes, None), for which Python's
   equality is equality of content; for others it says None, and Python groups them by content. */

#include "native.h"
#include <math.h>

typedef struct {
    double sum, lost;
} Sum;

static void
add(Sum *s, double x)
{
    double t = s->sum + x;
    s->lost += fabs(s->sum) >= fabs(x) ? (s->sum - t) + x : (x - t) + s->sum;
    s->sum = t;
}

/* `*number` is the type of number met so far: True, 1 and 1.0 are equal, and not the same value. */
static int
is_plain(PyObject *o, PyTypeObject **number)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyLong_Type || type == &PyBool_Type ||
        (type == &PyFloat_Type && !isnan(PyFloat_AS_DOUBLE(o)))) {
        if (*number == NULL) {
            *number = type;
        }
        return *number == type;
    }
    return type == &PyUnicode_Type || o == Py_None || type == &PyBytes_Type;
}

/* Where `value` is counted; a new place at the end if it is new. */
static Py_ssize_t
place_of(PyObject *places, PyObject *value, Sum **sums, Py_ssize_t *room)
{
    PyObject *known = PyDict_GetItemWithError(places, value);
    if (known != NULL) {
        return PyLong_AsSsize_t(known);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    Py_ssize_t place = PyDict_GET_SIZE(places);
    if (place == *room) {
        Py_ssize_t more = *room ? *room * 2 : 64;
        Sum *fresh = PyMem_Realloc(*sums, (size_t)more * sizeof(Sum));
        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        *sums = fresh;
        *room = more;
    }
    (*sums)[place] = (Sum){0.0, 0.0};
    PyObject *index = PyLong_FromSsize_t(place);
    int rc = index == NULL ? -1 : PyDict_SetItem(places, value, index);
    Py_XDECREF(index);
    return rc < 0 ? -1 : place;
}

static PyObject *
pairs_of(PyObject *places, Sum *sums)
{
    PyObject *pairs = PyList_New(0), *value, *index;
    Py_ssize_t at = 0;
    for (Py_ssize_t i = 0; pairs != NULL && PyDict_Next(places, &at, &value, &index); i++) {
        double mass = sums[i].sum + sums[i].lost;
        if (mass > 0.0) {
            PyObject *pair = Py_BuildValue("(Od)", value, mass);
            if (pair == NULL || PyList_Append(pairs, pair) < 0) {
                Py_CLEAR(pairs);
            }
            Py_XDECREF(pair);
        }
    }
    return pairs;
}

static PyObject *
tally(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *values;
    Py_buffer weights;
    double top;
    if (!PyArg_ParseTuple(args, "O!y*d", &PyList_Type, &values, &weights, &top)) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(values), room = 0;
    PyObject *places = NULL, *pairs = NULL, *result = NULL, *last = NULL;
    Sum *sums = NULL, total = {0.0, 0.0};
    if (weights.len != n * (Py_ssize_t)sizeof(double)) {
        PyErr_SetString(PyExc_ValueError, "one double a value is needed");
        goto done;
    }
    places = PyDict_New();
    if (places == NULL) {
        goto done;
    }
    const double *log_weight = weights.buf;
    PyTypeObject *number = NULL;
    int plain = 1;
    Py_ssize_t place = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        double weight = exp(log_weight[i] - top);
        add(&total, weight);
        if (!plain) {
            continue;
        }
        PyObject *value = PyList_GET_ITEM(values, i);
        if (value != last) { /* the same object again is the same value */
            plain = is_plain(value, &number);
            if (!plain) {
                continue;
            }
            place = place_of(places, value, &sums, &room);
            if (place < 0) {
                goto done;
            }
            last = value;
        }
        add(&sums[place], weight);
    }
    pairs = plain ? pairs_of(places, sums) : Py_NewRef(Py_None);
    if (pairs != NULL) {
        result = Py_BuildValue("(Od)", pairs, total.sum + total.lost);
    }
done:
    PyBuffer_Release(&weights);
    Py_XDECREF(places);
    Py_XDECREF(pairs);
    PyMem_Free(sums);
    return result;
}

static PyMethodDef tally_functions[] = {
    {"tally", tally, METH_VARARGS,
     "tally(values, log_weights, top): ([(value, mass), ...] or None, total mass), relative to "
     "exp(top)."},
    {NULL, NULL, 0, NULL},
};

int
tally_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, tally_functions);
}
