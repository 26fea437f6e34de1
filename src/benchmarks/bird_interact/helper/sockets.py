"""Where services listen."""

import contextlib
import socket

# The length of a port in a message to the nursery; see nursery.py.
PORT_BYTES = 8
# Exit statuses of bench.py, which says what they mean.
POSTGRES_UNUSABLE, PORT_IN_USE, MODEL_REFUSES = 3, 4, 5
IN_USE = (98, 48)  # EADDRINUSE of Linux and of macOS


class StartError(Exception):
    """A service did not come up; the text says which and why. `status`: see bench.py."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.status = status


def listen(port=0):
    """A listening socket on 127.0.0.1 and one that keeps the same port of ::1 from being anybody else's.

    The benchmark's processes say `localhost`, which is ::1 first on many machines. The service inherits the socket, so
    there is no moment at which another process could take the port, and nothing stale can be answering on it.
    """
    for _ in range(50):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        guard = None
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            sock.listen(256)
            with contextlib.suppress(OSError):
                guard = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            if guard is not None:
                guard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    guard.bind(("::1", sock.getsockname()[1]))
                except OSError as error:
                    guard.close()
                    guard = None
                    if error.errno in IN_USE:  # Other errors mean that this machine has no ::1.
                        raise
            return sock, guard
        except OSError as error:
            sock.close()
            if port:
                raise StartError(
                    f"port {port} is in use ({error.strerror}); free it, or leave the choice to us", PORT_IN_USE
                ) from None
    raise StartError("no port is free on both 127.0.0.1 and ::1")
