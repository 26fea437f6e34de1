//! The way out of a fence to the hosts that are allowed, and to no others: an HTTP proxy that runs outside, on a socket that the
//! fenced side opens and hands out.
//!
//! `autoharness __fence --proxy --host NAME...` gets listening sockets through its stdin, a stream socket: each with one byte. It
//! serves them until stdin ends. The agent gets their address in `HTTPS_PROXY` and `HTTP_PROXY`.

use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::hosts::{Hosts, Target, Upstream};

/// Connections that it carries at a time; more wait.
const MOST: usize = 128;
/// Bytes of a request's head.
const LARGEST_HEAD: usize = 64 << 10;
/// How long the head of a request, and a connection to its host, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The number of refused hosts that are reported.
const MOST_TOLD: usize = 8;

/// Serves what comes through stdin until that ends; returns an exit status.
pub(super) fn run(hosts: Hosts) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return 1 };
    let carrier = Arc::new(Carrier { hosts, told: Mutex::default(), room: Arc::new(Semaphore::new(MOST)) });
    let (send, mut given) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(Some(socket)) = receive(&io::stdin()) {
            if send.send(socket).is_err() {
                break;
            }
        }
    });
    runtime.block_on(async {
        while let Some(socket) = given.recv().await {
            let listener = TcpListener::from(socket);
            let opened = listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
            if let Ok(listener) = opened {
                tokio::spawn(Arc::clone(&carrier).serve(listener));
            }
        }
    });
    // Open connections end with the agents that they were for.
    runtime.shutdown_background();
    0
}

/// The next listening socket; `None` at the end.
fn receive(stdin: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let said = recvmsg(stdin, &mut [IoSliceMut::new(&mut byte)], &mut passed, RecvFlags::CMSG_CLOEXEC)?;
    if said.bytes == 0 || said.flags.contains(ReturnFlags::CTRUNC) {
        return Ok(None);
    }
    let rights = passed.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(rights)
}

struct Carrier {
    hosts: Hosts,
    told: Mutex<Vec<String>>,
    room: Arc<Semaphore>,
}

impl Carrier {
    async fn serve(self: Arc<Self>, listener: tokio::net::TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move {
                        let _place = place;
                        // Either side may hang up at any time; that is not our concern.
                        let _ = this.carry(client).await;
                    });
                }
                // No descriptor is free. Some will be.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn carry(&self, mut client: TcpStream) -> io::Result<()> {
        let Ok(read) = tokio::time::timeout(PATIENCE, head(&mut client)).await else { return Ok(()) };
        let (head, rest) = read?;
        let Some(target) = Target::of(&head) else {
            return answer(&mut client, "400 Bad Request", "this is a proxy").await;
        };
        if !self.hosts.allow(&target) {
            self.tell(&target);
            let why = format!("the fence lets nothing through to {target}; `model_hosts` names what it lets through");
            return answer(&mut client, "403 Forbidden", &why).await;
        }
        let upstream = self.hosts.upstream(&target);
        let Ok(Ok(mut host)) = tokio::time::timeout(PATIENCE, connect(&target, upstream)).await else {
            return answer(&mut client, "502 Bad Gateway", &format!("{target} cannot be reached")).await;
        };
        if !target.is_tunnel || upstream.is_some() {
            host.write_all(&target.asked(&head, upstream)).await?;
        }
        if target.is_tunnel {
            // Until the machine's proxy has agreed, it would take anything sent to it for a request of its own.
            if upstream.is_some() && !tokio::time::timeout(PATIENCE, agrees(&mut host)).await.unwrap_or(Ok(false))? {
                return answer(&mut client, "502 Bad Gateway", &format!("the machine's proxy refuses {target}")).await;
            }
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        }
        host.write_all(&rest).await?;
        copy_bidirectional(&mut client, &mut host).await.map(drop)
    }

    fn tell(&self, target: &Target) {
        let name = target.to_string();
        let Ok(mut told) = self.told.lock() else { return };
        if told.len() < MOST_TOLD && !told.contains(&name) {
            let _ = writeln!(
                io::stderr(),
                "autoharness: the fence let no agent through to {name}; if it needs that, name it in `model_hosts` in \
                 experiment_config.yaml"
            );
            told.push(name);
        }
    }
}

async fn connect(target: &Target, upstream: Option<&Upstream>) -> io::Result<TcpStream> {
    let (host, port) = upstream.map_or((target.host.as_str(), target.port), |proxy| (proxy.host.as_str(), proxy.port));
    TcpStream::connect((host, port)).await
}

/// Whether the machine's proxy opens a tunnel. It sends nothing after its head before the client sends something through the tunnel.
async fn agrees(proxy: &mut TcpStream) -> io::Result<bool> {
    let (head, rest) = head(proxy).await?;
    Ok(rest.is_empty() && head.starts_with(b"HTTP/1.") && head.get(8..10) == Some(b" 2"))
}

/// The head of a request, and what has come after it already.
async fn head(client: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Ok((read, rest));
        }
        if read.len() > LARGEST_HEAD || client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

async fn answer(client: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let why = format!("autoharness: {why}\n");
    let length = why.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{why}"
    );
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}
