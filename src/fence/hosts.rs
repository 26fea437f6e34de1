//! Which hosts a fence lets through, and what a request to a proxy asks for.

use std::fmt;

use crate::config::{host_and_port as split, is_host_letter, percent_decoded};
use crate::model::hash::base64;

/// Ports where a host's name alone is allowed: what HTTPS and HTTP use.
const USUAL: [u16; 2] = [443, 80];
/// Hosts that are this machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What is let through, and how it is reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts {
    /// As `model_hosts` has them.
    pub(super) names: Vec<String>,
    /// Proxies of the machine: for HTTPS, and for HTTP. What cannot be read leads nowhere.
    pub(super) proxies: [Option<Upstream>; 2],
    /// What is reached without them: names, each with what lies below.
    pub(super) direct: Vec<String>,
}

/// A proxy that this machine reaches the world through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    /// Its name or address.
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password, as its header has them.
    authorization: Option<String>,
}

impl Hosts {
    /// These names, and the machine's proxies as its environment has them.
    pub(super) fn new(names: Vec<String>, variable: impl Fn(&str) -> Option<String>) -> Hosts {
        let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
        let proxy = |name: &str| {
            let url = either(name).filter(|url| !url.is_empty()).or_else(|| either("ALL_PROXY"))?;
            (!url.is_empty()).then(|| Upstream::parse(&url).unwrap_or_else(Upstream::nowhere))
        };
        let direct = either("NO_PROXY").unwrap_or_default();
        let direct = direct.split(',').map(|name| name.trim().trim_start_matches('.').to_ascii_lowercase());
        Hosts {
            names,
            proxies: [proxy("HTTPS_PROXY"), proxy("HTTP_PROXY")],
            direct: direct.filter(|name| !name.is_empty()).collect(),
        }
    }

    /// Whether this may be reached.
    pub(super) fn allow(&self, target: &Target) -> bool {
        self.names.iter().any(|name| {
            let (host, port) = split(name);
            let port_fits = match port {
                Some(port) => port.parse() == Ok(target.port),
                None => USUAL.contains(&target.port),
            };
            let host = host.to_ascii_lowercase();
            port_fits && if host.starts_with('.') { target.host.ends_with(&host) } else { target.host == host }
        })
    }

    /// The proxy by which it is reached.
    pub(super) fn upstream(&self, target: &Target) -> Option<&Upstream> {
        let below =
            |name: &str| target.host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if LOCAL.contains(&target.host.as_str()) || self.direct.iter().any(|name| name == "*" || below(name)) {
            return None;
        }
        self.proxies[usize::from(!target.is_tunnel)].as_ref()
    }
}

impl Upstream {
    /// Port 0 leads nowhere: we must not decide to go without the machine's proxy.
    fn nowhere() -> Upstream {
        Upstream { host: "127.0.0.1".into(), port: 0, authorization: None }
    }

    fn parse(url: &str) -> Option<Upstream> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("http", url.trim()));
        let rest = rest.trim_end_matches('/');
        if !scheme.eq_ignore_ascii_case("http") || rest.is_empty() || rest.contains(['/', '?', '#']) {
            return None;
        }
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let (host, port) = split(place);
        let port = port.map_or(Some(80), |port| port.parse().ok())?;
        if host.is_empty() || !host.chars().all(is_host_letter) {
            return None;
        }
        let authorization = user.map(|user| base64(&percent_decoded(user)));
        Some(Upstream { host: host.into(), port, authorization })
    }
}

/// Where a request to a proxy wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Lower case, without brackets.
    pub(super) host: String,
    /// Never 0.
    pub(super) port: u16,
    /// Whether it asks for a connection (`CONNECT`), and not for a page.
    pub(super) is_tunnel: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Target {
    /// Reads the head of a request. `None` when it is not a proxy request, or when it is ambiguous.
    pub(super) fn of(head: &[u8]) -> Option<Target> {
        let mut lines = std::str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?.split("\r\n");
        let line = lines.next()?;
        let is_plain = |line: &str| !line.contains(|c: char| c.is_control());
        if !is_plain(line) || !lines.all(|line| is_plain(line) && !line.starts_with(' ')) {
            return None;
        }
        let mut words = line.split(' ');
        let (method, place, version) = (words.next()?, words.next()?, words.next()?);
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        // The answer to TRACE would contain the password of the machine's proxy.
        if !is_method || method == "TRACE" || !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        let is_tunnel = method == "CONNECT";
        let place = if is_tunnel { place } else { place.strip_prefix("http://")?.split(['/', '?', '#']).next()? };
        // A name before an @ would make the host look like another.
        let (host, port) = split(place);
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_host_letter) {
            return None;
        }
        let port =
            port.map_or(Some(if is_tunnel { 443 } else { 80 }), |port| port.parse().ok()).filter(|port| *port > 0)?;
        Some(Target { host: host.trim_end_matches('.').to_ascii_lowercase(), port, is_tunnel })
    }

    /// What is said in its place, to the host itself or to the machine's proxy: one request, after which the connection ends, and
    /// whose host is the one that was looked at.
    pub(super) fn asked(&self, head: &[u8], upstream: Option<&Upstream>) -> Vec<u8> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.trim_end().split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, place) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path =
            place.strip_prefix("http://").and_then(|rest| rest.find(['/', '?']).map(|at| &rest[at..])).unwrap_or("/");
        // Without the slash, some servers would read what follows as a part of the host.
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let place = match (self.is_tunnel, upstream) {
            (true, _) => self.to_string(),
            (false, Some(_)) => format!("http://{self}{path}"),
            (false, None) => path,
        };
        let mut said = format!("{method} {place} HTTP/1.1\r\nHost: {self}\r\n");
        if let Some(authorization) = upstream.and_then(|proxy| proxy.authorization.as_deref()) {
            said += &format!("Proxy-Authorization: Basic {authorization}\r\n");
        }
        if !self.is_tunnel {
            said += "Connection: close\r\n";
            for line in lines {
                let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
                if !["host", "connection", "keep-alive"].contains(&name.as_str()) && !name.starts_with("proxy-") {
                    said += &format!("{line}\r\n");
                }
            }
        }
        (said + "\r\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<Target> {
        Target::of(format!("{text}\r\nHost: other\r\n\r\n").as_bytes())
    }

    #[test]
    fn only_what_is_named_is_let_through() {
        let names = ["api.example.com", ".models.dev", "localhost:8000", "[::1]:9", "Upper.example"].map(String::from);
        let hosts = Hosts { names: names.into(), ..Hosts::default() };
        for (asked, allowed) in [
            ("CONNECT api.example.com:443 HTTP/1.1", true),
            ("CONNECT API.example.COM.:443 HTTP/1.1", true),
            ("CONNECT upper.example:443 HTTP/1.1", true),
            ("GET http://api.example.com/v1?x=http://b HTTP/1.1", true),
            ("CONNECT api.example.com:22 HTTP/1.1", false),
            ("CONNECT notapi.example.com:443 HTTP/1.1", false),
            ("CONNECT a.b.models.dev:443 HTTP/1.1", true),
            ("CONNECT models.dev:443 HTTP/1.1", false),
            ("CONNECT evilmodels.dev:443 HTTP/1.1", false),
            ("POST http://localhost:8000/v1 HTTP/1.1", true),
            ("POST http://localhost:8001/v1 HTTP/1.1", false),
            ("CONNECT [::1]:9 HTTP/1.1", true),
        ] {
            assert_eq!(hosts.allow(&target(asked).unwrap()), allowed, "{asked}");
        }
        for odd in [
            "GET / HTTP/1.1",
            "GET https://api.example.com/ HTTP/1.1",
            "GET http://api.example.com@evil.example/ HTTP/1.1",
            "CONNECT api.example.com:0 HTTP/1.1",
            "CONNECT api.example.com:443:443 HTTP/1.1",
            "CONNECT :443 HTTP/1.1",
            "CONNECT evil.example\u{e9}:443 HTTP/1.1",
            "CONNECT",
            "",
            // What others would read differently.
            "CONNECT\tevil.example:443\tHTTP/1.1\nX:_ http://api.example.com/ HTTP/1.1",
            "GET http://api.example.com/\tHTTP/1.1\nConnection:keep-alive\n\nGET\thttp://evil.example/\tHTTP/1.1\nX: y",
            "GET http://api.example.com/ HTTP/1.1\r\n folded: x",
            "GET  http://api.example.com/ HTTP/1.1",
            "GET http://api.example.com/ HTTP/1.1 x",
            "GET http://api.example.com/",
            "get http://api.example.com/ HTTP/1.1",
            "TRACE http://api.example.com/ HTTP/1.1",
        ] {
            assert!(!target(odd).is_some_and(|target| hosts.allow(&target)), "{odd}");
        }
    }

    #[test]
    fn a_page_is_asked_for_by_its_path_and_a_proxy_for_all_of_it() {
        let head = b"POST http://a.example:8000/v1/x?y=1 HTTP/1.1\r\nHost: evil\r\nContent-Length: 2\r\nProxy-Authorization: x\r\nConnection: keep-alive\r\n\r\n";
        let target = Target::of(head).unwrap();
        let said = |upstream| String::from_utf8(target.asked(head, upstream)).unwrap();
        assert_eq!(
            said(None),
            "POST /v1/x?y=1 HTTP/1.1\r\nHost: a.example:8000\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
        );
        let proxy = Upstream::parse("http://me:p%40ss@proxy.example:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        let said = said(Some(&proxy));
        assert!(said.starts_with("POST http://a.example:8000/v1/x?y=1 HTTP/1.1\r\nHost: a.example:8000\r\n"), "{said}");
        assert!(said.contains("Proxy-Authorization: Basic bWU6cEBzcw==\r\n"), "{said}");
        let head = b"GET http://a.example?@evil.example/ HTTP/1.1\r\n\r\n";
        let said = String::from_utf8(Target::of(head).unwrap().asked(head, Some(&proxy))).unwrap();
        assert!(
            said.starts_with("GET http://a.example:80/?@evil.example/ HTTP/1.1\r\nHost: a.example:80\r\n"),
            "{said}"
        );
        let head = b"CONNECT a.example HTTP/1.1\r\nProxy-Connection: x\r\n\r\n";
        let tunnel = String::from_utf8(Target::of(head).unwrap().asked(head, Some(&proxy))).unwrap();
        assert_eq!(
            tunnel,
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
        );
    }

    #[test]
    fn the_machines_proxy_is_left_out_where_it_says_so() {
        let variables = |name: &str| match name {
            "https_proxy" => Some("http://secure:1".to_string()),
            "ALL_PROXY" => Some("any:2".to_string()),
            "NO_PROXY" => Some(" .inside.example, 10.0.0.1".to_string()),
            _ => None,
        };
        let hosts = Hosts::new(Vec::new(), variables);
        let by = |asked: &str| hosts.upstream(&target(asked).unwrap()).map(|proxy| proxy.port);
        assert_eq!(by("CONNECT a.example:443 HTTP/1.1"), Some(1));
        assert_eq!(by("GET http://a.example/ HTTP/1.1"), Some(2));
        for direct in ["a.inside.example", "inside.example", "10.0.0.1", "localhost", "127.0.0.1"] {
            assert_eq!(by(&format!("CONNECT {direct}:443 HTTP/1.1")), None, "{direct}");
        }
        assert_eq!(by("CONNECT notinside.example:443 HTTP/1.1"), Some(1));
        for odd in ["https://proxy:1", "socks5://proxy:1", "http://me:p/w@proxy:1", "http://", "proxy:x", "a b:1"] {
            let hosts = Hosts::new(Vec::new(), |name| (name == "HTTPS_PROXY").then(|| odd.to_string()));
            assert_eq!(hosts.proxies[0].as_ref().map(|proxy| proxy.port), Some(0), "{odd}");
        }
    }
}
