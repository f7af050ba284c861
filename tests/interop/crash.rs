use super::client::Client;
use super::harness::{LATER, Place, Random, alone, files, measured};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const SESSIONS: u32 = 6;

/// The destination of a message: a Maildir, the sink, or both.
const RECIPIENTS: [&[&str]; 3] = [&["u@box.test"], &["a@far.test"], &["v@box.test", "b@far.test"]];

#[test]
fn nothing_that_had_its_250_is_lost_by_kill_9() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("log.level = \"warn\"\nqueue.retry = [\"1s\"]\nqueue.max_messages = 100000\n");
    let mut random = Random(std::process::id().into());
    println!("random numbers begin with {}", random.0);
    let (next, mut accepted) = (AtomicU32::new(0), Vec::new());
    for _ in 0..if is_release { 50 } else { 10 } {
        let daemon = place.run(&mut place.command(&binary));
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = || load(place.port, &next, &killed);
            let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(load)).collect();
            std::thread::sleep(Duration::from_millis(20 + random.below(300)));
            daemon.signal("KILL");
            killed.store(true, Ordering::SeqCst);
            for thread in threads {
                accepted.extend(thread.join().unwrap());
            }
        });
        // Every visible message is complete, at each of these times.
        for user in ["u", "v"] {
            for file in place.mail(user) {
                number_of(&file);
            }
        }
    }
    let daemon = place.run(&mut place.command(&binary));
    place.wait_for_empty_queue(LATER);
    daemon.stop();
    check(&place, &accepted, next.load(Ordering::SeqCst));
}

/// Sends numbered messages until the daemon is killed; returns the numbers of the accepted ones.
fn load(port: u16, next: &AtomicU32, killed: &AtomicBool) -> Vec<u32> {
    let mut accepted = Vec::new();
    while !killed.load(Ordering::SeqCst) {
        let Ok(mut client) = Client::hello(port) else { continue };
        for _ in 0..20 {
            let number = next.fetch_add(1, Ordering::SeqCst);
            // Some are too large to stay in memory.
            let lines = if number.is_multiple_of(10) { 1_500 } else { 10 };
            let content = format!(
                "Number: {number}\r\n\r\n{}end of {number}\r\n",
                format!("{:78}\r\n", "x").repeat(lines)
            );
            match client.send("", RECIPIENTS[number as usize % 3], content.as_bytes()) {
                Ok(reply) if reply.starts_with("250") => accepted.push(number),
                Ok(reply) => panic!("{reply}"),
                Err(_) => break,
            }
        }
    }
    accepted
}

/// The number of a message, which must be complete.
fn number_of(file: &[u8]) -> u32 {
    let text = std::str::from_utf8(file).unwrap();
    let number = text.lines().find_map(|line| line.strip_prefix("Number: "));
    let number = number.unwrap_or_else(|| panic!("a message with no number: {text}"));
    assert!(text.trim_end().ends_with(&format!("end of {number}")), "half a message: {text}");
    number.parse().unwrap()
}

fn check(place: &Place, accepted: &[u32], sent: u32) {
    let counted = |messages: &[Vec<u8>]| {
        let mut counts = HashMap::<u32, u32>::new();
        messages.iter().for_each(|file| *counts.entry(number_of(file)).or_default() += 1);
        counts
    };
    // smtp-sink's file of an interrupted transaction has no end; the message was sent again.
    let is_whole = |file: &Vec<u8>| String::from_utf8_lossy(file).contains("\nend of ");
    let sunk: Vec<Vec<u8>> = place.sunk().into_iter().filter(is_whole).collect();
    let (u, v, sunk) = (counted(&place.mail("u")), counted(&place.mail("v")), counted(&sunk));
    let expected: [&[&HashMap<u32, u32>]; 3] = [&[&u], &[&sunk], &[&v, &sunk]];
    let (mut twice, mut places) = (0, 0);
    for number in accepted {
        for place in expected[*number as usize % 3] {
            let count = place.get(number).copied().unwrap_or(0);
            assert!(count > 0, "message {number} had its 250 and is missing");
            places += 1;
            twice += u32::from(count > 1);
        }
    }
    println!(
        "{sent} begun, {} accepted, none missing; {twice} of {places} copies came twice",
        accepted.len()
    );
    assert!(accepted.len() > 100, "there was no load: {} messages", accepted.len());
    assert_eq!(files(&place.path("state/tmp")).len(), 0, "what was half written has been swept");
    assert_eq!(files(&place.path("state/corrupt")).len(), 0);
}
