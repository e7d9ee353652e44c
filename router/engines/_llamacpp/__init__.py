"""The parts of the llama.cpp engine; the engine itself is router/engines/llamacpp.py.

bindings   the C interface, loaded once and lean, with its log kept in memory
header     what a GGUF file says of itself, checked before llama.cpp sees it
content    what is in a GGUF file beyond that, for training and export
files      model names -> files, and the list of what is there
probe      the first load of an unknown file, in a child process that may crash
vocab      tokens and text, both ways
sandbox    a Jinja environment in which a hostile chat template runs out of budget instead of time
template   the model's chat template
prompt     a conversation -> prompt tokens that fit, with no control token made by content
context    prompt and answer in the KV cache, computed batch by batch, reused by prefix
aborting   the end of a computation that nobody waits for
grammar    a JSON schema as a grammar
sampler    the next token: penalties, then cuts, temperature and the draw
text       token bytes -> text, thinking and stop strings
generate   the answer, token by token
score      log-probabilities of given continuations
embed      sentence vectors
complete   many structured answers at once: rows drawn, admitted, given back in order
batching   the answers at work in one context: what they share, their sequences, one batch a round
answer     one structured answer, decision by decision
plan       what all answers of one structure share
unfolding  a structure part by part: fixed text, decision, what comes after
choosing   a choice by the exact probabilities over the tree of its options' tokens
writing    free text, token by token up to its end
counting   a number within bounds, digit by digit
masks      which tokens may come next in free text
drawing    one token drawn from logits
dequantised  the same weights in F32, for reading many tokens at once
model      one loaded file with its vocabulary, template, adapters and contexts
"""
