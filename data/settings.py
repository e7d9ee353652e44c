"""What can be set: every key with its default, its bounds and what it means. One table of settings.toml is one class.

Not covered: where the values come from (config.py).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ModeName = Literal["auto", "standard", "chain_of_thought", "multi_step", "agent", "ensemble"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Sampling(_Table):
    """How the next token is drawn. temperature 0 is greedy and makes every other field but the penalties moot."""

    temperature: Annotated[float, Field(ge=0, le=5, description="0 is greedy")] = 0.7
    top_k: Annotated[int, Field(ge=0, description="keep the k likeliest tokens; 0 keeps all")] = 40
    top_p: Annotated[float, Field(gt=0, le=1, description="keep the likeliest tokens up to this mass")] = 0.95
    min_p: Annotated[float, Field(ge=0, le=1, description="drop tokens below this share of the likeliest")] = 0.05
    repeat_penalty: Annotated[float, Field(gt=0, le=3, description="1 is none")] = 1.1
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repeat_last_n: Annotated[int, Field(ge=0, description="tokens that the penalties look back over")] = 64
    seed: Annotated[int | None, Field(ge=0, lt=2**32, description="absent: a new one each time")] = None


class LlamaCppSettings(_Table):
    """llama.cpp in process."""

    context: Annotated[int, Field(ge=128, description="context window in tokens, at most what the model was trained for")] = 4096
    threads: Annotated[int, Field(ge=0, description="0: one per core that this process may use")] = 0
    gpu_layers: Annotated[int, Field(ge=-1, description="layers on the GPU; -1: all, where the build has one")] = -1
    batch: Annotated[int, Field(ge=8, le=8192, description="prompt tokens computed at once; 128 at most on a processor")] = 512
    folders: Annotated[tuple[str, ...], Field(description="folders searched for *.gguf files")] = ()
    caches_mb: Annotated[
        int, Field(ge=0, description="MB for adapters and the caches of conversations with them; 0: half of what is free")
    ] = 0


class OllamaSettings(_Table):
    """The user's Ollama server. The options are sent alike with every call: a changed context would reload the model."""

    host: Annotated[str, Field(description="empty: OLLAMA_HOST, else 127.0.0.1:11434")] = ""
    context: Annotated[int, Field(ge=128, description="num_ctx in tokens")] = 4096
    keep_alive: Annotated[str, Field(description="how long an idle model stays loaded, as a Go duration")] = "5m"
    stall_s: Annotated[float, Field(gt=0, description="seconds without a byte before the answer counts as broken off")] = 300.0


class OpenAICompatibleSettings(_Table):
    """Any server with /v1/chat/completions."""

    url: Annotated[str, Field(description="for example http://127.0.0.1:8000/v1; empty: none")] = ""
    api_key: Annotated[str, Field(description="sent as a bearer token", repr=False)] = ""
    context: Annotated[int, Field(ge=128, description="context window in tokens, where the server does not tell")] = 4096
    stall_s: Annotated[float, Field(gt=0, description="seconds without a byte before the answer counts as broken off")] = 300.0


class ModesSettings(_Table):
    """The ways of reasoning, and what bounds them."""

    steps: Annotated[int, Field(ge=1, le=20, description="sub-questions of multi_step at most")] = 5
    step_tokens: Annotated[int, Field(ge=16, description="tokens of one step's answer at most")] = 384
    thinking_tokens: Annotated[int, Field(ge=16, description="tokens of chain_of_thought's reasoning at most")] = 768
    agent_turns: Annotated[int, Field(ge=1, le=50, description="times that agent may call tools before it must answer")] = 6
    votes: Annotated[int, Field(ge=1, le=15, description="answers that ensemble draws and votes on; 1 is no vote")] = 1
    classifier: Annotated[str, Field(description="the model that classifies in ensemble; empty: the one that answers")] = ""


class ToolsSettings(_Table):
    """What agent mode may call. Writing, running and the network ask first, whatever stands here."""

    folders: Annotated[tuple[str, ...], Field(description="folders whose files tools may read and search")] = ()
    off: Annotated[tuple[str, ...], Field(description="names of tools that are never offered")] = ()
    python_s: Annotated[float, Field(gt=0, le=600, description="seconds that sandboxed Python may take")] = 10.0
    python_mb: Annotated[int, Field(ge=32, description="memory of sandboxed Python in MB")] = 512
    mcp: Annotated[dict[str, str], Field(description="MCP servers: name = 'command with arguments' or 'https://...'")] = {}
    mcp_s: Annotated[float, Field(gt=0, description="seconds to wait for an MCP server's answer")] = 30.0


class DocumentsSettings(_Table):
    """Attached documents."""

    chunk_chars: Annotated[int, Field(ge=200, le=8000, description="characters of a chunk, about")] = 1000
    chunks: Annotated[int, Field(ge=1, le=50, description="chunks put before the model for one question")] = 4
    max_mb: Annotated[int, Field(ge=1, description="MB of a document at most")] = 50


class RouterSettings(_Table):
    """Which model and which way of reasoning a question gets."""

    risk: Annotated[float, Field(gt=0, lt=0.5, description="share of wrong domains to accept at most; more abstention below")] = (
        0.05
    )
    encoder: Annotated[bool, Field(description="ask the sentence encoder where the n-grams are unsure")] = True
    margin: Annotated[float, Field(ge=0, le=1, description="gain in win rate that a switch of models needs at least")] = 0.02
    switch_weight: Annotated[float, Field(ge=0, description="gain in win rate asked for each second that a switch costs")] = 0.01
    models: Annotated[
        dict[str, str], Field(description="domain = model, used once an evaluation shows that it beats the base")
    ] = {}


class StoreSettings(_Table):
    """Where the log lives."""

    url: Annotated[str, Field(description="SQLAlchemy URL; empty: pointsman.db in the data folder")] = ""
    user: Annotated[str, Field(description="on a PostgreSQL server that several share: whose rows; empty: one store for all")] = ""
    keep_days: Annotated[
        int, Field(ge=0, le=36500, description="days that a conversation stays after its last turn; 0: for ever")
    ] = 0


class ServerSettings(_Table):
    """`pointsman serve`."""

    host: Annotated[str, Field(description="the address to listen on; any but this machine's own needs a token")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0: one that is free")] = 11535
    token: Annotated[str, Field(description="asked of every client; better in POINTSMAN_SERVER_TOKEN or a file", repr=False)] = ""
    hosts: Annotated[tuple[str, ...], Field(description="names that clients may reach this machine by, beside its addresses")] = ()
    origins: Annotated[tuple[str, ...], Field(description="web pages that may ask, for example 'https://chat.example.org'")] = ()
    parallel: Annotated[int, Field(ge=1, le=256, description="answers at once on each server behind; in process it is one")] = 4
    queue: Annotated[int, Field(ge=1, le=512, description="answers that may wait; one more is refused with 503")] = 64
    body_mb: Annotated[int, Field(ge=1, le=1024, description="MB of a request at most")] = 8
    stall_s: Annotated[float, Field(gt=0, description="seconds that a client may take to send its request, or not to read")] = 30.0
    grace_s: Annotated[float, Field(ge=0, description="seconds that answers may go on when the server is stopped")] = 10.0


class TuiSettings(_Table):
    """The chat."""

    theme: Annotated[str, Field(description="a Textual theme name")] = "textual-dark"
    text_width: Annotated[
        int, Field(ge=20, description="columns of text at most; 0 is not allowed, 1000 is as wide as it gets")
    ] = 100
    keymap: Annotated[dict[str, str], Field(description="binding id = key, for example send = 'ctrl+enter'")] = {}


class Settings(_Table):
    """All settings, validated. Immutable: changing one means loading again."""

    model: Annotated[str, Field(description="the default model; auto: the embedded one")] = "auto"
    mode: Annotated[ModeName, Field(description="the default way of reasoning; auto chooses one for each question")] = "standard"
    system: Annotated[str, Field(description="the default system prompt")] = ""
    max_tokens: Annotated[int, Field(ge=1, description="tokens of an answer at most")] = 1024
    sampling: Sampling = Sampling()
    llamacpp: LlamaCppSettings = LlamaCppSettings()
    ollama: OllamaSettings = OllamaSettings()
    openai_compatible: OpenAICompatibleSettings = OpenAICompatibleSettings()
    modes: ModesSettings = ModesSettings()
    tools: ToolsSettings = ToolsSettings()
    documents: DocumentsSettings = DocumentsSettings()
    router: RouterSettings = RouterSettings()
    store: StoreSettings = StoreSettings()
    server: ServerSettings = ServerSettings()
    tui: TuiSettings = TuiSettings()
