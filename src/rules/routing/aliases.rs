//! The aliases file in sendmail's format, as plain text: local names and the targets of their mail.
//!
//! ```text
//! # a comment
//! postmaster: root                    a "#" after a blank starts a comment, too
//! root:       me@example.com,
//!             "Other Admin" <other@example.com>      (a line that starts with a blank continues the previous one)
//! team:       :include:/etc/team      addresses, one or several on a line
//! owner-team: alice                   gets the bounces of mail that is sent to team
//! joe+lists:  \joe                    a name with its detail comes first; a backslash: the mailbox itself
//! *:          me@example.com          every local name without an alias of its own
//! ```
//!
//! The module parses text and never opens a file. Names are compared without case (see [`fold`]). A malformed line is
//! reported with its place and skipped; the rest still applies. `|command` and `/file` count as malformed: pillarbox
//! runs no program for a message, and writes only to the Maildirs of `local.maildir`. If a name appears twice, the
//! first line counts.

use crate::mail::address::{Domain, LocalPart, Mailbox};
use crate::mail::address_list;
use crate::mail::fold::fold;
use std::collections::HashMap;
use std::ops::Range;

/// The alias that applies to every name without an alias of its own.
pub const EVERYBODY: &str = "*";
/// The number of problems that are reported for one file.
const PROBLEMS_MAX: usize = 100;

/// What is said of a bad line in a user's file.
const OF_USER: &str = "the line can't be followed: a user's file holds addresses, and includes no file";

/// A target of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasTarget {
    /// An address. Without a domain it is a local name.
    Address(LocalPart, Option<Domain>),
    /// `\name`: the mailbox of a local user; aliases do not apply.
    Mailbox(LocalPart),
    /// `:include:PATH`: the targets in the file.
    Include(String),
}

/// A malformed line in a file of aliases or of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasProblem {
    /// The line number, from one.
    pub line: usize,
    /// The column in characters, from one.
    pub column: usize,
    /// What is wrong and what to do. Quoted text has its control characters escaped.
    pub text: String,
}

/// The aliases.
#[derive(Debug, Default)]
pub struct AliasTable {
    /// By folded name. Each alias has at least one target.
    aliases: HashMap<String, Alias>,
}

/// An alias.
#[derive(Debug)]
struct Alias {
    /// The line number, from one.
    line: usize,
    targets: Vec<AliasTarget>,
}

impl AliasTable {
    /// Parses the text of an aliases file; one of a user's as [`parse_list`] does.
    #[must_use]
    pub fn parse(text: &str, is_user_s: bool) -> (Self, Vec<AliasProblem>) {
        let (mut table, mut problems) = (Self::default(), Problems { is_user_s, ..Problems::default() });
        // The alias that a continuation line extends. Inner `None`: its first line was malformed, so the targets do
        // not count.
        let mut open: Option<Option<String>> = None;
        for line in lines(text) {
            let mut from = 0;
            if !line.text.starts_with([' ', '\t']) {
                open = Some(match table.begin(&line) {
                    Ok((name, targets)) => {
                        from = targets;
                        Some(name)
                    }
                    Err(text) => {
                        problems.tell(&line, 0, text);
                        open = Some(None);
                        continue;
                    }
                });
            } else if open.is_none() {
                problems.tell(&line, 0, "this line continues no alias; write NAME: ADDRESS, …".into());
                continue;
            }
            if let Some(alias) = open.iter().flatten().next().and_then(|name| table.aliases.get_mut(name)) {
                line.read_targets(from, &mut alias.targets, &mut problems);
            }
        }
        // A name without a valid target is routed as if the line did not exist.
        table.aliases.retain(|_, alias| !alias.targets.is_empty());
        (table, problems.found)
    }

    /// Starts the alias of a line. Returns its name and the offset of its targets, or what is wrong.
    fn begin(&mut self, line: &AliasLine<'_>) -> Result<(String, usize), String> {
        let pieces = line.pieces(0, ':');
        let [name, _, ..] = pieces.as_slice() else {
            return Err("there is no colon; write NAME: ADDRESS, …".into());
        };
        let targets = name.end + 1;
        let name = line.text.get(name.clone()).unwrap_or_default().trim();
        if name.contains('@') && !name.starts_with('"') {
            return Err(format!("an alias is a local name; leave the @ and the domain out of {name:?}"));
        }
        let parsed = LocalPart::parse(name);
        let name = parsed.map_err(|_| format!("{name:?} is no local name; write one word, or quote it"))?;
        let name = fold(name.as_str());
        if self.has(&name) {
            return Err(format!("{name:?} is listed twice; remove one of the lines"));
        }
        self.aliases.insert(name.clone(), Alias { line: line.number, targets: Vec::new() });
        Ok((name, targets))
    }

    /// Whether an alias has this folded name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.aliases.contains_key(name)
    }

    /// The alias that applies to a folded local part, and its targets: its own, or that of the user before the
    /// separator, or the one for everybody.
    #[must_use]
    pub fn find(&self, name: &str, separator: Option<char>) -> Option<(&str, &[AliasTarget])> {
        let known = |wanted: &str| self.aliases.get_key_value(wanted);
        let user = || separator.and_then(|separator| name.split_once(separator)).map(|(user, _)| user);
        let found = known(name).or_else(|| known(user()?)).or_else(|| known(EVERYBODY));
        found.map(|(name, alias)| (name.as_str(), alias.targets.as_slice()))
    }

    /// Whether a target of an alias is this address, with its domain.
    #[must_use]
    pub fn names(&self, mailbox: &Mailbox) -> bool {
        let is_it = |target: &AliasTarget| match target {
            AliasTarget::Address(local_part, Some(domain)) => {
                *domain == mailbox.domain
                    && local_part.as_str().eq_ignore_ascii_case(mailbox.local_part.as_str())
            }
            _ => false,
        };
        self.aliases.values().flat_map(|alias| &alias.targets).any(is_it)
    }

    /// The names and their line numbers, in the order of the file.
    pub fn lines(&self) -> impl Iterator<Item = (&str, usize)> {
        self.in_order().into_iter().map(|(name, alias)| (name.as_str(), alias.line))
    }

    /// The included files, in the order of the file.
    pub fn includes(&self) -> impl Iterator<Item = &str> {
        self.in_order().into_iter().flat_map(|(_, alias)| includes(&alias.targets))
    }

    fn in_order(&self) -> Vec<(&String, &Alias)> {
        let mut all: Vec<_> = self.aliases.iter().collect();
        all.sort_unstable_by_key(|(_, alias)| alias.line);
        all
    }
}

/// Parses the text of an included file: addresses separated by commas or line ends.
///
/// The file of a user may be one that the user can't read, by a trick with names. So its lines are told by number, without
/// their text, and it includes no other file.
#[must_use]
pub fn parse_list(text: &str, is_user_s: bool) -> (Vec<AliasTarget>, Vec<AliasProblem>) {
    let (mut targets, mut problems) = (Vec::new(), Problems { is_user_s, ..Problems::default() });
    for line in lines(text) {
        line.read_targets(0, &mut targets, &mut problems);
    }
    (targets, problems.found)
}

/// The included files among the targets.
pub fn includes(targets: &[AliasTarget]) -> impl Iterator<Item = &str> {
    targets.iter().filter_map(|target| match target {
        AliasTarget::Include(path) => Some(path.as_str()),
        AliasTarget::Address(..) | AliasTarget::Mailbox(_) => None,
    })
}

#[derive(Default)]
struct Problems {
    found: Vec<AliasProblem>,
    /// The text of the lines must not be shown.
    is_user_s: bool,
}

impl Problems {
    fn tell(&mut self, line: &AliasLine<'_>, at: usize, text: String) {
        if self.found.len() < PROBLEMS_MAX {
            let (at, text) = if self.is_user_s { (0, OF_USER.to_owned()) } else { (at, text) };
            let column = line.text.get(..at).unwrap_or_default().chars().count() + 1;
            self.found.push(AliasProblem { line: line.number, column, text });
        }
    }
}

/// A line without its end.
struct AliasLine<'a> {
    text: &'a str,
    number: usize,
}

/// The lines that are neither empty nor comments.
fn lines(text: &str) -> impl Iterator<Item = AliasLine<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = text.lines().enumerate().map(|(i, text)| AliasLine { text, number: i + 1 });
    numbered.filter(|line| {
        let text = line.text.trim();
        !text.is_empty() && !text.starts_with('#')
    })
}

impl AliasLine<'_> {
    /// The ranges between separators, from an offset on. A separator in quotes, brackets or the comment at the end
    /// does not count.
    fn pieces(&self, from: usize, separator: char) -> Vec<Range<usize>> {
        let (mut pieces, mut start, mut end) = (Vec::new(), from, self.text.len());
        let (mut in_quotes, mut is_escaped, mut depth, mut before) = (false, false, 0usize, ' ');
        for (at, c) in self.text.char_indices().filter(|&(at, _)| at >= from) {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = in_quotes || depth > 0,
                '"' if depth == 0 => in_quotes = !in_quotes,
                _ if in_quotes => {}
                '(' | '<' => depth += 1,
                ')' | '>' => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                '#' if before.is_whitespace() => {
                    end = at;
                    break;
                }
                _ if c == separator => {
                    pieces.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
            before = c;
        }
        pieces.push(start..end);
        pieces
    }

    fn read_targets(&self, from: usize, targets: &mut Vec<AliasTarget>, problems: &mut Problems) {
        for piece in self.pieces(from, ',') {
            let text = self.text.get(piece.clone()).unwrap_or_default();
            let item = text.trim();
            match target(item) {
                _ if item.is_empty() => {}
                Ok(AliasTarget::Include(_)) if problems.is_user_s => problems.tell(self, 0, String::new()),
                Ok(target) => targets.push(target),
                Err(what) => {
                    problems.tell(self, piece.start + (text.len() - text.trim_start().len()), what);
                }
            }
        }
    }
}

/// Parses a target.
fn target(item: &str) -> Result<AliasTarget, String> {
    let quoted = item.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let bare = quoted.filter(|bare| bare.starts_with(['|', '/', ':'])).unwrap_or(item);
    let no_address =
        || format!("{item:?} is no address; write user or user@example.com, with commas between");
    if bare.starts_with('|') {
        return Err(format!("{item:?} is a command, and pillarbox runs none for mail; write an address"));
    }
    if bare.starts_with('/') {
        return Err(format!("{item:?} is a file, and mail is delivered only to Maildirs; write an address"));
    }
    if let Some(name) = bare.strip_prefix('\\') {
        return LocalPart::parse(name).map(AliasTarget::Mailbox).map_err(|_| no_address());
    }
    if let Some((keyword, path)) = bare.strip_prefix(':').and_then(|rest| rest.split_once(':')) {
        let path = path.trim();
        return if keyword.eq_ignore_ascii_case("include") && path.starts_with('/') {
            Ok(AliasTarget::Include(path.to_owned()))
        } else {
            Err(format!("{item:?} can't be followed; write :include:/PATH or an address"))
        };
    }
    let spans = address_list::spans(item.as_bytes());
    let Some([span]) = spans.as_deref() else { return Err(no_address()) };
    let part = |range: &Range<usize>| item.get(range.clone()).unwrap_or_default();
    let domain = span.domain.as_ref().map(|domain| Domain::parse(part(domain))).transpose();
    match (LocalPart::parse(part(&span.local_part)), domain) {
        (Ok(local_part), Ok(domain)) => Ok(AliasTarget::Address(local_part, domain)),
        _ => Err(no_address()),
    }
}

#[cfg(test)]
mod tests;
