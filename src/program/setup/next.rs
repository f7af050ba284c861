//! The last line of `setup`: how pillarbox is started on this system, and how to see that it works.
//!
//! | system | told by | starts | reads the configuration again |
//! | --- | --- | --- | --- |
//! | systemd, with the unit | `/run/systemd/system` | `systemctl enable --now pillarbox` | `systemctl reload pillarbox` |
//! | OpenRC, with the script | `/run/openrc` | `rc-update add pillarbox && rc-service pillarbox start` | `rc-service pillarbox reload` |
//! | procd (OpenWrt), with the script | `/etc/openwrt_release` | `/etc/init.d/pillarbox enable && /etc/init.d/pillarbox start` | `/etc/init.d/pillarbox reload` |
//! | another, or no service is installed | | `pillarbox serve` | `kill -HUP` and its process |
//!
//! A service reads the usual configuration, so one that is elsewhere is started by hand.

use std::path::Path;

/// The file that a service reads.
const USUAL: &str = "/etc/pillarbox/pillarbox.toml";
const UNITS: [&str; 4] = [
    "etc/systemd/system/pillarbox.service",
    "lib/systemd/system/pillarbox.service",
    "usr/lib/systemd/system/pillarbox.service",
    "usr/local/lib/systemd/system/pillarbox.service",
];
const SCRIPT: &str = "etc/init.d/pillarbox";

/// The service managers: what tells of them, the files of the service, the command to start it, and that to reload it.
const MANAGERS: [(&str, &[&str], &str, &str); 3] = [
    ("run/systemd/system", &UNITS, "systemctl enable --now pillarbox", "systemctl reload pillarbox"),
    (
        "run/openrc",
        &[SCRIPT],
        "rc-update add pillarbox && rc-service pillarbox start",
        "rc-service pillarbox reload",
    ),
    (
        "etc/openwrt_release",
        &[SCRIPT],
        "/etc/init.d/pillarbox enable && /etc/init.d/pillarbox start",
        "/etc/init.d/pillarbox reload",
    ),
];

/// The line. `root` is the root directory, `config` the configuration that was written, `is_served` whether a daemon runs.
pub fn line(root: &Path, config: &Path, is_served: bool, address: &str) -> String {
    let is_usual = config == Path::new(USUAL);
    let option = if is_usual { String::new() } else { format!(" -c {}", config.display()) };
    let manager = MANAGERS.iter().filter(|_| is_usual).find(|(sign, files, ..)| {
        root.join(sign).exists() && files.iter().any(|file| root.join(file).exists())
    });
    let start = match (manager, is_served) {
        (Some((.., start, _)), false) => (*start).to_owned(),
        (Some((.., reload)), true) => (*reload).to_owned(),
        (None, false) => format!("pillarbox{option} serve"),
        (None, true) => "kill -HUP $(pidof -s pillarbox)".to_owned(),
    };
    format!("Next: {start}, then: pillarbox{option} probe --send {address}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs::create_dir_all;

    #[test]
    fn the_last_line_says_what_to_do_on_this_system() {
        let usual = Path::new(USUAL);
        let probe = ", then: pillarbox probe --send me@example.com\n";
        for (sign, file, start, reload) in [
            ("none", "none", "pillarbox serve", "kill -HUP $(pidof -s pillarbox)"),
            ("run/systemd/system", "none", "pillarbox serve", "kill -HUP $(pidof -s pillarbox)"),
            (
                "run/systemd/system",
                "usr/lib/systemd/system/pillarbox.service",
                "systemctl enable --now pillarbox",
                "systemctl reload pillarbox",
            ),
            (
                "run/openrc",
                SCRIPT,
                "rc-update add pillarbox && rc-service pillarbox start",
                "rc-service pillarbox reload",
            ),
            (
                "etc/openwrt_release",
                SCRIPT,
                "/etc/init.d/pillarbox enable && /etc/init.d/pillarbox start",
                "/etc/init.d/pillarbox reload",
            ),
        ] {
            let root = TestDirectory::new();
            let said = |config: &Path, is_served| line(&root, config, is_served, "me@example.com");
            for path in [sign, file] {
                create_dir_all(root.join(path).parent().unwrap()).unwrap();
                root.file(path, "");
            }
            assert_eq!(said(usual, false), format!("Next: {start}{probe}"));
            assert_eq!(said(usual, true), format!("Next: {reload}{probe}"));
            assert_eq!(
                said(Path::new("/x/y.toml"), false),
                "Next: pillarbox -c /x/y.toml serve, then: pillarbox -c /x/y.toml probe --send me@example.com\n"
            );
        }
    }
}
