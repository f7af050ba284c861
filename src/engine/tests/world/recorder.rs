//! The log of a world: the lines that the thread of a test has written.

use std::cell::RefCell;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the lines of each thread apart.
pub(super) struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The lines that this thread has logged since the last call.
pub fn take_log() -> Vec<String> {
    LOG.take()
}

/// The lines of [`take_log`] with one event.
pub fn take_events(kind: &str) -> Vec<String> {
    take_log().into_iter().filter(|line| line.starts_with(&format!("event={kind} "))).collect()
}
