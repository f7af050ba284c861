//! Where a mailbox's Maildir lies: a path with `{user}`, `{domain}` and `{home}` in it.
//!
//! Text only: nothing here looks at a disk. The placeholders are found once, when the template is read, so a
//! `{home}` in the name of a user stays what it is. What is put in becomes one path component and nothing more: a
//! name with a slash, a leading dot or more than 255 octets gives no path at all.

use std::fmt;
use std::path::{Path, PathBuf};

/// Longest path component in octets: that of Linux' file systems.
const COMPONENT_MAX_OCTETS: usize = 255;

/// A template such as `/var/mail/{user}`; what it makes is always absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaildirPath(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Fixed(String),
    User,
    Domain,
    Home,
}

impl MaildirPath {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(template: &str) -> Result<Self, String> {
        if !template.starts_with('/') && !template.starts_with("{home}") {
            return Err(format!("{template:?} is not absolute; begin with \"/\" or \"{{home}}\""));
        }
        if template.split('/').any(|component| component == "..") {
            return Err("\"..\" can't stand in this path; write the directory it leads to".into());
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((fixed, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}').ok_or("\"{\" has no \"}\" after it; add it")?;
            if !fixed.is_empty() {
                parts.push(Part::Fixed(fixed.to_owned()));
            }
            parts.push(match name {
                "user" => Part::User,
                "domain" => Part::Domain,
                "home" if parts.is_empty() => Part::Home,
                "home" => return Err("\"{home}\" is an absolute path; write it at the beginning".into()),
                _ => {
                    return Err(format!(
                        "unknown {:?}; write {{user}}, {{domain}} or {{home}}",
                        format!("{{{name}}}")
                    ));
                }
            });
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Fixed(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether the path begins in the user's home directory, which only users of the system have.
    #[must_use]
    pub fn uses_home(&self) -> bool {
        self.0.first() == Some(&Part::Home)
    }

    /// The deepest directory that is the same for every user; `None` if the path begins with `{home}`.
    #[must_use]
    pub fn fixed_directory(&self) -> Option<&Path> {
        match self.0.first() {
            Some(Part::Fixed(text)) => {
                let (directory, _) = text.rsplit_once('/')?;
                Some(Path::new(if directory.is_empty() { "/" } else { directory }))
            }
            _ => None,
        }
    }

    /// The path for a user; `home` is the user's home directory, if there is one.
    ///
    /// `None` if a name can't be a path component, or if `{home}` is needed and unknown.
    #[must_use]
    pub fn path(&self, user: &str, domain: &str, home: Option<&Path>) -> Option<PathBuf> {
        let mut path = String::new();
        for part in &self.0 {
            path.push_str(match part {
                Part::Fixed(text) => text,
                Part::User => component(user)?,
                Part::Domain => component(domain)?,
                Part::Home => home.filter(|home| home.is_absolute())?.to_str()?,
            });
        }
        Some(PathBuf::from(path))
    }
}

/// The template as it was written.
impl fmt::Display for MaildirPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                Part::Fixed(text) => text,
                Part::User => "{user}",
                Part::Domain => "{domain}",
                Part::Home => "{home}",
            })
        })
    }
}

fn component(name: &str) -> Option<&str> {
    let safe = !name.is_empty()
        && name.len() <= COMPONENT_MAX_OCTETS
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c.is_control());
    safe.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(template: &str, user: &str) -> Option<String> {
        let home = Path::new("/home/x");
        let path = MaildirPath::parse(template).unwrap().path(user, "example.org", Some(home))?;
        Some(path.to_str().unwrap().to_owned())
    }

    #[test]
    fn placeholders_are_filled_in_once() {
        for (template, expected) in [
            ("/var/mail/{user}", "/var/mail/joe"),
            ("/srv/{domain}/{user}/Maildir", "/srv/example.org/joe/Maildir"),
            ("{home}/Maildir", "/home/x/Maildir"),
            ("/srv/box-{user}{domain}", "/srv/box-joeexample.org"),
            ("/srv/all", "/srv/all"),
        ] {
            assert_eq!(path(template, "joe").as_deref(), Some(expected), "{template}");
        }
        assert_eq!(path("/m/{user}", "{home}").as_deref(), Some("/m/{home}"));
    }

    #[test]
    fn no_name_leaves_its_directory() {
        for user in ["", ".", "..", ".ssh", "a/b", "/", "a\0b", "a\nb", &"a".repeat(256)] {
            assert_eq!(path("/var/mail/{user}", user), None, "{user:?}");
        }
        assert_eq!(MaildirPath::parse("{home}/M").unwrap().path("joe", "d", None), None);
        assert_eq!(MaildirPath::parse("{home}/M").unwrap().path("joe", "d", Some(Path::new("x"))), None);
    }

    #[test]
    fn the_fixed_directory_ends_before_the_first_placeholder() {
        for (template, expected) in [
            ("/var/mail/{user}", Some("/var/mail")),
            ("/srv/box-{user}/x", Some("/srv")),
            ("/{user}", Some("/")),
            ("/srv/all", Some("/srv")),
            ("{home}/Maildir", None),
        ] {
            let parsed = MaildirPath::parse(template).unwrap();
            assert_eq!(parsed.fixed_directory(), expected.map(Path::new), "{template}");
            assert_eq!(parsed.uses_home(), expected.is_none());
        }
    }

    #[test]
    fn a_bad_template_says_what_to_write() {
        for (template, hint) in [
            ("", "begin with"),
            ("mail/{user}", "begin with"),
            ("{user}/Maildir", "begin with"),
            ("/mail/{User}", "unknown \"{User}\"; write {user}, {domain} or {home}"),
            ("/mail/{user", "add it"),
            ("/mail/../{user}", "\"..\""),
            ("/mail/{home}", "at the beginning"),
        ] {
            let error = MaildirPath::parse(template).unwrap_err();
            assert!(error.contains(hint), "{template}: {error}");
        }
    }
}
