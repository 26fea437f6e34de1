//! The fenced side's door to the proxy: a socket in the fence's own network, passed to the proxy outside.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    send, sendmsg, socket_with,
};

use super::layers::ENTRY;

/// The way out of a fence. It ends when this is dropped.
pub(super) struct Proxy {
    process: Child,
    to: UnixStream,
}

impl Proxy {
    /// Starts one that leads to these hosts.
    /// Errors: when there is no process or descriptor left.
    pub(super) fn start(own: &Path, hosts: &[String]) -> io::Result<Proxy> {
        let (to, theirs) = UnixStream::pair()?;
        let mut command = Command::new(own);
        command.args([ENTRY, "--proxy"]).args(hosts.iter().flat_map(|host| ["--host", host]));
        let process = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
        Ok(Proxy { process, to })
    }

    /// Opens a door to it here; returns its port. `alone`: whether this network is a new one, whose one interface is not up yet.
    /// Errors: when the kernel refuses, or the proxy is gone.
    pub(super) fn open(&mut self, alone: bool) -> io::Result<u16> {
        if alone {
            raise()?;
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let descriptors = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut passed = SendAncillaryBuffer::new(&mut space);
        passed.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&self.to, &[IoSlice::new(b".")], &mut passed, SendFlags::empty())?;
        Ok(listener.local_addr()?.port())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has the kernel raise the loopback interface, the first one of a network: `RTM_NEWLINK` of rtnetlink(7).
fn raise() -> io::Result<()> {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 0x1 | 0x4;
    const FIRST: i32 = 1;
    const UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    // Sequence, sender; then family, padding and type of the interface, none of which is looked at.
    message.extend([0; 12]);
    message.extend(FIRST.to_ne_bytes());
    // The flag, and that it is the one to be changed.
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    // The protocol of number 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 64];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // Behind the header of the answer: 0, or an error's number below it.
    match answer.get(16..20).filter(|_| length >= 20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
