//! Tokens that are kept: refreshed ahead of their end, changed, refused, lost at each moment, and asked for by two at once.

use super::provider::*;
use crate::engine::host::site::current;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::outbound::tokens::standing::TokenState;
use crate::engine::tests::world::*;
use crate::rules::accounts::oauth::url::field;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A provider that gives a new refresh token each time, R2, R3 and so on, and takes the older one until the newer one
/// was used.
fn changing() -> impl FnMut(&str) -> Answer + Send {
    let (mut used, mut newest) = (1, 1);
    move |form: &str| {
        let number: u32 = field(form, "refresh_token")?.strip_prefix('R')?.parse().ok()?;
        if number != used && number != newest {
            return refuses("invalid_grant");
        }
        (used, newest) = (number, newest + 1);
        granted(&format!("A{newest}"), &format!("R{newest}"), 3600)
    }
}

#[test]
fn a_token_is_refreshed_ahead_of_its_end_and_what_is_presented_lies_on_disk() {
    let world = world("");
    let state = world.state();
    log_in(&world, "A1", "R1", 3600);
    let provider = Provider::new(&world, |_| None);
    let (name, mut script) = (file(&world), changing());
    provider.now_says(move |form| {
        let lies = crate::store::state_file::tokens::load(&state, &name).unwrap();
        let presented = field(form, "refresh_token").unwrap();
        assert!(String::from_utf8(lies).unwrap().contains(&format!(" {presented}\n")), "{presented}");
        script(form)
    });
    keep(&world);
    assert_eq!((token(&world).as_deref(), provider.take_asked()), (Ok("A1"), vec![]));
    for number in 1..5 {
        world.clock.advance(Duration::from_secs(3000));
        keep(&world);
        assert_eq!(provider.take_presented(), [format!("R{number}")]);
        assert_eq!(token(&world).unwrap(), format!("A{}", number + 1));
        assert!(on_disk(&world).contains(&format!("refresh R{number}\nnewer R{}\n", number + 1)));
    }
    // After its end it is refreshed when it is needed, and by another process.
    world.clock.advance(DAY);
    let other = TokenKeeper::new(Box::new(world.clock.clone()), 1);
    assert_eq!(token_of(&world, &other).as_deref(), Ok("A6"));
    assert_eq!(token(&world).as_deref(), Ok("A6"));
    assert_eq!(provider.take_asked().len(), 1);
}

#[test]
fn an_answer_that_is_lost_leaves_a_login_that_works() {
    let world = world("");
    log_in(&world, "A1", "R1", 60);
    let mut script = changing();
    let provider = Provider::new(&world, |_| None);
    // The provider has changed the token, and the process is killed before it reads the answer.
    provider.now_says(move |form| script(form).and(None));
    world.clock.advance(MINUTE);
    let error = token(&world).unwrap_err();
    assert!(error.contains("login.test can't be asked") && error.contains("cut"), "{error}");
    assert_eq!(token(&world).unwrap_err(), error, "no second question within half a minute");
    assert_eq!(provider.take_presented(), ["R1"]);
    let mut script = changing();
    let _ = script("refresh_token=R1");
    provider.now_says(script);
    let restarted = TokenKeeper::new(Box::new(world.clock.clone()), 1);
    assert_eq!(token_of(&world, &restarted).as_deref(), Ok("A3"));
    // The provider forgets the newer one, as after a restore: the older one is still there.
    world.clock.advance(HOUR);
    provider.now_says(|form| match field(form, "refresh_token").as_deref() {
        Some("R1") => granted("A9", "R9", 3600),
        _ => refuses("invalid_grant"),
    });
    assert_eq!(token(&world).as_deref(), Ok("A9"));
    assert_eq!(provider.take_presented(), ["R1", "R3", "R1"]);
}

#[test]
fn a_refusal_for_good_is_told_and_not_asked_again_before_a_login() {
    let world = world("");
    log_in(&world, "A1", "R1", 60);
    let provider = Provider::new(&world, |_| refuses("invalid_grant"));
    world.clock.advance(MINUTE);
    for _ in 0..5 {
        let refused = token(&world).unwrap_err();
        assert_eq!(
            refused,
            format!("the token is refused: invalid_grant: so it is; run: pillarbox login {JOE}")
        );
        keep(&world);
        world.clock.advance(DAY);
    }
    assert_eq!(provider.take_asked().len(), 1);
    let standing = || keeper(&world).standing(&current(&world.site).settings);
    assert_eq!(standing()[0].state, TokenState::Refused);
    take_log();
    world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
    let events = take_log().concat();
    assert!(events.contains("event=alarm state=alarm reason=token"), "{events}");
    assert!(events.contains(&format!("run: pillarbox login {JOE}")), "{events}");
    // Another secret of the client may be right.
    provider.now_says(|_| granted("A2", "R2", 60));
    let secret = world.directory.secret("secret", b"s\n");
    let with_secret = format!("oauth.client_secret_file = {secret:?}\n");
    let other = super::provider::world(&with_secret);
    assert!(token(&other).unwrap_err().contains("no token yet"));
    // A login ends it.
    log_in(&world, "A7", "R7", 3600);
    assert_eq!((token(&world).as_deref(), standing()[0].state), (Ok("A7"), TokenState::Good));
    world.clock.advance(MINUTE * 2);
    world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
    assert!(take_log().concat().contains("event=alarm state=ok reason=token"));
}

#[test]
fn a_provider_without_time_is_asked_when_it_wants() {
    let world = world("");
    log_in(&world, "A1", "R1", 60);
    let provider = Provider::new(&world, |_| Some(("429 Too Many\r\nRetry-After: 900", "{}".into())));
    world.clock.advance(MINUTE);
    assert_eq!(token(&world).unwrap_err(), "it can't be refreshed now: HTTP status 429");
    for _ in 0..14 {
        world.clock.advance(MINUTE);
        keep(&world);
        let other = TokenKeeper::new(Box::new(world.clock.clone()), 1);
        assert!(token_of(&world, &other).unwrap_err().contains("because: HTTP status 429"));
    }
    assert_eq!(provider.take_asked().len(), 1, "all processes wait");
    provider.now_says(|_| Some(("503 Busy", "<html>".into())));
    for _ in 0..24 * 60 {
        world.clock.advance(MINUTE);
        keep(&world);
    }
    let asked = provider.take_asked().len();
    assert!((20..60).contains(&asked), "asked {asked} times a day");
    provider.now_says(|_| granted("A2", "", 3600));
    world.clock.advance(HOUR * 2);
    assert_eq!(token(&world).as_deref(), Ok("A2"));
}

#[test]
fn a_clock_that_is_years_off_asks_once_and_not_in_a_loop() {
    let world = world("");
    log_in(&world, "A1", "R1", 3600);
    let provider = Provider::new(&world, changing());
    for jump in [-20 * 365 * 86_400, 40 * 365 * 86_400, -20 * 365 * 86_400] {
        world.clock.jump(jump);
        keep(&world);
        assert_eq!(token(&world).as_deref(), Ok("A1"));
    }
    assert_eq!(provider.take_asked().len(), 0);
    // Another start of the box, whose clock begins in the past.
    world.clock.jump(-20 * 365 * 86_400);
    world.clock.reboot();
    let restarted = TokenKeeper::new(Box::new(world.clock.clone()), 2);
    for _ in 0..3 {
        assert_eq!(token_of(&world, &restarted).as_deref(), Ok("A2"));
    }
    world.clock.jump(20 * 365 * 86_400);
    assert_eq!(token_of(&world, &restarted).as_deref(), Ok("A2"));
    assert_eq!(provider.take_asked().len(), 1);
}

#[test]
fn without_room_on_the_disk_the_provider_is_not_asked() {
    let world = world("");
    log_in(&world, "A1", "R1", 60);
    let provider = Provider::new(&world, changing());
    world.clock.advance(MINUTE);
    let (tmp, aside) = (world.state().join("tmp"), world.state().join("aside"));
    fs::rename(&tmp, &aside).unwrap();
    let error = token(&world).unwrap_err();
    assert!(error.starts_with("no new token is fetched, since it could not be kept: "), "{error}");
    assert_eq!(provider.take_asked().len(), 0);
    fs::rename(&aside, &tmp).unwrap();
    assert_eq!(token(&world).as_deref(), Ok("A2"));
}

#[test]
fn an_answer_that_can_not_be_saved_is_kept_in_memory_and_its_refresh_token_is_not_used_before() {
    let world = world("");
    log_in(&world, "A1", "R1", 60);
    let (tokens, aside) = (world.state().join("tokens"), world.state().join("aside"));
    let mut script = changing();
    let provider = Provider::new(&world, |_| None);
    let (own, other) = (tokens.clone(), aside.clone());
    provider.now_says(move |form| {
        // The disk fails between the answer and its save.
        if !other.exists() {
            fs::rename(&own, &other).unwrap();
            fs::write(&own, b"").unwrap();
        }
        script(form)
    });
    world.clock.advance(MINUTE);
    // The directory was open, so the file is saved in it: only what is opened later fails.
    let first = token(&world);
    assert_eq!(first.as_deref(), Ok("A2"));
    fs::remove_file(&tokens).unwrap();
    fs::rename(&aside, &tokens).unwrap();
    assert!(on_disk(&world).contains("newer R2"));
    // Now the file can't be replaced at all.
    world.clock.advance(HOUR);
    let path = tokens.join(file(&world));
    let kept = fs::read(&path).unwrap();
    let (blocked, mut is_first) = (path.clone(), true);
    let mut script = changing();
    let _ = script("refresh_token=R1");
    provider.now_says(move |form| {
        if std::mem::take(&mut is_first) {
            fs::remove_file(&blocked).unwrap();
            fs::create_dir(&blocked).unwrap();
        }
        script(form)
    });
    assert_eq!(token(&world).as_deref(), Ok("A3"), "the access token may be used");
    assert!(take_log().concat().contains("event=trouble doing=\"keeping a token\""));
    provider.take_asked();
    world.clock.advance(HOUR);
    assert!(token(&world).is_err());
    assert_eq!(provider.take_asked().len(), 0, "R3 is not on disk");
    fs::remove_dir(&path).unwrap();
    world.clock.advance(MINUTE);
    assert_eq!(token(&world).as_deref(), Ok("A4"));
    assert_eq!(provider.take_presented(), ["R3"]);
    assert!(on_disk(&world).contains("refresh R3\nnewer R4\n"));
    // Had the process ended there, the disk would have the pair of before.
    fs::write(&path, kept).unwrap();
    let restarted = TokenKeeper::new(Box::new(world.clock.clone()), 1);
    provider.now_says(|form| match field(form, "refresh_token").as_deref() {
        Some("R2") => granted("A8", "R8", 3600),
        _ => refuses("invalid_grant"),
    });
    assert_eq!(token_of(&world, &restarted).as_deref(), Ok("A8"));
}

#[test]
fn of_two_processes_one_asks_and_both_have_the_token() {
    let world = world("");
    log_in(&world, "A1", "R1", 60);
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut script = changing();
    let _provider = Provider::new(&world, move |form| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        script(form)
    });
    world.clock.advance(MINUTE);
    let other = TokenKeeper::new(Box::new(world.clock.clone()), 1);
    std::thread::scope(|scope| {
        let threads = [keeper(&world), &other, keeper(&world), &other]
            .map(|keeper| scope.spawn(|| token_of(&world, keeper)));
        for thread in threads {
            assert_eq!(thread.join().unwrap().as_deref(), Ok("A2"));
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_client_with_its_own_credentials_needs_no_login_and_no_disk() {
    let directory = TestDirectory::new();
    let pair = crate::rules::accounts::oauth::assertion::tests::make_certificate();
    let path = directory.secret("secret", b"s&cret\n");
    let (certificate, key) = (directory.file("c.pem", &pair.0), directory.secret("k.pem", &pair.1));
    for (keys, field_name) in [
        (format!("oauth.client_secret_file = {path:?}\n"), "client_secret"),
        (format!("oauth.certificate = {certificate:?}\noauth.key = {key:?}\n"), "client_assertion"),
    ] {
        let world = world(&format!("oauth.flow = \"client\"\noauth.scope = \"mail\"\n{keys}"));
        let provider = Provider::new(&world, |_| granted("C1", "", 3600));
        assert_eq!(token(&world).as_deref(), Ok("C1"));
        let asked = provider.take_asked();
        let sent = |name: &str| field(&asked[0], name).unwrap_or_default();
        assert_eq!((sent("grant_type").as_str(), sent("scope").as_str()), ("client_credentials", "mail"));
        assert!(!sent(field_name).is_empty(), "{asked:?}");
        provider.now_says(|_| granted("C2", "", 3600));
        let tmp = world.state().join("tmp");
        fs::remove_dir_all(&tmp).unwrap();
        world.clock.advance(DAY);
        assert_eq!(token(&world).as_deref(), Ok("C2"));
        fs::create_dir(&tmp).unwrap();
        keep(&world);
        assert!(on_disk(&world).contains("access C2"), "saved when there is room again");
        // Wrong credentials are not shown again and again; right ones at once.
        provider.now_says(|_| Some(("401 No", "{\"error\":\"invalid_client\"}".into())));
        world.clock.advance(DAY);
        assert!(token(&world).unwrap_err().contains("invalid_client"));
        provider.take_asked();
        assert!(token(&world).is_err() && provider.take_asked().is_empty());
    }
}

#[test]
fn no_token_is_ever_in_the_log() {
    let world = world("");
    log_in(&world, "SECRET-A", "SECRET-R", 60);
    let provider = Provider::new(&world, |_| granted("SECRET-B", "SECRET-S", 60));
    take_log();
    world.clock.advance(MINUTE);
    token(&world).unwrap();
    provider.now_says(|_| refuses("invalid_grant"));
    world.clock.advance(MINUTE);
    token(&world).unwrap_err();
    let events = take_log().concat();
    assert!(events.contains("event=token login=joe@far.example state=refused") && !events.contains("SECRET"));
    let standing = format!("{:?}", keeper(&world).standing(&current(&world.site).settings));
    assert!(!standing.contains("SECRET"), "{standing}");
}

/// A small file system in place of the state directory, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None`: this process may not mount.
    fn on(world: &World) -> Option<Self> {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(world.state())
            .output();
        mount.is_ok_and(|output| output.status.success()).then(|| {
            fs::create_dir(world.state().join("tmp")).unwrap();
            Self(world.state())
        })
    }

    fn fill(path: &std::path::Path) {
        use std::io::Write;
        let mut file = fs::File::create(path.join("filler")).unwrap();
        while file.write_all(&[b'x'; 1024]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_becomes_full_between_the_answer_and_its_save_has_the_room_that_was_reserved() {
    let world = world("");
    let Some(disk) = SmallDisk::on(&world) else {
        println!("skipped: mount is not allowed");
        return;
    };
    log_in(&world, "A1", "R1", 60);
    let provider = Provider::new(&world, |_| None);
    let (path, mut script) = (disk.0.clone(), changing());
    provider.now_says(move |form| {
        SmallDisk::fill(&path);
        script(form)
    });
    world.clock.advance(MINUTE);
    assert_eq!(token(&world).as_deref(), Ok("A2"));
    assert!(fs::write(disk.0.join("more"), [0; 8192]).is_err(), "the disk is full");
    assert!(on_disk(&world).contains("refresh R1\nnewer R2\n"));
    // On a full disk nothing is asked; with room again it goes on.
    provider.take_asked();
    world.clock.advance(HOUR);
    let error = token(&world).unwrap_err();
    assert!(error.contains("could not be kept") && error.contains("No space left"), "{error}");
    assert_eq!(provider.take_asked().len(), 0);
    fs::remove_file(disk.0.join("filler")).unwrap();
    let _ = fs::remove_file(disk.0.join("more"));
    assert_eq!(token(&world).as_deref(), Ok("A3"));
    assert_eq!(provider.take_presented(), ["R2"]);
}

#[test]
fn the_housekeeping_looks_once_a_minute_and_one_look_at_a_time() {
    let bare = World::new("");
    assert!(!keeper(&bare).begins_look(&current(&bare.site)), "no login takes a token");
    let world = world("");
    let begins = || keeper(&world).begins_look(&current(&world.site));
    assert!(begins());
    world.clock.advance(MINUTE);
    assert!(!begins(), "the look before has not ended");
    keep(&world);
    assert!(begins());
    keeper(&world).end_look();
    assert!(!begins(), "a minute has not passed");
    world.clock.advance(MINUTE);
    assert!(begins());
}
