"""A tracker whose server does not answer."""

import socket
import sys
from pathlib import Path

site = Path(sys.argv[1]) / "site-packages"
package = site / "wandb"
package.mkdir(parents=True)
(package / "__init__.py").write_text(
    "def log(connection, data):\n    connection.sendall(data)\n    return connection.recv(100)\n"
)
sys.path.insert(0, str(site))
import wandb  # noqa: E402

server = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(server.getsockname())


def on_log() -> None:
    print("ready", flush=True)
    wandb.log(connection, b"loss")


on_log()
