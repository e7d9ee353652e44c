"""Tools of MCP servers: real servers of the official SDK over pipes and HTTP, and servers that die, hang and lie."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from data.chat import ToolCall
from data.config import ToolsSettings
from router.tools import Toolbox, Wish, load, mcp
from router.tools._mcp_transports import place
from router.tools.base import Surroundings

pytest.importorskip("mcp", reason="the MCP SDK is not installed (extra mcp)")

HONEST = """
    import os, sys
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import ToolAnnotations

    server = MCPServer("honest", log_level="ERROR")

    @server.tool(description="Adds two numbers.", annotations=ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool(description="Repeats a text.")
    def repeat(text: str, times: int) -> str:
        return text * times

    @server.tool(description="Fails.")
    def fail() -> str:
        raise ToolError("the disk is full")

    @server.tool(description="Tells its environment.")
    def environment() -> str:
        return " ".join(sorted(os.environ))

    @server.tool(name="odd.name", description="Has a dot.")
    def odd() -> str:
        return "\\x1b[31mred"
"""
# Speaks the protocol by hand, so that it can lie: LISTING is its list of tools, RESULT what every call gets.
LYING = """
    import json, sys, time
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" not in asked:
            continue
        method = asked["method"]
        if method == "initialize":
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "l", "version": "1"}}
        elif method == "tools/list":
            result = {"tools": LISTING}
        elif method == "tools/call":
            RESULT
        else:
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
            continue
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
PLAIN = '{"name": "do", "inputSchema": {"type": "object"}}'


@pytest.fixture(autouse=True)
def closed():
    yield
    mcp.close()


def written(folder: Path, source: str, run: str = "", **parts: str) -> str:
    """The command of a server script."""
    text = textwrap.dedent(source)
    for name, part in parts.items():
        text = text.replace(name, part)
    file = folder / f"server_{len(list(folder.iterdir()))}.py"
    file.write_text(text + run)
    return f"{sys.executable} {file}"


def honest(folder: Path) -> str:
    return written(folder, HONEST, "\nserver.run()\n")


def lying(folder: Path, listing: str = f"[{PLAIN}]", result: str = 'result = {"content": []}') -> str:
    return written(folder, LYING, LISTING=listing, RESULT=result)


def box(seconds: float = 30.0, answer: str = "once", asked: list[Wish] | None = None, **servers: str) -> Toolbox:
    def approve(wish: Wish) -> str:
        if asked is not None:
            asked.append(wish)
        return answer

    settings = ToolsSettings(mcp=servers, mcp_s=seconds)
    return Toolbox(load(Surroundings(settings)), approve)


def test_tools_of_a_command_are_offered_and_called(tmp_path: Path) -> None:
    tools = box(calc=honest(tmp_path))
    assert mcp.faults() == {}
    assert {"calc_add", "calc_repeat", "calc_fail", "calc_environment", "calc_odd_name"} <= set(tools.tools)
    assert tools.tools["calc_add"].parameters["required"] == ["a", "b"]
    found = tools.call(ToolCall("calc_add", {"a": 2, "b": 40}))
    assert (found.text, found.failed, found.untrusted) == ("42", False, True)
    assert tools.tainted


def test_user_is_asked_even_where_the_server_says_that_it_only_reads(tmp_path: Path) -> None:
    asked: list[Wish] = []
    command = honest(tmp_path)
    found = box(answer="no", asked=asked, calc=command).call(ToolCall("calc_add", {"a": 2, "b": 40}))
    assert found.failed and "did not allow" in found.text
    assert asked[0].permission == "run" and command in asked[0].shown()


def test_fault_of_the_tool_and_wrong_arguments_come_back_as_text(tmp_path: Path) -> None:
    tools = box(calc=honest(tmp_path))
    failed = tools.call(ToolCall("calc_fail", {}))
    assert failed.failed and "the disk is full" in failed.text
    wrong = tools.call(ToolCall("calc_add", {"a": "two"}))
    assert wrong.failed and "the MCP server calc says" in wrong.text


def test_secrets_of_the_environment_do_not_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    names = box(calc=honest(tmp_path)).call(ToolCall("calc_environment", {})).text.split()
    assert "PATH" in names and "OPENAI_API_KEY" not in names and "POINTSMAN_HOME" not in names


def test_control_characters_and_length_of_results_are_tamed(tmp_path: Path) -> None:
    tools = box(calc=honest(tmp_path))
    assert tools.call(ToolCall("calc_odd_name", {})).text == "␛[31mred"
    long = tools.call(ToolCall("calc_repeat", {"text": "ab", "times": 100_000})).text
    assert len(long) < 8_200 and "[cut:" in long


def test_server_over_http_is_called_with_the_network_permission(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = written(tmp_path, HONEST, f"\nserver.run('streamable-http', host='127.0.0.1', port={port})\n")
    with subprocess.Popen(command.split(), stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            tools = box(web=f"http://127.0.0.1:{port}/mcp")
            assert mcp.faults() == {}
            assert tools.tools["web_add"].permission == "network"
            assert tools.call(ToolCall("web_add", {"a": 1, "b": 2})).text == "3"
            huge = tools.call(ToolCall("web_repeat", {"text": "x" * 1000, "times": 9_000}))
            assert huge.failed and len(huge.text) < 500
            server.kill()
            server.wait()
            gone = tools.call(ToolCall("web_add", {"a": 1, "b": 2}))
            assert gone.failed and "web" in gone.text
        finally:
            server.kill()


def test_address_beyond_this_machine_is_refused_offline() -> None:
    tools = box(far="https://mcp.example.com/mcp")
    assert not [name for name in tools.tools if name.startswith("far_")]
    assert "POINTSMAN_OFFLINE" in mcp.faults()["far"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/nonexistent/server", "no command /nonexistent/server"),
        ("", "has no command"),
        ("'unclosed", "cannot be read"),
        ("true", "cannot be used"),
        ("http://127.0.0.1:1/mcp", "cannot be used"),
        ("http://[::1", "no valid address"),
        ("echo this is no JSON", "cannot be used"),
    ],
)
def test_dead_server_is_left_out_with_a_reason(command: str, reason: str) -> None:
    tools = box(dead=command)
    assert "calculator" in tools.tools and not [name for name in tools.tools if name.startswith("dead")]
    assert reason in mcp.faults()["dead"] and "\n" not in mcp.faults()["dead"]


def test_hanging_server_is_given_up_and_its_process_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    source = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(1000)\n"
    tools = box(1.5, slow=written(tmp_path, source), calc=honest(tmp_path))
    assert "no answer in time" in mcp.faults()["slow"]
    assert not [name for name in tools.tools if name.startswith("slow")]
    mcp.close()
    assert _gone(int(note.read_text()))


def test_call_that_never_ends_is_given_up(tmp_path: Path) -> None:
    tools = box(1.5, slow=lying(tmp_path, result="time.sleep(1000)"))
    found = tools.call(ToolCall("slow_do", {}))
    assert found.failed and "slow" in found.text


def test_server_that_dies_in_a_call_is_started_again_for_the_next(tmp_path: Path) -> None:
    once = tmp_path / "died"
    die = f'import os; d = os.path.exists({str(once)!r}); open({str(once)!r}, "w"); d or os._exit(1); result = {{"content": []}}'
    tools = box(dying=lying(tmp_path, result=die))
    assert tools.call(ToolCall("dying_do", {})).failed
    assert not tools.call(ToolCall("dying_do", {})).failed


@pytest.mark.parametrize(
    "result",
    [
        'result = {"content": "no list"}',
        'result = "no object"',
        'result = {"content": [{"type": "unheard of"}]}',
        'print("{ not JSON", flush=True); sys.exit(1)',
        'print("[" * 100000, flush=True); sys.exit(1)',
        'sys.stdout.write("x" * 9_000_000); sys.stdout.flush(); time.sleep(1000)',
        'print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 1, "message": "\\x1b]0;x\\x07"}})); sys.exit(1)',
    ],
)
def test_lying_result_is_an_error_for_the_model(tmp_path: Path, result: str) -> None:
    found = box(3.0, liar=lying(tmp_path, result=result)).call(ToolCall("liar_do", {}))
    assert found.failed and len(found.text) < 500 and "\x1b" not in found.text


def test_huge_result_is_cut(tmp_path: Path) -> None:
    tools = box(liar=lying(tmp_path, result='result = {"content": [{"type": "text", "text": "x" * 5_000_000}]}'))
    assert len(tools.call(ToolCall("liar_do", {})).text) < 8_200


def test_many_or_huge_schemas_leave_the_server_or_the_tool_out(tmp_path: Path) -> None:
    many = lying(tmp_path, '[{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(10_000)]')
    huge = lying(tmp_path, '[{"name": "big", "inputSchema": {"type": "object", "description": "x" * 50_000}}, ' + PLAIN + "]")
    deep = lying(tmp_path, '[{"name": "deep", "inputSchema": {"type": "object", "a": json.loads("["*50 + "]"*50)}}, ' + PLAIN + "]")
    tools = box(many=many, huge=huge, deep=deep)
    assert {name for name in tools.tools if name.startswith(("many", "huge", "deep"))} == {"huge_do", "deep_do"}
    faults = mcp.faults()
    assert "10,000 tools" in faults["many"] and "20,000 characters" in faults["huge: big"] and "too deep" in faults["deep: deep"]


def test_odd_names_and_schemas_leave_the_tool_out(tmp_path: Path) -> None:
    listing = json.dumps(
        [
            {"name": "do\x1b[2J", "inputSchema": {"type": "object"}},
            {"name": "do", "inputSchema": {"type": "object"}, "description": "first\x07\nline"},
            {"name": "do", "inputSchema": {"type": "object"}, "description": "second"},
            {"name": "a/b", "inputSchema": {"type": "object"}},
            {"name": "x" * 500, "inputSchema": {"type": "object"}},
            {"name": "日本", "inputSchema": {"type": "object"}},
            {"name": "far", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}},
        ]
    )
    tools = box(odd=lying(tmp_path, f"json.loads({listing!r})"))
    names = {name for name in tools.tools if name.startswith("odd")}
    assert names == {"odd_do", "odd_a_b", ("odd_" + "x" * 500)[:64]}
    assert tools.tools["odd_do"].description == "first␇ line"
    assert len(mcp.faults()) == 4


def test_list_of_tools_that_breaks_the_protocol_leaves_the_server_out(tmp_path: Path) -> None:
    arrays = lying(tmp_path, '[{"name": "list", "inputSchema": {"type": "array"}}]')
    tools = box(arrays=arrays, none=lying(tmp_path, '"no list"'))
    assert not [name for name in tools.tools if name.startswith(("arrays", "none"))]
    assert set(mcp.faults()) == {"arrays", "none"}


def test_server_cannot_take_the_name_of_another_tool(tmp_path: Path) -> None:
    tools = box(read=lying(tmp_path, '[{"name": "file", "inputSchema": {"type": "object"}}]'))
    assert tools.tools["read_file"].permission == "run"  # no folder is allowed, so the name is free
    settings = ToolsSettings(mcp={"read": lying(tmp_path)}, folders=(str(tmp_path),))
    assert Toolbox(load(Surroundings(settings))).tools["read_file"].permission == "read"


def test_without_the_sdk_the_servers_are_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    tools = box(calc="true")
    assert "calculator" in tools.tools and "pip install" in mcp.faults()["calc"]


PLACES = [
    ("https://me:swordfish@127.0.0.1:1/mcp?key=swordfish#x", "https://127.0.0.1:1/mcp"),
    ("http://127.0.0.1:1?key=swordfish", "http://127.0.0.1:1"),
    ("HTTP://127.0.0.1:1/a/b", "HTTP://127.0.0.1:1/a/b"),
    ("/nonexistent -y server", "/nonexistent -y server"),
]


@pytest.mark.parametrize(("spec", "shown"), PLACES)
def test_secrets_of_an_address_are_not_shown(spec: str, shown: str) -> None:
    assert place(spec) == shown
    box(5.0, dead=spec)
    assert "swordfish" not in mcp.faults()["dead"]


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_servers_end_with_the_program(tmp_path: Path, end: str) -> None:
    command = written(tmp_path, HONEST, f"\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nserver.run()\n")
    program = f"""
import os
from data.config import ToolsSettings
from router.tools import load
from router.tools._mcp_transports import place
from router.tools.base import Surroundings
print(len(load(Surroundings(ToolsSettings(mcp={{"calc": {command!r}}})))))
{end}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "" and done.returncode == (-9 if end else 0)
    assert _gone(int((tmp_path / "pid").read_text()))


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False
