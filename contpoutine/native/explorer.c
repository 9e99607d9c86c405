/* explorer.c: the inner loop of enumeration.

   The same loop as contpoutine/infer/explorer.py, which is the reference: choice points in a
   frontier, each resumed once for each of its values. This one runs *bare* executions by itself: a
   stack of generators that yield nothing but samples, parameters and calls of other models, with
   Messengers and no control handler installed inside. It resumes the top generator, reads the
   request, sends it past the Messengers, weighs it, and at a choice suspends the frames in a choice point;
   resuming a choice point clones them, or takes them for its last value.

   Whatever else happens (a control handler is installed, another kind of effect is performed, a
   site is batched or hidden, something cannot be cloned) is handed to the driver in Python, whose
   answer is a state that this loop treats as opaque. Both kinds live in one frontier and write one
   tree.

   The frames of an execution are a linked stack, and branches share what lies below the top: a
   frame that waits for the one above it to return does not change meanwhile. It is cloned when
   the frame above returns and somebody else still shares it. So a choice costs the same however
   deep the calls are. That holds for frames that own what they hold; where two frames hold one
   object, or a handler with a state is installed, the whole stack is cloned with one memo.

   An ordinary function that runs as a model (core/bridge.py) cannot be cloned: it is a *bridged*
   execution. Its first resumption moves its frames, and each further one is a new run of the
   function, which the driver begins with the recorded answers.

   The ambient stack is a context variable. Between two resumptions it is the explorer's base,
   which is empty; while an execution runs it is the execution's own. */

#include "explorer.h"
#include <math.h>

enum { CHOSEN, COMPUTED, OBJECTS };

PyObject *ambient_var;                               /* core.ambient.AMBIENT */
PyObject *choices_function, *choices_type;           /* distributions.choices */

/* --- stacks of frames ----------------------------------------------------------------------- */

Frames *
frames_push(Frames *below, PyObject *gen) /* steals both */
{
    Frames *top = PyMem_Malloc(sizeof(Frames));
    if (top == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *top = (Frames){.refs = 1, .below = below, .gen = gen};
    return top;
}

static Frames *
frames_share(Frames *frames)
{
    if (frames != NULL) {
        frames->refs++;
    }
    return frames;
}

/* Let go of a stack; frames that nobody else shares are dropped without running. */
void
frames_drop(Frames *frames)
{
    if (frames != NULL && frames->refs == 1 && frames->below != NULL && frames->below->refs == 1 &&
        Py_REFCNT(frames->gen) > 1) { /* in reach of itself, or of a frame below */
        Py_ssize_t n = 0;
        for (Frames *f = frames; f != NULL && f->refs == 1; f = f->below) {
            n++;
        }
        PyObject **gens = PyMem_Calloc((size_t)n, sizeof(PyObject *));
        Frames *f = frames;
        for (Py_ssize_t i = 0; gens != NULL && i < n; i++, f = f->below) {
            gens[i] = f->gen;
        }
        silence_frames(gens, gens == NULL ? 0 : n);
        PyMem_Free(gens);
    }
    while (frames != NULL && --frames->refs == 0) {
        Frames *below = frames->below;
        discard_frame(frames->gen);
        discard_frame(frames->spare);
        Py_XDECREF(frames->watch);
        PyMem_Free(frames);
        frames = below;
    }
}

static Py_ssize_t
frames_depth(Frames *frames)
{
    Py_ssize_t n = 0;
    for (; frames != NULL; frames = frames->below) {
        n++;
    }
    return n;
}

/* The generators of a stack, outermost first, and `more` behind them, borrowed. Free the array with
   PyMem_Free. */
static PyObject **
frames_array(Frames *frames, Py_ssize_t n, PyObject *more)
{
    PyObject **items = PyMem_Malloc((size_t)(n + 1) * sizeof(PyObject *));
    if (items == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    items[n] = more;
    for (Py_ssize_t i = n; i > 0; i--, frames = frames->below) {
        items[i - 1] = frames->gen;
    }
    return items;
}

/* All of a stack cloned with one memo, with its handlers and the message that waits, if any. With
   `tensors`, the tensors that the computation made are copied as well. */
static int
frames_fork_whole(Frames *frames, PyObject *segment, PyObject *msg, int tensors, PyObject *outside,
                  Frames **fresh, PyObject **segment_fresh, PyObject **msg_fresh)
{
    Py_ssize_t n = frames_depth(frames), i = 0;
    PyObject **items = frames_array(frames, n, msg);
    PyObject **copies = PyMem_Calloc((size_t)n + 1, sizeof(PyObject *));
    int rc = -1;
    *fresh = NULL;
    if (items == NULL || copies == NULL) {
        PyErr_NoMemory();
    }
    else if (fork_computation(items, msg == NULL ? n : n + 1, segment, outside, NULL, tensors,
                              copies, segment_fresh) == 0) {
        rc = 0;
        if (msg != NULL) {
            *msg_fresh = copies[n];
        }
        for (; i < n && rc == 0; i++) {
            Frames *top = frames_push(*fresh, copies[i]);
            if (top == NULL) {
                rc = -1;
                break;
            }
            *fresh = top;
        }
        if (rc < 0) {
            for (; i < n; i++) {
                discard_frame(copies[i]);
            }
            frames_drop(*fresh);
            Py_CLEAR(*segment_fresh);
            if (msg != NULL) {
                Py_CLEAR(*msg_fresh);
            }
        }
    }
    PyMem_Free(items);
    PyMem_Free(copies);
    return rc;
}

/* Look at frames that wait, once each: can they be cloned one by one, and what is to be watched?
   0 or -1. */
int
frames_make_ready(Frames *frames, ReturnsTable *returns, PyObject *outside, PyObject *base)
{
    Py_ssize_t n = 0;
    for (Frames *f = frames; f != NULL && !f->ready; f = f->below) {
        n++;
    }
    if (n == 0) {
        return 0;
    }
    Frames **waiting = PyMem_Malloc((size_t)n * sizeof(Frames *));
    if (waiting == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++, frames = frames->below) {
        waiting[i] = frames;
    }
    int rc = 0;
    for (; n > 0 && rc == 0; n--) { /* deepest first: a frame's answer includes those below it */
        Frames *f = waiting[n - 1];
        int aliased = 0;
        f->shareable = f->below == NULL || f->below->shareable;
        if (f->shareable) {
            f->spare = fork_frame(f->gen, outside, 1, &aliased);
            if (f->spare == NULL) {
                if (!aliased && !PyErr_ExceptionMatches(err_capture)) {
                    rc = -1;
                    break;
                }
                PyErr_Clear(); /* cloning the whole stack will say it again */
                f->shareable = 0;
            }
        }
        if (watching) {
            f->watch = watch_computation(&f->gen, 1, base, outside);
            if (f->watch == NULL && PyErr_Occurred()) {
                rc = -1;
                break;
            }
        }
        f->watched = f->watch != NULL || (f->below != NULL && f->below->watched);
        if (returns != NULL && f->shareable && !f->watched) {
            f->returns = returns_of(returns, f->gen, outside);
            if (f->returns == NULL && PyErr_Occurred()) {
                rc = -1;
                break;
            }
        }
        f->ready = 1;
    }
    PyMem_Free(waiting);
    return rc;
}

int
frames_watch_holds(Frames *frames)
{
    for (; frames != NULL && frames->watched; frames = frames->below) {
        if (frames->watch != NULL) {
            int holds = watch_holds(frames->watch);
            if (holds <= 0) {
                return holds;
            }
        }
    }
    return 1;
}

/* Make the top frame our own before it runs: others may share it. */
int
frames_own_top(Frames **frames, PyObject *outside, PyObject *segment)
{
    Frames *top = *frames;
    if (top == NULL || top->refs == 1) {
        if (top != NULL && top->ready) { /* it waits no more */
            discard_frame(top->spare);
            top->spare = NULL;
            Py_CLEAR(top->watch);
            top->returns = NULL;
            top->ready = 0;
        }
        return 0;
    }
    PyObject *gen = top->spare;
    int aliased = 0;
    top->spare = NULL;
    if (gen == NULL) {
        gen = fork_frame(top->gen, outside, 1, &aliased);
        if (gen == NULL && aliased) { /* it has come to share something meanwhile */
            Frames *fresh;
            PyObject *segment_fresh;
            if (frames_fork_whole(top, segment, NULL, 0, outside, &fresh, &segment_fresh, NULL) <
                0) {
                return -1;
            }
            Py_DECREF(segment_fresh);
            frames_drop(top);
            *frames = fresh;
            return 0;
        }
    }
    if (gen == NULL) {
        return -1;
    }
    Frames *own = frames_push(frames_share(top->below), gen);
    if (own == NULL) {
        frames_drop(top->below);
        discard_frame(gen);
        return -1;
    }
    frames_drop(top);
    *frames = own;
    return 0;
}

/* A second stack in the same state. With `whole`, the message belongs to that state too: handlers
   may hold it, or what it offers may be the model's own. */
int
frames_fork(Frames *frames, PyObject *segment, PyObject *msg, int whole, ReturnsTable *returns,
            PyObject *outside, PyObject *base, Frames **fresh, PyObject **segment_fresh,
            PyObject **msg_fresh)
{
    int alone = frames->below == NULL && PyTuple_GET_SIZE(segment) == 0;
    int share = alone && !whole;
    if (!alone && !whole) {
        share = 1;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(segment) && share == 1; i++) {
            share = is_shared(PyTuple_GET_ITEM(segment, i));
        }
        if (share < 0 || (share && frames_make_ready(frames->below, returns, outside, base) < 0)) {
            return -1;
        }
        share = share && (frames->below == NULL || frames->below->shareable);
    }
    if (share) {
        int aliased = 0;
        PyObject *gen = fork_frame(frames->gen, outside, frames->below != NULL, &aliased);
        if (gen == NULL && !aliased) {
            return -1;
        }
        if (gen != NULL) {
            *fresh = frames_push(frames_share(frames->below), gen);
            if (*fresh == NULL) {
                frames_drop(frames->below);
                discard_frame(gen);
                return -1;
            }
            /* Without handlers nobody sees the message again, and nothing in it changes. */
            *msg_fresh = PyTuple_GET_SIZE(segment) == 0 || !Message_CheckExact(msg)
                             ? Py_NewRef(msg)
                                                        : message_copy((Message *)msg);
            if (*msg_fresh == NULL) {
                frames_drop(*fresh);
                return -1;
            }
            *segment_fresh = Py_NewRef(segment);
            return 0;
        }
    }
    return frames_fork_whole(frames, segment, msg, 0, outside, fresh, segment_fresh, msg_fresh);
}

/* What is in reach of any frame of a stack and is watched, or NULL (perhaps with an exception). */
static PyObject *
frames_watch(Frames *frames, PyObject *segment, PyObject *outside)
{
    Py_ssize_t n = frames_depth(frames);
    PyObject **items = frames_array(frames, n, NULL);
    PyObject *watch = items == NULL ? NULL : watch_computation(items, n, segment, outside);
    PyMem_Free(items);
    return watch;
}

/* --- choice points -------------------------------------------------------------------------- */

typedef struct {
    PyObject *state; /* opaque: a state of the driver's; NULL: bare */
    Frames *frames;  /* bare: the suspended generators; NULL once moved */
    PyObject *segment; /* bare: the Messengers installed inside, outermost first */
    PyObject *msg;     /* bare: the request that waits for an answer */
    PyObject *watch;   /* bare: tensors in reach, with their versions; or NULL */
    PyObject *values, *log_probs;
    int node, visit;
    double log_weight, log_prior, scale, key;
    unsigned long long number;
    char mutable; /* a value is an object that a model can change */
    char bridged; /* bare, and an ordinary function is suspended at its bottom */
    int n, next;
    int picks[];
} Point;

static double
log_prob_of(Point *point, int pick)
{
    return PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(point->log_probs, pick)) * point->scale;
}

static void
point_drop_frames(Point *point)
{
    Frames *frames = point->frames;
    point->frames = NULL;
    frames_drop(frames);
}

static void
point_free(Point *point)
{
    point_drop_frames(point);
    Py_XDECREF(point->state);
    Py_XDECREF(point->segment);
    Py_XDECREF(point->msg);
    Py_XDECREF(point->watch);
    Py_XDECREF(point->values);
    Py_XDECREF(point->log_probs);
    PyMem_Free(point);
}

/* --- the explorer --------------------------------------------------------------------------- */

typedef struct {
    int *parents, *visits, *picks;
    Py_ssize_t n, room;
} Nodes;

typedef struct {
    PyObject **names, **values;
    char *kind; /* CHOSEN, COMPUTED (a deterministic site: no answer) or OBJECTS (chosen objects) */
    Py_ssize_t n, room;
} Sites;

typedef struct {
    int *nodes;
    double *log_weights;
    Py_ssize_t n, room;
} Leaves;

typedef struct {
    PyObject_HEAD
    PyObject *driver, *outside, *base;
    int order;
    int strict; /* capture="clone": what cannot be cloned is an error */
    int begun;
    int failed;
    int bounded;
    Nodes nodes;
    Sites sites;
    Leaves leaves;
    PyObject *leaf_values; /* list */
    Point **frontier;      /* stack, ring or heap; room is a power of two */
    Py_ssize_t head, n, room;
    unsigned long long points;
    Py_ssize_t branches, clones;
    ReturnsTable *returns;
    PyObject *copying; /* set: the places at which forks copy tensors; NULL while there is none */
    int watch_clock;
    double deadline;
    Py_ssize_t max_executions;
    Py_ssize_t bridged; /* how many points hold a suspended function: a stack each */
    double explored_mass;
    int at_node; /* where the resumption that is running came from */
    struct {       /* the execution of an ordinary function, while it runs: where it has got to */
        PyGenObject *gen; /* of core.bridge.as_generator */
        int node;
        double log_weight, log_prior;
    } at;
} Explorer;

/* An execution while it runs. Its top frame is its own; those below may be shared. */
typedef struct {
    Frames *top;
} Run;

static PyObject *mark_type;                          /* core.handler.Mark */
static PyObject *process_default, *postprocess_default; /* core.messenger.Messenger's own */
static PyObject *finite_type, *delta_type;           /* distributions */
static Py_ssize_t at_values, at_log_probs, at_table; /* offsets of the slots of finite_type */
static PyObject *recorded_function;                  /* infer.driver.recorded */
static PyObject *leaf_type, *pruned_type, *shared_iterator_error;
static PyObject *monotonic, *changed;
/* The explorer whose function runs right now on this thread. (A pointer to what lies on the C stack
   would not do: another greenlet may have its own stack there by then.) */
static _Thread_local Explorer *running_inline;

static PyObject *bridge_code; /* of core.bridge.as_generator */
static int bridge_slot;       /* its local that is the bridge, while there is one */
static PyObject *str_value, *str_weight, *str_named, *str_state, *str_name, *str_values,
    *str_log_probs, *str_scale, *str_adopt, *str_replay, *str_branch, *str_step, *str_weigh,
    *str_note, *str_body, *str_blame, *str_hidden, *str_wait, *str_scale_of, *str_process, *str_postprocess,
    *str_pyro_sample, *str_pyro_post_sample, *str_clone, *str_keep, *str_own, *str_recorded,
    *str_torch, *str_repair, *str_restart, *str_feed;
static PyObject *str_param, *str_pyro_param, *str_pyro_post_param;

static int
run_push(Run *run, PyObject *gen) /* steals `gen` */
{
    Frames *top = frames_push(run->top, gen);
    if (top == NULL) {
        Py_DECREF(gen);
        return -1;
    }
    run->top = top;
    return 0;
}

/* The top frame has ended: drop it, and make the one below ready to run. */
static int
run_pop(Explorer *self, Run *run)
{
    Frames *top = run->top;
    run->top = top->below;
    Py_DECREF(top->gen);
    PyMem_Free(top);
    return frames_own_top(&run->top, self->outside, self->base);
}

/* The top frame has returned `*value`: drop it, and those below that are known to return at once
   when they are sent that, each with what it returns in place of `*value`. Make the next one ready
   to run; `*asked` is its memory, or NULL. */
static int
run_return(Explorer *self, Run *run, PyObject **value, Returns **asked)
{
    Frames *top = run->top, *first = top->below, *next = first;
    Py_DECREF(top->gen);
    PyMem_Free(top);
    PyObject *known = *value, *returned;
    while (next != NULL && next->returns != NULL &&
           (returned = returns_get(next->returns, known)) != NULL) {
        known = returned;
        next = next->below;
    }
    if (next != first) {
        Py_SETREF(*value, Py_NewRef(known));
        frames_share(next);
        frames_drop(first);
    }
    run->top = next;
    *asked = next == NULL ? NULL : next->returns;
    return frames_own_top(&run->top, self->outside, self->base);
}

static void
run_end(Run *run) /* what is left is dropped without running */
{
    frames_drop(run->top);
    run->top = NULL;
}

/* Hand the frames over as a list, all of them our own. */
static PyObject *
run_to_list(Explorer *self, Run *run)
{
    /* The top frame stays what it is: the request that is handed over may refer to what it holds.
       A frame that others share owns what it holds, so it is cloned by itself. */
    for (Frames *f = run->top; f->below != NULL; f = f->below) {
        if (frames_own_top(&f->below, self->outside, self->base) < 0) {
            return NULL;
        }
    }
    Py_ssize_t n = frames_depth(run->top);
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = n; list != NULL && i > 0; i--) {
        PyList_SET_ITEM(list, i - 1, Py_NewRef(run->top->gen));
        Frames *below = run->top->below;
        Py_DECREF(run->top->gen);
        discard_frame(run->top->spare);
        Py_XDECREF(run->top->watch);
        PyMem_Free(run->top);
        run->top = below;
    }
    return list;
}

/* --- columns -------------------------------------------------------------------------------- */

static int
grow(void **column, Py_ssize_t room, size_t width)
{
    void *fresh = PyMem_Realloc(*column, (size_t)room * width);
    if (fresh == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *column = fresh;
    return 0;
}

static int
add_node(Explorer *self, int parent, int visit, int pick)
{
    Nodes *c = &self->nodes;
    if (c->n == c->room) {
        Py_ssize_t room = c->room ? c->room + c->room / 2 : 64;
        if (room > INT_MAX || grow((void **)&c->parents, room, sizeof(int)) < 0 ||
            grow((void **)&c->visits, room, sizeof(int)) < 0 ||
            grow((void **)&c->picks, room, sizeof(int)) < 0) {
            PyErr_NoMemory();
            return -1;
        }
        c->room = room;
    }
    c->parents[c->n] = parent;
    c->visits[c->n] = visit;
    c->picks[c->n] = pick;
    return (int)c->n++;
}

static int
add_visit(Explorer *self, PyObject *name, PyObject *values, int kind)
{
    Sites *c = &self->sites;
    if (c->n == c->room) {
        Py_ssize_t room = c->room ? c->room + c->room / 2 : 64;
        if (room > INT_MAX || grow((void **)&c->names, room, sizeof(PyObject *)) < 0 ||
            grow((void **)&c->values, room, sizeof(PyObject *)) < 0 ||
            grow((void **)&c->kind, room, 1) < 0) {
            PyErr_NoMemory();
            return -1;
        }
        c->room = room;
    }
    Py_INCREF(name);
    if (PyUnicode_CheckExact(name)) {
        PyUnicode_InternInPlace(&name); /* a million visits of "x19" keep one string */
    }
    c->names[c->n] = name;
    c->values[c->n] = Py_NewRef(values);
    c->kind[c->n] = (char)kind;
    return (int)c->n++;
}

static int
add_leaf(Explorer *self, int node, double log_weight, PyObject *value)
{
    Leaves *c = &self->leaves;
    if (c->n == c->room) {
        Py_ssize_t room = c->room ? c->room + c->room / 2 : 64;
        if (grow((void **)&c->nodes, room, sizeof(int)) < 0 ||
            grow((void **)&c->log_weights, room, sizeof(double)) < 0) {
            return -1;
        }
        c->room = room;
    }
    if (PyList_Append(self->leaf_values, value) < 0) {
        return -1;
    }
    c->nodes[c->n] = node;
    c->log_weights[c->n++] = log_weight;
    return 0;
}

/* A named value that the model computed: a visit with one value. */
static int
add_computed(Explorer *self, int node, PyObject *name, PyObject *value)
{
    PyObject *kept = is_atomic(value)
                         ? Py_NewRef(value)
                         : PyObject_CallMethodOneArg(self->driver, str_keep, value);
    PyObject *values = kept == NULL ? NULL : PyTuple_Pack(1, kept);
    Py_XDECREF(kept);
    int visit = values == NULL ? -1 : add_visit(self, name, values, COMPUTED);
    Py_XDECREF(values);
    return visit < 0 ? -1 : add_node(self, node, visit, 0);
}

/* The answers that lead to `node`, as the driver wants them: [(name, value, pick), ...]. */
static PyObject *
answers_to(Explorer *self, int node)
{
    PyObject *answers = PyList_New(0);
    for (; answers != NULL && node > 0; node = self->nodes.parents[node]) {
        int visit = self->nodes.visits[node];
        if (self->sites.kind[visit] == COMPUTED) {
            continue;
        }
        PyObject *value = PySequence_GetItem(self->sites.values[visit], self->nodes.picks[node]);
        PyObject *pair = value == NULL ? NULL
                                       : Py_BuildValue("(OOi)", self->sites.names[visit], value,
                                                       self->nodes.picks[node]);
        Py_XDECREF(value);
        if (pair == NULL || PyList_Append(answers, pair) < 0) {
            Py_CLEAR(answers);
        }
        Py_XDECREF(pair);
    }
    if (answers != NULL && PyList_Reverse(answers) < 0) {
        Py_CLEAR(answers);
    }
    return answers;
}

/* --- the frontier --------------------------------------------------------------------------- */

static int
heavier(Point *a, Point *b)
{
    return a->key > b->key || (a->key == b->key && a->number < b->number);
}

static void
sift_up(Explorer *self, Py_ssize_t i)
{
    Point **heap = self->frontier, *point = heap[i];
    while (i > 0 && heavier(point, heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = point;
}

static void
sift_down(Explorer *self, Py_ssize_t i)
{
    Point **heap = self->frontier, *point = heap[i];
    for (;;) {
        Py_ssize_t child = 2 * i + 1;
        if (child >= self->n) {
            break;
        }
        if (child + 1 < self->n && heavier(heap[child + 1], heap[child])) {
            child++;
        }
        if (!heavier(heap[child], point)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = point;
}

static int
frontier_push(Explorer *self, Point *point)
{
    if (self->n == self->room) {
        Py_ssize_t room = self->room ? self->room * 2 : 64;
        Point **fresh = PyMem_Malloc((size_t)room * sizeof(Point *));
        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (Py_ssize_t i = 0; i < self->n; i++) {
            fresh[i] = self->frontier[(self->head + i) & (self->room - 1)];
        }
        PyMem_Free(self->frontier);
        self->frontier = fresh;
        self->head = 0;
        self->room = room;
    }
    self->frontier[(self->head + self->n) & (self->room - 1)] = point;
    self->n++;
    if (self->order == LIKELY_FIRST) {
        point->key = point->log_weight + log_prob_of(point, point->picks[point->next]);
        sift_up(self, self->n - 1);
    }
    return 0;
}

/* The point to resume next; it stays in the frontier. */
static Point *
frontier_top(Explorer *self)
{
    return self->order == DEPTH_FIRST ? self->frontier[(self->head + self->n - 1) & (self->room - 1)]
                                      : self->frontier[self->head];
}

/* The top point has given one of its values: take it out, or let it find its new place. */
static void
frontier_advance(Explorer *self, Point *point, int last)
{
    if (self->order == LIKELY_FIRST) {
        if (last) {
            self->frontier[0] = self->frontier[--self->n];
        }
        else {
            point->key = point->log_weight + log_prob_of(point, point->picks[point->next]);
        }
        if (self->n > 0) {
            sift_down(self, 0);
        }
    }
    else if (last) {
        self->n--;
        if (self->order == BREADTH_FIRST) {
            self->head = (self->head + 1) & (self->room - 1);
        }
    }
}

typedef struct {
    double log_prob;
    int pick;
} Ranked;

static int
rank(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    return x->log_prob > y->log_prob   ? -1
           : x->log_prob < y->log_prob ? 1
                                       : x->pick - y->pick;
}

/* A choice point for the values of positive probability. The caller fills in the state. */
static Point *
new_point(Explorer *self, PyObject *name, PyObject *values, PyObject *log_probs,
          PyObject *recorded, double scale, int node, double log_weight, double log_prior)
{
    if (values == NULL || log_probs == NULL || !PyTuple_CheckExact(values) || !PyTuple_CheckExact(log_probs) ||
        PyTuple_GET_SIZE(values) != PyTuple_GET_SIZE(log_probs)) {
        PyErr_Format(PyExc_TypeError, "the choices of site %R are not two tuples of one length",
                     name);
        return NULL;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(values);
    Point *point = PyMem_Malloc(sizeof(Point) + (size_t)size * sizeof(int));
    if (point == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(point, 0, sizeof(Point));
    point->values = Py_NewRef(values);
    point->log_probs = Py_NewRef(log_probs);
    point->scale = scale;
    point->node = node;
    point->log_weight = log_weight;
    point->log_prior = log_prior;
    point->number = ++self->points;
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *log_prob = PyTuple_GET_ITEM(log_probs, i);
        if (!PyFloat_Check(log_prob)) {
            PyErr_Format(PyExc_TypeError, "a log-probability of site %R is no float: %R", name,
                         log_prob);
            point_free(point);
            return NULL;
        }
        if (PyFloat_AS_DOUBLE(log_prob) > -Py_HUGE_VAL) {
            point->picks[point->n++] = (int)i;
        }
    }
    if (point->n == 0) {
        PyErr_Format(err_empty_support, "site %R has no value of positive probability", name);
        point_free(point);
        return NULL;
    }
    if (self->order == LIKELY_FIRST && point->n > 1) {
        Ranked *ranked = PyMem_Malloc((size_t)point->n * sizeof(Ranked));
        if (ranked == NULL) {
            point_free(point);
            PyErr_NoMemory();
            return NULL;
        }
        for (int i = 0; i < point->n; i++) {
            ranked[i].pick = point->picks[i];
            ranked[i].log_prob =
                PyFloat_AS_DOUBLE(PyTuple_GET_ITEM(log_probs, point->picks[i]));
        }
        qsort(ranked, (size_t)point->n, sizeof(Ranked), rank);
        for (int i = 0; i < point->n; i++) {
            point->picks[i] = ranked[i].pick;
        }
        PyMem_Free(ranked);
    }
    point->mutable = recorded != values;
    point->visit = add_visit(self, name, recorded, point->mutable ? OBJECTS : CHOSEN);
    if (point->visit < 0) {
        point_free(point);
        return NULL;
    }
    return point;
}

/* --- what the driver says ------------------------------------------------------------------- */

static int
get_double(PyObject *o, PyObject *name, double *result)
{
    PyObject *value = PyObject_GetAttr(o, name);
    if (value == NULL) {
        return -1;
    }
    *result = PyFloat_AsDouble(value);
    Py_DECREF(value);
    return *result == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static void
prune(Explorer *self, double log_prior)
{
    self->explored_mass += exp(log_prior);
}

static int
arrive(Explorer *self, PyObject *event, int node, double log_weight, double log_prior)
{
    if (Py_IS_TYPE(event, (PyTypeObject *)pruned_type)) {
        prune(self, log_prior);
        return 0;
    }
    double weight;
    PyObject *named = PyObject_GetAttr(event, str_named);
    if (named == NULL || !PyList_Check(named) || get_double(event, str_weight, &weight) < 0) {
        Py_XDECREF(named);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(named) && node >= 0; i++) {
        PyObject *pair = PyList_GET_ITEM(named, i);
        node = add_computed(self, node, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    Py_DECREF(named);
    if (node < 0) {
        return -1;
    }
    log_weight += weight;
    if (Py_IS_TYPE(event, (PyTypeObject *)leaf_type)) {
        PyObject *value = PyObject_GetAttr(event, str_value);
        int rc = value == NULL ? -1 : add_leaf(self, node, log_weight, value);
        Py_XDECREF(value);
        prune(self, log_prior);
        return rc;
    }
    double scale;
    PyObject *name = PyObject_GetAttr(event, str_name);
    PyObject *values = PyObject_GetAttr(event, str_values);
    PyObject *log_probs = PyObject_GetAttr(event, str_log_probs);
    PyObject *recorded = PyObject_GetAttr(event, str_recorded);
    PyObject *state = PyObject_GetAttr(event, str_state);
    int rc = -1;
    if (name != NULL && values != NULL && log_probs != NULL && recorded != NULL && state != NULL &&
        get_double(event, str_scale, &scale) == 0) {
        Point *point =
            new_point(self, name, values, log_probs, recorded, scale, node, log_weight, log_prior);
        if (point != NULL) {
            point->state = Py_NewRef(state);
            rc = frontier_push(self, point);
            if (rc < 0) {
                point_free(point);
            }
        }
    }
    Py_XDECREF(name);
    Py_XDECREF(values);
    Py_XDECREF(log_probs);
    Py_XDECREF(recorded);
    Py_XDECREF(state);
    return rc;
}

/* Hand bare frames to the driver, with the answers that they have been given:
   driver.method(frames, answers, x, y). The ambient stack is the execution's own until then. */
static int
hand_over(Explorer *self, Run *run, PyObject *method, PyObject *x, PyObject *y, int node,
          double log_weight, double log_prior)
{
    PyObject *answers = answers_to(self, node);
    PyObject *frames = answers == NULL ? NULL : run_to_list(self, run);
    PyObject *event = frames == NULL ? NULL
                                     : PyObject_CallMethodObjArgs(self->driver, method, frames,
                                                                  answers, x, y, NULL);
    Py_XDECREF(answers);
    Py_XDECREF(frames);
    int rc = event == NULL ? -1 : arrive(self, event, node, log_weight, log_prior);
    Py_XDECREF(event);
    return rc;
}

/* The top frame has yielded something that needs the whole machine. */
static int
adopt(Explorer *self, Run *run, PyObject *request, int node, double log_weight, double log_prior)
{
    return hand_over(self, run, str_adopt, request, Py_None, node, log_weight, log_prior);
}

/* The current exception is to be thrown into the top frame; or it leaves the model. */
static int
throw(Explorer *self, Run *run, int node, double log_weight, double log_prior)
{
    if (run->top == NULL) {
        return -1;
    }
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    int rc = hand_over(self, run, str_adopt, Py_None, error, node, log_weight, log_prior);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return rc;
}

/* --- bare executions ------------------------------------------------------------------------ */

static inline PyObject *
slot_of(PyObject *o, Py_ssize_t offset)
{
    return *(PyObject **)((char *)o + offset);
}

static inline int
is_finite(PyObject *fn)
{
    static PyTypeObject *met; /* the last type that was one: mostly the next one's too */
    if (fn == NULL || Py_TYPE(fn) == met) {
        return fn != NULL;
    }
    if (!PyType_IsSubtype(Py_TYPE(fn), (PyTypeObject *)finite_type)) {
        return 0;
    }
    Py_XSETREF(met, (PyTypeObject *)Py_NewRef(Py_TYPE(fn)));
    return 1;
}

/* The log-weight of a site whose value is decided; one above zero ends `*bounded`. */
int
weigh(PyObject *driver, Message *msg, double *weight, int *bounded)
{
    PyObject *fn = msg->field[F_FN];
    if (msg->field[F_SCALE] == NULL && msg->field[F_MASK] == NULL && is_finite(fn)) {
        PyObject *table = slot_of(fn, at_table);
        if (table != NULL && PyDict_CheckExact(table)) {
            PyObject *log_prob = PyDict_GetItemWithError(table, msg->field[F_VALUE]);
            if (log_prob != NULL && PyFloat_CheckExact(log_prob)) {
                *weight = PyFloat_AS_DOUBLE(log_prob);
                if (*weight > 0.0) {
                    *bounded = 0;
                }
                return 0;
            }
            if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) {
                return -1;
            }
            PyErr_Clear(); /* unhashable, or not there: the driver finds the words */
        }
    }
    PyObject *result = PyObject_CallMethodOneArg(driver, str_weigh, (PyObject *)msg);
    if (result == NULL) {
        return -1;
    }
    *weight = PyFloat_AsDouble(result);
    Py_DECREF(result);
    return *weight == -1.0 && PyErr_Occurred() ? -1 : 0;
}

/* One handler's part in a message's way: its own method if it has one, otherwise the hook that the
   method of the base class would look up. */
static int
tell(PyObject *entry, PyObject *method, PyObject *method_default, PyObject *hook, PyObject *msg)
{
    PyObject *result = NULL;
    if (hook == NULL || _PyType_Lookup(Py_TYPE(entry), method) != method_default) {
        result = PyObject_CallMethodOneArg(entry, method, msg);
    }
    else {
        PyObject *function;
        int found = compat_lookup_attr(entry, hook, &function);
        if (found <= 0) {
            return found;
        }
        result = PyObject_CallOneArg(function, msg);
        Py_DECREF(function);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The method of a handler that the base class would look up for a message: `sample` or `param`. */
static inline PyObject *
hook_for(PyObject *msg, PyObject *for_sample, PyObject *for_param)
{
    PyObject *type = ((Message *)msg)->field[F_TYPE];
    return type == str_sample ? for_sample : type == str_param ? for_param : NULL;
}

/* Send a message up through the Messengers. Gives how many it has not passed because one stopped
   it, or 0, or -1 on error. */
Py_ssize_t
pass_up(PyObject *segment, Message *msg, int *stopped)
{
    *stopped = 0;
    for (Py_ssize_t i = PyTuple_GET_SIZE(segment); i > 0; i--) {
        PyObject *hook = hook_for((PyObject *)msg, str_pyro_sample, str_pyro_param);
        if (tell(PyTuple_GET_ITEM(segment, i - 1), str_process, process_default, hook,
                 (PyObject *)msg) < 0) {
            return -1;
        }
        if (msg->field[F_STOP] != NULL && msg->field[F_STOP] != Py_False) {
            int stop = PyObject_IsTrue(msg->field[F_STOP]);
            if (stop != 0) {
                *stopped = stop > 0;
                return stop < 0 ? -1 : i - 1;
            }
        }
    }
    return 0;
}

/* Tell the Messengers what the message's value is, outermost first. Gives the value, or NULL. */
PyObject *
pass_down(PyObject *segment, Message *msg)
{
    if (PyTuple_GET_SIZE(segment) > 0) {
        Py_XSETREF(msg->field[F_DONE], Py_NewRef(Py_True));
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(segment); i++) {
            PyObject *hook = hook_for((PyObject *)msg, str_pyro_post_sample, str_pyro_post_param);
            if (tell(PyTuple_GET_ITEM(segment, i), str_postprocess, postprocess_default, hook,
                     (PyObject *)msg) < 0) {
                return NULL;
            }
        }
    }
    PyObject *then = msg->field[F_CONTINUATION];
    if (then != NULL && then != Py_None) {
        PyObject *result = PyObject_CallOneArg(then, (PyObject *)msg);
        if (result == NULL) {
            return NULL;
        }
        Py_DECREF(result);
    }
    PyObject *value = msg->field[F_VALUE];
    return Py_NewRef(value == NULL ? Py_None : value);
}

int
looks_back(PyObject *segment)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(segment); i++) {
        PyObject *entry = PyTuple_GET_ITEM(segment, i), *hook;
        if (_PyType_Lookup(Py_TYPE(entry), str_postprocess) != postprocess_default) {
            return 1;
        }
        int found = compat_lookup_attr(entry, str_pyro_post_sample, &hook);
        if (found != 0) {
            if (found > 0) {
                Py_DECREF(hook);
            }
            return found;
        }
    }
    return 0;
}

int
only_messengers(PyObject *segment)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(segment); i++) {
        if (Py_IS_TYPE(PyTuple_GET_ITEM(segment, i), (PyTypeObject *)mark_type)) {
            return 0;
        }
    }
    return 1;
}

int
set_ambient(PyObject *segment)
{
    PyObject *token = PyContextVar_Set(ambient_var, segment);
    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

int
is_true(PyObject *flag)
{
    return flag == NULL || flag == Py_False ? 0 : flag == Py_True ? 1 : PyObject_IsTrue(flag);
}

/* Has the message got its value already: observed, or set by a handler? */
int
is_decided(Message *msg)
{
    if (msg->field[F_VALUE] != NULL && msg->field[F_VALUE] != Py_None) {
        return 1;
    }
    int observed = is_true(msg->field[F_IS_OBSERVED]);
    return observed != 0 ? observed : is_true(msg->field[F_DONE]);
}

/* Is the site recorded by name, rather than weighed? */
int
is_computed(Message *msg)
{
    PyObject *fn = msg->field[F_FN];
    if (fn == NULL || !Py_IS_TYPE(fn, (PyTypeObject *)delta_type)) {
        return 0;
    }
    PyObject *values = slot_of(fn, at_values);
    return values != NULL && PyTuple_CheckExact(values) && PyTuple_GET_SIZE(values) == 1 &&
           PyTuple_GET_ITEM(values, 0) == msg->field[F_VALUE];
}

/* More suspended functions than these are not kept: a stack takes some kilobytes. */
#define MOST_BRIDGED 1024

static int
is_bridge_frame(PyObject *gen)
{
    return PyGen_CheckExact(gen) && !compat_gen_is_finished((PyGenObject *)gen) &&
           (PyObject *)compat_frame_code(compat_gen_frame((PyGenObject *)gen)) == bridge_code;
}

/* The bridge of such a frame, borrowed, while it has one; or NULL. */
static PyObject *
bridge_of(PyGenObject *gen)
{
    PyObject *bridge = compat_gen_frame(gen)->localsplus[bridge_slot];
    return bridge == Py_None ? NULL : bridge;
}

/* Is an ordinary function suspended at the bottom of the stack? */
static int
is_bridged(Frames *frames)
{
    while (frames->below != NULL) {
        frames = frames->below;
    }
    return is_bridge_frame(frames->gen) && bridge_of((PyGenObject *)frames->gen) != NULL;
}

/* The values of a site as the tree keeps them: themselves, unless a model could change one. */
PyObject *
recorded_values(PyObject *values)
{
    if (values == NULL || !PyTuple_CheckExact(values)) {
        return Py_NewRef(values == NULL ? Py_None : values); /* refused by new_point */
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values); i++) {
        if (!is_atomic(PyTuple_GET_ITEM(values, i))) {
            return PyObject_CallOneArg(recorded_function, values);
        }
    }
    return Py_NewRef(values);
}

/* What the log-probabilities of an undecided site are multiplied by. */
int
scale_for(PyObject *driver, Message *msg, double *scale, int *bounded)
{
    *scale = 1.0;
    if (msg->field[F_SCALE] != NULL || msg->field[F_MASK] != NULL) {
        PyObject *said = PyObject_CallMethodOneArg(driver, str_scale_of, (PyObject *)msg);
        *scale = said == NULL ? -1.0 : PyFloat_AsDouble(said);
        Py_XDECREF(said);
        if (*scale == -1.0 && PyErr_Occurred()) {
            return -1;
        }
        if (*scale < 1.0) {
            *bounded = 0; /* the weights of the choices add up to more than one */
        }
    }
    return 0;
}

/* The values of an undecided site and their log-probabilities, which `*offered`, a new reference,
   holds. 1; or 0 for a batched site, where `*offered` is what it offers; or -1. */
int
choices_at(Message *msg, PyObject **values, PyObject **log_probs, PyObject **offered)
{
    PyObject *fn = msg->field[F_FN];
    if (is_finite(fn)) {
        *values = slot_of(fn, at_values);
        *log_probs = slot_of(fn, at_log_probs);
        *offered = Py_NewRef(fn);
        return 1;
    }
    *offered = PyObject_CallFunctionObjArgs(choices_function, fn ? fn : Py_None,
                                            msg->field[F_NAME], NULL);
    if (*offered == NULL) {
        return -1;
    }
    if (!Py_IS_TYPE(*offered, (PyTypeObject *)choices_type)) {
        return 0;
    }
    *values = PyTuple_GET_ITEM(*offered, 0);
    *log_probs = PyTuple_GET_ITEM(*offered, 1);
    return 1;
}

/* Suspend a bare execution at an undecided site. Its ambient stack is `segment`. */
static int
suspend(Explorer *self, Run *run, PyObject *segment, Message *msg, int node, double log_weight,
        double log_prior)
{
    PyObject *values, *log_probs, *offered;
    double scale;
    if (scale_for(self->driver, msg, &scale, &self->bounded) < 0) {
        return -1;
    }
    int scalar = choices_at(msg, &values, &log_probs, &offered);
    if (scalar <= 0) {
        int rc = scalar < 0 ? -1
                            : hand_over(self, run, str_wait, (PyObject *)msg, offered, node,
                                        log_weight, log_prior);
        Py_XDECREF(offered);
        return rc;
    }
    PyObject *recorded = recorded_values(values);
    Point *point = recorded == NULL ? NULL
                                    : new_point(self, msg->field[F_NAME], values, log_probs,
                                                recorded, scale, node, log_weight, log_prior);
    Py_XDECREF(recorded);
    Py_XDECREF(offered);
    if (point == NULL) {
        return -1;
    }
    if (!watching) { /* there are no tensors before torch is there */
        watching = PyDict_GetItemWithError(PyImport_GetModuleDict(), str_torch) != NULL;
    }
    point->segment = Py_NewRef(segment);
    point->bridged = !self->strict && is_bridged(run->top);
    if (!point->bridged && (watching || segment != self->base)) {
        /* A handler with a state is in reach of every frame; without one, each frame is looked at
           by itself, the waiting ones once. */
        int plain = segment == self->base && holds_atoms_only(run->top->gen);
        point->watch =
            plain ? NULL : watch_computation(&run->top->gen, 1, segment, self->outside);
        if ((point->watch == NULL && PyErr_Occurred()) ||
            (watching && frames_make_ready(run->top->below, self->returns, self->outside, self->base) < 0)) {
            point_free(point);
            return -1;
        }
    }
    point->frames = run->top;
    run->top = NULL;
    point->msg = Py_NewRef(msg);
    if (point->bridged && ++self->bridged > MOST_BRIDGED) {
        self->bridged--;
        point_drop_frames(point);
    }
    if (frontier_push(self, point) < 0) {
        point_free(point);
        return -1;
    }
    return 0;
}

/* Let the driver say in the current exception which site it is about. */
void
blame(PyObject *driver, Message *msg)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *done =
        PyObject_CallMethodObjArgs(driver, str_blame, (PyObject *)msg, error, NULL);
    if (done == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(done);
    PyErr_Restore(type, error, traceback);
}

/* What one turn of an execution comes to. */
enum { FAILED = -1, SETTLED = 0, SEND = 1 };

/* A parameter that no handler has decided: what the store says. It is not recorded, as an execution
   that is run again reads it again. 0 or -1. */
static int
read_param(Message *msg)
{
    PyObject *fn = msg->field[F_FN], *args = msg->field[F_ARGS], *kwargs = msg->field[F_KWARGS];
    if (fn == NULL || (args != NULL && !PyTuple_CheckExact(args)) ||
        (kwargs != NULL && !PyDict_CheckExact(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "a param message needs a function, a tuple of arguments "
                                         "and a dictionary of keywords");
        return -1;
    }
    PyObject *none = args == NULL ? PyTuple_New(0) : Py_NewRef(args);
    PyObject *value = none == NULL ? NULL : PyObject_Call(fn, none, kwargs);
    Py_XDECREF(none);
    if (value == NULL) {
        return -1;
    }
    Py_XSETREF(msg->field[F_VALUE], value);
    return 0;
}

/* A frame has yielded a sample or a parameter. SEND: `*value` is what it gets; SETTLED: the
   execution waits, has been given up or handed over. */
static int
perform(Explorer *self, Run *run, PyObject *segment, Message *msg, PyObject **value, int *node,
        double *log_weight, double log_prior)
{
    PyObject *asked = msg->field[F_TYPE]; /* interned: one of two */
    if (msg->field[F_NAME] == NULL || !PyUnicode_Check(msg->field[F_NAME])) {
        PyErr_Format(PyExc_TypeError, "a %U site needs a string as its name, not %R", asked,
                     msg->field[F_NAME] == NULL ? Py_None : msg->field[F_NAME]);
        return throw(self, run, *node, *log_weight, log_prior);
    }
    msg->performed = 1;
    int stopped = 0, alone = PyTuple_GET_SIZE(segment) == 0; /* most models: no handlers inside */
    Py_ssize_t depth = alone ? 0 : pass_up(segment, msg, &stopped);
    if (depth < 0) {
        return throw(self, run, *node, *log_weight, log_prior);
    }
    if (msg->field[F_TYPE] != str_sample && (asked == str_sample || msg->field[F_TYPE] != asked)) {
        PyErr_Format(PyExc_TypeError,
                     "a handler has changed the type of site %R on its way from \"%U\" to %R",
                     msg->field[F_NAME], asked, msg->field[F_TYPE]);
        return throw(self, run, *node, *log_weight, log_prior);
    }
    if (stopped) {
        PyObject *at = PyLong_FromSsize_t(depth);
        int rc = at == NULL ? -1
                            : hand_over(self, run, str_hidden, (PyObject *)msg, at, *node,
                                        *log_weight, log_prior);
        Py_XDECREF(at);
        return rc;
    }
    int decided = is_decided(msg);
    if (decided < 0) {
        return FAILED;
    }
    if (msg->field[F_TYPE] == str_param) {
        if (!decided && read_param(msg) < 0) {
            return throw(self, run, *node, *log_weight, log_prior);
        }
        *value = pass_down(segment, msg);
        return *value == NULL ? throw(self, run, *node, *log_weight, log_prior) : SEND;
    }
    if (!decided) {
        int rc = suspend(self, run, segment, msg, *node, *log_weight, log_prior);
        if (rc < 0 && run->top != NULL) { /* the site itself was refused */
            blame(self->driver, msg);
        }
        return rc;
    }
    if (msg->field[F_VALUE] == NULL) {
        msg->field[F_VALUE] = Py_NewRef(Py_None);
    }
    if (is_computed(msg)) {
        *node = add_computed(self, *node, msg->field[F_NAME], msg->field[F_VALUE]);
        if (*node < 0) {
            return FAILED;
        }
    }
    else if (msg->field[F_VALUE] != Py_None || is_true(msg->field[F_IS_OBSERVED]) == 1) {
        double weight;
        if (weigh(self->driver, msg, &weight, &self->bounded) < 0) {
            blame(self->driver, msg);
            return FAILED;
        }
        *log_weight += weight;
        if (*log_weight == -Py_HUGE_VAL) {
            prune(self, log_prior);
            return SETTLED;
        }
    }
    *value = alone && msg->field[F_CONTINUATION] == NULL ? Py_NewRef(msg->field[F_VALUE])
                                                         : pass_down(segment, msg);
    return *value == NULL ? throw(self, run, *node, *log_weight, log_prior) : SEND;
}

/* A request was lost on the way to what the frame has now done; an error says so. */
static int
lost_request(Explorer *self, Run *run, PySendResult sent, PyObject *request, int node,
             double log_weight, double log_prior)
{
    if (sent == PYGEN_RETURN) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (run_pop(self, run) < 0) {
            PyErr_Clear();
            run_end(run);
        }
        PyErr_Restore(type, error, traceback);
    }
    else if (Message_CheckExact(request)) {
        ((Message *)request)->performed = 1;
    }
    Py_DECREF(request);
    return throw(self, run, node, log_weight, log_prior);
}

static inline PySendResult
send_to(PyObject *gen, PyObject *value, PyObject **request)
{
    return PyGen_CheckExact(gen) ? PyGen_Type.tp_as_async->am_send(gen, value, request)
                                 : PyIter_Send(gen, value, request);
}

/* Is it a request that this loop answers by itself? */
static inline int
is_bare(Message *msg)
{
    PyObject *type = msg->field[F_TYPE];
    return (type == str_sample || type == str_param) && !msg->performed;
}

/* Run a bare execution until it suspends, ends or is handed over. `value` (a new reference) is
   sent first. */
static int
run_bare(Explorer *self, Run *run, PyObject *value, int node, double log_weight, double log_prior)
{
    Returns *asked = NULL; /* the memory of the frame that is about to run, if it has one */
    for (;;) {
        PyObject *request = NULL;
        PySendResult sent;
        if (run->top->below == NULL && is_bridge_frame(run->top->gen)) {
            Explorer *outer = running_inline;
            self->at.gen = (PyGenObject *)run->top->gen;
            self->at.node = node;
            self->at.log_weight = log_weight;
            self->at.log_prior = log_prior;
            running_inline = self;
            sent = send_to(run->top->gen, value, &request);
            running_inline = outer;
            self->at.gen = NULL;
            node = self->at.node;
            log_weight = self->at.log_weight;
            log_prior = self->at.log_prior;
        }
        else {
            sent = send_to(run->top->gen, value, &request);
        }
        if (asked != NULL && sent == PYGEN_RETURN && returns_put(asked, value, request) < 0) {
            Py_DECREF(value);
            Py_DECREF(request);
            return FAILED;
        }
        asked = NULL;
        Py_CLEAR(value);
        if (sent == PYGEN_ERROR) {
            message_raise_dropped(); /* the model failed on its own: that is the better story */
            PyObject *type, *error, *traceback;
            PyErr_Fetch(&type, &error, &traceback);
            if (run_pop(self, run) < 0) {
                PyErr_Clear();
                run_end(run);
            }
            PyErr_Restore(type, error, traceback);
            return throw(self, run, node, log_weight, log_prior);
        }
        if (message_raise_dropped() < 0) {
            return lost_request(self, run, sent, request, node, log_weight, log_prior);
        }
        if (sent == PYGEN_RETURN && Message_CheckExact(request) &&
            !((Message *)request)->performed && PyObject_IsTrue(request) < 0) {
            return lost_request(self, run, sent, request, node, log_weight, log_prior);
        }
        if (sent == PYGEN_RETURN) {
            if (run_return(self, run, &request, &asked) < 0) {
                Py_DECREF(request);
                return FAILED;
            }
            if (run->top != NULL) {
                value = request;
                continue;
            }
            int rc = add_leaf(self, node, log_weight, request);
            prune(self, log_prior);
            Py_DECREF(request);
            return rc;
        }
        if (PyGen_CheckExact(request) && compat_gen_is_created((PyGenObject *)request)) {
            if (run_push(run, request) < 0) {
                return FAILED;
            }
            value = Py_NewRef(Py_None);
            continue;
        }
        PyObject *segment;
        if (compat_context_get(ambient_var, &segment) < 0) {
            Py_DECREF(request);
            return FAILED;
        }
        int rc;
        if (Message_CheckExact(request) && is_bare((Message *)request) &&
            (segment == self->base || only_messengers(segment))) {
            rc = perform(self, run, segment, (Message *)request, &value, &node, &log_weight,
                         log_prior);
        }
        else {
            rc = adopt(self, run, request, node, log_weight, log_prior);
        }
        Py_DECREF(segment);
        Py_DECREF(request);
        if (rc != SEND) {
            return rc;
        }
    }
}

/* Run as above, and leave the ambient stack and the error indicator as they should be. */
static int
run_and_settle(Explorer *self, Run *run, PyObject *value, int node, double log_weight,
               double log_prior)
{
    int rc = run_bare(self, run, value, node, log_weight, log_prior);
    PyObject *segment, *type, *error, *traceback;
    if (rc < 0) {
        PyErr_Fetch(&type, &error, &traceback);
    }
    if (compat_context_get(ambient_var, &segment) == 0) {
        if (segment != self->base && set_ambient(self->base) < 0) {
            rc = rc < 0 ? rc : FAILED;
        }
        Py_XDECREF(segment);
    }
    run_end(run);
    if (rc < 0) {
        PyErr_Restore(type, error, traceback);
    }
    return rc;
}

/* --- resuming ------------------------------------------------------------------------------- */

/* A state of the driver's, answered by `value`. */
static int
step_opaque(Explorer *self, PyObject *state, PyObject *value, int pick, int node,
            double log_weight, double log_prior)
{
    PyObject *place = PyLong_FromLong(pick);
    PyObject *event =
        place == NULL
            ? NULL
            : PyObject_CallMethodObjArgs(self->driver, str_step, state, value, place, NULL);
    Py_XDECREF(place);
    int rc = event == NULL ? -1 : arrive(self, event, node, log_weight, log_prior);
    Py_XDECREF(event);
    return rc;
}

static PyObject *
replayed(Explorer *self, Point *point)
{
    PyObject *answers = answers_to(self, point->node);
    PyObject *state = answers == NULL
                          ? NULL
                          : PyObject_CallMethodObjArgs(self->driver, str_replay, answers,
                                                       point->msg, Py_None, NULL);
    Py_XDECREF(answers);
    return state;
}

/* Run the function of a bridged point again, with its answers and the one that `node` stands for. */
static int
restart(Explorer *self, Point *point, int node, double log_weight, double log_prior)
{
    Run run = {NULL};
    PyObject *answers = answers_to(self, node);
    PyObject *body = answers == NULL
                         ? NULL
                         : PyObject_CallMethodObjArgs(self->driver, str_restart, answers,
                                                      point->msg, NULL);
    Py_XDECREF(answers);
    if (body == NULL || run_push(&run, body) < 0) {
        return FAILED;
    }
    return run_and_settle(self, &run, Py_NewRef(Py_None), node, log_weight, log_prior);
}

/* The current exception says that something cannot be cloned. Where that is no error, tell the
   driver and clear it: 0; otherwise leave it: -1. */
static int
forgive(Explorer *self)
{
    if (self->strict || !PyErr_ExceptionMatches(err_capture) ||
        PyErr_ExceptionMatches(shared_iterator_error)) {
        return -1;
    }
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *text = PyObject_Str(error);
    PyObject *done = text == NULL ? NULL : PyObject_CallMethodOneArg(self->driver, str_note, text);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Do forks share all of these handlers as they are? */
int
only_shared(PyObject *segment)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(segment); i++) {
        if (is_shared(PyTuple_GET_ITEM(segment, i)) != 1) {
            PyErr_Clear(); /* the fork will say it again */
            return 0;
        }
    }
    return 1;
}

/* Where the top frame of a stack waits. */
static PyObject *
place_of(Frames *frames)
{
    Frame *frame = compat_gen_frame((PyGenObject *)frames->gen);
    return Py_BuildValue("(Ki)", (unsigned long long)(size_t)compat_frame_code(frame),
                         compat_frame_lasti(frame));
}

/* Another branch has changed a tensor in place that the frames of a point hold as well: make them
   again by replay, and copy tensors at this place from now on. 1: the driver has them, in
   `*state`. */
static int
repair(Explorer *self, Point *point, PyObject **state)
{
    PyObject *place = place_of(point->frames);
    if (place == NULL || (self->copying == NULL && (self->copying = PySet_New(NULL)) == NULL) ||
        PySet_Add(self->copying, place) < 0) {
        Py_XDECREF(place);
        return -1;
    }
    Py_DECREF(place);
    point_drop_frames(point);
    PyObject *answers = answers_to(self, point->node), *frames, *segment, *msg;
    PyObject *made = answers == NULL ? NULL
                                     : PyObject_CallMethodObjArgs(self->driver, str_repair, answers,
                                                                  point->msg, changed, NULL);
    Py_XDECREF(answers);
    if (made == NULL || !PyTuple_CheckExact(made)) {
        *state = made;
        return made == NULL ? -1 : 1;
    }
    int rc = -1;
    if (PyArg_ParseTuple(made, "O!O!O!", &PyList_Type, &frames, &PyTuple_Type, &segment,
                         &MessageType, &msg)) {
        rc = 0;
        for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(frames); i++) {
            PyObject *gen = Py_NewRef(PyList_GET_ITEM(frames, i));
            Frames *top = frames_push(point->frames, gen);
            if (top == NULL) {
                Py_DECREF(gen);
                rc = -1;
                break;
            }
            point->frames = top;
        }
        PyList_SetSlice(frames, 0, PyList_GET_SIZE(frames), NULL);
        Py_SETREF(point->segment, Py_NewRef(segment));
        Py_SETREF(point->msg, Py_NewRef(msg));
        Py_CLEAR(point->watch);
        if (rc == 0) {
            point->watch = frames_watch(point->frames, point->segment, self->outside);
            rc = point->watch == NULL && PyErr_Occurred() ? -1 : 0;
        }
    }
    Py_DECREF(made);
    return rc;
}

/* Do forks of the point copy tensors? Then 1, and its frames are forked so; 0 if not. What the
   copy that is kept still shares goes on being watched. */
static int
fork_tensors(Explorer *self, Point *point, Frames **fresh, PyObject **segment_fresh,
             PyObject **msg_fresh)
{
    PyObject *place = self->copying == NULL ? NULL : place_of(point->frames);
    int copies = place == NULL ? 0 : PySet_Contains(self->copying, place);
    Py_XDECREF(place);
    if (copies <= 0) {
        return self->copying != NULL && place == NULL ? -1 : copies;
    }
    PyObject *before = frames_watch(point->frames, point->segment, self->outside);
    if ((before == NULL && PyErr_Occurred()) ||
        frames_fork_whole(point->frames, point->segment, point->msg, 1, self->outside, fresh,
                          segment_fresh, msg_fresh) < 0) {
        Py_XDECREF(before);
        return -1;
    }
    PyObject *after = before == NULL ? NULL : frames_watch(*fresh, *segment_fresh, self->outside);
    PyObject *shared = after == NULL ? NULL : PyList_New(0);
    int rc = before != NULL && shared == NULL && PyErr_Occurred() ? -1 : 1;
    for (Py_ssize_t i = 0; rc == 1 && shared != NULL && i < PyList_GET_SIZE(after); i += 2) {
        for (Py_ssize_t k = 0; k < PyList_GET_SIZE(before); k += 2) {
            if (PyList_GET_ITEM(before, k) == PyList_GET_ITEM(after, i)) {
                rc = PyList_Append(shared, PyList_GET_ITEM(after, i)) < 0 ||
                             PyList_Append(shared, PyList_GET_ITEM(after, i + 1)) < 0
                         ? -1
                         : 1;
                break;
            }
        }
    }
    if (shared != NULL && PyList_GET_SIZE(shared) == 0) {
        Py_CLEAR(shared);
    }
    Py_XDECREF(before);
    Py_XDECREF(after);
    if (rc < 0) {
        Py_XDECREF(shared);
        frames_drop(*fresh);
        Py_CLEAR(*segment_fresh);
        Py_CLEAR(*msg_fresh);
        return -1;
    }
    Py_XSETREF(point->watch, shared);
    return 1;
}

/* Frames to resume a bare point with, and their Messengers: its own, or copies of them.
   1: there are none, replay instead; or the driver has made a state already. */
static int
take_frames(Explorer *self, Point *point, int last, Run *run, PyObject **segment, PyObject **msg,
            PyObject **state)
{
    if (point->frames == NULL) {
        return 1;
    }
    if (point->bridged) {
        run->top = point->frames;
        point->frames = NULL;
        self->bridged--;
        *segment = Py_NewRef(point->segment);
        *msg = last ? Py_NewRef(point->msg) : message_copy((Message *)point->msg);
        return 0;
    }
    if (point->watch != NULL || (point->frames->below != NULL && point->frames->below->watched)) {
        int holds = point->watch == NULL ? 1 : watch_holds(point->watch);
        if (holds > 0) {
            holds = frames_watch_holds(point->frames->below);
        }
        if (holds < 0) {
            return -1;
        }
        if (!holds) {
            if (self->strict) {
                PyErr_SetObject(err_capture, changed);
                return -1;
            }
            int rc = repair(self, point, state);
            if (rc != 0) {
                return rc;
            }
        }
    }
    if (!last) {
        Frames *copy;
        PyObject *segment_copy, *msg_copy;
        int whole = point->mutable ||
                    (point->segment != self->base && !only_shared(point->segment));
        int forked = fork_tensors(self, point, &copy, &segment_copy, &msg_copy);
        if (forked > 0 ||
            (forked == 0 &&
             frames_fork(point->frames, point->segment, point->msg, whole, self->returns,
                         self->outside, self->base, &copy, &segment_copy, &msg_copy) == 0)) {
            /* The copy is kept, the original goes on. */
            run->top = point->frames;
            point->frames = copy;
            *segment = point->segment;
            point->segment = segment_copy;
            *msg = point->msg;
            point->msg = msg_copy;
            self->clones++;
            return 0;
        }
        if (forgive(self) < 0) {
            return -1;
        }
    }
    run->top = point->frames;
    point->frames = NULL;
    *segment = Py_NewRef(point->segment);
    /* The point's own message may still be needed for a replay. */
    *msg = last ? Py_NewRef(point->msg) : message_copy((Message *)point->msg);
    return 0;
}

/* The value that a model is given. New reference. A tensor of the tree's is copied, for the model
   may change it in place. Another object that it may change is its own, as the message of this
   branch offers it, or a copy of one from outside. */
PyObject *
value_for_model(PyObject *driver, PyObject *values, int mutable, Message *msg, int pick)
{
    PyObject *value = PyTuple_GET_ITEM(values, pick);
    if (is_atomic(value)) {
        return Py_NewRef(value);
    }
    if (!mutable) {
        int watched = is_watched(value);
        return watched < 0    ? NULL
               : watched == 0 ? Py_NewRef(value)
                              : PyObject_CallMethodNoArgs(value, str_clone);
    }
    if (is_finite(msg->field[F_FN])) {
        PyObject *own = slot_of(msg->field[F_FN], at_values);
        if (own != NULL && PyTuple_CheckExact(own) && pick < PyTuple_GET_SIZE(own)) {
            value = PyTuple_GET_ITEM(own, pick);
        }
    }
    return PyObject_CallMethodOneArg(driver, str_own, value);
}

static int
past(double deadline)
{
    PyObject *now = PyObject_CallNoArgs(monotonic);
    if (now == NULL) {
        return -1;
    }
    double seconds = PyFloat_AsDouble(now);
    Py_DECREF(now);
    return seconds >= deadline;
}

/* Let the running function go on with the first value of a site; the others are left for later. */
static int
inline_choice(Explorer *self, Message *msg, PyObject **value)
{
    PyObject *fn = msg->field[F_FN];
    if (self->order != DEPTH_FIRST || self->strict || self->max_executions == 0 || !is_finite(fn) ||
        (self->watch_clock && past(self->deadline) != 0)) {
        return 0;
    }
    PyObject *values = slot_of(fn, at_values), *recorded = recorded_values(values);
    Point *point = recorded == NULL
                       ? NULL
                       : new_point(self, msg->field[F_NAME], values, slot_of(fn, at_log_probs),
                                   recorded, 1.0, self->at.node, self->at.log_weight, self->at.log_prior);
    Py_XDECREF(recorded);
    if (point == NULL) {
        return 0;
    }
    point->bridged = 1;
    point->segment = Py_NewRef(self->base);
    point->msg = Py_NewRef(msg);
    int pick = point->picks[point->next++], last = point->n == 1;
    PyObject *given = value_for_model(self->driver, point->values, point->mutable, msg, pick);
    int node = given == NULL ? -1 : add_node(self, self->at.node, point->visit, pick);
    if (node < 0 || (!last && frontier_push(self, point) < 0)) {
        Py_XDECREF(given);
        point_free(point);
        return 0;
    }
    double log_prob = log_prob_of(point, pick);
    self->at.log_weight += log_prob;
    self->at.log_prior += log_prob;
    self->at.node = self->at_node = node;
    self->branches++;
    if (last) {
        point_free(point);
    }
    *value = given;
    return 1;
}

int
explorer_inline(PyObject *bridge, Message *msg, PyObject **value)
{
    Explorer *self = running_inline;
    if (self == NULL || self->at.gen == NULL || bridge_of(self->at.gen) != bridge) {
        return 0;
    }
    int decided = is_decided(msg), done = 0;
    if (decided == 0) {
        done = inline_choice(self, msg, value);
    }
    else if (decided > 0 && msg->field[F_VALUE] != NULL && !is_computed(msg)) {
        double weight;
        if (weigh(self->driver, msg, &weight, &self->bounded) == 0 && self->at.log_weight + weight > -Py_HUGE_VAL) {
            self->at.log_weight += weight;
            *value = Py_NewRef(msg->field[F_VALUE]);
            done = 1;
        }
    }
    if (done) {
        msg->performed = 1;
    }
    else {
        PyErr_Clear(); /* the machine is asked, and will say it again where it can be said better */
    }
    return done;
}

/* Depth first, the next execution is mostly one more run of the same function: then it is run where
   it is, without a way to the machine and back. */
PyObject *
explorer_again(PyObject *bridge, PyObject *value)
{
    Explorer *self = running_inline;
    if (self == NULL || self->at.gen == NULL || bridge_of(self->at.gen) != bridge) {
        Py_RETURN_NONE;
    }
    if (self->order != DEPTH_FIRST || self->strict || self->n == 0 ||
        self->leaves.n + 1 == self->max_executions || PyGen_CheckExact(value) ||
        Message_CheckExact(value) || message_was_dropped() ||
        (self->watch_clock && past(self->deadline) != 0)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    Point *point = frontier_top(self);
    if (!point->bridged || point->frames != NULL) {
        Py_RETURN_NONE;
    }
    if (((self->branches & 1023) == 1023 && PyErr_CheckSignals() < 0) ||
        add_leaf(self, self->at.node, self->at.log_weight, value) < 0) {
        return NULL;
    }
    prune(self, self->at.log_prior);
    int pick = point->picks[point->next++], last = point->next == point->n;
    double log_prob = log_prob_of(point, pick);
    frontier_advance(self, point, last);
    int node = add_node(self, point->node, point->visit, pick);
    self->at.log_weight = point->log_weight + log_prob;
    self->at.log_prior = point->log_prior + log_prob;
    if (last) {
        point_free(point);
    }
    if (node < 0) {
        return NULL;
    }
    self->at.node = self->at_node = node;
    self->branches++;
    PyObject *answers = answers_to(self, node);
    PyObject *feed = answers == NULL
                         ? NULL
                         : PyObject_CallMethodOneArg(self->driver, str_feed, answers);
    Py_XDECREF(answers);
    return feed;
}

/* Answer a bare execution's pending message with `value` and run on. */
static int
answer(Explorer *self, PyObject *segment, Run *run, Message *msg, PyObject *value, int node,
       double log_weight, double log_prior)
{
    if (segment == self->base && msg->field[F_CONTINUATION] == NULL) {
        return run_and_settle(self, run, Py_NewRef(value), node, log_weight, log_prior);
    }
    Py_XSETREF(msg->field[F_VALUE], Py_NewRef(value));
    int rc = set_ambient(segment);
    if (rc == 0) {
        PyObject *sent = pass_down(segment, msg);
        if (sent != NULL) {
            rc = run_and_settle(self, run, sent, node, log_weight, log_prior);
        }
        else {
            rc = throw(self, run, node, log_weight, log_prior);
            PyObject *type, *error, *traceback;
            PyErr_Fetch(&type, &error, &traceback);
            if (set_ambient(self->base) < 0) {
                PyErr_Clear();
            }
            run_end(run);
            PyErr_Restore(type, error, traceback);
        }
    }
    return rc;
}

static int
resume(Explorer *self, Point *point, int pick, int last, int node, double log_weight,
       double log_prior)
{
    PyObject *value = PyTuple_GET_ITEM(point->values, pick);
    if (point->state != NULL) {
        PyObject *state = PyObject_CallMethodObjArgs(self->driver, str_branch, point->state,
                                                     last ? Py_True : Py_False, NULL);
        int rc = state == NULL
                     ? -1
                     : step_opaque(self, state, value, pick, node, log_weight, log_prior);
        Py_XDECREF(state);
        return rc;
    }
    Run run = {NULL};
    PyObject *state = NULL, *segment = NULL, *msg = NULL;
    int rc = take_frames(self, point, last, &run, &segment, &msg, &state);
    if (rc == 0) {
        PyObject *given =
            msg == NULL ? NULL : value_for_model(self->driver, point->values, point->mutable,
                                          (Message *)msg, pick);
        rc = given == NULL ? FAILED
                           : answer(self, segment, &run, (Message *)msg, given, node, log_weight,
                                    log_prior);
        Py_XDECREF(given);
        run_end(&run);
        if (rc == FAILED && forgive(self) == 0) {
            rc = 1; /* a frame that waited below could not be cloned when its turn came */
        }
    }
    if (rc == 1 && point->bridged) {
        rc = restart(self, point, node, log_weight, log_prior);
    }
    else if (rc == 1) {
        if (state == NULL) {
            state = replayed(self, point);
        }
        rc = state == NULL
                 ? -1
                 : step_opaque(self, state, value, pick, node, log_weight, log_prior);
    }
    Py_XDECREF(state);
    Py_XDECREF(segment);
    Py_XDECREF(msg);
    return rc;
}

static int
begin(Explorer *self)
{
    self->begun = 1;
    Run run = {NULL};
    PyObject *body = PyObject_CallMethodNoArgs(self->driver, str_body);
    if (body == NULL || run_push(&run, body) < 0) {
        return -1;
    }
    return run_and_settle(self, &run, Py_NewRef(Py_None), 0, 0.0, 0.0);
}

/* 1: nothing is left, 0: a budget has run out, -1: error */
static int
explore(Explorer *self, Py_ssize_t max_executions, double deadline)
{
    int watch_clock = self->watch_clock = deadline < Py_HUGE_VAL;
    self->deadline = deadline;
    self->max_executions = max_executions;
    self->at_node = 0;
    if (!self->begun && begin(self) < 0) {
        return -1;
    }
    while (self->n > 0) {
        if (self->leaves.n == max_executions) {
            return 0;
        }
        if (watch_clock) {
            int late = past(deadline);
            if (late != 0) {
                return late < 0 ? -1 : 0;
            }
        }
        if ((self->branches & 1023) == 1023 && PyErr_CheckSignals() < 0) {
            return -1;
        }
        Point *point = frontier_top(self);
        int pick = point->picks[point->next++];
        int last = point->next == point->n;
        double log_prob = log_prob_of(point, pick);
        frontier_advance(self, point, last);
        int node = add_node(self, point->node, point->visit, pick);
        if (node < 0) {
            return -1;
        }
        self->at_node = node;
        self->branches++;
        int rc = resume(self, point, pick, last, node, point->log_weight + log_prob,
                        point->log_prior + log_prob);
        if (last) {
            PyObject *type, *error, *traceback;
            PyErr_Fetch(&type, &error, &traceback);
            point_free(point);
            PyErr_Restore(type, error, traceback);
        }
        if (rc < 0) {
            return -1;
        }
    }
    return 1;
}

/* --- for Python ----------------------------------------------------------------------------- */

static PyObject *
explorer_run(PyObject *op, PyObject *args)
{
    Explorer *self = (Explorer *)op;
    Py_ssize_t max_executions = -1;
    double deadline = Py_HUGE_VAL;
    if (!PyArg_ParseTuple(args, "|nd", &max_executions, &deadline)) {
        return NULL;
    }
    if (self->failed) {
        PyErr_SetString(PyExc_RuntimeError, "this search has failed and cannot go on");
        return NULL;
    }
    /* A variable that is set in this context is found at once; a default is looked for each time. */
    PyObject *token = PyContextVar_Set(ambient_var, self->base);
    if (token == NULL) {
        return NULL;
    }
    message_machines(+1);
    int rc = explore(self, max_executions, deadline);
    message_machines(-1);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (PyContextVar_Reset(ambient_var, token) < 0) {
        rc = -1;
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    else {
        PyErr_Restore(type, error, traceback);
    }
    Py_DECREF(token);
    self->failed = rc < 0;
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *
ints(const int *column, Py_ssize_t n)
{
    return PyBytes_FromStringAndSize((const char *)column, n * (Py_ssize_t)sizeof(int));
}

static PyObject *
objects(PyObject **column, Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(column[i]));
    }
    return list;
}

static PyObject *
explorer_columns(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Explorer *self = (Explorer *)op;
    return Py_BuildValue(
        "(NNNNNNNO)", ints(self->nodes.parents, self->nodes.n),
        ints(self->nodes.visits, self->nodes.n), ints(self->nodes.picks, self->nodes.n),
        objects(self->sites.names, self->sites.n), objects(self->sites.values, self->sites.n),
        ints(self->leaves.nodes, self->leaves.n),
        PyBytes_FromStringAndSize((const char *)self->leaves.log_weights,
                                  self->leaves.n * (Py_ssize_t)sizeof(double)),
        self->leaf_values);
}

static PyObject *
explorer_frontier(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Explorer *self = (Explorer *)op;
    PyObject *priors = PyList_New(0), *weights = PyList_New(0);
    for (Py_ssize_t i = 0; i < self->n && priors != NULL && weights != NULL; i++) {
        Point *point = self->frontier[(self->head + i) & (self->room - 1)];
        for (int k = point->next; k < point->n; k++) {
            double log_prob = log_prob_of(point, point->picks[k]);
            PyObject *prior = PyFloat_FromDouble(point->log_prior + log_prob);
            PyObject *weight = PyFloat_FromDouble(point->log_weight + log_prob);
            int rc = prior == NULL || weight == NULL || PyList_Append(priors, prior) < 0 ||
                     PyList_Append(weights, weight) < 0;
            Py_XDECREF(prior);
            Py_XDECREF(weight);
            if (rc) {
                Py_CLEAR(priors);
                break;
            }
        }
    }
    PyObject *result = priors == NULL || weights == NULL ? NULL : PyTuple_Pack(2, priors, weights);
    Py_XDECREF(priors);
    Py_XDECREF(weights);
    return result;
}

static PyObject *
explorer_path(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return answers_to((Explorer *)op, ((Explorer *)op)->at_node);
}

static void
drop_frontier(Explorer *self)
{
    Point **frontier = self->frontier;
    Py_ssize_t n = self->n, head = self->head, room = self->room;
    self->frontier = NULL;
    self->n = self->head = self->room = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        point_free(frontier[(head + i) & (room - 1)]);
    }
    PyMem_Free(frontier);
}

static PyObject *
explorer_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    drop_frontier((Explorer *)op);
    Py_RETURN_NONE;
}

static PyObject *
explorer_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *driver, *outside, *base;
    int order, strict;
    if (!PyArg_ParseTuple(args, "OOO!ip", &driver, &outside, &PyTuple_Type, &base, &order,
                          &strict)) {
        return NULL;
    }
    if (ambient_var == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "set_types must be called first");
        return NULL;
    }
    if (!Py_IS_TYPE(outside, &OutsideType)) {
        PyErr_SetString(PyExc_TypeError, "outside must be an Outside");
        return NULL;
    }
    Explorer *self = (Explorer *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->driver = Py_NewRef(driver);
    self->outside = Py_NewRef(outside);
    self->base = Py_NewRef(base);
    self->order = order;
    self->strict = strict;
    self->bounded = 1;
    self->leaf_values = PyList_New(0);
    self->returns = returns_table_new();
    if (self->leaf_values == NULL || self->returns == NULL || add_node(self, -1, -1, -1) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
explorer_traverse(Explorer *self, visitproc visit, void *arg)
{
    Py_VISIT(self->driver);
    Py_VISIT(self->outside);
    Py_VISIT(self->base);
    Py_VISIT(self->leaf_values);
    for (Py_ssize_t i = 0; i < self->sites.n; i++) {
        Py_VISIT(self->sites.values[i]);
    }
    for (Py_ssize_t i = 0; i < self->n; i++) {
        Point *point = self->frontier[(self->head + i) & (self->room - 1)];
        Py_VISIT(point->state);
        Py_VISIT(point->segment);
        Py_VISIT(point->msg);
        Py_VISIT(point->watch);
        Py_VISIT(point->values);
        for (Frames *f = point->frames; f != NULL && f->refs == 1; f = f->below) {
            Py_VISIT(f->gen); /* a shared frame is left out: it must not be visited twice */
            Py_VISIT(f->spare);
            Py_VISIT(f->watch);
        }
    }
    return 0;
}

static int
explorer_clear(Explorer *self)
{
    drop_frontier(self);
    for (Py_ssize_t i = 0; i < self->sites.n; i++) {
        Py_CLEAR(self->sites.names[i]);
        Py_CLEAR(self->sites.values[i]);
    }
    self->sites.n = 0;
    Py_CLEAR(self->driver);
    Py_CLEAR(self->outside);
    Py_CLEAR(self->base);
    Py_CLEAR(self->leaf_values);
    Py_CLEAR(self->copying);
    return 0;
}

static void
explorer_dealloc(Explorer *self)
{
    PyObject_GC_UnTrack(self);
    explorer_clear(self);
    returns_table_free(self->returns);
    PyMem_Free(self->nodes.parents);
    PyMem_Free(self->nodes.visits);
    PyMem_Free(self->nodes.picks);
    PyMem_Free(self->sites.names);
    PyMem_Free(self->sites.values);
    PyMem_Free(self->sites.kind);
    PyMem_Free(self->leaves.nodes);
    PyMem_Free(self->leaves.log_weights);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef explorer_methods[] = {
    {"run", explorer_run, METH_VARARGS,
     "run(max_executions=-1, deadline=inf): True when nothing is left to explore."},
    {"columns", explorer_columns, METH_NOARGS, "The tree, column by column."},
    {"frontier", explorer_frontier, METH_NOARGS,
     "Log-priors and log-weights of the resumptions still to be done."},
    {"path", explorer_path, METH_NOARGS, "The answers that led to where the last run stopped."},
    {"close", explorer_close, METH_NOARGS, "Drop what is left without running it."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef explorer_members[] = {
    {"branches", T_PYSSIZET, offsetof(Explorer, branches), READONLY, NULL},
    {"clones", T_PYSSIZET, offsetof(Explorer, clones), READONLY, NULL},
    {"executions", T_PYSSIZET, offsetof(Explorer, leaves.n), READONLY, NULL},
    {"explored_mass", T_DOUBLE, offsetof(Explorer, explored_mass), READONLY, NULL},
    {"bounded", T_INT, offsetof(Explorer, bounded), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject ExplorerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "contpoutine._native.Explorer",
    .tp_doc = "Explorer(driver, outside, base, order, strict): the loop of infer/explorer.py.",
    .tp_basicsize = sizeof(Explorer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = explorer_new,
    .tp_traverse = (traverseproc)explorer_traverse,
    .tp_clear = (inquiry)explorer_clear,
    .tp_dealloc = (destructor)explorer_dealloc,
    .tp_methods = explorer_methods,
    .tp_members = explorer_members,
};

int
slot_offset(PyObject *type, const char *name, Py_ssize_t *offset)
{
    PyObject *descriptor = PyObject_GetAttrString(type, name);
    if (descriptor == NULL) {
        return -1;
    }
    int ok = Py_IS_TYPE(descriptor, &PyMemberDescr_Type);
    if (ok) {
        *offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
    }
    else {
        PyErr_Format(PyExc_TypeError, "%s must be a slot of %R", name, type);
    }
    Py_DECREF(descriptor);
    return ok ? 0 : -1;
}

static PyObject *
set_types(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *var, *mark, *messenger, *finite, *delta, *choices, *choices_t, *leaf, *pruned,
        *shared, *why, *keeping;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!OO!O!O!OOO", &PyContextVar_Type, &var, &PyType_Type,
                          &mark, &PyType_Type, &messenger, &PyType_Type, &finite, &PyType_Type,
                          &delta, &choices, &PyType_Type, &choices_t, &PyType_Type, &leaf,
                          &PyType_Type, &pruned, &shared, &why, &keeping) ||
        slot_offset(finite, "values", &at_values) < 0 ||
        slot_offset(finite, "log_probs", &at_log_probs) < 0 ||
        slot_offset(finite, "table", &at_table) < 0) {
        return NULL;
    }
    process_default = _PyType_Lookup((PyTypeObject *)messenger, str_process);
    postprocess_default = _PyType_Lookup((PyTypeObject *)messenger, str_postprocess);
    if (process_default == NULL || postprocess_default == NULL) {
        PyErr_SetString(PyExc_TypeError, "the Messenger class lacks its methods");
        return NULL;
    }
    Py_INCREF(process_default);
    Py_INCREF(postprocess_default);
    Py_XSETREF(ambient_var, Py_NewRef(var));
    Py_XSETREF(mark_type, Py_NewRef(mark));
    Py_XSETREF(finite_type, Py_NewRef(finite));
    Py_XSETREF(delta_type, Py_NewRef(delta));
    Py_XSETREF(choices_function, Py_NewRef(choices));
    Py_XSETREF(choices_type, Py_NewRef(choices_t));
    Py_XSETREF(leaf_type, Py_NewRef(leaf));
    Py_XSETREF(pruned_type, Py_NewRef(pruned));
    Py_XSETREF(shared_iterator_error, Py_NewRef(shared));
    Py_XSETREF(changed, Py_NewRef(why));
    Py_XSETREF(recorded_function, Py_NewRef(keeping));
    Py_RETURN_NONE;
}

static PyObject *
set_bridge(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *code;
    int slot;
    if (!PyArg_ParseTuple(args, "O!i", &PyCode_Type, &code, &slot)) {
        return NULL;
    }
    if (slot < 0 || slot >= ((PyCodeObject *)code)->co_nlocalsplus) {
        PyErr_SetString(PyExc_ValueError, "the code has no such local");
        return NULL;
    }
    bridge_slot = slot;
    Py_XSETREF(bridge_code, Py_NewRef(code));
    Py_RETURN_NONE;
}

static PyMethodDef explorer_functions[] = {
    {"set_bridge", set_bridge, METH_VARARGS, "Tell the explorer how to know a bridge."},
    {"set_types", set_types, METH_VARARGS, "Tell the explorer the Python types it works with."},
    {NULL, NULL, 0, NULL},
};

int
explorer_ready(PyObject *module)
{
    static const struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&str_value, "value"},         {&str_weight, "weight"}, {&str_named, "named"},
        {&str_state, "state"},         {&str_name, "name"},     {&str_values, "values"},
        {&str_log_probs, "log_probs"}, {&str_scale, "scale"},   {&str_adopt, "adopt"},
        {&str_replay, "replay"},       {&str_branch, "branch"}, {&str_step, "step"},
        {&str_weigh, "weigh"},         {&str_note, "note"},     {&str_body, "body"},
        {&str_blame, "blame"},
        {&str_hidden, "hidden"},       {&str_wait, "wait"},     {&str_scale_of, "scale_of"},
        {&str_process, "_process_message"},
        {&str_postprocess, "_postprocess_message"},
        {&str_clone, "clone"},
        {&str_keep, "keep"},
        {&str_own, "own"},
        {&str_recorded, "recorded"},
        {&str_torch, "torch"},
        {&str_repair, "repair"},
        {&str_restart, "restart"},
        {&str_feed, "feed"},
        {&str_pyro_sample, "_pyro_sample"},
        {&str_pyro_post_sample, "_pyro_post_sample"},
        {&str_param, "param"},
        {&str_pyro_param, "_pyro_param"},
        {&str_pyro_post_param, "_pyro_post_param"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        *names[i].place = PyUnicode_InternFromString(names[i].text);
        if (*names[i].place == NULL) {
            return -1;
        }
    }
    PyObject *time = PyImport_ImportModule("time");
    monotonic = time == NULL ? NULL : PyObject_GetAttrString(time, "monotonic");
    Py_XDECREF(time);
    if (monotonic == NULL || PyType_Ready(&ExplorerType) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, explorer_functions) < 0 ||
                   PyModule_AddObjectRef(module, "Explorer", (PyObject *)&ExplorerType) < 0
               ? -1
               : 0;
}
