//! Ends by two clocks, tokens that change, pauses, and the form on disk.

use super::*;
use proptest::prelude::*;

const NOW: Moment = Moment { wall: 1_800_000_000, running: 5_000, boot_id: 7 };

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn grant(access: &str, refresh: Option<&str>, lifetime: u64) -> Grant {
    Grant { access: secret(access), refresh: refresh.map(secret), lifetime }
}

fn with_token(lifetime: u64) -> Kept {
    let mut kept = Kept::new("joe@a.test", "https://a.test/token");
    kept.granted(grant("A", Some("R"), lifetime), None, NOW);
    kept
}

#[test]
fn a_token_is_due_before_its_end_and_ends_a_little_earlier() {
    let kept = with_token(3600);
    let state = |seconds| kept.access_state(NOW.after(seconds));
    assert_eq!([0, 2000].map(state), [AccessState::Fresh; 2]);
    assert_eq!([3000, 3570].map(state), [AccessState::Due; 2]);
    assert_eq!([3585, 3600, 90_000].map(state), [AccessState::Ended; 3]);
    assert_eq!(Kept::default().access_state(NOW), AccessState::Ended);
    assert_eq!((kept.seconds_left(NOW.after(600)), Kept::default().seconds_left(NOW)), (Some(3000), None));
    // Short ones are usable, too.
    let short = with_token(8);
    assert_eq!([0, 5, 8].map(|s| short.access_state(NOW.after(s))), {
        [AccessState::Fresh, AccessState::Due, AccessState::Ended]
    });
    // One of a year is refreshed an hour before its end.
    let long = with_token(365 * 86_400);
    assert_eq!(long.access_state(NOW.after(364 * 86_400)), AccessState::Fresh);
}

#[test]
fn a_wall_clock_that_is_years_off_neither_ends_a_token_nor_makes_it_eternal() {
    let kept = with_token(3600);
    for wall in [0, 86_400, NOW.wall + 20 * 31_536_000] {
        let now = Moment { wall, ..NOW.after(60) };
        assert_eq!(kept.access_state(now), AccessState::Fresh, "the same boot, {wall}");
        let restarted = Moment { wall, running: 10, boot_id: 8 };
        assert_eq!(kept.access_state(restarted), AccessState::Ended, "another boot, {wall}");
    }
    let restarted = Moment { running: 10, boot_id: 8, ..NOW.after(60) };
    assert_eq!(kept.access_state(restarted), AccessState::Fresh);
    // What is refreshed then has an end by the running clock, however wrong the wall clock is: no loop.
    let mut again = kept.clone();
    let wrong = Moment { wall: 0, running: 10, boot_id: 8 };
    again.granted(grant("B", None, 3600), Some(&secret("R")), wrong);
    let set = Moment { wall: NOW.wall, running: 20, boot_id: 8 };
    assert_eq!(again.access_state(set), AccessState::Fresh);
    // A system without a boot id has the wall clock alone.
    let mut without = Kept::default();
    without.granted(grant("B", None, 3600), None, Moment { boot_id: 0, ..NOW });
    assert_eq!(without.access_state(Moment { boot_id: 0, running: 0, ..NOW.after(60) }), AccessState::Fresh);
}

#[test]
fn the_older_refresh_token_stays_until_the_newer_one_has_worked() {
    let mut kept = with_token(3600);
    let tokens = |kept: &Kept| -> Vec<String> {
        let text = |token: &Secret| String::from_utf8(token.octets().to_vec()).unwrap();
        kept.refresh_tokens().iter().map(text).collect()
    };
    assert_eq!(tokens(&kept), ["R"]);
    kept.granted(grant("B", Some("R2"), 3600), Some(&secret("R")), NOW);
    assert_eq!(tokens(&kept), ["R2", "R"]);
    // The newer one has worked, and a third came.
    kept.granted(grant("C", Some("R3"), 3600), Some(&secret("R2")), NOW);
    assert_eq!(tokens(&kept), ["R3", "R2"]);
    // It had been lost at the provider: the older one worked.
    kept.granted(grant("D", Some("R4"), 3600), Some(&secret("R2")), NOW);
    assert_eq!(tokens(&kept), ["R4", "R2"]);
    // A provider that does not change them, in both forms.
    kept.granted(grant("E", None, 3600), Some(&secret("R4")), NOW);
    assert_eq!(tokens(&kept), ["R4"]);
    kept.granted(grant("F", Some("R4"), 3600), Some(&secret("R4")), NOW);
    assert_eq!(tokens(&kept), ["R4"]);
}

#[test]
fn pauses_grow_and_the_provider_may_ask_for_longer_ones() {
    let mut kept = with_token(3600);
    let pause = |kept: &Kept| kept.may_ask(1, NOW).err();
    for expected in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600] {
        kept.hindered("busy", None, 0, NOW);
        assert_eq!(pause(&kept), Some(Wait::Seconds(expected)));
    }
    kept.hindered("busy", Some(7200), 255, NOW);
    assert_eq!(pause(&kept), Some(Wait::Seconds(7200 + 1792)), "never sooner than the provider wants");
    assert_eq!(kept.may_ask(1, NOW.after(9000)), Ok(()));
    kept.hindered("busy", Some(u64::MAX), 0, NOW);
    assert_eq!(pause(&kept), Some(Wait::Seconds(86_400)));
    // After a restart with a clock that is years off.
    assert_eq!(kept.may_ask(1, Moment { wall: 0, running: 1, boot_id: 8 }), Ok(()));
    kept.granted(grant("B", None, 60), Some(&secret("R")), NOW);
    assert_eq!((kept.may_ask(1, NOW), kept.failures), (Ok(()), 0));
}

#[test]
fn what_was_refused_for_good_is_not_asked_again_until_something_changes() {
    let mut kept = with_token(3600);
    kept.refused("invalid_grant: no", 1, NOW);
    assert_eq!(kept.may_ask(1, NOW.after(86_400 * 365)), Err(Wait::Refused));
    assert_eq!(kept.may_ask(2, NOW), Ok(()), "another secret of the client");
    kept.granted(grant("B", Some("R9"), 3600), None, NOW);
    assert_eq!((kept.may_ask(1, NOW), kept.answer.as_str()), (Ok(()), ""));
}

#[test]
fn it_is_read_as_it_is_printed() {
    let mut kept = with_token(3600);
    kept.granted(grant("B", Some("R2"), 3600), Some(&secret("R")), NOW);
    kept.hindered("HTTP status 503,\nwithout JSON", Some(9), 3, NOW);
    let printed = kept.print();
    let read = Kept::parse(printed.octets()).unwrap();
    assert_eq!(read.answer, "HTTP status 503, without JSON");
    kept.answer.clone_from(&read.answer);
    assert_eq!(read, kept);
    kept.refused("no", 0xfedc_ba98_7654_3210, NOW);
    assert_eq!(Kept::parse(kept.print().octets()), Some(kept));
    let blank = Kept::default();
    assert_eq!(Kept::parse(blank.print().octets()), Some(blank));
    for other in ["", "pillarbox-token 2 \n", "pillarbox-token 1 \nends x\n", "pillarbox-token 1 \nx\n"] {
        assert_eq!(Kept::parse(other.as_bytes()), None, "{other:?}");
    }
    let text = format!("{:?}", with_token(9));
    assert!(!text.contains("\"R\"") && text.contains("Secret"), "{text}");
}

proptest! {
    #[test]
    fn any_octets_are_a_login_or_none(octets: Vec<u8>, line in "(ends|again|refused|failures|access) [0-9a-f -]{0,40}") {
        let _ = Kept::parse(&octets);
        if let Some(kept) = Kept::parse(format!("{MAGIC} \n{line}\n").as_bytes()) {
            let _ = (kept.access_state(NOW), kept.may_ask(1, NOW));
            prop_assert_eq!(Kept::parse(kept.print().octets()), Some(kept));
        }
    }
}
