"""Tokens per second of Session.ask, log and all, beside a bare llama.cpp loop and llama-cpp-python's chat stream.

    python bench/decode.py [--rounds 5] [--model smollm2-135m] [--lengths 256 1000]

All run the same file, prompt, context length and threads, greedily, and take turns within each round; speeds are medians
over rounds, decode only (after the first token) and, for ours, with the final commit. The bare loop is llama_decode and a
greedy sampler in C without detokenising, templates or a log: what the library can do at most, once with flash attention,
as llama-bench and llama-cpp-python run here, and once without, as Pointsman runs on a processor.
`llama-bench` is run beside it where it is on PATH. Also shown: how many prompt tokens the second turn of a chat computes.
"""

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data import config
from data.chat import Usage
from data.store import open_store
from export import embedded
from router.engines import Engines
from router.modes.base import Done, Text
from router.session import Session

PROMPT = "Write every whole number from one to one thousand in order, one after the other, separated by commas. Leave none out."
SYSTEM = "You are a patient clerk who writes long lists."


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--lengths", type=int, nargs="+", default=[256, 1000])
    options = arguments.parse_args()
    home = tempfile.mkdtemp(prefix="pointsman-bench-")
    os.environ.setdefault("POINTSMAN_HOME", home)
    file = embedded.prepare("smollm2-135m", lambda line: print(line, file=sys.stderr)).path
    rows = []
    for length in options.lengths:
        found = measure(file, length, options.rounds)
        print(harness.table(found, ["tokens", "way", "tokens/s", "of bare", "of bare without", "of chat stream"]), flush=True)
        rows += found
    turns = second_turn()
    print(harness.table(turns, ["turn", "prompt tokens", "cached", "computed", "to first token s"]))
    harness.write("decode", {"file": file.name, "rows": rows, "second turn": turns})
    shutil.rmtree(home)


def measure(file: Path, length: int, rounds: int) -> list[dict[str, object]]:
    """One row a way: the median over rounds in which every way ran once."""
    settings = config.load({"max_tokens": length, "sampling.temperature": 0.0, "sampling.repeat_penalty": 1.0, "system": SYSTEM})
    session = Session(settings, open_store(""), Engines(settings))
    threads = settings.llamacpp.threads or len(os.sched_getaffinity(0))
    context = settings.llamacpp.context
    bare, plain = Bare(file, context, threads, flash=True), Bare(file, context, threads, flash=False)
    chat = HighLevel(file, context, threads)
    ways: dict[str, Callable[[], float]] = {
        "bare loop, flash attention": lambda: bare.run(length),
        "bare loop, without": lambda: plain.run(length),
        "pointsman": lambda: ours(session, length),
        "create_chat_completion stream": lambda: chat.run(length),
    }
    if shutil.which("llama-bench"):
        ways["llama-bench"] = lambda: llama_bench(file, length, threads)
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in session.ask("Hi", overrides={"max_tokens": 8}):
        pass  # the context made and the weights in the page cache
    for _ in range(rounds):
        for name, way in ways.items():
            speeds[name].append(way())
    session.close()
    median = {name: statistics.median(values) for name, values in speeds.items()}
    return [
        {
            "tokens": length,
            "way": name,
            "tokens/s": round(value, 1),
            "of bare": round(value / median["bare loop, flash attention"], 3),
            "of bare without": round(value / median["bare loop, without"], 3),
            "of chat stream": round(value / median["create_chat_completion stream"], 3),
            "all": [round(speed, 1) for speed in speeds[name]],
        }
        for name, value in median.items()
    ]


def ours(session: Session, length: int) -> float:
    """Tokens per second from the first piece of text until Done, the final commit included."""
    first = 0.0
    usage = Usage()
    for event in session.ask(PROMPT):
        if isinstance(event, Text) and not first:
            first = time.perf_counter()
        elif isinstance(event, Done):
            usage = event.usage
    if usage.completion_tokens != length:
        raise SystemExit(f"the model stopped after {usage.completion_tokens} of {length} tokens: choose another prompt")
    return (length - 1) / (time.perf_counter() - first)


class Bare:
    """llama_decode and llama_sampler_sample, nothing else."""

    def __init__(self, file: Path, context: int, threads: int, *, flash: bool) -> None:
        import llama_cpp.llama_cpp as api

        self.api = api
        silent = api.llama_log_callback(lambda level, text, user: None)
        self.silent = silent
        api.llama_log_set(silent, ctypes.c_void_p(0))
        self.model = api.llama_model_load_from_file(str(file).encode(), api.llama_model_default_params())
        parameters = api.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = api.llama_init_from_model(self.model, parameters)
        self.sampler = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        api.llama_sampler_chain_add(self.sampler, api.llama_sampler_init_greedy())

    def run(self, length: int) -> float:
        """Tokens per second after the first token."""
        api = self.api
        vocabulary = api.llama_model_get_vocab(self.model)
        text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n".encode()
        tokens = (api.llama_token * 512)()
        count = api.llama_tokenize(vocabulary, text, len(text), tokens, 512, False, True)
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        api.llama_decode(self.context, api.llama_batch_get_one(tokens, count))
        one = (api.llama_token * 1)()
        one[0] = api.llama_sampler_sample(self.sampler, self.context, -1)
        started = time.perf_counter()
        for _ in range(length - 1):
            api.llama_decode(self.context, api.llama_batch_get_one(one, 1))
            one[0] = api.llama_sampler_sample(self.sampler, self.context, -1)
        return (length - 1) / (time.perf_counter() - started)


class HighLevel:
    """llama-cpp-python's own chat completion, streamed."""

    def __init__(self, file: Path, context: int, threads: int) -> None:
        import llama_cpp

        self.llama = llama_cpp.Llama(
            str(file), n_ctx=context, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False
        )

    def run(self, length: int) -> float:
        """Tokens per second after the first token."""
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
        times = [
            time.perf_counter()
            for _ in self.llama.create_chat_completion(
                messages, max_tokens=length, temperature=0.0, repeat_penalty=1.0, stream=True
            )
        ]
        return (length - 1) / (times[-1] - times[1])  # the first piece carries only the role


def llama_bench(file: Path, length: int, threads: int) -> float:
    """llama-bench's own figure for the same number of tokens."""
    command = [
        "llama-bench",
        "-m",
        str(file),
        "-p",
        "0",
        "-n",
        str(length),
        "-t",
        str(threads),
        "-fa",
        "1",
        "-r",
        "1",
        "-o",
        "json",
    ]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return float(found[0]["avg_ts"])


def second_turn() -> list[dict[str, object]]:
    """How much of a long chat's prompt is computed again at the second turn."""
    settings = config.load({"max_tokens": 300, "sampling.temperature": 0.0, "sampling.repeat_penalty": 1.0})
    session = Session(settings, open_store(""), Engines(settings))
    rows: list[dict[str, object]] = []
    conversation = None
    for turn, question in enumerate((PROMPT * 10, "Go on.", "And on."), start=1):
        for event in session.ask(question, conversation=conversation):
            conversation = getattr(event, "conversation", conversation)
            if isinstance(event, Done):
                usage = event.usage
        rows.append(
            {
                "turn": turn,
                "prompt tokens": usage.prompt_tokens,
                "cached": usage.cached_tokens,
                "computed": usage.prompt_tokens - usage.cached_tokens,
                "to first token s": round(usage.ttft_s, 3),
            }
        )
    session.close()
    return rows


if __name__ == "__main__":
    main()
