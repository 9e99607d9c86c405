/* state_key.c: what a suspended computation will do, written down as bytes.

   Two suspended computations with equal keys have equal futures. A key holds, for each frame, its
   code, its next instruction, the slots that are live there (contpoutine/capture/liveness.py) and
   the value stack; then the handlers. Objects are written by type and content:

     numbers, strings, bytes    bit by bit, so that 1, True, 1.0, 0.0 and -0.0 are five things
     what can be changed        numbered when it is met first and a reference when it is met again,
                                so that one list twice is told from two equal lists
     outside objects, classes,  by address; they are kept alive for as long as the key
     modules, code, NaN
     other types                as contpoutine/capture/content.py says

   Whatever has no rule makes the key *unique*: it equals no other, and says why. So a key can only
   fail to join two states that are the same; it never joins two that differ. What it does not see
   are the identities of things that cannot be changed (`a is b` for two equal tuples). */

#include "state_key.h"

enum { BY_IDENTITY, BY_VALUE, BY_STATE, BY_INSTANCE, BY_MEMORY, BY_WORDS, UNKEYABLE };

#define CELL_ONLY 2 /* in a mask: the cell is written before it is read */

#define MAX_DEPTH 400
#define MAX_BYTES (1 << 20)

static PyObject *live_slots;             /* capture.liveness.live_slots */
static PyObject *content_rule, *rules;   /* capture.content.content_rule; its answers, by type */
static PyObject *liveness;               /* code -> {offset: mask} */
static PyObject *str_version, *str_start, *str_stop, *str_step;

/* --- addresses ------------------------------------------------------------------------------ */

static size_t
hash_address(const void *o)
{
    return ((size_t)o >> 4) * 0x9E3779B97F4A7C15ull >> 20;
}

/* Where `o` is in an open table of addresses, or the free place where it would be. */
static size_t
place_of(const void *const *table, size_t mask, const void *o)
{
    size_t i = hash_address(o) & mask;
    while (table[i] != NULL && table[i] != o) {
        i = (i + 1) & mask;
    }
    return i;
}

int
kept_add(Kept *kept, PyObject *o)
{
    if (kept->n * 2 >= kept->size) {
        size_t size = kept->size ? kept->size * 2 : 64;
        PyObject **table = PyMem_Calloc(size, sizeof(PyObject *));
        if (table == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; i < kept->size; i++) {
            if (kept->table[i] != NULL) {
                table[place_of((const void *const *)table, size - 1, kept->table[i])] =
                    kept->table[i];
            }
        }
        PyMem_Free(kept->table);
        kept->table = table;
        kept->size = size;
    }
    size_t i = place_of((const void *const *)kept->table, kept->size - 1, o);
    if (kept->table[i] == NULL) {
        kept->table[i] = Py_NewRef(o);
        kept->n++;
    }
    return 0;
}

int
kept_visit(Kept *kept, visitproc visit, void *arg)
{
    for (size_t i = 0; i < kept->size; i++) {
        Py_VISIT(kept->table[i]);
    }
    return 0;
}

void
kept_clear(Kept *kept)
{
    PyObject **table = kept->table;
    size_t size = kept->size;
    *kept = (Kept){NULL, 0, 0};
    for (size_t i = 0; i < size; i++) {
        Py_XDECREF(table[i]);
    }
    PyMem_Free(table);
}

/* --- writing -------------------------------------------------------------------------------- */

void
key_begin(Key *key, PyObject *outside, Kept *kept)
{
    *key = (Key){.outside = outside, .kept = kept};
}

void
key_reset(Key *key)
{
    key->n = 0;
    key->n_met = 0;
    key->depth = 0;
    key->owned = 0;
    Py_CLEAR(key->why);
    if (key->index != NULL) {
        memset(key->index, 0, (key->mask + 1) * sizeof(void *));
        memset(key->numbers, 0, (key->mask + 1) * sizeof(int));
    }
}

void
key_end(Key *key)
{
    PyMem_Free(key->bytes);
    PyMem_Free(key->index);
    PyMem_Free(key->numbers);
    Py_CLEAR(key->why);
    *key = (Key){NULL};
}

static int
need(Key *key, size_t more)
{
    if (key->n + more <= key->room) {
        return 0;
    }
    size_t room = key->room ? key->room * 2 : 512;
    while (room < key->n + more) {
        room *= 2;
    }
    unsigned char *bytes = PyMem_Realloc(key->bytes, room);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    key->bytes = bytes;
    key->room = room;
    return 0;
}

static int
put_raw(Key *key, const void *data, size_t n)
{
    if (need(key, n) < 0) {
        return -1;
    }
    memcpy(key->bytes + key->n, data, n);
    key->n += n;
    return 0;
}

static int
put(Key *key, char tag, const void *data, size_t n)
{
    if (need(key, n + 1) < 0) {
        return -1;
    }
    key->bytes[key->n++] = (unsigned char)tag;
    memcpy(key->bytes + key->n, data, n);
    key->n += n;
    return 0;
}

static int
put_tag(Key *key, char tag)
{
    return put(key, tag, "", 0);
}

static int
put_size(Key *key, char tag, Py_ssize_t n)
{
    return put(key, tag, &n, sizeof(n));
}

int
key_put_int(Key *key, char tag, Py_ssize_t n)
{
    return put_size(key, tag, n);
}

/* The key equals no other: it holds what cannot be written down. The first reason is kept. */
static int
unkeyable(Key *key, PyObject *o, PyObject *why)
{
    if (key->why == NULL) {
        key->why = PyUnicode_FromFormat("a %.200s object %U", Py_TYPE(o)->tp_name, why);
        if (key->why == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
unkeyable_because(Key *key, PyObject *o, const char *why)
{
    PyObject *text = PyUnicode_FromString(why);
    int rc = text == NULL ? -1 : unkeyable(key, o, text);
    Py_XDECREF(text);
    return rc;
}

static int
put_address(Key *key, char tag, PyObject *o)
{
    return put(key, tag, &o, sizeof(o)) < 0 || kept_add(key->kept, o) < 0 ? -1 : 0;
}

static int
grow_index(Key *key)
{
    size_t size = key->index == NULL ? 32 : (key->mask + 1) * 2;
    const void **index = PyMem_Calloc(size, sizeof(void *));
    int *numbers = PyMem_Calloc(size, sizeof(int));
    if (index == NULL || numbers == NULL) {
        PyMem_Free(index);
        PyMem_Free(numbers);
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; key->index != NULL && i <= key->mask; i++) {
        if (key->index[i] != NULL) {
            size_t j = place_of((const void *const *)index, size - 1, key->index[i]);
            index[j] = key->index[i];
            numbers[j] = key->numbers[i];
        }
    }
    PyMem_Free(key->index);
    PyMem_Free(key->numbers);
    key->index = index;
    key->numbers = numbers;
    key->mask = size - 1;
    return 0;
}

/* Has this address been met in this key? 1: a reference to it has been written; 0: it has a number
   now, and what lies there is to be written; -1: error. */
static int
met(Key *key, const void *address)
{
    if (key->index == NULL || (size_t)key->n_met * 2 > key->mask) {
        if (grow_index(key) < 0) {
            return -1;
        }
    }
    size_t i = place_of((const void *const *)key->index, key->mask, address);
    if (key->index[i] != NULL) {
        return put(key, '@', &key->numbers[i], sizeof(int)) < 0 ? -1 : 1;
    }
    key->index[i] = address;
    key->numbers[i] = key->n_met++;
    return 0;
}

/* --- values that cannot be changed ---------------------------------------------------------- */

static int
put_number(Key *key, PyObject *o)
{
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (!overflow) {
        return put(key, 'i', &n, sizeof(n));
    }
    PyObject *text = PyNumber_ToBase(o, 16);
    int rc = text == NULL ? -1 : put_size(key, 'I', PyUnicode_GET_LENGTH(text));
    rc = rc < 0 ? -1 : put_raw(key, PyUnicode_DATA(text), (size_t)PyUnicode_GET_LENGTH(text));
    Py_XDECREF(text);
    return rc;
}

static int
put_string(Key *key, PyObject *o)
{
    if (PyUnicode_READY(o) < 0) {
        return -1;
    }
    Py_ssize_t n = PyUnicode_GET_LENGTH(o);
    char kind = (char)PyUnicode_KIND(o);
    return put(key, 's', &kind, 1) < 0 || put_raw(key, &n, sizeof(n)) < 0
               ? -1
               : put_raw(key, PyUnicode_DATA(o), (size_t)n * (size_t)kind);
}

/* A NaN is told from another by `is` in a container, so it goes by address. */
static int
put_float(Key *key, PyObject *o)
{
    double x = PyFloat_AS_DOUBLE(o);
    return x != x ? put_address(key, 'n', o) : put(key, 'f', &x, sizeof(x));
}

static int
put_complex(Key *key, PyObject *o)
{
    Py_complex x = ((PyComplexObject *)o)->cval;
    return x.real != x.real || x.imag != x.imag ? put_address(key, 'n', o)
                                                : put(key, 'c', &x, sizeof(x));
}

static int
put_attributes(Key *key, char tag, PyObject *o, PyObject **names, int n)
{
    int rc = put_tag(key, tag);
    for (int i = 0; i < n && rc == 0; i++) {
        PyObject *value = PyObject_GetAttr(o, names[i]);
        rc = value == NULL ? -1 : key_put(key, value);
        Py_XDECREF(value);
    }
    return rc;
}

/* A class that no module holds was made by a model, and what it holds can change. */
static int
put_class(Key *key, PyObject *o)
{
    if (!(((PyTypeObject *)o)->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)) {
        int outside = outside_has(key->outside, o);
        int known = outside != 0 ? outside : is_global(o);
        if (known <= 0) {
            return known < 0 ? -1 : unkeyable_because(key, o, "was made by the model itself");
        }
    }
    return put_address(key, 'Y', o);
}

/* Atoms, as is_atomic() has them. 1: it was one. */
static inline int
put_atom(Key *key, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    int rc;
    if (type == &PyLong_Type) {
        rc = put_number(key, o);
    }
    else if (type == &PyBool_Type) {
        rc = put_tag(key, o == Py_True ? 'T' : 'F');
    }
    else if (o == Py_None) {
        rc = put_tag(key, 'N');
    }
    else if (type == &PyUnicode_Type) {
        rc = put_string(key, o);
    }
    else if (type == &PyFloat_Type) {
        rc = put_float(key, o);
    }
    else if (type == &PyBytes_Type) {
        rc = put_size(key, 'b', PyBytes_GET_SIZE(o));
        rc = rc < 0 ? -1 : put_raw(key, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o));
    }
    else if (type == &PyComplex_Type) {
        rc = put_complex(key, o);
    }
    else if (type == &PyRange_Type) {
        PyObject *names[3] = {str_start, str_stop, str_step};
        rc = put_attributes(key, 'r', o, names, 3);
    }
    else if (type == &PyCode_Type || type == &PyEllipsis_Type || type == &PyModule_Type ||
             type == &_PyNotImplemented_Type) {
        rc = put_address(key, 'Y', o);
    }
    else {
        return 0;
    }
    return rc < 0 ? -1 : 1;
}

/* --- containers ----------------------------------------------------------------------------- */

static int
put_items(Key *key, PyObject *const *items, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (key_put(key, items[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Through Python code the list could change meanwhile. */
static int
put_list(Key *key, PyObject *o)
{
    if (put_size(key, 'L', PyList_GET_SIZE(o)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(o); i++) {
        if (key_put(key, PyList_GET_ITEM(o, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The hash that a container keeps for a member: it finds the member by that, whatever became of
   the member since. Atoms and what is hashed by its address have one hash for ever. */
static int
put_kept_hash(Key *key, PyObject *member, Py_hash_t hash)
{
    return is_atomic(member) || Py_TYPE(member)->tp_hash == PyBaseObject_Type.tp_hash
               ? 0
               : put_raw(key, &hash, sizeof(hash));
}

/* In the order of insertion, which a model can see. */
static int
put_dict(Key *key, PyObject *o)
{
    if (put_size(key, 'D', PyDict_GET_SIZE(o)) < 0) {
        return -1;
    }
    Py_ssize_t at = 0;
    PyObject *name, *value;
    while (PyDict_Next(o, &at, &name, &value)) {
        PyDictKeysObject *keys = ((PyDictObject *)o)->ma_keys;
        if (!DK_IS_UNICODE(keys) && put_kept_hash(key, name, DK_ENTRIES(keys)[at - 1].me_hash) < 0) {
            return -1;
        }
        if (key_put(key, name) < 0 || key_put(key, value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Place by place, holes included: the order of a set depends on its history, and which member it
   pops next on where it popped last. */
static int
put_set(Key *key, PyObject *o)
{
    PySetObject *set = (PySetObject *)o;
    Py_ssize_t shape[3] = {set->mask, set->fill, set->finger};
    if (put(key, Py_IS_TYPE(o, &PySet_Type) ? 'S' : 'Z', shape, sizeof(shape)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i <= set->mask; i++) {
        PyObject *member = set->table[i].key;
        if (member == NULL) {
            continue;
        }
        int is_hole = set->table[i].hash == -1;
        if (put_size(key, 'p', i) < 0 || (is_hole ? put_tag(key, '0') : key_put(key, member)) < 0 ||
            (!is_hole && put_kept_hash(key, member, set->table[i].hash) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* As the compiler leaves them they are a tuple, of types above all, which are new in each run; they
   become a dict when they are looked at or changed. */
static int
put_annotations(Key *key, PyObject *annotations)
{
    if (annotations == NULL || !PyTuple_CheckExact(annotations)) {
        return key_put(key, annotations);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(annotations); i++) {
        PyObject *item = PyTuple_GET_ITEM(annotations, i);
        if ((is_atomic(item) ? key_put(key, item) : put_tag(key, '?')) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
put_function(Key *key, PyObject *o)
{
    PyFunctionObject *f = (PyFunctionObject *)o;
    PyObject *parts[] = {f->func_code,     f->func_name,       f->func_qualname, f->func_closure,
                         f->func_defaults, f->func_kwdefaults, f->func_dict,     f->func_doc,
                         f->func_module};
    if (put_annotations(key, f->func_annotations) < 0 || put_address(key, 'U', f->func_globals) < 0) {
        return -1;
    }
    return put_items(key, parts, sizeof(parts) / sizeof(parts[0]));
}

static int
put_builtin_method(Key *key, PyObject *o)
{
    PyObject *self = PyCFunction_GET_SELF(o);
    if (self == NULL || PyModule_Check(self)) {
        return put_address(key, 'Y', o);
    }
    PyMethodDef *method = ((PyCFunctionObject *)o)->m_ml;
    return put(key, 'm', &method, sizeof(method)) < 0 ? -1 : key_put(key, self);
}

static int
put_message(Key *key, PyObject *o)
{
    Message *msg = (Message *)o;
    char state[2] = {msg->performed, msg->lent};
    return put(key, 'M', state, 2) < 0 || put_items(key, msg->field, N_FIELDS) < 0
               ? -1
               : key_put(key, msg->extra);
}

/* --- iterators ------------------------------------------------------------------------------ */

#define MAX_REFERENTS 16
#define MAX_WORDS 32

typedef struct {
    PyObject *seen[MAX_REFERENTS];
    PyTypeObject *type; /* visited first by instances of heap types: no word of the struct */
    int n;
} Referents;

static int
collect(PyObject *o, void *arg)
{
    Referents *r = arg;
    if (o == (PyObject *)r->type) {
        r->type = NULL;
        return 0;
    }
    if (r->n == MAX_REFERENTS) {
        return -1;
    }
    r->seen[r->n++] = o;
    return 0;
}

/* Which referent is the tuple that the iterator fills again for its next item? What it holds is of
   no importance. -1: none. */
static int
scratch_of(PyTypeObject *type)
{
    return type == &PyEnum_Type || type == &PyZip_Type || type == &PyDictIterItem_Type ||
                   strcmp(type->tp_name, "itertools.zip_longest") == 0
               ? 1
               : -1;
}

/* A position in a dict counts deleted entries too. */
static int
has_holes(PyObject *o)
{
    PyDictObject *dict = (PyDictObject *)o;
    return dict->ma_values != NULL || dict->ma_keys->dk_nentries != dict->ma_used;
}

static int
put_words(Key *key, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    int words = (int)((size_t)type->tp_basicsize - sizeof(PyObject)) / (int)sizeof(PyObject *);
    Referents r = {.type = type->tp_flags & Py_TPFLAGS_HEAPTYPE ? type : NULL};
    if (words > MAX_WORDS || type->tp_itemsize != 0 ||
        (PyObject_IS_GC(o) && type->tp_traverse(o, collect, &r) != 0)) {
        return unkeyable_because(key, o, "holds more than the state key expects");
    }
    PyObject **word = (PyObject **)((char *)o + sizeof(PyObject));
    int holder[MAX_WORDS];
    memset(holder, -1, sizeof(holder));
    for (int i = 0; i < r.n; i++) {
        int w = 0;
        while (w < words && (holder[w] >= 0 || word[w] != r.seen[i])) {
            w++;
        }
        if (w == words) {
            return unkeyable_because(key, o, "keeps its state where the state key does not look");
        }
        holder[w] = i;
        if (PyDict_Check(r.seen[i]) && has_holes(r.seen[i])) {
            return unkeyable_because(key, o, "runs over a dict from which entries were deleted");
        }
    }
    int scratch = scratch_of(type);
    if (put_address(key, 'w', (PyObject *)type) < 0) {
        return -1;
    }
    for (int w = 0; w < words; w++) {
        int rc = holder[w] < 0          ? put_raw(key, &word[w], sizeof(word[w]))
                 : holder[w] == scratch ? put_tag(key, '_')
                                        : key_put(key, word[w]);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* --- frames --------------------------------------------------------------------------------- */

/* Which slots are live where a frame of this code is suspended, borrowed; NULL without an
   exception: all of them. */
static const char *
live_mask(PyCodeObject *code, int lasti)
{
    PyObject *places = PyDict_GetItemWithError(liveness, (PyObject *)code);
    if (places == NULL) {
        if (PyErr_Occurred() || live_slots == NULL) {
            return NULL;
        }
        places = PyObject_CallOneArg(live_slots, (PyObject *)code);
        int rc = places == NULL ? -1 : PyDict_SetItem(liveness, (PyObject *)code, places);
        Py_XDECREF(places); /* the table keeps it */
        if (rc < 0) {
            return NULL;
        }
    }
    PyObject *at = PyLong_FromLong(lasti);
    PyObject *mask = at == NULL ? NULL : PyDict_GetItemWithError(places, at);
    Py_XDECREF(at);
    return mask != NULL && PyBytes_CheckExact(mask) &&
                   PyBytes_GET_SIZE(mask) == code->co_nlocalsplus + 1
               ? PyBytes_AS_STRING(mask)
               : NULL;
}

/* A table of masks by code and place, in front of the dicts: most models have a few. */
#define N_MASKS 64

static struct {
    PyCodeObject *code;
    int lasti;
    const char *mask;
} masks[N_MASKS];

static const char *
mask_of(PyCodeObject *code, int lasti)
{
    size_t i = (hash_address(code) + (size_t)lasti) % N_MASKS;
    if (masks[i].code != code || masks[i].lasti != lasti) {
        const char *mask = live_mask(code, lasti);
        if (mask == NULL) {
            return NULL;
        }
        masks[i].code = code; /* `liveness` keeps code and mask */
        masks[i].lasti = lasti;
        masks[i].mask = mask;
    }
    return masks[i].mask;
}

/* `yield from sample(...)`: the request is used up, the answer comes next. */
static int
is_waiting(PyObject *o)
{
    return Py_IS_TYPE(o, &PerformType) && Py_REFCNT(o) == 1 &&
           ((Message *)perform_message(o))->performed == 1;
}

/* May somebody read the frame's locals through a frame object? One that only the frame itself still
   refers to was looked at once, and is nobody's any more. */
static int
is_looked_at(Frame *frame)
{
    return frame->frame_obj != NULL && Py_REFCNT(frame->frame_obj) > 1;
}

static int
put_frame(Key *key, PyGenObject *gen)
{
    if (compat_gen_is_finished(gen)) {
        return put_tag(key, 'g');
    }
    if (!compat_gen_is_suspended(gen) && !compat_gen_is_created(gen)) {
        return unkeyable_because(key, (PyObject *)gen, "is running");
    }
    Frame *frame = compat_gen_frame(gen);
    PyCodeObject *code = compat_frame_code(frame);
    int lasti = compat_frame_lasti(frame);
    const char *mask = mask_of(code, lasti);
    if (mask == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (gen->gi_exc_state.exc_value != NULL && gen->gi_exc_state.exc_value != Py_None) {
        return unkeyable_because(key, gen->gi_exc_state.exc_value, "is being handled");
    }
    if (frame->f_locals != NULL) {
        return unkeyable_because(key, (PyObject *)gen, "has a dict of its locals");
    }
    int where[3] = {lasti, frame->stacktop, compat_gen_is_created(gen)};
    if (put_address(key, 'G', (PyObject *)code) < 0 || put_raw(key, where, sizeof(where)) < 0 ||
        put_address(key, 'Y', frame->f_globals) < 0) {
        return -1;
    }
    for (int i = 0; i < frame->stacktop; i++) {
        PyObject *held = frame->localsplus[i];
        if (i < code->co_nlocalsplus && mask != NULL && !mask[i] && !is_looked_at(frame)) {
            continue;
        }
        int unread = i < code->co_nlocalsplus && mask != NULL && mask[i] == CELL_ONLY &&
                     !is_looked_at(frame) && held != NULL && PyCell_Check(held) &&
                     Py_REFCNT(held) == 1;
        int rc = unread                             ? put_tag(key, '_')
                 : held != NULL && is_waiting(held) ? put_tag(key, 'P')
                                                    : key_put(key, held);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* A frame of the computation's own stack; it may be no generator (a handler's activation). */
int
key_put_frame(Key *key, PyObject *o)
{
    if (!PyGen_CheckExact(o)) {
        return key_put(key, o);
    }
    int again = met(key, o);
    return again != 0 ? (again < 0 ? -1 : 0) : put_frame(key, (PyGenObject *)o);
}

int
key_drops_value(PyObject *o)
{
    PyGenObject *gen = (PyGenObject *)o;
    if (!PyGen_CheckExact(o) || !compat_gen_is_suspended(gen)) {
        return 0;
    }
    Frame *frame = compat_gen_frame(gen);
    PyCodeObject *code = compat_frame_code(frame);
    const char *mask = mask_of(code, compat_frame_lasti(frame));
    if (mask == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return mask[code->co_nlocalsplus] && !is_looked_at(frame);
}

/* Is the object on the value stack? `n += yield ...` reads `n` before it waits. */
static int
is_on_stack(Frame *frame, PyCodeObject *code, PyObject *o)
{
    for (int i = code->co_nlocalsplus; i < frame->stacktop; i++) {
        if (frame->localsplus[i] == o) {
            return 1;
        }
    }
    return 0;
}

/* (function, file, line, ((name, value), ...)) of a suspended generator, without making it a frame
   object, which would keep its locals alive. The locals are those that what follows can read. */
static PyObject *
native_where(PyObject *Py_UNUSED(module), PyObject *o)
{
    PyGenObject *gen = (PyGenObject *)o;
    if (!PyGen_CheckExact(o) || compat_gen_is_finished(gen)) {
        PyErr_SetString(PyExc_TypeError, "a suspended generator is needed");
        return NULL;
    }
    Frame *frame = compat_gen_frame(gen);
    PyCodeObject *code = compat_frame_code(frame);
    const char *mask = mask_of(code, compat_frame_lasti(frame));
    PyObject *live = mask == NULL && PyErr_Occurred() ? NULL : PyList_New(0);
    for (int i = 0; live != NULL && i < code->co_nlocalsplus && i < frame->stacktop; i++) {
        PyObject *held = frame->localsplus[i];
        if (held != NULL && PyCell_Check(held)) {
            held = mask != NULL && mask[i] == CELL_ONLY ? NULL : PyCell_GET(held);
        }
        if (held == NULL || (mask != NULL && !mask[i] && !is_on_stack(frame, code, held))) {
            continue;
        }
        PyObject *pair = PyTuple_Pack(2, PyTuple_GET_ITEM(code->co_localsplusnames, i), held);
        if (pair == NULL || PyList_Append(live, pair) < 0) {
            Py_CLEAR(live);
        }
        Py_XDECREF(pair);
    }
    PyObject *locals = live == NULL ? NULL : PyList_AsTuple(live);
    Py_XDECREF(live);
    return locals == NULL ? NULL
                          : Py_BuildValue("(OOiN)", code->co_qualname, code->co_filename,
                                          compat_frame_line(frame), locals);
}

/* --- types that only Python knows ----------------------------------------------------------- */

static PyObject * /* a new reference */
rule_of(PyTypeObject *type)
{
    PyObject *rule = PyDict_GetItemWithError(rules, (PyObject *)type);
    if (rule != NULL || PyErr_Occurred() || content_rule == NULL) {
        if (rule == NULL && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "set_key_rules must be called first");
        }
        return Py_XNewRef(rule);
    }
    rule = PyObject_CallOneArg(content_rule, (PyObject *)type);
    if (rule == NULL) {
        return NULL;
    }
    if (!PyTuple_CheckExact(rule) || PyTuple_GET_SIZE(rule) != 2) {
        PyErr_SetString(PyExc_TypeError, "a rule is a pair");
        Py_CLEAR(rule);
        return NULL;
    }
    int known = type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE ? 1 : is_global((PyObject *)type);
    if (known < 0 || (known && PyDict_SetItem(rules, (PyObject *)type, rule) < 0)) {
        Py_CLEAR(rule);
    }
    return rule;
}

/* What its class was made of is told with an instance. */
static int
put_type_of(Key *key, PyObject *o)
{
    return put_tag(key, 'X') < 0 ? -1 : put_class(key, (PyObject *)Py_TYPE(o));
}

static int
put_slots_and_dict(Key *key, PyObject *o, PyObject *how)
{
    PyObject *slots = PyTuple_GET_ITEM(how, 0), *left_out = PyTuple_GET_ITEM(how, 1);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(slots); i++) {
        PyObject *slot = PyTuple_GET_ITEM(slots, i);
        PyObject *value = Py_TYPE(slot)->tp_descr_get(slot, o, (PyObject *)Py_TYPE(o));
        if (value == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        int rc = key_put(key, value);
        Py_XDECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    if (Py_TYPE(o)->tp_dictoffset == 0) {
        return put_tag(key, '.');
    }
    PyObject *dict = PyObject_GenericGetDict(o, NULL);
    if (dict == NULL) {
        return -1;
    }
    if (Py_REFCNT(dict) > 2) { /* `vars(o)`: somebody else can change it */
        int again = met(key, dict);
        if (again != 0) {
            Py_DECREF(dict);
            return again < 0 ? -1 : put_tag(key, '.');
        }
    }
    Py_ssize_t at = 0;
    PyObject *name, *value;
    int rc = 0;
    while (rc == 0 && PyDict_Next(dict, &at, &name, &value)) {
        int skip = PySet_GET_SIZE(left_out) > 0 ? PySet_Contains(left_out, name) : 0;
        rc = skip < 0 ? -1 : skip ? 0 : key_put(key, name) < 0 || key_put(key, value) < 0 ? -1 : 0;
    }
    Py_DECREF(dict);
    return rc < 0 ? -1 : put_tag(key, '.');
}

static int
put_parts(Key *key, PyObject *o, PyObject *parts)
{
    if (parts == Py_None) {
        return unkeyable_because(key, o, "cannot be told by what it holds just now");
    }
    if (!PyTuple_CheckExact(parts)) {
        PyErr_Format(PyExc_TypeError, "the parts of a %.200s object are no tuple",
                     Py_TYPE(o)->tp_name);
        return -1;
    }
    return put_type_of(key, o) < 0 ? -1 : key_put(key, parts);
}

/* A tensor or array: views on one memory are aliases. One that is too large, or needs a gradient,
   goes by address and version. */
static int
put_memory(Key *key, PyObject *o, PyObject *parts)
{
    if (parts == Py_None) {
        PyObject *version = PyObject_GetAttr(o, str_version);
        if (version == NULL) {
            PyErr_Clear();
            return unkeyable_because(key, o, "is too large to be compared, or not plain memory");
        }
        int rc = put_address(key, 'V', o) < 0 ? -1 : key_put(key, version);
        Py_DECREF(version);
        return rc;
    }
    void *memory = PyLong_AsVoidPtr(PyTuple_GET_ITEM(parts, 0));
    if (memory == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (put_type_of(key, o) < 0 || (memory != NULL && met(key, memory) < 0)) {
        return -1;
    }
    return put_items(key, ((PyTupleObject *)parts)->ob_item + 1, PyTuple_GET_SIZE(parts) - 1);
}

static int
put_by_rule(Key *key, PyObject *o, int handler)
{
    PyObject *rule = rule_of(Py_TYPE(o));
    if (rule == NULL) {
        return -1;
    }
    long kind = PyLong_AsLong(PyTuple_GET_ITEM(rule, 0));
    PyObject *how = PyTuple_GET_ITEM(rule, 1), *parts = NULL;
    int rc = -1, again = 0;
    int changes = kind == BY_STATE || kind == BY_MEMORY || kind == BY_WORDS ||
                  (kind == BY_INSTANCE && PyTuple_GET_ITEM(how, 2) != Py_True);
    if (changes && (again = met(key, o)) != 0) {
        rc = again < 0 ? -1 : 0;
        goto done;
    }
    key->owned |= changes && !handler;
    if (kind == BY_VALUE || kind == BY_STATE || kind == BY_MEMORY) {
        parts = PyObject_CallOneArg(how, o);
        if (parts == NULL) {
            goto done;
        }
    }
    rc = kind == BY_IDENTITY   ? put_address(key, 'O', o)
         : kind == BY_WORDS    ? put_words(key, o)
         : kind == BY_INSTANCE ? (put_type_of(key, o) < 0 ? -1 : put_slots_and_dict(key, o, how))
         : kind == BY_MEMORY   ? put_memory(key, o, parts)
         : parts != NULL       ? put_parts(key, o, parts)
                               : unkeyable(key, o, how);
done:
    Py_XDECREF(parts);
    Py_DECREF(rule);
    return rc;
}

/* --- one object ----------------------------------------------------------------------------- */

static int
put_container(Key *key, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyTuple_Type) {
        return put_size(key, 't', PyTuple_GET_SIZE(o)) < 0
                   ? -1
                   : put_items(key, ((PyTupleObject *)o)->ob_item, PyTuple_GET_SIZE(o));
    }
    if (PyType_Check(o)) {
        return put_class(key, o);
    }
    if (type == &PyCFunction_Type || type == &PyCMethod_Type) {
        return put_builtin_method(key, o);
    }
    /* One reference is the caller's: what has one more is reached from one place, which is inside. */
    int outside = Py_REFCNT(o) <= 2 ? 0 : outside_has(key->outside, o);
    if (outside != 0) {
        if (outside > 0 && PyIter_Check(o)) {
            return unkeyable_because(key, o, "is an iterator that was handed to the model");
        }
        return outside < 0 ? -1 : put_address(key, 'O', o);
    }
    if (type == &PyMethod_Type) {
        return put_tag(key, 'B') < 0 || key_put(key, PyMethod_GET_SELF(o)) < 0
                   ? -1
                   : key_put(key, PyMethod_GET_FUNCTION(o));
    }
    if (type == &PyFrozenSet_Type) {
        return put_set(key, o);
    }
    int plain = type == &PyList_Type || type == &PyDict_Type || type == &PyCell_Type ||
                type == &PyFunction_Type || type == &PyGen_Type || type == &PySet_Type ||
                type == &PyByteArray_Type || type == &MessageType || type == &PerformType ||
                type == &PyRangeIter_Type;
    if (!plain) {
        return put_by_rule(key, o, 0);
    }
    int again = met(key, o);
    if (again != 0) {
        return again < 0 ? -1 : 0;
    }
    key->owned = 1;
    return type == &PyList_Type        ? put_list(key, o)
           : type == &PyRangeIter_Type ? put_words(key, o)
           : type == &PyDict_Type      ? put_dict(key, o)
           : type == &PyGen_Type       ? put_frame(key, (PyGenObject *)o)
           : type == &PyCell_Type      ? (put_tag(key, 'C') < 0 ? -1 : key_put(key, PyCell_GET(o)))
           : type == &PyFunction_Type  ? put_function(key, o)
           : type == &PySet_Type       ? put_set(key, o)
           : type == &MessageType      ? put_message(key, o)
           : type == &PerformType      ? unkeyable_because(key, o, "is half run")
                                       : (put_size(key, 'a', PyByteArray_GET_SIZE(o)) < 0
                                              ? -1
                                              : put_raw(key, PyByteArray_AS_STRING(o),
                                                        (size_t)PyByteArray_GET_SIZE(o)));
}

int
key_put(Key *key, PyObject *o)
{
    if (o == NULL) {
        return put_tag(key, '0');
    }
    int atom = put_atom(key, o);
    if (atom != 0) {
        return atom < 0 ? -1 : 0;
    }
    if (key->why != NULL) {
        return 0; /* unique already: what else it holds is of no importance */
    }
    if (key->depth >= MAX_DEPTH) {
        return unkeyable_because(key, o, "lies too deep in a structure to be compared");
    }
    if (key->n > MAX_BYTES) {
        return unkeyable_because(key, o, "is part of a state that is too large to be compared");
    }
    Py_INCREF(o);
    key->depth++;
    int rc = put_container(key, o);
    key->depth--;
    Py_DECREF(o);
    return rc;
}

/* A handler is the computation's own even where it can be reached from outside. */
int
key_put_handlers(Key *key, PyObject *segment)
{
    if (put_size(key, 'H', PyTuple_GET_SIZE(segment)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(segment); i++) {
        PyObject *handler = PyTuple_GET_ITEM(segment, i);
        int outside = outside_has(key->outside, handler);
        if (outside < 0 || (outside && put_address(key, 'O', handler) < 0) ||
            put_by_rule(key, handler, 1) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A multiply and a rotation a word, and the finalizer of MurmurHash3 (Appleby, public domain). */
unsigned long long
key_hash(const unsigned char *bytes, size_t n)
{
    unsigned long long h = n, word;
    for (size_t left = n; left > 0; left -= left < 8 ? left : 8, bytes += 8) {
        word = 0;
        memcpy(&word, bytes, left < 8 ? left : 8);
        word *= 0x9E3779B97F4A7C15ull;
        h ^= word ^ (word >> 29);
        h = ((h << 27) | (h >> 37)) * 0xD6E8FEB86659FD93ull;
    }
    h ^= h >> 33;
    h *= 0xFF51AFD7ED558CCDull;
    h ^= h >> 33;
    h *= 0xC4CEB9FE1A85EC53ull;
    return h ^ (h >> 33);
}

/* --- for Python ----------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    unsigned char *bytes;
    size_t n;
    PyObject *why;
    Kept kept;
    char owned;
} StateKey;

static void
state_key_dealloc(PyObject *op)
{
    StateKey *self = (StateKey *)op;
    PyObject_GC_UnTrack(op);
    PyMem_Free(self->bytes);
    Py_CLEAR(self->why);
    kept_clear(&self->kept);
    PyObject_GC_Del(op);
}

static int
state_key_traverse(PyObject *op, visitproc visit, void *arg)
{
    return kept_visit(&((StateKey *)op)->kept, visit, arg);
}

static int
state_key_clear(PyObject *op)
{
    kept_clear(&((StateKey *)op)->kept);
    return 0;
}

static Py_hash_t
state_key_hash(PyObject *op)
{
    StateKey *self = (StateKey *)op;
    Py_hash_t h = self->why != NULL ? (Py_hash_t)hash_address(self)
                                    : (Py_hash_t)key_hash(self->bytes, self->n);
    return h == -1 ? -2 : h;
}

static PyTypeObject StateKeyType;

static PyObject *
state_key_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, &StateKeyType) || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    StateKey *x = (StateKey *)a, *y = (StateKey *)b;
    int same = a == b || (x->why == NULL && y->why == NULL && x->n == y->n &&
                          memcmp(x->bytes, y->bytes, x->n) == 0);
    return PyBool_FromLong(same == (op == Py_EQ));
}

static PyObject *
state_key_why(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *why = ((StateKey *)op)->why;
    return Py_NewRef(why == NULL ? Py_None : why);
}

static PyObject *
state_key_owned(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((StateKey *)op)->owned);
}

static PyObject *
state_key_repr(PyObject *op)
{
    StateKey *self = (StateKey *)op;
    if (self->why != NULL) {
        return PyUnicode_FromFormat("<state key, unique: %U>", self->why);
    }
    char digits[17];
    snprintf(digits, sizeof(digits), "%016llx", key_hash(self->bytes, self->n));
    return PyUnicode_FromFormat("<state key %s>", digits);
}

static PyGetSetDef state_key_getset[] = {
    {"why_unique", state_key_why, NULL,
     "Why the key equals no other key, as a sentence; None where it says all by content.", NULL},
    {"owned", state_key_owned, NULL, "Does the state hold anything that can be changed?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject StateKeyType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.StateKey",
    .tp_doc = "What a suspended computation will do: two with equal keys have equal futures.",
    .tp_basicsize = sizeof(StateKey),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = state_key_dealloc,
    .tp_traverse = state_key_traverse,
    .tp_clear = state_key_clear,
    .tp_hash = state_key_hash,
    .tp_richcompare = state_key_compare,
    .tp_repr = state_key_repr,
    .tp_getset = state_key_getset,
};

static PyObject *
native_state_key(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *frames, *segment, *outside, *values;
    if (!PyArg_ParseTuple(args, "O!O!OO!", &PyTuple_Type, &frames, &PyTuple_Type, &segment,
                          &outside, &PyTuple_Type, &values)) {
        return NULL;
    }
    if (outside != Py_None && !Py_IS_TYPE(outside, &OutsideType)) {
        PyErr_SetString(PyExc_TypeError, "outside must be an Outside or None");
        return NULL;
    }
    StateKey *self = PyObject_GC_New(StateKey, &StateKeyType);
    if (self == NULL) {
        return NULL;
    }
    self->bytes = NULL;
    self->n = 0;
    self->why = NULL;
    self->kept = (Kept){NULL, 0, 0};
    self->owned = 0;
    Key key;
    key_begin(&key, outside, &self->kept);
    int rc = key_put_handlers(&key, segment);
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(frames); i++) {
        rc = key_put_frame(&key, PyTuple_GET_ITEM(frames, i));
    }
    if (rc == 0 && PyTuple_GET_SIZE(values) == 1 && PyTuple_GET_SIZE(frames) > 0) {
        rc = key_drops_value(PyTuple_GET_ITEM(frames, PyTuple_GET_SIZE(frames) - 1));
    }
    rc = rc < 0 ? -1 : rc > 0 ? put_tag(&key, '-') : key_put(&key, values);
    if (rc == 0) {
        self->bytes = key.bytes;
        self->n = key.n;
        self->why = key.why;
        self->owned = key.owned;
        key.bytes = NULL;
        key.why = NULL;
    }
    key_end(&key);
    PyObject_GC_Track((PyObject *)self);
    if (rc < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyObject *
set_key_rules(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *rule, *live;
    if (!PyArg_ParseTuple(args, "OO", &rule, &live)) {
        return NULL;
    }
    PyDict_Clear(rules);
    Py_XSETREF(content_rule, Py_NewRef(rule));
    Py_XSETREF(live_slots, Py_NewRef(live));
    Py_RETURN_NONE;
}

static PyMethodDef state_key_functions[] = {
    {"state_key", native_state_key, METH_VARARGS,
     "state_key(frames, handlers, outside, values): the StateKey of suspended frames that are about "
     "to be sent the values."},
    {"where", native_where, METH_O,
     "where(generator): (function, file, line, live locals as (name, value) pairs)."},
    {"set_key_rules", set_key_rules, METH_VARARGS,
     "set_key_rules(content_rule, live_slots): how instances of types that C does not know are "
     "written down, and which slots of a code object are live."},
    {NULL, NULL, 0, NULL},
};

int
state_key_ready(PyObject *module)
{
    rules = PyDict_New();
    liveness = PyDict_New();
    str_version = PyUnicode_InternFromString("_version");
    str_start = PyUnicode_InternFromString("start");
    str_stop = PyUnicode_InternFromString("stop");
    str_step = PyUnicode_InternFromString("step");
    if (rules == NULL || liveness == NULL || str_version == NULL || str_start == NULL ||
        str_stop == NULL || str_step == NULL || PyType_Ready(&StateKeyType) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, state_key_functions) < 0 ||
                   PyModule_AddObjectRef(module, "StateKey", (PyObject *)&StateKeyType) < 0
               ? -1
               : 0;
}
