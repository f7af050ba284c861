use super::client::send;
use super::harness::{Place, SOON, faketime_library, wait_until};
use std::time::Duration;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// Mail is deferred while the wall clock makes these jumps; then its host comes up. Nothing expires and nothing freezes.
fn survives(jumps: &[&str]) {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure("queue.retry = [\"1s\"]\nqueue.lifetime = \"1h\"\n");
    let time = place.write("time", "+0\n");
    let mut command = place.command(env!("CARGO_BIN_EXE_pillarbox").as_ref());
    command.env("LD_PRELOAD", faketime_library()).env("FAKETIME_TIMESTAMP_FILE", &time);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let daemon = place.run(&mut command);
    let paused = |place: &Place| place.logged(&["event=paused", "route=far.test"]).len();
    for (number, jump) in jumps.iter().enumerate() {
        send(place.port, "a@box.test", &format!("u{number}@far.test"), MESSAGE);
        wait_until("an attempt before the jump", SOON, || paused(&place) > 0);
        std::fs::write(&time, format!("{jump}\n")).unwrap();
        let before = paused(&place);
        wait_until("attempts after the jump", SOON, || paused(&place) >= before + 4);
        assert_eq!((place.queued(), place.mail("a").len()), (number + 1, 0), "{jump}: nothing expires");
        assert!(!place.logged(&["event=clock_jump"]).is_empty(), "{jump}: the clock was seen to jump");
    }
    // A restarted daemon finds times from all over in its queue.
    daemon.stop();
    let _daemon = place.run(&mut command);
    let before = paused(&place);
    wait_until("attempts after the restart", Duration::from_secs(60), || paused(&place) >= before + 2);
    assert_eq!((place.queued(), place.mail("a").len()), (jumps.len(), 0), "nothing expires");
    let _sink = place.sink(&[]);
    place.wait_for_empty_queue(SOON);
    assert_eq!((place.sunk().len(), place.mail("a").len()), (jumps.len(), 0));
}

#[test]
fn a_year_back_then_forward() {
    survives(&["-365d", "+365d"]);
}

#[test]
fn a_year_forward_then_back() {
    survives(&["+365d", "-365d"]);
}
