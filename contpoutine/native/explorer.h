/* explorer.h: what the two loops of enumeration, explorer.c and merged.c, have in common: stacks of
   suspended frames that branches share, and a request's way past the Messengers. */

#ifndef CONTPOUTINE_EXPLORER_H
#define CONTPOUTINE_EXPLORER_H

#include "native.h"

enum { DEPTH_FIRST, BREADTH_FIRST, LIKELY_FIRST };

/* --- stacks of frames --------------------------------------------------------------------- */

typedef struct Frames {
    Py_ssize_t refs;
    struct Frames *below;
    PyObject *gen;
    PyObject *spare;   /* a clone made ahead of time, to see whether it can be made */
    PyObject *watch;   /* tensors in reach of a frame that waits, with their versions; or NULL */
    Returns *returns;  /* what frames in its state have returned; NULL: it has to run */
    char ready;        /* looked at as a frame that waits: the fields around say what was found */
    char shareable;    /* this frame and those below can be cloned one by one */
    char watched;      /* this frame or one below has something to watch */
} Frames;

Frames *frames_push(Frames *below, PyObject *gen); /* steals both */
void frames_drop(Frames *frames);
/* `returns` may be NULL: then nothing is remembered of frames that wait. */
int frames_make_ready(Frames *frames, ReturnsTable *returns, PyObject *outside, PyObject *base);
int frames_watch_holds(Frames *frames);
int frames_own_top(Frames **frames, PyObject *outside, PyObject *segment);
int frames_fork(Frames *frames, PyObject *segment, PyObject *msg, int whole, ReturnsTable *returns,
                PyObject *outside, PyObject *base, Frames **fresh, PyObject **segment_fresh,
                PyObject **msg_fresh);

/* --- requests ------------------------------------------------------------------------------- */

extern PyObject *ambient_var;                      /* core.ambient.AMBIENT */
extern PyObject *choices_function, *choices_type;  /* distributions.choices */

int set_ambient(PyObject *segment);
int only_messengers(PyObject *segment);
int only_shared(PyObject *segment);
/* Will a handler see a sample again, when it has its answer? */
int looks_back(PyObject *segment);
Py_ssize_t pass_up(PyObject *segment, Message *msg, int *stopped);
PyObject *pass_down(PyObject *segment, Message *msg);
int is_true(PyObject *flag);
int is_decided(Message *msg);
int is_computed(Message *msg);
int weigh(PyObject *driver, Message *msg, double *weight, int *bounded);
int scale_for(PyObject *driver, Message *msg, double *scale, int *bounded);
int choices_at(Message *msg, PyObject **values, PyObject **log_probs, PyObject **offered);
void blame(PyObject *driver, Message *msg);
PyObject *recorded_values(PyObject *values);
PyObject *value_for_model(PyObject *driver, PyObject *values, int mutable, Message *msg, int pick);

#endif
