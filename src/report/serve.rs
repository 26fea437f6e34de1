//! The watched report: a page and its updates on 127.0.0.1, for the user who has the address.
//!
//! Other programs and other users of the machine reach the port as well, and so does any page in the browser, under a name
//! that its owner lets point here (DNS rebinding). So the address contains a secret, and a request must name this address in
//! its `Host`. A request can change nothing: it can only get two documents.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::error::{Code, Context as _, Error, Result};
use crate::model::hash::{hash, hex};

/// Connections at a time; a browser opens about six.
const CONNECTIONS: usize = 64;
/// How long a request may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a silent update stream shows that it is still alive.
const STILL_HERE: Duration = Duration::from_secs(20);
/// Headers of every answer: no caching, no sniffing, no foreign frames, no referrer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where the page comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Takes senders to which the newest page goes.
    pub asks: mpsc::Sender<oneshot::Sender<Bytes>>,
    /// The number of the newest page. Each open update stream is one of its receivers.
    pub news: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    door: Door,
}

/// Who is let in.
#[derive(Debug, Clone)]
struct Door {
    port: u16,
    token: String,
}

/// What there is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Page,
    News,
}

impl Server {
    /// Listens on 127.0.0.1, on any free port when none is named, under a new secret.
    /// Errors: usage when the port is taken, infrastructure when the system has no secret to give.
    pub(crate) async fn bind(port: Option<u16>) -> Result<Server> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).infra(|| "the system gives no random bytes".into())?;
        let port = port.unwrap_or(0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| {
            Error::usage(format!("cannot listen on 127.0.0.1:{port}"))
                .code(Code::ReportUnwritable)
                .because(error)
                .hint("name another port, or none: then any free one is taken.")
        })?;
        let port = listener.local_addr()?.port();
        Ok(Server { listener, door: Door { port, token: hex(&secret) } })
    }

    /// The address of the page, secret included.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}/", self.door.port, self.door.token)
    }

    /// Answers until it is dropped; that ends the answers under way as well.
    pub(crate) async fn run(self, source: Source) -> Infallible {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => drop(open.spawn(converse(stream, self.door.clone(), source.clone()))),
                    // Most likely too many files are open: that passes, and asking again at once would not help.
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                },
                Some(_) = open.join_next() => {}
            }
        }
    }
}

/// Answers what one connection asks.
async fn converse(stream: TcpStream, door: Door, source: Source) {
    let answer = service_fn(|request: Request<hyper::body::Incoming>| {
        let wanted = door.wanted(request.method(), request.uri(), request.headers());
        let source = source.clone();
        async move { Ok::<_, Infallible>(answer(wanted, &source).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A browser may go away at any time.
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

impl Door {
    /// What a request wants, or the status that refuses it.
    fn wanted(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Wants, StatusCode> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(StatusCode::FORBIDDEN) };
        // Only a path: with an authority a request would name its host twice.
        if !self.is_ours(host) || uri.authority().is_some() {
            return Err(StatusCode::FORBIDDEN);
        }
        let (token, rest) = uri.path().strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        // Compares digests: where those differ does not reveal how much of the secret was right.
        if hash(token.as_bytes()) != hash(self.token.as_bytes()) {
            return Err(StatusCode::NOT_FOUND);
        }
        let wants = match rest {
            "" => Wants::Page,
            "events" => Wants::News,
            _ => return Err(StatusCode::NOT_FOUND),
        };
        if method == Method::GET { Ok(wants) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
    }

    fn is_ours(&self, host: &HeaderValue) -> bool {
        ["127.0.0.1", "localhost"].iter().any(|name| {
            // Browsers leave out the usual port.
            *host == format!("{name}:{}", self.port) || (self.port == 80 && host == name)
        })
    }
}

async fn answer(wanted: Result<Wants, StatusCode>, source: &Source) -> Response<Body> {
    let (status, kind, body) = match wanted {
        Ok(Wants::News) => (StatusCode::OK, "text/event-stream", news(source.news.subscribe())),
        Ok(Wants::Page) => match page(source).await {
            Some(page) => (StatusCode::OK, "text/html; charset=utf-8", whole(page)),
            None => refusal(StatusCode::SERVICE_UNAVAILABLE),
        },
        Err(status) => refusal(status),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

async fn page(source: &Source) -> Option<Bytes> {
    let (place, page) = oneshot::channel();
    source.asks.send(place).ok()?;
    page.await.ok()
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

fn refusal(status: StatusCode) -> (StatusCode, &'static str, Body) {
    let text = format!("{status}: open the address that `autoharness report --watch` printed\n");
    (status, "text/plain; charset=utf-8", whole(text))
}

/// The number of the page as it is now and whenever there is a new one, as server-sent events.
fn news(pages: watch::Receiver<u64>) -> Body {
    let events = futures_util::stream::unfold((pages, true), |(mut pages, is_first)| async move {
        let is_new = is_first
            || match tokio::time::timeout(STILL_HERE, pages.changed()).await {
                Ok(Ok(())) => true,
                Ok(Err(_)) => return None,
                Err(_) => false,
            };
        let text = if is_new { format!("data: {}\n\n", *pages.borrow_and_update()) } else { ":\n\n".into() };
        Some((Ok(Frame::data(Bytes::from(text))), (pages, false)))
    });
    StreamBody::new(events).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_address_gets_something() {
        let token = "0123456789abcdef0123456789abcdef";
        let door = Door { port: 4711, token: token.into() };
        let ask = |method: &Method, uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            door.wanted(method, &uri.parse().unwrap(), &headers).map_err(|status| status.as_u16())
        };
        let (page, events) = (format!("/{token}/"), format!("/{token}/events"));
        let get = Method::GET;
        assert_eq!(ask(&get, &page, &["127.0.0.1:4711"]), Ok(Wants::Page));
        assert_eq!(ask(&get, &events, &["localhost:4711"]), Ok(Wants::News));
        for hosts in [
            &[][..],
            &["evil.example:4711"],
            &["127.0.0.1"],
            &["127.0.0.1:47110"],
            &["127.0.0.1:4711.evil.example"],
            &["127.0.0.1:4711", "evil.example"],
        ] {
            assert_eq!(ask(&get, &page, hosts), Err(403), "{hosts:?}");
        }
        assert_eq!(ask(&get, &format!("http://evil.example{page}"), &["127.0.0.1:4711"]), Err(403));
        let wrong = token.replace('f', "e");
        for path in
            ["/", "/events", "//", "//events", &page[..page.len() - 1], &format!("/{wrong}/"), &format!("{page}x")]
        {
            assert_eq!(ask(&get, path, &["127.0.0.1:4711"]), Err(404), "{path}");
        }
        for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::DELETE] {
            assert_eq!(ask(&method, &page, &["127.0.0.1:4711"]), Err(405), "{method}");
        }
    }
}
