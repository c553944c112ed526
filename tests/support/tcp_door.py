"""`python -m tests.support.tcp_door HOST SOCKET`: joins each connection of TCP to a new one of a unix socket.

So servers with private sockets can be reached from other hosts. Prints its port.
"""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class TcpDoor:
    """Such a process, on any free port of `host`."""

    def __init__(self, host: str, path: Path) -> None:
        command = [sys.executable, "-m", "tests.support.tcp_door", host, str(path)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


async def _serve(host: str, path: str) -> None:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(path)
            await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
        writer.close()

    server = await asyncio.start_server(join, host, 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
