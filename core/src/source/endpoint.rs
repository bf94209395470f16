//! Addresses that a socket source listens on.

use std::fmt;
use std::io::{Error as IoError, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::MAX_CONNECTIONS;
use crate::error::{Error, Result};
use crate::io::Fd;

/// What the system is asked to keep of datagrams that have not been received yet; it may keep less (`net.core.rmem_max`).
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;

/// Connections that may wait to be taken: as many as may be open, so that all clients can come back at once. The system
/// may allow fewer (`net.core.somaxconn`); the standard library asks for 128, and the 129th waits a second or more.
const BACKLOG: i32 = MAX_CONNECTIONS as i32;

/// Where clients find a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`, or a port alone (`9000` or `:9000`) on loopback; port 0 is any free one.
    Tcp(String),
    /// As [`Endpoint::Tcp`], for datagrams, each of which is a whole number of frames.
    Udp(String),
    /// A path in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "tcp {address}"),
            Endpoint::Udp(address) => write!(f, "udp {address}"),
            Endpoint::Unix(path) => write!(f, "unix {}", path.display()),
        }
    }
}

/// A socket bound to an [`Endpoint`]. Clones share the socket: a stream over it can run again, and clients that
/// connect between two runs wait in the system's backlog.
#[derive(Debug, Clone)]
pub struct Listener(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    fd: Fd,
    endpoint: Endpoint,
    local: Option<SocketAddr>,
    datagrams: bool,
    /// The socket's file with its device and inode, to be removed at last if it is still ours.
    file: Option<(PathBuf, u64, u64)>,
}

impl Listener {
    /// Binds a socket.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) for an address that cannot be read,
    /// [`Kind::Connector`](crate::error::Kind::Connector) if it cannot be resolved, is in use or not permitted; both
    /// say what to do.
    pub fn bind(endpoint: Endpoint) -> Result<Listener> {
        let (fd, local, file): (OwnedFd, _, _) = match &endpoint {
            Endpoint::Tcp(address) => {
                let socket = TcpListener::bind(&resolve(&endpoint, address)?[..]).map_err(|error| refused(&endpoint, error))?;
                let local = socket.local_addr().ok();
                (socket.into(), local, None)
            }
            Endpoint::Udp(address) => {
                let socket = UdpSocket::bind(&resolve(&endpoint, address)?[..]).map_err(|error| refused(&endpoint, error))?;
                // Best effort: a smaller buffer loses datagrams earlier, nothing else.
                let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BUFFER_BYTES);
                let local = socket.local_addr().ok();
                (socket.into(), local, None)
            }
            Endpoint::Unix(path) => {
                let socket = bind_unix(path).map_err(|error| refused(&endpoint, error))?;
                let file = path.symlink_metadata().ok().map(|data| (path.clone(), data.dev(), data.ino()));
                (socket.into(), None, file)
            }
        };
        let datagrams = matches!(endpoint, Endpoint::Udp(_));
        if !datagrams {
            rustix::net::listen(&fd, BACKLOG).map_err(|error| refused(&endpoint, error.into()))?;
        }
        Ok(Listener(Arc::new(Bound { fd: Arc::new(fd), endpoint, local, datagrams, file })))
    }

    /// The address that clients connect to, with the port that was given; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local
    }

    /// Where the listener was asked to listen.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Whether datagrams come in, rather than connections.
    pub(super) fn has_datagrams(&self) -> bool {
        self.0.datagrams
    }

    pub(super) fn fd(&self) -> Fd {
        Arc::clone(&self.0.fd)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some((path, device, inode)) = &self.file
            && path.symlink_metadata().is_ok_and(|data| (data.dev(), data.ino()) == (*device, *inode))
        {
            // Nothing is lost if it cannot be removed: the next listener finds it stale.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The addresses of `host:port`, where the host may be left out.
fn resolve(endpoint: &Endpoint, address: &str) -> Result<Vec<SocketAddr>> {
    let port = address.strip_prefix(':').unwrap_or(address);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
    }
    let well_formed = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !well_formed {
        return Err(Error::config(format!(
            "cannot listen on {endpoint}: write host:port, for example 127.0.0.1:9000, or a port alone for loopback"
        )));
    }
    let unknown = "the host has no address; check its name or give an IP address of this machine";
    let found: Vec<SocketAddr> =
        address.to_socket_addrs().map_err(|error| Error::io(format!("cannot listen on {endpoint}: {unknown}"), error))?.collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::connector(format!("cannot listen on {endpoint}: {unknown}"))),
    }
}

/// Binds a Unix socket in the place of one that nobody listens on any more.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let is_socket = path.symlink_metadata().is_ok_and(|data| data.file_type().is_socket());
            let is_stale = is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            if !is_stale {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

/// Why a socket could not be bound, and what to do.
fn refused(endpoint: &Endpoint, error: IoError) -> Error {
    let advice = match (error.kind(), endpoint) {
        (ErrorKind::AddrInUse, Endpoint::Unix(_)) => "something else is at that path; choose another path or stop its program",
        (ErrorKind::AddrInUse, _) => {
            "the port is in use; stop the program that holds it (`ss -lnp` names it), or choose another, 0 for any"
        }
        (ErrorKind::AddrNotAvailable, _) => "the address is not this machine's; use 127.0.0.1, or 0.0.0.0 for every interface",
        (ErrorKind::PermissionDenied, Endpoint::Unix(_)) => "the folder may not be written to; choose another path",
        (ErrorKind::PermissionDenied, _) => "not permitted; ports below 1024 are for the superuser, choose one above",
        (ErrorKind::NotFound, Endpoint::Unix(_)) => "the folder does not exist; create it first",
        _ => "the system refuses it",
    };
    Error::io(format!("cannot listen on {endpoint}: {advice}"), error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        for address in ["0", ":0", "127.0.0.1:0", "localhost:0"] {
            let listener = Listener::bind(Endpoint::Tcp(address.into())).unwrap();
            assert!(listener.local_addr().unwrap().ip().is_loopback(), "{address}");
            assert_ne!(listener.local_addr().unwrap().port(), 0);
        }
    }

    #[test]
    fn a_crowd_may_knock_before_anyone_answers() {
        let listener = Listener::bind(Endpoint::Tcp("0".into())).unwrap();
        let address = listener.local_addr().unwrap();
        let knock = || std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(30)).unwrap();
        let crowd: Vec<_> = (0..300).map(|_| knock()).collect();
        assert!(crowd.iter().all(|client| client.peer_addr().unwrap() == address));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let taken = Listener::bind(Endpoint::Tcp("0".into())).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let message = |endpoint| Listener::bind(endpoint).unwrap_err().to_string();
        let in_use = message(Endpoint::Tcp(port.clone()));
        assert!(in_use.starts_with(&format!("cannot listen on tcp {port}: the port is in use; ")), "{in_use}");
        assert!(message(Endpoint::Tcp("203.0.113.7:0".into())).contains("not this machine's"));
        for address in ["", "nonsense", "a:b:c", "host:99999"] {
            assert!(message(Endpoint::Udp(address.into())).contains("write host:port"), "{address}");
        }
        assert!(message(Endpoint::Tcp("no.such.host.invalid:80".into())).contains("the host has no address"));
        assert!(message(Endpoint::Unix("/no/such/folder/socket".into())).contains("the folder does not exist"));
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind by the standard library");
        let listener = Listener::bind(Endpoint::Unix(path.clone())).unwrap();
        let again = listener.clone();
        assert!(Listener::bind(Endpoint::Unix(path.clone())).unwrap_err().to_string().contains("something else is at that path"));
        drop(listener);
        assert!(path.exists(), "a clone still listens");
        drop(again);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").unwrap();
        assert!(Listener::bind(Endpoint::Unix(path.clone())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");
    }
}
