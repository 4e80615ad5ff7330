"""A scripted provider on a raw socket: the model that a request names says how it behaves."""

import json
import socket
import struct
import threading


def chunk(delta, reason=None, index=0, **more):
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    head = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1700000001, "model": "served", "choices": [choice]}
    return head | more


USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
STREAMS = {
    "plain": [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hé"}), chunk({"content": "llo"}), chunk({}, "stop")],
    "tools": [
        chunk({"role": "assistant", "content": None, "tool_calls": [CALL]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Bern"}'}}]}),
        chunk({}, "tool_calls"),
    ],
    "two": [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop"), chunk({}, "stop", index=1)],
    "cut": [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})],
}


def completion(model):
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    reason = "stop"
    if model == "tools":
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}]
    return {"id": "chatcmpl-s", "object": "chat.completion", "created": 1700000001, "model": "served", "choices": choices, "usage": USAGE}


def respond(connection, status, body, kind="application/json"):
    head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def stream(connection, model, with_usage):
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    def send(data):
        event = f"data: {data}\n\n".encode()
        connection.sendall(f"{len(event):x}\r\n".encode() + event + b"\r\n")

    for part in STREAMS[model]:
        send(json.dumps(part | {"usage": None} if with_usage else part))
    if model == "cut":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionError("cut")
    if with_usage:
        send(json.dumps(chunk({}) | {"choices": [], "usage": USAGE}))
    send("[DONE]")
    connection.sendall(b"0\r\n\r\n")


def serve(connection):
    held = b""
    try:
        while True:
            while b"\r\n\r\n" not in held:
                held += (more := connection.recv(65536))
                if not more:
                    return
            head, held = held.split(b"\r\n\r\n", 1)
            lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            length = int(lengths[0]) if lengths else 0
            while len(held) < length:
                held += connection.recv(65536)
            request, held = json.loads(held[:length]), held[length:]
            model = request["model"]
            if model == "bad-request":
                error = {"message": "temperature is too hot", "type": "invalid_request_error", "param": "temperature", "code": "bad_value"}
                respond(connection, 400, json.dumps({"error": error}).encode())
            elif request.get("stream"):
                stream(connection, model, (request.get("stream_options") or {}).get("include_usage") is True)
            else:
                respond(connection, 200, json.dumps(completion(model)).encode())
    except ConnectionError:
        pass
    finally:
        connection.close()


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    print("provider on http://127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
