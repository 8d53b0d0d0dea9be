"""Attacks the deployer as a program would that has taken over the daemon: with the rights of the
user renewd, over the deployer's own socket.

    attack.py STATE_DIR SOCKET

Prints what the deployer answered to each attack that it refused, a line each: the journal must hold
all of them. Ends with 1, and says why on standard error, if anything was done that should have been
refused, or if nobody else was served meanwhile. Everything that it plants it takes away again.

Uses the certificates `site` (target nginx) and `database` (target postgresql, installed).
"""

import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CERTS = Path(sys.argv[1]) / "certs"
SOCKET = sys.argv[2]
PLANTED = 9001
# The deployer gives a request five seconds to come; another caller waits no longer than that.
PATIENCE = 10

faults: list[str] = []


def current(name: str) -> int:
    return int(os.readlink(CERTS / name / "current"))


def connect() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(70)
    connection.connect(SOCKET)
    return connection


def say(line: bytes) -> dict:
    """The deployer's answer to `line`, as it stands in `result`; {} if there is none."""
    with connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    return json.loads(answer)["result"] if answer else {}


def request(verb="install", certificate="database", generation=None, target="postgresql", **more) -> bytes:
    if generation is None:
        generation = PLANTED
    fields = {"version": 1, "verb": verb, "certificate": certificate, "generation": generation, "target": target}
    return json.dumps(fields | more).encode() + b"\n"


def refused(what: str, line: bytes, must_answer: bool = True) -> None:
    answer = say(line)
    if isinstance(answer, dict) and "failed" in answer:
        print(answer["failed"]["message"])
    elif must_answer or answer:
        faults.append(f"{what}: {answer}")


def served(what: str) -> None:
    """Demands that an honest request is carried out in good time."""
    started = time.monotonic()
    answer = say(request("test", "site", current("site"), "nginx"))
    took = time.monotonic() - started
    if answer != "done" or took > PATIENCE:
        faults.append(f"an honest request {what}: {answer} after {took:.1f} s")


def strange_lines() -> None:
    good = request("test", "site", current("site"), "nginx")
    for verb in ("exec", "repair", "shell", "", "install;id", 7, ["install"]):
        refused(f"verb {verb!r}", request(verb))
    for name in ("../../etc", "a/b", "..", "", "a\0b", "/etc/passwd", "x" * 3800, "SITE", "-rf", "site\n", "\u202esite"):
        refused(f"certificate {name[:20]!r}", request(certificate=name))
        refused(f"target {name[:20]!r}", request(target=name))
    for generation in (-1, 2**32, 1.5, "1", "../0001", None, 10**30):
        line = json.dumps(json.loads(request()) | {"generation": generation}).encode() + b"\n"
        refused(f"generation {generation!r}", line)
    refused("a generation that is not there", request(generation=4711))
    refused("a certificate that is not configured", request(certificate="nobody", generation=1))
    refused("a target that is not configured", request(generation=current("database"), target="exim4"))
    refused("a target that is not the certificate's", request("reload", "site", current("site"), "postgresql"))
    refused("a check of what is not configured", request("check", "nobody", 0, "nginx"))
    refused("a check of what is not the certificate's", request("check", "site", 0, "postgresql"))
    refused("a path of its own", request(path="/etc/shadow"))
    refused("another version", good.replace(b'"version": 1', b'"version": 2'))
    refused("no JSON", b"\xff\xfe\0\n")
    refused("deep JSON", b"[" * 4000 + b"\n")
    refused("a long line", b"x" * 1_000_000, must_answer=False)
    refused("two requests", good + good)
    refused("half a request", good[: len(good) // 2])


@contextlib.contextmanager
def planted(fill: Callable[[Path], object]) -> Iterator[None]:
    """The generation PLANTED of `database`, a copy of the current one, changed by `fill`."""
    folder = CERTS / "database" / str(PLANTED)
    shutil.copytree(CERTS / "database" / "current", folder)
    try:
        fill(folder)
        yield
    finally:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def fill(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return fill


def one_gigabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def as_link(to: Path | str) -> Callable[[Path], object]:
    def fill(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.symlink_to(to)

    return fill


def copies_of(name: str, *files: str) -> Callable[[Path], object]:
    def fill(folder: Path) -> None:
        for file in files:
            shutil.copy(CERTS / name / "current" / file, folder / file)

    return fill


PEM_FILES = ("fullchain.pem", "cert.pem", "chain.pem", "privkey.pem", "combined.pem")


def strange_generations() -> None:
    secret = Path(sys.argv[1]) / "private"
    account = next(secret.glob("accounts/*/key.pem"))
    attacks: dict[str, Callable[[Path], object]] = {
        "a foreign certificate": copies_of("site", *PEM_FILES),
        "a foreign certificate with our key": copies_of("site", "fullchain.pem", "cert.pem", "chain.pem"),
        "a key that does not fit": copies_of("site", "privkey.pem", "combined.pem"),
        "a folder that is a link": as_link(CERTS / "site" / str(current("site"))),
        "a folder that is a link to itself": as_link(str(PLANTED)),
        "a folder that leads to /etc": as_link("/etc/postgresql/tls"),
    }
    for file in ("fullchain.pem", "privkey.pem"):
        attacks |= {
            f"{file} is a link to /etc/shadow": instead(file, lambda it: it.symlink_to("/etc/shadow")),
            f"{file} is a link to its like": instead(file, lambda it: it.symlink_to(f"../current/{it.name}")),
            f"{file} is a hard link": instead(file, lambda it: os.link(account, it)),
            f"{file} is a hard link to its like": instead(
                file, lambda it: os.link(CERTS / "database" / "current" / it.name, it)
            ),
            f"{file} is a fifo": instead(file, os.mkfifo),
            f"{file} is a folder": instead(file, Path.mkdir),
            f"{file} has 1 GB": instead(file, one_gigabyte),
            f"{file} is empty": instead(file, Path.touch),
            f"{file} is not there": instead(file, lambda it: None),
            f"{file} is no PEM": instead(file, lambda it: it.write_bytes(os.urandom(4096))),
        }
    for what, fill in attacks.items():
        with planted(fill):
            refused(what, request())

    # The folder of the certificate itself, and what holds all of them.
    for path, to in ((CERTS / "database", "site"), (CERTS, "certs.aside")):
        aside = path.with_name(path.name + ".aside")
        path.rename(aside)
        try:
            path.symlink_to(to)
            refused(f"{path} is a link", request(generation=1))
        finally:
            path.unlink()
            aside.rename(path)


def smuggled_text() -> None:
    """What stands beside the PEM of a certificate that is ours must not reach the server's file."""

    def fill(folder: Path) -> None:
        for file in ("fullchain.pem", "privkey.pem"):
            path = folder / file
            text = path.read_text()
            path.write_text(f"include /etc/shadow;\n{text}\nsmuggled {{\n")

    with planted(fill):
        say(request())
    for path in Path("/etc/postgresql/tls").iterdir():
        if path.suffix == ".pem" and "smuggled" in path.read_text():
            faults.append(f"text was smuggled into {path}")


def flood() -> None:
    for _ in range(1000):
        with contextlib.suppress(OSError):
            with connect() as connection:
                connection.sendall(request("exec"))
    served("after a flood")


def stalled() -> None:
    held = []
    for number in range(40):
        connection = connect()
        if number % 2:
            connection.sendall(b'{"version"')
        held.append(connection)
    served("beside 40 connections that say nothing")
    for connection in held:
        connection.close()
    served("after them")


def main() -> int:
    served("before everything")
    strange_lines()
    strange_generations()
    smuggled_text()
    stalled()
    flood()
    for fault in faults:
        print("  was not refused, or not served:", fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
