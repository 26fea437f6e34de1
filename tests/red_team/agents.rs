//! The hostile agents: what each tries, and what must come of it.

/// How an agent is told apart from one that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// `attack()` returns something true when it got through. Without a fence it does, or the line would show nothing.
    Reaches,
    /// The same, but already the separate process stops it, fence or none; or whether it gets through depends on the machine.
    MayReach,
    /// The second trial finds what the first one left. Without a fence it does.
    Leaves,
    /// The same, where the machine has what it is left in.
    MayLeave,
    /// It spoils its own trial: this outcome, and the next trial goes on.
    Spoils(&'static str),
}
use Sign::{Leaves, MayLeave, MayReach, Reaches, Spoils};

pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) sign: Sign,
    /// The body of `attack(question)`.
    pub(crate) code: &'static str,
}

const fn agent(name: &'static str, sign: Sign, code: &'static str) -> Hostile {
    Hostile { name, sign, code }
}

/// What every agent file begins with.
pub(crate) const PRELUDE: &str = r#"
import ctypes, errno, gc, glob, json, os, resource, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
HERE = os.path.dirname(os.path.abspath(__file__))
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return result >= 0 and (name, result)
def syscall(number, *arguments):
    return call("syscall", ctypes.c_long(number), *arguments)
def others():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (os.getpid(), 1)]
def mark(path, text="left"):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        with open(path, "w") as file:
            file.write(text)
def forged(task="sum"):
    return json.dumps({"event": "trial", "task": task, "trial": 0, "reward": 1.0}).encode() + b"\n"
def channel():
    for number in range(3, 64):
        try:
            return socket.socket(fileno=number)
        except OSError:
            pass
def say(message):
    data = json.dumps(message).encode()
    channel().sendall(struct.pack(">I", len(data)) + data + b"\n")
"#;

pub(crate) const HOSTILE: &[Hostile] = &[
    // What the program says.
    agent("writes to the output it was started with", MayReach, "os.write(1, forged()); os.write(2, forged())"),
    agent(
        "writes to the program's output through /proc",
        MayReach,
        "
    for pid in [os.getppid()]:
        for link in glob.glob('/proc/%d/fd/*' % pid):
            if 'pipe' in os.readlink(link):
                os.write(os.open(link, os.O_WRONLY), b'')
                return link",
    ),
    agent("finds a descriptor that it was not given", MayReach, "
    for number in range(3, 256):
        try:
            kind = os.fstat(number).st_mode
        except OSError:
            continue
        # 0: an event loop's own.
        if not (os.path.stat.S_ISSOCK(kind) or os.path.stat.S_ISCHR(kind) or os.path.stat.S_IFMT(kind) == 0):
            return number"),
    agent("looks for right answers in its memory", MayReach, "
    return [found for found in gc.get_objects() if isinstance(found, dict) and found.get('answer') in ('42', 'pool')]"),
    // Files.
    agent("reads the program, with its answers", Reaches, "
    return 'import' in open(os.path.join(HERE, '..', 'bench.py')).read()"),
    agent("rewrites the program", Reaches, "return open(os.path.join(HERE, '..', 'bench.py'), 'r+')"),
    agent("reads passwords", MayReach, "return open('/etc/shadow').read(1)"),
    agent("lists the machine", Reaches, "return os.listdir('/')"),
    agent("lists what lies beside it", Reaches, "return 'bench.py' in os.listdir(os.path.join(HERE, '..'))"),
    agent("looks whether a file exists", Reaches, "return os.stat(os.path.join(HERE, '..', 'bench.py'))"),
    agent("leaves a file beside the agent", Leaves, "return mark(os.path.join(HERE, 'left'))"),
    agent("leaves a file in /tmp", Leaves, "return mark('/tmp/red-team-TOKEN')"),
    agent("leaves a file in shared memory", Leaves, "return mark('/dev/shm/red-team-shared-TOKEN')"),
    agent("leaves another mode", Leaves, "
    left = os.stat(__file__).st_mode & 0o010
    os.chmod(__file__, 0o654)
    return left"),
    agent("leaves another time", Leaves, "
    left = os.stat(__file__).st_mtime == 86400
    os.utime(__file__, (86400, 86400))
    return left"),
    agent("leaves an attribute", MayLeave, "
    left = os.listxattr(__file__)
    os.setxattr(__file__, 'user.left', b'1')
    return left"),
    agent("leaves an attribute on the directory", MayLeave, "
    left = os.listxattr(HERE)
    os.setxattr(HERE, 'user.left', b'1')
    return left"),
    agent("links what it may read to where it may write", MayReach, "
    os.link(__file__, '/tmp/red-team-link-TOKEN')
    return open('/tmp/red-team-link-TOKEN', 'a')"),
    // Other processes.
    agent("sees other processes", Reaches, "return others()"),
    agent("reads the program's environment", Reaches, "
    return 'hush' in open('/proc/%d/environ' % os.getppid()).read()"),
    agent("has a secret in its environment", MayReach, "return 'hush' in str(os.environ)"),
    agent("reads the program's memory", Reaches, "return open('/proc/%d/mem' % os.getppid(), 'rb')"),
    agent("traces the program", Reaches, "return call('ptrace', 0x4206, os.getppid(), 0, 0)"),
    agent("signals the program", Reaches, "
    if os.getppid() > 1:
        os.kill(os.getppid(), 0)
        return 'its parent is in reach'"),
    agent("sets the program's limits", Reaches, "
    if os.getppid() > 1:
        return resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)"),
    agent("signals whomever it can", Spoils("agent_error"), "
    if os.getpid() < 10:  # Only where it is fenced in.
        for way in (lambda: os.kill(-1, 9), lambda: os.kill(1, 9), lambda: os.killpg(0, 9)):
            try:
                way()
            except OSError:
                pass
    os._exit(9)"),
    // What outlives processes.
    agent("leaves System V shared memory", Leaves, "
    left = call('shmget', TOKEN, 4096, 0)
    call('shmget', TOKEN, 4096, 0o1666)
    return left"),
    agent("leaves a System V queue", Leaves, "
    left = call('msgget', TOKEN, 0)
    call('msgget', TOKEN, 0o1666)
    return left"),
    agent("leaves a System V semaphore", Leaves, "
    left = call('semget', TOKEN, 1, 0)
    call('semget', TOKEN, 1, 0o1666)
    return left"),
    agent("leaves a POSIX queue", MayLeave, "
    left = call('mq_open', b'/red-team-TOKEN', os.O_RDWR)
    call('mq_open', b'/red-team-TOKEN', os.O_RDWR | os.O_CREAT, 0o666, None)
    return left"),
    agent("leaves a key in the user's keyring", MayLeave, "
    if os.uname().machine == 'x86_64':
        left = syscall(249, b'user', b'red-team-TOKEN', None, ctypes.c_long(-4))
        syscall(248, b'user', b'red-team-TOKEN', b'x', ctypes.c_long(1), ctypes.c_long(-4))
        return left"),
    // The network.
    agent("connects by TCP", Reaches, "return socket.create_connection(('127.0.0.1', PORT), 2)"),
    agent("opens TCP", Reaches, "return socket.socket()"),
    agent("opens TCP over IPv6", MayReach, "return socket.socket(socket.AF_INET6)"),
    agent("opens UDP", Reaches, "return socket.socket(type=socket.SOCK_DGRAM)"),
    agent("opens multipath TCP", MayReach, "return socket.socket(proto=262)"),
    agent("opens a raw socket", MayReach, "return socket.socket(type=socket.SOCK_RAW, proto=1)"),
    agent("opens a packet socket", MayReach, "return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    agent("opens netlink", Reaches, "return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    agent("opens a Unix socket", Reaches, "return socket.socket(socket.AF_UNIX)"),
    agent("opens a virtual machine's socket", MayReach, "return socket.socket(40, socket.SOCK_STREAM)"),
    agent("opens the kernel's ciphers", MayReach, "return socket.socket(38, socket.SOCK_SEQPACKET)"),
    agent("opens TCP with the numbers of x32", MayReach, "return syscall(0x40000000 + 41, 2, 1, 0)"),
    // The kernel.
    agent("makes namespaces", MayReach, "return call('unshare', 0x10000000)"),
    agent("mounts", MayReach, "return call('mount', b'x', b'/tmp', b'tmpfs', 0, None)"),
    agent("asks for an io_uring", MayReach, "return syscall(425, 8, ctypes.create_string_buffer(200))"),
    agent("asks for a userfaultfd", MayReach, "return os.uname().machine == 'x86_64' and syscall(323, 1)"),
    agent("asks for performance counters", MayReach, "
    return os.uname().machine == 'x86_64' and syscall(298, ctypes.create_string_buffer(b'\\0\\0\\0\\0\\x70', 112), 0, -1, -1, 0)"),
    // Its own trial.
    agent("ends with status 0", Spoils("agent_error"), "os._exit(0)"),
    agent("ends as a fence that failed", Spoils("agent_error"), "os._exit(125)"),
    agent("is killed", Spoils("agent_error"), "os.kill(os.getpid(), signal.SIGSEGV)"),
    agent("never ends", Spoils("agent_timeout"), "
    while True:
        pass"),
    agent("leaves daemons", Spoils("agent_error"), "
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, '-I', '-c', 'import time; time.sleep(600)', 'daemon-TOKEN'])
        os._exit(0)
    time.sleep(0.2)
    os._exit(3)"),
    agent("forks until it cannot", Spoils("agent_error"), "
    for _ in range(60):
        if os.fork() == 0:
            time.sleep(600)
    os._exit(3)"),
    agent("says 20 MB", Spoils("agent_error"), "
    channel().sendall(struct.pack('>I', 20 << 20) + b'x' * (20 << 20))
    os._exit(0)"),
    agent("says what is no JSON", Spoils("agent_error"), "
    channel().sendall(struct.pack('>I', 3) + b'}{\\xff\\n')
    os._exit(0)"),
    agent("says half a message", Spoils("agent_error"), "
    channel().sendall(struct.pack('>I', 300) + b'{')
    os._exit(0)"),
    agent("says that it passed", Spoils("failed"), "
    say({'answer': 'x', 'reward': 1.0, 'outcome': 'passed', 'output': ''})
    time.sleep(5)"),
    agent("says that there is no evidence", Spoils("agent_error"), "
    say({'error': 'infra_error', 'outcome': 'infra_error', 'reward': None, 'output': ''})
    time.sleep(5)"),
];
