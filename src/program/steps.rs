//! How a step of a probe is written, and which exit code a failed step gives: shared by `probe` and `setup`.
//!
//! A line for people has a mark, the name of the step, the time that it took and what came of it; advice stands below.
//! Text of peers has its control characters escaped, so that no host can play tricks on a terminal.
//!
//! ```text
//! OK   connect       12 ms  192.0.2.1:25
//! FAIL greeting    1234 ms  554 no service for you
//!                           <what to do about it>
//! {"step":"greeting","result":"fail","ms":1234,"text":"554 no service for you","hint":"…"}
//! ```
//!
//! The exit code says who can repair the failure: the operator of this host (78 configuration, 73 Maildir, 77 login), the
//! user (65 address, 67 unknown user), the other host (69), or time (75).

use super::exit;
use super::remote::screen::escaped;
use crate::engine::control::listing::json_text;
use crate::engine::probe::walk::{Mark, Step};
use crate::mail::date::micros;
use crate::mail::status::Class;
use crate::rules::advice::step::Stage;

/// The exit code of a command whose first failed step is this one.
#[must_use]
pub fn code(step: &Step) -> u8 {
    match (step.stage, step.class) {
        (Stage::Config | Stage::Password, _) => exit::CONFIG,
        (Stage::Recipient, _) => exit::DATA,
        (Stage::Route, Some(Class::Permanent)) => exit::UNKNOWN_USER,
        // The host said that it may take TLS or the login later: 454 (RFC 3207 §4, RFC 4954 §6).
        (Stage::StartTls | Stage::Auth, Some(Class::Transient)) if step.text.starts_with('4') => {
            exit::TEMPORARY
        }
        (Stage::Auth, _) => exit::NO_PERMISSION,
        (Stage::Maildir, _) => exit::CANT_CREATE,
        (Stage::Tls | Stage::StartTls, _) | (_, Some(Class::Permanent)) => exit::UNAVAILABLE,
        _ => exit::TEMPORARY,
    }
}

/// A line for people, and one with advice if there is any.
#[must_use]
pub fn line(step: &Step, is_colourful: bool) -> String {
    let mark = step.mark.to_string();
    let (colour, end) = match step.mark {
        _ if !is_colourful => ("", ""),
        Mark::Ok => ("\x1b[32m", "\x1b[0m"),
        Mark::Warn => ("\x1b[33m", "\x1b[0m"),
        Mark::Fail => ("\x1b[1;31m", "\x1b[0m"),
    };
    let (stage, took) = (step.stage.name(), micros(step.took) / 1000);
    let text = escaped(&step.text).replace('\n', " ");
    let hint = step.hint.map(|hint| format!("{:26}{hint}\n", "")).unwrap_or_default();
    format!("{colour}{mark:<4}{end} {stage:<9} {took:>6} ms  {text}\n{hint}")
}

/// What was told before: people are told equal things once.
#[derive(Default)]
pub struct Once {
    advice: Vec<&'static str>,
    failures: Vec<(Stage, bool, String)>,
}

impl Once {
    /// The step without what was told before; `None` if all of it was.
    pub fn told(&mut self, step: &Step) -> Option<Step> {
        if step.mark == Mark::Ok {
            return Some(step.clone());
        }
        // A warning that has become the failure is told again: it decides.
        let failure = (step.stage, step.mark == Mark::Fail, step.text.clone());
        if self.failures.contains(&failure) {
            return None;
        }
        self.failures.push(failure);
        let mut step = step.clone();
        let is_known = step.hint.is_some_and(|hint| self.advice.contains(&hint));
        if is_known {
            step.hint = None;
        } else {
            self.advice.extend(step.hint);
        }
        Some(step)
    }
}

/// An object for programs, in a line.
#[must_use]
pub fn json(step: &Step) -> String {
    let hint = step.hint.map_or_else(|| "null".to_owned(), json_text);
    format!(
        "{{\"step\":\"{}\",\"result\":\"{}\",\"ms\":{},\"text\":{},\"hint\":{hint}}}\n",
        step.stage.name(),
        step.mark.to_string().to_ascii_lowercase(),
        micros(step.took) / 1000,
        json_text(&step.text),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn failed(stage: Stage, class: Class) -> Step {
        let (mark, took, text) = (Mark::Fail, Duration::from_millis(1234), "no \"\u{1b}[2J\nway".into());
        Step { stage, mark, took, text, hint: Some("go on"), class: Some(class) }
    }

    #[test]
    fn a_step_is_one_line_with_its_advice_below() {
        let step = failed(Stage::Greeting, Class::Permanent);
        let advice = format!("{}go on\n", " ".repeat(26));
        assert_eq!(line(&step, false), format!("FAIL greeting    1234 ms  no \"\\u{{1b}}[2J way\n{advice}"));
        assert!(line(&step, true).starts_with("\u{1b}[1;31mFAIL\u{1b}[0m greeting "));
        assert_eq!(
            json(&step),
            "{\"step\":\"greeting\",\"result\":\"fail\",\"ms\":1234,\"text\":\"no \\\"\\u001b[2J\\u000away\",\"hint\":\"go on\"}\n"
        );
    }

    #[test]
    fn the_code_says_who_has_to_do_something() {
        use Class::{Permanent, Transient};
        for (stage, class, expected) in [
            (Stage::Config, Permanent, exit::CONFIG),
            (Stage::Password, Transient, exit::CONFIG),
            (Stage::Recipient, Permanent, exit::DATA),
            (Stage::Route, Permanent, exit::UNKNOWN_USER),
            (Stage::Route, Transient, exit::TEMPORARY),
            (Stage::Auth, Transient, exit::NO_PERMISSION),
            (Stage::Tls, Transient, exit::UNAVAILABLE),
            (Stage::Rcpt, Permanent, exit::UNAVAILABLE),
            (Stage::Rcpt, Transient, exit::TEMPORARY),
            (Stage::Connect, Transient, exit::TEMPORARY),
        ] {
            assert_eq!(code(&failed(stage, class)), expected, "{stage:?}");
        }
        for (stage, text) in
            [(Stage::StartTls, "454 4.7.0 TLS not available"), (Stage::Auth, "454 4.7.0 Try again")]
        {
            let step = Step { text: text.into(), ..failed(stage, Transient) };
            assert_eq!(code(&step), exit::TEMPORARY, "{text}");
        }
    }
}
