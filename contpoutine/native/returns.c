/* returns.c: what frames in the same state have returned before.

   A frame that waits for a call, and has nothing left to do with the answer but arithmetic
   (capture/pure_rest.py says which), returns a value that depends on its operands and the answer
   alone. Where operands, answer and result are plain numbers and strings, nobody can tell whether
   the frame ran or its result was remembered; and the next branch that returns through a frame in
   that state needs neither a clone nor a run. A thousand recursive calls that wait in one state
   have one memory between them.

   Operands and answers are compared by identity, and kept alive: that can only miss. */

#include "native.h"

#define MOST_KEPT 65536 /* entries of each kind, after which nothing new is remembered */

typedef struct {
    PyObject *sent, *returned;
} Pair;

struct Returns {
    struct Returns *next; /* in the same bucket */
    size_t hash;
    struct Rest *rest;
    Pair *pairs; /* open addressing; room is a power of two */
    size_t n, room;
    int n_operands;
    PyObject *operands[];
};

/* The rest of the code behind one yield. */
typedef struct Rest {
    PyCodeObject *code;
    int lasti;
    PyObject *reads; /* a tuple of indices, or None: more than arithmetic is left */
} Rest;

struct ReturnsTable {
    Rest **rests; /* open addressing; room is a power of two */
    size_t n_rests, room_rests;
    Returns **buckets;
    size_t n, room;
};

static PyObject *reads_before_return; /* capture.pure_rest.reads_before_return */

static inline size_t
mix(size_t hash, const void *pointer)
{
    return (hash ^ ((size_t)pointer >> 4)) * (size_t)0x9E3779B97F4A7C15u;
}

static inline int
is_plain(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    return type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type || o == Py_None ||
           type == &PyUnicode_Type || type == &PyComplex_Type || type == &PyBytes_Type;
}

/* --- what is left to do behind a yield ------------------------------------------------------ */

static Rest **
rest_place(Rest **rests, size_t room, PyCodeObject *code, int lasti)
{
    size_t i = mix((size_t)lasti, code) >> 20;
    for (;; i++) {
        Rest **place = &rests[i & (room - 1)];
        if (*place == NULL || ((*place)->code == code && (*place)->lasti == lasti)) {
            return place;
        }
    }
}

static int
rests_grow(ReturnsTable *table)
{
    size_t room = table->room_rests ? table->room_rests * 2 : 16;
    Rest **rests = PyMem_Calloc(room, sizeof(Rest *));
    if (rests == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < table->room_rests; i++) {
        Rest *rest = table->rests[i];
        if (rest != NULL) {
            *rest_place(rests, room, rest->code, rest->lasti) = rest;
        }
    }
    PyMem_Free(table->rests);
    table->rests = rests;
    table->room_rests = room;
    return 0;
}

static Rest *
rest_of(ReturnsTable *table, PyCodeObject *code, int lasti)
{
    if (2 * table->n_rests >= table->room_rests && rests_grow(table) < 0) {
        return NULL;
    }
    Rest **place = rest_place(table->rests, table->room_rests, code, lasti);
    if (*place != NULL) {
        return *place;
    }
    PyObject *reads = reads_before_return == NULL
                          ? Py_NewRef(Py_None)
                          : PyObject_CallFunction(reads_before_return, "Oi", code, lasti);
    if (reads == NULL) {
        return NULL;
    }
    /* The call may have run anything, this table included. */
    place = rest_place(table->rests, table->room_rests, code, lasti);
    Rest *rest = *place != NULL ? NULL : PyMem_Malloc(sizeof(Rest));
    if (rest == NULL) {
        Py_DECREF(reads);
        return *place != NULL ? *place : (Rest *)PyErr_NoMemory();
    }
    *rest = (Rest){(PyCodeObject *)Py_NewRef(code), lasti, reads};
    *place = rest;
    table->n_rests++;
    return rest;
}

/* --- frames in one state -------------------------------------------------------------------- */

static int
buckets_grow(ReturnsTable *table)
{
    size_t room = table->room ? table->room * 2 : 64;
    Returns **buckets = PyMem_Calloc(room, sizeof(Returns *));
    if (buckets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < table->room; i++) {
        for (Returns *at = table->buckets[i], *next; at != NULL; at = next) {
            next = at->next;
            at->next = buckets[at->hash & (room - 1)];
            buckets[at->hash & (room - 1)] = at;
        }
    }
    PyMem_Free(table->buckets);
    table->buckets = buckets;
    table->room = room;
    return 0;
}

/* Is every slot of the frame plain or from outside? Then its end is nobody's event. 1, 0 or -1. */
static int
holds_nothing_of_its_own(Frame *frame, PyObject *outside)
{
    for (int i = 0; i < frame->stacktop; i++) {
        PyObject *held = frame->localsplus[i];
        if (held != NULL && !is_atomic(held)) {
            int known = outside == Py_None ? 0 : outside_has(outside, held);
            if (known <= 0) {
                return known;
            }
        }
    }
    return 1;
}

Returns *
returns_of(ReturnsTable *table, PyObject *o, PyObject *outside)
{
    PyGenObject *gen = (PyGenObject *)o;
    if (!PyGen_CheckExact(o) || !compat_gen_is_suspended(gen) ||
        gen->gi_exc_state.exc_value != NULL) {
        return NULL;
    }
    Frame *frame = compat_gen_frame(gen);
    PyCodeObject *code = compat_frame_code(frame);
    Rest *rest = rest_of(table, code, compat_frame_lasti(frame));
    if (rest == NULL || rest->reads == Py_None) {
        return NULL;
    }
    int n_reads = (int)PyTuple_GET_SIZE(rest->reads);
    int first = code->co_nlocalsplus, n = n_reads + frame->stacktop - first;
    PyObject *operands[32];
    if (n > 32 || holds_nothing_of_its_own(frame, outside) <= 0) {
        return NULL;
    }
    size_t hash = mix(0, rest);
    for (int i = 0; i < n; i++) {
        int slot = i < n_reads ? (int)PyLong_AsLong(PyTuple_GET_ITEM(rest->reads, i))
                               : first + i - n_reads;
        operands[i] = frame->localsplus[slot];
        if (operands[i] == NULL || !is_plain(operands[i])) {
            return NULL;
        }
        hash = mix(hash, operands[i]);
    }
    hash >>= 20;
    if (table->room > 0) {
        for (Returns *at = table->buckets[hash & (table->room - 1)]; at != NULL; at = at->next) {
            if (at->hash == hash && at->rest == rest &&
                memcmp(at->operands, operands, (size_t)n * sizeof(PyObject *)) == 0) {
                return at;
            }
        }
    }
    if (table->n == MOST_KEPT || (table->n >= table->room && buckets_grow(table) < 0)) {
        return NULL;
    }
    Returns *fresh = PyMem_Malloc(sizeof(Returns) + (size_t)n * sizeof(PyObject *));
    if (fresh == NULL) {
        return (Returns *)PyErr_NoMemory();
    }
    *fresh = (Returns){.hash = hash, .rest = rest, .n_operands = n};
    for (int i = 0; i < n; i++) {
        fresh->operands[i] = Py_NewRef(operands[i]);
    }
    fresh->next = table->buckets[hash & (table->room - 1)];
    table->buckets[hash & (table->room - 1)] = fresh;
    table->n++;
    return fresh;
}

/* --- what they returned --------------------------------------------------------------------- */

static Pair *
pair_place(Pair *pairs, size_t room, PyObject *sent)
{
    for (size_t i = mix(0, sent) >> 20;; i++) {
        Pair *pair = &pairs[i & (room - 1)];
        if (pair->sent == NULL || pair->sent == sent) {
            return pair;
        }
    }
}

PyObject *
returns_get(Returns *returns, PyObject *sent)
{
    return returns->room == 0 ? NULL : pair_place(returns->pairs, returns->room, sent)->returned;
}

int
returns_put(Returns *returns, PyObject *sent, PyObject *returned)
{
    if (!is_plain(sent) || !is_plain(returned) || returns->n == MOST_KEPT) {
        return 0;
    }
    if (2 * returns->n >= returns->room) {
        size_t room = returns->room ? returns->room * 2 : 8;
        Pair *pairs = PyMem_Calloc(room, sizeof(Pair));
        if (pairs == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < returns->room; i++) {
            if (returns->pairs[i].sent != NULL) {
                *pair_place(pairs, room, returns->pairs[i].sent) = returns->pairs[i];
            }
        }
        PyMem_Free(returns->pairs);
        returns->pairs = pairs;
        returns->room = room;
    }
    Pair *pair = pair_place(returns->pairs, returns->room, sent);
    if (pair->sent == NULL) {
        *pair = (Pair){Py_NewRef(sent), Py_NewRef(returned)};
        returns->n++;
    }
    return 0;
}

/* --- lifetime ------------------------------------------------------------------------------- */

ReturnsTable *
returns_table_new(void)
{
    ReturnsTable *table = PyMem_Calloc(1, sizeof(ReturnsTable));
    return table != NULL ? table : (ReturnsTable *)PyErr_NoMemory();
}

static void
returns_free(Returns *returns)
{
    for (int i = 0; i < returns->n_operands; i++) {
        Py_DECREF(returns->operands[i]);
    }
    for (size_t i = 0; i < returns->room; i++) {
        Py_XDECREF(returns->pairs[i].sent);
        Py_XDECREF(returns->pairs[i].returned);
    }
    PyMem_Free(returns->pairs);
    PyMem_Free(returns);
}

void
returns_table_free(ReturnsTable *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->room; i++) {
        for (Returns *at = table->buckets[i], *next; at != NULL; at = next) {
            next = at->next;
            returns_free(at);
        }
    }
    for (size_t i = 0; i < table->room_rests; i++) {
        if (table->rests[i] != NULL) {
            Py_DECREF(table->rests[i]->code);
            Py_DECREF(table->rests[i]->reads);
            PyMem_Free(table->rests[i]);
        }
    }
    PyMem_Free(table->buckets);
    PyMem_Free(table->rests);
    PyMem_Free(table);
}

static PyObject *
set_pure_rest(PyObject *Py_UNUSED(module), PyObject *function)
{
    Py_XSETREF(reads_before_return, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyMethodDef returns_functions[] = {
    {"set_pure_rest", set_pure_rest, METH_O, "Tell who reads the code behind a yield."},
    {NULL, NULL, 0, NULL},
};

int
returns_ready(PyObject *module)
{
    return PyModule_AddFunctions(module, returns_functions);
}
