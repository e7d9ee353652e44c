"""Reading documents: every kind as lines with the right numbers, and everything that is no document refused with what it is."""

import io
import os
import random
import sys
import zlib
from pathlib import Path

import pytest

from data.errors import InputError
from router.documents import extraction, folders, reading

MAX = 50_000_000
pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")


def pdf(*pages: bytes, compressed: bool = False) -> bytes:
    """A PDF with one line of text a page."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    font = b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    kids = []
    for page in pages:
        content = (
            b"BT /F1 12 Tf 72 720 Td 14 TL " + b" T* ".join(b"(%s) Tj" % line for line in page.split(b"\n")) + b" ET"
            if page
            else b""
        )
        kind = b""
        if compressed:
            content, kind = zlib.compress(content, 9), b"/Filter /FlateDecode "
        objects.append(b"<< %s/Length %d >>\nstream\n%s\nendstream" % (kind, len(content), content))
        here = len(objects)
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources %s /Contents %d 0 R >>" % (font, here))
        kids.append(b"%d 0 R" % (here + 1))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out, places = io.BytesIO(b"%PDF-1.4\n"), []
    out.seek(0, 2)
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
    return out.getvalue()


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def lines(folder: Path, name: str, data: bytes) -> tuple[str, ...]:
    return reading.read(write(folder, name, data), MAX).lines


@pytest.mark.parametrize(
    "data",
    [
        "Größe\nzwei".encode(),
        "Größe\nzwei\n".encode("utf-8-sig"),
        "Größe\r\nzwei".encode("utf-16"),
        "Größe\rzwei".encode("utf-16-le"),
        "Größe\nzwei\n".encode("utf-16-be"),
        "Größe\nzwei".encode("utf-32"),
        "Größe\nzwei".encode("latin-1"),
    ],
)
def test_text_is_read_in_every_usual_encoding(tmp_path, data):
    assert lines(tmp_path, "a.txt", data) == ("Größe", "zwei")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.md", "markdown"), ("a.py", "code"), ("Makefile", "text"), ("a.csv", "table"), ("a.unknown", "text"), ("A.MD", "markdown")],
)
def test_the_kind_follows_the_name(tmp_path, name, kind):
    found = reading.read(write(tmp_path, name, b"x\ny\n"), MAX)
    assert (found.kind, found.lines, found.pages, found.size_bytes, len(found.sha256)) == (kind, ("x", "y"), (), 4, 64)


def test_a_few_control_characters_are_kept_and_many_are_no_text(tmp_path):
    assert lines(tmp_path, "log.txt", b"\x1b[31mred\x1b[0m\0 and \x07\n" + b"plain\n" * 10)[0] == "\x1b[31mred\x1b[0m\0 and \x07"
    with pytest.raises(InputError, match="no text: .* control characters"):
        lines(tmp_path, "b.txt", b"a\0" * 10 + bytes(1000))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
        (b"PK\x03\x04" + bytes(100), "ZIP archive"),
        (b"\x7fELF" + bytes(100), "a program"),
        (b"GGUF" + bytes(100), "a GGUF model"),
        (bytes(range(256)) * 40, "control characters"),
        (random.Random(1).randbytes(50_000), "control characters"),
        (b"\xff\xfe" + b"\x00\xd8" * 9, "utf-16"),
        (b"", "is empty"),
        (b" \n\t\n", "holds no text"),
        (b"\xef\xbb\xbf", "holds no text"),
    ],
    ids=[str(n) for n in range(10)],
)
def test_what_is_no_text_is_refused_with_what_it_is(tmp_path, data, what):
    with pytest.raises(InputError, match=what):
        lines(tmp_path, "a.txt", data)


def test_missing_folders_pipes_devices_and_impossible_names_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (
        tmp_path / "no",
        tmp_path,
        tmp_path / "pipe",
        Path("/dev/zero"),
        tmp_path / "loop",
        tmp_path / ("x" * 5000),
        Path("a\0b"),
    ):
        with pytest.raises(InputError) as caught:
            reading.read(path, MAX)
        assert caught.value.fix and "\n" not in str(caught.value)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path):
    path = write(tmp_path, "a.txt", b"x")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        reading.read(path, MAX)


def test_a_file_of_a_gigabyte_is_refused_by_its_size_alone(tmp_path, monkeypatch):
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(1_000_000_000)
    monkeypatch.setattr(reading, "decoded", lambda *_: pytest.fail("it was read"))
    with pytest.raises(InputError, match="too big \\(1000 MB, 50 MB are the limit\\)"):
        reading.read(path, MAX)


def test_too_many_lines_are_refused(tmp_path):
    with pytest.raises(InputError, match="lines"):
        lines(tmp_path, "a.txt", b"a\n" * (reading.MAX_LINES + 1))


def test_names_are_harmless_in_messages(tmp_path):
    with pytest.raises(InputError) as caught:
        reading.read(tmp_path / "a\x1b[31m\n**b**.txt", MAX)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_html_loses_its_markup_and_keeps_its_line_numbers(tmp_path):
    source = (
        "<html><head><title>T</title>\n<style>p { x: y }\n</style><script>\nif (a < b) { evil() }\n</script>\n"
        "<body><p>One &amp; two</p><p>three\nfour</p>\n<!-- hidden -->five</body>"
    )
    found = lines(tmp_path, "a.html", source.encode())
    assert found == ("T", "", "", "", "", "One & two three", "four", "five")
    assert lines(tmp_path, "b.html", b"<<<<\n" * 1000 + b"text")[-1] == "text"


def test_a_pdf_has_its_pages(tmp_path):
    found = reading.read(write(tmp_path, "a.pdf", pdf(b"First page\nsecond line", b"Next page", compressed=True)), MAX)
    assert (found.kind, found.lines, found.pages) == ("pdf", ("First page", "second line", "Next page"), (1, 1, 2))
    assert reading.read(write(tmp_path, "noname", pdf(b"hello")), MAX).kind == "pdf"


def test_a_long_pdf_is_read(tmp_path):
    found = reading.read(write(tmp_path, "a.pdf", pdf(*[b"page %d" % n for n in range(2000)])), MAX)
    assert found.lines[-1] == "page 1999" and found.pages[-1] == 2000


def encrypted(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(b"secret")))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_encrypted_pdf_is_refused_unless_its_password_is_empty(tmp_path):
    with pytest.raises(InputError, match="the PDF is encrypted"):
        lines(tmp_path, "a.pdf", encrypted("word"))
    assert lines(tmp_path, "b.pdf", encrypted("")) == ("secret",)


def test_a_scanned_pdf_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="holds no text \\(scanned pages\\?\\); recognise"):
        lines(tmp_path, "a.pdf", pdf(b"", b""))


@pytest.mark.parametrize("cut", [9, 60, 200, 400])
def test_a_damaged_pdf_is_refused_or_read_but_never_a_crash(tmp_path, cut):
    whole = pdf(b"some text", b"more text")
    with pytest.raises(InputError):
        lines(tmp_path, "a.pdf", whole[:cut])
    for at in range(20, len(whole), 97):
        spoiled = whole[:at] + b"\xff<<[" + whole[at + 4 :]
        if at < 300 and at % 2:  # a process each: a few are enough
            try:
                lines(tmp_path, "b.pdf", spoiled)
            except InputError as fault:
                assert "b.pdf" in str(fault)


def test_a_bomb_in_a_pdf_is_refused(tmp_path):
    bomb = pdf(b"(x) Tj " * 40_000_000, compressed=True)
    assert len(bomb) < 2_000_000
    with pytest.raises(InputError):
        lines(tmp_path, "a.pdf", bomb)


def test_a_child_that_says_nothing_is_ended(tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    sleeper.chmod(0o700)
    monkeypatch.setattr(extraction.sys, "executable", str(sleeper))
    with pytest.raises(InputError, match="damaged or too much work"):
        extraction.texts("pdf", b"%PDF-", "a.pdf", stall_s=0.2)


def test_a_folder_gives_its_text_files_and_says_what_it_left_out(tmp_path):
    for name in (
        "a.md",
        "sub/b.py",
        ".env",
        "key.pem",
        "sub/id_rsa",
        "id_rsa.pub",
        ".git/config",
        ".hidden.txt",
        "node_modules/x.js",
    ):
        write(tmp_path / "project", name, b"text")
    (tmp_path / "project" / "link").symlink_to("/etc")
    (tmp_path / "project" / "out.md").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "project" / "pipe")
    taken, left = folders.gather([tmp_path / "project"])
    assert [one.name for one in taken] == ["project/a.md", "project/id_rsa.pub", "project/sub/b.py"]
    assert {(one.path.name, one.why) for one in left} == {
        (".env", "named like a secret"),
        ("key.pem", "named like a secret"),
        ("id_rsa", "named like a secret"),
        (".git", "hidden"),
        (".hidden.txt", "hidden"),
        ("node_modules", "made by a program"),
        ("link", "a link"),
        ("out.md", "a link"),
        ("pipe", "no regular file"),
    }


def test_a_named_file_is_taken_whatever_its_name_and_nothing_else_is_guessed(tmp_path):
    path = write(tmp_path, ".env", b"x")
    assert folders.gather([path]) == ([folders.Candidate(path, ".env")], [])
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "empty", tmp_path / "no", Path("a\0b"), tmp_path / ("x" * 5000)):
        with pytest.raises(InputError):
            folders.gather([bad])
