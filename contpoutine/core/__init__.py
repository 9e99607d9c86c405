"""The calculus: messages, handlers of both kinds, continuations and the machine that runs models.

Nothing in here knows about probability, and nothing in here imports torch.
"""
