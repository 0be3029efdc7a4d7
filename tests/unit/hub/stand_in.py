"""A hub on this machine: what huggingface_hub asks for, answered from a dictionary of files."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
"""A small model; ``tensors`` gives the weights it has."""


def tensors(config: Mapping[str, Any] = LLAMA, dtype: str = "BF16") -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names, dtypes and shapes of a Llama's weights."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for index in range(config["num_hidden_layers"]):
        block = f"model.layers.{index}"
        shapes |= {f"{block}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qo"}
        shapes |= {f"{block}.self_attn.{name}_proj.weight": (keys, hidden) for name in "kv"}
        shapes |= {f"{block}.mlp.{name}_proj.weight": (width, hidden) for name in ("gate", "up")}
        shapes[f"{block}.mlp.down_proj.weight"] = (hidden, width)
        shapes |= {
            f"{block}.{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")
        }
    shapes["model.norm.weight"] = (hidden,)
    return {name: (dtype, shape) for name, shape in shapes.items()}


def safetensors(entries: Mapping[str, tuple[str, tuple[int, ...]]], *, data: bool = True) -> bytes:
    """A safetensors file of zeros."""
    header, end = {}, 0
    for name, (dtype, shape) in entries.items():
        size = {"BF16": 2, "F16": 2, "F32": 4, "U8": 1, "I32": 4, "F8_E4M3": 1}[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end if data else 0)


class Hub:
    """Repositories by id, each a dictionary of files or the name of an error; and what was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes] | str] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.delay = 0.0


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        time.sleep(self.hub.delay)
        self.hub.asked.append((self.command, self.path, self.headers.get("range")))
        owner, name, resolve, _, *rest = [*self.path.strip("/").split("/"), "", "", "", ""]
        found = self.hub.repositories.get(f"{owner}/{name}", "RepoNotFound")
        if isinstance(found, str):
            status = {"RepoNotFound": 404, "GatedRepo": 403}.get(found, 500)
            self._fail(status, found)
            return
        file = "/".join(part for part in rest if part)
        if resolve != "resolve" or file not in found:
            self._fail(404, "EntryNotFound")
            return
        self._send(found[file], with_body)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, with_body: bool) -> None:
        digest = sha1(content, usedforsecurity=False).hexdigest()
        asked = self.headers.get("range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            content = content[int(first) : int(last) + 1]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.hub.sent += len(content)
            self.wfile.write(content)


@contextmanager
def serving() -> Iterator[tuple[Hub, str]]:
    """A hub and its address."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
