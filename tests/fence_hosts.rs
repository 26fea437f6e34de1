//! A fence with some hosts: what is named is reached, by a proxy outside, and nothing else is.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use fs_err as fs;
use serde_json::{Value, json};

use crate::support::running::until;
use crate::support::skipped;

const PROGRAM: &str = env!("CARGO_BIN_EXE_autoharness");

/// Answers every request with its first line and `Host`, one connection after the other, until the test ends.
pub(crate) fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            let rest: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let host = rest.iter().find(|line| line.starts_with("Host:")).cloned().unwrap_or_default();
            let body = format!("{first}|{host}|{}", rest.iter().any(|line| line.to_lowercase().starts_with("proxy")));
            // At once: the tunnel's end reads once.
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

/// What an agent tries. Each line says what came of it.
const AGENT: &str = "
import os, socket, sys, urllib.error, urllib.request
good, other, outside = sys.argv[1:4]
def say(name, reach):
    try:
        print(name, reach(), flush=True)
    except urllib.error.HTTPError as error:
        print(name, error.code, error.read().decode().strip(), flush=True)
    except OSError as error:
        print(name, 'held', flush=True)
def tunnel(place):
    host, port = os.environ['https_proxy'][len('http://'):].split(':')
    with socket.create_connection((host, int(port)), 5) as line:
        line.sendall(f'CONNECT {place} HTTP/1.1\\r\\n\\r\\n'.encode())
        said = line.recv(1000).split(b'\\r\\n')[0].decode()
        if ' 200 ' not in said:
            return said
        line.sendall(b'GET /tunnel HTTP/1.1\\r\\nHost: inside\\r\\n\\r\\n')
        return line.recv(1000).rpartition(b'\\r\\n')[2].decode()
def page(port):
    return urllib.request.urlopen(f'http://127.0.0.1:{port}/page?x=1', timeout=5).read().decode()
say('page', lambda: page(good))
say('again', lambda: page(good))
say('other', lambda: page(other))
say('tunnel', lambda: tunnel('127.0.0.1:' + good))
say('other tunnel', lambda: tunnel('127.0.0.1:' + other))
say('name', lambda: tunnel('localhost:' + good))
say('nonsense', lambda: tunnel('a/b:443'))
say('fast', lambda: socket.socket().sendto(b'GET / HTTP/1.0\\r\\n\\r\\n', socket.MSG_FASTOPEN, ('127.0.0.1', int(good))))
say('fast message', lambda: socket.socket().sendmsg([b'GET'], [], socket.MSG_FASTOPEN, ('127.0.0.1', int(good))))
say('direct', lambda: socket.create_connection(('127.0.0.1', int(good)), 5))
say('udp', lambda: socket.socket(type=socket.SOCK_DGRAM))
say('hears', lambda: socket.socket().listen() or 'hears')
say('listens', lambda: socket.create_server(('127.0.0.1', 0)) and 'listens')
";

fn agent(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("agent.py");
    fs::write(&path, AGENT).unwrap();
    fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn fenced(agent: &std::path::Path, user: Option<u32>, options: &[String]) -> Command {
    let mut command = Command::new(agent.with_file_name("autoharness"));
    command.args(["__fence", "--network", "--output", "--read"]).arg(agent).args(options).args(["--", "python3", "-I"]);
    command.arg(agent).stdin(Stdio::null()).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    if let Some(user) = user {
        command.uid(user).gid(user).env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/");
    }
    command
}

#[test]
fn what_is_named_is_reached_and_nothing_else() {
    let directory = tempfile::Builder::new().prefix("hosts-").tempdir().unwrap();
    let agent = agent(directory.path());
    crate::support::copy_program(&directory.path().join("autoharness"));
    let report = Command::new(PROGRAM).args(["__fence", "--report"]).output().unwrap();
    if !String::from_utf8_lossy(&report.stdout).contains("\"missing\":[]") {
        return skipped("this machine has not every layer of the fence");
    }
    let (good, other) = (server(), server());
    let users = if rustix::process::geteuid().is_root() { vec![None, Some(65534)] } else { vec![None] };
    for user in users {
        let mut command = fenced(&agent, user, &["--host".into(), format!("127.0.0.1:{good}")]);
        let done = command.args([good.to_string(), other.to_string(), "-".into()]).output().unwrap();
        let (said, warned) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let expected = format!(
            "page GET /page?x=1 HTTP/1.1|Host: 127.0.0.1:{good}|false\n\
             again GET /page?x=1 HTTP/1.1|Host: 127.0.0.1:{good}|false\n\
             other 403 autoharness: the fence lets nothing through to 127.0.0.1:{other}; `model_hosts` names what it lets through\n\
             tunnel GET /tunnel HTTP/1.1|Host: inside|false\n\
             other tunnel HTTP/1.1 403 Forbidden\n\
             name HTTP/1.1 403 Forbidden\n\
             nonsense HTTP/1.1 400 Bad Request\n\
             fast held\n\
             fast message held\n\
             direct held\n\
             udp held\n\
             hears held\n\
             listens held\n"
        );
        assert_eq!(said, expected, "{user:?}: {warned}");
        let told = |place: String| warned.matches(&format!("the fence let no agent through to {place};")).count();
        assert_eq!([told(format!("127.0.0.1:{other}")), told(format!("localhost:{good}"))], [1, 1], "{warned}");
        assert!(done.status.success(), "{warned}");
    }
}

/// Landlock alone: the proxy is on the machine's own network, and its port is all that can be reached.
#[test]
fn without_namespaces_the_ports_are_kept_to() {
    let bed = crate::support::Bed::empty();
    let (good, other) = (server(), server());
    bed.write("agent.py", AGENT);
    let line = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces || exit 99; unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY \
         all_proxy; $PROGRAM __fence --network --host 127.0.0.1:{good} --output --read agent.py \
         --read \"$(python3 -c 'import sys; print(sys.base_prefix)')\" --read \"$(python3 -c 'import sys; print(sys.prefix)')\" -- \
         \"$(python3 -c 'import sys; print(sys.executable)')\" -I agent.py {good} {other} -"
    );
    let Some(done) = bed.unshared(&[], &line) else {
        return skipped("no namespace can be made in which none can be made");
    };
    let held =
        ["fast", "fast message", "direct", "udp", "hears", "listens"].map(|name| format!("{name} held\n")).concat();
    assert!(done.stdout.ends_with(&held), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.starts_with("page GET /page?x=1") && done.stdout.contains("other 403"), "{}", done.stdout);
}

#[test]
fn the_proxy_goes_with_its_fence() {
    let directory = tempfile::Builder::new().prefix("hosts-").tempdir().unwrap();
    let agent = agent(directory.path());
    crate::support::copy_program(&directory.path().join("autoharness"));
    fs::write(&agent, "import time\nprint('up', flush=True)\ntime.sleep(600)\n").unwrap();
    let mut child =
        fenced(&agent, None, &["--host".into(), "a.example".into()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.take().unwrap().read_exact(&mut up).unwrap();
    let proxies = || {
        let own = directory.path().join("autoharness");
        let all = walkdir::WalkDir::new("/proc").max_depth(1).into_iter().flatten();
        all.filter(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            line.starts_with(own.as_os_str().as_encoded_bytes())
        })
        .count()
    };
    assert!(proxies() >= 2, "the fence and its proxy");
    child.kill().unwrap();
    child.wait().unwrap();
    until("everything is gone", || proxies() == 0);
}

#[test]
fn an_agent_of_tau_bench_with_keys_of_its_own_reaches_its_hosts_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (good, other) = (server(), server());
    let code = format!(
        "{}
import json, os, socket, urllib.error, urllib.request
def reach(port):
    try:
        return urllib.request.urlopen('http://127.0.0.1:%d/' % port, timeout=5).read().decode()
    except urllib.error.HTTPError as error:
        return 'refused %d' % error.code
    except Exception as error:
        return type(error).__name__
def direct(kind):
    try:
        with socket.socket(type=kind) as line:
            line.settimeout(5)
            line.connect(('127.0.0.1', {good}))
        return 'through'
    except OSError as error:
        return 'held'
def solve(question):
    return json.dumps([os.environ['KEY_OF_ITS_OWN'], reach({good}), reach({other}), direct(socket.SOCK_STREAM), direct(socket.SOCK_DGRAM)])
",
        crate::red_team::tau::CLASS
    );
    let agent = directory.path().join("agent.py");
    fs::write(&agent, code).unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |hosts: Vec<String>| -> Vec<Value> {
        let fence = [PROGRAM, "__fence"].map(String::from).into_iter();
        let fence: Vec<String> = fence.chain(hosts.into_iter().flat_map(|host| ["--host".into(), host])).collect();
        let request = json!({
            "protocol": 1, "action": "run", "tasks": ["hard"], "split": null, "trials": 2, "concurrency": 2, "seed": 300,
            "timeout_s": 20, "keep_traces": true, "agent": {"path": agent, "model": "stub/x", "user_model": "stub/user"},
            "options": {"domain": "mock", "base_seed": 300, "fenced": true, "agent_env": ["KEY_OF_ITS_OWN"]},
            "fence": fence,
        });
        let mut command = Command::new(crate::support::python());
        command.arg("-B").arg(root.join("agent/helpers/tau_bench/bench.py"));
        command.env("PYTHONPATH", root.join("tests/support/tau2_standin")).env("KEY_OF_ITS_OWN", "hush");
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
        let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let trials: Vec<Value> = events.filter(|event| event["event"] == "trial").collect();
        assert_eq!(trials.len(), 2, "{stdout}{}", String::from_utf8_lossy(&done.stderr));
        trials
    };
    let output = |trial: &Value| trial["trace"]["agent_output"].as_str().unwrap_or_default().to_string();
    for trial in run(vec![format!("127.0.0.1:{good}")]) {
        let said: Value = serde_json::from_str(output(&trial).lines().next().unwrap_or_default()).unwrap();
        assert_eq!(said[0], "hush");
        assert!(said[1].as_str().unwrap().starts_with("GET / HTTP/1.1|"), "{said}");
        assert_eq!(json!([said[2], said[3], said[4]]), json!(["refused 403", "held", "held"]), "{said}");
    }
    // Without hosts it has the whole network, as before.
    for trial in run(Vec::new()) {
        let said: Value = serde_json::from_str(output(&trial).lines().next().unwrap_or_default()).unwrap();
        assert!(said[2].as_str().unwrap().starts_with("GET / HTTP/1.1|") && said[3] == "through", "{said}");
    }
}

#[test]
fn the_configuration_names_the_hosts() {
    let bed = crate::support::Bed::initialised();
    let (good, other) = (server(), server());
    bed.write(
        "bench.py",
        &bed.read("bench.py").replace("serve(TASKS, run_agent)", "serve(TASKS, run_agent, network=True)"),
    );
    bed.write(
        "agent/agent.py",
        &format!(
            "import urllib.request\n\ndef solve(question):\n    said = []\n    for port in ({good}, {other}):\n        try:\n            \
             said.append(urllib.request.urlopen(f'http://127.0.0.1:{{port}}/', timeout=5).status)\n        \
             except OSError as error:\n            said.append(getattr(error, 'code', 'held'))\n    return said\n"
        ),
    );
    bed.git(&["add", "."]);
    bed.git(&["commit", "-qm", "an agent that asks"]);
    let config = bed.read("experiment_config.yaml");
    bed.write("experiment_config.yaml", &format!("{config}\nmodel_hosts: [\"127.0.0.1:{good}\"]\n"));
    let done = bed.run(&["prepare"]).expect(0);
    let found = bed.run(&["doctor"]).expect(0);
    if !found.stdout.contains("namespaces, root, landlock") {
        return skipped("this machine has not every layer of the fence");
    }
    let trace = bed.read_json("workspace/traces/baseline/sum/trace.json");
    assert!(trace.to_string().contains("[200, 403]"), "{trace} {}", done.stderr);
}
