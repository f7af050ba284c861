//! The output of `probe`: a line for each step as it ends, a spinner on a terminal, and the last line, which says whether a
//! message would be accepted.
//!
//! People are told equal things once: a failure that was shown before has no second line, and advice stands below the first
//! step that needs it. Programs (`--json`) get every step as it is.
//!
//! [`StepScreen::end_by`] is the last resort against a step that hangs where no time limit reaches, such as a network disk:
//! another thread reports the step as a failure and ends the process.

use crate::config::ConfigProblem;
use crate::engine::control::listing::json_text;
use crate::engine::probe::walk::{Mark, ProbeNews, Step};
use crate::mail::id::QueueId;
use crate::mail::status::Class;
use crate::net::transport::Stopwatch;
use crate::program::exit;
use crate::program::remote::screen::escaped;
use crate::program::steps::{Once, code, json, line};
use crate::rules::advice::hints::hint;
use crate::rules::advice::row::Peer;
use crate::rules::advice::step::Stage;
use crate::sys::lock::Lock;
use crate::sys::thread;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

/// The interval of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// How long the process lasts after its last line, if it is cut off: to tell the daemon of a message, which takes
/// its lock when this process has ended.
const GRACE: Duration = Duration::from_millis(200);

/// What is done when the process is cut off.
pub(super) type OnCut = Box<dyn FnOnce() + Send>;

/// What the threads share.
struct Shown {
    /// The address, for the last line.
    address: String,
    /// Objects for programs, in place of lines for people.
    is_json: bool,
    /// Colour and the spinner: on a terminal, unless NO_COLOR or TERM forbids it.
    is_colourful: bool,
    /// When the command began.
    begun: Stopwatch,
    /// The step that is under way.
    waiting: Lock<Option<Stage>>,
    /// The message of `--send`, and what is to be done if its delivery is cut off.
    sent: Lock<Option<(QueueId, OnCut)>>,
}

/// Standard output, as lines for people or for programs.
pub(super) struct StepScreen {
    shown: Arc<Shown>,
    /// When the step began that is under way.
    since: Stopwatch,
    /// The failed steps so far.
    pub failures: Vec<Step>,
    once: Once,
}

impl StepScreen {
    pub fn new(address: &str, is_json: bool) -> Self {
        let is_terminal = !is_json && io::stdout().is_terminal();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let shown = Arc::new(Shown {
            address: escaped(address),
            is_json,
            is_colourful: is_terminal && !is_dumb && !is_set("NO_COLOR"),
            begun: Stopwatch::start(),
            waiting: Lock::default(),
            sent: Lock::default(),
        });
        if shown.is_colourful {
            let shown = Arc::clone(&shown);
            // Without a thread there is no spinner.
            let _ = thread::start("spinner", move || spin(&shown.waiting));
        }
        Self { shown, since: Stopwatch::start(), failures: Vec::new(), once: Once::default() }
    }

    /// The time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.shown.begun.elapsed()
    }

    /// Ends the process after this time since its start, if it still runs, as a failure of the step that is under way.
    pub fn end_by(&self, last: Duration) {
        let shown = Arc::clone(&self.shown);
        // Without a thread the other limits remain.
        let _ = thread::start("end", move || {
            thread::sleep(last.saturating_sub(shown.begun.elapsed()));
            shown.cut_off();
        });
    }

    /// What is to be done if the process is cut off while this message is being delivered.
    pub fn on_cut(&self, id: QueueId, act: OnCut) {
        *self.shown.sent.lock() = Some((id, act));
    }

    /// Takes the beginning or the end of a step of the walk.
    pub fn news(&mut self, news: ProbeNews) {
        match news {
            ProbeNews::Begins(stage) => {
                self.since = Stopwatch::start();
                *self.shown.waiting.lock() = Some(stage);
            }
            ProbeNews::Ended(step) => self.show(step),
        }
    }

    /// Shows a step of this command's own.
    pub fn step(&mut self, stage: Stage, mark: Mark, text: String, class: Option<Class>) {
        let hint = if mark == Mark::Ok { None } else { hint(stage, &text, Peer::default()) };
        self.explained(stage, mark, text, class, hint);
    }

    /// Shows a step of this command's own, with advice that is known.
    pub fn explained(
        &mut self,
        stage: Stage,
        mark: Mark,
        text: String,
        class: Option<Class>,
        hint: Option<&'static str>,
    ) {
        let took = self.since.elapsed();
        self.since = Stopwatch::start();
        self.show(Step { stage, mark, took, text, hint, class });
    }

    /// Shows a problem of the configuration.
    pub fn problem(&mut self, mark: Mark, problem: &ConfigProblem) {
        self.step(Stage::Config, mark, problem.to_string(), None);
    }

    /// Shows a step.
    fn show(&mut self, step: Step) {
        let told = if self.shown.is_json { Some(step.clone()) } else { self.once.told(&step) };
        self.shown.write(told.as_ref());
        if step.mark == Mark::Fail {
            self.failures.push(step);
        }
    }

    /// Writes the last line.
    pub fn end(&mut self, code: u8) {
        let mut waiting = self.shown.waiting.lock();
        *waiting = None;
        say(&self.shown.last_line(code));
    }
}

impl Shown {
    /// Writes a step, in place of the spinner if there is one.
    fn write(&self, step: Option<&Step>) {
        let mut waiting = self.waiting.lock();
        *waiting = None;
        let line = match step {
            Some(step) if self.is_json => json(step),
            Some(step) => line(step, self.is_colourful),
            None => String::new(),
        };
        let erase = if self.is_colourful { "\r\x1b[K" } else { "" };
        say(&format!("{erase}{line}"));
    }

    /// Whether a message to the address would be accepted.
    fn last_line(&self, code: u8) -> String {
        let address = &self.address;
        match (self.is_json, code) {
            (true, _) => {
                let (address, accepted) = (json_text(address), code == exit::OK);
                format!("{{\"address\":{address},\"accepted\":{accepted},\"exit\":{code}}}\n")
            }
            (false, exit::OK) => format!("A message to {address} would be accepted.\n"),
            (false, _) => format!("A message to {address} would not be accepted now.\n"),
        }
    }

    /// Reports the step that is under way as a failure, and ends the process.
    fn cut_off(&self) {
        let stage = *self.waiting.lock();
        let mut step = hanging(stage.unwrap_or(Stage::Send), self.begun.elapsed());
        if let Some((id, act)) = self.sent.lock().take() {
            step.text =
                format!("the message {id} waits: it was not delivered within {} s", step.took.as_secs());
            step.hint = hint(Stage::Send, &step.text, Peer::default());
            // The daemon may hang, too.
            let _ = thread::start("release", act);
        }
        let code = code(&step);
        self.write(Some(&step));
        say(&self.last_line(code));
        thread::sleep(GRACE);
        std::process::exit(code.into());
    }
}

/// The failure of a step that hangs, after this time of the whole probe.
fn hanging(stage: Stage, took: Duration) -> Step {
    let text = format!("the step \"{}\" hangs, so the probe ends after {} s", stage.name(), took.as_secs());
    let hint = hint(stage, &text, Peer::default());
    Step { stage, mark: Mark::Fail, took, text, hint, class: Some(Class::Transient) }
}

/// A reader that closed the pipe has read enough; the exit code is still right.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// Draws the spinner during a step, until the process ends.
fn spin(waiting: &Lock<Option<Stage>>) {
    for turn in ['|', '/', '-', '\\'].into_iter().cycle() {
        thread::sleep(TICK);
        let waiting = waiting.lock();
        if let Some(stage) = *waiting {
            say(&format!("\r\x1b[K{turn}    {}", stage.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever hangs, the operator hears at which step.
    #[test]
    fn a_step_that_hangs_is_named_with_advice() {
        for stage in [Stage::Config, Stage::Queue, Stage::Maildir, Stage::Password, Stage::Address] {
            let step = hanging(stage, Duration::from_secs(58));
            assert!(step.text.contains(stage.name()) && step.text.ends_with("after 58 s"), "{step:?}");
            assert!(
                step.hint.is_some_and(|hint| hint.contains("hangs") || stage == Stage::Config),
                "{step:?}"
            );
        }
    }

    #[test]
    fn equal_failures_and_equal_advice_are_told_once() {
        let step = |mark, text: &str, hint: &'static str| Step {
            stage: Stage::Connect,
            mark,
            took: Duration::ZERO,
            text: text.to_owned(),
            hint: Some(hint),
            class: None,
        };
        let mut once = Once::default();
        let mut told = |mark, text, hint| {
            once.told(&step(mark, text, hint)).map(|step| (step.text, step.hint.is_some()))
        };
        let shown = |text: &str, has_hint| Some((text.to_owned(), has_hint));
        assert_eq!(told(Mark::Warn, "mx1: timed out", "Port 25."), shown("mx1: timed out", true));
        assert_eq!(told(Mark::Warn, "mx2: timed out", "Port 25."), shown("mx2: timed out", false));
        assert_eq!(told(Mark::Warn, "mx2: timed out", "Port 25."), None);
        assert_eq!(told(Mark::Fail, "mx2: timed out", "Port 25."), shown("mx2: timed out", false));
        assert_eq!(told(Mark::Fail, "mx3: refused", "Nothing."), shown("mx3: refused", true));
        assert_eq!(told(Mark::Ok, "mx3: refused", "Nothing."), shown("mx3: refused", true));
    }
}
