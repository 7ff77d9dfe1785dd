//! Closing a TCP listener without resetting anybody.
//!
//! When a listener closes, Linux resets the connections that nobody has accepted: those in its
//! backlog, whose clients have long been told that they are connected, and those whose handshake
//! has one packet to go, whose clients think the same. [`LastCall`] takes both. A packet filter
//! lets no further handshake begin; then connections are accepted until none comes any more.
//!
//! tokio's own `accept` would not do: it goes by the readiness that it saw last, and by its budget,
//! so that it can say that nobody waits while somebody does.

use std::io;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

/// How long handshakes that had begun may take to end: several round trips within a zone. Longer
/// would not do: who knocks in this time hears nothing, and knocks again after a second.
const HANDSHAKE: Duration = Duration::from_millis(5);

/// How often it is looked whether one has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A packet filter (classic BPF) that drops what opens a connection: of a TCP segment's flags, its
/// fourteenth byte, SYN is set and ACK is not. All else passes, the last packet of a handshake
/// included.
const NO_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// A listener that is about to close; drop it when [`LastCall::next`] finds nobody.
#[derive(Debug)]
pub struct LastCall<'a> {
    listener: &'a TcpListener,
    until: Instant,
}

// === impl LastCall ===

impl<'a> LastCall<'a> {
    /// Lets no further connection begin. To who tries from now on the port is closed.
    #[must_use]
    pub fn new(listener: &'a TcpListener) -> Self {
        // Without it (it needs no privilege, but a sandbox may forbid it) a connection that comes
        // in the very moment of closing is reset.
        let _ = SockRef::from(listener).attach_filter(&NO_SYN);
        Self {
            listener,
            until: Instant::now() + HANDSHAKE,
        }
    }

    /// The next connection that was made before; none when all were taken.
    ///
    /// # Errors
    ///
    /// What the system says, such as that there is no free file descriptor. The connection may
    /// still wait: ask again, after a pause.
    pub async fn next(&self) -> io::Result<Option<TcpStream>> {
        loop {
            // Asked before the backlog is: what ends at the last moment is found all the same.
            let over = Instant::now() >= self.until;
            match SockRef::from(self.listener).accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    // It may have inherited the filter; where it has not, that is as well.
                    let _ = socket.detach_filter();
                    return TcpStream::from_std(socket.into()).map(Some);
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_nobody) if over => return Ok(None),
                Err(_nobody) => sleep(LOOK_EVERY).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream as StdStream};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// Who knocks while nobody may enter would try again for a second.
    const REFUSED: Duration = Duration::from_millis(100);

    /// Sends a byte on one connection after the other, and wants it back, until it is refused.
    fn echo_until_refused(address: SocketAddr) -> (usize, Vec<io::Error>) {
        let (mut answered, mut lost) = (0, Vec::new());
        while let Ok(mut client) = StdStream::connect_timeout(&address, REFUSED) {
            let mut back = [0];
            let echo = client.write_all(b"x");
            match echo.and_then(|()| client.read_exact(&mut back)) {
                Ok(()) => answered += 1,
                Err(error) => lost.push(error),
            }
        }
        (answered, lost)
    }

    fn echo(mut stream: TcpStream) {
        tokio::spawn(async move {
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
            }
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_connects_while_it_closes_is_served_or_refused() {
        for round in 0..40 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..8)
                .map(|_| std::thread::spawn(move || echo_until_refused(address)))
                .collect();
            // Closes in the middle of the rush: each client has been here a few times.
            for _ in 0..50 {
                echo(listener.accept().await.unwrap().0);
            }
            let last_call = LastCall::new(&listener);
            while let Some(stream) = last_call.next().await.unwrap() {
                echo(stream);
            }
            drop(listener);
            let mut answered = 0;
            for client in clients {
                let (some, lost) = client.join().unwrap();
                assert!(lost.is_empty(), "round {round}: {lost:?}");
                answered += some;
            }
            assert!(answered >= 50, "{answered}");
        }
    }

    #[tokio::test]
    async fn a_backlog_is_taken_whole_and_newcomers_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waiting: Vec<_> = (0..100)
            .map(|_| StdStream::connect(address).unwrap())
            .collect();
        let last_call = LastCall::new(&listener);
        let (told, refused) = oneshot::channel();
        std::thread::spawn(move || {
            told.send(StdStream::connect_timeout(&address, REFUSED).is_err())
        });
        let mut taken = Vec::new();
        while let Some(stream) = last_call.next().await.unwrap() {
            taken.push(stream.peer_addr().unwrap());
        }
        drop(listener);
        let waited: Vec<_> = waiting.iter().map(|c| c.local_addr().unwrap()).collect();
        assert_eq!(taken, waited);
        assert!(refused.await.unwrap());
    }
}
