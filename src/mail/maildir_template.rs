//! Templates for the path of a mailbox's Maildir, with `{user}`, `{domain}` and `{home}`.
//!
//! This module handles text only: it neither looks at the disk nor fills in the placeholders. `store::maildir` does,
//! because it knows which parts of the path are the administrator's and which a user may have changed.

use std::fmt;
use std::path::Path;

/// A template such as `/var/mail/{user}`; the resulting path is always absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaildirTemplate(Vec<TemplatePart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePart {
    Fixed(String),
    User,
    Domain,
    Home,
}

impl MaildirTemplate {
    /// Parses a template.
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
                parts.push(TemplatePart::Fixed(fixed.to_owned()));
            }
            parts.push(match name {
                "user" => TemplatePart::User,
                "domain" => TemplatePart::Domain,
                "home" if parts.is_empty() => TemplatePart::Home,
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
            parts.push(TemplatePart::Fixed(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether the path begins in the user's home directory, which only system users have.
    #[must_use]
    pub fn uses_home(&self) -> bool {
        self.0.first() == Some(&TemplatePart::Home)
    }

    /// The deepest directory that is the same for every user; `None` if the path begins with `{home}`.
    #[must_use]
    pub fn fixed_directory(&self) -> Option<&Path> {
        match self.0.first() {
            Some(TemplatePart::Fixed(text)) => {
                let (directory, _) = text.rsplit_once('/')?;
                Some(Path::new(if directory.is_empty() { "/" } else { directory }))
            }
            _ => None,
        }
    }
}

/// The template as it was written.
impl fmt::Display for MaildirTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                TemplatePart::Fixed(text) => text,
                TemplatePart::User => "{user}",
                TemplatePart::Domain => "{domain}",
                TemplatePart::Home => "{home}",
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_directory_ends_before_the_first_placeholder() {
        for (template, expected) in [
            ("/var/mail/{user}", Some("/var/mail")),
            ("/srv/box-{user}/x", Some("/srv")),
            ("/{user}", Some("/")),
            ("/srv/all", Some("/srv")),
            ("{home}/Maildir", None),
        ] {
            let parsed = MaildirTemplate::parse(template).unwrap();
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
            let error = MaildirTemplate::parse(template).unwrap_err();
            assert!(error.contains(hint), "{template}: {error}");
        }
    }

    #[test]
    fn a_template_is_printed_as_it_was_written() {
        for template in
            ["/var/mail/{user}", "/srv/{domain}/{user}/Maildir", "{home}/Maildir", "/srv/box-{user}{domain}"]
        {
            assert_eq!(MaildirTemplate::parse(template).unwrap().to_string(), template);
        }
    }
}
