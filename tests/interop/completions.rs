//! bash and zsh complete the command line of pillarbox by the files of `etc/completions/`.

use super::client::send;
use super::harness::{Place, program, run};
use std::path::Path;
use std::process::Command;

fn file(shell: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/completions").join(shell).display().to_string()
}

/// Completes the last word of a line, and prints what is offered, each on a line.
const BASH: &str = r#"
    . "$1"; shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _pillarbox
    printf '%s\n' "${COMPREPLY[@]}""#;

/// The same at a terminal of zsh's own, since its completion works in the line editor alone: types the line and a tab.
/// Offers go to the file `offered`.
const ZSH: &str = r#"
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell ". ./zsh/start; echo rea""dy"
    zpty -r -m shell seen '*ready*'
    zpty -n -w shell "$1"$'\t'
    for i in {1..400}; do
        grep -qx END offered 2>/dev/null && break
        sleep 0.05
    done
    zpty -d shell
    cat offered"#;

/// Notes all matches that a completion adds, and leaves alone the calls that only ask.
const ZSH_START: &str = r#"
PROMPT=; fpath=($PWD/zsh $fpath); autoload -Uz compinit; compinit -u -D
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a found
    builtin compadd -A found "$@"
    print -rl -- $found >>offered
    builtin compadd "$@"
}
ended() { zle complete-word; print END >>offered; zle kill-whole-line }
zle -N ended; bindkey "^I" ended
"#;

/// What both shells offer for the last word of a line.
fn offered(place: &Place, line: &str) -> [Vec<String>; 2] {
    let mut words: Vec<&str> = line.split(' ').collect();
    words[0] = env!("CARGO_BIN_EXE_pillarbox");
    let mut bash = program("bash", "bash");
    bash.args(["--norc", "-c", BASH, "bash", &file("bash")]).args(&words);
    std::fs::create_dir_all(place.path("zsh")).unwrap();
    std::fs::copy(file("zsh"), place.path("zsh/_pillarbox")).unwrap();
    place.write("zsh/start", ZSH_START);
    let _ = std::fs::remove_file(place.path("offered"));
    let mut zsh = program("zsh", "zsh");
    let folder = Path::new(words[0]).parent().unwrap().display();
    zsh.args(["-f", "-c", ZSH, "zsh", line]).env("PATH", format!("{folder}:/usr/bin:/bin"));
    let lines = |command: &mut Command| {
        let text = String::from_utf8(run(command.current_dir(&place.dir)).stdout).unwrap();
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    let mut of_zsh = lines(&mut zsh);
    assert!(of_zsh.contains(&"END".to_owned()), "zsh did not complete {line:?}: {of_zsh:?}");
    of_zsh.retain(|offer| offer != "END");
    [lines(&mut bash), of_zsh]
}

#[test]
fn shells_complete_commands_words_options_files_and_queue_ids() {
    let place = Place::new();
    let config = place.configure("relay.routes = { \"far.test\" = \"smtp://127.0.0.1:1\" }\n");
    let _daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", b"Subject: x\r\n\r\nx\r\n");
    place.wait_for_log(&["event=deferred"]);
    let queue = run(Command::new(env!("CARGO_BIN_EXE_pillarbox")).arg("-c").arg(&config).arg("queue"));
    let queue = String::from_utf8(queue.stdout).unwrap();
    let id: String = queue.lines().nth(1).unwrap().chars().take(13).collect();
    place.write("other.toml", "");
    let config = config.display().to_string();
    let ids = [&*id, "all"];
    for (line, expected) in [
        ("pillarbox st", &["status"][..]),
        ("pillarbox s", &["sendmail", "serve", "setup", "status"]),
        ("pillarbox link ", &["down", "metered", "up"]),
        ("pillarbox queue r", &["release", "remove", "run"]),
        ("pillarbox queue --j", &["--json"]),
        ("pillarbox setup --password-", &["--password-command", "--password-file"]),
        ("pillarbox status --warning", &["--warning", "--warning-age"]),
        ("pillarbox --config oth", &["other.toml"]),
        ("pillarbox setup --from oth", &["other.toml"]),
        ("pillarbox mail -A oth", &["other.toml"]),
        (&format!("pillarbox -c {config} queue hold "), &ids),
        (&format!("pillarbox queue --config {config} show {}", &id[..3]), &ids[..1]),
        ("pillarbox passwd ", &[]),
    ] {
        for (shell, found) in ["bash", "zsh"].iter().zip(offered(&place, line)) {
            assert_eq!(found, expected, "{shell}: {line}");
        }
    }
    // Readline's own word for an equals sign.
    let [found, _] = offered(&place, "pillarbox --config = oth");
    assert_eq!(found, ["other.toml"]);
}
