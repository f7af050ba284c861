//! What may be asked on the control socket, by whom, and how question and answer are written there.
//!
//! A question is one line: the words of the command as they were typed, with blanks between them (`queue hold all`).
//! No word can hold a blank or a control character, so none can end the line and begin another question. An answer is
//! pieces, each a digit, a length in octets and the octets, then one piece that says how it ended:
//!
//! ```text
//! 1 27
//! <27 octets for standard output>
//! 2 40
//! <40 octets for standard error>
//! 0 66
//! ```
//!
//! The last number is the exit code (sysexits.h). Behind `submit`, the question that hands over a message, follow its
//! envelope and, once the answer says `3 0`, the message itself, both of so many octets as the question says. Until then
//! the peer has handed over nothing, and may go elsewhere without fear of a duplicate. The end with 0 says that it is safe.
//!
//! Never reads or writes anything itself. What may fail: the question.

use super::advice::monitor::Thresholds;
use crate::mail::address::Domain;
use crate::mail::id::QueueId;
use crate::mail::unqualified::Unqualified;

/// Longest question, in octets: some thousand ids.
pub const QUESTION_MAX_OCTETS: usize = 64 * 1024;
/// Longest line ahead of a piece, in octets.
pub const PIECE_HEAD_MAX_OCTETS: usize = 16;
/// Longest piece of an answer, in octets.
pub const PIECE_MAX_OCTETS: usize = 64 * 1024;

/// EX_USAGE: the question is wrong.
pub const USAGE: u8 = 64;
/// EX_DATAERR: the message can't be taken, now or later.
pub const BAD_MESSAGE: u8 = 65;
/// EX_NOINPUT: there is no message of that id.
pub const UNKNOWN_ID: u8 = 66;
/// EX_NOUSER: nobody is of that name.
pub const UNKNOWN_USER: u8 = 67;
/// EX_IOERR: the disk does not take part.
pub const IO_TROUBLE: u8 = 74;
/// EX_TEMPFAIL: not now.
pub const NOT_NOW: u8 = 75;
/// EX_NOPERM: not for this user.
pub const NOT_ALLOWED: u8 = 77;

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Something is asked, or to be done.
    Ask(Request),
    /// A message is handed over.
    Submit(Handover),
}

/// What follows the line `submit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// Octets of the envelope, in the form that the drop directory has.
    pub envelope_octets: usize,
    /// Octets of the message, in canonical form.
    pub message_octets: u64,
}

impl Handover {
    /// The question as one line, without its line end.
    #[must_use]
    pub fn print(self) -> String {
        format!("submit {} {}", self.envelope_octets, self.message_octets)
    }
}

impl Question {
    /// Reads the words of a question.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(words: &[&str]) -> Result<Self, BadRequest> {
        let ["submit", sizes @ ..] = words else { return Request::parse(words).map(Self::Ask) };
        let [envelope, message] = sizes else { return Err(usage("say two sizes")) };
        let read = || {
            Some(Handover { envelope_octets: envelope.parse().ok()?, message_octets: message.parse().ok()? })
        };
        read().map(Self::Submit).ok_or_else(|| usage("a size is no number"))
    }
}

/// Something that is asked, or to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The queued messages.
    List(Form),
    /// One message with all that is known of it.
    Show(QueueId),
    /// Makes messages due; with none named, all of them.
    Flush(Vec<Which>),
    /// Does something to messages.
    Change(Change, Messages),
    /// The way out is there, or is not.
    Link(Link),
    /// Where mail for recipients would go; at least one.
    Verify(Vec<Unqualified>),
    /// How things are.
    Status(Show),
}

/// How it is shown how things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// For people.
    Text,
    /// As one object.
    Json,
    /// In Prometheus' text format.
    Prometheus,
    /// As one line and an exit code, for monitoring plugins.
    Check(Thresholds),
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As Postfix's mailq.
    Mailq,
    /// An object a line.
    Json,
}

/// What is flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One message.
    Id(QueueId),
    /// All messages with a recipient of this domain.
    Domain(Domain),
}

/// What is done to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Keeps it back.
    Hold,
    /// Lets it go again.
    Release,
    /// Drops it without a word to anybody.
    Remove,
    /// Returns it to its sender.
    Bounce,
}

/// Which messages are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Messages {
    /// All of them.
    All,
    /// These; at least one.
    These(Vec<QueueId>),
}

/// Whether there is a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// There is.
    #[default]
    Up,
    /// There is none: nothing is tried, and lifetimes stand still.
    Down,
    /// There is one that costs: only urgent mail is tried, and the lifetimes of the rest stand still.
    Metered,
}

/// The words for links.
const LINKS: [(&str, Link); 3] = [("up", Link::Up), ("down", Link::Down), ("metered", Link::Metered)];

impl Link {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        LINKS.iter().find(|(_, link)| *link == self).map_or("", |(word, _)| word)
    }
}

/// The words for changes.
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

/// Why a question can't be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// [`USAGE`], or [`UNKNOWN_ID`] for what can be no id.
    pub code: u8,
    /// What is wrong with it.
    pub text: String,
}

fn usage(text: &str) -> BadRequest {
    BadRequest { code: USAGE, text: text.to_owned() }
}

impl Request {
    /// Reads the words of a question.
    ///
    /// # Errors
    /// It is none.
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
            ["queue", "show", ..] => Err(usage("say one ID to show")),
            ["queue", "flush", "all"] => Ok(Self::Flush(Vec::new())),
            ["queue", "flush", which @ ..] => {
                which.iter().map(|word| parse_which(word)).collect::<Result<_, _>>().map(Self::Flush)
            }
            ["queue", word, rest @ ..] => {
                let known = CHANGES.iter().find(|(known, _)| known == word);
                let &(_, change) = known.ok_or_else(|| usage("no such word; see pillarbox(8)"))?;
                parse_messages(rest).map(|messages| Self::Change(change, messages))
            }
            ["status"] => Ok(Self::Status(Show::Text)),
            ["status", "--json"] => Ok(Self::Status(Show::Json)),
            ["status", "--prometheus"] => Ok(Self::Status(Show::Prometheus)),
            ["status", "--check", thresholds @ ..] => {
                let thresholds = Thresholds::parse(thresholds).map_err(|text| usage(&text))?;
                Ok(Self::Status(Show::Check(thresholds)))
            }
            ["status", ..] => Err(usage("say one of --json, --prometheus and --check, --check first")),
            ["link", rest @ ..] => {
                let known = LINKS.iter().find(|(word, _)| rest == [*word]);
                let &(_, link) = known.ok_or_else(|| usage("say link up, link down or link metered"))?;
                Ok(Self::Link(link))
            }
            ["verify", addresses @ ..] if !addresses.is_empty() => {
                addresses.iter().map(|word| parse_address(word)).collect::<Result<_, _>>().map(Self::Verify)
            }
            _ => Err(usage("no such question")),
        }
    }

    /// The question as one line, without its line end.
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
            Self::Change(change, Messages::All) => format!("queue {} all", change.word()),
            Self::Change(change, Messages::These(ids)) => {
                let ids: String = ids.iter().map(|id| format!(" {id}")).collect();
                format!("queue {}{ids}", change.word())
            }
            Self::Link(link) => format!("link {}", link.word()),
            Self::Verify(addresses) => {
                format!("verify{}", addresses.iter().map(|address| format!(" {address}")).collect::<String>())
            }
            Self::Status(Show::Text) => "status".into(),
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

fn parse_messages(words: &[&str]) -> Result<Messages, BadRequest> {
    match words {
        [] => Err(usage("say which: ids, or all")),
        ["all"] => Ok(Messages::All),
        ids => ids.iter().map(|word| parse_id(word)).collect::<Result<_, _>>().map(Messages::These),
    }
}

/// What a peer may do (INTERFACE section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything: root, the user of the daemon, and members of its group.
    All,
    /// Submit messages, ask where they would go, list those in the queue without the addresses of others, and look at
    /// numbers that name nobody.
    Own,
}

impl Rights {
    /// The rights of a peer by its user and its groups, at a daemon that runs as `user` and `group`.
    #[must_use]
    pub fn of(peer: u32, peer_groups: &[u32], user: u32, group: u32) -> Self {
        if peer == 0 || peer == user || peer_groups.contains(&group) { Self::All } else { Self::Own }
    }

    /// Whether a question may be asked.
    #[must_use]
    pub fn allow(self, request: &Request) -> bool {
        self == Self::All || matches!(request, Request::List(_) | Request::Verify(_) | Request::Status(_))
    }
}

/// What stands ahead of a piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many octets for standard output follow.
    Output(usize),
    /// So many octets for standard error follow.
    Error(usize),
    /// The message may come.
    Go,
    /// The end, with the exit code.
    End(u8),
}

impl Piece {
    /// The line, without its line end.
    #[must_use]
    pub fn print(self) -> String {
        match self {
            Self::Output(octets) => format!("1 {octets}"),
            Self::Error(octets) => format!("2 {octets}"),
            Self::Go => "3 0".into(),
            Self::End(code) => format!("0 {code}"),
        }
    }

    /// Reads the line; `None` for anything else, and for pieces that are too long.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, number) = line.split_once(' ')?;
        let octets = || number.parse().ok().filter(|octets| *octets <= PIECE_MAX_OCTETS);
        match kind {
            "1" => octets().map(Self::Output),
            "2" => octets().map(Self::Error),
            "3" => (number == "0").then_some(Self::Go),
            "0" => number.parse().ok().map(Self::End),
            _ => None,
        }
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

    #[test]
    fn a_message_is_announced_by_its_sizes() {
        let handover = Handover { envelope_octets: 12, message_octets: 5_000_000_000 };
        let line = handover.print();
        assert_eq!(line, "submit 12 5000000000");
        let read = |line: &str| Question::parse(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(read(&line), Ok(Question::Submit(handover)));
        assert_eq!(read("link up"), Ok(Question::Ask(Request::Link(Link::Up))));
        for line in
            ["submit", "submit 1", "submit 1 2 3", "submit -1 2", "submit 1 2\r", "submit 1 2\nlink down"]
        {
            assert_eq!(read(line).map_err(|bad| bad.code), Err(USAGE), "{line:?}");
        }
    }

    #[test]
    fn rights_are_roots_the_users_and_its_groups() {
        let rights = |uid, groups: &[u32]| Rights::of(uid, groups, 500, 501);
        assert_eq!([rights(0, &[]), rights(500, &[]), rights(7, &[3, 501])], [Rights::All; 3]);
        assert_eq!([rights(501, &[500]), rights(1000, &[])], [Rights::Own; 2]);
        let root = Unqualified::parse("root").unwrap();
        for request in [Request::List(Form::Json), Request::Verify(vec![root]), Request::Status(Show::Json)] {
            assert!(Rights::Own.allow(&request));
        }
        let id = QueueId::new(1, 2);
        for request in [
            Request::Show(id),
            Request::Flush(vec![]),
            Request::Change(Change::Hold, Messages::All),
            Request::Link(Link::Up),
        ] {
            assert!(Rights::All.allow(&request) && !Rights::Own.allow(&request));
        }
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

        #[test]
        fn pieces_are_read_as_they_are_printed(kind in 0..4, number in 0..=255usize) {
            let piece = match kind {
                0 => Piece::End(number as u8),
                1 => Piece::Output(number * 256),
                2 => Piece::Go,
                _ => Piece::Error(number),
            };
            prop_assert_eq!(Piece::parse(&piece.print()), Some(piece));
            prop_assert!(piece.print().len() < PIECE_HEAD_MAX_OCTETS);
        }
    }
}
