//! Ends connections to endpoints on which nothing has come for too long.
//!
//! pingora fixes an attempt's timeouts before it begins, and its read timeout
//! starts anew with every read: one number cannot say both "the first byte within
//! 60 ms" and "any later byte within 30 s". And each of its timers is an entry in a
//! tree with thousands of others, made and dropped for every read that waits, of
//! which hardly one ever fires. So connections are watched here: each has a place in
//! a table, by its descriptor, which says until when its next byte must be there:
//! the answer's first, the next piece of an answer, or, on a kept connection, the
//! next request's. A sweep every few milliseconds shuts the sockets of those that
//! are overdue. pingora then sees its connection close, and the shell, which knows
//! the deadline, calls that a timeout. To move a deadline costs a write in the table,
//! and no timer.
//!
//! A socket is named by its descriptor, and descriptors are used again. A client
//! that leaves makes pingora close the connection before anybody here hears of
//! it, so the number may belong to another connection by the time of the sweep.
//! The sweep therefore duplicates it first, which pins whatever it stands for,
//! and shuts it only if its two addresses are those that were listed: the one on this side
//! alone would not do, since Linux gives one port to connections to several endpoints. A
//! place belongs to the last attempt that took it, and what an earlier one says is not
//! heard: pingora gives a connection to the next request before the shell hears that the
//! last one has ended. Places change under the lock that the sweep holds: after [`Held`] is
//! dropped, nothing will be shut.
//!
//! An answer's pieces are seen here when they are passed on, and that may wait for a
//! slow client. Where the next one is overdue and lies unread in the socket, it is not
//! the endpoint that is late, and the connection is left alone.
//!
//! A long body is handed over at once and takes its time to go out, in which no endpoint can
//! answer. So where a first byte is overdue, the kernel is asked when it last sent anything,
//! and the time counts from there: small requests pay nothing for that. What is sent
//! again since nobody acknowledges it does not count, or an endpoint that vanished would be
//! waited for.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pingora_core::protocols::l4::ext::get_tcp_info;
use socket2::Socket;

/// Tables, so that threads do not wait for each other.
const SHARDS: usize = 16;
/// When one is looked at again that was overdue, and had its next bytes unread.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The kernel's clock for what it has sent ticks no finer.
const GRAIN: Duration = Duration::from_millis(5);

/// A connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its descriptor, for as long as it lives.
    pub fd: RawFd,
    /// Its address on this side.
    pub local: SocketAddr,
    /// The endpoint's. No other connection has both meanwhile.
    pub peer: SocketAddr,
}

/// When an answer's first byte must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstByte {
    /// By then, if all of the request has gone out when that is said.
    pub by: Instant,
    /// And so long after it has, if it has not.
    pub within: Duration,
    /// But by then at the latest.
    pub latest: Instant,
}

/// Every connection to an endpoint that waits for something.
#[derive(Debug, Default)]
pub struct Rescues {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// By descriptor, of which a shard has every sixteenth.
    places: Vec<Option<Place>>,
    /// The number of the next owner.
    next_owner: u64,
    /// None is overdue before this; none when nothing waits.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    connection: Connection,
    owner: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is waited for.
    Rests,
    /// The answer's first byte.
    FirstByte(FirstByte),
    /// The next piece of an answer.
    Piece(Instant),
    /// The next request.
    Kept(Instant),
    /// The sweep has ended it.
    Shut,
}

/// An attempt's hold on its connection's place; gives it up when dropped.
#[derive(Debug)]
#[must_use = "the place is given up when it is dropped"]
pub struct Held {
    rescues: Arc<Rescues>,
    connection: Connection,
    owner: u64,
    /// It has said all that it has to say.
    done: bool,
}

// === impl Rescues ===

impl Rescues {
    /// Takes the place of a connection that an attempt was given. Nothing is waited for
    /// yet.
    pub fn hold(self: &Arc<Self>, connection: Connection) -> Held {
        let owner = self.shard(connection.fd).lock().take(connection);
        Held {
            rescues: Arc::clone(self),
            connection,
            owner,
            done: false,
        }
    }

    /// Shuts the sockets of those that are overdue, and says how many.
    pub fn sweep(&self, now: Instant) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().sweep(now))
            .sum()
    }

    fn shard(&self, fd: RawFd) -> &Mutex<Shard> {
        &self.shards[number(fd) % SHARDS]
    }
}

fn number(fd: RawFd) -> usize {
    usize::try_from(fd).unwrap_or(0)
}

// === impl Shard ===

impl Shard {
    fn take(&mut self, connection: Connection) -> u64 {
        let at = number(connection.fd) / SHARDS;
        if at >= self.places.len() {
            self.places.resize_with(at + 1, || None);
        }
        self.next_owner += 1;
        self.places[at] = Some(Place {
            connection,
            owner: self.next_owner,
            state: State::Rests,
        });
        self.next_owner
    }

    /// The place, if it is still that owner's.
    fn place(&mut self, fd: RawFd, owner: u64) -> Option<&mut Place> {
        let place = self.places.get_mut(number(fd) / SHARDS)?.as_mut()?;
        (place.owner == owner).then_some(place)
    }

    fn set(&mut self, fd: RawFd, owner: u64, state: State) {
        let Some(place) = self.place(fd, owner) else {
            return;
        };
        // What was shut stays so for whoever holds it.
        if place.state != State::Shut {
            place.state = state;
            if let Some(until) = state.until() {
                self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
            }
        }
    }

    fn is_shut(&mut self, fd: RawFd, owner: u64) -> bool {
        let place = self.place(fd, owner);
        place.is_some_and(|place| place.state == State::Shut)
    }

    fn sweep(&mut self, now: Instant) -> usize {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return 0;
        }
        let mut shut = 0;
        self.earliest = None;
        for place in self.places.iter_mut().flatten() {
            if place.state.until().is_some_and(|until| until <= now) {
                place.state = place.state.overdue(place.connection, now);
                shut += usize::from(place.state == State::Shut);
            }
            if let Some(until) = place.state.until() {
                self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
            }
        }
        shut
    }
}

// === impl State ===

impl State {
    fn until(self) -> Option<Instant> {
        match self {
            Self::FirstByte(FirstByte { by: until, .. })
            | Self::Piece(until)
            | Self::Kept(until) => Some(until),
            Self::Rests | Self::Shut => None,
        }
    }

    /// What becomes of one that is overdue.
    fn overdue(self, connection: Connection, now: Instant) -> Self {
        let Some(socket) = pin(connection) else {
            // It has closed by itself.
            return Self::Rests;
        };
        if matches!(self, Self::Piece(_)) && has_unread(&socket) {
            return Self::Piece(now + LOOK_AGAIN);
        }
        if let Self::FirstByte(due) = self
            && let Some(later) = due.after(last_sent(&socket, now), now)
        {
            return Self::FirstByte(later);
        }
        // It may close by itself at this moment.
        let _ = socket.shutdown(std::net::Shutdown::Both);
        Self::Shut
    }
}

// === impl FirstByte ===

impl FirstByte {
    /// When it must be there after all, of a request that was still going out at `sent`.
    fn after(self, sent: Option<Instant>, now: Instant) -> Option<Self> {
        let by = sent? + self.within;
        let later = by > now + GRAIN && self.latest > now;
        later.then(|| Self {
            by: by.min(self.latest),
            ..self
        })
    }
}

// === impl Held ===

impl Held {
    /// The answer's first byte must be there by then.
    pub fn first_byte(&self, due: FirstByte) {
        self.set(State::FirstByte(due));
    }

    /// The next piece of the answer must be there by `until`.
    pub fn piece_by(&self, until: Instant) {
        self.set(State::Piece(until));
    }

    /// Nothing is waited for.
    pub fn rests(&self) {
        self.set(State::Rests);
    }

    /// Nothing is waited for any more. Whether it was shut before.
    #[must_use]
    pub fn rests_at_last(&self) -> bool {
        let fd = self.connection.fd;
        let mut shard = self.rescues.shard(fd).lock();
        shard.set(fd, self.owner, State::Rests);
        shard.is_shut(fd, self.owner)
    }

    /// The attempt is done with it; it may be kept for the next one until then.
    pub fn kept_until(mut self, until: Instant) {
        self.set(State::Kept(until));
        self.done = true;
    }

    /// Whether the sweep has shut it.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        let fd = self.connection.fd;
        self.rescues.shard(fd).lock().is_shut(fd, self.owner)
    }

    fn set(&self, state: State) {
        let fd = self.connection.fd;
        self.rescues.shard(fd).lock().set(fd, self.owner, state);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.done {
            self.rests();
        }
    }
}

/// The connection, if the descriptor still stands for it. It will not stand for
/// another one while this lives.
fn pin(connection: Connection) -> Option<Socket> {
    // SAFETY: this only asks the kernel for another descriptor of whatever
    // the number stands for; one that stands for nothing is an error.
    let copy = unsafe { libc::fcntl(connection.fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return None;
    }
    // SAFETY: the kernel has just made `copy`, and nobody else knows it.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(copy) });
    let local = socket.local_addr().ok()?.as_socket()?;
    let peer = socket.peer_addr().ok()?.as_socket()?;
    // What else an address of IPv6 carries, only one side may know.
    let of_peer = |peer: SocketAddr| (peer.ip(), peer.port());
    (local == connection.local && of_peer(peer) == of_peer(connection.peer)).then_some(socket)
}

/// When anything last went out that was not sent before; none where nobody can tell.
fn last_sent(socket: &Socket, now: Instant) -> Option<Instant> {
    let info = get_tcp_info(socket.as_raw_fd()).ok()?;
    // Some systems know the call, and fill in next to nothing.
    if info.tcpi_data_segs_out == 0 || info.tcpi_retransmits > 0 {
        return None;
    }
    now.checked_sub(Duration::from_millis(info.tcpi_last_data_sent.into()))
}

/// Whether bytes lie in the socket that nobody has read yet.
fn has_unread(socket: &Socket) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while `socket` lives, and FIONREAD writes one int.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    asked == 0 && bytes > 0
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

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
            peer: stream.peer_addr().unwrap(),
        }
    }

    /// By then, however long the request takes to go out.
    fn by(by: Instant) -> FirstByte {
        FirstByte {
            by,
            within: Duration::ZERO,
            latest: by,
        }
    }

    /// Whether the other side has closed, of one that was sent nothing.
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
        let (mut late, _a) = pair();
        let (mut early, _b) = pair();
        let (mut idle, _c) = pair();
        let held = rescues.hold(connection(&late));
        held.first_byte(by(now + SECOND));
        let other = rescues.hold(connection(&early));
        other.piece_by(now + 3 * SECOND);
        rescues.hold(connection(&idle)).kept_until(now + 5 * SECOND);
        assert_eq!(rescues.sweep(now), 0);
        assert_eq!(rescues.sweep(now + 2 * SECOND), 1);
        assert!(is_shut(&mut late) && !is_shut(&mut early));
        assert!(held.is_shut() && !other.is_shut());
        assert_eq!(rescues.sweep(now + 2 * SECOND), 0, "once is enough");
        assert_eq!(rescues.sweep(now + 3 * SECOND), 1);
        assert!(is_shut(&mut early) && !is_shut(&mut idle));
        assert_eq!(rescues.sweep(now + 5 * SECOND), 1);
        assert!(is_shut(&mut idle));
    }

    #[test]
    fn a_deadline_that_was_moved_or_lifted_is_that_no_more() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _other) = pair();
        let held = rescues.hold(connection(&stream));
        held.first_byte(by(now + SECOND));
        held.piece_by(now + 3 * SECOND);
        assert_eq!(rescues.sweep(now + 2 * SECOND), 0);
        held.rests();
        assert_eq!(rescues.sweep(now + 4 * SECOND), 0);
        held.first_byte(by(now + SECOND));
        drop(held);
        assert_eq!(rescues.sweep(now + 4 * SECOND), 0);
        assert!(!is_shut(&mut stream));
    }

    /// pingora hands a connection on before the shell hears that it was given back.
    #[test]
    fn what_the_last_owner_says_late_is_not_heard() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _other) = pair();
        let last = rescues.hold(connection(&stream));
        let next = rescues.hold(connection(&stream));
        last.kept_until(now + SECOND);
        assert_eq!(rescues.sweep(now + 2 * SECOND), 0);
        next.first_byte(by(now + 3 * SECOND));
        drop(rescues.hold(connection(&pair().0)));
        assert_eq!(rescues.sweep(now + 3 * SECOND), 1);
        assert!(next.is_shut() && is_shut(&mut stream));
    }

    #[test]
    fn a_kept_connection_that_is_used_again_is_not_shut_for_having_been_idle() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _other) = pair();
        rescues.hold(connection(&stream)).kept_until(now + SECOND);
        let _again = rescues.hold(connection(&stream));
        assert_eq!(rescues.sweep(now + 2 * SECOND), 0);
        assert!(!is_shut(&mut stream));
    }

    #[test]
    fn an_answer_whose_next_piece_lies_unread_is_not_late() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, mut endpoint) = pair();
        let held = rescues.hold(connection(&stream));
        held.piece_by(now + SECOND);
        endpoint.write_all(b"x").unwrap();
        // The byte is on its way through the loopback.
        let mut byte = [0; 1];
        stream.peek(&mut byte).unwrap();
        assert_eq!(rescues.sweep(now + 2 * SECOND), 0);
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(rescues.sweep(now + 2 * SECOND), 0, "looked at a moment ago");
        assert_eq!(rescues.sweep(now + 3 * SECOND), 1);
        assert!(held.is_shut() && is_shut(&mut stream));
    }

    #[test]
    fn a_request_that_still_goes_out_has_its_time_from_then_on() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _endpoint) = pair();
        let held = rescues.hold(connection(&stream));
        held.first_byte(FirstByte {
            by: now,
            within: 60 * SECOND,
            latest: now + 90 * SECOND,
        });
        // Long after it was handed over, for all that the table knows.
        stream.write_all(b"the end of a long body").unwrap();
        assert_eq!(rescues.sweep(clock::now()), 0);
        assert_eq!(rescues.sweep(now + 59 * SECOND), 0);
        // And if it never ends, not for ever.
        assert_eq!(rescues.sweep(now + 80 * SECOND), 0, "sent a moment before");
        assert_eq!(rescues.sweep(now + 90 * SECOND), 1);
        assert!(held.is_shut());
    }

    #[test]
    fn a_request_that_has_gone_out_has_no_more_time() {
        let rescues = Arc::new(Rescues::default());
        let (mut stream, _endpoint) = pair();
        let held = rescues.hold(connection(&stream));
        stream.write_all(b"all of it").unwrap();
        let sent = clock::now();
        let within = Duration::from_millis(50);
        held.first_byte(FirstByte {
            by: sent + within,
            within,
            latest: sent + 90 * SECOND,
        });
        while clock::now() < sent + within {
            std::thread::yield_now();
        }
        assert_eq!(rescues.sweep(clock::now()), 1);
        assert!(held.is_shut());
    }

    #[test]
    fn a_descriptor_that_stands_for_another_connection_is_left_alone() {
        let rescues = Arc::new(Rescues::default());
        let now = clock::now();
        let (mut stream, _other) = pair();
        let (gone, _peer) = pair();
        let open = connection(&stream);
        for other in [
            Connection {
                local: gone.local_addr().unwrap(),
                ..open
            },
            // Two connections to different endpoints may have one address on this side.
            Connection {
                peer: gone.peer_addr().unwrap(),
                ..open
            },
            Connection {
                fd: 1_000_000,
                ..open
            },
        ] {
            let held = rescues.hold(other);
            held.first_byte(by(now));
            assert_eq!(rescues.sweep(now), 0, "{other:?}");
            assert!(!held.is_shut() && !is_shut(&mut stream), "{other:?}");
        }
    }
}
