/* itertools.c: copies of the iterators of itertools that own memory or keep a borrowed pointer.

   The others are numbers and references, and are copied word by word (clone.c). These have more:
   `product`, `permutations` and the two `combinations` own arrays of indices; `groupby` knows the
   group that it gave last by its address. Their structs are in no header, so their shape is tried
   out once, on iterators of known state, before it is believed; where it is another one, they are
   refused, and the computation is replayed. */

#include "native.h"

#define WORDS(o) ((PyObject **)((char *)(o) + sizeof(PyObject)))

/* An iterator that counts: references to the pool in word 0, an array of indices in word 1, perhaps
   an array of cycles in word 2, then the last result, then perhaps the number r of places. */
typedef struct {
    const char *name;
    PyTypeObject *type; /* NULL: not there, or not of this shape */
    int words, cycles, result, r;
} Counting;

static Counting counting[] = {
    {"product", NULL, 4, 0, 2, 0},
    {"permutations", NULL, 6, 2, 3, 4},
    {"combinations", NULL, 5, 0, 2, 3},
    {"combinations_with_replacement", NULL, 5, 0, 2, 3},
};

#define N_COUNTING ((int)(sizeof(counting) / sizeof(counting[0])))

enum { GROUPBY_LAST = 5 }; /* the word of groupby that holds the address of its last group */

static PyTypeObject *groupby_type, *group_type; /* NULL: not of the expected shape */

static Py_ssize_t
places_of(const Counting *c, PyObject *o)
{
    return c->r ? (Py_ssize_t)WORDS(o)[c->r] : PyTuple_GET_SIZE(WORDS(o)[0]);
}

static int
duplicate(PyObject **from, PyObject **to, Py_ssize_t n)
{
    if (*from == NULL) {
        return 0;
    }
    size_t size = (size_t)(n > 0 ? n : 1) * sizeof(Py_ssize_t);
    void *array = PyMem_Malloc(size);
    if (array == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (n > 0) {
        memcpy(array, *from, (size_t)n * sizeof(Py_ssize_t));
    }
    *to = array;
    return 0;
}

PyObject *
copy_counting(Fork *fork, PyObject *o)
{
    const Counting *c = counting;
    while (c < counting + N_COUNTING && c->type != Py_TYPE(o)) {
        c++;
    }
    if (c == counting + N_COUNTING) {
        return fork_refuse(o, "keeps its state where the clone does not look");
    }
    PyObject **from = WORDS(o);
    PyObject *pool = from[0] == NULL ? NULL : fork_copy(fork, from[0]);
    if (pool == NULL && from[0] != NULL) {
        return NULL;
    }
    PyObject *result = from[c->result] == NULL ? NULL : fork_copy(fork, from[c->result]);
    if (result == NULL && from[c->result] != NULL) {
        Py_XDECREF(pool);
        return NULL;
    }
    PyObject *met = fork_met(fork, o);
    PyObject *fresh = met != NULL ? Py_NewRef(met)
                                  : (PyObject *)PyObject_GC_New(PyObject, Py_TYPE(o));
    if (met == NULL && fresh != NULL) {
        PyObject **to = WORDS(fresh);
        memcpy(to, from, (size_t)c->words * sizeof(PyObject *));
        to[0] = pool;
        to[c->result] = result;
        to[1] = NULL;
        if (c->cycles) {
            to[c->cycles] = NULL;
        }
        pool = result = NULL;
        Py_ssize_t places = places_of(c, o);
        Py_ssize_t indices = c->cycles && from[0] != NULL ? PyTuple_GET_SIZE(from[0]) : places;
        int rc = duplicate(&from[1], &to[1], indices);
        if (rc == 0 && c->cycles) {
            rc = duplicate(&from[c->cycles], &to[c->cycles], places);
        }
        PyObject_GC_Track(fresh);
        if (rc < 0 || fork_remember(fork, o, fresh) < 0) {
            Py_CLEAR(fresh);
        }
    }
    Py_XDECREF(pool);
    Py_XDECREF(result);
    return fresh;
}

PyObject *
copy_grouping(Fork *fork, PyObject *o)
{
    if (groupby_type == NULL || (Py_TYPE(o) != groupby_type && Py_TYPE(o) != group_type)) {
        return fork_refuse(o, "keeps its state where the clone does not look");
    }
    PyObject *fresh = fork_iterator(fork, o);
    if (fresh == NULL) {
        return NULL;
    }
    if (Py_TYPE(o) == groupby_type) {
        if (fresh != o && WORDS(fresh)[GROUPBY_LAST] == WORDS(o)[GROUPBY_LAST]) {
            WORDS(fresh)[GROUPBY_LAST] = NULL; /* a group that is copied as well will say so */
        }
        return fresh;
    }
    PyObject *old = WORDS(o)[0], *new = WORDS(fresh)[0]; /* the groupby that the group is of */
    if (Py_TYPE(old) == groupby_type && old != new && WORDS(old)[GROUPBY_LAST] == o) {
        WORDS(new)[GROUPBY_LAST] = fresh;
    }
    return fresh;
}

/* --- what shape do they have here? ------------------------------------------------------------ */

static int
has_words(PyTypeObject *type, int words)
{
    return (size_t)type->tp_basicsize == sizeof(PyObject) + (size_t)words * sizeof(PyObject *) &&
           type->tp_itemsize == 0 && type->tp_flags & Py_TPFLAGS_HAVE_GC;
}

/* A fresh iterator over "abc" (twice, or in two places) stands at the indices 0, 0 or 0, 1; all of
   them stand at 0 and something after the second result. */
static int
try_counting(Counting *c, PyObject *o)
{
    if (!has_words(Py_TYPE(o), c->words) || !PyTuple_Check(WORDS(o)[0])) {
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        PyObject *result = PyIter_Next(o);
        if (result == NULL) {
            return 0;
        }
        int same = WORDS(o)[c->result] == result;
        Py_DECREF(result);
        if (!same) {
            return 0;
        }
    }
    if (c->r && (Py_ssize_t)WORDS(o)[c->r] != 2) {
        return 0;
    }
    const Py_ssize_t *indices = (const Py_ssize_t *)WORDS(o)[1];
    PyObject *pool = WORDS(o)[0], *result = WORDS(o)[c->result];
    for (Py_ssize_t i = 0; i < 2; i++) { /* do the indices say what the result says? */
        PyObject *items = c->r ? pool : PyTuple_GET_ITEM(pool, i);
        if (indices == NULL || indices[i] < 0 || indices[i] >= PyTuple_GET_SIZE(items) ||
            PyTuple_GET_ITEM(items, indices[i]) != PyTuple_GET_ITEM(result, i)) {
            return 0;
        }
    }
    if (c->cycles) { /* of 3 and 2 steps, the second has made one */
        const Py_ssize_t *cycles = (const Py_ssize_t *)WORDS(o)[c->cycles];
        return cycles != NULL && cycles[0] == 3 && cycles[1] == 1;
    }
    return 1;
}

static int
try_grouping(PyObject *groupby)
{
    PyObject *pair = PyIter_Next(groupby);
    if (pair == NULL) {
        return 0;
    }
    PyObject *group = PyTuple_GET_ITEM(pair, 1);
    int ok = Py_TYPE(groupby)->tp_basicsize >=
                 (Py_ssize_t)(sizeof(PyObject) + (GROUPBY_LAST + 1) * sizeof(PyObject *)) &&
             WORDS(groupby)[GROUPBY_LAST] == group && WORDS(group)[0] == groupby;
    if (ok) {
        groupby_type = (PyTypeObject *)Py_NewRef(Py_TYPE(groupby));
        group_type = (PyTypeObject *)Py_NewRef(Py_TYPE(group));
    }
    Py_DECREF(pair);
    return ok;
}

int
itertools_ready(void)
{
    PyObject *module = PyImport_ImportModule("itertools");
    if (module == NULL) {
        return -1;
    }
    for (int i = 0; i < N_COUNTING && counting[i].type == NULL; i++) {
        Counting *c = &counting[i];
        PyObject *o = c->r ? PyObject_CallMethod(module, c->name, "si", "abc", 2)
                           : PyObject_CallMethod(module, c->name, "ss", "abc", "abc");
        if (o != NULL && try_counting(c, o)) {
            c->type = (PyTypeObject *)Py_NewRef(Py_TYPE(o));
        }
        Py_XDECREF(o);
    }
    PyObject *groupby = PyObject_CallMethod(module, "groupby", "s", "aab");
    if (groupby != NULL && groupby_type == NULL) {
        try_grouping(groupby);
    }
    Py_XDECREF(groupby);
    Py_DECREF(module);
    PyErr_Clear(); /* what could not be tried is refused when it is met */
    return 0;
}
