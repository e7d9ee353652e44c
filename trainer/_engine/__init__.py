"""The parts of the torch engine; the engine itself is trainer/engine.py.

weights    which weights these are, and a model put aside from its training for one computation
cells      the keys and values of tokens, each in a cell of its own
batching   the rows at work: one sequence a round, in which each token sees its own row only
complete   many structured answers: rows drawn, admitted, given back in order
generate   one answer in free text, token by token
score      log-probabilities of given continuations
"""
