//! `report --watch`: the page over HTTP, only for people who have its address.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot set itself up should panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::Bed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// The running command; ended with the test.
struct Watch {
    child: Child,
    host: String,
    path: String,
}

impl Watch {
    fn start(bed: &Bed) -> Watch {
        let mut child =
            bed.command(&["report", "--watch"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let (host, path) = url.trim_end().strip_prefix("http://").unwrap().split_once('/').unwrap();
        assert!(host.starts_with("127.0.0.1:") && path.len() == 33, "{url}");
        Watch { host: host.into(), path: format!("/{path}"), child }
    }

    fn send(&self, request: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The status and the whole answer.
    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        self.send(&request).read_to_string(&mut answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    fn page(&self) -> String {
        let (status, page) = self.ask("GET", &self.path, &self.host);
        assert_eq!(status, 200, "{page}");
        page
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of the next page that a stream of news tells of.
fn next(news: &mut BufReader<TcpStream>) -> u64 {
    loop {
        let mut line = String::new();
        assert!(news.read_line(&mut line).unwrap() > 0, "the stream of news ended");
        if let Some(number) = line.strip_prefix("data: ") {
            return number.trim_end().parse().unwrap();
        }
    }
}

#[test]
fn the_watched_page_follows_the_experiment_and_is_for_its_address_alone() {
    let bed = Bed::prepared(json!({}), "");
    let mut watch = Watch::start(&bed);
    let page = watch.page();
    assert!(page.contains("No edit was judged yet.") && page.contains("<main data-page=\"1\">"));
    let (_, policy) = page.split_once("http-equiv=\"Content-Security-Policy\" content=\"").unwrap();
    let policy = policy.split_once('"').unwrap().0;
    assert!(policy.contains("; connect-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let head = page.split_once("\r\n\r\n").unwrap().0.to_lowercase();
    for header in
        ["cache-control: no-store", "content-security-policy: frame-ancestors 'none'", "content-type: text/html"]
    {
        assert!(head.contains(header), "{head}");
    }

    let (host, path) = (&watch.host, &watch.path);
    let port = host.split_once(':').unwrap().1;
    let refused = |method: &str, path: &str, host: &str| {
        let (status, answer) = watch.ask(method, path, host);
        assert!(!answer.contains("<!DOCTYPE") && !answer.contains(&watch.path[1..33]), "{answer}");
        status
    };
    assert_eq!(refused("GET", "/", host), 404);
    assert_eq!(refused("GET", &format!("/{}/events", "0".repeat(32)), host), 404);
    assert_eq!(refused("GET", path, &format!("rebound.example:{port}")), 403);
    assert_eq!(refused("GET", &format!("{path}events"), "127.0.0.1"), 403);
    assert_eq!(refused("POST", path, host), 405);
    assert_eq!(watch.ask("GET", path, &format!("localhost:{port}")).0, 200);

    // News come while another command holds the lock; the page then has what it did.
    let mut news = watch.send(&format!("GET {path}events HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(next(&mut news), 1);
    bed.accept(&["easy", "hard"]);
    let head = bed.git(&["rev-parse", "--short", "HEAD"]);
    let mut number = 1;
    let page = loop {
        let told = next(&mut news);
        assert!(told > number, "{told} after {number}");
        number = told;
        let page = watch.page();
        if page.contains(&format!("#1 {head}")) {
            break page;
        }
    };
    for task in ["easy-3", "easy-4", "hard-3", "hard-4"] {
        assert!(!page.contains(task), "the page names {task}");
    }
    assert!(page.contains("easy-1"));

    // The written file asks for nothing.
    bed.run(&["report"]).expect(0);
    let written = bed.read("workspace/report.html");
    assert!(!written.contains("connect-src") && !written.contains("EventSource") && !written.contains("data-page"));

    kill_process(Pid::from_child(&watch.child), Signal::INT).unwrap();
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    watch.child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Ctrl-C ends it") && !rest.contains("warning"), "{rest}");
    assert_eq!(next_end(&mut news), 0, "the stream of news ends with the command");

    // A port that is taken, and an experiment without a ledger.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    bed.run(&["report", "--watch", "--port", &port]).expect(2).warns("error: cannot listen on 127.0.0.1:");
    Bed::table(json!({}), "").run(&["report", "--watch"]).expect(2).warns("error: this experiment is not prepared");
}

/// What is left of a stream that is over.
fn next_end(news: &mut BufReader<TcpStream>) -> usize {
    let mut line = String::new();
    // Events that were on their way come first.
    loop {
        line.clear();
        match news.read_line(&mut line) {
            Ok(0) | Err(_) => return 0,
            Ok(_) => {}
        }
    }
}
