//! How many failures there were in a row, where an answer may turn out to be one.
//!
//! An answer that begins well ends the row. When it breaks off it never was one, and the
//! row goes on as if it had not been there; but other answers may have ended the same
//! row meanwhile, before it or after, and some of those may break off as well. So for every
//! place where the row ended it is kept how many answers stand there. Of
//! places so far back that a row from there on would be long enough in any case, only
//! the nearest is kept: there are no more of them than failures that open the breaker.
//!
//! Where nothing fails there is one place, and an answer adds one to its count. The others
//! are kept elsewhere: what is hot of a breaker has two cache lines, and fills them.

/// Failures in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Failures so far.
    failed: u32,
    last: End,
    /// Where it ended before that; none where nothing has ever failed.
    earlier: Option<Box<Earlier>>,
}

/// The oldest first.
#[derive(Clone, Debug, Default)]
struct Earlier(Vec<End>);

/// Where a row ended.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    place: Place,
    /// Answers that stand there; none where everything begins.
    standing: u32,
}

/// After how many failures an answer came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32);

// === impl Row ===

impl Row {
    /// How many failures there are since the last answer.
    pub(super) fn len(&self) -> u32 {
        self.failed - self.last.place.0
    }

    pub(super) fn fails(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    /// An answer ends the row, and says where. `enough` failures in a row are all that
    /// anybody asks for.
    pub(super) fn ends(&mut self, enough: u32) -> Place {
        let here = Place(self.failed);
        if self.last.place != here {
            let before = std::mem::take(&mut self.last);
            self.last.place = here;
            let Earlier(earlier) = &mut **self.earlier.get_or_insert_default();
            earlier.push(before);
            let far = |end: &End| self.failed - end.place.0 >= enough;
            let far = earlier.partition_point(far);
            earlier.drain(..far.saturating_sub(1));
        }
        self.last.standing = self.last.standing.saturating_add(1);
        here
    }

    /// An answer that had ended it there was none.
    pub(super) fn goes_on(&mut self, place: Place) {
        let earlier = self.earlier.as_mut().map(|earlier| &mut earlier.0);
        if self.last.place == place {
            self.last.standing = self.last.standing.saturating_sub(1);
            if self.last.standing == 0 {
                self.last = earlier.and_then(Vec::pop).unwrap_or_default();
            }
        } else if let Some(earlier) = earlier
            && let Ok(at) = earlier.binary_search_by_key(&place, |end| end.place)
        {
            let end = &mut earlier[at];
            end.standing = end.standing.saturating_sub(1);
            if end.standing == 0 {
                earlier.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENOUGH: u32 = 4;

    #[test]
    fn where_nothing_fails_nothing_is_kept() {
        let mut row = Row::default();
        for _ in 0..1_000 {
            row.ends(ENOUGH);
        }
        assert!(row.len() == 0 && row.earlier.is_none());
    }

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Fail,
        Answer,
        /// One of the answers breaks off.
        BreakOff(usize),
    }

    proptest! {
        /// Against a list of all that happened, from which an answer that breaks off is
        /// taken out.
        #[test]
        fn it_is_as_long_as_the_list_says(
            ops in prop::collection::vec(
                prop_oneof![
                    Just(Op::Fail),
                    Just(Op::Answer),
                    (0..9usize).prop_map(Op::BreakOff),
                ],
                1..300,
            ),
        ) {
            let mut row = Row::default();
            // None is a failure.
            let mut list: Vec<Option<Place>> = Vec::new();
            for op in ops {
                match op {
                    Op::Fail => {
                        row.fails();
                        list.push(None);
                    }
                    Op::Answer => list.push(Some(row.ends(ENOUGH))),
                    Op::BreakOff(which) => {
                        let answers: Vec<_> = (0..list.len()).filter(|&i| list[i].is_some()).collect();
                        // One of the last few: older ones have come to their end.
                        let Some(&at) = answers.iter().rev().nth(which) else {
                            continue;
                        };
                        row.goes_on(list.remove(at).unwrap());
                    }
                }
                let in_a_row = list.iter().rev().take_while(|it| it.is_none()).count();
                let capped = |len: u32| len.min(ENOUGH);
                prop_assert_eq!(capped(row.len()), capped(u32::try_from(in_a_row).unwrap()));
                let kept = row.earlier.as_ref().map_or(0, |earlier| earlier.0.len());
                prop_assert!(kept <= ENOUGH as usize + 1);
            }
        }
    }
}
