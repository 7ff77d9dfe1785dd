use proptest::prelude::*;

use super::*;
use crate::measured::Latencies;

/// Latencies in microseconds, and which histogram each goes to.
fn of(durations: &[(u8, u64)]) -> Measured {
    let mut measured = Measured::default();
    for &(part, micros) in durations {
        let tags = Measured::default().parts().map(|(tag, _)| tag);
        let tag = tags[usize::from(part) % tags.len()];
        let part: &mut Latencies = measured.part_mut(tag).unwrap();
        part.record(Duration::from_micros(micros));
    }
    measured
}

/// The log of a run that had these intervals.
fn log(intervals: &[Measured]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = LogWriter::new(&mut file, SystemTime::UNIX_EPOCH, []).unwrap();
    for (interval, second) in intervals.iter().zip(1..) {
        let end = Duration::from_secs(second);
        writer.interval(interval, end).unwrap();
    }
    file
}

proptest! {
    // Each case writes and reads histograms of 200 KB.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Split over machines and over intervals in any way, written, read and added up: the same
    /// histograms, and so the same quantiles, as of one run that saw everything.
    #[test]
    fn merged_logs_are_the_single_run_exactly(
        durations in prop::collection::vec((any::<u8>(), 0_u64..4_000_000_000), 1..300),
        machines in 1_usize..5,
        intervals in 1_usize..4,
    ) {
        let single = of(&durations);
        let mut merged = Measured::default();
        for machine in 0..machines {
            let mine: Vec<_> = durations.iter().skip(machine).step_by(machines).copied().collect();
            let length = mine.len().div_ceil(intervals).max(1);
            let intervals: Vec<_> = mine.chunks(length).map(of).collect();
            let read = read(log(&intervals).as_slice()).unwrap();
            prop_assert_eq!(read.span, Duration::from_secs(intervals.len() as u64));
            merged.add(&read.measured).unwrap();
        }
        prop_assert_eq!(&merged, &single);
        prop_assert_eq!(merged.latency.quantiles(), single.latency.quantiles());
        for quantile in [0.01, 0.5, 0.9, 0.99, 0.9999] {
            prop_assert_eq!(merged.latency.quantile_ms(quantile), single.latency.quantile_ms(quantile));
        }
    }
}

#[test]
fn intervals_follow_each_other_and_empty_histograms_are_left_out() {
    let one = of(&[(0, 1_000), (6, 20)]);
    let text = String::from_utf8(log(&[one.clone(), one])).unwrap();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with(['#', '"']))
        .collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("0.000,1.000,1000.000,HIST"), "{text}");
    assert!(
        lines[1].starts_with("Tag=lag,0.000,1.000,20.000,HIST"),
        "{text}"
    );
    assert!(lines[2].starts_with("1.000,1.000,"), "{text}");
}

#[test]
fn a_log_says_whether_its_run_came_to_its_end() {
    let mut file = Vec::new();
    let mut writer = LogWriter::new(&mut file, SystemTime::UNIX_EPOCH, []).unwrap();
    let end = Duration::from_secs(1);
    writer.interval(&of(&[(0, 5)]), end).unwrap();
    writer.finish().unwrap();
    assert!(read(file.as_slice()).unwrap().is_complete);
    assert!(!read(log(&[of(&[(0, 5)])]).as_slice()).unwrap().is_complete);
}

#[test]
fn a_log_says_how_many_different_examples_were_compared() {
    let mut first = of(&[(0, 5)]);
    first.examples.note(0xabc, 3);
    let mut second = of(&[(0, 6)]);
    second.examples.note(0xabc, 7);
    let text = log(&[first, second.clone(), second]);
    let told = String::from_utf8(text.clone()).unwrap();
    assert_eq!(
        told.matches("examples 0000000000000abc").count(),
        2,
        "{told}"
    );
    assert_eq!(
        read(text.as_slice()).unwrap().measured.examples.count(),
        Some(7)
    );
    for wrong in ["x 3", "1", "1 -3"] {
        let text = format!("#{MARK}\n#{EXAMPLES}{wrong} \n");
        let read = read(text.as_bytes());
        assert!(read.is_err(), "{wrong}: {read:?}");
    }
    let many: Vec<_> = (0..=MAX_SETS)
        .map(|set| format!("#{EXAMPLES}{set:x} 1"))
        .collect();
    let many = many.join(
        "
",
    );
    let error = read(format!("#{MARK}\n{many}\n").as_bytes())
        .unwrap_err()
        .to_string();
    assert!(error.contains("of at most 4096 sets"), "{error}");
}

#[test]
fn a_log_says_of_which_runs_it_is() {
    let runs = [(7, 1), (8, 1)].map(|(seed, began)| RunId { seed, began });
    let mut file = Vec::new();
    drop(LogWriter::new(&mut file, SystemTime::UNIX_EPOCH, runs).unwrap());
    assert_eq!(read(file.as_slice()).unwrap().runs, BTreeSet::from(runs));
    let one = log(&[of(&[(0, 5)])]);
    assert!(read(one.as_slice()).unwrap().runs.is_empty());
    let many: Vec<_> = (0..=MAX_RUNS)
        .map(|seed| format!("#{RUN}{seed} 1\n"))
        .collect();
    let many = many.concat();
    for text in ["7\n".to_owned(), "7 x\n".to_owned(), many] {
        let text = match text.strip_prefix('#') {
            Some(_) => format!("#{MARK}\n{text}"),
            None => format!("#{MARK}\n#{RUN}{text}"),
        };
        let error = read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("of at most 4096 runs"), "{error}");
    }
}

#[test]
fn a_histogram_that_claims_gigabytes_is_refused_before_there_is_room_for_them() {
    let mut head = Vec::new();
    let mut packer = flate2::write::ZlibEncoder::new(&mut head, flate2::Compression::fast());
    packer
        .write_all(&[0x1c, 0x84, 0x93, 0x13, 0xff, 0xff, 0xff, 0xff])
        .unwrap();
    packer.finish().unwrap();
    let mut bytes = vec![0x1c, 0x84, 0x93, 0x14, 0, 0, 0];
    bytes.push(u8::try_from(head.len()).unwrap());
    bytes.extend(head);
    let text = format!("#{MARK}\n0.0,1.0,2.0,{}\n", STANDARD.encode(bytes));
    let error = read(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("it claims 4294967295 bytes"), "{error}");
}

#[test]
fn what_is_no_log_of_ours_says_why() {
    let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(""), "expected an HDR log, got an empty file");
    assert!(error("#[Histogram log format version 1.3]\n").contains("it has no line"));
    let marked = |line: &str| error(&format!("#{MARK}\n{line}"));
    assert_eq!(
        marked("<html>\n"),
        "line 2: expected a comment, or `[Tag=NAME,]start,length,max,histogram`"
    );
    assert!(marked("Tag=x,0.0,1.0,2.0,AAAA\n").contains("unsent, late or early, got `x`"));
    assert!(marked("0.0,1.0,2.0,!!\n").starts_with("line 2: the histogram cannot be read: "));
    assert!(marked("0.0,1.0,2.0,AAAA\n").starts_with("line 2: the histogram cannot be read: "));
    let whole = String::from_utf8(log(&[of(&[(0, 5)])])).unwrap();
    let cut = &whole[..whole.len() - 8];
    assert!(error(cut).starts_with("line 6: "), "{}", error(cut));
}
