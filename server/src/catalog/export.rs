//! All events of a catalog, page by page, read beside the writer.

use std::ops::Range;
use std::sync::Arc;

use vitrine::v1::Event;

use super::Catalog;
use crate::log::{Change, LogError, Records, Seq, Who};

/// Records read for one page.
const PAGE: usize = 2_048;

/// The events that were recorded before the export began, in the order of their recording. Each step reads the disk.
pub struct EventPages {
    catalog: Arc<Catalog>,
    which: Records,
    /// Of the events' own times, in unix milliseconds.
    times: Range<i64>,
    at: Seq,
    until: Seq,
}

impl Catalog {
    /// Every event whose time is in `times` (unix milliseconds; `i64::MIN..i64::MAX` for all). An event that was sent
    /// without a time has that of its arrival.
    pub fn events(self: &Arc<Self>, times: Range<i64>) -> EventPages {
        self.pages(Records::Events, times)
    }

    /// Every event that was recorded from a time on (unix milliseconds), with its own time.
    pub fn timed_events(
        self: &Arc<Self>,
        from_ms: i64,
    ) -> Result<impl Iterator<Item = Result<Vec<(i64, Event)>, LogError>>, LogError> {
        let mut pages = self.events(i64::MIN..i64::MAX);
        // Records are in the order of their recording.
        let (mut before, mut from) = (0, pages.until.0);
        while before < from {
            let middle = before + (from - before) / 2;
            let record = self.state.log.read(Seq(middle), 1, &Records::All)?.pop();
            if record.is_none_or(|record| record.recorded_ms >= from_ms) {
                from = middle;
            } else {
                before = middle + 1;
            }
        }
        pages.at = Seq(before);
        Ok(std::iter::from_fn(move || pages.timed()))
    }

    /// Every event of one person.
    pub fn events_of(self: &Arc<Self>, who: Who) -> EventPages {
        self.pages(Records::Of(who), i64::MIN..i64::MAX)
    }

    fn pages(self: &Arc<Self>, which: Records, times: Range<i64>) -> EventPages {
        let until = *self.state.head.borrow();
        EventPages { catalog: Arc::clone(self), which, times, at: Seq::default(), until }
    }
}

/// Pages are never empty; an error ends them.
impl Iterator for EventPages {
    type Item = Result<Vec<Event>, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let page = self.timed()?;
        Some(page.map(|page| page.into_iter().map(|(_, event)| event).collect()))
    }
}

impl EventPages {
    /// The next page, each event with its time in unix milliseconds.
    fn timed(&mut self) -> Option<Result<Vec<(i64, Event)>, LogError>> {
        while self.at < self.until {
            let records = match self.catalog.state.log.read(self.at, PAGE, &self.which) {
                Ok(records) => records,
                Err(error) => {
                    self.at = self.until;
                    return Some(Err(error));
                }
            };
            let until = self.until;
            self.at = records.last().map_or(until, |record| record.seq);
            let page: Vec<(i64, Event)> = records
                .into_iter()
                .take_while(|record| record.seq <= until)
                .filter_map(|record| match record.change {
                    Change::Event(event) => {
                        Some((event.time.as_ref().map_or(record.recorded_ms, crate::unix_ms), event))
                    }
                    _ => None,
                })
                .filter(|(time, _)| self.times.contains(time))
                .collect();
            if !page.is_empty() {
                return Some(Ok(page));
            }
        }
        None
    }
}
