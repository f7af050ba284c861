use super::*;
use crate::config::parse;

const RELAY: &str =
    "relay.username = \"box@a.example\"\nrelay.password_file = \"/a\"\nrelay.auth = \"plain\"\n";

/// The login that each smarthost gets, in words.
fn logins(smarthost: &str) -> Vec<String> {
    let settings = parse(&format!("{RELAY}relay.smarthost = {smarthost}\n"), "f").unwrap();
    settings.relay.smarthosts().iter().map(in_words).collect()
}

fn in_words(host: &Smarthost) -> String {
    let login = host.login.as_ref().unwrap();
    let password = match &login.password {
        PasswordSource::File(path) => path.display().to_string(),
        PasswordSource::Command(command) => format!("`{command}`"),
        PasswordSource::Usual => "usual".to_owned(),
        PasswordSource::Token => "token".to_owned(),
    };
    format!("{} {password} {}", login.username, login.auth)
}

#[test]
fn no_host_is_shown_the_password_of_another() {
    let none = " usual auto";
    for (smarthost, expected) in [
        ("\"smtps://a.example\"", vec!["box@a.example /a plain"]),
        ("[\"smtps://a.example\", \"smtps://b.example\"]", vec!["box@a.example /a plain", none]),
        // The same host at another port is the same host.
        (
            "[\"smtps://a.example\", \"smtp+starttls://A.example\"]",
            vec!["box@a.example /a plain", "box@a.example /a plain"],
        ),
        (
            "[\"smtps://a.example\", { url = \"smtps://b.example\", username = \"b\", password_file = \"/b\" }]",
            vec!["box@a.example /a plain", "b /b auto"],
        ),
        // Parts of the first entry are its own, and the rest is inherited; sources of a password exclude each other.
        ("[{ url = \"smtps://a.example\", username = \"other\" }]", vec!["other /a plain"]),
        (
            "[{ url = \"smtps://a.example\", password_command = \"pass show a\", auth = \"login\" }]",
            vec!["box@a.example `pass show a` login"],
        ),
        (
            "[\"smtps://b.example\", { url = \"smtps://a.example\", username = \"a\", password_command = \"x\" }]",
            vec!["box@a.example /a plain", "a `x` auto"],
        ),
    ] {
        assert_eq!(logins(smarthost), expected, "{smarthost}");
    }
}

#[test]
fn senders_have_logins_of_their_own() {
    let settings = parse(
        "relay.smarthost = \"smtps://a.example\"\nrelay.username = \"box\"\nrelay.senders = {\n\
         \"nas@b.example\" = { url = \"smtps://b.example\", username = \"b@b.example\", password_file = \"/b\" },\n\
         \"@c.example\" = [\"smtps://a.example:4650\", \"smtp://c.example\"],\n}\n",
        "f",
    )
    .unwrap();
    let mut found: Vec<String> = Vec::new();
    for (sender, hop) in settings.relay.sender_hosts() {
        let NextHop::Smarthosts(hosts) = hop else { panic!("{sender:?}") };
        found.extend(hosts.iter().map(|host| format!("{sender:?} {host}: {}", in_words(host))));
        // The sender is the provider's own already.
        assert!(hosts.iter().all(|host| host.login.as_ref().unwrap().identity.is_none()));
    }
    found.sort_unstable();
    let texts = [":  usual auto", ": box usual auto", ": b@b.example /b auto"];
    assert_eq!(found.len(), texts.len());
    assert!(found.iter().zip(texts).all(|(found, text)| found.ends_with(text)), "{found:?}");
    // With two names in the configuration, texts say which one is meant.
    assert!(found[2].contains(" smtps://b.example:465 as b@b.example: "), "{found:?}");
    assert_eq!(settings.relay.logins().len(), 3, "{:?}", settings.relay.logins());
}

#[test]
fn one_name_needs_not_be_told() {
    let settings = parse(&format!("{RELAY}relay.smarthost = \"smtps://a.example\"\n"), "f").unwrap();
    assert_eq!(settings.relay.smarthosts()[0].to_string(), "smtps://a.example:465");
}

#[test]
fn mistakes_name_their_place_and_the_way_out() {
    for (text, expected) in [
        (
            "smarthost = { username = \"x\" }",
            "f:2:13: a smarthost needs its url; write { url = \"smtps://…\", … }",
        ),
        (
            "smarthost = [{ url = \"smtps://a.example\", usrname = \"x\" }]",
            "f:2:43: unknown key \"usrname\" of a smarthost; did you mean \"username\"?",
        ),
        (
            "smarthost = { url = \"smtps://a.example\", port = 3 }",
            "f:2:42: unknown key \"port\" of a smarthost; write some of url, username, password_file, password_command, auth, certificate, key, key_password_file, fingerprint, tls_name",
        ),
        (
            "smarthost = { url = \"smtps://a.example\", auth = \"plan\" }",
            "f:2:49: \"plan\" is not known here; write one of",
        ),
        (
            "smarthost = [\"smtps://a.example\", { url = \"smtps://b.example\", username = \"b\" }]",
            "f:2:13: the login at smtps://b.example:465 has no password of its own",
        ),
        ("senders = { nas = \"smtps://a.example\" }", "f:2:19: \"nas\" is no sender; write an address"),
        ("senders = { \"@a.example\" = [] }", "f:2:28: the list is empty; write at least one value"),
        (
            "senders = { \"@a.example\" = { url = \"smtps://a.example\", username = \"a\" } }",
            "f:2:11: the login at smtps://a.example:465 has no password of its own",
        ),
    ] {
        let problems = parse(&format!("[relay]\n{text}\n"), "f").unwrap_err();
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}: {found:?}");
    }
}

/// A login by a token takes it from `[oauth]`, at any host; one that names a password keeps that.
#[test]
fn a_login_by_a_token_needs_no_password() {
    let oauth = "oauth.client_id = \"x\"\noauth.provider = \"microsoft\"\n";
    let logins = |relay: &str| -> Vec<String> {
        let settings =
            parse(&format!("{oauth}{relay}"), "f").unwrap_or_else(|problems| panic!("{problems:?}"));
        settings.relay.smarthosts().iter().map(in_words).collect()
    };
    let first = "relay.smarthost = \"smtps://a.example\"\nrelay.username = \"joe\"\n";
    assert_eq!(logins(&format!("{first}relay.auth = \"xoauth2\"\n")), ["joe token xoauth2"]);
    assert_eq!(logins(first), ["joe usual auto"]);
    let command = format!("{first}relay.auth = \"xoauth2\"\nrelay.password_command = \"oama\"\n");
    assert_eq!(logins(&command), ["joe `oama` xoauth2"]);
    let second = "relay.smarthost = [\"smtps://a.example\", { url = \"smtps://b.example\", username = \"ann\", auth = \"xoauth2\" }]\n";
    assert_eq!(logins(second), [" usual auto", "ann token xoauth2"]);
    let settings = parse(&format!("{oauth}{second}"), "f").unwrap();
    assert_eq!(settings.relay.token_names(), ["ann"]);
    // Without [oauth] nothing gives a token.
    assert!(parse(second, "f").is_err());
}
