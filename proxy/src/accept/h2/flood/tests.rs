use super::*;

const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// A frame as it is sent, with a payload of so many bytes.
fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    with(kind, flags, stream, &vec![7; length])
}

fn with(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream[..], payload].concat()
}

/// A meter at its beginning, and when that was.
fn meter() -> (Meter, Instant) {
    let now = crate::clock::now();
    (Meter::new(0, now), now)
}

/// How many of these frames pass, at the most `limit`.
fn passing(meter: &mut Meter, frame: &[u8], limit: u32, now: Instant) -> u32 {
    (0..limit)
        .take_while(|_| meter.came(frame, now).is_ok())
        .fold(0, |count, _| count + 1)
}

#[test]
fn frames_are_told_apart_however_they_are_cut() {
    let goaway = with(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 11, b'b', b'y', b'e']);
    let stream = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, 18),
        frame(HEADERS, 5, 1, 300),
        frame(DATA, 1, 0x8000_0001, 0),
        goaway,
        frame(PING, 0, 0, 8),
    ]
    .concat();
    let expected = [
        (18, 4, 0, 0, 0),
        (300, HEADERS, 5, 1, 0),
        (0, DATA, 1, 1, 0),
        (11, GOAWAY, 0, 0, 11),
        (8, PING, 0, 0, 0),
    ]
    .map(|(length, kind, flags, stream, error)| Frame {
        length,
        kind,
        flags,
        stream,
        error,
    });
    for size in 1..=stream.len() {
        let mut frames = Frames::after(24);
        let mut seen = Vec::new();
        for mut piece in stream.chunks(size) {
            seen.extend(std::iter::from_fn(|| frames.next(&mut piece)));
            assert!(piece.is_empty(), "pieces of {size}");
        }
        assert_eq!(seen, expected, "pieces of {size}");
    }
}

#[test]
fn frames_that_carry_nothing_are_too_many_at_some_point_and_forgiven_with_time() {
    for idle in [
        frame(PING, 0, 0, 8),
        frame(4, 0, 0, 6),
        frame(WINDOW_UPDATE, 0, 0, 4),
        frame(2, 0, 1, 5),
        frame(DATA, 0, 1, 0),
        frame(0xfe, 0, 0, 3),
    ] {
        let (mut meter, start) = meter();
        assert_eq!(passing(&mut meter, &idle, 10_000, start), IDLE_FRAMES);
        assert_eq!(meter.came(&idle, start), Err(Flood::IdleFrames));
        let later = start + Duration::from_hours(1);
        assert_eq!(meter.came(&idle, later), Err(Flood::IdleFrames));
    }
    let ping = frame(PING, 0, 0, 8);
    for (wait, passed) in [
        (Duration::from_secs(1), IDLE_A_SECOND),
        (Duration::from_hours(1), IDLE_FRAMES),
    ] {
        let (mut meter, start) = meter();
        assert_eq!(passing(&mut meter, &ping, IDLE_FRAMES, start), IDLE_FRAMES);
        assert_eq!(passing(&mut meter, &ping, 10_000, start + wait), passed);
    }
}

#[test]
fn at_the_pace_at_which_they_are_forgiven_they_go_on_for_ever() {
    let (mut meter, start) = meter();
    let ping = frame(PING, 0, 0, 8);
    let pace = Duration::from_secs(1) / IDLE_A_SECOND;
    assert_eq!(passing(&mut meter, &ping, IDLE_FRAMES, start), IDLE_FRAMES);
    // In steps that are no whole number of paces, nothing is lost.
    for at in 1..=10_000_u32 {
        let now = start + pace * at * 13 / 10;
        assert_eq!(meter.came(&ping, now), Ok(1), "{at}");
    }
}

#[test]
fn a_client_that_measures_every_answer_is_no_flood() {
    let (mut meter, now) = meter();
    let (ping, update) = (frame(PING, 0, 0, 8), frame(WINDOW_UPDATE, 0, 1, 4));
    for answer in 0..100_000 {
        assert_eq!(meter.went(&frame(DATA, 0, 1, 50)), None);
        for idle in [&update, &update, &ping] {
            assert_eq!(meter.came(idle, now), Ok(1), "{answer}");
        }
    }
}

#[test]
fn what_is_sent_for_its_content_costs_nothing() {
    let (mut meter, now) = meter();
    for number in 0..100_000 {
        let stream = 2 * number + 1;
        for frame in [
            frame(HEADERS, 4, stream, 20),
            frame(CONTINUATION, 4, stream, 20),
            frame(DATA, 0, stream, 1),
            frame(DATA, END_STREAM, stream, 0),
        ] {
            assert_eq!(meter.came(&frame, now), Ok(1));
        }
    }
}

#[test]
fn who_takes_back_all_that_it_asks_is_stopped_and_who_takes_back_half_is_not() {
    let (mut all, now) = meter();
    let request = |number: u32| frame(HEADERS, 5, 2 * number + 1, 20);
    let reset = |number: u32| frame(RST_STREAM, 0, 2 * number + 1, 4);
    let ask_and_reset = |meter: &mut Meter, number, now| {
        meter.came(&[request(number), reset(number)].concat(), now)
    };
    let stopped = (0..10_000).find(|number| ask_and_reset(&mut all, *number, now).is_err());
    // The first request finds its budget full.
    assert_eq!(stopped, Some(RESETS - RESET_COST + 1));
    assert_eq!(ask_and_reset(&mut all, 10_001, now), Err(Flood::Resets));

    let (mut half, now) = meter();
    for number in 0..100_000 {
        assert_eq!(half.came(&request(2 * number), now), Ok(1));
        assert_eq!(
            ask_and_reset(&mut half, 2 * number + 1, now),
            Ok(2),
            "{number}"
        );
    }

    let (mut slow, start) = meter();
    for number in 0..100_000 {
        let now = start + Duration::from_secs(1) * number / RESETS_A_SECOND;
        assert_eq!(ask_and_reset(&mut slow, number, now), Ok(2), "{number}");
    }
}

#[test]
fn trailers_are_no_further_request() {
    let (mut meter, now) = meter();
    assert_eq!(meter.came(&frame(HEADERS, 4, 1, 20), now), Ok(1));
    let trailers_and_reset = [frame(HEADERS, 5, 1, 9), frame(RST_STREAM, 0, 1, 4)].concat();
    let passed = passing(&mut meter, &trailers_and_reset, 10_000, now);
    assert_eq!(passed, RESETS / RESET_COST);
}

#[test]
fn a_connection_that_we_give_up_is_told_with_its_error() {
    let (mut meter, _) = meter();
    assert_eq!(meter.went(&with(GOAWAY, 0, 0, &[0; 8])), None, "it drains");
    let calm = with(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11]);
    let (first, second) = calm.split_at(12);
    assert_eq!(meter.went(first), None);
    assert_eq!(meter.went(second), Some(11));
}
