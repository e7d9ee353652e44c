"""A conversation as Ollama gives it to a Go template, and the prompt that comes out.

Follows Execute, collate and deleteNode of template/template.go, and `_debug_render_only` of Ollama 0.32: neighbours of one role
become one message (except tools' answers), system messages stay in `.Messages` and are joined in `.System`; a template without
`.Messages` is rendered turn by turn with `.System`, `.Prompt` and `.Response`. Not covered: images, tools, `.Suffix`, dropping
old messages that do not fit, and `<bos>`, which Ollama takes from the start of a prompt.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from data.chat import Message
from export._template import parser
from export._template.functions import NO_LIST, Record, Value, failure
from export._template.go import GoTemplate

RESPONSE = "Response"


def render(template: GoTemplate, messages: Sequence[Message], think: bool | None = None, today: date | None = None) -> str:
    """The prompt; think: whether the user asked for thinking, None where nothing was said. Raises ModelInvalid."""
    names = template.names()
    if not {"messages", "response"} & names:
        template = GoTemplate(template.source, (*template.tree, _RESPONSE))
    switch = {"Think": bool(think), "ThinkLevel": "", "IsThinkSet": think is not None}
    collated = _collated(messages)
    if "messages" not in names:
        return _turn_by_turn(template, collated, switch, today)
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    values = {"System": system, "Messages": [_record(message) for message in collated], "Tools": NO_LIST, "Response": ""}
    return template.render(values | switch, today)


_RESPONSE = parser.Action(parser.Pipe(((parser.Path("", (RESPONSE,)),),)), 0)


def _collated(messages: Sequence[Message]) -> list[Message]:
    found: list[Message] = []
    for message in messages:
        if found and found[-1].role == message.role and message.role != "tool":
            found[-1] = replace(found[-1], content=f"{found[-1].content}\n\n{message.content}")
        else:
            found.append(message)
    return found


def _record(message: Message) -> Record:
    calls = [
        Record(ID=call.id, Function=Record(Index=number, Name=call.name, Arguments=dict(call.arguments)))
        for number, call in enumerate(message.tool_calls)
    ]
    return Record(
        Role=message.role, Content=message.content, Thinking=message.thinking, Images=NO_LIST,
        ToolCalls=calls or NO_LIST, ToolName=message.tool_name, ToolCallID="",
    )  # fmt: skip


def _turn_by_turn(template: GoTemplate, messages: Sequence[Message], switch: dict[str, Value], today: date | None) -> str:
    written, turn = "", dict.fromkeys(("System", "Prompt", RESPONSE), "")

    def flush() -> None:
        nonlocal written
        written += template.render(turn | switch, today)
        turn.update(dict.fromkeys(turn, ""))

    for message in messages:
        if message.role == "system":
            if turn["Prompt"] or turn[RESPONSE]:
                flush()
            turn["System"] = message.content
        elif message.role == "user":
            if turn[RESPONSE]:
                flush()
            turn["Prompt"] = message.content
        elif message.role == "assistant":
            turn[RESPONSE] = message.content
    last = GoTemplate(template.source, _up_to_response(template.tree)[0])
    return written + last.render(turn | switch, today)


def _up_to_response(nodes: tuple[parser.Node, ...]) -> tuple[tuple[parser.Node, ...], bool]:
    """The nodes up to and with the first that prints `.Response`, and whether there was one; conditions do not count."""
    kept: list[parser.Node] = []
    for node in nodes:
        if isinstance(node, parser.Block):
            body, cut = _up_to_response(node.body)
            if cut and node.other:
                raise failure("an else follows .Response in the same block, on which Ollama stops")
            other, cut_later = (node.other, False) if cut else _up_to_response(node.other)
            kept.append(replace(node, body=body, other=other))
            cut = cut or cut_later
        else:
            kept.append(node)
            cut = isinstance(node, parser.Action) and RESPONSE in _printed_fields(node.pipe)
        if cut:
            return tuple(kept), True
    return tuple(kept), False


def _printed_fields(pipe: parser.Pipe) -> frozenset[str]:
    """The fields of `.` that a pipeline names. Ollama also drops what stands after `.Response` in it; none of ours has more."""
    found = [operand for command in pipe.commands for operand in command]
    fields = frozenset(
        field for operand in found if isinstance(operand, parser.Path) and not operand.start for field in operand.fields
    )
    return fields.union(*(_printed_fields(operand) for operand in found if isinstance(operand, parser.Pipe)))
