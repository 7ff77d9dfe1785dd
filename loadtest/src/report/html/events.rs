//! What is worth a mark on the plots: when it happened, and what it was.

use crate::scrape::Scraped;
use crate::timeline::{Seen, Series};

/// The most that are marked; a plot with more shows nothing.
const MAX_EVENTS: usize = 30;

/// A version whose first answer came this early was there from the start, in seconds.
const EARLY: f64 = 1.0;

/// Something that happened, in seconds since sending began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) at: f64,
    pub(super) text: String,
}

/// All that happened, in order.
pub(super) fn of(series: &Series, scraped: &[Scraped]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |at, text| events.push(Event { at, text });
    if series.measured > 0.0 {
        add(series.measured, "the measurement begins".to_owned());
    }
    for Seen {
        name, count, first, ..
    } in &series.reasons
    {
        let times = if *count == 1 {
            "once".to_owned()
        } else {
            format!("{count} in all")
        };
        add(*first, format!("first failure: {name} ({times})"));
    }
    // A version that answers one request in a hundred is not gone when it has not answered for some seconds.
    let silence = |seen: &Seen| {
        let gap = (seen.last - seen.first) / (seen.count.max(2) - 1) as f64;
        (20.0 * gap).max(2.0 * series.width).max(2.0)
    };
    for seen in &series.versions {
        if seen.first > EARLY {
            add(
                seen.first,
                format!("version {} answers for the first time", seen.name),
            );
        }
        if seen.last + silence(seen) < series.end {
            add(
                seen.last,
                format!("version {} answers for the last time", seen.name),
            );
        }
    }
    for server in scraped {
        for change in &server.changes {
            add(change.at, change.text.clone());
        }
        if let Some((at, why)) = &server.first_miss {
            add(*at, format!("scrape of {} fails: {why}", server.name));
        }
    }
    events.sort_by(|one, other| one.at.total_cmp(&other.at));
    let more = events.len().saturating_sub(MAX_EVENTS);
    events.truncate(MAX_EVENTS);
    if let (Some(last), 1..) = (events.last_mut(), more) {
        last.text = format!("{} (and {more} more later, not marked)", last.text);
    }
    events
}
