//! Ends attempts that have waited for too long, while pingora still waits.
//!
//! pingora fixes an attempt's timeouts before it begins, and its read timeout
//! starts anew with every read: one number cannot say both "the first byte within
//! 60 ms" and "any later byte within 30 s". So the first byte is watched here: an
//! attempt that waits for it is listed with its deadline, and a sweep every few
//! milliseconds shuts the sockets of those that are overdue. pingora then sees
//! its connection close, and the shell, which knows the deadline, calls that a
//! timeout. An attempt costs one entry in a short list, and no timer.
//!
//! A socket is named by its descriptor, and descriptors are used again. A client
//! that leaves makes pingora close the connection before anybody here hears of
//! it, so the number may belong to another connection by the time of the sweep.
//! The sweep therefore duplicates it first, which pins whatever it stands for,
//! and shuts it only if its local address is the one that was listed. Entries
//! are taken off under the lock that the sweep holds: after [`Armed`] is
//! dropped, nothing will be shut.

use std::{
    net::SocketAddr,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use slotmap::{DefaultKey, SlotMap};
use socket2::Socket;

/// Lists, so that threads do not wait for each other.
const SHARDS: usize = 16;

/// A connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its descriptor, for as long as it lives.
    pub fd: RawFd,
    /// Its address on this side, which no other connection has meanwhile.
    pub local: SocketAddr,
}

/// Every attempt that waits for its first byte.
#[derive(Debug, Default)]
pub struct Rescues {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    waiting: SlotMap<DefaultKey, Waiting>,
    /// None is overdue before this; none when nothing waits.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    connection: Connection,
    until: Instant,
}

/// An attempt on the list; off it when dropped.
#[derive(Debug)]
#[must_use = "it is off the list when dropped"]
pub struct Armed {
    rescues: Arc<Rescues>,
    shard: usize,
    key: DefaultKey,
}

// === impl Rescues ===

impl Rescues {
    /// Lists an attempt that must have its first byte by `until`.
    pub fn arm(self: &Arc<Self>, connection: Connection, until: Instant) -> Armed {
        let at = usize::try_from(connection.fd).unwrap_or(0) % SHARDS;
        let mut shard = self.shards[at].lock();
        shard.earliest = Some(shard.earliest.map_or(until, |earliest| earliest.min(until)));
        let key = shard.waiting.insert(Waiting { connection, until });
        drop(shard);
        Armed {
            rescues: Arc::clone(self),
            shard: at,
            key,
        }
    }

    /// Shuts the sockets of those that are overdue, and says how many.
    pub fn sweep(&self, now: Instant) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().sweep(now))
            .sum()
    }
}

// === impl Shard ===

impl Shard {
    fn sweep(&mut self, now: Instant) -> usize {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return 0;
        }
        let before = self.waiting.len();
        self.waiting.retain(|_, waiting| {
            let overdue = waiting.until <= now;
            if overdue {
                shut(waiting.connection);
            }
            !overdue
        });
        self.earliest = self.waiting.values().map(|waiting| waiting.until).min();
        before - self.waiting.len()
    }
}

// === impl Armed ===

impl Drop for Armed {
    fn drop(&mut self) {
        self.rescues.shards[self.shard]
            .lock()
            .waiting
            .remove(self.key);
    }
}

/// Shuts a connection, if its descriptor still stands for it.
fn shut(connection: Connection) {
    // SAFETY: this only asks the kernel for another descriptor of whatever
    // `fd` stands for; a number that stands for nothing is an error.
    let copy = unsafe { libc::fcntl(connection.fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return;
    }
    // SAFETY: the kernel has just made `copy`, and nobody else knows it.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(copy) });
    let local = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket());
    if local == Some(connection.local) {
        // It may have closed by itself.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
        time::Duration,
    };

    use super::*;
    use crate::clock;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server)
    }

    fn connection(stream: &TcpStream) -> Connection {
        Connection {
            fd: stream.as_raw_fd(),
            local: stream.local_addr().unwrap(),
        }
    }

    /// Whether the other side has closed.
    fn is_shut(stream: &mut TcpStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }

    #[test]
    fn what_is_overdue_is_shut_and_the_rest_is_left() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let second = Duration::from_secs(1);
        let (mut late, _a) = pair();
        let (mut early, _b) = pair();
        let _late = rescues.arm(connection(&late), now + second);
        let _early = rescues.arm(connection(&early), now + 3 * second);
        assert_eq!(rescues.sweep(now), 0);
        assert_eq!(rescues.sweep(now + 2 * second), 1);
        assert!(is_shut(&mut late) && !is_shut(&mut early));
        assert_eq!(rescues.sweep(now + 2 * second), 0, "once is enough");
        assert_eq!(rescues.sweep(now + 3 * second), 1);
        assert!(is_shut(&mut early));
    }

    #[test]
    fn what_was_taken_off_is_never_shut() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _other) = pair();
        drop(rescues.arm(connection(&stream), now));
        assert_eq!(rescues.sweep(now + Duration::from_secs(1)), 0);
        assert!(!is_shut(&mut stream));
    }

    #[test]
    fn a_descriptor_that_stands_for_another_connection_is_left_alone() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _other) = pair();
        let (gone, _peer) = pair();
        let stale = Connection {
            fd: stream.as_raw_fd(),
            local: gone.local_addr().unwrap(),
        };
        let _armed = rescues.arm(stale, now);
        assert_eq!(rescues.sweep(now), 1);
        assert!(!is_shut(&mut stream));
        let _nothing = rescues.arm(
            Connection {
                fd: 1_000_000,
                ..stale
            },
            now,
        );
        assert_eq!(rescues.sweep(now), 1);
    }
}
