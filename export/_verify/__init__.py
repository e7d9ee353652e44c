"""The parts of export.verify: what a child process computes of GGUF files (`tasks`), asked for by `computing`, and the checks.

numerics   how far a file's predictions are from the trained model's
spelling   tokens and prompts: the trained model's, the file's, the Modelfile's
folder     what can be checked of the files alone
"""
