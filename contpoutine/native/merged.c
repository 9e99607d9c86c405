/* merged.c: the loop of enumeration with merging.

   A *state* is a stack of suspended frames together with the value that it is about to be sent.
   Equal states (state_key.c) are one: each is resumed once, however many paths lead to it, and what
   is found is a graph, in the columns of contpoutine/infer/state_graph.py. A frame is keyed when it
   suspends, before any of its answers is sent; only what leads to a new state is kept.

   A call (`yield sub(args)`) whose arguments hold nothing that can be changed is a *procedure*: it
   is explored by itself, once for all of its callers, and each caller goes on once for each value
   that it can return. A procedure that calls itself, or a loop that comes back to a state, makes a
   cycle. A call that shares something with its caller is run on its caller's stack instead.

   As explorer.c this loop runs bare executions by itself: generators that yield samples and calls,
   with Messengers. Where a model does anything else it stops and says why, and the whole search is
   done by contpoutine/infer/merged.py, which is the reference. */

#include "explorer.h"
#include "state_key.h"
#include <math.h>

enum { FRONTIER, CHOICE, CALL, RETURN, PRUNED };

/* Why a step did not come to its end; no exception is set but for the first. */
enum { FAILED = -1, NOT_BARE = -2, NOT_SHARED = -3, TOO_MANY = -4 };

/* Frames that wait to be resumed by the states which refer to them. */
typedef struct Point {
    struct Point *previous, *next; /* all that are alive */
    Py_ssize_t users;
    Frames *frames;
    PyObject *segment, *msg; /* `msg` is None for a call that is waited for */
    PyObject *watch;         /* tensors in reach, with their versions; or NULL */
    PyObject *values;        /* of the site; NULL for a call */
    char mutable;            /* a value is an object that a model can change */
} Point;

typedef struct {
    double weight, priority;
    PyObject *site, *outcome;
    PyObject *sent; /* on the frontier: the value that it will be sent */
    Point *point;   /* on the frontier: the frames */
    int pick;
    int procedure, parent;
    int first_edge, edge_count, callee;
    char kind;
} State;

typedef struct {
    int target;
    double log_weight;
    PyObject *value;
} Edge;

typedef struct {
    int state;
    Edge edge;
} Answer;

typedef struct {
    int start;
    PyObject *returns; /* list of the distinct values it was seen to return */
    int *callers;
    Point **waiting; /* for each caller: its frames */
    Py_ssize_t n, room;
} Procedure;

typedef struct {
    unsigned long long hash;
    const unsigned char *bytes;
    size_t n;
    int id;
} Known;

typedef struct Chunk {
    struct Chunk *below;
    size_t used, room;
    unsigned char bytes[];
} Chunk;

typedef struct {
    PyObject_HEAD
    PyObject *driver, *outside, *base;
    PyObject *weak_references;
    PyObject *where; /* called with each new state, or NULL */
    int order, strict, share_calls, bounded;
    Py_ssize_t max_states;
    State *states;
    Edge *edges;
    Answer *answers; /* edges of calls, in the order of finding */
    Procedure *procedures;
    Py_ssize_t n_states, n_edges, n_answers, n_procedures;
    Py_ssize_t room_states, room_edges, room_answers, room_procedures;
    int *frontier; /* stack, ring or heap of states */
    Py_ssize_t head, n, room;
    Known *table;
    size_t table_mask, table_used;
    Chunk *chunks;
    Kept kept;
    Key key;
    Point points; /* head of the list */
    PyObject *passed; /* state -> tuple of (site, value) */
    PyObject *unique; /* why keys were unique -> how often */
    PyObject *why;    /* why the loop cannot go on */
    Py_ssize_t executions, resumed, hits;
    int at;
    int begun, failed;
} Merged;

static PyObject *str_body, *str_weigh, *str_keep, *str_clone, *str_differentiate, *str_parameters,
    *str_torch;
static PyObject *monotonic, *shared_iterator_error, *changed_in_place;

/* --- growing ------------------------------------------------------------------------------ */

static int
grow_to(void **column, Py_ssize_t *room, Py_ssize_t n, size_t width)
{
    if (n < *room) {
        return 0;
    }
    Py_ssize_t more = *room ? *room * 2 : 64;
    void *fresh = more > INT_MAX ? NULL : PyMem_Realloc(*column, (size_t)more * width);
    if (fresh == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    *column = fresh;
    *room = more;
    return 0;
}

#define GROW(self, name)                                                                           \
    grow_to((void **)&(self)->name, &(self)->room_##name, (self)->n_##name, sizeof(*(self)->name))

/* --- points ------------------------------------------------------------------------------- */

static Point *
new_point(Merged *self, Frames *frames, PyObject *segment, PyObject *msg, PyObject *values)
{
    Point *point = PyMem_Calloc(1, sizeof(Point));
    if (point == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    point->frames = frames;
    point->segment = Py_NewRef(segment);
    point->msg = Py_NewRef(msg);
    point->values = Py_XNewRef(values);
    point->next = self->points.next;
    point->previous = &self->points;
    self->points.next = point;
    if (point->next != NULL) {
        point->next->previous = point;
    }
    return point;
}

static void
point_free(Point *point)
{
    point->previous->next = point->next;
    if (point->next != NULL) {
        point->next->previous = point->previous;
    }
    frames_drop(point->frames);
    Py_XDECREF(point->segment);
    Py_XDECREF(point->msg);
    Py_XDECREF(point->watch);
    Py_XDECREF(point->values);
    PyMem_Free(point);
}

static void
point_release(Point *point)
{
    if (--point->users == 0) {
        point_free(point);
    }
}

/* There are no tensors before torch is there. */
static void
notice_torch(void)
{
    if (!watching) {
        watching = PyDict_GetItemWithError(PyImport_GetModuleDict(), str_torch) != NULL;
    }
}

/* What of the frames of a point is to be watched while it waits. */
static int
watch_point(Merged *self, Point *point)
{
    notice_torch();
    if (!watching && point->segment == self->base) {
        return 0;
    }
    if (point->segment != self->base || !holds_atoms_only(point->frames->gen)) {
        point->watch =
            watch_computation(&point->frames->gen, 1, point->segment, self->outside);
        if (point->watch == NULL && PyErr_Occurred()) {
            return FAILED;
        }
    }
    return watching ? frames_make_ready(point->frames->below, NULL, self->outside, self->base) : 0;
}

/* --- what is known ------------------------------------------------------------------------ */

static const unsigned char *
store(Merged *self, const unsigned char *bytes, size_t n)
{
    Chunk *chunk = self->chunks;
    if (chunk == NULL || chunk->room - chunk->used < n) {
        size_t room = chunk == NULL ? 4096 : chunk->room < (1 << 20) ? chunk->room * 4 : chunk->room;
        room = room < n ? n : room;
        chunk = PyMem_Malloc(sizeof(Chunk) + room);
        if (chunk == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        *chunk = (Chunk){.below = self->chunks, .room = room};
        self->chunks = chunk;
    }
    unsigned char *kept = chunk->bytes + chunk->used;
    memcpy(kept, bytes, n);
    chunk->used += n;
    return kept;
}

static int
grow_table(Merged *self)
{
    size_t size = self->table == NULL ? 64 : (self->table_mask + 1) * 2;
    Known *table = PyMem_Calloc(size, sizeof(Known));
    if (table == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (size_t i = 0; self->table != NULL && i <= self->table_mask; i++) {
        if (self->table[i].bytes != NULL) {
            size_t j = self->table[i].hash & (size - 1);
            while (table[j].bytes != NULL) {
                j = (j + 1) & (size - 1);
            }
            table[j] = self->table[i];
        }
    }
    PyMem_Free(self->table);
    self->table = table;
    self->table_mask = size - 1;
    return 0;
}

/* The id that was given to the key in the buffer, or `id` from now on. A unique key is nobody's. */
static int
id_of_key(Merged *self, int id)
{
    Key *key = &self->key;
    if (key->why != NULL) {
        PyObject *count = PyDict_GetItemWithError(self->unique, key->why);
        long n = count == NULL ? 0 : PyLong_AsLong(count);
        PyObject *more = PyErr_Occurred() ? NULL : PyLong_FromLong(n + 1);
        int rc = more == NULL ? -1 : PyDict_SetItem(self->unique, key->why, more);
        Py_XDECREF(more);
        return rc < 0 ? FAILED : id;
    }
    if ((self->table == NULL || self->table_used * 2 > self->table_mask) && grow_table(self) < 0) {
        return FAILED;
    }
    unsigned long long hash = key_hash(key->bytes, key->n);
    size_t i = hash & self->table_mask;
    for (; self->table[i].bytes != NULL; i = (i + 1) & self->table_mask) {
        Known *known = &self->table[i];
        if (known->hash == hash && known->n == key->n &&
            memcmp(known->bytes, key->bytes, key->n) == 0) {
            return known->id;
        }
    }
    const unsigned char *bytes = store(self, key->bytes, key->n);
    if (bytes == NULL) {
        return FAILED;
    }
    self->table[i] = (Known){.hash = hash, .bytes = bytes, .n = key->n, .id = id};
    self->table_used++;
    return id;
}

/* --- the frontier ------------------------------------------------------------------------- */

static int
before(Merged *self, int a, int b)
{
    double x = self->states[a].priority, y = self->states[b].priority;
    return x > y || (x == y && a < b);
}

static int
frontier_push(Merged *self, int state)
{
    if (self->n == self->room) {
        Py_ssize_t room = self->room ? self->room * 2 : 64;
        int *fresh = PyMem_Malloc((size_t)room * sizeof(int));
        if (fresh == NULL) {
            PyErr_NoMemory();
            return FAILED;
        }
        for (Py_ssize_t i = 0; i < self->n; i++) {
            fresh[i] = self->frontier[(self->head + i) % self->room];
        }
        PyMem_Free(self->frontier);
        self->frontier = fresh;
        self->head = 0;
        self->room = room;
    }
    Py_ssize_t i = self->n++;
    self->frontier[(self->head + i) % self->room] = state;
    if (self->order == LIKELY_FIRST) { /* a heap, whose head is 0 */
        int *heap = self->frontier;
        while (i > 0 && before(self, state, heap[(i - 1) / 2])) {
            heap[i] = heap[(i - 1) / 2];
            i = (i - 1) / 2;
        }
        heap[i] = state;
    }
    return 0;
}

static int
frontier_pop(Merged *self)
{
    Py_ssize_t last = --self->n;
    if (self->order == DEPTH_FIRST) {
        return self->frontier[(self->head + last) % self->room];
    }
    int first = self->frontier[self->head];
    if (self->order == BREADTH_FIRST) {
        self->head = (self->head + 1) % self->room;
        return first;
    }
    int *heap = self->frontier, moved = heap[last];
    Py_ssize_t i = 0, child;
    while ((child = 2 * i + 1) < last) {
        child += child + 1 < last && before(self, heap[child + 1], heap[child]);
        if (!before(self, heap[child], moved)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
    return first;
}

/* --- states and edges --------------------------------------------------------------------- */

static int
add_state(Merged *self, Point *point, int pick, PyObject *sent, int procedure, int parent,
          double priority)
{
    if (self->n_states >= self->max_states) {
        return TOO_MANY;
    }
    if (GROW(self, states) < 0) {
        return FAILED;
    }
    int id = (int)self->n_states++;
    self->states[id] = (State){
        .kind = FRONTIER,
        .point = point,
        .pick = pick,
        .sent = Py_NewRef(sent),
        .procedure = procedure,
        .parent = parent,
        .priority = priority,
        .callee = -1,
    };
    point->users++;
    if (frontier_push(self, id) < 0) {
        return FAILED;
    }
    if (self->where != NULL) {
        PyObject *done = PyObject_CallFunction(self->where, "iO", id, point->frames->gen);
        Py_XDECREF(done);
        if (done == NULL) {
            return FAILED;
        }
    }
    return id;
}

static int
add_edge(Merged *self, int target, double log_weight, PyObject *value)
{
    if (GROW(self, edges) < 0) {
        return FAILED;
    }
    self->edges[self->n_edges++] = (Edge){target, log_weight, Py_NewRef(value)};
    return 0;
}

/* --- keys --------------------------------------------------------------------------------- */

/* Everything of a state but the value that it is sent. */
static int
put_waiting(Merged *self, int procedure, Frames *frames, PyObject *segment, PyObject *msg)
{
    Key *key = &self->key;
    key_reset(key);
    if (key_put_int(key, 'Q', procedure) < 0 ||
        (PyTuple_GET_SIZE(segment) > 0 && key_put_handlers(key, segment) < 0)) {
        return FAILED;
    }
    for (; frames != NULL; frames = frames->below) {
        if (key_put_frame(key, frames->gen) < 0) {
            return FAILED;
        }
    }
    int again = msg == Py_None || PyTuple_GET_SIZE(segment) == 0 ? 0 : looks_back(segment);
    return again < 0 || (again && key_put(key, msg) < 0) ? FAILED : 0;
}

/* Is what the frames are sent of no importance? Nobody but the top one must see it. */
static int
is_dropped(Frames *frames, PyObject *segment)
{
    return PyTuple_GET_SIZE(segment) == 0 ? key_drops_value(frames->gen) : 0;
}

/* --- calls -------------------------------------------------------------------------------- */

/* A caller goes on with a value that its procedure returned. */
static int
add_answer(Merged *self, int caller, Point *point, Procedure *callee, int which)
{
    PyObject *value = PyList_GET_ITEM(callee->returns, which);
    int procedure = self->states[caller].procedure;
    if (put_waiting(self, procedure, point->frames, point->segment, point->msg) < 0) {
        return FAILED;
    }
    int dropped = is_dropped(point->frames, point->segment);
    if (dropped < 0 || (!dropped && key_put(&self->key, value) < 0)) {
        return FAILED;
    }
    int fresh = (int)self->n_states, target = id_of_key(self, fresh);
    if (target == fresh) {
        target = add_state(self, point, which, value, procedure, caller,
                           self->states[caller].priority + self->states[caller].weight);
    }
    else {
        self->hits++;
    }
    if (target < 0 || GROW(self, answers) < 0) {
        return target < 0 ? target : FAILED;
    }
    self->answers[self->n_answers++] = (Answer){caller, {target, 0.0, Py_NewRef(value)}};
    return 0;
}

/* May callers that do not know of each other be given this value? Each gets a copy of its own. */
static int
is_returnable(PyObject *value)
{
    if (is_atomic(value)) {
        return 1;
    }
    if (PyTuple_CheckExact(value)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
            if (!is_returnable(PyTuple_GET_ITEM(value, i))) {
                return 0;
            }
        }
        return 1;
    }
    return !watching || is_watched(value) == 1;
}

static PyObject *
copy_for_caller(Merged *self, PyObject *value)
{
    if (is_atomic(value)) {
        return Py_NewRef(value);
    }
    int watched = is_watched(value);
    if (watched != 0) {
        return watched < 0 ? NULL : PyObject_CallMethodNoArgs(value, str_clone);
    }
    PyObject *none = PyTuple_New(0), *copy = NULL, *no_handlers = NULL;
    if (none == NULL || fork_computation(&value, 1, none, self->outside, NULL, 1, &copy,
                                         &no_handlers) < 0) {
        copy = NULL;
    }
    Py_XDECREF(no_handlers);
    Py_XDECREF(none);
    return copy;
}

static int
add_procedure(Merged *self, Frames *frames, PyObject *segment, int caller)
{
    Point *point = new_point(self, frames, segment, Py_None, NULL);
    if (point == NULL) {
        frames_drop(frames);
        return FAILED;
    }
    if (GROW(self, procedures) < 0) {
        point_free(point);
        return FAILED;
    }
    int id = (int)self->n_procedures;
    self->procedures[id] = (Procedure){.returns = PyList_New(0)};
    if (self->procedures[id].returns == NULL) {
        point_free(point);
        return FAILED;
    }
    self->n_procedures++;
    double priority =
        caller < 0 ? 0.0 : self->states[caller].priority + self->states[caller].weight;
    int start = add_state(self, point, 0, Py_None, id, caller, priority);
    if (start < 0) {
        if (point->users == 0) {
            point_free(point);
        }
        return start;
    }
    self->procedures[id].start = start;
    return id;
}

/* The top frame has yielded a call. 1: it is a procedure, and `at` waits for it; 0: it has to be
   run on this stack. Takes the frames where it gives 1. */
static int
share_call(Merged *self, int at, Frames **top, PyObject *segment, PyObject **call)
{
    if (!self->share_calls || Py_REFCNT(*call) != 1 ||
        (segment != self->base && !only_shared(segment))) {
        return 0;
    }
    Key *key = &self->key;
    key_reset(key);
    if (key_put_int(key, 'E', 0) < 0 || key_put_handlers(key, segment) < 0) {
        return FAILED;
    }
    key->owned = 0;
    if (key_put_frame(key, *call) < 0) {
        return FAILED;
    }
    if (key->owned || key->why != NULL) {
        return 0;
    }
    int fresh = (int)self->n_procedures, id = id_of_key(self, fresh);
    if (id == fresh) {
        Frames *frames = frames_push(NULL, *call);
        *call = NULL;
        id = frames == NULL ? FAILED : add_procedure(self, frames, segment, at);
    }
    else if (id >= 0) {
        self->hits++;
    }
    if (id < 0) {
        return id;
    }
    Procedure *callee = &self->procedures[id];
    if (callee->n == callee->room) {
        Py_ssize_t room = callee->room, same = callee->room;
        if (grow_to((void **)&callee->callers, &room, callee->n, sizeof(int)) < 0 ||
            grow_to((void **)&callee->waiting, &same, callee->n, sizeof(Point *)) < 0) {
            return FAILED;
        }
        callee->room = room;
    }
    Point *point = new_point(self, *top, segment, Py_None, NULL);
    if (point == NULL) {
        return FAILED;
    }
    *top = NULL;
    point->users = 1; /* the procedure's: it may return something new at any time */
    if (watch_point(self, point) < 0) {
        point_free(point);
        return FAILED;
    }
    callee->callers[callee->n] = at;
    callee->waiting[callee->n++] = point;
    self->states[at].kind = CALL;
    self->states[at].callee = callee->start;
    for (int i = 0; i < PyList_GET_SIZE(callee->returns); i++) {
        int rc = add_answer(self, at, point, callee, i);
        if (rc < 0) {
            return rc;
        }
    }
    return 1;
}

/* A state has come to the end of its procedure. */
static int
arrive(Merged *self, int at, PyObject *value)
{
    State *state = &self->states[at];
    int of = state->procedure;
    if (of != 0 && !is_returnable(value)) {
        return NOT_SHARED;
    }
    Key *key = &self->key;
    key_reset(key);
    if (key_put_int(key, 'V', of) < 0 || key_put(key, value) < 0) {
        return FAILED;
    }
    Procedure *procedure = &self->procedures[of];
    int fresh = (int)PyList_GET_SIZE(procedure->returns), which = id_of_key(self, fresh);
    if (which < 0 || (which == fresh && PyList_Append(procedure->returns, value) < 0)) {
        return FAILED;
    }
    state->kind = RETURN;
    state->outcome = Py_NewRef(PyList_GET_ITEM(procedure->returns, which));
    self->executions += of == 0;
    for (Py_ssize_t i = 0; which == fresh && i < procedure->n; i++) {
        int rc = add_answer(self, procedure->callers[i], procedure->waiting[i], procedure, which);
        if (rc < 0) {
            return rc;
        }
        procedure = &self->procedures[of];
    }
    return 0;
}

/* --- stopping ----------------------------------------------------------------------------- */

static int
not_bare(Merged *self, const char *why)
{
    if (PyErr_Occurred()) {
        PyErr_Clear();
    }
    Py_XSETREF(self->why, PyUnicode_FromString(why));
    return self->why == NULL ? FAILED : NOT_BARE;
}

/* The exception in flight says that something cannot be cloned. */
static int
not_cloned(Merged *self)
{
    if (self->strict || !PyErr_ExceptionMatches(err_capture) ||
        PyErr_ExceptionMatches(shared_iterator_error)) {
        return FAILED;
    }
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    Py_XSETREF(self->why, PyObject_Str(error));
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return self->why == NULL ? FAILED : NOT_BARE;
}

/* An exception has left the top frame, or must be thrown into it. At the bottom of the model it is
   the model's own; below lie frames that may catch it. */
static int
thrown(Merged *self, int at, Frames *below)
{
    if (self->states[at].procedure != 0) {
        PyErr_Clear();
        return NOT_SHARED;
    }
    return below == NULL ? FAILED : not_bare(self, "a called model raised an exception");
}

/* --- sites -------------------------------------------------------------------------------- */

static int
add_passed(Merged *self, int at, Message *msg)
{
    PyObject *value = msg->field[F_VALUE];
    value = is_atomic(value) ? Py_NewRef(value)
                             : PyObject_CallMethodOneArg(self->driver, str_keep, value);
    PyObject *id = PyLong_FromLong(at);
    PyObject *pair = value == NULL || id == NULL
                         ? NULL
                         : Py_BuildValue("((OO))", msg->field[F_NAME], value);
    PyObject *earlier = pair == NULL ? NULL : PyDict_GetItemWithError(self->passed, id);
    PyObject *all = pair == NULL || PyErr_Occurred() ? NULL
                    : earlier == NULL                ? Py_NewRef(pair)
                                                     : PySequence_Concat(earlier, pair);
    int rc = all == NULL ? FAILED : PyDict_SetItem(self->passed, id, all);
    Py_XDECREF(all);
    Py_XDECREF(pair);
    Py_XDECREF(id);
    Py_XDECREF(value);
    return rc < 0 ? FAILED : 0;
}

/* Where the values of a site lead: the edges of `at`, and the states that nobody has met yet. */
static int
add_choices(Merged *self, int at, Point *point, PyObject *log_probs, PyObject *recorded,
            double scale)
{
    Key *key = &self->key;
    int procedure = self->states[at].procedure;
    double priority = self->states[at].priority + self->states[at].weight;
    int dropped = is_dropped(point->frames, point->segment);
    if (dropped < 0 ||
        put_waiting(self, procedure, point->frames, point->segment, point->msg) < 0) {
        return FAILED;
    }
    if (point->mutable && key->why == NULL) {
        key->why = PyUnicode_FromString("a choice offers values that the model can change");
        if (key->why == NULL) {
            return FAILED;
        }
    }
    size_t n = key->n;
    int n_met = key->n_met;
    self->states[at].first_edge = (int)self->n_edges;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(log_probs); i++) {
        double log_prob = PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(log_probs, i));
        if (!(log_prob > -Py_HUGE_VAL)) {
            continue;
        }
        PyObject *value = PyTuple_GET_ITEM(point->values, i);
        key->n = n;
        if (key->n_met != n_met &&
            put_waiting(self, procedure, point->frames, point->segment, point->msg) < 0) {
            return FAILED; /* the last value had parts that were numbered */
        }
        if (!dropped && key_put(key, value) < 0) {
            return FAILED;
        }
        log_prob *= scale;
        int fresh = (int)self->n_states, target = id_of_key(self, fresh);
        if (target == fresh) {
            target = add_state(self, point, (int)i, value, procedure, at, priority + log_prob);
        }
        else {
            self->hits++;
        }
        if (target < 0) {
            return target;
        }
        if (add_edge(self, target, log_prob, PyTuple_GET_ITEM(recorded, i)) < 0) {
            return FAILED;
        }
    }
    self->states[at].edge_count = (int)self->n_edges - self->states[at].first_edge;
    return 0;
}

/* A log-weight is a number that a choice may have. */
static int
check_choices(Message *msg, PyObject *values, PyObject *log_probs)
{
    int possible = 0, good = values != NULL && log_probs != NULL && PyTuple_CheckExact(values) &&
                             PyTuple_CheckExact(log_probs) &&
                             PyTuple_GET_SIZE(values) == PyTuple_GET_SIZE(log_probs);
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(log_probs); i++) {
        PyObject *log_prob = PyTuple_GET_ITEM(log_probs, i);
        good = PyFloat_Check(log_prob);
        possible |= good && PyFloat_AS_DOUBLE(log_prob) > -Py_HUGE_VAL;
    }
    if (!good) {
        PyErr_Format(PyExc_TypeError,
                     "the choices of site %R are not two tuples of one length, values and floats",
                     msg->field[F_NAME]);
        return FAILED;
    }
    if (!possible) {
        PyErr_Format(err_empty_support, "site %R has no value of positive probability",
                     msg->field[F_NAME]);
        return FAILED;
    }
    return 0;
}

/* An execution waits at an undecided site. Takes the frames. */
static int
suspend(Merged *self, int at, Frames **top, PyObject *segment, Message *msg)
{
    PyObject *values = NULL, *log_probs = NULL, *offered = NULL, *recorded = NULL;
    double scale;
    int rc = FAILED;
    int scalar = scale_for(self->driver, msg, &scale, &self->bounded) < 0
                     ? -1
                     : choices_at(msg, &values, &log_probs, &offered);
    if (scalar <= 0) {
        if (scalar == 0) {
            rc = not_bare(self, "a site is batched");
        }
        goto done;
    }
    if (check_choices(msg, values, log_probs) < 0) {
        goto done;
    }
    notice_torch();
    if (offered != msg->field[F_FN] && watching) {
        PyObject *done = PyObject_CallMethodObjArgs(self->driver, str_differentiate,
                                                    (PyObject *)msg, log_probs, NULL);
        Py_XDECREF(done);
        if (done == NULL) {
            goto done;
        }
    }
    recorded = recorded_values(values);
    Point *point = recorded == NULL ? NULL
                                    : new_point(self, *top, segment, (PyObject *)msg, values);
    if (point == NULL) {
        goto done;
    }
    *top = NULL;
    point->mutable = recorded != values;
    State *state = &self->states[at];
    state->kind = CHOICE;
    state->site = Py_NewRef(msg->field[F_NAME]);
    if (PyUnicode_CheckExact(state->site)) {
        PyUnicode_InternInPlace(&state->site);
    }
    point->users = 1; /* until it is known who else needs it */
    rc = add_choices(self, at, point, log_probs, recorded, scale);
    if (rc == 0 && point->users > 1) {
        rc = watch_point(self, point);
    }
    point_release(point);
done:
    Py_XDECREF(offered);
    Py_XDECREF(recorded);
    return rc;
}

/* Is it the weight of a factor that was given as a tensor? Gradients may flow through it. */
static int
has_tensor(PyObject *fn)
{
    PyObject *parameters = NULL;
    if (!watching || fn == NULL || compat_lookup_attr(fn, str_parameters, &parameters) <= 0) {
        PyErr_Clear();
        return 0;
    }
    int found = PyTuple_CheckExact(parameters) && PyTuple_GET_SIZE(parameters) == 1 &&
                is_watched(PyTuple_GET_ITEM(parameters, 0)) == 1;
    Py_DECREF(parameters);
    PyErr_Clear();
    return found;
}

static int
weigh_in_python(Merged *self, Message *msg, double *weight)
{
    PyObject *said = PyObject_CallMethodOneArg(self->driver, str_weigh, (PyObject *)msg);
    *weight = said == NULL ? -1.0 : PyFloat_AsDouble(said);
    Py_XDECREF(said);
    return PyErr_Occurred() ? FAILED : 0;
}

enum { SETTLED = 0, SEND = 1 };

/* A frame has yielded a sample. SEND: `*value` is what it gets; SETTLED: the state is expanded. */
static int
perform(Merged *self, int at, Frames **top, PyObject *segment, Message *msg, PyObject **value)
{
    if (msg->field[F_NAME] == NULL || !PyUnicode_Check(msg->field[F_NAME])) {
        return not_bare(self, "a site has no name");
    }
    msg->performed = 1;
    int stopped = 0;
    if (pass_up(segment, msg, &stopped) < 0) {
        return not_bare(self, "a handler raised an exception");
    }
    if (msg->field[F_TYPE] != str_sample || stopped) {
        return not_bare(self, "a handler hides a site, or changes its type");
    }
    int decided = is_decided(msg);
    if (decided < 0) {
        return FAILED;
    }
    if (!decided) {
        int rc = suspend(self, at, top, segment, msg);
        if (rc == FAILED) {
            blame(self->driver, msg);
        }
        return rc;
    }
    if (msg->field[F_VALUE] == NULL) {
        msg->field[F_VALUE] = Py_NewRef(Py_None);
    }
    if (is_computed(msg)) {
        if (add_passed(self, at, msg) < 0) {
            return FAILED;
        }
    }
    else if (msg->field[F_VALUE] != Py_None || is_true(msg->field[F_IS_OBSERVED]) == 1) {
        double weight;
        int rc = has_tensor(msg->field[F_FN])
                     ? weigh_in_python(self, msg, &weight)
                     : weigh(self->driver, msg, &weight, &self->bounded);
        if (rc < 0) {
            blame(self->driver, msg);
            return FAILED;
        }
        self->states[at].weight += weight;
        if (self->states[at].weight == -Py_HUGE_VAL) {
            self->states[at].kind = PRUNED;
            return SETTLED;
        }
    }
    *value = pass_down(segment, msg);
    return *value == NULL ? not_bare(self, "a handler raised an exception") : SEND;
}

/* --- one state ---------------------------------------------------------------------------- */

/* What a frame has yielded is given up, unperformed. */
static void
drop_request(PyObject *request)
{
    message_quiet(+1);
    Py_XDECREF(request);
    message_quiet(-1);
}

static void
pop_frame(Frames **top)
{
    Frames *ended = *top;
    *top = ended->below;
    Py_DECREF(ended->gen);
    PyMem_Free(ended);
}

/* Run until the state waits at a choice or a call, or has returned. Takes `value`. */
static int
run_on(Merged *self, int at, Frames **top, PyObject *value)
{
    for (;;) {
        PyObject *request = NULL;
        PySendResult sent = PyIter_Send((*top)->gen, value, &request);
        Py_CLEAR(value);
        if (sent == PYGEN_ERROR) {
            message_raise_dropped();
            return thrown(self, at, (*top)->below);
        }
        if (message_raise_dropped() < 0 ||
            (sent == PYGEN_RETURN && Message_CheckExact(request) &&
             !((Message *)request)->performed && PyObject_IsTrue(request) < 0)) {
            PyErr_Clear();
            drop_request(request);
            return not_bare(self, "a request was lost");
        }
        if (sent == PYGEN_RETURN) {
            pop_frame(top);
            if (*top != NULL) {
                if (frames_own_top(top, self->outside, self->base) < 0) {
                    Py_DECREF(request);
                    return not_cloned(self);
                }
                value = request;
                continue;
            }
            int rc = arrive(self, at, request);
            Py_DECREF(request);
            return rc;
        }
        PyObject *segment;
        if (PyContextVar_Get(ambient_var, NULL, &segment) < 0) {
            drop_request(request);
            return FAILED;
        }
        int rc = SEND;
        if (PyGen_CheckExact(request) && compat_gen_is_created((PyGenObject *)request)) {
            rc = share_call(self, at, top, segment, &request);
            if (rc == 0) {
                Frames *called = frames_push(*top, request);
                request = NULL;
                if (called == NULL) {
                    rc = FAILED;
                }
                else {
                    *top = called;
                    value = Py_NewRef(Py_None);
                    rc = SEND;
                }
            }
            else if (rc > 0) {
                rc = SETTLED;
            }
        }
        else if (Message_CheckExact(request) &&
                 ((Message *)request)->field[F_TYPE] == str_sample &&
                 !((Message *)request)->performed &&
                 (segment == self->base || only_messengers(segment))) {
            rc = perform(self, at, top, segment, (Message *)request, &value);
        }
        else {
            rc = not_bare(self, "the model performs effects that are no samples");
        }
        Py_DECREF(segment);
        drop_request(request);
        if (rc != SEND) {
            return rc;
        }
    }
}

/* Frames to resume a state with: those of its point where nobody else needs them, or copies. */
static int
take_frames(Merged *self, Point *point, Frames **frames, PyObject **segment, PyObject **msg)
{
    if (point->watch != NULL || (point->frames->below != NULL && point->frames->below->watched)) {
        int holds = point->watch == NULL ? 1 : watch_holds(point->watch);
        if (holds > 0) {
            holds = frames_watch_holds(point->frames->below);
        }
        if (holds < 0) {
            return FAILED;
        }
        if (!holds) {
            PyErr_SetObject(err_capture, changed_in_place);
            return not_cloned(self);
        }
    }
    if (point->users == 1) {
        *frames = point->frames;
        point->frames = NULL;
        *segment = Py_NewRef(point->segment);
        *msg = Py_NewRef(point->msg);
        return 0;
    }
    Frames *copy;
    PyObject *segment_copy, *msg_copy;
    int whole = point->mutable || (point->segment != self->base && !only_shared(point->segment));
    if (frames_fork(point->frames, point->segment, point->msg, whole, NULL, self->outside,
                    self->base, &copy, &segment_copy, &msg_copy) < 0) {
        return not_cloned(self);
    }
    *frames = point->frames; /* the copy is kept, the original goes on */
    point->frames = copy;
    *segment = point->segment;
    point->segment = segment_copy;
    *msg = point->msg;
    point->msg = msg_copy;
    return 0;
}

/* Tell the handlers what the frames are about to be sent. Takes `value`; gives what is sent. */
static PyObject *
tell_handlers(Merged *self, PyObject *segment, PyObject *waits, PyObject *value)
{
    if (segment == self->base &&
        (waits == Py_None || ((Message *)waits)->field[F_CONTINUATION] == NULL)) {
        return value;
    }
    if (set_ambient(segment) < 0) {
        Py_DECREF(value);
        return NULL;
    }
    if (waits == Py_None) {
        return value;
    }
    Message *msg = (Message *)waits;
    Py_XSETREF(msg->field[F_VALUE], value);
    return pass_down(segment, msg);
}

static int
expand(Merged *self, int at)
{
    State *state = &self->states[at];
    Point *point = state->point;
    PyObject *sent = state->sent, *segment = NULL, *msg = NULL, *value = NULL;
    Frames *frames = NULL;
    int pick = state->pick;
    self->at = at;
    self->resumed++;
    int rc = take_frames(self, point, &frames, &segment, &msg);
    if (rc == 0) {
        value = point->values != NULL
                    ? value_for_model(self->driver, point->values, point->mutable, (Message *)msg,
                                      pick)
                    : copy_for_caller(self, sent);
        if (value == NULL) {
            rc = point->values != NULL || !PyErr_ExceptionMatches(err_capture) ? FAILED
                                                                               : NOT_SHARED;
        }
    }
    state->point = NULL;
    state->sent = NULL;
    Py_DECREF(sent);
    point_release(point);
    if (rc == 0) {
        value = tell_handlers(self, segment, msg, value);
        rc = value != NULL ? run_on(self, at, &frames, value)
                           : not_bare(self, "a handler raised an exception");
    }
    if (rc == NOT_SHARED) {
        PyErr_Clear();
    }
    PyObject *type, *error, *traceback, *ambient;
    PyErr_Fetch(&type, &error, &traceback);
    if (PyContextVar_Get(ambient_var, NULL, &ambient) == 0) {
        if (ambient != self->base && set_ambient(self->base) < 0) {
            rc = rc < 0 ? rc : FAILED;
        }
        Py_XDECREF(ambient);
    }
    frames_drop(frames);
    Py_XDECREF(segment);
    Py_XDECREF(msg);
    if (type != NULL) {
        PyErr_Restore(type, error, traceback);
    }
    return rc;
}

static int
begin(Merged *self)
{
    self->begun = 1;
    PyObject *body = PyObject_CallMethodNoArgs(self->driver, str_body);
    Frames *frames = body == NULL ? NULL : frames_push(NULL, body);
    int root = frames == NULL ? FAILED : add_procedure(self, frames, self->base, -1);
    return root < 0 ? root : 0;
}

static int
past(double deadline)
{
    PyObject *now = PyObject_CallNoArgs(monotonic);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    return PyErr_Occurred() ? FAILED : seconds >= deadline;
}

enum { BUDGET = 0, DONE = 1 };

static int
explore(Merged *self, Py_ssize_t max_executions, double deadline, Py_ssize_t max_resumed)
{
    if (!self->begun) {
        int rc = begin(self);
        if (rc < 0) {
            return rc;
        }
    }
    while (self->n > 0) {
        if (self->executions == max_executions || self->resumed == max_resumed) {
            return BUDGET;
        }
        if (deadline < Py_HUGE_VAL) {
            int late = past(deadline);
            if (late != 0) {
                return late < 0 ? FAILED : BUDGET;
            }
        }
        if ((self->resumed & 1023) == 1023 && PyErr_CheckSignals() < 0) {
            return FAILED;
        }
        int rc = expand(self, frontier_pop(self));
        if (rc < 0) {
            return rc;
        }
    }
    return DONE;
}

/* --- for Python --------------------------------------------------------------------------- */

static PyObject *
merged_run(PyObject *op, PyObject *args)
{
    Merged *self = (Merged *)op;
    Py_ssize_t max_executions = -1, max_resumed = -1;
    double deadline = Py_HUGE_VAL;
    if (!PyArg_ParseTuple(args, "|ndn", &max_executions, &deadline, &max_resumed)) {
        return NULL;
    }
    if (self->failed) {
        PyErr_SetString(PyExc_RuntimeError, "this search has failed and cannot go on");
        return NULL;
    }
    message_machines(+1);
    int rc = explore(self, max_executions, deadline, max_resumed);
    message_machines(-1);
    self->failed = rc < 0;
    return rc == FAILED ? NULL : PyLong_FromLong(rc);
}

static PyObject *
list_of(Merged *self, PyObject *(*get)(State *))
{
    PyObject *list = PyList_New(self->n_states);
    for (Py_ssize_t i = 0; list != NULL && i < self->n_states; i++) {
        PyObject *o = get(&self->states[i]);
        PyList_SET_ITEM(list, i, Py_NewRef(o == NULL ? Py_None : o));
    }
    return list;
}

static PyObject *
site_of(State *state)
{
    return state->site;
}

static PyObject *
outcome_of(State *state)
{
    return state->outcome;
}

/* The answers of each call side by side, behind the edges of choices. */
static int
lay_out(Merged *self, int *first, int *count, Edge **calls)
{
    *calls = PyMem_Calloc((size_t)self->n_answers + 1, sizeof(Edge));
    if (*calls == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (Py_ssize_t i = 0; i < self->n_states; i++) {
        first[i] = self->states[i].first_edge;
        count[i] = self->states[i].kind == CALL ? 0 : self->states[i].edge_count;
    }
    for (Py_ssize_t i = 0; i < self->n_answers; i++) {
        count[self->answers[i].state]++;
    }
    int next = (int)self->n_edges;
    for (Py_ssize_t i = 0; i < self->n_states; i++) {
        if (self->states[i].kind == CALL) {
            first[i] = next;
            next += count[i];
            count[i] = 0;
        }
    }
    for (Py_ssize_t i = 0; i < self->n_answers; i++) {
        int state = self->answers[i].state;
        (*calls)[first[state] + count[state]++ - self->n_edges] = self->answers[i].edge;
    }
    return 0;
}

static PyObject *
merged_columns(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Merged *self = (Merged *)op;
    Py_ssize_t n = self->n_states, m = self->n_edges + self->n_answers;
    PyObject *kind = PyByteArray_FromStringAndSize(NULL, n);
    PyObject *weight = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(double));
    PyObject *ints[3] = {NULL, NULL, NULL};
    PyObject *target = PyBytes_FromStringAndSize(NULL, m * (Py_ssize_t)sizeof(int));
    PyObject *log_weight = PyBytes_FromStringAndSize(NULL, m * (Py_ssize_t)sizeof(double));
    PyObject *values = PyList_New(m), *result = NULL;
    Edge *calls = NULL;
    int good = kind != NULL && weight != NULL && target != NULL && log_weight != NULL &&
               values != NULL;
    for (int i = 0; i < 3; i++) {
        ints[i] = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(int));
        good = good && ints[i] != NULL;
    }
    if (!good) {
        goto done;
    }
    int *first = (int *)PyBytes_AS_STRING(ints[0]), *count = (int *)PyBytes_AS_STRING(ints[1]);
    int *callee = (int *)PyBytes_AS_STRING(ints[2]);
    if (lay_out(self, first, count, &calls) < 0) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        State *state = &self->states[i];
        PyByteArray_AS_STRING(kind)[i] = state->kind;
        ((double *)PyBytes_AS_STRING(weight))[i] = state->weight;
        callee[i] = state->callee;
    }
    for (Py_ssize_t i = 0; i < m; i++) {
        Edge *edge = i < self->n_edges ? &self->edges[i] : &calls[i - self->n_edges];
        ((int *)PyBytes_AS_STRING(target))[i] = edge->target;
        ((double *)PyBytes_AS_STRING(log_weight))[i] = edge->log_weight;
        PyList_SET_ITEM(values, i, Py_NewRef(edge->value));
    }
    result = Py_BuildValue("(OONOOONOOOO)", kind, weight, list_of(self, site_of), ints[0], ints[1],
                           ints[2], list_of(self, outcome_of), target, log_weight, values,
                           self->passed);
done:
    PyMem_Free(calls);
    Py_XDECREF(kind);
    Py_XDECREF(weight);
    Py_XDECREF(target);
    Py_XDECREF(log_weight);
    Py_XDECREF(values);
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(ints[i]);
    }
    return result;
}

/* The choices that led to the state that was resumed last, as (site, value) pairs. */
static PyObject *
merged_path(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Merged *self = (Merged *)op;
    PyObject *path = PyList_New(0);
    int at = self->n_states == 0 ? -1 : self->at;
    while (path != NULL && at >= 0 && self->states[at].parent >= 0) {
        State *parent = &self->states[self->states[at].parent];
        for (int i = 0; path != NULL && i < parent->edge_count && parent->kind == CHOICE; i++) {
            Edge *edge = &self->edges[parent->first_edge + i];
            if (edge->target == at) {
                PyObject *pair = PyTuple_Pack(2, parent->site, edge->value);
                if (pair == NULL || PyList_Append(path, pair) < 0) {
                    Py_CLEAR(path);
                }
                Py_XDECREF(pair);
                break;
            }
        }
        at = self->states[at].parent;
    }
    if (path != NULL && PyList_Reverse(path) < 0) {
        Py_CLEAR(path);
    }
    return path;
}

static void
forget(Merged *self)
{
    for (Py_ssize_t i = 0; i < self->n_procedures; i++) {
        for (Py_ssize_t k = 0; k < self->procedures[i].n; k++) {
            point_release(self->procedures[i].waiting[k]);
        }
        self->procedures[i].n = 0;
    }
    for (Py_ssize_t i = 0; i < self->n_states; i++) {
        if (self->states[i].point != NULL) {
            Point *point = self->states[i].point;
            self->states[i].point = NULL;
            point_release(point);
        }
        Py_CLEAR(self->states[i].sent);
    }
    self->n = 0;
}

static PyObject *
merged_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ((Merged *)op)->failed = 1;
    forget((Merged *)op);
    Py_RETURN_NONE;
}

static PyObject *
merged_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *driver, *outside, *base, *where;
    int order, strict, share_calls;
    Py_ssize_t max_states;
    if (!PyArg_ParseTuple(args, "OO!O!ippnO", &driver, &OutsideType, &outside, &PyTuple_Type, &base,
                          &order, &strict, &share_calls, &max_states, &where)) {
        return NULL;
    }
    if (ambient_var == NULL || shared_iterator_error == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "set_types must be called first");
        return NULL;
    }
    Merged *self = (Merged *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->driver = Py_NewRef(driver);
    self->outside = Py_NewRef(outside);
    self->base = Py_NewRef(base);
    self->where = where == Py_None ? NULL : Py_NewRef(where);
    self->order = order;
    self->strict = strict;
    self->share_calls = share_calls;
    self->bounded = 1;
    self->max_states = max_states < 0 ? INT_MAX : max_states;
    key_begin(&self->key, self->outside, &self->kept);
    self->passed = PyDict_New();
    self->unique = PyDict_New();
    if (self->passed == NULL || self->unique == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
merged_traverse(Merged *self, visitproc visit, void *arg)
{
    Py_VISIT(self->driver);
    Py_VISIT(self->outside);
    Py_VISIT(self->base);
    Py_VISIT(self->where);
    Py_VISIT(self->passed);
    Py_VISIT(self->unique);
    for (Py_ssize_t i = 0; i < self->n_states; i++) {
        Py_VISIT(self->states[i].outcome);
        Py_VISIT(self->states[i].sent);
    }
    for (Py_ssize_t i = 0; i < self->n_edges; i++) {
        Py_VISIT(self->edges[i].value);
    }
    for (Py_ssize_t i = 0; i < self->n_answers; i++) {
        Py_VISIT(self->answers[i].edge.value);
    }
    for (Py_ssize_t i = 0; i < self->n_procedures; i++) {
        Py_VISIT(self->procedures[i].returns);
    }
    /* Not what waits: a collector would run the `finally` blocks of generators that it finds in a
       cycle. They are dropped, without running, with whoever holds the search. */
    return kept_visit(&self->kept, visit, arg);
}

static int
merged_clear(Merged *self)
{
    self->failed = 1;
    forget(self);
    while (self->points.next != NULL) {
        point_free(self->points.next);
    }
    for (Py_ssize_t i = 0; i < self->n_states; i++) {
        Py_CLEAR(self->states[i].site);
        Py_CLEAR(self->states[i].outcome);
    }
    for (Py_ssize_t i = 0; i < self->n_edges; i++) {
        Py_CLEAR(self->edges[i].value);
    }
    for (Py_ssize_t i = 0; i < self->n_answers; i++) {
        Py_CLEAR(self->answers[i].edge.value);
    }
    for (Py_ssize_t i = 0; i < self->n_procedures; i++) {
        Py_CLEAR(self->procedures[i].returns);
        PyMem_Free(self->procedures[i].callers);
        PyMem_Free(self->procedures[i].waiting);
    }
    self->n_states = self->n_edges = self->n_answers = self->n_procedures = 0;
    kept_clear(&self->kept);
    Py_CLEAR(self->driver);
    Py_CLEAR(self->outside);
    Py_CLEAR(self->base);
    Py_CLEAR(self->where);
    Py_CLEAR(self->passed);
    Py_CLEAR(self->unique);
    Py_CLEAR(self->why);
    return 0;
}

static void
merged_dealloc(Merged *self)
{
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    merged_clear(self);
    key_end(&self->key);
    while (self->chunks != NULL) {
        Chunk *below = self->chunks->below;
        PyMem_Free(self->chunks);
        self->chunks = below;
    }
    PyMem_Free(self->table);
    PyMem_Free(self->states);
    PyMem_Free(self->edges);
    PyMem_Free(self->answers);
    PyMem_Free(self->procedures);
    PyMem_Free(self->frontier);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef merged_methods[] = {
    {"run", merged_run, METH_VARARGS,
     "run(max_executions=-1, deadline=inf, max_resumed=-1): 1 when nothing is left to explore, 0 "
     "where a budget has run out; -2 where the model is not bare (see why), -3 where calls cannot "
     "be shared, -4 where there are too many states."},
    {"columns", merged_columns, METH_NOARGS, "The state graph, column by column."},
    {"path", merged_path, METH_NOARGS, "The choices that led to the state resumed last."},
    {"close", merged_close, METH_NOARGS, "Drop what is left without running it."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef merged_members[] = {
    {"states", T_PYSSIZET, offsetof(Merged, n_states), READONLY, NULL},
    {"edges", T_PYSSIZET, offsetof(Merged, n_edges), READONLY, NULL},
    {"answers", T_PYSSIZET, offsetof(Merged, n_answers), READONLY, NULL},
    {"executions", T_PYSSIZET, offsetof(Merged, executions), READONLY, NULL},
    {"resumed", T_PYSSIZET, offsetof(Merged, resumed), READONLY, NULL},
    {"hits", T_PYSSIZET, offsetof(Merged, hits), READONLY, NULL},
    {"left", T_PYSSIZET, offsetof(Merged, n), READONLY, NULL},
    {"bounded", T_INT, offsetof(Merged, bounded), READONLY, NULL},
    {"at", T_INT, offsetof(Merged, at), READONLY, NULL},
    {"why", T_OBJECT, offsetof(Merged, why), READONLY, NULL},
    {"unique", T_OBJECT, offsetof(Merged, unique), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject MergedType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.Merged",
    .tp_doc = "Merged(driver, outside, base, order, strict, share_calls, max_states, where): the "
              "loop of infer/merged.py.",
    .tp_basicsize = sizeof(Merged),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = merged_new,
    .tp_traverse = (traverseproc)merged_traverse,
    .tp_clear = (inquiry)merged_clear,
    .tp_dealloc = (destructor)merged_dealloc,
    .tp_weaklistoffset = offsetof(Merged, weak_references),
    .tp_methods = merged_methods,
    .tp_members = merged_members,
};

static PyObject *
set_merged_types(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *shared, *changed;
    if (!PyArg_ParseTuple(args, "OO", &shared, &changed)) {
        return NULL;
    }
    Py_XSETREF(shared_iterator_error, Py_NewRef(shared));
    Py_XSETREF(changed_in_place, Py_NewRef(changed));
    Py_RETURN_NONE;
}

static PyMethodDef merged_functions[] = {
    {"set_merged_types", set_merged_types, METH_VARARGS,
     "Tell the merging explorer the Python objects it works with."},
    {NULL, NULL, 0, NULL},
};

int
merged_ready(PyObject *module)
{
    str_body = PyUnicode_InternFromString("body");
    str_weigh = PyUnicode_InternFromString("weigh");
    str_torch = PyUnicode_InternFromString("torch");
    str_parameters = PyUnicode_InternFromString("parameters");
    str_keep = PyUnicode_InternFromString("keep");
    str_clone = PyUnicode_InternFromString("clone");
    str_differentiate = PyUnicode_InternFromString("differentiate");
    PyObject *time = PyImport_ImportModule("time");
    monotonic = time == NULL ? NULL : PyObject_GetAttrString(time, "monotonic");
    Py_XDECREF(time);
    if (str_body == NULL || str_weigh == NULL || str_torch == NULL || str_parameters == NULL || str_keep == NULL || str_clone == NULL ||
        str_differentiate == NULL || monotonic == NULL || PyType_Ready(&MergedType) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, merged_functions) < 0 ||
                   PyModule_AddObjectRef(module, "Merged", (PyObject *)&MergedType) < 0
               ? -1
               : 0;
}
