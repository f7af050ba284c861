use super::client::Client;
use super::harness::{Daemon, Place, SOON, alone, measured, program};
use super::trace::{Call, joined};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The most system calls from MAIL to the reply after the data.
const CALLS_MAX: usize = 60;
const MESSAGES: usize = 40;

/// A daemon under strace, in a process group of its own.
struct Traced {
    place: Place,
    strace: Daemon,
    is_release: bool,
}

impl Traced {
    fn start(more: &str) -> Self {
        let (binary, is_release) = measured();
        let place = Place::new();
        place.configure(&format!("log.level = \"warn\"\n{more}"));
        let mut command: Command = program("strace", "strace");
        command.args(["-f", "-y", "-s", "120", "-o"]).arg(place.path("trace")).arg(binary);
        command.arg("-c").arg(place.path("pillarbox.toml")).arg("serve");
        let strace = place.run(command.process_group(0));
        Self { place, strace, is_release }
    }

    /// Ends the daemon; returns its system calls in order.
    fn calls(mut self) -> (Vec<Call>, Place, bool) {
        // strace blocks such signals for itself; its child must get them.
        let pid = self.strace.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        super::harness::signal(children.trim().parse().unwrap(), "TERM");
        self.strace.wait();
        let trace = fs::read_to_string(self.place.path("trace")).unwrap();
        (joined(&trace), self.place, self.is_release)
    }
}

fn message() -> Vec<u8> {
    format!("Subject: x\r\n\r\n{}", format!("{:62}\r\n", "y").repeat(16)).into_bytes()
}

#[test]
fn a_message_costs_two_syncs_in_their_order_and_few_calls() {
    let _alone = alone();
    let traced = Traced::start("");
    let mut client = Client::hello(traced.place.port).unwrap();
    // The first message makes and syncs the Maildir and its parents.
    for to in ["u@box.test", "a@far.test"] {
        client.send("s@y.test", &[to], &message()).unwrap();
    }
    for to in ["u@box.test", "a@far.test"] {
        for _ in 0..MESSAGES {
            assert!(client.send("s@y.test", &[to], &message()).unwrap().starts_with("250"));
        }
    }
    drop(client);
    let (calls, _place, is_release) = traced.calls();
    let transactions = transactions(&calls);
    assert_eq!(transactions.len(), 2 + 2 * MESSAGES);
    for (kind, transactions) in
        [("Maildir", &transactions[2..2 + MESSAGES]), ("queue", &transactions[2 + MESSAGES..])]
    {
        let most = transactions.iter().map(Vec::len).max().unwrap();
        println!("{kind}: at most {most} system calls a message");
        for calls in transactions {
            check_order(kind, calls);
        }
        let list = || transactions[0].iter().map(|call| call.line.as_str()).collect::<Vec<_>>().join("\n");
        assert!(!is_release || most <= CALLS_MAX, "{kind}: {most} system calls:\n{}", list());
    }
}

/// The calls of the connection's thread from each MAIL to the reply after its data.
fn transactions(calls: &[Call]) -> Vec<Vec<&Call>> {
    let mut transactions: Vec<Vec<&Call>> = Vec::new();
    let mut open: Option<Vec<&Call>> = None;
    let Some(first) = calls.iter().find(|call| call.receives("MAIL FROM:")) else { return transactions };
    for call in calls.iter().filter(|call| call.thread == first.thread) {
        if call.receives("MAIL FROM:") {
            open = Some(Vec::new());
        }
        if let Some(transaction) = &mut open {
            transaction.push(call);
        }
        if call.sends("250 2.0.0 Ok: ") {
            transactions.extend(open.take());
        }
    }
    transactions
}

/// Data before name, name before directory, 250 after both, and no more syncs than these two.
fn check_order(kind: &str, calls: &[&Call]) {
    let list = || calls.iter().map(|call| call.line.as_str()).collect::<Vec<_>>().join("\n");
    let syncs: Vec<usize> = (0..calls.len()).filter(|&i| calls[i].is_sync()).collect();
    let renames: Vec<usize> = (0..calls.len()).filter(|&i| calls[i].is_rename()).collect();
    assert!(syncs.len() == 2 && renames.len() == 1, "{kind}: {}", list());
    assert!(syncs[0] < renames[0] && renames[0] < syncs[1], "{kind}: {}", list());
    assert!(syncs.iter().chain(&renames).all(|&i| calls[i].line.ends_with("= 0")), "{kind}: {}", list());
    let directory = if kind == "queue" { "/state/queue>" } else { "/mail/u/new>" };
    assert!(calls[syncs[0]].line.contains("/tmp/"), "the first sync is the file's: {}", list());
    assert!(calls[syncs[1]].line.contains(directory), "the second sync is the directory's: {}", list());
    let last_write =
        calls[..syncs[0]].iter().rposition(|call| call.line.contains("/tmp/") && call.name.contains("write"));
    assert!(last_write.is_some(), "{kind}: {}", list());
    let late =
        calls[syncs[0] + 1..].iter().any(|call| call.name.contains("write") && call.line.contains("/tmp/"));
    assert!(!late, "nothing is written after the sync: {}", list());
}

#[test]
fn a_relayed_message_costs_at_most_two_more_syncs() {
    let _alone = alone();
    let traced = Traced::start("");
    let (_dns, _sink) = (traced.place.dns_of_far(), traced.place.sink(&[]));
    let mut client = Client::hello(traced.place.port).unwrap();
    for _ in 0..MESSAGES {
        assert!(client.send("s@y.test", &["a@far.test"], &message()).unwrap().starts_with("250"));
    }
    drop(client);
    traced.place.wait_for_empty_queue(SOON);
    let (calls, place, _) = traced.calls();
    assert_eq!(place.sunk().len(), MESSAGES);
    let first = calls.iter().position(|call| call.receives("MAIL FROM:")).unwrap();
    let syncs = calls[first..].iter().filter(|call| call.is_sync()).count();
    println!("relay: {syncs} syncs for {MESSAGES} messages");
    assert!(syncs <= 4 * MESSAGES, "{syncs} syncs for {MESSAGES} messages");
}
