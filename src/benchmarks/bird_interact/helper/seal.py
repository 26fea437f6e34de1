"""Seals: how the processes of a run know each other on ports of this machine.

A request carries a seal, which only a holder of the key can make and which is good once; the answer carries its
counterpart. The key travels through stdin and never through an environment or an argument, which every process of the same
user can read. What answers on a port without the counterpart is somebody else, whatever it says.
"""

import hashlib
import hmac
import secrets

HEADER = "x-autoharness"


class Seal:
    """Makes and checks seals with one key."""

    def __init__(self, key):
        self.key = bytes.fromhex(key)
        self.used = set()

    @staticmethod
    def new_key():
        return secrets.token_hex(32)

    def _mac(self, what, nonce):
        return hmac.new(self.key, f"{what} {nonce}".encode(), hashlib.sha256).hexdigest()

    def ask(self):
        """A fresh seal, and the counterpart that the answer must carry."""
        nonce = secrets.token_hex(16)
        return f"{nonce}.{self._mac('ask', nonce)}", self._mac("answer", nonce)

    def counterpart(self, seal):
        """The counterpart of somebody's seal; `None` when it is not one of ours or has been used before."""
        nonce, _, mac = str(seal or "").partition(".")
        good = nonce.isalnum() and nonce.isascii() and hmac.compare_digest(mac.encode(), self._mac("ask", nonce).encode())
        if not good or nonce in self.used:
            return None
        self.used.add(nonce)
        return self._mac("answer", nonce)
