//! The requests of programs of this host to the daemon: the words of each, parsed and printed.
//!
//! The daemon reads what the client prints, so [`Request::parse`] and [`Request::print`] stand side by side; a test holds
//! them together. Short forms that a user may type (`queue`, `queue --json`, `queue flush all`) parse to the same requests.
//! A request names queue ids, domains, addresses and thresholds, and each is checked here: the daemon never sees a word
//! that fails its check.

use crate::mail::address::Domain;
use crate::mail::id::QueueId;
use crate::mail::unqualified::Unqualified;
use crate::rules::advice::monitor::Thresholds;
use crate::rules::pacing::downtime::Uplink;

/// EX_USAGE: the request is wrong.
pub const USAGE: u8 = 64;
/// EX_DATAERR: the daemon will never take the message.
pub const BAD_MESSAGE: u8 = 65;
/// EX_NOINPUT: no message has this id.
pub const UNKNOWN_ID: u8 = 66;
/// EX_NOUSER: no recipient can be reached.
pub const UNKNOWN_USER: u8 = 67;
/// EX_IOERR: reading or writing the queue failed.
pub const IO_TROUBLE: u8 = 74;
/// EX_TEMPFAIL: the daemon can't do it now.
pub const NOT_NOW: u8 = 75;
/// EX_NOPERM: this user may not ask that.
pub const NOT_ALLOWED: u8 = 77;

/// A report that is wanted, or a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// List the queued messages.
    List(Form),
    /// Show one message with everything that is known of it.
    Show(QueueId),
    /// Make messages due now; all of them if the list is empty.
    Flush(Vec<Which>),
    /// Hold, release, remove or bounce messages.
    Change(Change, Selection),
    /// Note whether the network can be reached.
    Link(Uplink),
    /// Say where mail for these recipients would go; at least one.
    Verify(Vec<Unqualified>),
    /// Report the state of the daemon.
    Status(Show),
}

/// The form of a status report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// For people, with every figure.
    All,
    /// Lines for people.
    Text,
    /// A page for a web server.
    Html,
    /// One JSON object.
    Json,
    /// Prometheus' text format.
    Prometheus,
    /// One line and an exit code, for monitoring plugins.
    Check(Thresholds),
}

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As Postfix's mailq prints it.
    Mailq,
    /// A JSON object on each line.
    Json,
}

/// The messages that `queue flush` makes due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One message.
    Id(QueueId),
    /// All messages with a recipient of this domain.
    Domain(Domain),
}

/// A change of queued messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No further attempt before a release.
    Hold,
    /// Ends a hold.
    Release,
    /// Drops the message without notice to anyone.
    Remove,
    /// Returns the message to its sender.
    Bounce,
}

/// Which messages a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All in the queue.
    All,
    /// These; at least one.
    These(Vec<QueueId>),
}

/// The word of each change.
const CHANGES: [(&str, Change); 4] = [
    ("hold", Change::Hold),
    ("release", Change::Release),
    ("remove", Change::Remove),
    ("bounce", Change::Bounce),
];

impl Change {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        CHANGES.iter().find(|(_, change)| *change == self).map_or("", |(word, _)| word)
    }
}

/// A malformed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// The exit code: [`USAGE`], or [`UNKNOWN_ID`] for a word that can't be an id.
    pub code: u8,
    /// The problem, for the user.
    pub text: String,
}

/// A malformed request.
pub(super) fn usage(text: &str) -> BadRequest {
    BadRequest { code: USAGE, text: text.to_owned() }
}

impl Request {
    /// Reads the words of a request.
    ///
    /// # Errors
    /// The words are no request, or one of them is no id, domain, address or threshold.
    pub fn parse(words: &[&str]) -> Result<Self, BadRequest> {
        if words.iter().any(|word| word.contains(|c: char| c.is_control() || c == ' ')) {
            return Err(usage("an argument has a blank or a control character, such as a line end"));
        }
        match words {
            ["queue"] | ["queue", "list"] => Ok(Self::List(Form::Mailq)),
            ["queue", "--json"] | ["queue", "list", "--json"] | ["queue", "--json", "list"] => {
                Ok(Self::List(Form::Json))
            }
            ["queue", "show", id] => parse_id(id).map(Self::Show),
            ["queue", "show", ..] => Err(usage("name one ID to show")),
            ["queue", "flush", "all"] => Ok(Self::Flush(Vec::new())),
            ["queue", "flush", which @ ..] => {
                which.iter().map(|word| parse_which(word)).collect::<Result<_, _>>().map(Self::Flush)
            }
            ["queue", word, rest @ ..] => {
                let known = CHANGES.iter().find(|(known, _)| known == word);
                let &(_, change) = known.ok_or_else(|| usage("no such word; see pillarbox queue --help"))?;
                parse_messages(rest).map(|messages| Self::Change(change, messages))
            }
            ["status"] => Ok(Self::Status(Show::Text)),
            ["status", "--all"] => Ok(Self::Status(Show::All)),
            ["status", "--html"] => Ok(Self::Status(Show::Html)),
            ["status", "--json"] => Ok(Self::Status(Show::Json)),
            ["status", "--prometheus"] => Ok(Self::Status(Show::Prometheus)),
            ["status", "--check", thresholds @ ..] => {
                let thresholds = Thresholds::parse(thresholds).map_err(|text| usage(&text))?;
                Ok(Self::Status(Show::Check(thresholds)))
            }
            ["status", ..] => {
                Err(usage("use one of --all, --html, --json, --prometheus and --check, --check first"))
            }
            ["link", rest @ ..] => {
                let link = if let [word] = rest { Uplink::parse(word) } else { None };
                link.map(Self::Link).ok_or_else(|| usage("write link up, link down or link metered"))
            }
            ["verify", addresses @ ..] if !addresses.is_empty() => {
                addresses.iter().map(|word| parse_address(word)).collect::<Result<_, _>>().map(Self::Verify)
            }
            _ => Err(usage("no such question")),
        }
    }

    /// The request as one line, without its line end.
    #[must_use]
    pub fn print(&self) -> String {
        match self {
            Self::List(Form::Mailq) => "queue list".into(),
            Self::List(Form::Json) => "queue list --json".into(),
            Self::Show(id) => format!("queue show {id}"),
            Self::Flush(which) => {
                let words = which.iter().map(|which| match which {
                    Which::Id(id) => format!(" {id}"),
                    Which::Domain(domain) => format!(" @{domain}"),
                });
                format!("queue flush{}", words.collect::<String>())
            }
            Self::Change(change, Selection::All) => format!("queue {} all", change.word()),
            Self::Change(change, Selection::These(ids)) => {
                let ids: String = ids.iter().map(|id| format!(" {id}")).collect();
                format!("queue {}{ids}", change.word())
            }
            Self::Link(link) => format!("link {}", link.word()),
            Self::Verify(addresses) => {
                format!("verify{}", addresses.iter().map(|address| format!(" {address}")).collect::<String>())
            }
            Self::Status(Show::Text) => "status".into(),
            Self::Status(Show::All) => "status --all".into(),
            Self::Status(Show::Html) => "status --html".into(),
            Self::Status(Show::Json) => "status --json".into(),
            Self::Status(Show::Prometheus) => "status --prometheus".into(),
            Self::Status(Show::Check(thresholds)) => format!("status --check{}", thresholds.print()),
        }
    }
}

fn parse_id(word: &str) -> Result<QueueId, BadRequest> {
    QueueId::parse(word)
        .ok_or_else(|| BadRequest { code: UNKNOWN_ID, text: format!("{word}: no message has this id") })
}

fn parse_which(word: &str) -> Result<Which, BadRequest> {
    match word.strip_prefix('@') {
        Some(domain) => Domain::parse(domain)
            .map(Which::Domain)
            .map_err(|error| usage(&format!("{word}: not a domain: {error}"))),
        None => parse_id(word).map(Which::Id),
    }
}

fn parse_address(word: &str) -> Result<Unqualified, BadRequest> {
    Unqualified::parse(word).map_err(|error| usage(&format!("{word}: not an address: {error}")))
}

fn parse_messages(words: &[&str]) -> Result<Selection, BadRequest> {
    match words {
        [] => Err(usage("name ids, or all")),
        ["all"] => Ok(Selection::All),
        ids => ids.iter().map(|word| parse_id(word)).collect::<Result<_, _>>().map(Selection::These),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Request, u8> {
        Request::parse(&line.split(' ').collect::<Vec<_>>()).map_err(|bad| bad.code)
    }

    #[test]
    fn questions_are_read_as_they_are_printed() {
        let id = QueueId::new(1, 2);
        for line in [
            "queue list".to_owned(),
            "queue list --json".into(),
            format!("queue show {id}"),
            "queue flush".into(),
            format!("queue flush {id} @far.example"),
            "queue hold all".into(),
            format!("queue release {id} {id}"),
            format!("queue remove {id}"),
            format!("queue bounce {id}"),
            "link up".into(),
            "link down".into(),
            "verify root joe@far.example".into(),
            "link metered".into(),
            "status".into(),
            "status --all".into(),
            "status --html".into(),
            "status --json".into(),
            "status --prometheus".into(),
            "status --check".into(),
            "status --check --warning 5 --critical-age 7200".into(),
        ] {
            assert_eq!(parse(&line).map(|request| request.print()), Ok(line));
        }
        for (short, long) in [
            ("queue", "queue list"),
            ("queue --json", "queue list --json"),
            ("queue flush all", "queue flush"),
        ] {
            assert_eq!(parse(short), parse(long));
        }
    }

    #[test]
    fn what_is_no_question_is_told() {
        for (line, code) in [
            ("", USAGE),
            ("queue frobnicate", USAGE),
            ("queue hold", USAGE),
            ("queue show", USAGE),
            ("queue flush @", USAGE),
            ("queue flush a@b", UNKNOWN_ID),
            ("queue remove ../../etc/passwd", UNKNOWN_ID),
            ("link", USAGE),
            ("verify", USAGE),
            ("verify a@", USAGE),
            ("verify \"a b\"@far.example", USAGE),
            ("verify root\nlink down", USAGE),
            ("link sideways", USAGE),
            ("link up down", USAGE),
            ("status --check 5", USAGE),
            ("status --json --prometheus", USAGE),
            ("status me", USAGE),
            ("queue list\nlink down", USAGE),
            ("queue show x\0", USAGE),
        ] {
            assert_eq!(parse(line), Err(code), "{line:?}");
        }
        assert_eq!(Request::parse(&["queue", "list link"]).map_err(|bad| bad.code), Err(USAGE));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic_and_what_it_takes_is_one_line(
            first in "queue|link|verify",
            words in proptest::collection::vec("flush|all|up|[@a-z.\n\"\\\\ ]{0,9}|\\PC{0,9}", 0..4),
        ) {
            let words: Vec<&str> = [&*first].into_iter().chain(words.iter().map(String::as_str)).collect();
            if let Ok(request) = Request::parse(&words) {
                let line = request.print();
                prop_assert!(!line.contains(char::is_control));
                prop_assert_eq!(parse(&line), Ok(request));
            }
        }
    }
}
