"""A fence around an agent's process: no files but Python's and the agent's own, no writing, no network, no signals.

Linux's Landlock does it without privileges, and also keeps the process from looking into others. What it leaves, keyrings,
System V IPC, sockets of other kinds, marks on files, autoharness's own seccomp filters refuse. It is for processes that are
forked from one that has imported what takes seconds, so that they cannot be started anew behind autoharness's whole fence;
where that one stands behind it, this keeps its children apart. What the kernel does not offer is left out; without Landlock
there is no fence here, and the program that runs the agent says so.
"""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PATH_BENEATH, NET_PORT = 1, 2
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
# Devices to be made and asked: never, not even in a directory of one's own.
DEVICE_NODES = 1 << 6 | 1 << 11 | 1 << 15
NETWORK, CONNECT = 0b11, 0b10
SCOPES = 0b11
# Since this version of Landlock, a process can be kept to some ports.
WITH_PORTS = 4
# User, IPC, names, control groups; and network. One of processes would be its children's, not its own.
NEW, NEW_NETWORK = 0x10000000 | 0x08000000 | 0x04000000 | 0x02000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
CAPABILITIES = 0x20080522

SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin")
# What libraries look up, as files.rs has it. Not the whole of /etc: root may read passwords there.
SETTINGS = (
    "alternatives", "ca-certificates", "gai.conf", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "mime.types", "nsswitch.conf", "pki", "protocols", "resolv.conf", "services", "ssl/certs", "timezone",
)
DEVICES = {"/dev/null": READ_FILE | WRITE_FILE, "/dev/urandom": READ_FILE, "/dev/zero": READ_FILE}


def _call(number, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    return library.syscall(ctypes.c_long(number), *arguments)


def version():
    """Landlock's version on this machine; 0 when it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def readable(*own):
    """Directories an agent's process may read: the interpreter's, its packages', and its `own`."""
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__), *sys.path, *SYSTEM, *own]
    return sorted({os.path.realpath(place) for place in places if place and os.path.isdir(place)})


def uncovers(places, secret):
    """The readable directory that holds the given one, if any."""
    secret = os.path.realpath(secret)
    for place in places:
        if place == "/" or secret == place or secret.startswith(place.rstrip("/") + "/"):
            return place
    return None


def filters(words, network, tcp=False):
    """The programs of autoharness's seccomp filters, asked for before any agent is there; none without a fence. `network`: whether
    there is any; `tcp`: of it TCP alone. Where `words` name hosts, there is a `Way` to them and nothing else."""
    if not words:
        return []
    options = ["--filter"] + ["--network"] * network + ["--tcp"] * tcp
    said = subprocess.run([*words, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    return [bytes.fromhex(line) for line in said.stdout.decode().split()] if said.returncode == 0 else []


def refuse(programs):
    """Has the kernel refuse, for good, what these filters refuse. Returns whether it does."""
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = bool(programs)
    for program in programs:
        steps = ctypes.create_string_buffer(program, len(program))
        # Number of steps, and where they are, as C aligns it.
        filter_of = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(steps)))
        mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
        done = library.prctl(PR_SET_SECCOMP, mode, filter_of, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0 and done
    return done


class Way:
    """The way out to the hosts that one agent may reach: autoharness's proxy, a process of its own, so that no agent can use up
    another's. `environment`: names the machine's proxy. It ends with us, and with `end`."""

    def __init__(self, words, environment):
        self.socket, theirs = socket.socketpair()
        command = [*words, "--proxy"]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
        theirs.close()

    def end(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def door(self):
        """Opens a door to it on the machine that this process sees; returns its port."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.send_fds(self.socket, [b"."], [listener.fileno()])
            return listener.getsockname()[1]


def put_up(places, network, programs=(), private=None):
    """Fences this process in, for good. It must have one thread. `network`: False for none, True for all, a list of this machine's
    ports, or the `Way` out, whose address it then has in its environment. `private`: a directory that it may do with as it likes.
    Returns whether it worked."""
    if not isinstance(network, list):
        leave(network is not True)
    if isinstance(network, Way):
        way, network = network, [network.door()]
        way.socket.close()
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
            for name in (name, name.lower()):
                os.environ[name] = "" if name.upper() == "NO_PROXY" else f"http://127.0.0.1:{network[0]}"
    done = landlocked(places, network, private)
    done = (refuse(programs) or not programs) and done
    return done


def leave(network):
    """Leaves the machine's shared memory, names and, where asked, its `network` for empty ones, with no privilege in them. Returns
    whether the kernel lets us; then everything else is as before."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    user, group = os.getuid(), os.getgid()
    if library.unshare(ctypes.c_int(NEW | (NEW_NETWORK if network else 0))):
        return False
    # A process that changed its user could not write its own maps otherwise.
    library.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with contextlib.suppress(OSError), open(f"/proc/self/{file}", "w", encoding="ascii") as stream:
            stream.write(text)
    library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if network:
        _raise_loopback()
    return library.capset(struct.pack("=Ii", CAPABILITIES, 0), bytes(24)) == 0


def _raise_loopback():
    import fcntl

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def landlocked(places, network, private=None):
    """Lets this process reach these places alone. Returns whether it worked."""
    level = version()
    if level < 1:
        return False
    files = (1 << 13) - 1
    for since, bit in ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15)):
        if level >= since:
            files |= bit
    attributes = struct.pack("=QQQ", files, 0 if network is True else NETWORK, SCOPES)
    attributes = attributes[: 8 if level < WITH_PORTS else 16 if level < 6 else 24]
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if ruleset < 0:
        return False
    for place in places:
        _allow(ruleset, place, EXECUTE | READ_FILE | READ_DIR)
    for setting in SETTINGS:
        # What a link leads to, wherever that is.
        _allow(ruleset, f"/etc/{setting}", READ_FILE | (READ_DIR if os.path.isdir(f"/etc/{setting}") else 0))
    for device, rights in DEVICES.items():
        _allow(ruleset, device, rights)
    if private is not None:
        _allow(ruleset, private, files & ~DEVICE_NODES)
    for port in network if isinstance(network, list) else ():
        rule = struct.pack("=QQ", CONNECT, port)
        _call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(NET_PORT), rule, ctypes.c_uint(0))
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)) == 0
    os.close(ruleset)
    return done


def _allow(ruleset, path, rights):
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # Not there, so nothing to allow.
    rule = struct.pack("=Qi", rights, target)
    _call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(PATH_BENEATH), rule, ctypes.c_uint(0))
    os.close(target)
